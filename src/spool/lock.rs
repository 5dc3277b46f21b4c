//! Who an output folder belongs to.
//!
//! Takes: a folder. Gives: [`OutputLock`], which a sensor holds on its output as long as it runs, and whoever repairs
//! or changes files there as long as that takes; [`is_held`], for those who only pass by. Holds: at most one
//! process holds the lock of a folder; it ends with the process, however that ends; the lock file itself is
//! never removed, so that nobody can lock a file that has no name any more.
//!
//! The descriptor is open for writing, because NFS makes locks of flock(2) into write locks, which ask for that.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::disk;

/// Name of the lock file.
pub const FILE: &str = ".mirrortap.lock";

/// How often a lock is tried: the file may be moved away meanwhile, and who passes by has it for a moment.
const TRIES: usize = 20;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(25);

/// Why the lock of a folder is not ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has it.
    #[error(
        "{} belongs to another mirrortap{}, which is running; stop it first, or choose another output folder",
        directory.display(), process(.holder)
    )]
    Held {
        /// The folder.
        directory: PathBuf,
        /// The process that says it has it.
        holder: Option<u32>,
    },
    /// The lock file cannot be made or locked.
    #[error(
        "cannot lock the folder {}: {source}; check that it can be written to, and that its file system has locks",
        directory.display()
    )]
    Failed {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn process(holder: &Option<u32>) -> String {
    holder.map_or_else(String::new, |id| format!(" (process {id})"))
}

/// An output folder that is ours. Dropping it gives it back.
#[derive(Debug)]
pub struct OutputLock {
    directory: PathBuf,
    /// Locked as long as it is open.
    _file: File,
}

impl OutputLock {
    /// Makes the folder where it is missing, and takes its lock.
    ///
    /// # Errors
    /// [`Error::Held`] when somebody else has it, and has it for longer than it takes to look whether it is held.
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Failed {
            directory: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut holder = None;
        for _ in 0..TRIES {
            let mut file = options()
                .create(true)
                .open(path(directory))
                .map_err(failed)?;
            own(&file).map_err(failed)?;
            give(&file, directory);
            match file.try_lock() {
                Ok(()) if is_named(&file, directory) => {
                    sign(&mut file);
                    return Ok(Self {
                        directory: directory.to_owned(),
                        _file: file,
                    });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    holder = who(&mut file);
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(Error::Held {
            directory: directory.to_owned(),
            holder,
        })
    }

    /// The folder that it is of.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Whether somebody, this process included, holds the lock of a folder right now. A folder without a lock file is nobody's.
///
/// # Errors
/// When the lock file cannot be opened: it is then better taken for held.
pub fn is_held(directory: &Path) -> io::Result<bool> {
    let file = match options().open(path(directory)) {
        Ok(file) => file,
        Err(e) if is_missing(&e) => return Ok(false),
        Err(e) => return Err(e),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Whether a folder has a lock file: whether it is, or was, somebody's output.
pub fn is_output(directory: &Path) -> bool {
    fs::symlink_metadata(path(directory)).is_ok()
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o640);
    options.custom_flags(disk::O_NOFOLLOW | disk::O_NONBLOCK);
    options
}

/// It is written to, and may be given away: so it must not be another file under this name.
fn own(file: &File) -> io::Result<()> {
    let facts = file.metadata()?;
    if facts.is_file() && facts.nlink() <= 1 {
        return Ok(());
    }
    let what = "the lock file is no plain file of its own; remove it";
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// Root may have made it, by hand: whoever the folder belongs to has to be able to lock it too.
fn give(file: &File, directory: &Path) {
    if let (Ok(file_is), Ok(folder)) = (file.metadata(), fs::metadata(directory))
        && file_is.uid() != folder.uid()
    {
        // Only root can, and for others it is as it was.
        let _ = fchown(file, Some(folder.uid()), Some(folder.gid()));
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether what was locked is what the name stands for.
fn is_named(file: &File, directory: &Path) -> bool {
    let facts = |m: fs::Metadata| (m.dev(), m.ino());
    let named = fs::symlink_metadata(path(directory)).map(facts);
    let locked = file.metadata().map(facts);
    matches!((named, locked), (Ok(a), Ok(b)) if a == b)
}

/// Says who has it, for the message to those who want it too. A full disk may refuse: the lock holds all the same.
fn sign(file: &mut File) {
    let _ = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
}

/// The process that wrote its number into it.
fn who(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_one_owner_at_a_time_and_says_who_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("new/output");
        assert!(!is_held(&output).expect("nobody's") && !is_output(&output));
        let lock = OutputLock::take(&output).expect("free");
        assert!(is_held(&output).expect("ours") && is_output(&output));
        let refused = OutputLock::take(&output).expect_err("held");
        let said = refused.to_string();
        assert!(matches!(refused, Error::Held { .. }));
        assert!(said.contains(&std::process::id().to_string()), "{said}");
        drop(lock);
        assert!(!is_held(&output).expect("free again") && is_output(&output));
        OutputLock::take(&output).expect("free again");
    }

    #[test]
    fn a_lock_file_that_is_a_link_to_somewhere_else_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, path(folder.path())).expect("linked");
        let refused = OutputLock::take(folder.path()).expect_err("a link");
        assert!(matches!(refused, Error::Failed { .. }));
        assert!(!elsewhere.exists() && is_held(folder.path()).is_err());
        fs::write(&elsewhere, "precious").expect("written");
        fs::remove_file(path(folder.path())).expect("removed");
        fs::hard_link(&elsewhere, path(folder.path())).expect("linked");
        let refused = OutputLock::take(folder.path()).expect_err("somebody else's file");
        assert!(matches!(refused, Error::Failed { .. }));
        assert_eq!(fs::read(&elsewhere).expect("readable"), b"precious");
    }

    #[test]
    fn a_lock_that_root_takes_can_be_taken_by_the_owner_of_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        if std::os::unix::fs::chown(folder.path(), Some(12_345), Some(12_345)).is_err() {
            return eprintln!("SKIPPED: only root can give a folder away");
        }
        drop(OutputLock::take(folder.path()).expect("free"));
        let facts = fs::metadata(path(folder.path())).expect("it is there");
        assert_eq!((facts.uid(), facts.gid()), (12_345, 12_345));
    }

    #[test]
    fn a_lock_file_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = OutputLock::take(folder.path()).expect("free");
        fs::remove_file(path(folder.path())).expect("removed");
        let second = OutputLock::take(folder.path()).expect("a new file");
        assert_eq!(first.directory(), second.directory());
    }
}
