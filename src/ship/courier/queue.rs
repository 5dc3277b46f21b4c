//! One queue: its files, the oldest first, until the process ends.
//!
//! Takes: a [`Queue`]. Gives: files that have arrived, and its row on the [`Board`]. Holds: a file leaves the folder only when it has arrived or never can; what
//! stands in the way of one destination holds up no other queue, and what stands in the way of one file (on this machine, or by an answer that it gets again and again) no
//! other file for long; whatever stands in the way, the next attempt comes within a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::ship::aws::Kind;
use crate::ship::courier::attempts::Attempts;
use crate::ship::courier::backoff::Backoff;
use crate::ship::courier::board::Board;
use crate::ship::courier::failure::Failure;
use crate::ship::courier::refused::Refused;
use crate::ship::courier::target::Target;
use crate::ship::{After, Entry, Pending, Queue};
use crate::time;

/// How often an empty folder is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So many files that were refused again and again are tried once more at one pass.
const MOST_STUBBORN: usize = 8;
/// So many others go before that.
const MOST_BETWEEN: usize = 32;

/// A queue at work.
pub(super) struct Server {
    name: String,
    after: After,
    pending: Pending,
    target: Target,
    refused: Refused,
    backoff: Backoff,
    /// Files that the destination refuses, and may for ever.
    stubborn: Attempts,
    /// Files that this machine's disk does not give back.
    unread: Attempts,
    /// Have arrived, and could not be put away yet.
    arrived: BTreeMap<String, Entry>,
    board: Rc<Board>,
}

impl Server {
    /// For a queue.
    pub(super) fn new(queue: Queue, board: Rc<Board>) -> Self {
        let pending = Pending::at(&queue.folder);
        Self {
            target: Target::new(&queue, &pending, &board),
            refused: Refused::new(&pending.state()),
            backoff: Backoff::new(),
            stubborn: Attempts::default(),
            unread: Attempts::default(),
            arrived: BTreeMap::new(),
            name: queue.name,
            after: queue.after,
            pending,
            board,
        }
    }

    /// Serves it for ever.
    pub(super) async fn serve(mut self) {
        loop {
            let wait = match self.pass().await {
                Ok(0) => {
                    self.board.clear(&self.name);
                    LOOK_EVERY
                }
                // a file that was given up or replaced meanwhile must not make this a busy loop
                Ok(_) => Duration::from_millis(1),
                Err(failure) => self.stand(&failure),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells what stands in the way, and how long to wait.
    fn stand(&mut self, failure: &Failure) -> Duration {
        let Failure::Trouble {
            kind,
            reason,
            after,
            ..
        } = failure
        else {
            return LOOK_EVERY;
        };
        self.board.trouble(&self.name, *kind, reason);
        if *kind != Kind::Local {
            self.board.change(&self.name, |row| row.retries += 1);
        }
        if matches!(kind, Kind::Credentials | Kind::Access | Kind::Missing) {
            self.target.reopen();
        }
        self.backoff.wait(*after)
    }

    /// Goes once through what waits; how many files that were. The failure is that after which it makes no sense to go on, or the last of this machine's own.
    async fn pass(&mut self) -> Result<usize, Failure> {
        let waiting = self.pending.waiting();
        let waiting = waiting.map_err(|error| {
            let doing = format!("cannot list {}", self.pending.root().display());
            Failure::local(&doing, &error)
        })?;
        self.target.sweep(&self.pending, &waiting).await;
        if !self.arrived.is_empty() {
            let names: BTreeSet<_> = waiting.iter().map(|entry| entry.name.as_str()).collect();
            self.arrived.retain(|name, _| names.contains(name.as_str()));
        }
        self.stubborn.keep(&waiting);
        self.unread.keep(&waiting);
        let mut last = None;
        for entry in self.in_order(&waiting) {
            match self.bring(entry).await {
                Ok(()) | Err(Failure::Gone) => {}
                Err(failure) if failure.is_local() || self.goes_last(entry, &failure) => {
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        last.map_or(Ok(waiting.len()), Err)
    }

    /// The oldest first; but after all others those that were refused again and again, the least often tried of them first.
    fn in_order<'w>(&self, waiting: &'w [Entry]) -> Vec<&'w Entry> {
        let is_late = |entry: &&Entry| self.stubborn.is_stubborn(&entry.name);
        let (mut late, mut order): (Vec<_>, Vec<_>) = waiting.iter().partition(is_late);
        if !late.is_empty() {
            // so that what stood in their way is soon known not to any more
            order.truncate(MOST_BETWEEN);
        }
        late.sort_by_key(|entry| self.stubborn.count(&entry.name));
        order.extend(late.into_iter().take(MOST_STUBBORN));
        order
    }

    /// Whether a failure is one file's alone, as far as that can be told.
    fn goes_last(&self, entry: &Entry, failure: &Failure) -> bool {
        failure.is_own() && self.stubborn.is_stubborn(&entry.name)
    }

    /// Sends a file, if it has not arrived yet, and puts it away.
    async fn bring(&mut self, entry: &Entry) -> Result<(), Failure> {
        if self.arrived.get(&entry.name) != Some(entry) {
            let turn = self.board.turn().await;
            let sent = self.target.send(&self.pending, entry).await;
            drop(turn);
            match sent {
                Ok(()) => self.stubborn.forget(&entry.name),
                Err(Failure::Refused(reason)) => return self.set_aside(entry, &reason),
                Err(Failure::Unread(reason)) => return self.not_read(entry, reason),
                Err(failure) => {
                    if failure.is_own() {
                        self.stubborn.failed(&entry.name);
                    }
                    return Err(failure);
                }
            }
            self.backoff.reset();
            self.arrived.insert(entry.name.clone(), entry.clone());
        }
        self.put_away(entry)?;
        self.arrived.remove(&entry.name);
        // what is refused again and again still stands in its own way
        let is_clear = self.stubborn.is_empty();
        self.board.change(&self.name, |row| {
            row.shipped_files += 1;
            row.shipped_bytes += entry.bytes;
            if is_clear {
                row.trouble = None;
            }
        });
        Ok(())
    }

    /// A disk that gives nothing back for long will not another time.
    fn not_read(&mut self, entry: &Entry, reason: String) -> Result<(), Failure> {
        self.unread.failed(&entry.name);
        match self.unread.is_hopeless(&entry.name, time::monotonic()) {
            true => self.set_aside(entry, &reason),
            false => Err(Failure::Trouble {
                kind: Kind::Local,
                reason,
                after: None,
                own: false,
            }),
        }
    }

    fn put_away(&self, entry: &Entry) -> Result<(), Failure> {
        let left = match self.after {
            After::Forget => self.pending.forget(&entry.name),
            After::Tell => self.pending.finish(&entry.name),
        };
        let waits = || {
            self.pending
                .path(&entry.name)
                .is_ok_and(|path| path.exists())
        };
        match left {
            // given up while it arrived
            Err(error) if error.kind() == io::ErrorKind::NotFound && !waits() => Ok(()),
            other => other.map_err(|error| {
                let doing = format!("cannot put away {}, which has arrived", entry.name);
                Failure::local(&doing, &error)
            }),
        }
    }

    fn set_aside(&self, entry: &Entry, reason: &str) -> Result<(), Failure> {
        tracing::warn!(
            queue = self.name,
            file = entry.name,
            reason,
            "A file can never be shipped and is set aside."
        );
        self.board.change(&self.name, |row| row.refused_files += 1);
        let aside = self.refused.take(&self.pending, entry);
        aside.map_err(|error| {
            let doing = format!("cannot set {} aside", entry.name);
            Failure::local(&doing, &error)
        })
    }
}
