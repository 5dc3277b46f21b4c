//! Where a file of records lies: AWS's layout of keys.

use sha2::{Digest, Sha256};

use crate::flowlog::Config;
use crate::time::Timestamp;

/// Seconds of a bucket: a file holds the records whose end lies in one.
pub const BUCKET: u64 = 300;

/// What all keys of a flow log have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The account in the keys.
    pub account: String,
    /// The region in the keys.
    pub region: String,
    /// `fl-` and hex digits.
    pub id: String,
    /// Folders with names, `year=2026`, as Hive wants them.
    pub hive: bool,
    /// A folder for each hour.
    pub hourly: bool,
}

impl Layout {
    /// Of a configured flow log.
    pub fn of(config: &Config) -> Self {
        Self {
            account: config.account.clone(),
            region: config.region.clone(),
            id: id(config),
            hive: config.hive,
            hourly: config.hourly,
        }
    }

    /// The folder of a bucket.
    pub fn folder(&self, bucket: u64) -> String {
        let (account, region) = (&self.account, &self.region);
        let Parts {
            year,
            month,
            day,
            hour,
            ..
        } = Parts::of(bucket);
        let days = if self.hive {
            let place =
                format!("aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}");
            format!("AWSLogs/{place}/year={year}/month={month}/day={day}")
        } else {
            format!("AWSLogs/{account}/vpcflowlogs/{region}/{year}/{month}/{day}")
        };
        match (self.hourly, self.hive) {
            (false, _) => days,
            (true, true) => format!("{days}/hour={hour}"),
            (true, false) => format!("{days}/{hour}"),
        }
    }

    /// The name of a file of a bucket.
    pub fn file(&self, bucket: u64, hash: &str) -> String {
        let Parts {
            year,
            month,
            day,
            hour,
            minute,
        } = Parts::of(bucket);
        let Self {
            account,
            region,
            id,
            ..
        } = self;
        let time = format!("{year}{month}{day}T{hour}{minute}Z");
        format!("{account}_vpcflowlogs_{region}_{id}_{time}_{hash}.log.gz")
    }
}

/// The bucket that a second lies in.
pub(super) const fn bucket(secs: u64) -> u64 {
    secs - secs % BUCKET
}

/// What tells the files of a bucket apart: eight hex digits of a digest over the run, the bucket and a number.
pub(super) fn hash(run: &str, bucket: u64, number: u64) -> String {
    let mut hex = hex(&[run, &bucket.to_string(), &number.to_string()]);
    hex.truncate(8);
    hex
}

/// The id of a flow log: its own where it has one, else one that changes when the records do. A reader may rely on it
/// that all records of an id have the same columns.
fn id(config: &Config) -> String {
    config.id.clone().unwrap_or_else(|| {
        let format = config.log_format.to_string();
        let mut parts = vec![
            config.name.as_str(),
            &config.account,
            &config.region,
            &format,
        ];
        parts.extend(config.extra.iter().map(|extra| extra.name()));
        let mut hex = hex(&parts);
        hex.truncate(17);
        format!("fl-{hex}")
    })
}

fn hex(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Parts {
    year: String,
    month: String,
    day: String,
    hour: String,
    minute: String,
}

impl Parts {
    /// From the form that file names have: `20261124T230000.123456Z`.
    fn of(secs: u64) -> Self {
        let text = Timestamp::from_parts(secs, 0).file_name();
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
        Self {
            year: part(0, 4),
            month: part(4, 6),
            day: part(6, 8),
            hour: part(9, 11),
            minute: part(11, 13),
        }
    }
}
