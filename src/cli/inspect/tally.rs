//! Packets and bytes by something, the number of somethings bounded.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;

/// Packets and the bytes that they had on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, bytes: u32) {
        self.packets += 1;
        self.bytes += u64::from(bytes);
    }
}

/// Keys that are counted apart: some 100 MB of flows.
const MOST: usize = 1_000_000;

/// Counts by key. Once it is full, packets of further keys are counted together.
#[derive(Debug)]
pub(super) struct Tally<K> {
    counts: HashMap<K, Count>,
    most: usize,
    /// Packets whose key found no room.
    pub(super) beyond: Count,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self::bounded(MOST)
    }
}

impl<K> Tally<K> {
    /// With room for `most` keys.
    pub(super) fn bounded(most: usize) -> Self {
        Self {
            counts: HashMap::new(),
            most,
            beyond: Count::default(),
        }
    }
}

impl<K: Copy + Eq + Hash + Ord> Tally<K> {
    pub(super) fn add(&mut self, key: K, bytes: u32) {
        if let Some(count) = self.counts.get_mut(&key) {
            count.add(bytes);
        } else if self.counts.len() < self.most {
            self.counts.entry(key).or_default().add(bytes);
        } else {
            self.beyond.add(bytes);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// The keys with most bytes, largest first; equals in the order of the keys.
    pub(super) fn top(&self, most: usize) -> Vec<(K, Count)> {
        let mut all: Vec<_> = self.counts.iter().map(|(k, c)| (*k, *c)).collect();
        all.sort_unstable_by(|(a, x), (b, y)| y.bytes.cmp(&x.bytes).then(a.cmp(b)));
        all.truncate(most);
        all
    }
}
