//! A write that is being put together.
//!
//! Takes: records of a queue, in order, with the interface blocks that have to come before them. Gives:
//! one vectored write, and how much of it arrived. Holds: bytes of packets are not copied; after a
//! write that failed half way, the records that are whole are known.

use std::io::IoSlice;

use crate::sink::capture::queue::Queue;
use crate::sink::capture::run::Mark;
use crate::spool::{Partial, Short};

/// The most slices that Linux takes in one call (`UIO_MAXIOV`).
const MOST_SLICES: usize = 1024;

/// A plan of more bytes is written.
const MOST_BYTES: usize = 1 << 20;

/// Stands for the plan's own bytes where a run's number is expected.
const OWN: u32 = u32::MAX;

/// Neighbouring bytes of a run, or of the plan's own.
#[derive(Clone, Copy, Debug)]
struct Piece {
    run: u32,
    start: u32,
    len: u32,
}

/// A record of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// The record.
    pub(super) mark: Mark,
    /// Bytes of it and of the interface block before it.
    len: u32,
    /// Its peer's number in the file.
    pub(super) slot: u32,
    /// How many peers the file has met, it included.
    slots: u32,
}

/// How much of a plan is in the file.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Whole records.
    pub(super) records: usize,
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

    /// All its bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether it should be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.pieces.len() + 2 > MOST_SLICES || self.bytes >= MOST_BYTES
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.records.clear();
        self.own.clear();
        (self.bytes, self.lead, self.met) = (0, 0, None);
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

    /// Appends a record of run number `run`.
    pub(super) fn add(&mut self, run: usize, mark: Mark, slot: u32, slots: usize) {
        self.piece(run as u32, mark.start, mark.len);
        let len = mark.len + std::mem::take(&mut self.lead) as u32;
        self.records.push(Planned {
            mark,
            len,
            slot,
            slots: slots as u32,
        });
    }

    fn piece(&mut self, run: u32, start: u32, len: u32) {
        self.bytes += len as usize;
        match self.pieces.last_mut() {
            Some(last) if last.run == run && last.start + last.len == start => last.len += len,
            _ => self.pieces.push(Piece { run, start, len }),
        }
    }

    /// Writes it.
    pub(super) fn write(&self, queue: &Queue, partial: &mut Partial) -> Result<(), Short> {
        let slice = |piece: &Piece| {
            let (start, len) = (piece.start as usize, piece.len as usize);
            IoSlice::new(match piece.run {
                OWN => self.own.get(start..start + len).unwrap_or_default(),
                run => queue.bytes_of(run as usize, start, len),
            })
        };
        let mut slices: Vec<_> = self.pieces.iter().map(slice).collect();
        partial.append(&mut slices)
    }

    /// What is in the file when all was written.
    pub(super) fn all(&self, slots: usize) -> Outcome {
        Outcome {
            records: self.records.len(),
            bytes: self.bytes(),
            slots,
        }
    }

    /// The records that lie wholly within the first `written` bytes, when the file has met `slots`
    /// peers, all of the plan's included.
    pub(super) fn whole(&self, written: u64, slots: usize) -> Outcome {
        let mut outcome = Outcome {
            slots: self.met.map_or(slots, |met| met as usize),
            ..Outcome::default()
        };
        for record in &self.records {
            let bytes = outcome.bytes + u64::from(record.len);
            if bytes > written {
                break;
            }
            outcome = Outcome {
                records: outcome.records + 1,
                bytes,
                slots: record.slots as usize,
            };
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn mark(start: u32, len: u32) -> Mark {
        Mark {
            order: 0,
            time: Timestamp::default(),
            start,
            len,
            caplen: len,
            peer: 0,
        }
    }

    #[test]
    fn a_write_that_stopped_within_a_record_holds_the_records_before_it() {
        let mut plan = Plan::default();
        plan.lead(&[0; 30], 2);
        plan.add(0, mark(0, 70), 0, 3);
        plan.add(0, mark(70, 50), 0, 3);
        plan.lead(&[0; 20], 3);
        plan.add(0, mark(120, 40), 1, 4);
        for (written, records, bytes, slots) in [
            (0, 0, 0, 2),
            (99, 0, 0, 2),
            (100, 1, 100, 3),
            (209, 2, 150, 3),
            (210, 3, 210, 4),
        ] {
            let outcome = plan.whole(written, 4);
            assert_eq!(
                (outcome.records, outcome.bytes, outcome.slots),
                (records, bytes, slots)
            );
        }
        assert_eq!(plan.pieces.len(), 4, "neighbouring records are one slice");
    }
}
