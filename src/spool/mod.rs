//! A capture file's life on disk.
//!
//! Takes: what a session wants of its files ([`Settings`]). Gives: [`Target`], the place that a
//! session's packets go to; [`Partial`] and [`Sealed`], a file before it has its name. Holds: a published file is whole and
//! was synced before it got its name. `docs/capture-files.md` tells the whole life.

mod compress;
mod direct;
pub mod lock;
pub mod manifest;
mod name;
mod ours;
mod partial;
mod plain;
pub mod recover;
pub mod retain;
mod sealed;

pub use compress::Compression;
pub use direct::Staging;
pub use name::Name;
pub use ours::Ours;
pub use partial::{Partial, Short};
pub use sealed::Sealed;

use std::io;
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
    /// How files are compressed.
    pub compression: Compression,
    /// How hard: one of [`Compression::levels`].
    pub level: u32,
    /// Largest file, in bytes, headers included; before compression.
    pub rotate_size: Option<u64>,
    /// A new file at each multiple of this since the epoch.
    pub rotate_interval: Option<Duration>,
    /// Most packets a file may hold.
    pub rotate_packets: Option<u64>,
}

/// How bytes get to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// Through the page cache.
    #[default]
    Buffered,
    /// Past it, in whole blocks (`O_DIRECT`); through it where the file system refuses.
    Direct,
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

impl Target {
    /// Whether no configured session claims its packets: such names, `vni-N` and `vni-other`, are kept for that.
    pub fn is_unclaimed(&self) -> bool {
        let number = self.name.strip_prefix("vni-").unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        is_number || number == "other"
    }
}

/// What went wrong with a file on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or the hidden file could not be made.
    #[error("cannot create {}: {source}; {}", path.display(), advice(source))]
    Create {
        /// The hidden file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file whose descriptor had been lent out could not be opened again.
    #[error("cannot open {} again: {source}; {}", path.display(), advice(source))]
    Reopen {
        /// The hidden file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Records could not be appended.
    #[error("cannot write to {}: {source}; {}", path.display(), advice(source))]
    Write {
        /// The hidden file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// File or folder could not be synced.
    #[error("cannot sync {}: {source}; {}", path.display(), advice(source))]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The finished file could not be given its name.
    #[error("cannot publish {}: {source}; {}", path.display(), advice(source))]
    Publish {
        /// The hidden file, which stays as it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// What the system said.
    pub fn source_error(&self) -> &io::Error {
        match self {
            Self::Create { source, .. }
            | Self::Reopen { source, .. }
            | Self::Write { source, .. }
            | Self::Sync { source, .. }
            | Self::Publish { source, .. } => source,
        }
    }
}

/// What to do about it.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or set retention"
        }
        io::ErrorKind::PermissionDenied => "give the user that mirrortap runs as write access",
        io::ErrorKind::ReadOnlyFilesystem => "mount the file system for writing",
        io::ErrorKind::NotFound => "somebody removed the folder or the file",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "choose an output folder whose path holds no plain file"
        }
        _ => "check the disk (dmesg) and that the output folder can be written to",
    }
}
