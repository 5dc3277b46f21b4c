//! What flow logs have done, for status and metrics.
//!
//! Takes: counts, once per batch from workers and now and then from the thread that writes. Gives: [`Stats`], readable meanwhile, and a
//! [`Summary`] of it. Holds: when all has ended, packets = left out + not IP + recorded + lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::metrics::{Counter, Gauge};

/// The numbers of one flow log.
#[derive(Debug, Default)]
pub struct Stats {
    /// Packets of its interfaces that it was shown.
    pub packets: Counter,
    /// Of these, those that its filter left out, and DNS with the resolver where that is not wanted.
    pub left_out: Counter,
    /// Of these, those without IP: they belong to no flow.
    pub not_ip: Counter,
    /// Packets in records that were given to the thread that writes.
    pub recorded: Counter,
    /// Records given to it.
    pub records: Counter,
    /// Records lost: for want of room on the way to it, with a thread, with a file.
    pub records_lost: Counter,
    /// Packets in records that were lost on the way, or with a worker.
    pub packets_lost: Counter,
    /// Records closed early, since the table was full.
    pub early: Counter,
    /// Records closed early, since their interface had its share of the table.
    pub early_of_interface: Counter,
    /// Later fragments charged to the flow of their first.
    pub fragments_charged: Counter,
    /// Later fragments whose first one was not known.
    pub fragments_without_first: Counter,
    /// Flows that are open now.
    pub open: Gauge,
    /// Of the records lost, those that were lost with a file.
    pub lost_in_files: Counter,
    /// Of the records lost, those that the thread that writes had when it ended, or was not waited for.
    pub lost_at_desk: Counter,
    /// Files published.
    pub files: Gauge,
    /// Records in them.
    pub published: Gauge,
    /// SKIPDATA lines.
    pub skipdata: Counter,
    /// NODATA lines.
    pub nodata: Counter,
    /// Set when the last sum was drawn: what a thread does that was not waited for counts no more.
    over: AtomicBool,
    /// What stands in the way of writing.
    trouble: Mutex<Option<String>>,
}

impl Stats {
    /// Why records can't be written, if that is so.
    pub fn trouble(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.lock() = trouble;
    }

    /// Whether nothing counts any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Draws the last sum: what is open and what is in no file is lost.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Release);
        self.give_up();
        let open = self.open.value();
        self.open.sub(open);
        self.records_lost.add(open);
        let ended = self.left_out.value() + self.not_ip.value();
        let ended = ended + self.recorded.value() + self.packets_lost.value();
        let packets = self.packets.value();
        self.packets_lost.add(packets.saturating_sub(ended));
        // a worker that is stuck has not told yet what it had closed
        self.packets.add(ended.saturating_sub(packets));
    }

    /// Counts the records that are in no file, and were not lost with one, as lost; those that were counted so before are not counted again.
    pub(super) fn give_up(&self) {
        let told = self.records.value() + self.skipdata.value() + self.nodata.value();
        let lost = self.lost_in_files.value() + self.lost_at_desk.value();
        let missing = told.saturating_sub(self.published.value() + lost);
        self.lost_at_desk.add(missing);
        self.records_lost.add(missing);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands there now. Ends are read before beginnings.
    pub fn read(&self) -> Summary {
        Summary {
            files: self.files.value(),
            published: self.published.value(),
            skipdata: self.skipdata.value(),
            nodata: self.nodata.value(),
            records_lost: self.records_lost.value(),
            packets_lost: self.packets_lost.value(),
            recorded: self.recorded.value(),
            records: self.records.value(),
            open: self.open.value(),
            early: self.early.value(),
            early_of_interface: self.early_of_interface.value(),
            fragments_charged: self.fragments_charged.value(),
            fragments_without_first: self.fragments_without_first.value(),
            left_out: self.left_out.value(),
            not_ip: self.not_ip.value(),
            packets: self.packets.value(),
            trouble: self.trouble(),
        }
    }
}

/// The numbers of one flow log at one time; the names are those of [`Stats`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[expect(
    missing_docs,
    reason = "each has the name and the meaning of its counter"
)]
pub struct Summary {
    pub packets: u64,
    pub left_out: u64,
    pub not_ip: u64,
    pub recorded: u64,
    pub packets_lost: u64,
    pub records: u64,
    pub records_lost: u64,
    pub early: u64,
    pub early_of_interface: u64,
    pub fragments_charged: u64,
    pub fragments_without_first: u64,
    pub open: u64,
    pub files: u64,
    pub published: u64,
    pub skipdata: u64,
    pub nodata: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Summary {
    /// Whether every packet is in a record, left out on purpose, or counted as lost. Only when all has ended.
    pub fn is_closed(&self) -> bool {
        self.open == 0
            && self.packets == self.left_out + self.not_ip + self.recorded + self.packets_lost
    }
}
