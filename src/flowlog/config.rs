//! The part of the configuration that belongs to one flow log: a `[[flow_log]]` table.
//!
//! Takes: the table. Gives: [`Config`]. Holds: one that passes [`Config::check`] can be run; what is in keys can't leave
//! its folder.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::flow::Limits;
use crate::flowlog::{Interface, Layout};
use crate::record::{Extra, Field, Format, Value};
use crate::units::{Interval, Size, networks};
use crate::{filter, ship};

/// The most flows that may be open at once: 2 GiB of them.
const MOST_FLOWS: u32 = 1 << 24;
/// The least that may be kept for shipping: less could not hold one file.
const LEAST_SPOOL: u64 = 1 << 20;
/// Tag fields of an interface that a record can have.
const TAGS: usize = 2;

/// A flow log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What it is called in logs and metrics: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// `fl-` and 8 to 17 hex digits; minted from name, account, region, format and extra columns where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The folder of its files. What is being written is in a hidden one inside it.
    pub directory: PathBuf,
    /// The fields of its records, as `${version} ${srcaddr} …`.
    pub log_format: Format,
    /// Columns of our own behind AWS's.
    pub extra: Vec<Extra>,
    /// `"text"` or `"parquet"`.
    pub file_format: FileFormat,
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
    /// Which packets count: `"all"`, or those that the session's filter keeps.
    pub packets: Packets,
    /// Whether queries to the Amazon resolver count. AWS does not log them, but a mirror may see them.
    pub resolver_dns: bool,
    /// Whether an interval of an interface without traffic is told, as NODATA.
    pub nodata: bool,
    /// Which interfaces belong to it, by the session that claims their packets. Empty: any.
    pub session: Vec<String>,
    /// By the interface's id. Empty: any. Needs `interfaces`, and so do the next two.
    pub interface: Vec<String>,
    /// By its subnet. Empty: any.
    pub subnet: Vec<String>,
    /// By its VPC. Empty: any.
    pub vpc: Vec<String>,
    /// By the outer source address. Empty: any.
    #[serde(deserialize_with = "networks")]
    pub source: Vec<IpNet>,
    /// A file that `aws ec2 describe-network-interfaces` has printed: what is known of interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<PathBuf>,
    /// The keys of the interfaces' tags that `interface-tag` and `interface-tag-2` tell.
    pub interface_tags: Vec<String>,
    /// AWS's `ip-ranges.json`, for `pkt-src-aws-service` and `pkt-dst-aws-service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_ranges: Option<PathBuf>,
    /// The address ranges of the VPC: what goes to one of them has `traffic-path` 1.
    #[serde(deserialize_with = "networks")]
    pub vpc_ranges: Vec<IpNet>,
    /// The most bytes of finished files that wait for a destination; the oldest are given up first.
    pub spool_budget: Size,
    /// How long its files stay in the folder.
    pub keep: Keep,
    /// Which packets count, by rules and expression. Left out: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<filter::Config>,
    /// The bucket that its files go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<ship::S3>,
    /// The log group that its records go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudwatch: Option<ship::CloudWatch>,
}

/// What a file of records is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Lines of text, packed with gzip: `.log.gz`.
    #[default]
    Text,
    /// Parquet: `.log.parquet`.
    Parquet,
}

/// Which packets count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packets {
    /// All of a session, before its filter: records are cheap, packets are not.
    #[default]
    All,
    /// Those that the session's filter keeps.
    Kept,
}

/// How long files stay: the oldest go first. Zero is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Most bytes of all its files together.
    pub max_size: Size,
    /// Files that were last written longer ago are deleted.
    pub max_age: Interval,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            id: None,
            directory: "flow-logs".into(),
            log_format: Format::default(),
            extra: Vec::new(),
            file_format: FileFormat::default(),
            interval: Interval::seconds(60),
            account: "000000000000".to_owned(),
            region: "local".to_owned(),
            hive: false,
            hourly: false,
            max_flows: 262_144,
            max_flows_per_interface: 65_536,
            packets: Packets::default(),
            resolver_dns: true,
            nodata: false,
            session: Vec::new(),
            interface: Vec::new(),
            subnet: Vec::new(),
            vpc: Vec::new(),
            source: Vec::new(),
            interfaces: None,
            interface_tags: Vec::new(),
            ip_ranges: None,
            vpc_ranges: Vec::new(),
            spool_budget: Size::mebibytes(1024),
            keep: Keep::default(),
            filter: None,
            s3: None,
            cloudwatch: None,
        }
    }
}

/// What can't be run, and what could.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The name.
    #[error(
        "name is \"{0}\"; a name has 1 to 64 letters, digits, \".\", \"_\" and \"-\", and begins with a letter or a digit"
    )]
    Name(String),
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
    /// The folder.
    #[error("directory is empty; name a folder, like \"flow-logs\"")]
    Directory,
    /// A column that is there already.
    #[error("{0} is there twice; remove one")]
    Repeated(Extra),
    /// Ids that are none.
    #[error("{0} has \"{1}\"; it is like \"{2}-0123456789abcdef0\"")]
    Selection(&'static str, String, &'static str),
    /// Ids without the file that says which address has which.
    #[error("{0} needs interfaces: the file that aws ec2 describe-network-interfaces has printed")]
    NoInterfaces(&'static str),
    /// Too many tags.
    #[error("interface_tags has {0} keys; a record has room for {TAGS}")]
    Tags(usize),
    /// Too little.
    #[error("spool_budget is {0}; it is 1MiB or more")]
    Spool(Size),
    /// Where files go.
    #[error("{0}")]
    S3(ship::ConfigError),
    /// Where records go.
    #[error("{0}")]
    CloudWatch(ship::ConfigError),
    /// Two places.
    #[error(
        "it has s3 and cloudwatch; a flow log has one destination, so make two flow logs of it"
    )]
    TwoDestinations,
    /// A log group takes lines.
    #[error("file_format is \"parquet\", and cloudwatch takes text; choose \"text\", or s3")]
    ParquetToCloudWatch,
    /// What this program was built without.
    #[error("{0} needs a mirrortap that was built with the feature \"{1}\"")]
    NotBuilt(&'static str, &'static str),
}

impl ConfigError {
    /// Where in the table it is.
    pub fn key(&self) -> Vec<&'static str> {
        match self {
            Self::Name(_) => vec!["name"],
            Self::Account(_) => vec!["account"],
            Self::Region(_) => vec!["region"],
            Self::Id(_) => vec!["id"],
            Self::Interval(_) => vec!["interval"],
            Self::Directory => vec!["directory"],
            Self::Repeated(_) => vec!["extra"],
            Self::Flows(key, _) | Self::Selection(key, ..) | Self::NoInterfaces(key) => vec![key],
            Self::Tags(_) => vec!["interface_tags"],
            Self::Spool(_) => vec!["spool_budget"],
            Self::S3(error) => vec!["s3", error.key()],
            Self::CloudWatch(error) => vec!["cloudwatch", error.key()],
            Self::TwoDestinations => vec!["cloudwatch"],
            Self::ParquetToCloudWatch => vec!["file_format"],
            Self::NotBuilt("file_format = \"parquet\"", _) => vec!["file_format"],
            Self::NotBuilt(key, _) => vec![key],
        }
    }
}

impl Config {
    /// All that is wrong.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut wrong = self.names();
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
        if self.directory.as_os_str().is_empty() {
            wrong.push(ConfigError::Directory);
        }
        let twice = |(at, extra): (usize, &Extra)| self.extra.iter().take(at).any(|e| e == extra);
        let extra = self.extra.iter().enumerate().find(|item| twice(*item));
        wrong.extend(extra.map(|(_, extra)| ConfigError::Repeated(*extra)));
        wrong.extend(self.selection());
        wrong.extend(self.destination());
        wrong
    }

    fn names(&self) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let first = self.name.bytes().next().unwrap_or(b'.');
        if !first.is_ascii_alphanumeric() || self.name.len() > 64 || !self.name.bytes().all(good) {
            wrong.push(ConfigError::Name(self.name.clone()));
        }
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
        wrong
    }

    fn selection(&self) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        for (key, ids, kind) in [
            ("interface", &self.interface, "eni"),
            ("subnet", &self.subnet, "subnet"),
            ("vpc", &self.vpc, "vpc"),
        ] {
            let fits = |id: &str| {
                let digits = id.strip_prefix(kind).and_then(|id| id.strip_prefix('-'));
                digits
                    .is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_alphanumeric()))
            };
            let bad = ids.iter().filter(|id| !fits(id));
            wrong.extend(bad.map(|id| ConfigError::Selection(key, id.clone(), kind)));
            if !ids.is_empty() && self.interfaces.is_none() {
                wrong.push(ConfigError::NoInterfaces(key));
            }
        }
        if self.interface_tags.len() > TAGS {
            wrong.push(ConfigError::Tags(self.interface_tags.len()));
        }
        wrong
    }

    fn destination(&self) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        let parquet = self.file_format == FileFormat::Parquet;
        if parquet && !cfg!(feature = "parquet") {
            wrong.push(ConfigError::NotBuilt(
                "file_format = \"parquet\"",
                "parquet",
            ));
        }
        let (s3, cloudwatch) = (self.s3.as_ref(), self.cloudwatch.as_ref());
        for (key, asked) in [("s3", s3.is_some()), ("cloudwatch", cloudwatch.is_some())] {
            if asked && !cfg!(feature = "aws") {
                wrong.push(ConfigError::NotBuilt(key, "aws"));
            }
        }
        let s3_errors = s3.map(ship::S3::check).unwrap_or_default();
        wrong.extend(s3_errors.into_iter().map(ConfigError::S3));
        let errors = cloudwatch.map(ship::CloudWatch::check).unwrap_or_default();
        wrong.extend(errors.into_iter().map(ConfigError::CloudWatch));
        if s3.is_some() && cloudwatch.is_some() {
            wrong.push(ConfigError::TwoDestinations);
        }
        if parquet && cloudwatch.is_some() {
            wrong.push(ConfigError::ParquetToCloudWatch);
        }
        if self.spool_budget.bytes() < LEAST_SPOOL {
            wrong.push(ConfigError::Spool(self.spool_budget));
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

    /// Its id: the one that is given, or the one that is minted.
    pub fn flow_log_id(&self) -> String {
        Layout::of(self).id
    }

    /// The folder of its files that wait for a destination.
    pub fn pending(&self) -> PathBuf {
        self.directory.join(".ship").join(&self.name)
    }

    /// Whether an interface belongs to it: one that sends from `source`, and whose packets `session` claims. Of each list
    /// that is not empty one entry has to fit; what is not known of an interface fits no entry.
    pub fn takes(&self, interface: &Interface, source: IpAddr, session: &str) -> bool {
        let known = |ids: &[String], field| {
            let value = interface.fact(field);
            ids.is_empty() || ids.iter().any(|id| value == Value::Text(id))
        };
        known(&self.interface, Field::InterfaceId)
            && known(&self.subnet, Field::SubnetId)
            && known(&self.vpc, Field::VpcId)
            && (self.session.is_empty() || self.session.iter().any(|name| name == session))
            && (self.source.is_empty() || self.source.iter().any(|net| net.contains(&source)))
    }
}

fn is_id(id: &str) -> bool {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let digits = id.strip_prefix("fl-");
    digits.is_some_and(|d| (8..=17).contains(&d.len()) && d.bytes().all(hex))
}
