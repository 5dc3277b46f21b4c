//! The bounded table of outer IP packets that arrive in fragments.
//!
//! Takes: fragments with the time of their records. Gives: whole IP payloads, and the number of
//! records that were given up. Holds: at most [`MAX_HELD`] packets of at most 64 KiB are waited for, none for more
//! than [`PATIENCE`] of capture time; in a full table who has more than half of it loses its own; every record given to [`Fragments::add`] comes back exactly once:
//! in a whole packet, as lost, or refused.
//!
//! Crate `etherparse` puts the pieces together. It lets pieces overlap and reach past the end; those are
//! caught here first. It also grows its buffer without writing to it, so it is given buffers
//! that are as large as an IP packet can be and have been written to once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber};

use crate::packet::DropReason;
use crate::source::outer::{Fragment, Key};
use crate::time::Timestamp;

/// Most packets that are waited for.
pub(super) const MAX_HELD: usize = 512;
/// Longest wait between the first fragment and the last, as in Linux.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Most pieces with gaps between them that a packet may be in. One of 64 KiB that comes in pieces of 576 bytes, every other one first, is in 60; a
/// flood of the smallest pieces would make each of them be compared with thousands.
const MAX_PIECES: usize = 128;
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
    /// Packets in the order in which they were begun, among others that are no longer held.
    begun: VecDeque<(u64, Key)>,
    /// No packet that is held was begun before this: a flood of fragments is not looked through for each of them.
    earliest: Timestamp,
    /// How many packets of each source are held.
    shares: HashMap<IpAddr, usize, foldhash::fast::RandomState>,
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
            _ if held.buffer.sections().len() > MAX_PIECES => false,
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
    /// begins in a full table, the oldest: its source's own where that one has more than half of the table, so that a source which floods it
    /// does not push out what others are waited for.
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
            self.give_up_oldest(fragment.key.source);
        }
    }

    /// Makes room in a full table for a packet of `source`.
    fn give_up_oldest(&mut self, source: IpAddr) {
        let floods = self.shares.get(&source).is_some_and(|n| *n > MAX_HELD / 2);
        let may_go = |(_, key): &(u64, Key)| !floods || key.source == source;
        while let Some(at) = self.begun.iter().position(may_go) {
            let gone = self.begun.remove(at);
            let held = |(serial, key): &(u64, Key)| {
                self.held.get(key).is_some_and(|h| h.serial == *serial)
            };
            if let Some((_, key)) = gone.filter(held) {
                return self.give_up(key);
            }
        }
    }

    fn expire(&mut self, now: Timestamp) {
        if now.since(self.earliest) <= PATIENCE {
            return;
        }
        let late = |held: &Held| now.since(held.since) > PATIENCE;
        while let Some(key) = self.held.iter().find(|(_, h)| late(h)).map(|(key, _)| *key) {
            self.give_up(key);
        }
        let earliest = self.held.values().map(|h| h.since).min();
        self.earliest = earliest.unwrap_or(now);
    }

    fn begin(&mut self, key: Key, since: Timestamp) -> &mut Held {
        let bytes = self.spare.pop().unwrap_or_else(|| vec![0; MAX_LEN]);
        self.serial += 1;
        self.earliest = self.earliest.min(since);
        self.note_begun(key);
        *self.shares.entry(key.source).or_default() += 1;
        let held = Held {
            buffer: IpDefragBuf::new(IpNumber(key.proto), bytes, Vec::new()),
            since,
            serial: self.serial,
            share: Lost::default(),
        };
        self.held.entry(key).insert_entry(held).into_mut()
    }

    fn note_begun(&mut self, key: Key) {
        if self.begun.len() >= 2 * MAX_HELD {
            let held = &self.held;
            let is_held = |(serial, key): &(u64, Key)| {
                held.get(key).is_some_and(|held| held.serial == *serial)
            };
            self.begun.retain(is_held);
        }
        self.begun.push_back((self.serial, key));
    }

    fn finish(&mut self, key: Key) -> Outcome {
        match self.take(key) {
            Some(held) => Outcome::Whole(Whole {
                key,
                records: held.share.records,
                bytes: held.buffer.take_bufs().0,
            }),
            None => Outcome::Held,
        }
    }

    fn take(&mut self, key: Key) -> Option<Held> {
        let held = self.held.remove(&key)?;
        if let Entry::Occupied(mut share) = self.shares.entry(key.source) {
            *share.get_mut() -= 1;
            if *share.get() == 0 {
                share.remove();
            }
        }
        Some(held)
    }

    fn give_up(&mut self, key: Key) {
        if let Some(held) = self.take(key) {
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn key(id: u32) -> Key {
        Key {
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            destination: IpAddr::V4(Ipv4Addr::LOCALHOST),
            id,
            proto: 17,
        }
    }

    fn piece(id: u32, offset: u16, more: bool, bytes: &[u8]) -> Fragment<'_> {
        Fragment {
            key: key(id),
            offset,
            more,
            bytes,
            cut: 0,
        }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_parts(secs, 0)
    }

    fn lost(records: u64, bytes: u64) -> Lost {
        Lost { records, bytes }
    }

    #[test]
    fn a_full_table_gives_up_the_oldest_packet() {
        let mut table = Fragments::default();
        for id in 0..=MAX_HELD as u32 {
            table.add(&piece(id, 0, true, &[0; 8]), at(1), 100);
        }
        assert_eq!(table.take_lost(), lost(1, 100));
        assert!(!table.held.contains_key(&key(0)) && table.held.contains_key(&key(1)));
        table.close();
        assert_eq!(table.take_lost().records, MAX_HELD as u64);
    }

    #[test]
    fn a_source_that_floods_the_table_pushes_out_its_own_and_nobody_elses() {
        let mut table = Fragments::default();
        let of = |source: [u8; 4], id, offset, more| {
            let piece = piece(id, offset, more, &[0; 8]);
            let source = IpAddr::from(source);
            Fragment {
                key: Key {
                    source,
                    ..piece.key
                },
                ..piece
            }
        };
        let (flood, other) = ([192, 0, 2, 1], [10, 0, 0, 1]);
        let mut add =
            |source, id, offset, more| table.add(&of(source, id, offset, more), at(1), 10);
        (0..600).for_each(|id| _ = add(flood, id, 0, true));
        assert!(matches!(add(other, 7, 0, true), Outcome::Held));
        (600..3_000).for_each(|id| _ = add(flood, id, 0, true));
        assert!(matches!(add(other, 7, 8, false), Outcome::Whole(_)));
        table.close();
        assert_eq!(table.take_lost(), lost(3_000, 30_000));
        assert!(table.shares.is_empty());
    }

    #[test]
    fn a_packet_in_too_many_pieces_is_given_up() {
        let mut table = Fragments::default();
        for offset in (0..).step_by(16).take(2 * MAX_PIECES) {
            table.add(&piece(1, offset, true, &[0; 8]), at(1), 10);
        }
        assert_eq!(table.take_lost().records, MAX_PIECES as u64 + 2);
        let in_order = (0..8_000_u16).step_by(8);
        for offset in in_order.chain([8_000]) {
            table.add(&piece(2, offset, offset < 8_000, &[0; 8]), at(1), 10);
        }
        assert!(!table.held.contains_key(&key(2)), "it was put together");
    }

    #[test]
    fn what_was_put_together_meanwhile_is_neither_old_nor_remembered() {
        let mut table = Fragments::default();
        table.add(&piece(0, 0, true, &[0; 8]), at(1), 100);
        for id in 1..=5 * MAX_HELD as u32 {
            table.add(&piece(id, 0, true, &[0; 8]), at(1), 1);
            let outcome = table.add(&piece(id, 8, false, &[0; 8]), at(1), 1);
            assert!(matches!(outcome, Outcome::Whole(_)));
        }
        assert!(table.begun.len() <= 2 * MAX_HELD, "{}", table.begun.len());
        for id in 10_000..10_000 + MAX_HELD as u32 {
            table.add(&piece(id, 0, true, &[0; 8]), at(1), 10);
        }
        assert_eq!(
            table.take_lost(),
            lost(1, 100),
            "the one that was begun first"
        );
    }

    #[test]
    fn a_packet_that_came_with_an_earlier_time_is_waited_for_as_long() {
        let mut table = Fragments::default();
        table.add(&piece(1, 0, true, &[0; 8]), at(100), 50);
        table.add(&piece(2, 0, true, &[0; 8]), at(90), 60);
        table.add(&piece(3, 0, true, &[0; 8]), at(121), 70);
        assert_eq!(table.take_lost(), lost(1, 60));
        table.add(&piece(4, 0, true, &[0; 8]), at(131), 80);
        assert_eq!(table.take_lost(), lost(1, 50));
    }

    #[test]
    fn a_packet_is_waited_for_thirty_seconds_of_capture_time() {
        let mut table = Fragments::default();
        table.add(&piece(1, 0, true, &[0; 8]), at(100), 50);
        table.add(&piece(2, 0, true, &[0; 8]), at(130), 50);
        assert_eq!(table.take_lost(), Lost::default());
        table.add(&piece(3, 0, true, &[0; 8]), at(131), 50);
        assert_eq!(table.take_lost(), lost(1, 50));
    }

    #[test]
    fn a_fragment_that_contradicts_gives_up_the_older_ones_and_begins_anew() {
        for other in [
            piece(1, 8, true, &[9; 16]),
            piece(1, 0, true, &[9; 8]),
            piece(1, 0, false, &[1; 8]),
            piece(1, 32, false, &[1; 8]),
            piece(1, 24, true, &[1; 16]),
            piece(1, 8, false, &[1; 8]),
        ] {
            let mut table = Fragments::default();
            table.add(&piece(1, 0, true, &[1; 16]), at(1), 10);
            table.add(&piece(1, 24, false, &[1; 8]), at(1), 20);
            let outcome = table.add(&other, at(1), 40);
            let whole = matches!(outcome, Outcome::Whole(_));
            assert_eq!(table.take_lost(), lost(2, 30), "{other:?}");
            assert_eq!(whole, other.offset == 0 && !other.more, "{other:?}");
            table.close();
            assert_eq!(table.take_lost().records, u64::from(!whole), "{other:?}");
        }
    }

    #[test]
    fn a_fragment_that_can_be_a_part_of_nothing_is_refused_alone() {
        let mut table = Fragments::default();
        for (fragment, reason) in [
            (piece(1, 0, true, &[0; 7]), DropReason::OuterMalformed),
            (piece(1, 0, true, &[]), DropReason::OuterMalformed),
            (piece(1, 65_528, false, &[0; 8]), DropReason::OuterMalformed),
            (
                Fragment {
                    cut: 4,
                    ..piece(1, 0, true, &[0; 4])
                },
                DropReason::FragmentIncomplete,
            ),
        ] {
            let outcome = table.add(&fragment, at(1), 10);
            assert!(
                matches!(outcome, Outcome::Refused(r) if r == reason),
                "{outcome:?}"
            );
        }
        let largest = piece(1, 65_528, false, &[0; 7]);
        assert!(matches!(table.add(&largest, at(1), 10), Outcome::Held));
        assert_eq!(table.take_lost(), Lost::default());
    }

    proptest! {
        #[test]
        fn every_fragment_comes_back_once_and_whole_packets_are_made_of_what_was_given(
            pieces in proptest::collection::vec(
                (0..4u32, 0..6u16, any::<bool>(), 1..4usize, any::<bool>(), 0..40u64), 0..200),
        ) {
            let mut table = Fragments::default();
            let (mut back, mut bytes) = (0, 0);
            for (id, offset, more, len, odd, secs) in &pieces {
                let body = vec![*id as u8; len * 8 - usize::from(*odd)];
                match table.add(&piece(*id, offset * 8, *more, &body), at(*secs), 1) {
                    Outcome::Held => {}
                    Outcome::Refused(_) => { back += 1; bytes += 1; }
                    Outcome::Whole(whole) => {
                        back += whole.records;
                        bytes += whole.records;
                        prop_assert!(whole.bytes.iter().all(|b| u32::from(*b) == whole.key.id));
                        table.recycle(whole.bytes);
                    }
                }
                let lost = table.take_lost();
                back += lost.records;
                bytes += lost.bytes;
            }
            table.close();
            let lost = table.take_lost();
            prop_assert_eq!(back + lost.records, pieces.len() as u64);
            prop_assert_eq!(bytes + lost.bytes, pieces.len() as u64);
        }
    }
}
