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
#[derive(Debug)]
pub struct Set {
    bytes: Vec<u8>,
    datagrams: Vec<Datagram>,
}

impl Set {
    /// UDP payloads at `places` (first byte, length) of `bytes`, as if they came from `source` to `port`. Places that lie
    /// outside are left out, and as many at the end as are no whole batch.
    pub fn new(
        bytes: Vec<u8>,
        places: impl Iterator<Item = (u32, u32)>,
        source: IpAddr,
        port: u16,
    ) -> Self {
        let inside = |place: &(u32, u32)| {
            let end = place.0.checked_add(place.1);
            end.is_some_and(|end| end as usize <= bytes.len())
        };
        let mut datagrams: Vec<Datagram> = places
            .filter(inside)
            .map(|(start, len)| Datagram {
                start,
                len,
                cut: 0,
                source,
                port,
                time: Timestamp::default(),
                order: 0,
            })
            .collect();
        if datagrams.len() > BATCH {
            datagrams.truncate(datagrams.len() / BATCH * BATCH);
        }
        Self { bytes, datagrams }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }
}

/// Memory as a source.
#[derive(Debug)]
pub struct Synthetic {
    set: Arc<Set>,
    /// The next of the set.
    next: usize,
    /// The order of the last one given.
    last: u64,
    stopped: bool,
}

impl Synthetic {
    /// Gives the datagrams of `set`, beginning with number `first`.
    pub fn new(set: Arc<Set>, first: usize) -> Self {
        let next = first.checked_rem(set.len()).unwrap_or(0) / BATCH * BATCH;
        Self {
            set,
            next,
            last: 0,
            stopped: false,
        }
    }
}

impl Source for Synthetic {
    /// The clock is read once; the packets of a batch come a nanosecond apart, and never before those of the batch before.
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        if self.stopped || self.set.is_empty() {
            batch.order = self.last;
            return Ok(Received::End);
        }
        let first = time::now().nanos().max(self.last + 1);
        let rest = self.set.datagrams.get(self.next..).unwrap_or_default();
        let given = rest.iter().take(BATCH).zip(first..).map(|(d, at)| Datagram {
            time: Timestamp::from_nanos(at),
            order: at,
            ..*d
        });
        batch.datagrams.extend(given);
        let count = batch.datagrams.len();
        self.last = first + count as u64;
        batch.order = self.last;
        self.next += count;
        if self.next >= self.set.len() {
            self.next = 0;
        }
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
        let bytes = (0..=255).cycle().take(count as usize + 4).collect();
        let places = (0..count).map(|i| (i, 4)).chain([(u32::MAX, 9), (count, 5)]);
        let set = Set::new(bytes, places, [10, 0, 0, 1].into(), 4789);
        Synthetic::new(Arc::new(set), first)
    }

    #[test]
    fn every_datagram_comes_in_turn_with_times_that_only_grow() {
        let mut source = source(600, 0);
        let mut batch = source.new_batch(3);
        let mut last = 0;
        for turn in 0..5 {
            batch.clear();
            assert_eq!(source.receive(&mut batch).unwrap(), Received::Some);
            assert_eq!(batch.datagrams.len(), BATCH);
            for (i, d) in batch.datagrams.iter().enumerate() {
                let number = turn % 2 * BATCH + i;
                assert_eq!(batch.bytes(d.start, d.len)[0], number as u8);
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
    fn a_second_receiver_may_begin_elsewhere_and_a_small_set_is_given_as_it_is() {
        assert_eq!(source(1024, 700).next, 512);
        let mut few = source(7, 0);
        let mut batch = few.new_batch(0);
        few.receive(&mut batch).unwrap();
        assert_eq!(batch.datagrams.len(), 7);
        let set = Set::new(Vec::new(), std::iter::empty(), [0, 0, 0, 0].into(), 1);
        let mut none = Synthetic::new(Arc::new(set), 5);
        assert_eq!(none.receive(&mut batch).unwrap(), Received::End);
    }
}
