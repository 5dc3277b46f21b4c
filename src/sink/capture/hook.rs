//! The command that is run for each finished file.
//!
//! Takes: finished files, in a bounded queue. Gives: one process after the other, with the file's path
//! as last argument and its description in JSON on standard input. Holds: capture never waits for
//! a command; one that hangs is killed; each file had its command run, or is counted as skipped.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::sink::capture::closed::Closed;
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
}

impl Hook {
    /// The hook and the way to it.
    pub(super) fn new(
        command: Vec<String>,
        timeout: Duration,
        stats: Arc<Stats>,
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
        };
        (queue, hook)
    }

    /// Works until no more files can come.
    pub(super) fn run(self) {
        for closed in &self.files {
            if self.stats.left(time::monotonic()).is_zero() {
                skip(&self.stats, &closed, "the shutdown deadline has passed");
                continue;
            }
            self.run_for(&closed);
        }
    }

    fn run_for(&self, closed: &Closed) {
        let path = closed.path.display();
        let failure = match self.start(closed).and_then(|child| self.wait(child)) {
            Ok(Some(status)) if status.success() => {
                self.stats.hooks_run.add(1);
                tracing::debug!(%path, "on_close ended well");
                return;
            }
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it ran too long and was killed".to_owned(),
            Err(error) => error.to_string(),
        };
        self.stats.hooks_failed.add(1);
        let program = self.command.first().map_or("", String::as_str);
        tracing::warn!(%path, program, "on_close failed: {failure}");
    }

    fn start(&self, closed: &Closed) -> std::io::Result<Child> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or(std::io::ErrorKind::NotFound)?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(&closed.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let json = serde_json::to_vec(closed).unwrap_or_default();
        if let Some(mut stdin) = child.stdin.take() {
            // The text fits into a pipe, so this cannot block; a command may choose not to read it.
            let _ = stdin.write_all(&json);
        }
        Ok(child)
    }

    /// Waits for the end of a command; `None` when it had to be killed.
    fn wait(&self, mut child: Child) -> std::io::Result<Option<ExitStatus>> {
        let started = time::monotonic();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            let now = time::monotonic();
            if now.since(started) >= self.timeout || self.stats.left(now).is_zero() {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
