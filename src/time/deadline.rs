//! By when something is to have ended, where that may become sooner while it is waited for.
//!
//! Takes: how long it may last. Gives: points in time, the same to all who hold it. Holds: a deadline is never put off.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time::{Monotonic, monotonic};

/// A deadline that is shared with who may hasten it.
#[derive(Clone, Debug)]
pub struct Deadline(Arc<Mutex<Span>>);

#[derive(Clone, Copy, Debug)]
struct Span {
    from: Monotonic,
    length: Duration,
}

impl Deadline {
    /// So long from now on.
    pub fn within(length: Duration) -> Self {
        let from = monotonic();
        Self(Arc::new(Mutex::new(Span { from, length })))
    }

    /// No longer than this, from now on.
    pub fn hasten(&self, length: Duration) {
        let mut span = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = monotonic();
        if from.plus(length) < span.end() {
            *span = Span { from, length };
        }
    }

    /// When it is over.
    pub fn end(&self) -> Monotonic {
        self.span().end()
    }

    /// When so many eighths of it are over, and `least` at the least.
    pub fn eighths(&self, eighths: u32, least: Duration) -> Monotonic {
        let span = self.span();
        span.from.plus((span.length / 8 * eighths).max(least))
    }

    fn span(&self) -> Span {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Span {
    fn end(self) -> Monotonic {
        self.from.plus(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_hastened_for_all_who_hold_it_and_never_put_off() {
        let hour = Duration::from_secs(3600);
        let deadline = Deadline::within(hour);
        let held = deadline.clone();
        let first = held.end();
        deadline.hasten(2 * hour);
        assert_eq!(held.end(), first);
        deadline.hasten(Duration::from_secs(8));
        let (now, none) = (monotonic(), Duration::ZERO);
        assert!(held.end() <= now.plus(Duration::from_secs(8)));
        assert_eq!(
            held.end().since(held.eighths(4, none)),
            Duration::from_secs(4)
        );
        assert!(held.eighths(4, hour) > held.end());
    }
}
