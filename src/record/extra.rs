//! Columns that AWS does not have: our own, behind AWS's, only where they are asked for.

use std::fmt;
use std::str::FromStr;

use crate::record::{Kind, Scope};

/// A column of our own. All their names begin with `x-`, so that none is ever taken for AWS's.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub enum Extra {
    /// The Community ID of the flow, version 1 with seed 0: the same for both directions, here and in other tools.
    CommunityId,
    /// The VNI that the interface's packets came with; a dash where they came with several.
    Vni,
    /// The session that claims the interface's packets; a dash where there are several.
    Session,
    /// Why the record was closed: `interval`, `full` (early, for want of room) or `end` (the sensor stopped).
    EndReason,
    /// When the first packet arrived, in nanoseconds since 1970.
    StartNs,
    /// When the last packet arrived, in nanoseconds since 1970.
    EndNs,
    /// Mean bytes of a packet, rounded down.
    MeanBytes,
}

impl Extra {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::CommunityId,
        Self::Vni,
        Self::Session,
        Self::EndReason,
        Self::StartNs,
        Self::EndNs,
        Self::MeanBytes,
    ];

    /// What all names begin with.
    pub const PREFIX: &'static str = "x-";

    /// The name in a header line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CommunityId => "x-community-id",
            Self::Vni => "x-vni",
            Self::Session => "x-session",
            Self::EndReason => "x-end-reason",
            Self::StartNs => "x-start-ns",
            Self::EndNs => "x-end-ns",
            Self::MeanBytes => "x-mean-bytes",
        }
    }

    /// What it holds.
    pub const fn kind(self) -> Kind {
        match self {
            Self::CommunityId | Self::Session | Self::EndReason => Kind::Text,
            Self::Vni | Self::MeanBytes => Kind::Integer,
            Self::StartNs | Self::EndNs => Kind::Long,
        }
    }

    /// What it is about.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Vni | Self::Session => Scope::Interface,
            _ => Scope::Flow,
        }
    }

    /// The column of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|extra| extra.name() == name)
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that none of our columns has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no column of our own is called \"{name}\"{}", hint(name))]
pub struct UnknownExtra {
    name: String,
}

fn hint(name: &str) -> String {
    let distance = |extra: &Extra| strsim::damerau_levenshtein(name, extra.name());
    let near = Extra::ALL.iter().min_by_key(|extra| distance(extra));
    match near.filter(|extra| distance(extra) <= 4) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None => {
            let all: Vec<_> = Extra::ALL.iter().map(|extra| extra.name()).collect();
            format!("; there are {}", all.join(", "))
        }
    }
}

impl FromStr for Extra {
    type Err = UnknownExtra;

    fn from_str(name: &str) -> Result<Self, UnknownExtra> {
        Self::named(name).ok_or_else(|| UnknownExtra {
            name: name.to_owned(),
        })
    }
}

impl From<Extra> for String {
    fn from(extra: Extra) -> Self {
        extra.name().to_owned()
    }
}

impl TryFrom<String> for Extra {
    type Error = UnknownExtra;

    fn try_from(name: String) -> Result<Self, UnknownExtra> {
        name.parse()
    }
}
