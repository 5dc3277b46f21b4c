//! Counters and gauges: what a number is, and how threads may touch one.
//!
//! Takes: nothing. Gives: [`Counter`], [`Gauge`], [`Heartbeat`], [`Delays`]: relaxed atomics that any thread may
//! read while their owners write. Holds: this room knows no packet and no other room; each room owns
//! the numbers it makes, and whoever shows them (`control`) reads them when asked. Writers add once per
//! batch, not per packet, so that sharing costs nothing that can be measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`; adding zero touches nothing.
    pub fn add(&self, n: u64) {
        if n != 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// A gauge at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises the value to `value` where it was lower.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// Adds `n` and returns the new value.
    pub fn add(&self, n: u64) -> u64 {
        self.0.fetch_add(n, Ordering::AcqRel).wrapping_add(n)
    }

    /// Subtracts `n` and returns the new value.
    pub fn sub(&self, n: u64) -> u64 {
        self.0.fetch_sub(n, Ordering::AcqRel).wrapping_sub(n)
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The last time that a thread said it was alive, in nanoseconds of the monotonic clock.
/// The reader passes the time in, as the writer does: this room reads no clock.
#[derive(Debug, Default)]
pub struct Heartbeat(AtomicU64);

impl Heartbeat {
    /// A heartbeat that has never beaten.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Records a beat at `now` (monotonic nanoseconds).
    pub fn beat(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// How long ago the last beat was, seen from `now` (monotonic nanoseconds).
    pub fn age(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.0.load(Ordering::Relaxed)))
    }
}

/// How many delays there can be told apart: each is twice the one before, the first a microsecond, the last half a minute.
const STEPS: usize = 26;

/// How long something took, each time, in steps of two.
#[derive(Debug)]
pub struct Delays([Counter; STEPS]);

impl Default for Delays {
    fn default() -> Self {
        Self([const { Counter::new() }; STEPS])
    }
}

impl Delays {
    /// Counts one.
    pub fn note(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let step = (u64::BITS - micros.leading_zeros()) as usize;
        if let Some(counter) = self.0.get(step.min(STEPS - 1)) {
            counter.add(1);
        }
    }

    /// A delay that this share of all (0 to 1) did not exceed: the end of its step. Zero when there was none.
    pub fn quantile(&self, share: f64) -> Duration {
        let counts = || self.0.iter().map(Counter::value);
        let all: u64 = counts().sum();
        let mut left = (all as f64 * share).ceil() as u64;
        for (step, count) in counts().enumerate() {
            if count > 0 && count >= left {
                return Duration::from_micros(1 << step);
            }
            left -= count.min(left);
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_end_of_the_step_that_holds_it() {
        let delays = Delays::default();
        assert_eq!(delays.quantile(1.0), Duration::ZERO);
        for micros in [0, 3, 3, 3, 900] {
            delays.note(Duration::from_micros(micros));
        }
        let told = [0.0, 0.5, 0.8, 1.0].map(|share| delays.quantile(share).as_micros());
        assert_eq!(told, [1, 4, 4, 1024]);
        delays.note(Duration::MAX);
        assert_eq!(delays.quantile(1.0), Duration::from_micros(1 << 25));
    }
}
