//! The published files of an output, in the order of their age.
//!
//! Takes: files as they are found or published, and files that are gone. Gives: [`Shelf`]: sums, and files oldest first.
//! Holds: a file is there once; sums are those of the files that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::spool::retain::Mark;

/// A published capture file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its session, which is also its folder.
    pub session: Arc<str>,
    /// Its name in there.
    pub name: Arc<str>,
    /// Its place in time.
    pub mark: Mark,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since the epoch.
    pub modified: u64,
    /// Device and inode.
    pub identity: (u64, u64),
}

/// What files are ordered by: the oldest first.
type Key = (Mark, Arc<str>, Arc<str>);

/// All of them.
#[derive(Debug, Default)]
pub struct Shelf {
    order: BTreeSet<Key>,
    sessions: BTreeMap<Arc<str>, Row>,
    bytes: u64,
}

/// The files of one session.
#[derive(Debug, Default)]
struct Row {
    files: BTreeMap<(Mark, Arc<str>), Kept>,
    bytes: u64,
}

impl Shelf {
    /// Puts a file there; one of the same name is replaced.
    pub fn put(&mut self, kept: Kept) {
        self.take(&kept.session, kept.mark, &kept.name);
        self.bytes += kept.bytes;
        let key = (kept.mark, Arc::clone(&kept.session), Arc::clone(&kept.name));
        self.order.insert(key);
        let row = self.sessions.entry(Arc::clone(&kept.session)).or_default();
        row.bytes += kept.bytes;
        row.files.insert((kept.mark, Arc::clone(&kept.name)), kept);
    }

    /// Takes a file away.
    pub fn take(&mut self, session: &Arc<str>, mark: Mark, name: &Arc<str>) -> Option<Kept> {
        let row = self.sessions.get_mut(session)?;
        let kept = row.files.remove(&(mark, Arc::clone(name)))?;
        row.bytes -= kept.bytes;
        self.bytes -= kept.bytes;
        if row.files.is_empty() {
            self.sessions.remove(session);
        }
        self.order
            .remove(&(mark, Arc::clone(session), Arc::clone(name)));
        Some(kept)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Their size together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The size of a session's files together.
    pub fn bytes_of(&self, session: &str) -> u64 {
        self.sessions.get(session).map_or(0, |row| row.bytes)
    }

    /// All files, the oldest first.
    pub fn oldest(&self) -> impl Iterator<Item = &Kept> {
        let find = |(mark, session, name): &Key| {
            let row = self.sessions.get(session)?;
            row.files.get(&(*mark, Arc::clone(name)))
        };
        self.order.iter().filter_map(find)
    }

    /// The files of a session, the oldest first.
    pub fn oldest_of(&self, session: &str) -> impl Iterator<Item = &Kept> {
        let row = self.sessions.get(session);
        row.into_iter().flat_map(|row| row.files.values())
    }
}
