//! What the files of this run take before they are published.
//!
//! Takes: births and growth of files, from the writers. Gives: [`Weights`], for the keeper: bytes that are not published, by
//! session, and which files are ours and not told yet. Holds: touched once per flush of a file, not per packet; a file
//! weighs until it is told, whatever becomes of it.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::spool::retain::Pressure;

/// Device and inode.
type Identity = (u64, u64);

/// The weight of all files that are not published.
#[derive(Debug, Default)]
pub(super) struct Weights(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<Arc<str>, Pressure>,
    all: Pressure,
    /// Files of this run that were not told yet, with their weight when they were sealed.
    made: HashMap<Identity, (Arc<str>, u64)>,
}

impl Weights {
    /// A thread that panicked while it held the lock leaves numbers that are still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hidden file was made.
    pub(super) fn born(&self, session: &Arc<str>, path: &Path) {
        self.note(session, path, 0);
    }

    /// A hidden file has its last size.
    pub(super) fn sealed(&self, session: &Arc<str>, path: &Path, bytes: u64) {
        self.note(session, path, bytes);
    }

    fn note(&self, session: &Arc<str>, path: &Path, bytes: u64) {
        // one that is gone already needs no note
        if let Ok(facts) = path.symlink_metadata() {
            let made = (Arc::clone(session), bytes);
            self.lock().made.insert((facts.dev(), facts.ino()), made);
        }
    }

    /// A file has grown to `bytes` from `before`.
    pub(super) fn grow(&self, session: &Arc<str>, before: u64, bytes: u64) {
        if before == bytes {
            return;
        }
        let mut state = self.lock();
        let State { sessions, all, .. } = &mut *state;
        if !sessions.contains_key(session) {
            sessions.insert(Arc::clone(session), Pressure::default());
        }
        for pressure in sessions.get_mut(session).into_iter().chain([all]) {
            pressure.growth += bytes.saturating_sub(before);
            pressure.unfinished = (pressure.unfinished + bytes).saturating_sub(before);
        }
    }

    /// A file that was being written is gone.
    pub(super) fn gone(&self, session: &Arc<str>, bytes: u64) {
        self.grow(session, bytes, 0);
    }

    /// A file was published and told: it is the keeper's to count.
    pub(super) fn told(&self, identity: Identity) {
        let made = self.lock().made.remove(&identity);
        if let Some((session, bytes)) = made {
            self.gone(&session, bytes);
        }
    }

    /// Whether a file was made by this run and not told yet.
    pub(super) fn is_ours(&self, identity: Identity) -> bool {
        self.lock().made.contains_key(&identity)
    }

    /// How things are now: all together, and by session. Growth is counted from here on.
    pub(super) fn look(&self) -> (Pressure, HashMap<Arc<str>, Pressure>) {
        let mut state = self.lock();
        let now = (state.all, state.sessions.clone());
        state.all.growth = 0;
        state.sessions.retain(|_, pressure| {
            pressure.growth = 0;
            pressure.unfinished > 0
        });
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_weighs_from_its_first_byte_until_it_is_told() {
        let (weights, session) = (Weights::default(), Arc::from("web"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let facts = file.path().symlink_metadata().unwrap();
        let identity = (facts.dev(), facts.ino());
        weights.born(&session, file.path());
        assert!(weights.is_ours(identity));
        weights.grow(&session, 0, 100);
        weights.grow(&session, 100, 150);
        let expected = Pressure {
            unfinished: 150,
            growth: 150,
        };
        assert_eq!(
            weights.look(),
            (expected, [(session.clone(), expected)].into())
        );
        weights.sealed(&session, file.path(), 150);
        assert_eq!(
            weights.look().0,
            Pressure {
                unfinished: 150,
                growth: 0
            }
        );
        weights.told(identity);
        weights.told(identity);
        assert!(!weights.is_ours(identity));
        assert_eq!(
            weights.look(),
            (
                Pressure::default(),
                HashMap::from([(session, Pressure::default())])
            )
        );
        assert!(weights.look().1.is_empty());
    }
}
