//! What a line of the manifest tells.
//!
//! Takes: what other rooms know of a file. Gives: [`Entry`], one for each kind of line. Holds: nothing that the scribe
//! adds itself: number, time, run, previous hash and signature.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::packet::Tally;
use crate::spool::Format;
use crate::spool::manifest::Digest;
use crate::time::Timestamp;

/// One line of the manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A program began to write into this output folder.
    Run(Box<Run>),
    /// A capture file was finished and got its name.
    Published(Box<Listed>),
    /// A file that a crash had left unfinished was completed and got its name.
    Recovered(Box<Listed>),
    /// A capture file that an earlier run published without telling of it, being killed in between.
    Found(Box<Listed>),
    /// A file that holds no capture was set aside under another name.
    Aside(Aside),
    /// A capture file is removed now.
    Deleted(Deleted),
    /// A capture file has arrived in its bucket.
    Shipped(Shipped),
    /// The program ends.
    Stopped(Box<Stopped>),
}

impl Entry {
    /// As it stands in the line.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Published(_) => "published",
            Self::Recovered(_) => "recovered",
            Self::Found(_) => "found",
            Self::Aside(_) => "aside",
            Self::Deleted(_) => "deleted",
            Self::Shipped(_) => "shipped",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// The beginning of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Run {
    /// Of the program.
    pub version: String,
    /// Fingerprint of the public key that signatures are checked with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The configured sessions.
    pub sessions: Vec<String>,
    /// What was cut off the end of the manifest, because a crash had left it torn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<Mend>,
}

/// What was done about a torn last line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mend {
    /// How many bytes there were.
    pub bytes: u64,
    /// The file beside the manifest that keeps them.
    pub kept: String,
}

/// A capture file. What is not known of it is left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Listed {
    /// Path below the output folder.
    pub name: String,
    /// The session whose packets it holds.
    pub session: String,
    /// The worker, where there is one series of files for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// pcap or pcapng.
    pub format: Format,
    /// "none", "zstd" or "gzip".
    pub compression: &'static str,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// Packets in it.
    pub packets: u64,
    /// Its size.
    pub bytes: u64,
    /// Time of the earliest packet.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub first: Option<Timestamp>,
    /// Time of the latest packet.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub last: Option<Timestamp>,
    /// VNIs of its packets, the first 64.
    pub vnis: Vec<u32>,
    /// Outer sources of its packets, the first 64.
    pub sources: Vec<IpAddr>,
    /// How many (source, VNI, endpoint) there are in all.
    pub peers: usize,
    /// Bytes of a torn end that were cut off a recovered file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
    /// The hidden file that keeps what a recovered file was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// The session's ledger when the file ended, from the start of the run. The line has what came since the session's last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Tally>,
    /// Lost in the kernel since the run's last line about a file, by place. The scribe fills it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_dropped: Option<BTreeMap<&'static str, u64>>,
    /// SHA-256 of the file; `null` when it could not be read.
    pub sha256: Option<Digest>,
}

fn as_text<S: serde::Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.collect_str(time),
        None => to.serialize_none(),
    }
}

/// A file that was set aside.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Aside {
    /// Path below the output folder that it had.
    pub name: String,
    /// Path below the output folder that it has now.
    pub kept: String,
    /// Its size.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

/// A file that is removed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Deleted {
    /// Path below the output folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Which bound asked for it: "size", "age" or "free"; or that it was "shipped".
    pub cause: &'static str,
}

/// A file that has arrived.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Shipped {
    /// Path below the output folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Where it is now: `s3://bucket/key`.
    pub object: String,
}

/// The end of a run, with all that it counted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Stopped {
    /// Where every datagram ended.
    pub ledger: Tally,
    /// Lost before it reached the program, by where the kernel counted it.
    pub kernel_dropped: BTreeMap<&'static str, u64>,
    /// What belongs to no session.
    pub unattributed: Tally,
    /// By session, what is in no line of a file. Given as the whole ledger of each session; the scribe takes off what was told.
    pub unfiled: BTreeMap<String, Tally>,
    /// Lost in the kernel since the run's last line about a file. The scribe fills it in.
    pub kernel_unfiled: BTreeMap<&'static str, u64>,
    /// Capture files that were published without a line; `null` when that is not known. The scribe fills it in.
    pub unlisted: Option<u64>,
}
