//! Which packets of a session are kept: AWS mirror-filter rules and a pcap-filter expression.
//!
//! Takes: a parsed inner frame and its direction. Gives: a [`Verdict`]. Holds: compiled once, when the
//! configuration is loaded; judging a packet allocates nothing and can't fail.

use crate::headers::Headers;
use crate::packet::FilterReason;

/// Direction of a packet as the mirrored ENI sees it.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the mirrored ENI.
    Ingress,
    /// From the mirrored ENI.
    Egress,
    /// Not known (yet): the ENI's MAC address was neither configured nor learnt.
    #[default]
    #[serde(skip)]
    Unknown,
}

/// What a filter says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// `None` keeps the packet.
    pub reject: Option<FilterReason>,
    /// The rule that decided, as an index into [`Filter::rules`], for its hit counter.
    pub rule: Option<u32>,
}

/// A compiled filter. The default keeps everything.
#[derive(Debug, Default)]
pub struct Filter {}

/// Configuration.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Config {}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// x
    pub number: u32,
    /// x
    pub direction: Direction,
    /// x
    pub action: Direction,
}
impl Direction {
    /// x
    pub fn name(&self) -> &'static str {
        ""
    }
}

/// A problem.
#[derive(Debug, thiserror::Error)]
#[error("problem")]
pub struct Error;

impl Filter {
    /// Compiles.
    pub fn compile(_: &Config, _: &std::path::Path) -> Result<Self, Vec<Error>> {
        Ok(Self {})
    }

    /// Rules.
    pub fn rules(&self) -> &[Rule] {
        &[]
    }

    /// Whether everything is kept.
    pub fn keeps_everything(&self) -> bool {
        true
    }

    /// Whether the direction matters.
    pub fn needs_direction(&self) -> bool {
        false
    }

    /// Judges a frame. `wire_len` is the length that the packet had on the wire.
    pub fn judge(
        &self,
        _frame: &[u8],
        _headers: &Headers,
        _wire_len: u32,
        _direction: Direction,
    ) -> Verdict {
        Verdict {
            reject: None,
            rule: None,
        }
    }
}
