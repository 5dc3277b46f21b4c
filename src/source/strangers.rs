//! Senders that were refused, the busiest of them by name.
//!
//! Takes: the sources of refused datagrams, a batch at a time. Gives: those that sent most, and how many datagrams all others sent. Holds: memory is
//! fixed, whatever is forged; named and others add up to all that were refused; a look at four places for each datagram.
//!
//! A source has one of four places, by its hash. One that finds none free wears down the weakest that is there, and takes its place when that has
//! been outweighed: who sends much is found, and a flood of sources that send one datagram each does not wash it away.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::logging::Limited;
use crate::time::Monotonic;

/// Sets of places, and places of a set.
const SETS: usize = 64;
const WAYS: usize = 4;

/// How often the log tells of refusals.
const EVERY: Duration = Duration::from_secs(60);

/// A refused source.
#[derive(Clone, Copy, Debug)]
struct Place {
    source: IpAddr,
    datagrams: u64,
    /// What others have to outweigh.
    standing: u64,
}

#[derive(Debug)]
struct Places {
    sets: [[Option<Place>; WAYS]; SETS],
    others: u64,
}

/// What is known of refused sources.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refused {
    /// The busiest, and how many datagrams of each were refused; the busiest first.
    pub sources: Vec<(IpAddr, u64)>,
    /// Refused datagrams of all others.
    pub others: u64,
}

/// The table.
#[derive(Debug)]
pub struct Strangers {
    hasher: foldhash::fast::RandomState,
    places: Mutex<Box<Places>>,
    log: Limited,
}

impl Default for Strangers {
    fn default() -> Self {
        let places = Places {
            sets: [[None; WAYS]; SETS],
            others: 0,
        };
        Self {
            hasher: foldhash::fast::RandomState::default(),
            places: Mutex::new(Box::new(places)),
            log: Limited::new(EVERY),
        }
    }
}

impl Strangers {
    /// Counts a refused datagram of each of `sources`; once for a batch. Tells the log now and then.
    pub fn note(&self, sources: &[IpAddr], now: Monotonic) {
        let mut places = self.lock();
        for source in sources {
            let set = self.hasher.hash_one(source) as usize % SETS;
            places.count(set, *source);
        }
        drop(places);
        let first = sources.first();
        if let Some((source, suppressed)) = first.zip(self.log.pass(now.nanos())) {
            tracing::warn!(
                %source,
                suppressed,
                "Datagrams of a sender outside allowed_sources were refused; /status has who sends most."
            );
        }
    }

    /// The `most` busiest, and the others.
    pub fn busiest(&self, most: usize) -> Refused {
        let places = self.lock();
        let named = places.sets.iter().flatten().flatten();
        let mut sources: Vec<_> = named.map(|p| (p.source, p.datagrams)).collect();
        let others = places.others;
        drop(places);
        sources.sort_by_key(|(source, datagrams)| (std::cmp::Reverse(*datagrams), *source));
        let rest = sources.split_off(most.min(sources.len()));
        Refused {
            sources,
            others: others + rest.iter().map(|(_, n)| n).sum::<u64>(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Box<Places>> {
        // numbers, changed one at a time: a panic leaves them good
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn count(&mut self, set: usize, source: IpAddr) {
        let Some(ways) = self.sets.get_mut(set) else {
            return;
        };
        let one = Place {
            source,
            datagrams: 1,
            standing: 1,
        };
        if let Some(place) = ways.iter_mut().flatten().find(|p| p.source == source) {
            place.datagrams += 1;
            place.standing += 1;
        } else if let Some(free) = ways.iter_mut().find(|way| way.is_none()) {
            *free = Some(one);
        } else if let Some(weakest) = ways.iter_mut().flatten().min_by_key(|p| p.standing) {
            weakest.standing -= 1;
            if weakest.standing > 0 {
                self.others += 1;
            } else {
                self.others += std::mem::replace(weakest, one).datagrams;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forged(n: u32) -> IpAddr {
        IpAddr::from((0xc600_0000 + n).to_be_bytes())
    }

    fn total(refused: &Refused) -> u64 {
        refused.others + refused.sources.iter().map(|(_, n)| n).sum::<u64>()
    }

    #[test]
    fn few_sources_are_counted_to_the_datagram_and_the_busiest_comes_first() {
        let strangers = Strangers::default();
        let (one, two) = (forged(1), forged(2));
        strangers.note(&[one, two, two], Monotonic::default());
        strangers.note(&[two], Monotonic::default());
        let told = strangers.busiest(8);
        assert_eq!(told.sources, [(two, 3), (one, 1)]);
        let told = strangers.busiest(1);
        assert_eq!((told.sources, told.others), (vec![(two, 3)], 1));
    }

    #[test]
    fn a_flood_of_forged_sources_takes_no_memory_and_does_not_hide_who_sends_most() {
        let strangers = Strangers::default();
        let busy = IpAddr::from([192, 0, 2, 1]);
        for n in 0..100_000 {
            strangers.note(&[forged(n)], Monotonic::default());
            if n % 20 == 0 {
                strangers.note(&[busy; 2], Monotonic::default());
            }
        }
        let told = strangers.busiest(usize::MAX);
        assert_eq!(total(&told), 110_000);
        assert!(told.sources.len() <= SETS * WAYS);
        assert_eq!(
            told.sources.first().map(|(source, _)| *source),
            Some(busy),
            "{told:?}"
        );
    }
}
