//! Files that may not be deleted, because they are to be shipped.
//!
//! Takes: files that are about to be offered, and what waits as a look has found it. Gives: whether a file is held. Holds: a file is held
//! from before it is offered until a look that began later does not find it any more; not sure is held.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sink::capture::shipments::lock;

/// Device and inode.
type Identity = (u64, u64);

/// Why a file is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    /// It is to be offered.
    Offering,
    /// It was offered during this look or found by it.
    Look(u64),
}

/// The files that are held.
#[derive(Debug, Default)]
pub(super) struct Held {
    known: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<Identity, Reason>,
    look: u64,
}

impl Held {
    /// Whether all that earlier runs left is among them.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// From now on all that is to be held is.
    pub(super) fn know(&self) {
        self.known.store(true, Ordering::Release);
    }

    pub(super) fn has(&self, file: Identity) -> bool {
        lock(&self.state).files.contains_key(&file)
    }

    /// A file is about to be offered.
    pub(super) fn hold(&self, file: Identity) {
        lock(&self.state).files.insert(file, Reason::Offering);
    }

    /// A file was offered, and waits.
    pub(super) fn offered(&self, file: Identity) {
        let mut state = lock(&self.state);
        let look = Reason::Look(state.look);
        state.files.insert(file, look);
    }

    /// A file will not be offered.
    pub(super) fn let_go(&self, file: Identity) {
        lock(&self.state).files.remove(&file);
    }

    /// A look at what waits begins: what is offered from here on it need not have seen.
    pub(super) fn begin_look(&self) {
        lock(&self.state).look += 1;
    }

    /// What waits, as the look has found it.
    pub(super) fn end_look(&self, there: impl Iterator<Item = Identity>) {
        let mut state = lock(&self.state);
        let look = Reason::Look(state.look);
        for file in there {
            state
                .files
                .entry(file)
                .and_modify(|reason| {
                    if *reason != Reason::Offering {
                        *reason = look;
                    }
                })
                .or_insert(look);
        }
        state
            .files
            .retain(|_, reason| matches!(reason, Reason::Offering) || *reason == look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Identity = (1, 1);
    const B: Identity = (1, 2);

    #[test]
    fn a_file_is_held_until_a_look_that_began_after_it_was_offered_does_not_find_it() {
        let held = Held::default();
        held.hold(A);
        held.begin_look();
        held.end_look([].into_iter());
        assert!(held.has(A), "it is still being offered");
        held.begin_look();
        held.offered(A);
        held.end_look([].into_iter());
        assert!(held.has(A), "the look may have come before the offer");
        held.begin_look();
        held.end_look([A].into_iter());
        assert!(held.has(A));
        held.begin_look();
        held.end_look([].into_iter());
        assert!(!held.has(A));
    }

    #[test]
    fn what_a_look_finds_is_held_and_what_will_not_be_offered_is_not() {
        let held = Held::default();
        assert!(!held.is_known());
        held.begin_look();
        held.end_look([A, B].into_iter());
        held.know();
        assert!(held.is_known() && held.has(A) && held.has(B));
        held.let_go(B);
        assert!(!held.has(B));
    }
}
