//! What can be asked of the writers while they run.
//!
//! Takes: what writers, closers and the hook report. Gives: [`Stats`]: numbers, heartbeats, finished
//! files, and whether packets can be stored. Holds: asking never waits for the disk; a trouble is logged when
//! it begins, at most every ten seconds while it changes, and when it ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::metrics::{Counter, Gauge, Heartbeat};
use crate::sink::capture::closed::{Closed, Files};
use crate::sink::capture::shared::Shared;
use crate::sink::capture::weights::Weights;
use crate::spool::manifest;
use crate::spool::retain::{Bounds, Cause, Going};
use crate::time::{self, Monotonic, Timestamp};

const LOG_EVERY: Duration = Duration::from_secs(10);

/// How many paths of files that could not be published are remembered.
const REMEMBERED: usize = 1000;

/// Why packets cannot be stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// What failed, on what, and what to do.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// A file that the keeper is to delete because it was shipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Errand {
    pub(super) session: Arc<str>,
    pub(super) name: Arc<str>,
    /// Device and inode of what was shipped.
    pub(super) identity: (u64, u64),
}

/// Errands that may wait; whoever sends one sends it again while it is not done.
const MOST_ERRANDS: usize = 1000;

/// Who has a trouble.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    Writer(usize),
    Closer(usize),
    Manifest,
    Probe,
    Keeper,
}

/// Files that retention deleted, by cause.
#[derive(Debug, Default)]
pub struct Deleted {
    files: [Counter; Cause::ALL.len()],
    bytes: [Counter; Cause::ALL.len()],
}

impl Deleted {
    pub(super) fn count(&self, going: &Going) {
        let at = going.cause as usize;
        if let (Some(files), Some(bytes)) = (self.files.get(at), self.bytes.get(at)) {
            files.add(1);
            bytes.add(going.kept.bytes);
        }
    }

    /// Files and bytes for each cause.
    pub fn read(&self) -> [(Cause, u64, u64); Cause::ALL.len()] {
        let read =
            |counters: &[Counter], cause| counters.get(cause as usize).map_or(0, Counter::value);
        Cause::ALL.map(|c| (c, read(&self.files, c), read(&self.bytes, c)))
    }
}

#[derive(Debug, Default)]
struct Troubles {
    list: BTreeMap<Place, Trouble>,
    logged: Option<Monotonic>,
}

/// Numbers and state of the capture sink.
#[derive(Debug)]
pub struct Stats {
    shared: Arc<Shared>,
    /// One per writer thread; each beats at least every half second.
    pub heartbeats: Vec<Heartbeat>,
    /// Capture files with a descriptor now.
    pub open_files: Gauge,
    /// Records written after a record that should have come later.
    pub late: Counter,
    /// Hook commands that ended well.
    pub hooks_run: Counter,
    /// Hook commands that could not be started, failed, or ran too long.
    pub hooks_failed: Counter,
    /// Files for which no hook command was run: too many were waiting, or the time was up.
    pub hooks_skipped: Counter,
    /// What the scribe has done.
    pub manifest: Arc<manifest::Counters>,
    /// Files that keep their hidden name, and files that somebody removed while they were written.
    pub files_lost: Counter,
    /// Files of earlier runs that were made whole and published.
    pub files_recovered: Counter,
    /// Files of earlier runs that held no capture and were set aside.
    pub files_aside: Counter,
    /// Files that retention deleted.
    pub deleted: Deleted,
    /// Published files that retention looks after; 0 while nothing is bounded.
    pub kept_files: Gauge,
    /// Their bytes.
    pub kept_bytes: Gauge,
    /// What the file system of the output has left, where `min_free` is set.
    pub free_bytes: Gauge,
    pub(super) weights: Weights,
    bounds: Mutex<Arc<Bounds>>,
    /// To the keeper; none once it is to end.
    keeper: Mutex<Option<Sender<Arc<Closed>>>>,
    errands: Mutex<Vec<Errand>>,
    lost: Mutex<Vec<PathBuf>>,
    troubles: Mutex<Troubles>,
    files: Mutex<Files>,
    /// Monotonic nanoseconds after which nothing is written, and after which nothing is published.
    write_until: AtomicU64,
    close_until: AtomicU64,
}

/// A thread that panicked while it held a lock leaves numbers that are still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stats {
    pub(super) fn new(shared: Arc<Shared>, writers: usize) -> Self {
        Self {
            shared,
            heartbeats: (0..writers).map(|_| Heartbeat::new()).collect(),
            open_files: Gauge::new(),
            late: Counter::new(),
            hooks_run: Counter::new(),
            hooks_failed: Counter::new(),
            hooks_skipped: Counter::new(),
            manifest: Arc::default(),
            files_lost: Counter::new(),
            files_recovered: Counter::new(),
            files_aside: Counter::new(),
            deleted: Deleted::default(),
            kept_files: Gauge::new(),
            kept_bytes: Gauge::new(),
            free_bytes: Gauge::new(),
            weights: Weights::default(),
            bounds: Mutex::default(),
            keeper: Mutex::default(),
            errands: Mutex::default(),
            lost: Mutex::default(),
            troubles: Mutex::default(),
            files: Mutex::default(),
            write_until: AtomicU64::new(u64::MAX),
            close_until: AtomicU64::new(u64::MAX),
        }
    }

    /// Memory of packets that wait for the disk.
    pub fn buffered(&self) -> u64 {
        self.shared.pool.used()
    }

    /// The most that it ever was.
    pub fn buffered_high(&self) -> u64 {
        self.shared.pool.high()
    }

    /// What it may be at most: `buffer` of the configuration.
    pub fn buffer_limit(&self) -> u64 {
        self.shared.pool.limit()
    }

    /// How many buffers were allocated since the start; it stands still in a steady flow.
    pub fn buffers_made(&self) -> u64 {
        self.shared.pool.made()
    }

    /// The finished files.
    pub fn files(&self) -> Files {
        lock(&self.files).clone()
    }

    /// How many files were finished.
    pub fn files_closed(&self) -> u64 {
        lock(&self.files).total
    }

    /// Why packets cannot be stored, where they cannot: the trouble that began first.
    pub fn health(&self) -> Result<(), Trouble> {
        let troubles = lock(&self.troubles);
        let first = troubles.list.values().min_by_key(|t| t.since);
        first.cloned().map_or(Ok(()), Err)
    }

    /// A file was published, and the manifest tells of it: from now on it may go.
    pub(super) fn add_file(&self, closed: Arc<Closed>) {
        lock(&self.files).add(closed);
    }

    /// Tells whoever keeps the disk from filling up of a published file, whichever run its packets are of.
    pub(super) fn hand_to_keeper(&self, closed: &Arc<Closed>) {
        if let Some(keeper) = &*lock(&self.keeper) {
            // one that has ended needs to know nothing
            let _ = keeper.send(Arc::clone(closed));
        }
    }

    /// Whom to tell of published files; `None` when there will be no more.
    pub(super) fn tell_keeper(&self, keeper: Option<Sender<Arc<Closed>>>) {
        *lock(&self.keeper) = keeper;
    }

    /// Has the keeper delete a file at its next look. It may be asked for twice.
    pub(super) fn send_keeper(&self, errand: Errand) {
        let mut errands = lock(&self.errands);
        if errands.len() < MOST_ERRANDS && !errands.contains(&errand) {
            errands.push(errand);
        }
    }

    pub(super) fn take_errands(&self) -> Vec<Errand> {
        std::mem::take(&mut *lock(&self.errands))
    }

    /// What is bounded now.
    pub(super) fn bounds(&self) -> Arc<Bounds> {
        Arc::clone(&lock(&self.bounds))
    }

    pub(super) fn set_bounds(&self, bounds: Bounds) {
        *lock(&self.bounds) = Arc::new(bounds);
    }

    /// A file will not be published by this process.
    pub(super) fn lose_file(&self, path: PathBuf) {
        self.files_lost.add(1);
        let mut lost = lock(&self.lost);
        if lost.len() < REMEMBERED {
            lost.push(path);
        }
    }

    pub(super) fn lost(&self) -> Vec<PathBuf> {
        lock(&self.lost).clone()
    }

    /// Takes note of a trouble.
    pub(super) fn trouble(&self, place: Place, reason: String) {
        let (now, mut troubles) = (time::monotonic(), lock(&self.troubles));
        let since = troubles.list.get(&place).map(|t| t.since);
        let quiet = |logged: Monotonic| now.since(logged) < LOG_EVERY;
        if !troubles.logged.is_some_and(quiet) {
            troubles.logged = Some(now);
            tracing::error!("{reason}");
        }
        let since = since.unwrap_or_else(time::now);
        troubles.list.insert(place, Trouble { reason, since });
    }

    /// Takes note that a trouble is over.
    pub(super) fn well(&self, place: Place) {
        let mut troubles = lock(&self.troubles);
        if let Some(trouble) = troubles.list.remove(&place) {
            troubles.logged = None;
            match place {
                Place::Keeper => tracing::info!(since = %trouble.since, "retention works again"),
                _ => tracing::info!(since = %trouble.since, "capture files can be written again"),
            }
        }
    }

    /// Lets a writer's heart beat.
    pub(super) fn beat(&self, writer: usize, now: Monotonic) {
        if let Some(heart) = self.heartbeats.get(writer) {
            heart.beat(now.nanos());
        }
    }

    /// Workers that have not ended are not waited for.
    pub(super) fn lose_workers(&self) {
        self.shared.lose_workers();
    }

    /// Sets the end: three quarters of the time is for writing, the rest for closing.
    pub(super) fn stop_within(&self, deadline: Duration) {
        let now = time::monotonic();
        let write_until = now.plus(deadline / 4 * 3).nanos();
        self.write_until.store(write_until, Ordering::Release);
        self.close_until
            .store(now.plus(deadline).nanos(), Ordering::Release);
    }

    /// Whether the end has begun.
    pub(super) fn is_stopping(&self) -> bool {
        self.close_until.load(Ordering::Acquire) < u64::MAX
    }

    /// Whether the time for writing is over.
    pub(super) fn must_stop(&self, now: Monotonic) -> bool {
        now.nanos() >= self.write_until.load(Ordering::Acquire)
    }

    /// Whether the time for everything is over.
    pub(super) fn is_over(&self, now: Monotonic) -> bool {
        now.nanos() >= self.close_until.load(Ordering::Acquire)
    }

    /// How much time is left for publishing files and running hooks.
    pub(super) fn left(&self, now: Monotonic) -> Duration {
        Monotonic::from_nanos(self.close_until.load(Ordering::Acquire)).since(now)
    }
}
