//! The one place that knows the whole graph: what is started, how it is joined, in which order it stops.
//!
//! Takes: a [`Config`], and for a replay the files. Gives: a running [`Pipeline`], its
//! health, its numbers, and at the end the [`Report`]. Holds: stop order is data order (sources, receivers, workers,
//! writers), each stage ends because the one before it has, so nothing is lost between them; no thread is waited for past the
//! deadline, and what one that is lost had is counted; a reload swaps the sessions and who may send, and touches no thread.

mod build;
mod feeds;
mod flows;
mod layout;
mod machine;
mod open;
mod report;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use build::{Error, Outlet};
pub use feeds::{Choice, Lasting};
pub use layout::Layout;
pub use machine::Machine;
pub use open::{Opened, live, live_into, open, open_over, open_replay, over, replay};
pub use report::Report;

use crossbeam_channel::Receiver;

use crate::config::Config;
use crate::dispatch::Parcel;
use crate::session::{self, Table};
use crate::sink::capture::{self, Writers};
use crate::source::replay::Progress;
use crate::source::{Allowed, Facts, Refused};
use crate::time::{Deadline, Monotonic};
use crate::{flowlog, receiver, time, worker};

/// How long after a reload the files of sessions that are gone are closed.
const SETTLE: Duration = Duration::from_millis(200);

/// A thread that has not been seen for so long is taken for stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Receivers, and workers behind them, get at least so long to end, however short the time is.
const LEAST: Duration = Duration::from_millis(500);

/// How often a thread that has to end is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A thread with what it counts.
#[derive(Debug)]
pub struct Stage<C> {
    /// Its counters, readable while it runs.
    pub counters: Arc<C>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<C> Stage<C> {
    /// A stage that another one's thread sees to.
    fn without_thread(counters: Arc<C>) -> Self {
        Self {
            counters,
            thread: Mutex::new(None),
        }
    }
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    /// Sessions, peers and their ledgers.
    pub table: Arc<Table>,
    /// Receivers, by number.
    pub receivers: Vec<Stage<receiver::Counters>>,
    /// Workers, by number.
    pub workers: Vec<Stage<worker::Counters>>,
    /// The workers' queues, to be looked at; none where the receiver does the work itself.
    pub queues: Vec<Receiver<Parcel>>,
    /// The sources of a live pipeline: one for each receiver, then the sockets beside AF_XDP, which the first receiver reads too.
    pub sources: Vec<Arc<Facts>>,
    /// How their kind was chosen.
    pub choice: Choice,
    /// How far a replay is.
    pub progress: Option<Arc<Progress>>,
    /// Threads and cores.
    pub layout: Layout,
    /// What the writers of the capture files have done, and whether they can.
    pub capture: Arc<capture::Stats>,
    /// The flow logs, where there are any.
    pub flow_logs: Option<flowlog::Running>,
    writers: Mutex<Option<Writers>>,
    shared: Arc<receiver::Shared>,
}

impl Pipeline {
    /// Puts another configuration's sessions in force. The packet path goes on; what is not about sessions
    /// (sources, threads, writers, control) waits for a restart.
    ///
    /// # Errors
    /// What is wrong with the new sessions; the old ones stay.
    pub fn reload(&self, config: &Config, base: &Path) -> Result<u64, Vec<String>> {
        // both are compiled before either is put in force
        let flow_logs = self.flow_logs.as_ref();
        let prepared = flow_logs.map(|running| running.prepare(&config.flow_log, base));
        let prepared = prepared.transpose().map_err(|e| texts(&e))?.flatten();
        let swapped = self.table.swap(|keep| {
            let snapshot = config.snapshot(base, keep)?;
            // workers look at both anew when they see the table's new generation
            if let (Some(running), Some(setup)) = (flow_logs, prepared) {
                running.reload(setup);
            }
            Ok(snapshot)
        });
        let (generation, retired) = swapped.map_err(|e: Vec<session::Error>| texts(&e))?;
        let allowed = Allowed::new(&config.source.allowed_sources);
        self.shared.allowed.store(Arc::new(allowed));
        // what workers have in hand for the old sessions gets there first, so that it needs no file of its own
        std::thread::sleep(SETTLE);
        if let Some(writers) = self.writers().as_ref() {
            writers.bound(config.bounds());
            retired
                .into_iter()
                .for_each(|target| writers.retire(target));
        }
        Ok(generation)
    }

    /// What the thread of shipping does for capture files, where they are shipped.
    pub fn loader(&self) -> Option<capture::Loader> {
        self.writers().as_ref().and_then(Writers::loader)
    }

    fn writers(&self) -> MutexGuard<'_, Option<Writers>> {
        // taken as a whole, so a panic can't have left it half
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether packets can be stored now.
    ///
    /// # Errors
    /// The reason why not.
    pub fn health(&self) -> Result<(), String> {
        self.alive()?;
        self.capture
            .health()
            .map_err(|t| format!("{} (since {})", t.reason, t.since))
    }

    /// Whether every thread of the packet path is there and moves.
    ///
    /// # Errors
    /// Which one does not.
    pub fn alive(&self) -> Result<(), String> {
        let now = time::monotonic().nanos();
        for (i, stage) in self.receivers.iter().enumerate() {
            if let Some(ended) = stage.counters.ended.get() {
                let why = ended.as_deref().unwrap_or("its source ended");
                return Err(format!("receiver {i} has stopped: {why}"));
            }
            moves("receiver", i, stage.counters.heartbeat.age(now))?;
        }
        for (i, stage) in self.workers.iter().enumerate() {
            if let Some(ended) = stage.counters.ended.get() {
                let why = ended.as_deref().unwrap_or("its receivers ended");
                return Err(format!("worker {i} has stopped: {why}"));
            }
            moves("worker", i, stage.counters.heartbeat.age(now))?;
        }
        for (i, heartbeat) in self.capture.heartbeats.iter().enumerate() {
            moves("writer", i, heartbeat.age(now))?;
        }
        Ok(())
    }

    /// Whether every receiver has ended: a replay is through, or was stopped.
    pub fn is_through(&self) -> bool {
        self.receivers
            .iter()
            .all(|r| r.counters.ended.get().is_some())
    }

    /// Asks the receivers to take nothing new.
    pub fn request_stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Who was refused because `allowed_sources` does not name them: the `most` busiest.
    pub fn strangers(&self, most: usize) -> Refused {
        self.shared.strangers.busiest(most)
    }

    /// Stops in data order and closes every file, within `limit`. What could not be written by then is counted as
    /// dropped (`shutdown`), and what a thread had that panicked or does not end, too (`thread_lost`). A second call only reads the ledger.
    pub fn finish(&self, limit: Duration) -> Report {
        self.finish_by(&Deadline::within(limit))
    }

    /// The same by a deadline that somebody may hasten meanwhile.
    pub fn finish_by(&self, deadline: &Deadline) -> Report {
        self.request_stop();
        if let Some(flow_logs) = &self.flow_logs {
            // a quarter for flows on their way to the thread that writes
            flow_logs.stop_waiting(deadline.eighths(2, Duration::ZERO));
        }
        // half of the time for what has arrived, and an eighth for what is on its way to the writers
        let mut stuck = join("receiver", &self.receivers, || deadline.eighths(4, LEAST));
        stuck.extend(join("worker", &self.workers, || {
            deadline.eighths(5, LEAST * 2)
        }));
        // apart, so that the lock is not held while the writers end
        let writers = self.writers().take();
        if let Some(writers) = writers {
            if !stuck.is_empty() {
                writers.lose_workers();
            }
            let ended = writers.finish_by(deadline, |late| {
                self.last_report(&[&stuck, late].concat()).stopped()
            });
            stuck.extend(ended.stuck);
        }
        if let Some(flow_logs) = &self.flow_logs {
            let least = time::monotonic().plus(LEAST);
            flow_logs.finish_by(|| deadline.end().max(least));
        }
        if !stuck.is_empty() {
            tracing::error!(threads = ?stuck, "The deadline passed before these threads had ended.");
        }
        self.last_report(&stuck)
    }

    /// The ledger when nothing is counted any more, but perhaps by threads that are stuck.
    fn last_report(&self, stuck: &[String]) -> Report {
        if stuck.is_empty() && !self.has_lost_a_thread() {
            return Report::of(self);
        }
        let received = self.receivers.iter().map(|r| r.counters.received.value());
        self.table.give_up(received.sum());
        Report::of(self).closed()
    }

    /// Whether a receiver or a worker ended otherwise than it should.
    fn has_lost_a_thread(&self) -> bool {
        let receivers = self.receivers.iter().map(|r| r.counters.ended.get());
        let workers = self.workers.iter().map(|w| w.counters.ended.get());
        let mut all = receivers.chain(workers);
        all.any(|ended| ended.is_some_and(Option::is_some))
    }
}

fn texts(errors: &[impl ToString]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn moves(what: &str, i: usize, age: Duration) -> Result<(), String> {
    if age > STUCK {
        Err(format!("{what} {i} has not moved for {} s", age.as_secs()))
    } else {
        Ok(())
    }
}

/// Waits for threads until `end`; the names of those that did not end.
fn join<C>(what: &str, stages: &[Stage<C>], end: impl Fn() -> Monotonic) -> Vec<String> {
    let mut stuck = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        let thread = stage.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { continue };
        while !thread.is_finished() && time::monotonic() < end() {
            std::thread::sleep(LOOK_EVERY);
        }
        // one that has panicked has said so; one that has not ended is left to itself
        if !thread.is_finished() || thread.join().is_err() {
            stuck.push(format!("{what}-{i}"));
        }
    }
    stuck
}
