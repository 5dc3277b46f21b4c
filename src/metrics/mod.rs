//! Counters and gauges: what a number is, and how threads may touch one.
//!
//! Takes: nothing. Gives: [`Counter`], [`Gauge`], [`Heartbeat`]: relaxed atomics that any thread may
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

    /// Subtracts `n`.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::AcqRel);
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
