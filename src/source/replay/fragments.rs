//! The bounded table of outer IP packets that arrive in fragments.
//!
//! Takes: fragments with the time of their records. Gives: whole IP payloads, and the number of
//! records that were given up. Holds: at most [`MAX_HELD`] packets of at most 64 KiB are waited for, none for more
//! than [`PATIENCE`] of capture time; every record given to [`Fragments::add`] comes back exactly once:
//! in a whole packet, as lost, or refused.
//!
//! Crate `etherparse` puts the pieces together. It lets pieces overlap and reach past the end; those are
//! caught here first. It also grows its buffer without writing to it, so it is given buffers
//! that are as large as an IP packet can be and have been written to once.

use std::collections::HashMap;
use std::time::Duration;

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber};

use crate::packet::DropReason;
use crate::source::replay::outer::{Fragment, Key};
use crate::time::Timestamp;

/// Most packets that are waited for.
pub(super) const MAX_HELD: usize = 512;
/// Longest wait between the first fragment and the last, as in Linux.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Largest IP payload.
const MAX_LEN: usize = 65_535;

/// What became of a fragment.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its siblings are waited for.
    Held,
    /// It was the last one missing.
    Whole(Whole),
    /// It can't be a part of anything.
    Refused(DropReason),
}

/// A reassembled IP payload.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) key: Key,
    pub(super) bytes: Vec<u8>,
    /// Records that it came in.
    pub(super) records: u64,
}

/// Records that were given up, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Lost {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct Held {
    buffer: IpDefragBuf,
    since: Timestamp,
    serial: u64,
    share: Lost,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    held: HashMap<Key, Held, foldhash::fast::RandomState>,
    spare: Vec<Vec<u8>>,
    lost: Lost,
    serial: u64,
}

/// How a fragment relates to those that are there.
enum Fit {
    New,
    Duplicate,
    Contradiction,
}

impl Fragments {
    /// Takes a fragment that came in a record of `bytes` bytes.
    pub(super) fn add(
        &mut self,
        fragment: &Fragment<'_>,
        time: Timestamp,
        bytes: usize,
    ) -> Outcome {
        if let Err(reason) = check(fragment) {
            return Outcome::Refused(reason);
        }
        self.make_way(fragment, time);
        let held = match self.held.get_mut(&fragment.key) {
            Some(held) => held,
            None => self.begin(fragment.key, time),
        };
        held.share.records += 1;
        held.share.bytes += bytes as u64;
        let placed = match fit(&held.buffer, fragment) {
            Fit::Duplicate => true,
            Fit::New | Fit::Contradiction => place(&mut held.buffer, fragment),
        };
        if !placed {
            self.give_up(fragment.key);
            return Outcome::Held;
        }
        if held.buffer.is_complete() {
            return self.finish(fragment.key);
        }
        Outcome::Held
    }

    /// Gives up what is too old, what this fragment contradicts, and, where a new packet
    /// begins in a full table, the oldest.
    ///
    /// A contradiction gives up the older packet and begins anew: AWS numbers all outer packets 0, so a
    /// packet that lost a fragment is commonly followed by another with the same key.
    fn make_way(&mut self, fragment: &Fragment<'_>, time: Timestamp) {
        let known = self.held.get(&fragment.key);
        if known.is_some_and(|h| matches!(fit(&h.buffer, fragment), Fit::Contradiction)) {
            self.give_up(fragment.key);
        }
        self.expire(time);
        if self.held.len() >= MAX_HELD && !self.held.contains_key(&fragment.key) {
            let oldest = self.held.iter().min_by_key(|(_, h)| h.serial);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.give_up(key);
            }
        }
    }

    fn expire(&mut self, now: Timestamp) {
        let late = |held: &Held| now.since(held.since) > PATIENCE;
        while let Some(key) = self.held.iter().find(|(_, h)| late(h)).map(|(key, _)| *key) {
            self.give_up(key);
        }
    }

    fn begin(&mut self, key: Key, since: Timestamp) -> &mut Held {
        let bytes = self.spare.pop().unwrap_or_else(|| vec![0; MAX_LEN]);
        self.serial += 1;
        let held = Held {
            buffer: IpDefragBuf::new(IpNumber(key.proto), bytes, Vec::new()),
            since,
            serial: self.serial,
            share: Lost::default(),
        };
        self.held.entry(key).insert_entry(held).into_mut()
    }

    fn finish(&mut self, key: Key) -> Outcome {
        match self.held.remove(&key) {
            Some(held) => Outcome::Whole(Whole {
                key,
                records: held.share.records,
                bytes: held.buffer.take_bufs().0,
            }),
            None => Outcome::Held,
        }
    }

    fn give_up(&mut self, key: Key) {
        if let Some(held) = self.held.remove(&key) {
            self.lost.records += held.share.records;
            self.lost.bytes += held.share.bytes;
            self.recycle(held.buffer.take_bufs().0);
        }
    }

    /// Gives up everything: no more will come.
    pub(super) fn close(&mut self) {
        let keys: Vec<Key> = self.held.keys().copied().collect();
        for key in keys {
            self.give_up(key);
        }
    }

    /// What was given up since this was last asked.
    pub(super) fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    /// Takes back the buffer of a [`Whole`].
    pub(super) fn recycle(&mut self, bytes: Vec<u8>) {
        self.spare.push(bytes);
    }
}

/// Whether a fragment can be a part of anything.
fn check(fragment: &Fragment<'_>) -> Result<(), DropReason> {
    let len = fragment.bytes.len();
    let end = usize::from(fragment.offset) + len + fragment.cut as usize;
    if fragment.cut > 0 {
        // The hole that the snaplen left can't be filled.
        return Err(DropReason::FragmentIncomplete);
    }
    if len == 0 || end > MAX_LEN || (fragment.more && !len.is_multiple_of(8)) {
        return Err(DropReason::OuterMalformed);
    }
    Ok(())
}

fn fit(buffer: &IpDefragBuf, fragment: &Fragment<'_>) -> Fit {
    let start = usize::from(fragment.offset);
    let end = start + fragment.bytes.len();
    let sections = || {
        let ranges = buffer.sections().iter();
        ranges.map(|s| usize::from(s.start)..usize::from(s.end))
    };
    let last = buffer.end().map(usize::from);
    let past_the_end = last.is_some_and(|last| end > last);
    let other_end = !fragment.more && last.is_some_and(|last| end != last);
    let end_before_known = !fragment.more && sections().any(|s| s.end > end);
    if past_the_end || other_end || end_before_known {
        return Fit::Contradiction;
    }
    match sections().find(|s| s.start < end && start < s.end) {
        None => Fit::New,
        Some(s) if s.start <= start && end <= s.end => {
            let same = buffer.data().get(start..end) == Some(fragment.bytes);
            // "More follow" for the bytes up to a known end, or an end within what has more.
            let same_end = fragment.more != (last == Some(end));
            if same && same_end {
                Fit::Duplicate
            } else {
                Fit::Contradiction
            }
        }
        Some(_) => Fit::Contradiction,
    }
}

fn place(buffer: &mut IpDefragBuf, fragment: &Fragment<'_>) -> bool {
    let offset = IpFragOffset::try_new(fragment.offset / 8);
    offset.is_ok_and(|offset| buffer.add(offset, fragment.more, fragment.bytes).is_ok())
}
