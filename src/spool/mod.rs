//! A capture file's life on disk.
//!
//! Takes: what a session wants of its files ([`Settings`]). Gives: [`Target`], the place that a
//! session's packets go to. Holds: a published file is whole and was synced before it got its name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::packet::Ledger;

pub use crate::capfile::{Format, Precision};

/// How a session's capture files are made. All limits are "never more than"; `None` is no limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Folder of the session's files, made when the first is opened.
    pub directory: PathBuf,
    /// pcap or pcapng.
    pub format: Format,
    /// Resolution of times.
    pub precision: Precision,
    /// The snaplen told in the file header.
    pub snaplen: u32,
    /// Largest file, in bytes, headers included.
    pub rotate_size: Option<u64>,
    /// A new file at each multiple of this since the epoch.
    pub rotate_interval: Option<Duration>,
    /// Most packets a file may hold.
    pub rotate_packets: Option<u64>,
}

/// Where the kept packets of one session go. Targets live as long as the process; a reload that
/// changes a session's settings makes a new target (same name and ledger, new id).
#[derive(Debug)]
pub struct Target {
    /// Small and dense: an index for tables.
    pub id: u32,
    /// The session's name; also the stem of its files.
    pub name: Arc<str>,
    /// How its files are made.
    pub settings: Settings,
    /// The session's ledger; the sink adds `written`, `write_failed` and `shutdown` to it.
    pub ledger: Arc<Ledger>,
}
