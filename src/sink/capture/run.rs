//! Serialised records on their way from a worker to a writer.
//!
//! Takes: kept packets of one session, from one worker. Gives: [`Run`] (their records, one after the
//! other, in the file's format, and a [`Mark`] for each) and [`Bundle`] (what a worker sends at once).
//! Holds: marks tell the place of each record, so that records may be written in any order without
//! being copied.

use std::sync::Arc;

use crate::capfile::{
    Format, PCAP_CAPLEN_OFFSET, PCAPNG_CAPLEN_OFFSET, PCAPNG_INTERFACE_OFFSET, PCAPNG_LEN_OFFSET,
    encode,
};
use crate::sink::Kept;
use crate::sink::capture::pool::Buffer;
use crate::sink::capture::shared::Shared;
use crate::spool::Target;
use crate::time::Timestamp;

/// More than any record header and trailer takes.
pub(super) const RECORD_ROOM: usize = 64;

/// One record of a run. Its lengths are read from the record itself when they are asked for, which is seldom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Its place in the order of arrival.
    pub(super) order: u64,
    /// When it arrived.
    pub(super) time: Timestamp,
    /// Where its record starts.
    pub(super) start: u32,
    /// [`Peer::id`](crate::packet::Peer::id).
    pub(super) peer: u32,
}

/// What a run holds of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Share {
    pub(super) peer: u32,
    pub(super) packets: u64,
    /// Bytes of packets, without record headers.
    pub(super) bytes: u64,
}

impl Share {
    const NONE: Self = Self {
        peer: u32::MAX,
        packets: 0,
        bytes: 0,
    };
}

/// Runs of more peers than this are counted record by record.
pub(super) const MOST_SHARES: usize = 8;

/// The times of some records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Times {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

impl Times {
    /// No records yet.
    const NONE: Self = Self {
        first: Timestamp::from_nanos(u64::MAX),
        last: Timestamp::from_nanos(0),
    };

    fn add(&mut self, time: Timestamp) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }
}

/// What was pushed at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pushed {
    pub(super) packets: usize,
    /// Bytes of their records.
    pub(super) bytes: usize,
    /// The lowest of their orders.
    pub(super) oldest: u64,
}

/// Records of one session.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) target: Arc<Target>,
    pub(super) buffer: Buffer,
    /// Whether the marks are in order; with several receivers they need not be.
    pub(super) sorted: bool,
    /// Whether the marks are in the order of their bytes: neighbouring marks are neighbouring bytes.
    straight: bool,
    /// Order of the last mark.
    last: u64,
    /// What came of the last mark's peer since the one before it, and is not in the buffer's list yet.
    share: Share,
    /// Whether there were more peers than shares.
    crowded: bool,
    times: Times,
}

impl Run {
    /// A run without records.
    pub(super) fn new(target: Arc<Target>, buffer: Buffer) -> Self {
        Self {
            target,
            buffer,
            sorted: true,
            straight: true,
            last: 0,
            share: Share::NONE,
            crowded: false,
            times: Times::NONE,
        }
    }

    /// Whose packet was the last.
    pub(super) fn peer(&self) -> u32 {
        self.share.peer
    }

    /// Serialises the first of `packets`, for which the caller has made sure that there is room, and those after it while
    /// there is, until `enough` bytes are pushed.
    pub(super) fn push(&mut self, peer: u32, packets: &[Kept<'_>], enough: usize) -> Pushed {
        let (format, precision) = (self.target.settings.format, self.target.settings.precision);
        let begin = self.buffer.bytes.len();
        // counted in registers, and put back at the end
        let (mut times, mut last, mut sorted, mut caplens) =
            (self.times, self.last, self.sorted, 0);
        let mut pushed = Pushed {
            packets: 0,
            bytes: 0,
            oldest: u64::MAX,
        };
        for packet in packets {
            let (start, len) = (self.buffer.bytes.len(), packet.frame.len());
            let goes_on = start - begin < enough && self.buffer.has_room(len + RECORD_ROOM, 1);
            if pushed.packets > 0 && !goes_on {
                break;
            }
            let (out, time) = (&mut self.buffer.bytes, packet.time);
            match format {
                Format::Pcap => {
                    encode::pcap_record(out, precision, time, packet.frame, packet.origlen)
                }
                Format::Pcapng => {
                    encode::packet(out, 0, precision, time, packet.frame, packet.origlen)
                }
            }
            // made where it stays: what is put together elsewhere in small pieces and moved in larger ones is waited for
            self.buffer.marks.push(Mark {
                order: packet.order,
                time,
                start: start as u32,
                peer,
            });
            times.add(time);
            sorted &= last <= packet.order;
            last = packet.order;
            caplens += len as u64;
            pushed.packets += 1;
            pushed.oldest = pushed.oldest.min(packet.order);
        }
        (self.times, self.last, self.sorted) = (times, last, sorted);
        self.share(peer, pushed.packets as u64, caplens);
        pushed.bytes = self.buffer.bytes.len() - begin;
        pushed
    }

    /// Counts packets of a peer.
    fn share(&mut self, peer: u32, packets: u64, bytes: u64) {
        if self.share.peer != peer {
            self.share_out();
            self.share.peer = peer;
        }
        self.share.packets += packets;
        self.share.bytes += bytes;
    }

    /// Puts what is counted of the last peer into the list.
    pub(super) fn share_out(&mut self) {
        let Share {
            peer,
            packets,
            bytes,
        } = std::mem::replace(&mut self.share, Share::NONE);
        if packets == 0 {
            return;
        }
        let shares = &mut self.buffer.shares;
        if let Some(share) = shares.iter_mut().find(|share| share.peer == peer) {
            share.packets += packets;
            share.bytes += bytes;
        } else if shares.len() < MOST_SHARES {
            shares.push(Share {
                peer,
                packets,
                bytes,
            });
        } else {
            self.crowded = true;
        }
    }

    /// What it holds of each peer, when these records are all of it and its peers are few.
    pub(super) fn shares(&self, from: usize, to: usize) -> Option<&[Share]> {
        let whole = from == 0 && to == self.buffer.marks.len() && self.share.packets == 0;
        (whole && !self.crowded).then_some(&self.buffer.shares)
    }

    /// The times of records `from..to`.
    pub(super) fn times(&self, from: usize, to: usize) -> Times {
        if from == 0 && to == self.buffer.marks.len() {
            return self.times;
        }
        let (mut times, marks) = (Times::NONE, self.marks(from, to));
        marks.iter().for_each(|mark| times.add(mark.time));
        times
    }

    /// Records `from..to`.
    pub(super) fn marks(&self, from: usize, to: usize) -> &[Mark] {
        self.buffer.marks.get(from..to).unwrap_or_default()
    }

    /// Start and length of the bytes of records `from..to`, when they lie together.
    pub(super) fn together(&self, from: usize, to: usize) -> Option<(u32, u32)> {
        let start = self.buffer.marks.get(from)?.start;
        let end = match self.buffer.marks.get(to) {
            Some(next) => next.start,
            None => self.buffer.bytes.len() as u32,
        };
        (self.straight && from < to).then_some((start, end.saturating_sub(start)))
    }

    /// Bytes of a whole record.
    pub(super) fn len_of(&self, mark: &Mark) -> u32 {
        match self.target.settings.format {
            Format::Pcap => encode::pcap_record_len(self.caplen_of(mark) as usize) as u32,
            Format::Pcapng => self.number(mark.start as usize + PCAPNG_LEN_OFFSET),
        }
    }

    /// Bytes of the packet in a record.
    pub(super) fn caplen_of(&self, mark: &Mark) -> u32 {
        let offset = match self.target.settings.format {
            Format::Pcap => PCAP_CAPLEN_OFFSET,
            Format::Pcapng => PCAPNG_CAPLEN_OFFSET,
        };
        self.number(mark.start as usize + offset)
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.buffer.bytes.get(at..at + 4);
        bytes.map_or(0, |b| b.iter().rfold(0, |n, b| n << 8 | u32::from(*b)))
    }

    /// Whether the records of `other` fit behind its own.
    pub(super) fn has_room_for(&self, other: &Self) -> bool {
        let (bytes, marks) = (other.buffer.bytes.len(), other.buffer.marks.len());
        self.buffer.has_room(bytes, marks)
    }

    /// Copies the records of `other`, from its mark number `from`, behind its own.
    pub(super) fn append(&mut self, other: &Self, from: usize) {
        let base = self.buffer.bytes.len() as u32;
        self.buffer.bytes.extend_from_slice(&other.buffer.bytes);
        for mark in other.buffer.marks.get(from..).unwrap_or_default() {
            let (start, caplen) = (base + mark.start, other.caplen_of(mark));
            self.sorted &= self.last <= mark.order;
            self.last = mark.order;
            self.times.add(mark.time);
            self.share(mark.peer, 1, u64::from(caplen));
            self.buffer.marks.push(Mark { start, ..*mark });
        }
        self.straight &= other.straight && from == 0;
        self.share_out();
    }

    /// Puts marks from number `from` in order; equal ones stay as they came.
    pub(super) fn sort(&mut self, from: usize) {
        if !self.sorted {
            if let Some(rest) = self.buffer.marks.get_mut(from..) {
                rest.sort_by_key(|mark| mark.order);
            }
            (self.sorted, self.straight) = (true, false);
        }
    }

    /// Writes the number of its interface into record number `at`; a pcap record has none.
    pub(super) fn set_interface(&mut self, at: usize, interface: u32) {
        let Some(mark) = self.buffer.marks.get(at) else {
            return;
        };
        if self.target.settings.format == Format::Pcap {
            return;
        }
        let at = mark.start as usize + PCAPNG_INTERFACE_OFFSET;
        if let Some(place) = self.buffer.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&interface.to_le_bytes());
        }
    }
}

/// What a worker sends to a writer at once. One that nobody takes, because the writer has gone, counts
/// its packets as lost to the shutdown, or with the writer, wherever it is dropped.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Which worker.
    pub(super) worker: u16,
    /// Its runs for sessions of that writer.
    pub(super) runs: Vec<Run>,
    /// Where they are counted when nobody takes them.
    pub(super) shared: Arc<Shared>,
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let reason = self.shared.why_lost();
        for run in self.runs.drain(..) {
            let marks = &run.buffer.marks;
            let ledger = &run.target.ledger;
            ledger.add_dropped(reason, marks.len() as u64);
            for mark in marks {
                self.shared.blame(mark, reason);
            }
            self.shared.pool.give(run.buffer);
        }
    }
}
