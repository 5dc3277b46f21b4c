//! Files that did not arrive, and how often that was tried.
//!
//! Takes: names of files whose own fault it may be. Gives: whether one has failed so often that the others need not wait for it, and whether there is any hope left.
//! Holds: only files that wait; what one worker has seen its follower does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ship::Entry;
use crate::time::{self, Monotonic};

/// What fails as often may do so for ever.
const FEW: u32 = 4;
/// A disk or a server that only had a hiccup has got over it by then.
const LONG: Duration = Duration::from_secs(120);

/// Attempts by the names of files.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<String, Attempt>);

#[derive(Clone, Copy, Debug)]
struct Attempt {
    count: u32,
    first: Monotonic,
}

impl Attempts {
    /// It has failed once more.
    pub(super) fn failed(&mut self, name: &str) {
        let attempt = self.0.entry(name.to_owned()).or_insert_with(|| Attempt {
            count: 0,
            first: time::monotonic(),
        });
        attempt.count += 1;
    }

    /// How often it has failed.
    pub(super) fn count(&self, name: &str) -> u32 {
        self.0.get(name).map_or(0, |attempt| attempt.count)
    }

    /// Whether it has so often that the others go first.
    pub(super) fn is_stubborn(&self, name: &str) -> bool {
        self.count(name) >= FEW
    }

    /// Whether it has often, and for long.
    pub(super) fn is_hopeless(&self, name: &str, now: Monotonic) -> bool {
        let attempt = self.0.get(name);
        let is_long = |first| now.since(first) >= LONG;
        attempt.is_some_and(|attempt| attempt.count >= FEW && is_long(attempt.first))
    }

    /// Whether none has failed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It has arrived.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Forgets those that do not wait any more.
    pub(super) fn keep(&mut self, waiting: &[Entry]) {
        if !self.0.is_empty() {
            let names: BTreeSet<_> = waiting.iter().map(|entry| entry.name.as_str()).collect();
            self.0.retain(|name, _| names.contains(name.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_often_is_stubborn_and_hopeless_only_after_a_while() {
        let mut attempts = Attempts::default();
        for _ in 0..FEW {
            assert!(!attempts.is_stubborn("a"));
            attempts.failed("a");
        }
        assert!(attempts.is_stubborn("a") && !attempts.is_stubborn("b"));
        let now = time::monotonic();
        assert!(!attempts.is_hopeless("a", now));
        assert!(attempts.is_hopeless("a", now.plus(LONG)));
        attempts.keep(&[]);
        assert!(attempts.is_empty());
    }
}
