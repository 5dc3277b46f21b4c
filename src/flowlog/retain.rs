//! How long the files of a flow log stay: those that are too old go, and then the oldest, until the rest fits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::flowlog::{Keep, Layout};
use crate::time::Timestamp;

/// What was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Deleted {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// The oldest stands first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    written: u64,
    path: PathBuf,
    bytes: u64,
}

impl Keep {
    /// Whether there is a bound.
    pub(super) fn is_set(&self) -> bool {
        self.max_size.bytes() > 0 || !self.max_age.duration().is_zero()
    }

    fn is_too_old(&self, written: u64, now: Timestamp) -> bool {
        let age = self.max_age.duration();
        !age.is_zero() && written < now.saturating_sub(age).nanos()
    }

    fn fits(&self, bytes: u64) -> bool {
        let most = self.max_size.bytes();
        most == 0 || bytes <= most
    }
}

/// Deletes what is beyond the bounds, below `directory`. Only files with a name of this flow log are looked at.
pub(super) fn retain(
    directory: &Path,
    layout: &Layout,
    keep: &Keep,
    now: Timestamp,
) -> io::Result<Deleted> {
    let mut files = list(directory, layout)?;
    files.sort_unstable();
    let mut left: u64 = files.iter().map(|file| file.bytes).sum();
    let mut deleted = Deleted::default();
    for file in &files {
        if keep.fits(left) && !keep.is_too_old(file.written, now) {
            break;
        }
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        prune(directory, &file.path);
        left -= file.bytes;
        deleted.files += 1;
        deleted.bytes += file.bytes;
    }
    Ok(deleted)
}

/// Removes the folders above that are empty now.
fn prune(directory: &Path, file: &Path) {
    let above = file.ancestors().skip(1);
    for folder in above.take_while(|folder| *folder != directory) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Links are not followed, and what vanishes meanwhile is passed over.
fn list(directory: &Path, layout: &Layout) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = vec![directory.join("AWSLogs")];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(facts) = entry.metadata() else {
                continue;
            };
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|name| layout.key(name).is_some());
            if facts.is_dir() {
                folders.push(entry.path());
            } else if facts.is_file() && ours {
                found.push(Found {
                    written: nanos(&facts),
                    path: entry.path(),
                    bytes: facts.len(),
                });
            }
        }
    }
    Ok(found)
}

fn nanos(facts: &fs::Metadata) -> u64 {
    let since = facts
        .modified()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
