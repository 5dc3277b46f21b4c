//! How far a file has come: how many of its batches were taken.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ship::{Entry, Streams};

/// Changes with the way in which events are dealt into batches: a number of others says nothing.
pub(super) const DEALING: u8 = 1;

/// A file, and where it goes. Another file under its name, or another place, begins anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) name: String,
    pub(super) identity: (u64, u64),
    pub(super) bytes: u64,
    pub(super) written: i128,
    pub(super) log_group: String,
    pub(super) streams: Streams,
    pub(super) dealing: u8,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    way: Way,
    batches: u64,
}

/// How far the last file has come, in memory: a disk that is full must not have its batches sent again and again.
#[derive(Debug, Default)]
pub(super) struct Last(RefCell<Option<(Way, u64)>>);

impl Last {
    fn of(&self, way: &Way) -> u64 {
        let last = self.0.borrow();
        let same = last.as_ref().filter(|(of, _)| of == way);
        same.map_or(0, |(_, batches)| *batches)
    }

    fn remember(&self, way: &Way, batches: u64) {
        *self.0.borrow_mut() = Some((way.clone(), batches));
    }
}

/// The progress of one file, kept in a file of its own.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
    way: Way,
    /// Batches that were taken.
    pub(super) batches: u64,
}

impl Progress {
    /// Of a file, as it was left: on the disk, or further on where the disk would not have it.
    pub(super) fn of(folder: &Path, way: Way, last: &Last) -> io::Result<Self> {
        let path = path(folder, &way.name);
        let on_disk = match fs::read(&path) {
            Ok(text) => kept(&text, &way),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let batches = on_disk.max(last.of(&way));
        Ok(Self { path, way, batches })
    }

    /// One more was taken, which is remembered whatever the disk says. It is on the disk when this succeeds.
    pub(super) fn step(&mut self, last: &Last) -> io::Result<()> {
        self.batches += 1;
        last.remember(&self.way, self.batches);
        let kept = Kept {
            way: self.way.clone(),
            batches: self.batches,
        };
        let aside = self.path.with_extension("partial");
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)
    }

    /// All were taken.
    pub(super) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// What is damaged counts for nothing: the file goes once more.
fn kept(text: &[u8], way: &Way) -> u64 {
    let kept: Option<Kept> = serde_json::from_slice(text).ok();
    kept.filter(|kept| kept.way == *way)
        .map_or(0, |kept| kept.batches)
}

/// A name may be longer than a file's name.
fn path(folder: &Path, name: &str) -> PathBuf {
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    folder.join(format!("{hex}.json"))
}

/// Removes what was kept of files that do not wait any more.
pub(super) fn sweep(folder: &Path, waiting: &[Entry]) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let kept = entries.map(|entry| entry.map(|entry| entry.path()));
    let kept: Vec<_> = kept.collect::<io::Result<_>>()?;
    if kept.is_empty() {
        return Ok(());
    }
    let wanted: BTreeSet<_> = waiting.iter().map(|e| path(folder, &e.name)).collect();
    let mut unwanted = kept.iter().filter(|path| !wanted.contains(*path));
    unwanted.try_for_each(fs::remove_file)
}
