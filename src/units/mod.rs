//! Sizes, durations and networks as people write them.
//!
//! Takes: `"64MiB"`, `"1.5GB"`, `"30s"`, `"500ms"`, or a plain number of bytes. Gives: [`Size`] and
//! [`Interval`] (and of `"5%"` [`Share`]), for configuration files and command lines. Holds: what is read is printed back in the same
//! words, and an error names the forms that are accepted.

mod share;

pub use share::Share;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number of bytes. Written as `"64MiB"` (binary), `"64MB"` (decimal), or a plain number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Size(pub u64);

/// A span of time. Written as a number and `ns`, `us`, `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Interval(pub Duration);

impl Size {
    /// So many binary megabytes.
    pub const fn mebibytes(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Interval {
    /// So many seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Text that is neither a size nor an interval.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{text}\" is not {wanted}")]
pub struct Error {
    text: String,
    wanted: &'static str,
}

const A_SIZE: &str = "a size such as \"64MiB\", \"1GB\" or a number of bytes";
const AN_INTERVAL: &str = "a duration such as \"500ms\", \"30s\", \"5m\" or \"1h\"";

/// Largest first, binary before decimal, so that printing finds the shortest exact form.
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

const TIME_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `1.5GB` with the units given; unit names in any case.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let (_, factor) = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    match number.trim().parse::<u64>() {
        Ok(whole) => whole.checked_mul(*factor),
        Err(_) => fraction(number.trim(), *factor),
    }
}

fn fraction(number: &str, factor: u64) -> Option<u64> {
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value.is_finite() && (0.0..1e18).contains(&value)).then_some(value as u64)
}

/// The largest unit that is exact; zero in the unit `zero`.
fn print(value: u64, units: &[(&str, u64)], zero: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value == 0 {
        return write!(f, "0{zero}");
    }
    let exact = units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor));
    let (name, factor) = exact.or(units.last()).copied().unwrap_or(("", 1));
    write!(f, "{}{name}", value / factor)
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = text.trim().parse().ok();
        let size = plain.or_else(|| parse(text, SIZE_UNITS));
        size.map(Self).ok_or_else(|| Error {
            text: text.to_owned(),
            wanted: A_SIZE,
        })
    }
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let nanos = parse(text, TIME_UNITS);
        nanos
            .map(|n| Self(Duration::from_nanos(n)))
            .ok_or_else(|| Error {
                text: text.to_owned(),
                wanted: AN_INTERVAL,
            })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, SIZE_UNITS, "B", f)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(
            u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX),
            TIME_UNITS,
            "s",
            f,
        )
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
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(A_SIZE)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Size, E> {
                u64::try_from(n)
                    .map(Size)
                    .map_err(|_| E::custom("a size can't be negative"))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Size, E> {
                Ok(Size(n))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Interval;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(AN_INTERVAL)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Interval, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Reads a list of networks, each a CIDR block or an address alone: for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Names the text that is neither.
pub fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let all = Vec::<Network>::deserialize(from)?;
    Ok(all.into_iter().map(|network| network.0).collect())
}

/// One of them, so that an error points at it.
struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(NetworkText)
    }
}

struct NetworkText;

impl Visitor<'_> for NetworkText {
    type Value = Network;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network like \"10.0.0.0/16\", or an address")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
        let alone = || text.parse::<std::net::IpAddr>().map(IpNet::from);
        let network = text.parse().or_else(|_| alone());
        network.map(Network).map_err(|_| {
            E::custom(format!(
                "{text:?} is no network; write one like \"10.0.0.0/16\", or an address"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_form() {
        for (text, bytes) in [
            ("256MiB", 256 << 20),
            ("64 KiB", 64 << 10),
            ("1.5GiB", 3 << 29),
            ("1GB", 1_000_000_000),
            ("1gb", 1_000_000_000),
            ("100B", 100),
            ("4096", 4096),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn durations_are_read_in_every_form() {
        for (text, nanos) in [
            ("1s", 1_000_000_000),
            ("500ms", 500_000_000),
            ("5m", 300_000_000_000),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Interval(Duration::from_nanos(nanos))),
                "{text}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_accepted_forms() {
        for text in [
            "",
            "MiB",
            "-1MiB",
            "12 parsecs",
            "99999999999TiB",
            "1e400GB",
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.to_string().contains("64MiB"), "{error}");
        }
        assert!(
            "10".parse::<Interval>().is_err(),
            "a duration needs its unit"
        );
    }

    #[derive(serde::Deserialize)]
    struct Networks {
        #[serde(deserialize_with = "networks")]
        list: Vec<IpNet>,
    }

    #[test]
    fn a_network_is_a_block_or_an_address() {
        let text = "list = ['10.0.0.0/8', '10.1.2.3', 'fd00::1']";
        let read: Networks = toml::from_str(text).expect("three networks");
        let all: Vec<_> = read.list.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.0.0.0/8", "10.1.2.3/32", "fd00::1/128"]);
        let error = toml::from_str::<Networks>("list = ['10.0.0']").err();
        let error = error.expect("no network").to_string();
        assert!(error.contains("\"10.0.0\" is no network"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes in 0_u64..u64::MAX / 2) {
            proptest::prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
            let interval = Interval(Duration::from_nanos(bytes));
            proptest::prop_assert_eq!(interval.to_string().parse(), Ok(interval));
        }
    }
}
