//! What the shipping process is at first: it starts the one that ships, and another when that ends.
//!
//! Takes: the sensor's socket as standard input, with the [`Orders`]. Gives: the worker's statuses, handed on, so that numbers go on over its restarts.
//! Holds: no capability, and no open file but the sockets to both; a worker that ends badly has a follower after a wait that grows, so one crash does not end all
//! shipping; when the sensor's end comes the worker's comes too.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Line;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::logging;
use crate::ship::process::{self, Orders, VERB};
use crate::ship::{Plan, QueueStatus, Status, Trouble};
use crate::sys::privileges;
use crate::time::{self, Monotonic};

/// What the worker is started with.
pub(super) const WORKER: &str = "--worker";
/// How a worker ends that asks for a follower with fresh eyes: files that were replaced under their names are seen again.
pub const RENEW: u8 = 75;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A worker that has lived as long has done well.
const DID_WELL: Duration = Duration::from_secs(60);
/// A worker that is younger may not have tried yet what the one before could not do.
const NOT_YET: Duration = Duration::from_secs(90);
/// How long a worker may take to end after its socket did.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Runs workers, once it may, until the sensor is gone.
///
/// # Errors
/// The standard input is no socket, or what comes through it makes no sense.
pub fn supervise(program: &Path) -> io::Result<()> {
    let mut line = Line::from(io::stdin().as_fd().try_clone_to_owned()?);
    let orders = match process::orders(&mut line) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
        orders => orders?,
    };
    logging::init(&orders.log);
    // the sensor's capabilities are for its sockets; what could not be given up is told by the worker, which tries again
    let _ = privileges::no_new_privileges().and_then(|()| privileges::drop_capabilities());
    if process::wait_for_go(&mut line).is_err() {
        return Ok(());
    }
    line.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (sensor, told) = UnixStream::from_std(line)?.into_split();
        let mut supervisor = Supervisor {
            told,
            totals: Totals::of(&orders.plan),
            wait: FIRST_WAIT,
        };
        tokio::select! {
            () = end(sensor) => Ok(()),
            // dropping the future ends the worker
            error = supervisor.run(program, &orders) => Err(error),
        }
    })
}

/// The sensor says nothing after its orders; so what can be read is the end.
async fn end(mut sensor: OwnedReadHalf) {
    let mut room = [0; 64];
    while sensor.read(&mut room).await.is_ok_and(|n| n > 0) {}
}

struct Supervisor {
    told: OwnedWriteHalf,
    totals: Totals,
    wait: Duration,
}

impl Supervisor {
    /// One worker after the other; ends only when the sensor can't be spoken to.
    async fn run(&mut self, program: &Path, orders: &Orders) -> io::Error {
        loop {
            let began = time::monotonic();
            self.totals.begin();
            let ended = match Worker::start(program, orders) {
                Ok(mut worker) => match self.hand_on(&mut worker).await {
                    Ok(()) => worker.end(),
                    Err(error) => return error,
                },
                Err(error) => format!("it could not be started: {error}"),
            };
            let lived = time::monotonic().since(began);
            self.totals.keep();
            if ended.is_empty() {
                continue;
            }
            if lived >= DID_WELL {
                self.wait = FIRST_WAIT;
            }
            tracing::warn!(
                ended,
                wait = ?self.wait,
                "The process that ships files has ended; another is started."
            );
            let reason = format!("the process that ships has ended ({ended}); another is started");
            let troubled = self.totals.troubled(&reason);
            if let Err(error) = self.tell(&troubled).await {
                return error;
            }
            tokio::time::sleep(self.wait).await;
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Hands a worker's statuses on until it ends.
    async fn hand_on(&mut self, worker: &mut Worker) -> io::Result<()> {
        let mut line = String::new();
        // a worker that is killed while it writes leaves half a line
        loop {
            let mut lines = (&mut worker.lines).take(process::LONGEST as u64);
            if !lines.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                return Ok(());
            }
            if let Ok(status) = serde_json::from_str(&line) {
                let total = self.totals.add(status);
                self.tell(&total).await?;
            }
            line.clear();
        }
    }

    async fn tell(&mut self, status: &Status) -> io::Result<()> {
        let mut text = serde_json::to_vec(status)?;
        text.push(b'\n');
        self.told.write_all(&text).await
    }
}

/// A process that ships.
struct Worker {
    lines: BufReader<UnixStream>,
    process: Child,
}

impl Worker {
    fn start(program: &Path, orders: &Orders) -> io::Result<Self> {
        let (line, process) = process::launch(Command::new(program), &[VERB, WORKER], orders)?;
        let lines = BufReader::new(UnixStream::from_std(line)?);
        Ok(Self { lines, process })
    }

    /// Waits for its end, and says how it ended; empty where it asked for a follower.
    fn end(mut self) -> String {
        if !process::wait(&mut self.process, LAST_WORD) {
            let _ = self.process.kill();
        }
        match self.process.wait() {
            Ok(status) if status.code() == Some(i32::from(RENEW)) => String::new(),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // nothing of it is lost: what has not arrived is taken up again
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The numbers of all workers together.
#[derive(Debug, Default)]
struct Totals {
    /// Of those that have ended.
    before: BTreeMap<String, QueueStatus>,
    now: BTreeMap<String, QueueStatus>,
    /// When the worker of now began.
    began: Monotonic,
    /// Since when workers end before they tell anything.
    ended: Option<u64>,
}

impl Totals {
    /// With a row for each queue: a worker that can't even begin has told of none.
    fn of(plan: &Plan) -> Self {
        let names = plan.queues.iter().map(|queue| queue.name.clone());
        Self {
            before: names.map(|name| (name, QueueStatus::default())).collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, status: Status) -> Status {
        if !status.queues.is_empty() {
            self.ended = None;
        }
        self.now = status.queues;
        let is_new = time::monotonic().since(self.began) < NOT_YET;
        let queues = self.now.iter().map(|(name, now)| {
            let before = self.before.get(name);
            let mut all = sum(before, now);
            all.trouble = going_on(before, now, is_new);
            (name.clone(), all)
        });
        Status {
            queues: queues.collect(),
        }
    }

    /// A worker begins.
    fn begin(&mut self) {
        self.began = time::monotonic();
    }

    /// The worker has ended.
    fn keep(&mut self) {
        let now = std::mem::take(&mut self.now);
        let sums = self.add(Status { queues: now }).queues;
        self.before.extend(sums);
        self.now.clear();
    }

    /// Between two workers.
    fn troubled(&mut self, reason: &str) -> Status {
        let trouble = Trouble {
            kind: "local".to_owned(),
            reason: reason.to_owned(),
            since: *self.ended.get_or_insert_with(|| time::now().secs()),
        };
        let queues = self.before.iter().map(|(name, before)| {
            let trouble = Some(trouble.clone());
            (
                name.clone(),
                QueueStatus {
                    trouble,
                    ..before.clone()
                },
            )
        });
        Status {
            queues: queues.collect(),
        }
    }
}

/// What stood in the way still does, as long as a new worker has not tried; and is as old as it was.
fn going_on(before: Option<&QueueStatus>, now: &QueueStatus, is_new: bool) -> Option<Trouble> {
    let old = before.and_then(|before| before.trouble.as_ref());
    let nothing_yet = (now.shipped_files, now.refused_files, now.events) == (0, 0, 0);
    match (old, &now.trouble) {
        (Some(old), None) if is_new && nothing_yet => Some(old.clone()),
        (Some(old), Some(new)) if old.kind == new.kind && nothing_yet => Some(Trouble {
            since: old.since,
            ..new.clone()
        }),
        (_, new) => new.clone(),
    }
}

fn sum(before: Option<&QueueStatus>, now: &QueueStatus) -> QueueStatus {
    let mut all = now.clone();
    let Some(before) = before else {
        return all;
    };
    all.shipped_files += before.shipped_files;
    all.shipped_bytes += before.shipped_bytes;
    all.retries += before.retries;
    all.refused_files += before.refused_files;
    all.events += before.events;
    for (reason, count) in &before.refused_events {
        *all.refused_events.entry(reason.clone()).or_default() += count;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::{After, Destination, Queue, S3};

    fn told(files: u64, reason: &str) -> Status {
        let queue = QueueStatus {
            shipped_files: files,
            refused_events: [(reason.to_owned(), 1)].into(),
            ..QueueStatus::default()
        };
        Status {
            queues: [("a".to_owned(), queue)].into(),
        }
    }

    fn trouble(since: u64) -> QueueStatus {
        let trouble = Trouble {
            kind: "unreachable".to_owned(),
            reason: "no answer".to_owned(),
            since,
        };
        QueueStatus {
            trouble: Some(trouble),
            ..QueueStatus::default()
        }
    }

    #[test]
    fn a_trouble_stands_until_a_new_worker_has_tried_and_is_as_old_as_it_was() {
        let before = trouble(5);
        let since = |now: &QueueStatus, is_new| {
            let trouble = going_on(Some(&before), now, is_new);
            trouble.map(|trouble| trouble.since)
        };
        let nothing = QueueStatus::default();
        let arrived = QueueStatus {
            shipped_files: 1,
            ..QueueStatus::default()
        };
        assert_eq!(since(&nothing, true), Some(5));
        assert_eq!(since(&nothing, false), None);
        assert_eq!(since(&arrived, true), None);
        assert_eq!(since(&trouble(9), true), Some(5));
        let later = QueueStatus {
            trouble: trouble(9).trouble,
            ..arrived
        };
        assert_eq!(since(&later, true), Some(9));
    }

    #[test]
    fn a_worker_that_ends_before_it_tells_anything_is_a_trouble_of_each_queue_as_old_as_the_first()
    {
        let queue = Queue {
            name: "a".to_owned(),
            folder: "x".into(),
            destination: Destination::S3(S3::default()),
            after: After::Forget,
            bandwidth: None,
            part_size: 1,
        };
        let mut totals = Totals::of(&Plan {
            queues: vec![queue],
        });
        let since = |status: &Status| status.queues["a"].trouble.as_ref().unwrap().since;
        assert!(since(&totals.troubled("no process")) > 5);
        totals.ended = Some(5);
        totals.keep();
        assert_eq!(since(&totals.troubled("no process")), 5);
        totals.add(told(1, "expired"));
        assert!(since(&totals.troubled("no process")) > 5);
    }

    #[test]
    fn numbers_go_on_over_the_restarts_of_a_worker() {
        let mut totals = Totals::default();
        let files = |status: &Status| status.queues["a"].shipped_files;
        assert_eq!(files(&totals.add(told(2, "too_old"))), 2);
        assert_eq!(files(&totals.add(told(3, "too_old"))), 3);
        totals.keep();
        assert_eq!(files(&totals.troubled("gone")), 3);
        let after = totals.add(told(1, "expired"));
        assert_eq!(files(&after), 4);
        assert_eq!(after.queues["a"].refused_events.len(), 2);
        totals.keep();
        totals.keep();
        assert_eq!(files(&totals.add(told(0, "expired"))), 4);
    }
}
