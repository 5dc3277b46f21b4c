//! Serialised records on their way from a worker to a writer.
//!
//! Takes: kept packets of one session, from one worker. Gives: [`Run`] (their records, one after the
//! other, in the file's format, and a [`Mark`] for each) and [`Bundle`] (what a worker sends at once).
//! Holds: marks tell the place of each record, so that records may be written in any order without
//! being copied.

use std::sync::Arc;

use crate::capfile::{Format, PCAPNG_INTERFACE_OFFSET, encode};
use crate::packet::DropReason;
use crate::sink::Kept;
use crate::sink::capture::pool::Buffer;
use crate::sink::capture::shared::Shared;
use crate::spool::Target;
use crate::time::Timestamp;

/// More than any record header and trailer takes.
pub(super) const RECORD_ROOM: usize = 64;

/// One record of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Its place in the order of arrival.
    pub(super) order: u64,
    /// When it arrived.
    pub(super) time: Timestamp,
    /// Where its record starts.
    pub(super) start: u32,
    /// Bytes of the whole record.
    pub(super) len: u32,
    /// Bytes of the packet in it.
    pub(super) caplen: u32,
    /// [`Peer::id`](crate::packet::Peer::id).
    pub(super) peer: u32,
}

/// Records of one session.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) target: Arc<Target>,
    pub(super) buffer: Buffer,
    /// Whether the marks are in order; with several receivers they need not be.
    pub(super) sorted: bool,
}

impl Run {
    /// A run without records.
    pub(super) fn new(target: Arc<Target>, buffer: Buffer) -> Self {
        Self {
            target,
            buffer,
            sorted: true,
        }
    }

    /// Serialises a packet. The caller has made sure that there is room.
    pub(super) fn push(&mut self, peer: u32, packet: &Kept<'_>) -> usize {
        let settings = &self.target.settings;
        let (out, precision) = (&mut self.buffer.bytes, settings.precision);
        let start = out.len();
        match settings.format {
            Format::Pcap => {
                encode::pcap_record(out, precision, packet.time, packet.frame, packet.origlen);
            }
            Format::Pcapng => {
                encode::packet(out, 0, precision, packet.time, packet.frame, packet.origlen);
            }
        }
        let len = out.len() - start;
        self.mark(Mark {
            order: packet.order,
            time: packet.time,
            start: start as u32,
            len: len as u32,
            caplen: packet.frame.len() as u32,
            peer,
        });
        len
    }

    fn mark(&mut self, mark: Mark) {
        let last = self.buffer.marks.last();
        self.sorted &= last.is_none_or(|last| last.order <= mark.order);
        self.buffer.marks.push(mark);
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
            let start = base + mark.start;
            self.mark(Mark { start, ..*mark });
        }
    }

    /// Puts marks from number `from` in order; equal ones stay as they came.
    pub(super) fn sort(&mut self, from: usize) {
        if !self.sorted {
            if let Some(rest) = self.buffer.marks.get_mut(from..) {
                rest.sort_by_key(|mark| mark.order);
            }
            self.sorted = true;
        }
    }

    /// Writes the number of its interface into a record; a pcap record has none.
    pub(super) fn set_interface(&mut self, mark: &Mark, interface: u32) {
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
/// its packets as lost to the shutdown, wherever it is dropped.
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
        for run in self.runs.drain(..) {
            let marks = &run.buffer.marks;
            let ledger = &run.target.ledger;
            ledger.add_dropped(DropReason::Shutdown, marks.len() as u64);
            for mark in marks {
                self.shared.blame(mark, DropReason::Shutdown);
            }
            self.shared.pool.give(run.buffer);
        }
    }
}
