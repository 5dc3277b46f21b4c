//! What is told of a finished file.
//!
//! Takes: what a writer knows when it lets a file go. Gives: [`Closed`], for the log, the hook command
//! and the final ledger. Holds: it is told after the file was published and its line is
//! in the manifest, not before.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::spool::Format;
use crate::spool::manifest::Digest;
use crate::time::Timestamp;

/// How many finished files are remembered by name.
const REMEMBERED: usize = 10_000;

/// How many sources and VNIs are named for one file.
pub(super) const NAMED: usize = 64;

/// Why a file was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The next record would have made it larger than `rotate_size`.
    Size,
    /// Its interval is over.
    Interval,
    /// It holds `rotate_packets` packets.
    Packets,
    /// A write to it had failed, and it takes no more: an I/O error, the process' limit on file sizes, or a compressed frame that cannot be
    /// gone on with.
    WriteFailed,
    /// Its session was changed or removed by a reload.
    Retired,
    /// The program stops.
    Shutdown,
    /// An earlier run was ended in the middle of it.
    Crash,
}

impl Cause {
    /// As it is written in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Interval => "interval",
            Self::Packets => "packets",
            Self::WriteFailed => "write_failed",
            Self::Retired => "retired",
            Self::Shutdown => "shutdown",
            Self::Crash => "crash",
        }
    }
}

/// A finished capture file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Closed {
    /// Where it is.
    pub path: PathBuf,
    /// The session whose packets it holds.
    #[serde(serialize_with = "as_text")]
    pub session: Arc<str>,
    /// The worker, where there is one series of files for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// pcap or pcapng.
    pub format: Format,
    /// Packets in it.
    pub packets: u64,
    /// Its size.
    pub bytes: u64,
    /// Time of the earliest packet.
    #[serde(serialize_with = "as_text")]
    pub first: Timestamp,
    /// Time of the latest packet.
    #[serde(serialize_with = "as_text")]
    pub last: Timestamp,
    /// VNIs of its packets, the first 64.
    pub vnis: Vec<u32>,
    /// Outer sources of its packets, the first 64.
    pub sources: Vec<IpAddr>,
    /// How many (source, VNI, endpoint) there are in all.
    pub peers: usize,
    /// Why it was closed.
    pub cause: Cause,
    /// Whether it was repaired after a crash.
    pub recovered: bool,
    /// SHA-256 of the file, where there is a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Closed {
    /// One line of log.
    pub(super) fn log(&self) {
        tracing::info!(
            target: "mirrortap::closed",
            path = %self.path.display(),
            session = %self.session,
            packets = self.packets,
            bytes = self.bytes,
            first = %self.first,
            last = %self.last,
            cause = self.cause.name(),
            "closed a capture file"
        );
    }
}

/// The finished files: the last of them by name, all of them by number.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The last 10,000, oldest first.
    pub last: VecDeque<Arc<Closed>>,
    /// How many there were.
    pub total: u64,
}

impl Files {
    pub(super) fn add(&mut self, closed: Arc<Closed>) {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(closed);
        self.total += 1;
    }
}
