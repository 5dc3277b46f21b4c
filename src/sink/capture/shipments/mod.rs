//! Published capture files on their way to the bucket.
//!
//! Takes: files as they are announced, and what the sessions say of shipping. Gives: [`Shipments`], which announcers and the keeper ask, and [`Loader`],
//! which the thread of shipping works with. Holds: announcing waits for nothing; a file that is to be shipped may not be deleted until it has arrived or was
//! given up, and while that is not known; what a crash keeps from being offered is found at the next start.

mod held;
mod list;
mod loader;
mod search;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::ship::{Captures, Pending, Sessions};
use crate::sink::capture::closed::Closed;
use crate::sink::capture::keeper::Keeping;
use crate::spool::retain::Kept;

use held::Held;
pub use loader::Loader;

/// What the folder of pending files is called, below the output.
const FOLDER: [&str; 2] = [".ship", "captures"];

/// Where the pending capture files of an output are.
pub fn pending_of(output: &Path) -> Pending {
    let [hidden, captures] = FOLDER;
    Pending::at(output.join(hidden).join(captures))
}

/// A file that is to be offered.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Offer {
    /// What it waits as: the end of its key.
    name: String,
    path: PathBuf,
    identity: (u64, u64),
    bytes: u64,
    /// What is told of it: its line of the manifest, or what the hook gets.
    told: Vec<u8>,
}

/// What is shared by those who announce files, the keeper, and the thread of shipping.
pub struct Shipments {
    output: PathBuf,
    config: Captures,
    sessions: Mutex<Arc<Sessions>>,
    held: Held,
    offer: Sender<Offer>,
    offers: Receiver<Offer>,
    /// Bytes that the keeper needs and cannot have.
    wanted: AtomicU64,
}

impl fmt::Debug for Shipments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shipments")
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// A thread that panicked while it held a lock leaves whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shipments {
    /// Of the capture files in `output`.
    pub fn new(output: &Path, config: &Captures, sessions: Sessions) -> Self {
        let (offer, offers) = unbounded();
        Self {
            output: output.to_owned(),
            config: config.clone(),
            sessions: Mutex::new(Arc::new(sessions)),
            held: Held::default(),
            offer,
            offers,
            wanted: AtomicU64::new(0),
        }
    }

    /// What sessions say from now on. Files that wait already go on waiting.
    pub fn set_sessions(&self, sessions: Sessions) {
        *lock(&self.sessions) = Arc::new(sessions);
    }

    fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(&lock(&self.sessions))
    }

    /// A file is about to get its name.
    pub(super) fn hold(&self, file: (u64, u64)) {
        self.held.hold(file);
    }

    /// A file keeps its hidden name after all.
    pub(super) fn forget(&self, file: (u64, u64)) {
        self.held.let_go(file);
    }

    /// A file was published and told; `line` is its line of the manifest, where there is one.
    pub(super) fn announce(&self, closed: &Closed, line: Option<&[u8]>) {
        let file = closed.path.file_name().and_then(|name| name.to_str());
        let name = file.and_then(|file| self.sessions().name(&closed.session, file));
        // one that is gone already is nobody's to ship
        let Ok(facts) = closed.path.symlink_metadata() else {
            return;
        };
        let identity = (facts.dev(), facts.ino());
        let Some(name) = name else {
            return self.held.let_go(identity);
        };
        let describe = || serde_json::to_vec(closed).unwrap_or_default();
        self.put(Offer {
            name,
            path: closed.path.clone(),
            identity,
            bytes: facts.len(),
            told: line.map_or_else(describe, <[u8]>::to_vec),
        });
    }

    fn put(&self, offer: Offer) {
        self.held.hold(offer.identity);
        // the other end is in here too
        let _ = self.offer.send(offer);
    }

    /// What the keeper asks before it deletes.
    pub fn keeping(this: &Arc<Self>) -> Keeping {
        let (asked, wants) = (Arc::clone(this), Arc::clone(this));
        Keeping {
            may_go: Box::new(move |kept| asked.may_go(kept)),
            ask: Box::new(move |bytes| wants.want(bytes)),
            ..Keeping::default()
        }
    }

    /// Whether the keeper may delete a file. Until it is known what was shipped, only files of sessions that are not.
    fn may_go(&self, kept: &Kept) -> bool {
        match self.held.is_known() {
            true => !self.held.has(kept.identity),
            false => self.sessions().name(&kept.session, &kept.name).is_none(),
        }
    }

    /// Whether the keeper lacks room.
    fn is_in_want(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// How many bytes the keeper needs now and cannot have, because too much is held.
    fn want(&self, bytes: u64) {
        self.wanted.store(bytes, Ordering::Relaxed);
    }
}
