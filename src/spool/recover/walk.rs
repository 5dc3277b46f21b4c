//! Finding what a crash left.
//!
//! Takes: a folder. Gives: the hidden files in it that are ours. Holds: a folder that belongs to another sensor is passed by,
//! whichever way it is reached; a file that this process writes is not among them.
//!
//! A sensor writes to `{output}/{session}/`, and nowhere else. So the files directly in a folder belong to whoever has the
//! lock of the folder above it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spool::lock::{self, OutputLock};
use crate::spool::{Name, Ours};

/// Calls `found` with each hidden file that an earlier run left in an output of which the caller holds the lock, as long as
/// it says true. Folders that cannot be read are given to `failed`.
pub fn of_output(
    output: &Path,
    ours: &Ours,
    mut found: impl FnMut(PathBuf) -> bool,
    mut failed: impl FnMut(PathBuf, io::Error),
) {
    let sessions = match folders(output) {
        Ok(sessions) => sessions,
        Err(error) => return failed(output.to_owned(), error),
    };
    for folder in sessions {
        if lock::is_output(&folder) {
            continue;
        }
        if is_link(&folder) {
            failed(folder, io::Error::other(LINK));
            continue;
        }
        let files = match hidden(&folder) {
            Ok(files) => files,
            Err(error) => {
                failed(folder, error);
                continue;
            }
        };
        for path in files {
            if is_of(&path, &folder) && !ours.holds(&path) && !found(path) {
                return;
            }
        }
    }
}

/// Whether the file is of the session that the folder is called after.
fn is_of(path: &Path, folder: &Path) -> bool {
    let folder = folder.file_name().and_then(|f| f.to_str());
    Name::of_partial(path).is_some_and(|name| Some(name.session().0) == folder)
}

/// Why a session's folder that is a link is passed by: another sensor may write where it leads, and no lock tells.
const LINK: &str = "it is a symbolic link, and another sensor may write where it leads; if none does, recover there by hand";

fn is_link(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|facts| facts.is_symlink())
}

/// A folder that was passed by, and why.
#[derive(Debug)]
pub struct Skipped {
    /// The folder.
    pub folder: PathBuf,
    /// Why: most often because it belongs to a sensor that runs.
    pub why: String,
}

/// All hidden files of ours below a folder, at any depth.
#[derive(Debug, Default)]
pub struct Below {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// Folders that were passed by.
    pub skipped: Vec<Skipped>,
    /// Those of outputs that were met. Whoever changes files keeps them until that is done.
    pub locks: Vec<OutputLock>,
}

/// Looks for hidden files of ours in a folder and all folders below it, without following links. Outputs on the way are locked
/// where `locking`; those that cannot be are passed by.
///
/// # Errors
/// When the folder itself belongs to a sensor that runs.
pub fn below(root: &Path, locking: bool) -> Result<Below, lock::Error> {
    let mut found = Below::default();
    let real = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    for above in real.parent().into_iter().filter(|p| lock::is_output(p)) {
        found.locks.extend(claim(above, locking)?);
    }
    if locking || lock::is_output(root) {
        found.locks.extend(claim(root, locking)?);
    }
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        if folder != root && lock::is_output(&folder) {
            match claim(&folder, locking) {
                Ok(lock) => found.locks.extend(lock),
                Err(error) => {
                    found.skip(folder, error.to_string());
                    continue;
                }
            }
        }
        match contents(&folder) {
            Ok((folders, files)) => {
                waiting.extend(folders.into_iter().rev());
                found.files.extend(files);
            }
            Err(error) => found.skip(folder, format!("it cannot be read: {error}")),
        }
    }
    Ok(found)
}

impl Below {
    fn skip(&mut self, folder: PathBuf, why: String) {
        self.skipped.push(Skipped { folder, why });
    }
}

/// Takes a lock, or only looks whether it could be taken.
fn claim(folder: &Path, locking: bool) -> Result<Option<OutputLock>, lock::Error> {
    if locking {
        return OutputLock::take(folder).map(Some);
    }
    let directory = folder.to_owned();
    match lock::is_held(folder) {
        Ok(false) => Ok(None),
        Ok(true) => Err(lock::Error::Held {
            directory,
            holder: None,
        }),
        Err(source) => Err(lock::Error::Failed { directory, source }),
    }
}

fn contents(folder: &Path) -> io::Result<(BTreeSet<PathBuf>, Vec<PathBuf>)> {
    let mut folders = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.insert(entry.path());
        }
    }
    Ok((folders, hidden(folder)?))
}

/// Folders in a folder, and links to some.
fn folders(output: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(output)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

/// Hidden capture files in a folder, in order.
fn hidden(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if Name::of_partial(&path).is_some() && entry.file_type()?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
