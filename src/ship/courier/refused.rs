//! Files that can never arrive, set aside for somebody to look at.
//!
//! Takes: waiting files. Gives: a folder of the latest of them. Holds: it is bounded in files and bytes, and one that is larger than all of it is only forgotten;
//! a link in here costs the room of a file once its first name is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::ship::{Entry, Pending};

const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 256 << 20;

/// The folder.
#[derive(Debug)]
pub(super) struct Refused {
    folder: PathBuf,
}

impl Refused {
    /// Below the state of a queue.
    pub(super) fn new(state: &Path) -> Self {
        Self {
            folder: state.join("refused"),
        }
    }

    /// Sets a file aside.
    pub(super) fn take(&self, pending: &Pending, entry: &Entry) -> io::Result<()> {
        if entry.bytes > MOST_BYTES {
            return pending.forget(&entry.name);
        }
        fs::create_dir_all(&self.folder)?;
        // one name, so that no folders are left behind; the last of its bytes are the telling ones
        let flat = entry.name.replace('/', "_");
        let cut = flat.len().saturating_sub(200);
        let cut = (cut..flat.len()).find(|at| flat.is_char_boundary(*at));
        let name = flat.get(cut.unwrap_or(0)..).unwrap_or("file");
        fs::rename(pending.path(&entry.name)?, self.folder.join(name))?;
        // prunes its folders
        pending.forget(&entry.name)?;
        self.bound()
    }

    /// Removes the oldest where there are too many.
    fn bound(&self) -> io::Result<()> {
        let mut all: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            all.push((facts.modified()?, entry.path(), facts.len()));
        }
        all.sort();
        let (mut files, mut bytes) = (0, 0);
        for (_, path, size) in all.into_iter().rev() {
            files += 1;
            bytes += size;
            if files > MOST_FILES || bytes > MOST_BYTES {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_waits_no_longer_and_the_folder_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::at(folder.path());
        pending.make().unwrap();
        let refused = Refused::new(&pending.state());
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        for n in 0..MOST_FILES + 5 {
            pending.offer(&file, &format!("day/{n}")).unwrap();
        }
        for entry in pending.waiting().unwrap() {
            refused.take(&pending, &entry).unwrap();
        }
        assert!(pending.waiting().unwrap().is_empty());
        let kept = fs::read_dir(pending.state().join("refused")).unwrap();
        assert_eq!(kept.count(), MOST_FILES);
    }

    #[test]
    fn a_file_larger_than_the_folder_is_only_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::at(folder.path());
        pending.make().unwrap();
        let file = folder.path().join("file");
        let large = fs::File::create(&file).unwrap();
        large.set_len(MOST_BYTES + 1).unwrap();
        pending.offer(&file, "large").unwrap();
        let waiting = pending.waiting().unwrap();
        Refused::new(&pending.state())
            .take(&pending, &waiting[0])
            .unwrap();
        assert!(pending.waiting().unwrap().is_empty());
        assert!(!pending.state().join("refused").exists());
    }
}
