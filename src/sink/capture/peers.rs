//! What a writer knows of the peers, and which of them a file has met.
//!
//! Takes: peers as the workers meet them. Gives: [`Register`] (all of them, shared), [`Peers`] (a
//! writer's own, with what files have already told of their ledgers) and [`Slots`] (those of one file, in the order of their first packet: the interfaces of a
//! pcapng file). Holds: over all files of a peer, the statistics told add up to its ledger.

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;

use crate::packet::{DropReason, Peer, Tally};
use crate::sink::capture::run::Run;

/// What interface statistics say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Told {
    pub(super) received: u64,
    pub(super) dropped: u64,
    pub(super) accepted: u64,
}

impl Told {
    /// Accepted by the filter is what was written or got lost after it had passed the filter.
    fn of(tally: &Tally) -> Self {
        let after = [
            DropReason::BufferFull,
            DropReason::OverShare,
            DropReason::WriteFailed,
            DropReason::Shutdown,
            DropReason::ThreadLost,
        ];
        let lost = |r: &DropReason| tally.dropped.get(r.index()).copied().unwrap_or(0);
        Self {
            received: tally.received,
            dropped: tally.dropped_total(),
            accepted: tally.written + after.iter().map(lost).sum::<u64>(),
        }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            accepted: self.accepted.saturating_sub(earlier.accepted),
        }
    }
}

/// All peers that any worker has met, by id. A worker locks it when it meets a peer for the first
/// time, a writer likewise; never for a packet.
#[derive(Debug, Default)]
pub(super) struct Register(RwLock<Vec<Option<Arc<Peer>>>>);

impl Register {
    /// Takes note of a peer.
    pub(super) fn meet(&self, peer: &Arc<Peer>) {
        let (mut list, index) = (
            self.0.write().unwrap_or_else(PoisonError::into_inner),
            peer.id,
        );
        place(&mut list, index).get_or_insert_with(|| Arc::clone(peer));
    }

    /// The peer with this id.
    pub(super) fn get(&self, id: u32) -> Option<Arc<Peer>> {
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        list.get(id as usize)?.clone()
    }
}

/// The place of number `id` in a list that grows to have one.
fn place<T>(list: &mut Vec<Option<T>>, id: u32) -> &mut Option<T> {
    let index = id as usize;
    if index >= list.len() {
        list.resize_with(index + 1, || None);
    }
    &mut list[index]
}

/// The peers that a writer has to do with, by id.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Option<(Arc<Peer>, Told)>>);

impl Peers {
    /// The peer with this id.
    pub(super) fn get(&mut self, id: u32, register: &Register) -> Option<&Arc<Peer>> {
        let place = place(&mut self.0, id);
        if place.is_none() {
            *place = register.get(id).map(|peer| (peer, Told::default()));
        }
        place.as_ref().map(|(peer, _)| peer)
    }

    /// What happened to a peer's packets since the last time that this was asked.
    pub(super) fn news(&mut self, id: u32) -> Told {
        let Some(Some((peer, told))) = self.0.get_mut(id as usize) else {
            return Told::default();
        };
        let now = Told::of(&peer.ledger.read());
        now.since(std::mem::replace(told, now))
    }
}

/// A peer in a file.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u32,
    pub(super) peer: Option<Arc<Peer>>,
    /// Written and not yet in its ledger.
    packets: u64,
    bytes: u64,
}

/// The peers of one file.
#[derive(Debug, Default)]
pub(super) struct Slots {
    list: Vec<Slot>,
    index: HashMap<u32, u32, foldhash::fast::FixedState>,
    /// The last question and its answer: packets of a peer come in trains.
    last: Option<(u32, u32)>,
    touched: Vec<u32>,
}

impl Slots {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// In the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.list.iter()
    }

    /// The number of a peer.
    pub(super) fn find(&mut self, id: u32) -> Option<u32> {
        match self.last {
            Some((last, slot)) if last == id => Some(slot),
            _ => {
                let slot = *self.index.get(&id)?;
                self.last = Some((id, slot));
                Some(slot)
            }
        }
    }

    /// Whether the records of a run need other numbers than 0, the one that they were made with; `None` when
    /// a peer of theirs has no number yet.
    pub(super) fn numbers(&mut self, run: &Run, from: usize, to: usize) -> Option<bool> {
        let mut other = false;
        let mut ask = |id| {
            let slot = self.find(id);
            other |= slot.is_some_and(|slot| slot > 0);
            slot.is_some()
        };
        let known = match run.shares(from, to) {
            Some(shares) => shares.iter().all(|share| ask(share.peer)),
            None => run.marks(from, to).iter().all(|mark| ask(mark.peer)),
        };
        known.then_some(other)
    }

    /// Gives the next number to a peer.
    pub(super) fn add(&mut self, id: u32, peer: Option<Arc<Peer>>) -> u32 {
        let slot = self.list.len() as u32;
        self.list.push(Slot {
            id,
            peer,
            packets: 0,
            bytes: 0,
        });
        self.index.insert(id, slot);
        slot
    }

    /// Forgets all but the first `len`: the others' interface blocks were not written.
    pub(super) fn truncate(&mut self, len: usize) {
        for slot in self.list.drain(len.min(self.list.len())..) {
            self.index.remove(&slot.id);
        }
        self.last = None;
    }

    /// Counts packets as written, for now only here.
    pub(super) fn count(&mut self, slot: u32, packets: u64, bytes: u64) {
        let Some(place) = self.list.get_mut(slot as usize) else {
            return;
        };
        if place.packets == 0 {
            self.touched.push(slot);
        }
        place.packets += packets;
        place.bytes += bytes;
    }

    /// Adds what was counted to the peers' ledgers; gives packets and bytes of all.
    pub(super) fn settle(&mut self) -> (u64, u64) {
        let (mut packets, mut bytes) = (0, 0);
        for slot in self.touched.drain(..) {
            let Some(place) = self.list.get_mut(slot as usize) else {
                continue;
            };
            if let Some(peer) = &place.peer {
                peer.ledger.add_written(place.packets, place.bytes);
            }
            packets += std::mem::take(&mut place.packets);
            bytes += std::mem::take(&mut place.bytes);
        }
        (packets, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::capture::tests::peer;

    #[test]
    fn the_news_of_a_peer_add_up_to_its_ledger() {
        let (mut peers, register, one) = (Peers::default(), Register::default(), peer(3));
        register.meet(&one);
        assert_eq!(peers.get(3, &register).map(|p| p.id), Some(3));
        assert!(peers.get(4, &register).is_none());
        let mut tally = Tally::default();
        (0..3).for_each(|_| tally.receive(60));
        tally.drop(DropReason::WriteFailed);
        one.ledger.add(&tally);
        one.ledger.add_written(2, 120);
        let first = Told {
            received: 3,
            dropped: 1,
            accepted: 3,
        };
        assert_eq!(peers.news(3), first);
        assert_eq!(peers.news(3), Told::default());
        one.ledger.add(&tally);
        assert_eq!(
            peers.news(3),
            Told {
                received: 3,
                dropped: 1,
                accepted: 1
            }
        );
    }

    #[test]
    fn interfaces_whose_block_was_not_written_are_forgotten() {
        let mut slots = Slots::default();
        assert_eq!((slots.add(7, None), slots.add(9, None)), (0, 1));
        assert_eq!(slots.find(9), Some(1));
        slots.truncate(1);
        assert_eq!((slots.find(7), slots.find(9)), (Some(0), None));
        assert_eq!(slots.add(5, None), 1);
    }
}
