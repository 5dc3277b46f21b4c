//! The source that needs no network: datagrams out of memory, as fast as they are taken.
//!
//! Takes: datagrams that somebody made ([`Set`]). Gives: the same ones again and again, with the time of their
//! batch, until it is stopped. Holds: a batch has its bytes in its arena from the beginning, so that filling it again is
//! writing descriptors, and this source is never what a measurement measures. Batches share the set out among them: what
//! they hold together is no larger than the set, and stays in the cache as freshly received packets do.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::packet::{Batch, Datagram};
use crate::source::{Received, Source};
use crate::time::{self, Timestamp};

/// Datagrams of a batch.
pub const BATCH: usize = 256;

/// Lots that a set is shared out in: a receiver's batches, and its spare one.
pub const LOTS: usize = 9;

/// An arena begins with the number of its lot.
const MARK: usize = size_of::<u32>();

/// Datagrams in memory.
#[derive(Debug, Default)]
pub struct Set {
    lots: Vec<Lot>,
}

/// What one batch holds: its arena, and the descriptors of each filling.
#[derive(Clone, Debug, Default)]
struct Lot {
    arena: Vec<u8>,
    fillings: Vec<Vec<Datagram>>,
}

impl Set {
    /// UDP payloads at `places` (first byte, length) of `bytes`, as if they came from `source` to `port`. Places that lie
    /// outside are left out.
    pub fn new(bytes: &[u8], places: &[(u32, u32)], source: IpAddr, port: u16) -> Self {
        let fillings = places.chunks(BATCH);
        let count = fillings.len().min(LOTS);
        let mut lots = vec![Lot::default(); count];
        for (i, places) in fillings.enumerate() {
            if let Some(lot) = lots.get_mut(i % count.max(1)) {
                lot.add((i % count.max(1)) as u32, bytes, places, source, port);
            }
        }
        Self { lots }
    }
}

impl Lot {
    fn add(&mut self, number: u32, bytes: &[u8], places: &[(u32, u32)], source: IpAddr, port: u16) {
        if self.arena.is_empty() {
            self.arena.extend_from_slice(&number.to_ne_bytes());
        }
        let mut filling = Vec::with_capacity(places.len());
        for &(start, len) in places {
            let end = (start as usize).saturating_add(len as usize);
            let Some(payload) = bytes.get(start as usize..end) else {
                continue;
            };
            filling.push(Datagram {
                start: self.arena.len() as u32,
                len,
                cut: 0,
                source,
                port,
                time: Timestamp::default(),
                order: 0,
            });
            self.arena.extend_from_slice(payload);
        }
        self.fillings.push(filling);
    }
}

/// Memory as a source.
#[derive(Debug)]
pub struct Synthetic {
    set: Arc<Set>,
    /// Batches made.
    made: AtomicUsize,
    /// Fillings given, of each lot.
    given: Vec<usize>,
    /// The order of the last one given.
    last: u64,
    stopped: bool,
}

impl Synthetic {
    /// Gives the datagrams of `set`.
    pub fn new(set: Arc<Set>) -> Self {
        Self {
            given: vec![0; set.lots.len()],
            made: AtomicUsize::new(0),
            set,
            last: 0,
            stopped: false,
        }
    }

    /// The next filling of a batch.
    fn filling(&mut self, batch: &Batch) -> Option<&[Datagram]> {
        let mark: [u8; MARK] = batch.bytes(0, MARK as u32).try_into().ok()?;
        let lot = u32::from_ne_bytes(mark) as usize;
        let given = self.given.get_mut(lot)?;
        let fillings = &self.set.lots.get(lot)?.fillings;
        let filling = fillings.get(given.checked_rem(fillings.len())?)?;
        *given += 1;
        Some(filling)
    }
}

impl Source for Synthetic {
    /// The clock is read once; the packets of a batch come a nanosecond apart, and never before those of the batch before.
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        batch.order = self.last;
        let first = time::now().nanos().max(self.last + 1);
        if self.stopped {
            return Ok(Received::End);
        }
        let Some(filling) = self.filling(batch) else {
            return Ok(Received::End);
        };
        let given = filling.iter().zip(first..).map(|(d, at)| Datagram {
            time: Timestamp::from_nanos(at),
            order: at,
            ..*d
        });
        batch.datagrams.extend(given);
        self.last = first + batch.datagrams.len() as u64;
        batch.order = self.last;
        Ok(Received::Some)
    }

    fn under_pressure(&mut self) -> bool {
        false
    }

    fn runs_away(&self) -> bool {
        false
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn new_batch(&self, receiver: u16) -> Batch {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let lot = made.checked_rem(self.set.lots.len());
        let arena = lot.and_then(|lot| self.set.lots.get(lot));
        let arena = arena.map_or(&[][..], |lot| lot.arena.as_slice());
        let mut batch = Batch::new(receiver, BATCH, arena.len());
        batch.arena_mut().copy_from_slice(arena);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(count: u32) -> Synthetic {
        let bytes: Vec<u8> = (0..count).flat_map(u32::to_be_bytes).collect();
        let places: Vec<_> = (0..count).map(|i| (4 * i, 4)).collect();
        let places = [places, vec![(u32::MAX, 9)]].concat();
        let set = Set::new(&bytes, &places, [10, 0, 0, 1].into(), 4789);
        Synthetic::new(Arc::new(set))
    }

    fn numbers(source: &mut Synthetic, batch: &mut Batch) -> Vec<u32> {
        batch.clear();
        assert_eq!(source.receive(batch).unwrap(), Received::Some);
        let bytes = |d: &Datagram| batch.bytes(d.start, d.len).try_into().unwrap();
        let numbers = batch.datagrams.iter().map(|d| u32::from_be_bytes(bytes(d)));
        numbers.collect()
    }

    #[test]
    fn the_batches_share_the_set_out_and_give_it_all_again_and_again() {
        let mut source = source(30 * BATCH as u32);
        let mut batches: Vec<_> = (0..LOTS).map(|_| source.new_batch(3)).collect();
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..12 {
            for batch in &mut batches {
                for number in numbers(&mut source, batch) {
                    *seen.entry(number).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(seen.len(), 30 * BATCH);
        assert!(seen.values().all(|n| (3..=4).contains(n)), "{seen:?}");
    }

    #[test]
    fn times_only_grow_within_and_between_batches_until_it_is_stopped() {
        let mut source = source(600);
        let mut batch = source.new_batch(0);
        let mut last = 0;
        for _ in 0..5 {
            assert_eq!(numbers(&mut source, &mut batch).len(), BATCH);
            for d in &batch.datagrams {
                assert!(d.order > last && d.order == d.time.nanos());
                last = d.order;
            }
            assert!(batch.order > last);
        }
        source.stop();
        batch.clear();
        assert_eq!(source.receive(&mut batch).unwrap(), Received::End);
        assert!(batch.datagrams.is_empty());
    }

    #[test]
    fn a_small_set_is_given_as_it_is_and_an_empty_one_ends_at_once() {
        let mut few = source(7);
        let mut batch = few.new_batch(0);
        assert_eq!(numbers(&mut few, &mut batch), [0, 1, 2, 3, 4, 5, 6]);
        let mut none = Synthetic::new(Arc::default());
        let mut batch = none.new_batch(0);
        assert_eq!(none.receive(&mut batch).unwrap(), Received::End);
    }
}
