//! How sizes and spans of time are spelt in a configuration: `"64MiB"`, `"30s"`.
//!
//! Takes: a string (a size may also be a plain number of bytes). Gives: [`Size`] and [`Interval`], which
//! print and serialise to a spelling that reads back as the same value. Holds: nothing is rounded and
//! nothing wraps; what does not fit 64 bits is refused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

const SIZE_FORMS: &str =
    "a size such as \"64MiB\", \"1GiB\", \"500kB\", or a plain number of bytes";
const INTERVAL_FORMS: &str = "a span of time such as \"500ms\", \"30s\", \"5m\", \"1h\" or \"1d\" (a whole number and its unit)";

/// Units of a size, in the order in which printing tries them: the largest that divides wins, powers
/// of two before powers of ten.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Units of an interval, largest first, in nanoseconds.
const INTERVAL_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Why a size or an interval could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnitError {
    /// Not the spelling of a size.
    #[error("{0:?} is no size; write {SIZE_FORMS}")]
    Size(String),
    /// Not the spelling of a span of time.
    #[error("{0:?} is no span of time; write {INTERVAL_FORMS}")]
    Interval(String),
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Size(pub u64);

/// A span of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Interval(pub Duration);

impl Size {
    /// `n` mebibytes.
    pub const fn mebibytes(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Interval {
    /// `n` seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// The span itself.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// A whole number followed by one of `units`, times that unit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| unit == *name)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The largest of `units` that divides `value`, with its count.
fn spell(value: u64, units: &'static [(&'static str, u64)]) -> (u64, &'static str) {
    let whole = |(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(*factor);
    units
        .iter()
        .find(whole)
        .map_or((value, units[units.len() - 1].0), |(name, factor)| {
            (value / factor, name)
        })
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let plain = text.trim().parse().ok();
        plain
            .or_else(|| parse(text, SIZE_UNITS))
            .map(Self)
            .ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

impl FromStr for Interval {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, INTERVAL_UNITS)
            .map(|nanos| Self(Duration::from_nanos(nanos)))
            .ok_or_else(|| UnitError::Interval(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = spell(self.0, SIZE_UNITS);
        write!(f, "{count}{unit}")
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let (count, unit) = match nanos {
            0 => (0, "s"),
            _ => spell(nanos, INTERVAL_UNITS),
        };
        write!(f, "{count}{unit}")
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(IntervalVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE_FORMS)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Size, E> {
        Ok(Size(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
        u64::try_from(value)
            .map(Size)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

struct IntervalVisitor;

impl Visitor<'_> for IntervalVisitor {
    type Value = Interval;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(INTERVAL_FORMS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Interval, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[derive(Deserialize, Debug)]
    struct Both {
        size: Size,
        every: Interval,
    }

    fn read(size: &str, every: &str) -> Result<Both, toml::de::Error> {
        toml::from_str(&format!("size = {size}\nevery = {every}"))
    }

    #[test]
    fn a_size_may_be_a_number_or_a_number_with_its_unit() {
        for (text, bytes) in [
            ("4096", 4096),
            ("\"4096\"", 4096),
            ("\"64MiB\"", 64 << 20),
            ("\"1 GiB\"", 1 << 30),
            ("\"500kB\"", 500_000),
            ("\"0B\"", 0),
        ] {
            let both = read(text, "\"1s\"").expect(text);
            assert_eq!(both.size.bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn an_interval_is_a_number_with_its_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            let both = read("1", &format!("{text:?}")).expect(text);
            assert_eq!(
                both.every.duration(),
                Duration::from_millis(millis),
                "{text}"
            );
            assert_eq!(both.every.to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_read_is_answered_with_the_forms_that_can() {
        for bad in ["-1", "\"64 mib\"", "\"MiB\"", "\"1.5GiB\"", "\"\"", "true"] {
            let text = read(bad, "\"1s\"").expect_err(bad).to_string();
            assert!(text.contains("64MiB"), "{bad}: {text}");
        }
        for bad in ["30", "\"30\"", "\"s\"", "\"-3s\"", "\"1 year\""] {
            let text = read("1", bad).expect_err(bad).to_string();
            assert!(text.contains("30s"), "{bad}: {text}");
        }
        assert!("99999999999TiB".parse::<Size>().is_err(), "it would wrap");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_value(n in any::<u64>()) {
            let (size, every) = (Size(n), Interval(Duration::from_nanos(n)));
            assert_eq!(size.to_string().parse(), Ok(size));
            assert_eq!(every.to_string().parse(), Ok(every));
        }

        #[test]
        fn no_text_makes_the_reader_fall_over(text in ".*") {
            let _ = text.parse::<Size>();
            let _ = text.parse::<Interval>();
        }
    }
}
