//! The command that is run for each finished file.
//!
//! Takes: finished files, in a bounded queue. Gives: one process after the other, with the file's path
//! as last argument and its description in JSON on standard input. Holds: capture never waits for
//! a command; one that hangs is killed; each file had its command run, or is counted as skipped.

use std::ffi::OsStr;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::sink::capture::closed::Closed;
use crate::sink::capture::runner::{Ended, Runner, launch};
use crate::sink::capture::stats::Stats;
use crate::time;

/// How many files may wait for their command.
const WAITING: usize = 1024;

/// How often a running command is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The way to the hook's thread.
#[derive(Clone, Debug)]
pub(super) struct HookQueue {
    sender: Sender<Arc<Closed>>,
    stats: Arc<Stats>,
}

impl HookQueue {
    /// Gives a file to the hook, unless too many wait already.
    pub(super) fn offer(&self, closed: Arc<Closed>) {
        if let Err(TrySendError::Full(closed) | TrySendError::Disconnected(closed)) =
            self.sender.try_send(closed)
        {
            skip(&self.stats, &closed, "too many files wait for it");
        }
    }
}

fn skip(stats: &Stats, closed: &Closed, why: &str) {
    stats.hooks_skipped.add(1);
    tracing::warn!(path = %closed.path.display(), "on_close was not run: {why}");
}

/// The thread that runs the commands.
#[derive(Debug)]
pub(super) struct Hook {
    command: Vec<String>,
    timeout: Duration,
    files: Receiver<Arc<Closed>>,
    stats: Arc<Stats>,
    way: Way,
}

/// Who starts the commands.
#[derive(Debug)]
enum Way {
    /// This process.
    Here,
    /// A process of its own.
    Away(Runner),
    /// That process, which is gone.
    Gone,
}

impl Hook {
    /// The hook and the way to it.
    pub(super) fn new(
        command: Vec<String>,
        timeout: Duration,
        stats: Arc<Stats>,
        runner: Option<Runner>,
    ) -> (HookQueue, Self) {
        let (sender, files) = bounded(WAITING);
        let queue = HookQueue {
            sender,
            stats: Arc::clone(&stats),
        };
        let hook = Self {
            command,
            timeout,
            files,
            stats,
            way: runner.map_or(Way::Here, Way::Away),
        };
        (queue, hook)
    }

    /// Works until no more files can come.
    pub(super) fn run(mut self) {
        for closed in &self.files.clone() {
            if self.stats.left(time::monotonic()).is_zero() {
                skip(&self.stats, &closed, "the shutdown deadline has passed");
            } else if matches!(self.way, Way::Gone) {
                skip(&self.stats, &closed, "the process that starts it has ended");
            } else {
                self.run_for(&closed);
            }
        }
    }

    fn run_for(&mut self, closed: &Closed) {
        let path = closed.path.display();
        let failure = match self.start(closed) {
            Ok(Ended::Well) => {
                self.stats.hooks_run.add(1);
                tracing::debug!(%path, "on_close ended well");
                return;
            }
            Ok(Ended::Badly(how)) => how,
            Ok(Ended::Killed) => "it ran too long and was killed".to_owned(),
            Err(error) => error.to_string(),
        };
        self.stats.hooks_failed.add(1);
        let program = self.command.first().map_or("", String::as_str);
        tracing::warn!(%path, program, "on_close failed: {failure}");
    }

    fn start(&mut self, closed: &Closed) -> std::io::Result<Ended> {
        let json = serde_json::to_vec(closed).unwrap_or_default();
        let path = closed.path.as_os_str();
        let started = time::monotonic();
        let (timeout, stats) = (self.timeout, &self.stats);
        let is_over = || {
            let now = time::monotonic();
            now.since(started) >= timeout || stats.left(now).is_zero()
        };
        let Way::Away(runner) = &mut self.way else {
            let (program, arguments) = self
                .command
                .split_first()
                .ok_or(std::io::ErrorKind::NotFound)?;
            let child = launch(OsStr::new(program), arguments, path, &json)?;
            return wait(child, is_over);
        };
        let ended = runner.run(path, &json, is_over);
        if let Err(error) = &ended {
            tracing::error!(%error, "The process that starts on_close has ended: no further file has its command run until the sensor is restarted. \
                Capture goes on.");
            self.way = Way::Gone;
        }
        ended
    }
}

/// Waits for the end of a command, and kills it when `is_over`.
fn wait(mut child: Child, is_over: impl Fn() -> bool) -> std::io::Result<Ended> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.success() {
                true => Ended::Well,
                false => Ended::Badly(status.to_string()),
            });
        }
        if is_over() {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Killed);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
