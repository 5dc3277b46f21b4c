//! Points in time, and the only file that reads a clock.
//!
//! Takes: the system clocks. Gives: [`Timestamp`] (wall clock, nanoseconds since the Unix epoch,
//! UTC), [`Monotonic`] (for intervals) and [`Deadline`]. Holds: nobody else calls
//! `Instant::now` or `SystemTime::now`, so that a test can reason about time, and so that no clock
//! read creeps onto the packet path unseen.

mod deadline;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use deadline::Deadline;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Wall-clock time in nanoseconds since 1970-01-01T00:00:00Z. Good until the year 2554.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From whole seconds and nanoseconds, as `struct timespec` has them.
    pub const fn from_parts(secs: u64, nanos: u32) -> Self {
        Self(
            secs.saturating_mul(NANOS_PER_SEC)
                .saturating_add(nanos as u64),
        )
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn secs(self) -> u64 {
        self.0 / NANOS_PER_SEC
    }

    /// Nanoseconds within the second.
    pub const fn subsec_nanos(self) -> u32 {
        (self.0 % NANOS_PER_SEC) as u32
    }

    /// This time plus `d`, stopping at the largest representable time.
    pub fn saturating_add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(d)))
    }

    /// This time minus `d`, stopping at the epoch.
    pub fn saturating_sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(nanos_of(d)))
    }

    /// The time between `earlier` and this; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The next multiple of `interval` after this time, counted from the epoch: the wall-clock
    /// boundary that time-based rotation aligns to. A zero interval gives the largest time.
    pub fn next_boundary(self, interval: Duration) -> Self {
        match nanos_of(interval) {
            0 => Self(u64::MAX),
            step => Self((self.0 / step).saturating_add(1).saturating_mul(step)),
        }
    }

    /// The form used in file names: `20261124T230000.123456Z`.
    pub fn file_name(self) -> String {
        let c = Civil::of(self.secs());
        format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}.{:06}Z",
            c.year,
            c.month,
            c.day,
            c.hour,
            c.minute,
            c.second,
            self.subsec_nanos() / 1000
        )
    }
}

/// RFC 3339 in UTC with nanoseconds: `2026-11-24T23:00:00.123456789Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = Civil::of(self.secs());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            c.year,
            c.month,
            c.day,
            c.hour,
            c.minute,
            c.second,
            self.subsec_nanos()
        )
    }
}

/// A UTC calendar date and time of day.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Days-to-date by counting eras of 400 years from 0000-03-01, so that the leap day is the last of a year.
    fn of(secs: u64) -> Self {
        let (days, rest) = (secs / 86_400 + 719_468, secs % 86_400);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
        }
    }
}

fn nanos_of(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// A reading of the monotonic clock: nanoseconds since this process first asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Monotonic(u64);

impl Monotonic {
    /// Nanoseconds since the process first asked for the monotonic clock.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// From a number that [`Monotonic::nanos`] gave.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The time between `earlier` and this; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This reading plus `d`.
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(d)))
    }
}

/// The wall clock, now.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
pub fn now() -> Timestamp {
    Timestamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, nanos_of),
    )
}

/// The monotonic clock, now.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the monotonic clock"
)]
pub fn monotonic() -> Monotonic {
    static START: OnceLock<Instant> = OnceLock::new();
    Monotonic(nanos_of(START.get_or_init(Instant::now).elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_utc_in_both_forms() {
        let t = Timestamp::from_parts(1_795_561_200, 123_456_789);
        assert_eq!(t.to_string(), "2026-11-24T23:00:00.123456789Z");
        assert_eq!(t.file_name(), "20261124T230000.123456Z");
    }

    #[test]
    fn leap_days_and_year_ends_are_right() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(Timestamp::from_parts(secs, 0).to_string(), text);
        }
    }

    #[test]
    fn a_boundary_is_always_later_and_a_multiple() {
        let hour = Duration::from_secs(3600);
        let t = Timestamp::from_parts(1_795_561_200, 0);
        assert_eq!(t.next_boundary(hour), t.saturating_add(hour));
        assert_eq!(
            t.saturating_sub(Duration::from_nanos(1))
                .next_boundary(hour),
            t
        );
        assert_eq!(
            t.next_boundary(Duration::ZERO),
            Timestamp::from_nanos(u64::MAX)
        );
    }
}
