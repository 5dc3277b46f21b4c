//! Whether the wall clock can be trusted with the age of files.
//!
//! Takes: both clocks, now and then. Gives: [`Leaps`]: whether an age counts now. Holds: a clock that is set forward by mistake
//! deletes nothing for an hour.

use std::time::Duration;

use crate::time::{Monotonic, Timestamp};

/// A clock that goes so far ahead of the other one was set.
const LEAP: Duration = Duration::from_secs(60);

/// How long nothing is deleted for its age after that.
const HOLD: Duration = Duration::from_secs(3600);

/// What both clocks said last.
#[derive(Debug, Default)]
pub struct Leaps {
    last: Option<(Timestamp, Monotonic)>,
    hold_until: Option<Monotonic>,
}

impl Leaps {
    /// Takes note of the time. Gives by how much the wall clock leapt forward, when it just did.
    pub fn note(&mut self, wall: Timestamp, now: Monotonic) -> Option<Duration> {
        let (before, then) = self.last.replace((wall, now))?;
        let ahead = wall.since(before).saturating_sub(now.since(then));
        let leapt = ahead > LEAP;
        if leapt {
            self.hold_until = Some(now.plus(HOLD));
        }
        leapt.then_some(ahead)
    }

    /// Whether the age of files counts.
    pub fn trusts(&self, now: Monotonic) -> bool {
        self.hold_until.is_none_or(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(seconds: u64) -> Timestamp {
        Timestamp::from_parts(1_800_000_000 + seconds, 0)
    }

    fn mono(seconds: u64) -> Monotonic {
        Monotonic::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_clock_set_forward_is_not_trusted_for_an_hour() {
        let mut leaps = Leaps::default();
        assert_eq!(leaps.note(wall(0), mono(0)), None);
        assert_eq!(leaps.note(wall(50), mono(1)), None, "a small step is none");
        assert!(leaps.trusts(mono(1)));
        let leapt = leaps.note(wall(86_400 * 365), mono(2));
        assert_eq!(leapt, Some(Duration::from_secs(86_400 * 365 - 51)));
        assert!(!leaps.trusts(mono(2)) && !leaps.trusts(mono(3601)));
        assert!(leaps.trusts(mono(3602)));
    }

    #[test]
    fn a_clock_set_back_and_one_that_merely_runs_are_trusted() {
        let mut leaps = Leaps::default();
        for (w, m) in [(1000, 0), (10, 1), (11, 2), (7211, 7202)] {
            assert_eq!(leaps.note(wall(w), mono(m)), None);
            assert!(leaps.trusts(mono(m)));
        }
    }
}
