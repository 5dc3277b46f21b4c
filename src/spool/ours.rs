//! The hidden files of this process.
//!
//! Takes: the path of a hidden file, before it is made, and after it has got its name. Gives: [`Ours`], which knows
//! whether one is of this process. Holds: a file that this process writes, or has given up, is never taken for one that a crash
//! left.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The hidden files of this process. Clones know the same files.
#[derive(Clone, Debug, Default)]
pub struct Ours(Arc<Mutex<HashSet<PathBuf>>>);

impl Ours {
    /// Whether it is one of them.
    pub fn holds(&self, path: &Path) -> bool {
        self.set().contains(path)
    }

    pub(super) fn add(&self, path: &Path) {
        self.set().insert(path.to_owned());
    }

    pub(super) fn remove(&self, path: &Path) {
        self.set().remove(path);
    }

    fn set(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // A set of paths is whole whenever it is not borrowed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
