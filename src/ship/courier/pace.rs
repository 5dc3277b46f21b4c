//! How fast a queue may send.
//!
//! Takes: bytes a second, or no limit. Gives: for each piece that is to be sent, how long to wait before. Holds: pieces are small against a second, so that no
//! burst is longer than one of them; time in which nothing was sent is not made up for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time::{self, Monotonic};

/// The largest piece, and the one where there is no limit.
const LARGEST: usize = 64 * 1024;
const SMALLEST: usize = 1024;
/// A second is so many pieces.
const PIECES: u64 = 16;

/// The pace of a queue; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Bytes a second.
    limit: Option<u64>,
    /// When the next piece may go.
    free: Arc<Mutex<Monotonic>>,
}

impl Pace {
    /// Of so many bytes a second.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            limit: limit.map(|limit| limit.max(1)),
            free: Arc::default(),
        }
    }

    /// The most bytes of a piece.
    pub(super) fn piece(&self) -> usize {
        let share = self.limit.map_or(u64::MAX, |limit| limit / PIECES);
        usize::try_from(share)
            .unwrap_or(usize::MAX)
            .clamp(SMALLEST, LARGEST)
    }

    /// How long a piece has to wait; it counts as sent then.
    pub(super) fn take(&self, bytes: usize) -> Duration {
        self.take_at(time::monotonic(), bytes)
    }

    fn take_at(&self, now: Monotonic, bytes: usize) -> Duration {
        let Some(limit) = self.limit else {
            return Duration::ZERO;
        };
        let lasts = Duration::from_secs_f64(bytes as f64 / limit as f64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = now.max(*free);
        *free = at.plus(lasts);
        at.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_waits() {
        let pace = Pace::new(None);
        assert_eq!(
            (pace.piece(), pace.take(1 << 30)),
            (LARGEST, Duration::ZERO)
        );
    }

    #[test]
    fn bytes_are_spread_over_the_seconds_that_they_last_and_a_pause_earns_nothing() {
        let pace = Pace::new(Some(100 * 1024));
        assert_eq!(pace.piece(), 6400);
        let at = |secs: u64| Monotonic::from_nanos(secs * 1_000_000_000);
        let waits: Vec<_> = (0..32).map(|_| pace.take_at(at(1), 6400)).collect();
        assert_eq!(waits[0], Duration::ZERO);
        assert_eq!(waits[16].as_secs_f64(), 1.0);
        assert_eq!(pace.take_at(at(1), 6400).as_secs_f64(), 2.0);
        assert_eq!(pace.take_at(at(100), 6400), Duration::ZERO);
        assert!(!pace.take_at(at(100), 6400).is_zero());
    }

    #[test]
    fn a_piece_is_small_against_a_second_and_never_nothing() {
        let piece = |limit| Pace::new(Some(limit)).piece();
        assert_eq!((piece(0), piece(20_000)), (1024, 1250));
        assert_eq!(piece(1 << 30), LARGEST);
    }
}
