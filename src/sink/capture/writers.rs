//! Starting and stopping the threads behind the capture sink.
//!
//! Takes: a [`Config`] and a [`Setup`]. Gives: one [`Capture`] for each worker, and [`Writers`]. Holds: the output
//! folder was written to before anything is started; threads end in the order of the data, writers, closers,
//! hook, scribe, and none is waited for past the deadline.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::sink::capture::closed::Files;
use crate::sink::capture::closer::{Closer, Job};
use crate::sink::capture::config::{Config, Ordering};
use crate::sink::capture::desk::Desk;
use crate::sink::capture::hook::{Hook, HookQueue};
use crate::sink::capture::intake::Capture;
use crate::sink::capture::keeper::{Keeper, Keeping};
use crate::sink::capture::plan::Means;
use crate::sink::capture::probe::{Output, probe};
use crate::sink::capture::rescue::Rescue;
use crate::sink::capture::run::Bundle;
use crate::sink::capture::runner::Runner;
use crate::sink::capture::scribe::{self, Announcer, Manifest};
use crate::sink::capture::shared::Shared;
use crate::sink::capture::shipments::{Loader, Shipments};
use crate::sink::capture::stats::{Place, Stats};
use crate::sink::capture::watched::{watch, watched};
use crate::sink::capture::writer::{Manner, Writer};
use crate::spool::lock::{self, OutputLock};
use crate::spool::manifest::{Entry, Stopped, Teller};
use crate::spool::retain::Bounds;
use crate::spool::{self, Ours};
use crate::time::{self, Deadline, Monotonic};

/// Threads that publish: syncs of several files share what the file system has to write.
const CLOSERS: usize = 4;

/// How many files may wait for a closer before a writer waits too.
const JOBS: usize = 16_384;

/// Descriptors that everything but capture files needs.
const OTHER_FILES: usize = 128;

/// A thread that has to end is looked after so often.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A thread that counts what it could not write gets so long beyond its deadline.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is known only when the program is put together.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The output folder: made and written to before anything starts, and probed from then on.
    pub output: PathBuf,
    /// How many workers there are.
    pub workers: usize,
    /// Whether packets arrive now: then files also rotate by the clock when no packet comes.
    pub live: bool,
}

/// What a sensor brings along, and a measurement does without.
#[derive(Debug, Default)]
pub struct Extras {
    /// The output's lock: then what earlier runs left there is recovered too.
    pub lock: Option<OutputLock>,
    /// Starts the hook's commands; else this process does.
    pub runner: Option<Runner>,
    /// The manifest in the output folder.
    pub manifest: Option<Manifest>,
    /// Where published files are shipped.
    pub shipments: Option<Arc<Shipments>>,
}

/// Why the capture sink could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not make sense.
    #[error("the capture settings cannot be used: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The output folder cannot be written to.
    #[error("the output folder cannot be used: {0}")]
    Output(#[source] spool::Error),
    /// It belongs to somebody else.
    #[error("the output folder cannot be used: {0}")]
    Lock(#[from] lock::Error),
    /// A thread could not be started.
    #[error(
        "cannot start a thread for capture files: {0}; check the limits on processes (ulimit -u)"
    )]
    Spawn(#[source] std::io::Error),
}

/// Bundles that workers may be ahead of a writer where packets do not run away. More would only be memory that
/// has left the cache when the writer comes to it.
const AHEAD: usize = 1;

/// What became of the capture files, told at the end.
#[derive(Clone, Debug)]
pub struct Report {
    /// The published files.
    pub files: Files,
    /// Hidden files that were not published, and files that somebody removed.
    pub lost: Vec<PathBuf>,
    /// Threads that did not end in time or panicked; what they held is not counted.
    pub stuck: Vec<String>,
}

/// The threads behind the capture sink.
#[derive(Debug)]
pub struct Writers {
    stats: Arc<Stats>,
    retired: Vec<Sender<u32>>,
    /// In the order in which they end.
    threads: Vec<Vec<JoinHandle<()>>>,
    /// The output is ours until the last of them has ended.
    _lock: Option<OutputLock>,
    /// Ends when nobody publishes any more.
    keeper: Option<JoinHandle<()>>,
    manifest: Teller,
    /// Ends when it was told that the run ends.
    scribe: Option<JoinHandle<()>>,
    shipments: Option<Arc<Shipments>>,
}

/// Whether the configuration makes sense and the output can be made and written to; starts nothing.
///
/// # Errors
/// [`Error::Config`] and [`Error::Output`].
pub fn check(config: &Config, setup: &Setup) -> Result<(), Error> {
    let problems = config.check();
    if !problems.is_empty() {
        return Err(Error::Config(problems));
    }
    probe(&setup.output, 0).map_err(Error::Output)
}

/// Starts the threads. Each worker gets a [`Capture`], in order.
///
/// # Errors
/// [`Error`], with nothing left running that would not end by itself.
pub fn start(config: &Config, setup: &Setup) -> Result<(Vec<Capture>, Writers), Error> {
    start_with(config, setup, Extras::default())
}

/// As [`start`], with all that a sensor brings along.
///
/// # Errors
/// As for [`start`].
pub fn start_with(
    config: &Config,
    setup: &Setup,
    extras: Extras,
) -> Result<(Vec<Capture>, Writers), Error> {
    check(config, setup)?;
    let lock = extras.lock;
    let shared = Arc::new(Shared::new(
        config.buffer.bytes(),
        setup.workers,
        setup.live,
    ));
    let stats = Arc::new(Stats::new(Arc::clone(&shared), config.writer_count()));
    let (hook, hook_thread) = start_hook(config, &stats, extras.runner)?;
    let (teller, scribe) = start_scribe(extras.manifest, &setup.output, &stats)?;
    let shipments = extras.shipments;
    let announcer = Announcer {
        shipments: shipments.clone(),
        stats: Arc::clone(&stats),
        hook,
        manifest: teller.clone(),
        output: setup.output.clone(),
    };
    let (jobs, closers) = start_closers(&announcer)?;
    let mut starting = Starting {
        config,
        setup,
        shared,
        stats,
        ours: Ours::default(),
        jobs,
        captures: Vec::new(),
        retired: Vec::new(),
    };
    let writers = (0..config.writer_count()).map(|number| starting.writer(number));
    let writers = writers.collect::<Result<Vec<_>, _>>()?;
    let rescue = match lock.is_some() && setup.live {
        true => vec![starting.rescue(announcer)?],
        false => Vec::new(),
    };
    let threads = vec![writers, closers, rescue, hook_thread];
    let (captures, mut writers) = starting.finish(threads, lock, teller, scribe);
    writers.shipments = shipments;
    Ok((captures, writers))
}

struct Starting<'a> {
    config: &'a Config,
    setup: &'a Setup,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    ours: Ours,
    jobs: Vec<Sender<Job>>,
    captures: Vec<Sender<Bundle>>,
    retired: Vec<Sender<u32>>,
}

impl Starting<'_> {
    fn writer(&mut self, number: usize) -> Result<JoinHandle<()>, Error> {
        let (captures, bundles): (_, Receiver<Bundle>) = match self.setup.live {
            true => unbounded(),
            false => bounded(AHEAD),
        };
        let (retire, retired) = unbounded();
        self.captures.push(captures);
        self.retired.push(retire);
        let manner = self.manner(number);
        let (shared, stats) = (Arc::clone(&self.shared), Arc::clone(&self.stats));
        stats.beat(number, time::monotonic());
        let means = Means {
            io: self.config.io,
            ours: self.ours.clone(),
            encoders: manner.files,
        };
        let jobs = self.jobs.clone();
        let desk = Desk::new(number, shared, stats, jobs, manner.ordered, means);
        let writer = Writer::new(manner, bundles, retired, desk);
        let (shared, stats) = (Arc::clone(&self.shared), Arc::clone(&self.stats));
        let body = move || watched(number, &shared, &stats, || writer.run());
        spawn(format!("writer-{number}"), body)
    }

    fn manner(&self, number: usize) -> Manner {
        let ordered = self.config.ordering == Ordering::Time;
        let files = allowed_files(self.config.max_open_files) / self.config.writer_count();
        Manner {
            live: self.setup.live,
            lanes: if ordered {
                1
            } else {
                self.setup.workers.max(1)
            },
            ordered,
            flush_interval: self.config.flush_interval.duration(),
            files: files.max(1),
            output: (number == 0).then(|| Output::new(self.setup.output.clone())),
        }
    }

    fn rescue(&self, announcer: Announcer) -> Result<JoinHandle<()>, Error> {
        let rescue = Rescue {
            ours: self.ours.clone(),
            announcer,
        };
        spawn("recover".to_owned(), move || rescue.run())
    }

    fn finish(
        self,
        threads: Vec<Vec<JoinHandle<()>>>,
        lock: Option<OutputLock>,
        manifest: Teller,
        scribe: Option<JoinHandle<()>>,
    ) -> (Vec<Capture>, Writers) {
        let capture = |worker: usize| {
            Capture::new(
                worker as u16,
                Arc::clone(&self.shared),
                self.captures.clone(),
            )
        };
        let captures = (0..self.setup.workers).map(capture).collect();
        let writers = Writers {
            stats: self.stats,
            retired: self.retired,
            threads,
            _lock: lock,
            keeper: None,
            manifest,
            scribe,
            shipments: None,
        };
        (captures, writers)
    }
}

type HookThread = (Option<HookQueue>, Vec<JoinHandle<()>>);

fn start_hook(
    config: &Config,
    stats: &Arc<Stats>,
    runner: Option<Runner>,
) -> Result<HookThread, Error> {
    let Some(command) = config.on_close.clone() else {
        return Ok((None, Vec::new()));
    };
    let timeout = config.hook_timeout.duration();
    let (queue, hook) = Hook::new(command, timeout, Arc::clone(stats), runner);
    let thread = spawn("hook".to_owned(), move || hook.run())?;
    Ok((Some(queue), vec![thread]))
}

type ScribeThread = (Teller, Option<JoinHandle<()>>);

fn start_scribe(
    manifest: Option<Manifest>,
    output: &Path,
    stats: &Arc<Stats>,
) -> Result<ScribeThread, Error> {
    let Some(manifest) = manifest else {
        return Ok((Teller::off(), None));
    };
    let (scribe, teller) = scribe::scribe(manifest, output, stats);
    let stats = Arc::clone(stats);
    let body = move || watch("the scribe", Place::Manifest, &stats, || scribe.run());
    let thread = spawn("scribe".to_owned(), body)?;
    Ok((teller, Some(thread)))
}

type Closers = (Vec<Sender<Job>>, Vec<JoinHandle<()>>);

fn start_closers(announcer: &Announcer) -> Result<Closers, Error> {
    let start = |number| {
        let (sender, jobs) = bounded(JOBS / CLOSERS);
        let closer = Closer::new(number, jobs, announcer.clone());
        let (name, stats) = (format!("closer {number}"), Arc::clone(&announcer.stats));
        let body = move || watch(&name, Place::Closer(number), &stats, || closer.run());
        let thread = spawn(format!("closer-{number}"), body)?;
        Ok((sender, thread))
    };
    (0..CLOSERS).map(start).collect()
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name)
        .spawn(run)
        .map_err(Error::Spawn)
}

/// `wanted`, or what the process' limit on open files leaves for it.
fn allowed_files(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(limit) = open_file_limit(&limits) else {
        return wanted;
    };
    let allowed = wanted.min(limit.saturating_sub(OTHER_FILES).max(limit / 2));
    if allowed < wanted {
        tracing::warn!(
            limit,
            "max_open_files = {wanted} is above what the limit on open files leaves; {allowed} are used"
        );
    }
    allowed
}

fn open_file_limit(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Writers {
    /// What the thread of shipping works with, where published files are shipped.
    pub fn loader(&self) -> Option<Loader> {
        let shipments = self.shipments.clone()?;
        Some(Loader::new(shipments, self.manifest(), self.stats()))
    }

    /// The way to the manifest.
    pub fn manifest(&self) -> Teller {
        self.manifest.clone()
    }

    /// Numbers and state, to be asked at any time.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Starts the thread that looks after the space on the disk, within `bounds`.
    ///
    /// # Errors
    /// [`Error::Spawn`] when there is no thread for it.
    pub fn keep(&mut self, output: PathBuf, bounds: Bounds, keeping: Keeping) -> Result<(), Error> {
        let (tell, told) = unbounded();
        let keeping = keeping.after(&self.manifest);
        self.stats.set_bounds(bounds);
        self.stats.tell_keeper(Some(tell));
        let keeper = Keeper::new(output, Arc::clone(&self.stats), told, keeping);
        let stats = Arc::clone(&self.stats);
        let body = move || watch("the keeper", Place::Keeper, &stats, || keeper.run());
        self.keeper = Some(spawn("keeper".to_owned(), body)?);
        Ok(())
    }

    /// Other bounds, from the next look on.
    pub fn bound(&self, bounds: Bounds) {
        self.stats.set_bounds(bounds);
    }

    /// No more packets are expected for the target with this id, as after a reload: once what waits
    /// is written, its file is closed. Should a packet come all the same, it gets a new file.
    pub fn retire(&self, target: u32) {
        let writer = target as usize % self.retired.len().max(1);
        if let Some(sender) = self.retired.get(writer) {
            // A writer that has ended has closed its files.
            let _ = sender.send(target);
        }
    }

    /// Does not wait for [`Capture`]s that are never dropped, because their threads are stuck: what has come is written at once and without
    /// regard to what they might still send.
    pub fn lose_workers(&self) {
        self.stats.lose_workers();
    }

    /// Ends everything, once all [`Capture`]s are dropped: writes what waits, publishes all files, runs
    /// the hook for the last of them. What could not be written in time is counted as `shutdown`.
    pub fn finish(self, deadline: Duration) -> Report {
        self.finish_by(&Deadline::within(deadline), |_| Stopped::default())
    }

    /// As [`Self::finish`], by a deadline that somebody may hasten meanwhile. `last` is asked for the last line of the manifest, when
    /// everything is counted that will be. It gets the names of the threads that did not end in time.
    pub fn finish_by(
        mut self,
        deadline: &Deadline,
        last: impl FnOnce(&[String]) -> Stopped,
    ) -> Report {
        let (begun, told, stats) = (time::monotonic(), Cell::new(None), Arc::clone(&self.stats));
        let end = || {
            let end = deadline.end();
            if told.replace(Some(end)) != Some(end) {
                stats.stop_within(end.since(time::monotonic()));
            }
            end.max(begun).plus(LAST_WORDS)
        };
        end();
        let mut stuck = Vec::new();
        for thread in self.threads.into_iter().flatten() {
            stuck.extend(join(thread, end));
        }
        self.stats.tell_keeper(None);
        stuck.extend(self.keeper.and_then(|thread| join(thread, end)));
        let stopped = Entry::Stopped(Box::new(last(&stuck)));
        self.manifest.tell_then(stopped, None, |_| {});
        stuck.extend(self.scribe.take().and_then(|scribe| join(scribe, end)));
        Report {
            files: self.stats.files(),
            lost: self.stats.lost(),
            stuck,
        }
    }
}

/// The name of a thread that did not end in time, or did not end well.
fn join(thread: JoinHandle<()>, end: impl Fn() -> Monotonic) -> Option<String> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    while !thread.is_finished() && time::monotonic() < end() {
        std::thread::sleep(LOOK_EVERY);
    }
    if !thread.is_finished() {
        tracing::error!(thread = name, "did not end before the shutdown deadline");
        return Some(name);
    }
    thread.join().is_err().then(|| {
        tracing::error!(thread = name, "panicked");
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_is_read_from_the_kernels_table() {
        let table = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(open_file_limit(table), Some(1024));
        assert_eq!(
            open_file_limit("Max open files  unlimited  unlimited"),
            None
        );
        let real = std::fs::read_to_string("/proc/self/limits").expect("Linux");
        assert!(open_file_limit(&real).is_some());
    }
}
