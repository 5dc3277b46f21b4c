//! How long to wait before something is tried again.
//!
//! Takes: nothing. Gives: waits, each about twice the last, from one second to one minute. Holds: half of each is chance, so that sensors
//! that lost the same destination do not come back to it together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The waits of a queue.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// From the beginning.
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait; not shorter than what the destination asked for, within the longest.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let (half, all) = (self.next / 2, self.next);
        self.next = (all * 2).min(LONGEST);
        let wait = half + half.mul_f64(chance());
        wait.max(asked.unwrap_or_default()).min(LONGEST)
    }

    /// Something went well.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }
}

/// From 0 to 1: the keys of a hash map are random.
fn chance() -> f64 {
    let random = RandomState::new().hash_one(());
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_with_chance_in_them_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = backoff.wait(None).as_secs_f64();
            let expected = f64::from(expected);
            assert!((expected / 2.0..=expected).contains(&wait), "{wait}");
        }
        backoff.reset();
        assert!(backoff.wait(None) <= FIRST);
        let waits: Vec<_> = (0..20).map(|_| Backoff::new().wait(None)).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn what_the_destination_asks_for_counts_within_a_minute() {
        let asked = |secs| Backoff::new().wait(Some(Duration::from_secs(secs)));
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(7000), LONGEST);
    }
}
