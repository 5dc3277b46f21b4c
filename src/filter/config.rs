//! The `[session.filter]` table.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::filter::{Action, Direction};

/// What is kept of a session: rules, from here or from a file, and an expression; a packet must pass both.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A pcap-filter expression on the inner packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// The same as a program: the numbers that `tcpdump -y EN10MB -ddd EXPRESSION` prints, as text or as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf: Option<Numbers>,
    /// A file that `aws ec2 describe-traffic-mirror-filters` has printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Which filter of the file, where it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Mirror-filter rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleConfig>,
}

/// A mirror-filter rule as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Rules are asked in ascending order of their numbers; the first that matches decides.
    pub number: u32,
    /// `"ingress"` or `"egress"`, seen from the mirrored ENI.
    pub direction: Direction,
    /// `"accept"` or `"reject"`.
    pub action: Action,
    /// A name (`"tcp"`) or an IANA number; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Number>,
    /// Source CIDR block; left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Destination CIDR block; left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Source port or range `"from-to"`; TCP and UDP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<Number>,
    /// Destination port or range `"from-to"`; TCP and UDP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<Number>,
    /// A note for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A number or a word: what may be written with or without quotes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Number(String);

impl Number {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Number {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// Numbers of a program: a text or a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "the numbers of a program, as a text or as a list of numbers from 0 to 4294967295"
)]
pub enum Numbers {
    /// As `tcpdump -ddd` prints them.
    Text(String),
    /// The same as a list.
    List(Vec<u32>),
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.to_owned()))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Number, E> {
                Ok(Number(n.to_string()))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Number, E> {
                Ok(Number(n.to_string()))
            }
        }
        deserializer.deserialize_any(Read)
    }
}
