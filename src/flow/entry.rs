//! The memory of the flow table: entries in one slab, threaded by lists of numbers instead of pointers.

use crate::flow::{Closed, Key, Seen, Why};
use crate::time::Timestamp;

/// The end of a list: no entry has this number.
pub(super) const NONE: u32 = u32::MAX;

/// The neighbours of an entry in a list that is in order of age.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) older: u32,
    pub(super) newer: u32,
}

impl Links {
    pub(super) const ALONE: Self = Self {
        older: NONE,
        newer: NONE,
    };
}

/// An open flow: two cache lines. What is compared stands in the first, what is counted in the second.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) hash: u32,
    /// The next in the same bucket; in a free entry, the next free one.
    pub(super) next: u32,
    /// Among all flows.
    pub(super) all: Links,
    packets: u64,
    bytes: u64,
    first: Timestamp,
    last: Timestamp,
    /// The table's clock when it was opened.
    pub(super) opened: Timestamp,
    /// Among the flows of its interface.
    pub(super) of_eni: Links,
    flags: u8,
}

impl Entry {
    pub(super) fn new(key: Key, hash: u32, seen: &Seen, now: Timestamp) -> Self {
        Self {
            key,
            hash,
            next: NONE,
            all: Links::ALONE,
            packets: 1,
            bytes: seen.bytes.into(),
            first: seen.time,
            last: seen.time,
            opened: now,
            of_eni: Links::ALONE,
            flags: seen.flags,
        }
    }

    /// From the first packet to the last in nanoseconds, with a packet of this time.
    #[inline]
    pub(super) fn span_with(&self, time: Timestamp) -> u64 {
        self.last.max(time).nanos() - self.first.min(time).nanos()
    }

    #[inline]
    pub(super) fn count(&mut self, seen: &Seen) {
        self.packets += 1;
        self.bytes += u64::from(seen.bytes);
        self.first = self.first.min(seen.time);
        self.last = self.last.max(seen.time);
        self.flags |= seen.flags;
    }

    pub(super) fn closed(&self, why: Why) -> Closed {
        Closed {
            key: self.key,
            packets: self.packets,
            bytes: self.bytes,
            first: self.first,
            last: self.last,
            flags: self.flags,
            why,
        }
    }
}

/// Entries by number; freed ones are used again.
#[derive(Debug)]
pub(super) struct Slab {
    entries: Vec<Entry>,
    free: u32,
}

impl Slab {
    /// With room for so many; memory is taken from the system as they are first used.
    pub(super) fn with_room(entries: u32) -> Self {
        Self {
            entries: Vec::with_capacity(entries as usize),
            free: NONE,
        }
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Entry> {
        self.entries.get_mut(at as usize)
    }

    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let at = self.free;
        match self.entries.get_mut(at as usize) {
            Some(slot) => {
                self.free = slot.next;
                *slot = entry;
                at
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        }
    }

    pub(super) fn remove(&mut self, at: u32) {
        let free = self.free;
        if let Some(entry) = self.get_mut(at) {
            entry.next = free;
            self.free = at;
        }
    }
}

/// Which of its two lists an entry is looked at in.
pub(super) type Which = fn(&mut Entry) -> &mut Links;

/// A list in order of age.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) oldest: u32,
    newest: u32,
    pub(super) len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        oldest: NONE,
        newest: NONE,
        len: 0,
    };

    /// Adds an entry as the newest.
    pub(super) fn push(&mut self, slab: &mut Slab, at: u32, which: Which) {
        if let Some(entry) = slab.get_mut(at) {
            *which(entry) = Links {
                older: self.newest,
                newer: NONE,
            };
        }
        match slab.get_mut(self.newest) {
            Some(newest) => which(newest).newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        self.len += 1;
    }

    /// Takes an entry out, wherever it stands.
    pub(super) fn unlink(&mut self, slab: &mut Slab, at: u32, which: Which) {
        let Some(links) = slab.get_mut(at).map(|entry| *which(entry)) else {
            return;
        };
        match slab.get_mut(links.older) {
            Some(older) => which(older).newer = links.newer,
            None => self.oldest = links.newer,
        }
        match slab.get_mut(links.newer) {
            Some(newer) => which(newer).older = links.older,
            None => self.newest = links.older,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_two_cache_lines() {
        assert_eq!(size_of::<Entry>(), 128);
    }
}
