//! Room for those who send little, for when there is room for nobody else.
//!
//! Takes: packets that would be dropped because every batch is with the workers, or a worker's queue is full. Gives: those of them that found a
//! place, as one more batch, for when there is room again. Holds: a source has no more places than are left, so that one that sends much takes
//! half of them and one that sends little finds some; memory is bounded; packets keep their order, and go before any later one.

use std::hash::BuildHasher;

use crate::packet::{Batch, Packet};
use crate::source::Source;

/// Packets, bytes, and places for the counts of sources: those that meet in one are counted as one.
const MOST: usize = 256;
const MOST_BYTES: usize = 1 << 20;
const SOURCES: usize = 512;

/// Packets that wait for a batch to carry them.
#[derive(Debug)]
pub(super) struct Reserve {
    batch: Batch,
    hasher: foldhash::fast::RandomState,
    counts: Box<[u16; SOURCES]>,
}

impl Reserve {
    /// An empty one, of batches of `source`.
    pub(super) fn new(source: &dyn Source, receiver: u16) -> Self {
        Self {
            batch: source.new_batch(receiver),
            hasher: foldhash::fast::RandomState::default(),
            counts: Box::new([0; SOURCES]),
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.packets.is_empty()
    }

    /// Takes a packet of `from`, if its source may have a place.
    pub(super) fn save(&mut self, from: &Batch, packet: &Packet) -> bool {
        let most = MOST.min(self.batch.capacity());
        let left = most.saturating_sub(self.batch.packets.len());
        let place = self.hasher.hash_one(packet.source) as usize % SOURCES;
        let Some(count) = self.counts.get_mut(place) else {
            return false;
        };
        let frame = from.frame(packet);
        if usize::from(*count) >= left || self.batch.aside() + frame.len() > MOST_BYTES {
            return false;
        }
        let Some(start) = self.batch.set_aside(frame) else {
            return false;
        };
        *count += 1;
        self.batch.packets.push(Packet { start, ..*packet });
        self.batch.order = self.batch.order.max(from.order);
        true
    }

    /// Trades what waits for an empty batch.
    pub(super) fn trade(&mut self, empty: &mut Batch) {
        std::mem::swap(&mut self.batch, empty);
        self.counts.fill(0);
    }

    /// What waits, for counting it, and nothing waits any more.
    pub(super) fn give_up(&mut self, mut count: impl FnMut(&Packet)) {
        self.batch.packets.iter().for_each(&mut count);
        self.batch.clear();
        self.counts.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::packet::Vni;
    use crate::source::synthetic::{Set, Synthetic};
    use crate::time::Timestamp;

    fn reserve() -> Reserve {
        Reserve::new(&Synthetic::new(Arc::new(Set::default()), 0), 0)
    }

    fn packet(source: [u8; 4], order: u64, batch: &Batch) -> Packet {
        Packet {
            start: 0,
            len: batch.room() as u32,
            cut: 0,
            datagram_len: 0,
            source: IpAddr::from(source),
            vni: Vni::new(7),
            endpoint: None,
            time: Timestamp::default(),
            order,
        }
    }

    const ELEPHANT: [u8; 4] = [10, 0, 0, 1];

    #[test]
    fn an_elephant_takes_half_and_mice_that_come_later_find_a_place() {
        let (mut reserve, batch) = (reserve(), Batch::new(0, 4, 60));
        let saved = |reserve: &mut Reserve, source| {
            let mut save = |order| reserve.save(&batch, &packet(source, order, &batch));
            (0..10_000).filter(|n| save(*n)).count()
        };
        assert_eq!(saved(&mut reserve, ELEPHANT), MOST / 2);
        assert!(saved(&mut reserve, [10, 0, 0, 2]) >= MOST / 5);
        for mouse in 3..20 {
            assert!(
                reserve.save(&batch, &packet([10, 0, 0, mouse], 0, &batch)),
                "{mouse}"
            );
        }
    }

    #[test]
    fn what_was_saved_comes_out_in_order_with_its_bytes_and_leaves_room() {
        let (mut reserve, mut batch) = (reserve(), Batch::new(0, 4, 3));
        batch.append(b"abc");
        batch.order = 9;
        let one = Packet {
            len: 3,
            ..packet(ELEPHANT, 5, &batch)
        };
        assert!(reserve.save(&batch, &one) && reserve.save(&batch, &Packet { order: 6, ..one }));
        let mut empty = Batch::new(0, 4, 0);
        reserve.trade(&mut empty);
        let orders: Vec<u64> = empty.packets.iter().map(|p| p.order).collect();
        assert_eq!((orders, empty.order), (vec![5, 6], 9));
        assert_eq!(empty.frame(&empty.packets[1]), b"abc");
        assert!(reserve.is_empty() && reserve.counts.iter().all(|n| *n == 0));
    }

    #[test]
    fn memory_is_bounded_whatever_the_size_of_packets() {
        let (mut reserve, batch) = (reserve(), Batch::new(0, 4, 60_000));
        let mut save = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            reserve.save(&batch, &packet([a, b, c, d], 0, &batch))
        };
        let saved = (0..1_000).map(&mut save).filter(|saved| *saved).count();
        assert_eq!(saved, MOST_BYTES / 60_000);
    }
}
