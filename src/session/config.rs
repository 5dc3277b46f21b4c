//! The `[[session]]` table.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{self, Deserializer};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use crate::filter;
use crate::packet::Vni;
use crate::ship;
use crate::spool::retain::SessionConfig;
use crate::spool::{Compression, Format, Precision, Settings};
use crate::units::{Interval, Size, networks};

/// One mirror session.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// VNIs: a number, `"100-200"`, or a list of both. Empty: any.
    #[serde(default)]
    pub vni: Vnis,
    /// Outer source addresses (mirrored ENIs' primary addresses). Empty: any.
    #[serde(default, deserialize_with = "networks")]
    pub source: Vec<IpNet>,
    /// MAC addresses of its ENIs; tells ingress from egress. Learnt from packets where left out.
    #[serde(default)]
    pub eni_mac: Vec<Mac>,
    /// Further IP addresses of its ENIs, beside the outer source.
    #[serde(default)]
    pub eni_address: Vec<IpAddr>,
    /// Keep only this many bytes of each packet, from its Ethernet header on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_length: Option<u32>,
    /// What is kept of it. Left out: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<filter::Config>,
    /// How its files differ from the `[capture]` section.
    #[serde(default)]
    pub capture: OutputConfig,
    /// How much disk its files may take, within what `[retention]` says of all.
    #[serde(default, skip_serializing_if = "SessionConfig::is_empty")]
    pub retention: SessionConfig,
    /// Whether and where its files are shipped, within what `[ship]` says of all.
    #[serde(default, skip_serializing_if = "ship::OfSession::is_empty")]
    pub ship: ship::OfSession,
}

/// How capture files are made; in a session, what is left out is as in `[capture]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// `"pcap"` or `"pcapng"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// `"ns"` or `"us"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// `"none"`, `"zstd"` or `"gzip"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// How hard: 1 to 19 for zstd, 1 to 9 for gzip. 0 chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<u32>,
    /// Largest file, before compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_size: Option<Size>,
    /// Longest span of a file; aligned to the wall clock (UTC). `"0s"`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_interval: Option<Interval>,
    /// Most packets of a file. 0: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_packets: Option<u64>,
}

impl OutputConfig {
    /// Settings with every key given.
    pub fn of(settings: &Settings) -> Self {
        Self {
            format: Some(settings.format),
            precision: Some(settings.precision),
            compression: Some(settings.compression),
            compression_level: Some(settings.level),
            rotate_size: Some(Size(settings.rotate_size.unwrap_or(0))),
            rotate_interval: Some(Interval(settings.rotate_interval.unwrap_or_default())),
            rotate_packets: Some(settings.rotate_packets.unwrap_or(0)),
        }
    }

    /// These settings where they are given, `defaults` where not. Zero means no limit.
    pub fn over(&self, defaults: &Settings) -> Settings {
        let span = |i: Interval| Some(i.0).filter(|d| !d.is_zero());
        let count = |n: u64| Some(n).filter(|n| *n != 0);
        let compression = self.compression.unwrap_or(defaults.compression);
        Settings {
            directory: defaults.directory.clone(),
            format: self.format.unwrap_or(defaults.format),
            precision: self.precision.unwrap_or(defaults.precision),
            snaplen: defaults.snaplen,
            compression,
            level: self.level(compression, defaults),
            rotate_size: self
                .rotate_size
                .map_or(defaults.rotate_size, |s| count(s.0)),
            rotate_interval: self.rotate_interval.map_or(defaults.rotate_interval, span),
            rotate_packets: self.rotate_packets.map_or(defaults.rotate_packets, count),
        }
    }
}

impl OutputConfig {
    /// The level given; without one that of the defaults, if they compress in the same way.
    fn level(&self, compression: Compression, defaults: &Settings) -> u32 {
        let same = Some(defaults.level).filter(|_| compression == defaults.compression);
        match self.compression_level.or(same) {
            Some(level) if level > 0 && compression != Compression::None => level,
            _ => compression.level(),
        }
    }

    /// What is wrong with the level that it comes to over `defaults`.
    pub fn problem(&self, defaults: &Settings) -> Option<String> {
        let settings = self.over(defaults);
        let levels = settings.compression.levels();
        (!levels.contains(&settings.level)).then(|| {
            format!(
                "compression_level = {} is none of this compression: {} to {}, and 0 chooses",
                settings.level,
                levels.start(),
                levels.end()
            )
        })
    }
}

/// What is done with packets that no session claims.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Kept, as session `vni-N`.
    #[default]
    Keep,
    /// Counted as filtered (`unknown_session`).
    Drop,
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address in the low 48 bits.
    pub fn bits(self) -> u64 {
        self.0.iter().fold(0, |bits, b| bits << 8 | u64::from(*b))
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Vec<u8> = text
            .split([':', '-'])
            .filter(|part| part.len() == 2)
            .filter_map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        let whole = text.len() == 17;
        let mac = bytes.try_into().ok().filter(|_| whole);
        mac.map(Self)
            .ok_or_else(|| format!("\"{text}\" is no MAC address such as \"02:1a:2b:3c:4d:5e\""))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// An inclusive range of VNIs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VniRange {
    /// First.
    pub first: Vni,
    /// Last.
    pub last: Vni,
}

impl VniRange {
    /// Whether `vni` lies in the range.
    pub fn contains(self, vni: Vni) -> bool {
        self.first <= vni && vni <= self.last
    }

    /// Whether two ranges share a VNI.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn of(number: i64) -> Result<Self, String> {
        let vni = u32::try_from(number)
            .ok()
            .filter(|n| *n <= Vni::MAX.value());
        let vni = vni
            .map(Vni::new)
            .ok_or(format!("{number} is no VNI: 0 to {}", Vni::MAX))?;
        Ok(Self {
            first: vni,
            last: vni,
        })
    }
}

impl FromStr for VniRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let number = part
                .trim()
                .parse()
                .map_err(|_| format!("\"{text}\" is no VNI and no range such as \"100-200\""))?;
            Self::of(number).map(|range| range.first)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self {
            first: number(first)?,
            last: number(last)?,
        };
        if range.first > range.last {
            return Err(format!("\"{text}\" ends before it starts"));
        }
        Ok(range)
    }
}

impl fmt::Display for VniRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// The VNIs of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vnis(pub Vec<VniRange>);

impl Serialize for Vnis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for range in &self.0 {
            if range.first == range.last {
                seq.serialize_element(&range.first.value())?;
            } else {
                seq.serialize_element(&range.to_string())?;
            }
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Vnis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> de::Visitor<'de> for Read {
            type Value = Vnis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VNI, a range such as \"100-200\", or a list of both")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Vnis, E> {
                VniRange::of(n).map(|r| Vnis(vec![r])).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Vnis, E> {
                self.visit_i64(i64::try_from(n).unwrap_or(i64::MAX))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vnis, E> {
                text.parse().map(|r| Vnis(vec![r])).map_err(E::custom)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vnis, A::Error> {
                let mut all = Vnis::default();
                while let Some(Vnis(mut ranges)) = seq.next_element()? {
                    all.0.append(&mut ranges);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn vnis_are_numbers_ranges_and_lists_and_print_back() {
        let config = read("name = 'a'\nvni = [5, '100-200', '7']").unwrap();
        assert_eq!(
            config
                .vni
                .0
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["5", "100-200", "7"]
        );
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(read("name = 'a'\nvni = 16777215").unwrap().vni.0.len(), 1);
    }

    #[test]
    fn compression_is_by_session_and_its_level_is_one_of_its_own() {
        let over = |text: &str, defaults: &Settings| {
            let config: OutputConfig = toml::from_str(text).unwrap();
            let settings = config.over(defaults);
            let problem = config.problem(defaults);
            (settings.compression, settings.level, problem.is_some())
        };
        let mut defaults = crate::config::Config::default().settings();
        assert_eq!(over("", &defaults), (Compression::None, 0, false));
        assert_eq!(
            over("compression_level = 9", &defaults),
            (Compression::None, 0, false)
        );
        assert_eq!(
            over("compression = 'zstd'", &defaults),
            (Compression::Zstd, 3, false)
        );
        assert_eq!(
            over("compression = 'zstd'\ncompression_level = 20", &defaults),
            (Compression::Zstd, 20, true)
        );
        (defaults.compression, defaults.level) = (Compression::Zstd, 12);
        assert_eq!(over("", &defaults), (Compression::Zstd, 12, false));
        assert_eq!(
            over("compression_level = 0", &defaults),
            (Compression::Zstd, 3, false)
        );
        assert_eq!(
            over("compression = 'gzip'", &defaults),
            (Compression::Gzip, 6, false)
        );
        assert_eq!(
            over("compression = 'none'", &defaults),
            (Compression::None, 0, false)
        );
        let refused = toml::from_str::<OutputConfig>("compression = 'lz4'").unwrap_err();
        assert!(refused.to_string().contains("zstd"), "{refused}");
    }

    #[test]
    fn bad_values_say_what_is_wanted() {
        for (text, wanted) in [
            ("vni = 16777216", "0 to 16777215"),
            ("vni = -1", "0 to 16777215"),
            ("vni = '9-3'", "ends before it starts"),
            ("vni = 'all'", "100-200"),
            ("eni_mac = ['02:1a:2b:3c:4d']", "02:1a:2b:3c:4d:5e"),
            ("source = ['10.0.0.0/33']", "10.0.0.0/16"),
            ("packet_lenght = 3", "packet_lenght"),
        ] {
            let error = read(&format!("name = 'a'\n{text}")).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
