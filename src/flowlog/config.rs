//! The part of the configuration that belongs to one flow log: a `[[flow_log]]` table.
//!
//! Takes: the table. Gives: [`Config`]. Holds: one that passes [`Config::check`] can be run; what is in keys can't leave
//! its folder.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flow::Limits;
use crate::record::Format;
use crate::units::Interval;

/// The most flows that may be open at once: 2 GiB of them.
const MOST_FLOWS: u32 = 1 << 24;

/// A flow log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What it is called in logs and metrics.
    pub name: String,
    /// `fl-` and 8 to 17 hex digits; minted from name, account, region and format where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The fields of its records, as `${version} ${srcaddr} …`.
    pub log_format: Format,
    /// The aggregation interval: the longest time that one record spans.
    pub interval: Interval,
    /// The account in the keys: 12 digits.
    pub account: String,
    /// The region in the keys.
    pub region: String,
    /// Folders with names, `year=2026`, as Hive wants them.
    pub hive: bool,
    /// A folder for each hour.
    pub hourly: bool,
    /// Most flows that are open at once.
    pub max_flows: u32,
    /// Most flows of one interface that are open at once.
    pub max_flows_per_interface: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            id: None,
            log_format: Format::default(),
            interval: Interval::seconds(60),
            account: "000000000000".to_owned(),
            region: "local".to_owned(),
            hive: false,
            hourly: false,
            max_flows: 262_144,
            max_flows_per_interface: 65_536,
        }
    }
}

/// What can't be run, and what could.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The account.
    #[error("account is \"{0}\"; an account has 12 digits")]
    Account(String),
    /// The region.
    #[error("region is \"{0}\"; a region is like \"eu-central-1\"")]
    Region(String),
    /// The id.
    #[error("id is \"{0}\"; an id is \"fl-\" and 8 to 17 of 0-9 and a-f, or is left out")]
    Id(String),
    /// The interval.
    #[error("interval is {0}; it goes from 1s to 1h, and AWS has 60s and 10m")]
    Interval(Interval),
    /// The bounds.
    #[error("{0} is {1}; it goes from 1 to {MOST_FLOWS}")]
    Flows(&'static str, u32),
}

impl Config {
    /// All that is wrong.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if self.account.len() != 12 || !digits(&self.account) {
            wrong.push(ConfigError::Account(self.account.clone()));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.region.is_empty() || self.region.len() > 32 || !self.region.bytes().all(plain) {
            wrong.push(ConfigError::Region(self.region.clone()));
        }
        if let Some(id) = self.id.as_ref().filter(|id| !is_id(id)) {
            wrong.push(ConfigError::Id(id.clone()));
        }
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(3600));
        if !(least..=most).contains(&self.interval.duration()) {
            wrong.push(ConfigError::Interval(self.interval));
        }
        for (name, number) in [
            ("max_flows", self.max_flows),
            ("max_flows_per_interface", self.max_flows_per_interface),
        ] {
            if !(1..=MOST_FLOWS).contains(&number) {
                wrong.push(ConfigError::Flows(name, number));
            }
        }
        wrong
    }

    /// What its flow table is bounded by.
    pub fn limits(&self) -> Limits {
        Limits {
            flows: self.max_flows,
            per_eni: self.max_flows_per_interface,
            interval: self.interval.duration(),
        }
    }
}

fn is_id(id: &str) -> bool {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let digits = id.strip_prefix("fl-");
    digits.is_some_and(|d| (8..=17).contains(&d.len()) && d.bytes().all(hex))
}
