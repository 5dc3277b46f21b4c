//! What a crash left, made whole.
//!
//! Takes: hidden files (`.{name}.partial`) that nobody writes to any more. Gives: [`Outcome`]: the file under its final
//! name, cut at its last whole record and completed; or set aside. Holds: nothing is deleted, nothing is overwritten;
//! what is cut off is kept beside the file unless it is a torn tail (of one record, or one compressed unit) or
//! filler; memory is bounded whatever is in the file; whoever stops half way leaves a file that can be recovered again.
//!
//! Who calls this holds the lock of the output ([`crate::spool::lock`]). `docs/capture-files.md` tells the whole.

mod mend;
mod scan;
mod tail;
mod units;
mod walk;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::spool::recover::scan::{Scan, Scanned};
use crate::spool::{Compression, Format, Name, Sealed};
use crate::sys::disk;
use crate::time::Timestamp;

pub use walk::{Below, Skipped, below, of_output};

/// Asked now and then whether it is enough.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// A file that was made whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Recovered {
    /// Where it is now; what it was called while it was hidden is [`Recovered::partial`].
    pub path: PathBuf,
    /// Its hidden name, which it has no more.
    pub partial: PathBuf,
    /// The session whose packets it holds.
    pub session: String,
    /// The worker, where there was one series of files for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// pcap or pcapng.
    pub format: Format,
    /// How it is compressed.
    pub compression: Compression,
    /// Packets in it.
    pub packets: u64,
    /// Its size.
    pub bytes: u64,
    /// Time of the earliest packet.
    #[serde(serialize_with = "as_text")]
    pub first: Option<Timestamp>,
    /// Time of the latest packet.
    #[serde(serialize_with = "as_text")]
    pub last: Option<Timestamp>,
    /// Interfaces, in a pcapng file.
    pub interfaces: usize,
    /// Bytes behind the last place to cut, of the file as it was.
    pub cut: u64,
    /// Why they were cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Where they are kept, where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// It was whole, and only had its hidden name beside the final one.
    pub was_published: bool,
}

fn as_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// What became of a hidden file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is published.
    Recovered(Recovered),
    /// It holds no capture, and has another hidden name now.
    Aside {
        /// What it was called.
        partial: PathBuf,
        /// What it is called now.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
}

/// Why a hidden file stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not one of ours, or is no plain file.
    #[error(
        "{} is no hidden capture file of mirrortap; give the folder that it is in",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}: {source}; check the disk (dmesg), and that it may be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be completed, or what is cut off cannot be kept.
    #[error(
        "cannot recover {}: {source}; it stays as it is: free some space or see to the folder, then run `mirrortap recover`",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be published.
    #[error(transparent)]
    Publish(#[from] crate::spool::Error),
    /// Somebody said that it is enough.
    #[error("stopped before the file was done; it stays as it is")]
    Stopped,
}

impl Error {
    fn reading(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Read { path, source }
    }

    fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Write { path, source }
    }
}

/// Makes a hidden file whole and publishes it, or sets it aside.
///
/// # Errors
/// When the file stays as it is; it may be tried again.
pub fn recover(path: &Path, stop: Stop<'_>) -> Result<Outcome, Error> {
    let (name, file) = open(path)?;
    match scan::scan(duplicate(&file, path)?, &name, stop)? {
        Scanned::Nothing(why) => mend::aside(&name, why),
        Scanned::Capture(scan) => match twin(&name, &file) {
            Some(twin) => finish(&name, &file, &scan, twin),
            None => mend::mend(&name, &file, &scan).map(Outcome::Recovered),
        },
    }
}

/// What [`recover`] would do, without doing it: the paths are those that it would choose.
///
/// # Errors
/// When the file cannot be read.
pub fn look(path: &Path, stop: Stop<'_>) -> Result<Outcome, Error> {
    let (name, file) = open(path)?;
    Ok(match scan::scan(duplicate(&file, path)?, &name, stop)? {
        Scanned::Nothing(why) => Outcome::Aside {
            partial: name.partial(),
            path: name.hidden(mend::ASIDE),
            why,
        },
        Scanned::Capture(scan) => {
            let stored = file.metadata().map_err(|e| Error::reading(path, e))?.len();
            let twin = twin(&name, &file);
            let mut told = told(&name, &scan, stored);
            told.was_published = twin.is_some();
            told.path = twin.unwrap_or_else(|| name.published());
            Outcome::Recovered(told)
        }
    })
}

/// Opens a hidden file of ours, for reading and writing: never through a link, and nothing but a plain file.
fn open(path: &Path) -> Result<(Name, File), Error> {
    let name = Name::of_partial(path).ok_or_else(|| Error::NotOurs(path.to_owned()))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(disk::O_NOFOLLOW | disk::O_NONBLOCK);
    let file = options.open(path).map_err(|e| Error::reading(path, e))?;
    match file.metadata().map_err(|e| Error::reading(path, e))? {
        facts if facts.is_file() => Ok((name, file)),
        _ => Err(Error::NotOurs(path.to_owned())),
    }
}

fn duplicate(file: &File, path: &Path) -> Result<File, Error> {
    file.try_clone().map_err(|e| Error::reading(path, e))
}

/// The final name that the file got before its hidden one could be taken away.
fn twin(name: &Name, file: &File) -> Option<PathBuf> {
    let facts = file.metadata().ok().filter(|f| f.nlink() > 1)?;
    let is_it = |path: &PathBuf| {
        let found = fs::symlink_metadata(path);
        found.is_ok_and(|m| m.dev() == facts.dev() && m.ino() == facts.ino())
    };
    let entries = fs::read_dir(name.directory()).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| Name::of_published(path).is_some())
        .find(is_it)
}

/// Ends the publication of a file that has its final name already.
fn finish(name: &Name, file: &File, scan: &Scan, twin: PathBuf) -> Result<Outcome, Error> {
    let bytes = file.metadata().map_err(|e| Error::reading(&twin, e))?.len();
    let path = Sealed::claimed(name.clone(), twin, bytes).publish()?;
    let mut told = told(name, scan, bytes);
    (told.path, told.bytes, told.was_published) = (path, bytes, true);
    (told.cut, told.damage) = (0, None);
    Ok(Outcome::Recovered(told))
}

/// What is told of a file of `stored` bytes before anything is done.
fn told(name: &Name, scan: &Scan, stored: u64) -> Recovered {
    let (session, worker) = name.session();
    Recovered {
        path: name.published(),
        partial: name.partial(),
        session: session.to_owned(),
        worker,
        format: name.format(),
        compression: name.compression(),
        packets: scan.packets,
        bytes: stored,
        first: scan.times.map(|t| t.0),
        last: scan.times.map(|t| t.1),
        interfaces: scan.interfaces.len(),
        cut: stored.saturating_sub(scan.cut.stored),
        damage: scan.damage.clone(),
        kept: None,
        was_published: false,
    }
}
