//! One queue, as the sensor looks after it.
//!
//! Takes: a folder of pending files, its budget, and what the owner of the files wants to be asked ([`Care`]). Gives: what arrived to the owner, room by
//! giving up the oldest, and numbers. Holds: a file is given up only for the budget or when its owner asks for room, and is counted then; an owner
//! hears of each file that arrived before it is forgotten.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::logging::Limited;
use crate::ship::{Destination, Entry, Pending, QueueStanding, QueueStatus};
use crate::time;

/// A warning that repeats is told so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Offers what could not be offered yet. Gives how many files and bytes still could not be.
pub type Before = Box<dyn FnMut(&Pending) -> (u64, u64) + Send>;

/// Is told what has arrived. Gives what it is done with.
pub type Arrived = Box<dyn FnMut(&[Entry]) -> Vec<Entry> + Send>;

/// Is told all that is there.
pub type There = Box<dyn FnMut(&[Entry]) + Send>;

/// What the owner of the files is asked and told, always by the same thread.
pub struct Care {
    /// Before each look: whoever has files that could not be offered yet offers them. Gives how many files and bytes still could not be; they count as
    /// pending.
    pub before: Before,
    /// Of those that could not be offered, the oldest are given up until so many bytes are. Gives files and bytes.
    pub drop_unoffered: Box<dyn FnMut(u64) -> (u64, u64) + Send>,
    /// Files and bytes that are beyond the budget and were not even offered, since this was asked last.
    pub left_out: Box<dyn FnMut() -> (u64, u64) + Send>,
    /// Files have arrived. Gives those of which nothing more has to be done.
    pub arrived: Arrived,
    /// All that wait, or have arrived and are not done with: what is not among them may go.
    pub there: There,
    /// How many bytes the disk needs, so that files have to be given up whatever the budget says.
    pub wanted: Box<dyn FnMut() -> u64 + Send>,
}

impl Default for Care {
    fn default() -> Self {
        Self {
            before: Box::new(|_| (0, 0)),
            drop_unoffered: Box::new(|_| (0, 0)),
            left_out: Box::new(|| (0, 0)),
            arrived: Box::new(<[Entry]>::to_vec),
            there: Box::new(|_| {}),
            wanted: Box::new(|| 0),
        }
    }
}

impl fmt::Debug for Care {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Care")
    }
}

/// A queue.
#[derive(Debug)]
pub struct Lane {
    name: String,
    pending: Pending,
    /// Most bytes that wait.
    budget: u64,
    care: Care,
    standing: QueueStanding,
    given_up: Limited,
    failed: Limited,
}

impl Lane {
    /// A queue that is called as in the plan. A `budget` of zero is none.
    pub fn new(
        name: &str,
        pending: Pending,
        destination: &Destination,
        budget: u64,
        care: Care,
    ) -> Self {
        let mut standing = QueueStanding {
            destination: describe(destination),
            ..QueueStanding::default()
        };
        standing.put_into_words(false);
        Self {
            name: name.to_owned(),
            pending,
            budget: if budget == 0 { u64::MAX } else { budget },
            care,
            standing,
            given_up: Limited::new(TELL_EVERY),
            failed: Limited::new(TELL_EVERY),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it stands.
    pub fn standing(&self) -> &QueueStanding {
        &self.standing
    }

    /// Takes note of what the shipping process tells of it; `None` when that tells nothing.
    pub(super) fn note(&mut self, status: Option<QueueStatus>, has_ended: bool) {
        if let Some(status) = status {
            self.standing.status = status;
        }
        self.standing.put_into_words(has_ended);
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.standing.pending_files == 0
    }

    /// Whether there is no sense in waiting for it.
    pub(super) fn is_held_up(&self) -> bool {
        self.standing.status.trouble.is_some()
    }

    /// Looks after it once.
    pub fn tend(&mut self) {
        if let Err(error) = self.look() {
            self.warn(&error);
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let unoffered = (self.care.before)(&self.pending);
        let left_out = (self.care.left_out)();
        self.standing.given_up_files += left_out.0;
        self.standing.given_up_bytes += left_out.1;
        // in this order: a file that arrives in between is seen twice, and not missed
        let both = self.pending.waiting();
        let both = both.and_then(|waiting| Ok((waiting, self.pending.done()?)));
        let (mut waiting, mut done) = match both {
            Ok(both) => both,
            Err(error) => {
                self.make_room_unseen(unoffered.1);
                return Err(error);
            }
        };
        let settled = (self.care.arrived)(&done);
        let mut failed = None;
        for entry in &settled {
            if let Err(error) = self.pending.seen(&entry.name) {
                failed = Some(error);
            }
        }
        let settled: HashSet<&str> = settled.iter().map(|s| &*s.name).collect();
        done.retain(|entry| !settled.contains(&*entry.name));
        let (unoffered, stays) = self.keep_within(&mut waiting, unoffered);
        let there: Vec<Entry> = waiting.iter().chain(&done).cloned().collect();
        (self.care.there)(&there);
        self.count(&waiting, unoffered);
        failed.or(stays).map_or(Ok(()), Err)
    }

    /// What waits cannot be seen: then what could not be offered is all that can be given up.
    fn make_room_unseen(&mut self, bytes: u64) {
        let over = bytes.saturating_sub(self.budget).max((self.care.wanted)());
        if over > 0 {
            let (files, bytes) = (self.care.drop_unoffered)(over);
            self.give_up(files, bytes);
        }
    }

    /// Gives up the oldest, until the rest is within the budget and the disk has the room that it needs. Gives what is not offered yet, and why a file could
    /// not be given up.
    fn keep_within(
        &mut self,
        waiting: &mut Vec<Entry>,
        (files, bytes): (u64, u64),
    ) -> ((u64, u64), Option<io::Error>) {
        let all = waiting.iter().map(|e| e.bytes).sum::<u64>() + bytes;
        let wanted = (self.care.wanted)();
        let mut over = all.saturating_sub(self.budget).max(wanted.min(all));
        let (mut gone_files, mut gone_bytes, mut failed) = (0, 0, None);
        // a file goes with its description, which comes just before it
        let mut with: Option<String> = None;
        waiting.retain(|entry| {
            if over == 0 && with.as_ref() != Some(&entry.name) {
                return true;
            }
            if let Err(error) = self.pending.forget(&entry.name) {
                failed = Some(error);
                return true;
            }
            with = entry.described().map(str::to_owned);
            over = over.saturating_sub(entry.bytes);
            gone_files += 1;
            gone_bytes += entry.bytes;
            false
        });
        let dropped = match over {
            0 => (0, 0),
            over => (self.care.drop_unoffered)(over),
        };
        self.give_up(gone_files + dropped.0, gone_bytes + dropped.1);
        let left = (
            files.saturating_sub(dropped.0),
            bytes.saturating_sub(dropped.1),
        );
        (left, failed)
    }

    fn give_up(&mut self, files: u64, bytes: u64) {
        if files == 0 {
            return;
        }
        self.standing.given_up_files += files;
        self.standing.given_up_bytes += bytes;
        if let Some(more) = self.given_up.pass(time::monotonic().nanos()) {
            tracing::warn!(
                queue = self.name,
                files,
                bytes,
                more,
                "files that waited to be shipped are given up, the oldest first: they take more than the budget, or the disk needs the room"
            );
        }
    }

    fn count(&mut self, waiting: &[Entry], (files, bytes): (u64, u64)) {
        let now = i128::from(time::now().nanos());
        let oldest = waiting.first().map_or(0, |e| (now - e.written).max(0));
        self.standing.pending_files = waiting.len() as u64 + files;
        self.standing.pending_bytes = waiting.iter().map(|e| e.bytes).sum::<u64>() + bytes;
        self.standing.oldest_pending_seconds = oldest as f64 / 1e9;
    }

    fn warn(&self, error: &io::Error) {
        if let Some(more) = self.failed.pass(time::monotonic().nanos()) {
            let folder = self.pending.root().display();
            tracing::warn!(
                queue = self.name,
                %folder,
                more,
                "cannot look after the files that wait to be shipped: {error}; see to the folder's permissions"
            );
        }
    }
}

fn describe(destination: &Destination) -> String {
    match destination {
        Destination::S3(s3) => format!("s3://{}", s3.bucket) + "/" + &s3.key(""),
        Destination::CloudWatch { group, .. } => group.log_group.clone(),
    }
}

#[cfg(test)]
mod tests;
