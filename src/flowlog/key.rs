//! Where a file of records lies: AWS's layout of keys.

use sha2::{Digest, Sha256};

use crate::flowlog::{Config, FileFormat};
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
    /// What the files are.
    pub file_format: FileFormat,
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
            file_format: config.file_format,
        }
    }

    /// The folder of a bucket.
    pub fn folder(&self, bucket: u64) -> String {
        self.folder_of(&Parts::of(bucket))
    }

    fn folder_of(&self, parts: &Parts) -> String {
        let (account, region) = (&self.account, &self.region);
        let Parts {
            year,
            month,
            day,
            hour,
            ..
        } = parts;
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
        let time = format!("{year}{month}{day}T{hour}{minute}Z");
        let ending = ending(self.file_format);
        format!("{}{time}_{hash}{ending}", self.stem())
    }

    /// What the names of all its files begin with.
    fn stem(&self) -> String {
        let Self {
            account,
            region,
            id,
            ..
        } = self;
        format!("{account}_vpcflowlogs_{region}_{id}_")
    }

    /// The key of a file of this flow log, by its name; `None` for any other name.
    pub fn key(&self, name: &str) -> Option<String> {
        let (time, rest) = name.strip_prefix(&self.stem())?.split_once('_')?;
        let formats = [FileFormat::Text, FileFormat::Parquet];
        let hash = formats
            .iter()
            .find_map(|format| rest.strip_suffix(ending(*format)))?;
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let is_hash = hash.len() == HASH && hash.bytes().all(hex);
        let parts = Parts::read(time).filter(|_| is_hash)?;
        Some(format!("{}/{name}", self.folder_of(&parts)))
    }

    /// The key of a file that this flow log, or one that it was before its configuration was edited, gave that name.
    pub(super) fn key_of_left(&self, name: &str) -> Option<String> {
        let (account, rest) = name.split_once("_vpcflowlogs_")?;
        let mut words = rest.split('_');
        let (region, id) = (words.next()?, words.next()?);
        let plain = |word: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !word.is_empty() && word.bytes().all(fits)
        };
        let before = Self {
            account: account.to_owned(),
            region: region.to_owned(),
            id: id.to_owned(),
            ..self.clone()
        };
        let is_plain = plain(account) && plain(region) && plain(id);
        is_plain.then(|| before.key(name))?
    }

    /// The name with another hash.
    pub(super) fn renamed(&self, name: &str, hash: &str) -> String {
        let formats = [FileFormat::Text, FileFormat::Parquet];
        let ending = formats
            .map(ending)
            .into_iter()
            .find(|ending| name.ends_with(ending));
        let stem = name.rsplit_once('_').map_or(name, |(stem, _)| stem);
        format!("{stem}_{hash}{}", ending.unwrap_or_default())
    }
}

/// The name of a run's folder: a digest over the flow log's name, and one over what tells the run from others.
pub(super) fn run_name(name: &str, run: &str) -> String {
    let mut hex = hex(&[run]);
    hex.truncate(16);
    owner(name) + &hex
}

/// What the names of the folders of all its runs begin with: it stays when the id changes with the format.
pub(super) fn owner(name: &str) -> String {
    let mut hex = hex(&["owner", name]);
    hex.truncate(16);
    hex
}

/// Hex digits that tell the files of a bucket apart.
const HASH: usize = 8;

/// What the name of a file ends with.
pub(super) const fn ending(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Text => ".log.gz",
        FileFormat::Parquet => ".log.parquet",
    }
}

/// The bucket that a second lies in.
pub(super) const fn bucket(secs: u64) -> u64 {
    secs - secs % BUCKET
}

/// What tells the files of a bucket apart: [`HASH`] hex digits of a digest over the run, the bucket and a number.
pub(super) fn hash(run: &str, bucket: u64, number: u64) -> String {
    let mut hex = hex(&[run, &bucket.to_string(), &number.to_string()]);
    hex.truncate(HASH);
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

    /// From the form that they have in a file's name: `20261124T2300Z`.
    fn read(time: &str) -> Option<Self> {
        let (day, minute) = time.strip_suffix('Z')?.split_once('T')?;
        let digits =
            |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(day, 8) || !digits(minute, 4) {
            return None;
        }
        let part = |text: &str, from: usize, to: usize| text.get(from..to).map(str::to_owned);
        Some(Self {
            year: part(day, 0, 4)?,
            month: part(day, 4, 6)?,
            day: part(day, 6, 8)?,
            hour: part(minute, 0, 2)?,
            minute: part(minute, 2, 4)?,
        })
    }
}
