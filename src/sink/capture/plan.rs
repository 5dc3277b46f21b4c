//! A write that is being put together.
//!
//! Takes: records of a queue, in order, with the interface blocks that have to come before them. Gives:
//! one vectored write, and how much of it arrived. Holds: bytes of packets are not copied; after a
//! write that failed half way, the records that are whole are known.

use std::io::IoSlice;

use crate::sink::capture::peers::Slots;
use crate::sink::capture::queue::{Queue, Stretch};
use crate::spool::{Io, Ours, Partial, Short, Staging};

/// The most slices that Linux takes in one call (`UIO_MAXIOV`).
const MOST_SLICES: usize = 1024;

/// A plan of more bytes is written: large enough that the call itself costs nothing, small enough for the cache.
const MOST_BYTES: usize = 1 << 20;

/// The same past the page cache, where the disk waits between two plans.
const MOST_DIRECT_BYTES: usize = 16 << 20;

/// Stands for the plan's own bytes where a run's number is expected.
const OWN: u32 = u32::MAX;

/// How a writer writes.
#[derive(Clone, Debug)]
pub(super) struct Means {
    /// How bytes get to the disk.
    pub(super) io: Io,
    /// The hidden files of this process.
    pub(super) ours: Ours,
    /// How many zstd files are compressed at a time.
    pub(super) encoders: usize,
}

/// Neighbouring bytes of a run, or of the plan's own.
#[derive(Clone, Copy, Debug)]
struct Piece {
    run: u32,
    start: u32,
    len: u32,
}

/// Records `from..to` of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Planned {
    pub(super) run: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    /// Bytes of the interface blocks before them.
    lead: usize,
}

/// How much of a plan is in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Outcome {
    /// Whole records.
    pub(super) packets: usize,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Peers that the file has met.
    pub(super) slots: usize,
}

/// Records that are to be written next.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pieces: Vec<Piece>,
    records: Vec<Planned>,
    packets: u64,
    own: Vec<u8>,
    bytes: usize,
    /// Bytes of the plan's own that belong to the next record.
    lead: usize,
    /// Peers that the file had met before.
    met: Option<u32>,
}

impl Plan {
    /// The records in it.
    pub(super) fn records(&self) -> &[Planned] {
        &self.records
    }

    /// How many there are.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// All its bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether it should be written before more is added.
    pub(super) fn is_full(&self, io: Io) -> bool {
        let most = match io {
            Io::Buffered => MOST_BYTES,
            Io::Direct => MOST_DIRECT_BYTES,
        };
        self.pieces.len() + 2 > MOST_SLICES || self.bytes >= most
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.records.clear();
        self.own.clear();
        (self.packets, self.bytes, self.lead, self.met) = (0, 0, 0, None);
    }

    /// Appends the interface block that belongs before the next record, whose peer is the first of
    /// its kind in a file that has met `met` others.
    pub(super) fn lead(&mut self, bytes: &[u8], met: usize) {
        self.met.get_or_insert(met as u32);
        let start = self.own.len() as u32;
        self.own.extend_from_slice(bytes);
        if bytes.is_empty() {
            return;
        }
        self.piece(OWN, start, bytes.len() as u32);
        self.lead += bytes.len();
    }

    /// Appends neighbouring records of a run, whose bytes are `len` bytes from `start`.
    pub(super) fn add(&mut self, stretch: Stretch, (start, len): (u32, u32)) {
        let Stretch { run, from, to } = stretch;
        self.piece(run as u32, start, len);
        self.packets += (to - from) as u64;
        let lead = std::mem::take(&mut self.lead);
        match self.records.last_mut() {
            Some(last) if last.run == run && last.to == from && lead == 0 => last.to = to,
            _ => self.records.push(Planned {
                run,
                from,
                to,
                lead,
            }),
        }
    }

    fn piece(&mut self, run: u32, start: u32, len: u32) {
        self.bytes += len as usize;
        match self.pieces.last_mut() {
            Some(last) if last.run == run && last.start + last.len == start => last.len += len,
            _ => self.pieces.push(Piece { run, start, len }),
        }
    }

    /// Writes it.
    pub(super) fn write(
        &self,
        queue: &Queue,
        partial: &mut Partial,
        staging: &mut Staging,
    ) -> Result<(), Short> {
        let slice = |piece: &Piece| {
            let (start, len) = (piece.start as usize, piece.len as usize);
            IoSlice::new(match piece.run {
                OWN => self.own.get(start..start + len).unwrap_or_default(),
                run => queue.bytes_of(run as usize, start, len),
            })
        };
        let mut slices: Vec<_> = self.pieces.iter().map(slice).collect();
        partial.append(&mut slices, staging)
    }

    /// What is in the file when all was written.
    pub(super) fn all(&self, slots: usize) -> Outcome {
        Outcome {
            packets: self.packets as usize,
            bytes: self.bytes(),
            slots,
        }
    }

    /// The records that lie wholly within the first `written` bytes, when `slots` are the peers that the
    /// file has met, all of the plan's included.
    pub(super) fn whole(&self, written: u64, queue: &Queue, slots: &mut Slots) -> Outcome {
        let mut outcome = Outcome {
            slots: self.met.map_or(slots.len(), |met| met as usize),
            ..Outcome::default()
        };
        for planned in &self.records {
            let Some(run) = queue.run(planned.run) else {
                continue;
            };
            let mut lead = planned.lead as u64;
            for mark in run.marks(planned.from, planned.to) {
                let bytes = outcome.bytes + lead + u64::from(run.len_of(mark));
                if bytes > written {
                    return outcome;
                }
                let slot = slots.find(mark.peer).unwrap_or(0) as usize;
                outcome.slots = outcome.slots.max(slot + 1);
                (outcome.packets, outcome.bytes) = (outcome.packets + 1, bytes);
                lead = 0;
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Kept;
    use crate::sink::capture::pool::Pool;
    use crate::sink::capture::run::Run;
    use crate::sink::capture::share::Holder;
    use crate::sink::capture::tests::target;
    use crate::time::Timestamp;

    #[test]
    fn a_write_that_stopped_within_a_record_holds_the_records_before_it() {
        let pool = Pool::new(1 << 20);
        let mut run = Run::new(
            target(0),
            pool.take(2, Holder::session(0)).expect("there is room"),
        );
        for (order, (peer, len)) in (0..).zip([(7, 54), (7, 34), (9, 24)]) {
            let kept = Kept {
                frame: &[0; 60][..len],
                origlen: 60,
                time: Timestamp::default(),
                order,
            };
            run.push(peer, &[kept], usize::MAX);
        }
        let (mut queue, mut slots, mut plan) =
            (Queue::default(), Slots::default(), Plan::default());
        queue.push(run, &pool);
        slots.add(1, None);
        slots.add(2, None);
        plan.lead(&[0; 30], 2);
        slots.add(7, None);
        let stretch = |from, to| Stretch { run: 0, from, to };
        plan.add(stretch(0, 2), (0, 120));
        plan.lead(&[0; 20], 3);
        slots.add(9, None);
        plan.add(stretch(2, 3), (120, 40));
        for (written, packets, bytes, met) in [
            (0, 0, 0, 2),
            (99, 0, 0, 2),
            (100, 1, 100, 3),
            (209, 2, 150, 3),
            (210, 3, 210, 4),
        ] {
            let outcome = plan.whole(written, &queue, &mut slots);
            let expected = Outcome {
                packets,
                bytes,
                slots: met,
            };
            assert_eq!(outcome, expected);
        }
        assert_eq!(plan.all(4), plan.whole(210, &queue, &mut slots));
        assert_eq!(plan.pieces.len(), 4, "neighbouring records are one slice");
    }
}
