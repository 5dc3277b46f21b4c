//! The folder that capture files of a measurement go to, and that is gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::Error;

/// A folder of the process' own; dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new folder in `parent`.
    pub(super) fn new(parent: &Path) -> Result<Self, Error> {
        let path = parent.join(format!("mirrortap-bench-{}", std::process::id()));
        match fs::create_dir_all(parent).and_then(|()| fs::create_dir(&path)) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(Error::Folder { path, source }),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes finished files, and tells the bytes of those that are being written.
    pub(super) fn tidy(&self) -> u64 {
        let sessions = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let files = sessions.flat_map(|s| fs::read_dir(s.path()).into_iter().flatten().flatten());
        let mut left = 0;
        for file in files {
            if file.file_name().as_encoded_bytes().starts_with(b".") {
                left += file.metadata().map_or(0, |m| m.len());
            } else {
                // what can't be removed now is removed at the end
                let _ = fs::remove_file(file.path());
            }
        }
        left
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // nobody is left to be told
        let _ = fs::remove_dir_all(&self.0);
    }
}
