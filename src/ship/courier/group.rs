//! A log group: the lines of a file as events.
//!
//! Takes: a [`CloudWatch`] and files. Gives: events there, and their numbers on the [`Board`]. Holds: a file goes on where it was left; what the group would not
//! have is counted by reason; only what the file itself is at fault for is refused.

use std::rc::Rc;

use crate::ship::aws::{self, Kind, Settings};
use crate::ship::courier::board::Board;
use crate::ship::courier::failure::Failure;
use crate::ship::courier::pace::Pace;
use crate::ship::courier::target::is_it;
use crate::ship::logs::{Logs, Tally};
use crate::ship::{CloudWatch, Entry, Pending, Queue};

/// A log group, opened when it is needed.
pub(super) struct Group {
    group: CloudWatch,
    stream: String,
    queue: String,
    pace: Pace,
    board: Rc<Board>,
    logs: Option<Rc<Logs>>,
}

impl Group {
    /// Of a queue.
    pub(super) fn new(group: &CloudWatch, stream: &str, queue: &Queue, board: &Rc<Board>) -> Self {
        Self {
            group: group.clone(),
            stream: stream.to_owned(),
            queue: queue.name.clone(),
            pace: Pace::new(queue.bandwidth),
            board: Rc::clone(board),
            logs: None,
        }
    }

    async fn open(&mut self) -> Result<Rc<Logs>, Failure> {
        if let Some(logs) = &self.logs {
            return Ok(Rc::clone(logs));
        }
        let group = &self.group;
        let settings = Settings::new(group.profile.as_deref(), group.region.as_deref());
        let logs = Rc::new(Logs::open(group, &self.stream, &settings).await?);
        self.logs = Some(Rc::clone(&logs));
        Ok(logs)
    }

    /// Sends a file.
    pub(super) async fn send(&mut self, pending: &Pending, entry: &Entry) -> Result<(), Failure> {
        let doing = format!("cannot read {}", entry.name);
        let path = pending.path(&entry.name);
        let path = path.map_err(|error| Failure::read(&doing, &error))?;
        let logs = self.open().await?;
        let pace = async |bytes| tokio::time::sleep(self.pace.take(bytes)).await;
        let taken = |tally: Tally| self.tell(&tally);
        let sent = logs.ship(pending, entry, pace, taken).await;
        match sent {
            _ if !is_it(path.metadata(), entry) => Err(Failure::Gone),
            Ok(()) => Ok(()),
            Err(failure) => Err(of_file(failure)),
        }
    }

    fn tell(&self, tally: &Tally) {
        self.board.change(&self.queue, |row| {
            row.events += tally.events;
            for (reason, events) in &tally.refused {
                *row.refused_events.entry((*reason).to_owned()).or_default() += events;
            }
        });
    }

    /// Forgets how far files have come that do not wait any more.
    pub(super) fn sweep(&self, pending: &Pending, waiting: &[Entry]) {
        Logs::sweep(pending, waiting);
    }

    /// What is known of it may be old.
    pub(super) fn reopen(&mut self) {
        self.logs = None;
    }
}

fn of_file(failure: aws::Failure) -> Failure {
    match failure.kind {
        Kind::Refused => Failure::Refused(failure.reason),
        _ => failure.into(),
    }
}
