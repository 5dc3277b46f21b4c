//! A part of a disk: a size, or so many hundredths of it.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::units::{Error, Size};

const A_SHARE: &str = "a size such as \"50GiB\", or a percentage such as \"5%\" (0 to 99)";

/// A part of something whose size is not known yet. Written as a [`Size`], or as `"5%"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// So many bytes.
    Size(Size),
    /// So many hundredths.
    Percent(u8),
}

impl Share {
    /// In bytes, of a whole of `whole` bytes.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Size(size) => size.bytes(),
            Self::Percent(n) => (u128::from(whole) * u128::from(n) / 100) as u64,
        }
    }

    /// Whether it is no part at all.
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Size(Size(0)) | Self::Percent(0))
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let failed = || Error {
            text: text.to_owned(),
            wanted: A_SHARE,
        };
        match text.trim().strip_suffix('%') {
            Some(number) => {
                let percent = number.trim().parse().ok().filter(|n| *n < 100);
                percent.map(Self::Percent).ok_or_else(failed)
            }
            None => text.parse().map(Self::Size).map_err(|_| failed()),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(f),
            Self::Percent(n) => write!(f, "{n}%"),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(A_SHARE)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Share, E> {
                let bytes = u64::try_from(n);
                let bytes = bytes.map_err(|_| E::custom("a size can't be negative"));
                bytes.map(|n| Share::Size(Size(n)))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Share, E> {
                Ok(Share::Size(Size(n)))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_size_or_a_percentage_and_prints_back() {
        for (text, of_1000) in [("5%", 50), ("0%", 0), ("99 %", 990), ("2KiB", 2048)] {
            let share: Share = text.parse().unwrap();
            assert_eq!(share.of(1000), of_1000, "{text}");
            assert_eq!(share.to_string().parse(), Ok(share));
        }
        for text in ["100%", "-1%", "1.5%", "%", "much"] {
            let error = text.parse::<Share>().unwrap_err().to_string();
            assert!(error.contains("5%"), "{error}");
        }
        assert_eq!(Share::Percent(50).of(u64::MAX), u64::MAX / 2);
    }
}
