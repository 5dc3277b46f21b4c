//! The source that needs no network: datagrams out of memory, as fast as they are taken.
//!
//! Takes: datagrams that somebody made ([`Set`]). Gives: the same ones again and again, with the time of their
//! batch, until it is stopped. Holds: each batch has all bytes in its arena from the beginning, so that filling it again is
//! writing descriptors, and this source is never what a measurement measures.

use std::net::IpAddr;
use std::sync::Arc;

use crate::packet::{Batch, Datagram};
use crate::source::{Received, Source};
use crate::time::{self, Timestamp};

/// Datagrams of a batch.
pub const BATCH: usize = 256;

/// Datagrams side by side in memory.
#[derive(Debug, Default)]
pub struct Set {
    bytes: Vec<u8>,
    /// Descriptors of each filling of a batch.
    fillings: Vec<Vec<Datagram>>,
}

impl Set {
    /// UDP payloads at `places` (first byte, length) of `bytes`, as if they came from `source` to `port`. Places that lie
    /// outside are left out.
    pub fn new(bytes: Vec<u8>, places: &[(u32, u32)], source: IpAddr, port: u16) -> Self {
        let datagram = |&(start, len): &(u32, u32)| Datagram {
            start,
            len,
            cut: 0,
            source,
            port,
            time: Timestamp::default(),
            order: 0,
        };
        let inside = |d: &Datagram| {
            let end = d.start.checked_add(d.len);
            end.is_some_and(|end| end as usize <= bytes.len())
        };
        let all: Vec<Datagram> = places.iter().map(datagram).filter(inside).collect();
        let fillings = all.chunks(BATCH).map(<[_]>::to_vec).collect();
        Self { bytes, fillings }
    }
}

/// Memory as a source.
#[derive(Debug)]
pub struct Synthetic {
    set: Arc<Set>,
    /// The next filling.
    next: usize,
    /// The order of the last one given.
    last: u64,
    stopped: bool,
}

impl Synthetic {
    /// Gives the datagrams of `set`, beginning with those of filling number `first`.
    pub fn new(set: Arc<Set>, first: usize) -> Self {
        Self {
            set,
            next: first,
            last: 0,
            stopped: false,
        }
    }
}

impl Source for Synthetic {
    /// The clock is read once; the packets of a batch come a nanosecond apart, and never before those of the batch before.
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        batch.order = self.last;
        let count = self.set.fillings.len();
        let filling = self.set.fillings.get(self.next % count.max(1));
        let Some(filling) = filling.filter(|_| !self.stopped) else {
            return Ok(Received::End);
        };
        self.next += 1;
        let first = time::now().nanos().max(self.last + 1);
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
        let mut batch = Batch::new(receiver, BATCH, self.set.bytes.len());
        batch.arena_mut().copy_from_slice(&self.set.bytes);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(count: u32, first: usize) -> Synthetic {
        let bytes: Vec<u8> = (0..count).flat_map(u32::to_be_bytes).collect();
        let places: Vec<_> = (0..count).map(|i| (4 * i, 4)).collect();
        let places = [places, vec![(u32::MAX, 9)]].concat();
        let set = Set::new(bytes, &places, [10, 0, 0, 1].into(), 4789);
        Synthetic::new(Arc::new(set), first)
    }

    fn numbers(source: &mut Synthetic, batch: &mut Batch) -> Vec<u32> {
        batch.clear();
        assert_eq!(source.receive(batch).unwrap(), Received::Some);
        let bytes = |d: &Datagram| batch.bytes(d.start, d.len).try_into().unwrap();
        let numbers = batch.datagrams.iter().map(|d| u32::from_be_bytes(bytes(d)));
        numbers.collect()
    }

    #[test]
    fn every_datagram_comes_in_turn_whichever_batch_is_filled() {
        let mut source = source(4 * BATCH as u32, 1);
        let mut batches = [source.new_batch(3), source.new_batch(3)];
        for turn in 1..10 {
            let numbers = numbers(&mut source, &mut batches[turn % 2]);
            let first = (turn % 4 * BATCH) as u32;
            assert!(numbers.into_iter().eq(first..first + BATCH as u32));
        }
    }

    #[test]
    fn times_only_grow_within_and_between_batches_until_it_is_stopped() {
        let mut source = source(512, 0);
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
        let mut few = source(7, 0);
        let mut batch = few.new_batch(0);
        assert_eq!(numbers(&mut few, &mut batch), [0, 1, 2, 3, 4, 5, 6]);
        let mut none = Synthetic::new(Arc::default(), 0);
        let mut batch = none.new_batch(0);
        assert_eq!(none.receive(&mut batch).unwrap(), Received::End);
    }
}
