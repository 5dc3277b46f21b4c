//! Publishing finished files, away from the writers.
//!
//! Takes: sealed files. Gives: published ones, with their hash, told to the scribe. Holds: a writer never waits for an `fsync` or a hash; what could not be published is tried again until it can be or the
//! program ends, and then keeps its hidden name, which is told.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::packet::Tally;
use crate::sink::capture::closed::Closed;
use crate::sink::capture::probe::probe_to_the_disk;
use crate::sink::capture::scribe::Announcer;
use crate::sink::capture::stats::{Place, Stats};
use crate::spool::manifest::FileId;
use crate::spool::{Error, Sealed};
use crate::time;

/// Pause between two attempts.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How many files may wait for another attempt.
const MOST_RETRIES: usize = 10_000;

/// A file to be published.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) sealed: Sealed,
    pub(super) closed: Closed,
    /// Its session's ledger, when the file ended.
    pub(super) ledger: Tally,
    /// What the manifest expects, from the first attempt on.
    pub(super) file: Option<FileId>,
}

/// Publishes files, one after the other.
#[derive(Debug)]
pub(super) struct Closer {
    number: usize,
    jobs: Receiver<Job>,
    stats: Arc<Stats>,
    announcer: Announcer,
    retries: VecDeque<Job>,
    /// Where a file was given up that the disk did not take; looked at until it takes something again.
    failing: Option<PathBuf>,
}

impl Closer {
    pub(super) fn new(number: usize, jobs: Receiver<Job>, announcer: Announcer) -> Self {
        Self {
            number,
            jobs,
            stats: Arc::clone(&announcer.stats),
            announcer,
            retries: VecDeque::new(),
            failing: None,
        }
    }

    /// Works until all writers are gone.
    pub(super) fn run(mut self) {
        let mut next = time::monotonic().plus(RETRY_EVERY);
        loop {
            match self.jobs.recv_timeout(RETRY_EVERY) {
                Ok(job) => self.publish(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = time::monotonic();
            if now >= next {
                self.retry();
                self.look_again();
                next = now.plus(RETRY_EVERY);
            }
        }
        self.finish();
    }

    /// Last attempts. A program that ends does not wait for a disk that has been refusing: what
    /// cannot be published at once, or within a second, stays hidden.
    fn finish(mut self) {
        self.retry();
        if !self.retries.is_empty() {
            let left = self.stats.left(time::monotonic());
            std::thread::sleep(left.min(RETRY_EVERY));
            self.retry();
        }
        for job in std::mem::take(&mut self.retries) {
            self.give_up(&job, "it could not be published before the end");
        }
    }

    fn retry(&mut self) {
        for _ in 0..self.retries.len() {
            if let Some(job) = self.retries.pop_front() {
                self.publish(job);
            }
        }
    }

    /// Whether the disk works again, where nothing waits that would show it.
    fn look_again(&mut self) {
        let directory = self.failing.take_if(|_| self.retries.is_empty());
        let Some(directory) = directory else { return };
        match probe_to_the_disk(&directory, self.number) {
            Ok(()) => self.stats.well(Place::Closer(self.number)),
            Err(_) => self.failing = Some(directory),
        }
    }

    fn publish(&mut self, mut job: Job) {
        if self.stats.left(time::monotonic()).is_zero() {
            return self.give_up(&job, "the shutdown deadline has passed");
        }
        if job.file.is_none() {
            job.file = self.announcer.will_tell(job.sealed.partial());
        }
        match job.sealed.publish() {
            Ok(path) => {
                job.closed.path = path;
                self.tell(job);
            }
            Err(error) => self.fail(job, &error),
        }
    }

    fn tell(&self, job: Job) {
        if self.retries.is_empty() {
            self.stats.well(Place::Closer(self.number));
        }
        self.announcer.tell(job.closed, job.ledger, job.file);
    }

    fn fail(&mut self, job: Job, error: &Error) {
        self.stats
            .trouble(Place::Closer(self.number), error.to_string());
        if is_final(error) || self.retries.len() >= MOST_RETRIES {
            self.failing = job.sealed.partial().parent().map(Path::to_owned);
            return self.give_up(&job, &error.to_string());
        }
        self.retries.push_back(job);
    }

    fn give_up(&self, job: &Job, why: &str) {
        tracing::error!(
            path = %job.sealed.partial().display(),
            packets = job.closed.packets,
            "a capture file keeps its hidden name: {why}"
        );
        self.announcer.forget(job.file);
        self.stats.lose_file(job.sealed.partial().to_owned());
    }
}

/// After a sync that failed for want of a working or a free disk, a second one may succeed without
/// having written anything: such a file must not pass as whole. A file that is gone stays gone.
fn is_final(error: &Error) -> bool {
    let Error::Sync { source, .. } = error else {
        return false;
    };
    const EIO: i32 = 5;
    source.raw_os_error() == Some(EIO)
        || matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::NotFound
        )
}
