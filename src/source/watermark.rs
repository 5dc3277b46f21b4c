//! How far time has passed for a live source.
//!
//! Takes: the times of packets as they are read, and calls that brought none. Gives: the order below which nothing more will come.
//! Holds: a packet that was stamped earlier and read later than another, by no more than the slack, is never behind it.
//!
//! While packets come, their own times tell. While none come, the clock that stamps them does: the system's, read again; a network
//! card's, which cannot be read here, as its last time and what has gone by since.

use std::time::Duration;

use crate::source::Clock;
use crate::time::{self, Monotonic, Timestamp};

/// How far back in time a packet may stand behind one that was read earlier: the kernel stamps a packet before it queues it, on
/// whichever core the interrupt ran.
const DISORDER: Duration = Duration::from_millis(10);

/// The watermark of one source.
#[derive(Debug)]
pub(super) struct Watermark {
    clock: Clock,
    newest: Timestamp,
    /// When the newest was read; kept for a card's clock only.
    read_at: Monotonic,
    /// How long a packet may lie in the kernel before a call can bring it.
    delay: Duration,
}

impl Watermark {
    /// For times of `clock`, of packets that may lie in the kernel for `delay` before a call can bring them.
    pub(super) fn new(clock: Clock, delay: Duration) -> Self {
        Self {
            clock,
            newest: time::now(),
            read_at: time::monotonic(),
            delay,
        }
    }

    /// A packet has this time.
    pub(super) fn see(&mut self, time: Timestamp) {
        self.newest = self.newest.max(time);
    }

    /// The order after a call that brought packets.
    pub(super) fn after_some(&mut self) -> u64 {
        if self.clock == Clock::Hardware {
            self.read_at = time::monotonic();
        }
        self.newest.saturating_sub(DISORDER).nanos()
    }

    /// The order after a call that brought nothing: all that was stamped before it has been read.
    pub(super) fn after_nothing(&mut self) -> u64 {
        let now = match self.clock {
            Clock::Kernel => time::now(),
            Clock::Hardware => {
                let gone_by = time::monotonic().since(self.read_at);
                self.newest.saturating_add(gone_by)
            }
        };
        let read = now.saturating_sub(self.delay);
        self.newest.max(read).saturating_sub(DISORDER).nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_with_packets_and_without_them() {
        for clock in [Clock::Kernel, Clock::Hardware] {
            let mut watermark = Watermark::new(clock, Duration::ZERO);
            let later = time::now().saturating_add(Duration::from_secs(1));
            watermark.see(later);
            let after = later.saturating_sub(DISORDER).nanos();
            assert_eq!(watermark.after_some(), after);
            assert!(watermark.after_nothing() >= after, "it never goes back");
        }
    }

    #[test]
    fn what_may_still_lie_in_the_kernel_is_waited_for() {
        let mut watermark = Watermark::new(Clock::Kernel, Duration::from_secs(5));
        watermark.newest = Timestamp::default();
        let passed = Timestamp::from_nanos(watermark.after_nothing());
        assert!(time::now().since(passed) >= Duration::from_secs(5));
    }
}
