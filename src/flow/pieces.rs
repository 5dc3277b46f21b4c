//! Fragments: which flow the later pieces of a packet belong to, since only the first has ports.
//!
//! A fixed table of sets of a few places each, so a flood of fragments costs no more than one, and forgets older
//! packets of its set. A piece whose first one is not known (it was lost, comes later, or was forgotten)
//! counts for a flow without ports.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::filter::Direction;
use crate::flow::seen::{Key, Piece, Seen};
use crate::time::Timestamp;

/// Sets, and places in each: packets that are remembered.
const SETS: usize = 512;
const WAYS: usize = 4;
/// How long later pieces are expected; senders use a number again after that.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the pieces of a packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Packet {
    src: [u8; 16],
    dst: [u8; 16],
    eni: u32,
    id: u32,
    direction: Direction,
    version: u8,
    /// 0 for IPv6, whose later pieces may name another header.
    proto: u8,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    packet: Packet,
    time: Timestamp,
    proto: u8,
    sport: u16,
    dport: u16,
}

/// The table.
#[derive(Debug)]
pub(super) struct Pieces {
    sets: Vec<[Option<Known>; WAYS]>,
    hasher: RandomState,
    /// Later pieces that were charged to the flow of their first.
    pub(super) charged: u64,
    /// Later pieces whose first one was not known.
    pub(super) orphans: u64,
}

impl Pieces {
    pub(super) fn new() -> Self {
        Self {
            sets: vec![[None; WAYS]; SETS],
            hasher: RandomState::default(),
            charged: 0,
            orphans: 0,
        }
    }

    /// The key of a packet, completed with what its first piece said.
    #[inline]
    pub(super) fn key(&mut self, seen: &Seen) -> Key {
        match seen.piece {
            None => seen.key,
            Some(piece) => self.key_of_piece(seen, piece),
        }
    }

    #[inline(never)]
    fn key_of_piece(&mut self, seen: &Seen, piece: Piece) -> Key {
        let mut key = seen.key;
        let packet = Packet::of(&key, piece.id);
        let hash = self.hasher.hash_one(packet) as usize;
        let Some(set) = self.sets.get_mut(hash % SETS) else {
            return key;
        };
        if piece.first {
            let known = Known {
                packet,
                time: seen.time,
                proto: key.flow.proto,
                sport: key.flow.sport,
                dport: key.flow.dport,
            };
            remember(set, known);
            return key;
        }
        let is_it = |k: &&Known| k.packet == packet && is_near(k.time, seen.time);
        match set.iter().flatten().find(is_it) {
            Some(known) => {
                key.flow.proto = known.proto;
                (key.flow.sport, key.flow.dport) = (known.sport, known.dport);
                self.charged += 1;
            }
            None => self.orphans += 1,
        }
        key
    }
}

impl Packet {
    fn of(key: &Key, id: u32) -> Self {
        let flow = &key.flow;
        Self {
            src: flow.src,
            dst: flow.dst,
            eni: key.eni,
            id,
            direction: key.direction,
            version: flow.version,
            proto: if flow.version == 4 { flow.proto } else { 0 },
        }
    }
}

/// Takes the place of the same packet, an empty one, or that of the oldest.
fn remember(set: &mut [Option<Known>; WAYS], known: Known) {
    let same = |k: &Option<Known>| k.is_none_or(|k| k.packet == known.packet);
    let place = set.iter().position(same);
    let oldest = || {
        let by_time = |(_, k): &(usize, &Option<Known>)| k.map(|k| k.time);
        set.iter().enumerate().min_by_key(by_time).map(|(i, _)| i)
    };
    if let Some(slot) = place.or_else(oldest).and_then(|i| set.get_mut(i)) {
        *slot = Some(known);
    }
}

fn is_near(a: Timestamp, b: Timestamp) -> bool {
    a.max(b).since(a.min(b)) <= PATIENCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::FlowKey;

    fn piece(version: u8, proto: u8, id: u32, first: bool, secs: u64) -> Seen {
        let (sport, dport) = if first { (1000, 53) } else { (0, 0) };
        let flow = FlowKey {
            version,
            proto,
            sport,
            dport,
            src: [1; 16],
            ..FlowKey::default()
        };
        Seen {
            key: Key {
                flow,
                eni: 0,
                direction: Direction::Ingress,
            },
            bytes: 1500,
            flags: 0,
            time: Timestamp::from_parts(secs, 0),
            piece: Some(Piece { id, first }),
        }
    }

    #[test]
    fn later_pieces_get_the_ports_of_the_first() {
        let mut pieces = Pieces::new();
        let first = pieces.key(&piece(4, 17, 9, true, 100));
        assert_eq!(pieces.key(&piece(4, 17, 9, false, 101)), first);
        assert_eq!(pieces.key(&piece(4, 17, 8, false, 101)).flow.sport, 0);
        assert_eq!(pieces.key(&piece(4, 6, 9, false, 101)).flow.sport, 0);
        assert_eq!((pieces.charged, pieces.orphans), (1, 2));
    }

    #[test]
    fn later_pieces_of_ipv6_may_name_another_header() {
        let mut pieces = Pieces::new();
        let first = pieces.key(&piece(6, 17, 9, true, 100));
        assert_eq!(pieces.key(&piece(6, 60, 9, false, 100)), first);
    }

    #[test]
    fn an_old_number_is_not_taken_for_a_new_packet() {
        let mut pieces = Pieces::new();
        pieces.key(&piece(4, 17, 9, true, 100));
        assert_eq!(pieces.key(&piece(4, 17, 9, false, 131)).flow.sport, 0);
    }

    #[test]
    fn a_flood_of_first_pieces_forgets_the_oldest_and_takes_no_more_room() {
        let mut pieces = Pieces::new();
        for id in 0..20_000 {
            pieces.key(&piece(4, 17, id, true, 100 + u64::from(id) / 10_000));
        }
        let held: usize = pieces.sets.iter().map(|s| s.iter().flatten().count()).sum();
        assert!(held <= SETS * WAYS);
        assert_eq!(
            pieces.key(&piece(4, 17, 19_999, false, 101)).flow.sport,
            1000
        );
    }
}
