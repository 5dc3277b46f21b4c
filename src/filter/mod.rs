//! Which packets of a session are kept: AWS mirror-filter rules and a pcap-filter expression.
//!
//! Takes: a parsed inner frame and its direction. Gives: a [`Verdict`]. Holds: compiled once, when the
//! configuration is loaded; judging a packet allocates nothing and can't fail.

mod amazon;
mod bpf;
mod caret;
mod compile;
mod config;
mod error;
mod expression;
mod few;
mod protocol;
mod ranges;
mod rule;
mod table;
mod vocabulary;
mod words;

pub use amazon::{Import, import, import_text};
pub use bpf::{Invalid, Program};
pub use config::{Config, Number, Numbers, RuleConfig};
pub use error::{Error, Problem};
pub use expression::ExpressionError;
pub use rule::{Action, Rule};

use std::path::Path;
use std::sync::Arc;

use crate::headers::{Gist, Headers};
use crate::packet::FilterReason;
use table::Rules;

/// Direction of a packet as the mirrored ENI sees it.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    serde::Serialize,
    serde::Deserialize,
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

impl Direction {
    /// The name used in configuration, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Unknown => "unknown",
        }
    }
}

/// What a filter says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// `None` keeps the packet.
    pub reject: Option<FilterReason>,
    /// The rule that matched first, as an index into [`Filter::rules`], for its hit counter. It is
    /// set too when the rule accepted and the expression then refused.
    pub rule: Option<u32>,
}

impl Verdict {
    /// Kept without a rule having been asked.
    pub const KEEP: Self = Self {
        reject: None,
        rule: None,
    };
}

/// A compiled filter, cheap to clone. The default keeps everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None` where there are no rules, so that nothing is rejected for want of one.
    rules: Option<Arc<Rules>>,
    program: Option<Program>,
}

impl Filter {
    /// Whether every packet is kept, so that a caller need not ask.
    pub fn keeps_everything(&self) -> bool {
        self.rules.is_none() && self.program.is_none()
    }

    /// Compiles what is configured; `base` is where a relative `file` starts.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn compile(config: &Config, base: &Path) -> Result<Self, Vec<Error>> {
        compile::compile(config, base)
    }

    /// Whether a packet's direction matters.
    pub fn needs_direction(&self) -> bool {
        !self.rules().is_empty()
    }

    /// The rules: ingress before egress, ascending by number. [`Verdict::rule`] is an index into them.
    pub fn rules(&self) -> &[Rule] {
        self.rules.as_ref().map_or(&[], |rules| rules.list())
    }

    /// Judges a frame: rules first, then the expression; both must accept. `wire_len` is the
    /// length that the packet had on the wire, which `len`, `greater` and `less` look at.
    pub fn judge(
        &self,
        frame: &[u8],
        headers: &Headers,
        wire_len: u32,
        direction: Direction,
    ) -> Verdict {
        self.judge_gist(frame, &headers.into(), wire_len, direction)
    }

    /// [`Self::judge`] of what a worker knows of a frame.
    #[inline]
    pub fn judge_gist(
        &self,
        frame: &[u8],
        gist: &Gist,
        wire_len: u32,
        direction: Direction,
    ) -> Verdict {
        let mut verdict = match &self.rules {
            Some(rules) => rules.judge(gist, direction),
            None => Verdict::KEEP,
        };
        if verdict.reject.is_none()
            && let Some(program) = &self.program
            && !program.accepts(frame, wire_len)
        {
            verdict.reject = Some(FilterReason::Expression);
        }
        verdict
    }
}
