//! The hidden folder of what a run is writing, and what earlier runs left in theirs.
//!
//! Each run has a folder of its own, `.growing/ID-RUN`, whose lock it holds: so a run that is gone is told from one that goes on, and
//! several may write below the same directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spool::lock::{self, OutputLock};

/// The folder of the folders.
const GROWING: &str = ".growing";
/// Another run may tidy up between the moment at which the folder is made and that at which it is locked.
const TRIES: usize = 3;

/// The folder of a run. Dropping it gives it back, and removes it if nothing is in it.
#[derive(Debug)]
pub(super) struct Work {
    folder: PathBuf,
    _lock: OutputLock,
}

impl Work {
    /// Makes the folder of a run.
    pub(super) fn make(directory: &Path, id: &str, run: &str) -> io::Result<Self> {
        let folder = directory.join(GROWING).join(format!("{id}-{run}"));
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..TRIES {
            match OutputLock::take(&folder) {
                Ok(lock) => {
                    return Ok(Self {
                        folder,
                        _lock: lock,
                    });
                }
                Err(lock::Error::Failed { source, .. }) => last = source,
                Err(held @ lock::Error::Held { .. }) => return Err(io::Error::other(held)),
            }
        }
        Err(last)
    }

    /// The folders that earlier runs of the flow log left, each with its lock: those of its id, and those of another one that it had under
    /// its name. Those of runs that go on are passed over.
    pub(super) fn left(directory: &Path, id: &str, owner: &str) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(directory.join(GROWING)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|name| {
                let of_id = name
                    .strip_prefix(id)
                    .and_then(|rest| rest.strip_prefix('-'));
                let run = name.rsplit_once('-').map(|(_, run)| run);
                of_id.is_some() || run.is_some_and(|run| run.starts_with(owner))
            });
            if ours && entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(entry.path());
            }
        }
        folders.sort();
        Ok(folders.into_iter().filter_map(Self::take).collect())
    }

    fn take(folder: PathBuf) -> Option<Self> {
        if lock::is_held(&folder).unwrap_or(true) {
            return None;
        }
        let lock = OutputLock::take(&folder).ok()?;
        Some(Self {
            folder,
            _lock: lock,
        })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names in it, in order.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let names: io::Result<Vec<_>> = names.collect();
        let mut names: Vec<_> = names?
            .into_iter()
            .flatten()
            .filter(|n| n != lock::FILE)
            .collect();
        names.sort();
        Ok(names)
    }

    /// Puts a file aside that can't be read: beside the folders of the runs, under its name.
    pub(super) fn aside(&self, file: &str) -> io::Result<PathBuf> {
        let above = self.folder.parent().unwrap_or(&self.folder);
        let aside = above.join(format!("{file}.damaged"));
        fs::rename(self.folder.join(file), &aside)?;
        Ok(aside)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.names().is_ok_and(|names| names.is_empty()) {
            let _ = fs::remove_file(self.folder.join(lock::FILE));
            let _ = fs::remove_dir(&self.folder);
            let above = self.folder.parent();
            let _ = above.map(fs::remove_dir);
        }
    }
}
