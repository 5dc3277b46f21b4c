//! The bounded table of open flows.
//!
//! Each flow is opened by its first packet and closed when the interval is over; a flow that goes on is then opened
//! again. Since all wait equally long, the order in which they were opened is the order in which they
//! are closed: one list holds it, and nothing is ever scanned. The same list says which flow is closed early when
//! there is no room for another, and a second one says it for each interface.
//!
//! The table's clock is what [`Table::expire`] is told, once per batch. Packets may come in any order of time: one that
//! would make a record longer than the interval closes it and opens the next.

#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::flow::entry::{Entry, List, NONE, Slab};
use crate::flow::pieces::Pieces;
use crate::flow::{Closed, Key, Seen, Why};
use crate::time::Timestamp;

/// How much a table holds, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open flows in all; at least one.
    pub flows: u32,
    /// Open flows of one interface; at least one.
    pub per_eni: u32,
    /// The aggregation interval.
    pub interval: Duration,
}

/// What a table has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Packets put in.
    pub packets: u64,
    /// Records given out.
    pub records: u64,
    /// Records closed early, since the table was full.
    pub early: u64,
    /// Records closed early, since their interface had its share.
    pub early_of_eni: u64,
    /// Later fragments charged to the flow of their first.
    pub fragments_charged: u64,
    /// Later fragments whose first one was not known: they count for a flow without ports.
    pub fragments_without_first: u64,
}

/// Open flows. An interface's number is an index: numbers should start at 0 and be dense.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    interval: u64,
    slab: Slab,
    /// The first entry of each bucket; a power of two of them.
    buckets: Vec<u32>,
    hasher: RandomState,
    all: List,
    enis: Vec<List>,
    pieces: Pieces,
    now: Timestamp,
    counts: Counts,
}

impl Table {
    /// A table with nothing in it. Its address space is reserved at once; memory is used as flows come.
    pub fn new(limits: Limits) -> Self {
        let flows = limits.flows.clamp(1, NONE / 2);
        Self {
            limits: Limits {
                flows,
                per_eni: limits.per_eni.max(1),
                ..limits
            },
            interval: u64::try_from(limits.interval.as_nanos()).unwrap_or(u64::MAX),
            slab: Slab::with_room(flows),
            buckets: vec![NONE; (flows as usize).next_power_of_two()],
            hasher: RandomState::default(),
            all: List::EMPTY,
            enis: Vec::new(),
            pieces: Pieces::new(),
            now: Timestamp::default(),
            counts: Counts::default(),
        }
    }

    /// Open flows.
    pub fn len(&self) -> usize {
        self.all.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.len == 0
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        Counts {
            fragments_charged: self.pieces.charged,
            fragments_without_first: self.pieces.orphans,
            ..self.counts
        }
    }

    /// Counts a packet. At most one flow is closed by it, and given to `out`.
    #[inline]
    pub fn add(&mut self, seen: &Seen, out: &mut impl FnMut(&Closed)) {
        self.counts.packets += 1;
        let key = self.pieces.key(seen);
        let hash = self.hasher.hash_one(key) as u32;
        let at = self.find(&key, hash);
        match self.slab.get_mut(at) {
            Some(entry) if entry.span_with(seen.time) < self.interval => entry.count(seen),
            Some(_) => self.again(at, key, hash, seen, out),
            None => self.open(key, hash, seen, out),
        }
    }

    /// Sets the clock, which never goes back, and closes the flows whose interval is over.
    pub fn expire(&mut self, now: Timestamp, out: &mut impl FnMut(&Closed)) {
        self.tick(now);
        while self.close_due(out) {}
    }

    /// Sets the clock, which never goes back.
    #[inline]
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Sets the clock back where the system's was set back by more than an interval: flows that are open are due an interval from
    /// now at the latest.
    pub fn follow_back(&mut self, now: Timestamp) {
        if self.now.nanos().saturating_sub(now.nanos()) <= self.interval {
            return;
        }
        self.now = now;
        let mut at = self.all.oldest;
        while let Some(entry) = self.slab.get_mut(at) {
            entry.opened = entry.opened.min(now);
            at = entry.all.newer;
        }
    }

    /// Closes one flow whose interval is over, if there is one. Who has no room for all of them takes some now and the others
    /// later: a record never spans more than the interval, however late it is closed.
    #[inline]
    pub fn close_due(&mut self, out: &mut impl FnMut(&Closed)) -> bool {
        let opened = self.slab.get(self.all.oldest).map(|oldest| oldest.opened);
        let due = opened.is_some_and(|at| self.now.nanos() - at.nanos() >= self.interval);
        if due {
            self.close_one(self.all.oldest, Why::Interval, out);
        }
        due
    }

    /// Closes everything: nothing more will come.
    pub fn close(&mut self, out: &mut impl FnMut(&Closed)) {
        while self.all.oldest != NONE {
            self.close_one(self.all.oldest, Why::End, out);
        }
    }

    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    #[inline]
    fn find(&self, key: &Key, hash: u32) -> u32 {
        let mut at = self.buckets.get(self.bucket(hash)).copied().unwrap_or(NONE);
        while let Some(entry) = self.slab.get(at) {
            if entry.hash == hash && entry.key == *key {
                break;
            }
            at = entry.next;
        }
        at
    }

    /// Opens a flow, and closes the oldest where there is no room.
    #[inline(never)]
    fn open(&mut self, key: Key, hash: u32, seen: &Seen, out: &mut impl FnMut(&Closed)) {
        self.make_room(key.eni, out);
        let bucket = self.bucket(hash);
        let mut entry = Entry::new(key, hash, seen, self.now);
        entry.next = self.buckets.get(bucket).copied().unwrap_or(NONE);
        let at = self.slab.insert(entry);
        if let Some(head) = self.buckets.get_mut(bucket) {
            *head = at;
        }
        self.link(at, key.eni);
    }

    /// Closes a flow whose interval is over and opens it again in the same place.
    #[inline(never)]
    fn again(&mut self, at: u32, key: Key, hash: u32, seen: &Seen, out: &mut impl FnMut(&Closed)) {
        self.unlink(at, key.eni);
        if let Some(entry) = self.slab.get_mut(at) {
            let closed = entry.closed(Why::Interval);
            let next = entry.next;
            *entry = Entry::new(key, hash, seen, self.now);
            entry.next = next;
            self.counts.records += 1;
            out(&closed);
        }
        self.link(at, key.eni);
    }

    fn make_room(&mut self, eni: u32, out: &mut impl FnMut(&Closed)) {
        if self.enis.len() <= eni as usize {
            self.enis.resize(eni as usize + 1, List::EMPTY);
        }
        let own = self.enis.get(eni as usize).copied();
        let own = own.filter(|own| own.len >= self.limits.per_eni);
        if let Some(own) = own {
            self.counts.early_of_eni += 1;
            self.close_one(own.oldest, Why::Full, out);
        } else if self.all.len >= self.limits.flows {
            self.counts.early += 1;
            self.close_one(self.all.oldest, Why::Full, out);
        }
    }

    fn close_one(&mut self, at: u32, why: Why, out: &mut impl FnMut(&Closed)) {
        let Some(entry) = self.slab.get(at).copied() else {
            return;
        };
        self.unlink(at, entry.key.eni);
        self.leave_bucket(at, &entry);
        self.slab.remove(at);
        self.counts.records += 1;
        out(&entry.closed(why));
    }

    fn leave_bucket(&mut self, at: u32, entry: &Entry) {
        let bucket = self.bucket(entry.hash);
        let Some(head) = self.buckets.get_mut(bucket) else {
            return;
        };
        if *head == at {
            *head = entry.next;
            return;
        }
        let mut before = *head;
        while let Some(other) = self.slab.get_mut(before) {
            if other.next == at {
                other.next = entry.next;
                return;
            }
            before = other.next;
        }
    }

    fn link(&mut self, at: u32, eni: u32) {
        self.all.push(&mut self.slab, at, |entry| &mut entry.all);
        if let Some(own) = self.enis.get_mut(eni as usize) {
            own.push(&mut self.slab, at, |entry| &mut entry.of_eni);
        }
    }

    fn unlink(&mut self, at: u32, eni: u32) {
        self.all.unlink(&mut self.slab, at, |entry| &mut entry.all);
        if let Some(own) = self.enis.get_mut(eni as usize) {
            own.unlink(&mut self.slab, at, |entry| &mut entry.of_eni);
        }
    }
}
