//! A file on its way.

use std::collections::BTreeMap;
use std::fs::File;

use crate::ship::aws::{Failure, Settings};
use crate::ship::logs::batch::{Batch, Batches, Event};
use crate::ship::logs::events::{Events, Next};
use crate::ship::logs::group::{Group, Rejected};
use crate::ship::logs::progress::{self, Last, Progress, Way};
use crate::ship::{CloudWatch, Entry, Pending, Streams};
use crate::time::{self, Timestamp};

/// Older ones are not kept, in milliseconds.
const TOO_OLD: u64 = 14 * 24 * 3_600_000;
/// The longest name of a stream.
const LONGEST_NAME: usize = 512;

/// What came of one batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Events that were taken, and kept.
    pub events: u64,
    /// Bytes of their messages, and of those that were not kept.
    pub bytes: u64,
    /// Events that were not, by reason: `too_new`, `too_old`, `expired`, `too_large`.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn refuse(&mut self, reason: &'static str, events: u64) {
        if events > 0 {
            *self.refused.entry(reason).or_default() += events;
        }
    }

    fn put(&mut self, events: u64, rejected: Rejected) {
        let lost = rejected.too_new + rejected.too_old + rejected.expired;
        self.events += events.saturating_sub(lost);
        self.refuse("too_new", rejected.too_new);
        self.refuse("too_old", rejected.too_old);
        self.refuse("expired", rejected.expired);
    }
}

/// A log group that files of records are shipped to.
#[derive(Debug)]
pub struct Logs {
    group: Group,
    log_group: String,
    streams: Streams,
    stream: String,
    last: Last,
}

impl Logs {
    /// The group; `stream` is the name of the one stream where there is one for all interfaces.
    ///
    /// # Errors
    /// No region is known, or the endpoint is no address.
    pub async fn open(
        group: &CloudWatch,
        stream: &str,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        Ok(Self {
            group: Group::open(group, settings).await?,
            log_group: group.log_group.clone(),
            streams: group.streams,
            stream: stream_name(stream),
            last: Last::default(),
        })
    }

    /// Ships a file that waits. `pace` is waited for before so many bytes are sent; `taken` is told of each batch. When it is done, whoever called finishes the file.
    ///
    /// # Errors
    /// What stands in the way. The next attempt goes on behind the batches that were taken.
    pub async fn ship(
        &self,
        pending: &Pending,
        entry: &Entry,
        pace: impl AsyncFn(usize),
        mut taken: impl FnMut(Tally),
    ) -> Result<(), Failure> {
        let doing = format!("read {}", entry.name);
        let mut progress = Progress::of(&folder(pending), self.way(entry), &self.last)
            .map_err(|error| Failure::local("read how far a file has come", &error))?;
        let file = pending.path(&entry.name).and_then(File::open);
        let file = file.map_err(|error| Failure::local(&doing, &error))?;
        let otherwise = u64::try_from(entry.written / 1_000_000).unwrap_or(0);
        let mut dealer = Dealer {
            events: Events::open(file, &entry.name, otherwise)?,
            batches: Batches::default(),
            too_large: 0,
            at_end: false,
        };
        let before = progress.batches;
        let mut number = 0;
        while let Some(batch) = dealer.next(|interface| self.stream_of(interface))? {
            number += 1;
            let too_large = std::mem::take(&mut dealer.too_large);
            if number <= before {
                // whoever else runs here is not held up by a long file
                tokio::task::yield_now().await;
                continue;
            }
            let mut tally = self.put(&batch, &pace).await?;
            tally.refuse("too_large", too_large);
            taken(tally);
            let step = progress.step(&self.last);
            step.map_err(|error| Failure::local("write how far a file has come", &error))?;
        }
        told_rest(dealer.too_large, taken);
        let forget = progress.forget();
        forget.map_err(|error| Failure::local("forget how far a file has come", &error))
    }

    /// Forgets how far files have come that do not wait any more.
    pub fn sweep(pending: &Pending, waiting: &[Entry]) {
        // what is left is looked at the next time
        let _ = progress::sweep(&folder(pending), waiting);
    }

    fn way(&self, entry: &Entry) -> Way {
        Way {
            name: entry.name.clone(),
            identity: entry.identity,
            bytes: entry.bytes,
            written: entry.written,
            log_group: self.log_group.clone(),
            streams: self.streams,
            dealing: progress::DEALING,
        }
    }

    fn stream_of(&self, interface: &str) -> String {
        match (self.streams, interface) {
            (Streams::Sensor, _) => self.stream.clone(),
            (Streams::Interface, "-") => "unknown-accept".to_owned(),
            (Streams::Interface, interface) => stream_name(&format!("{interface}-accept")),
        }
    }

    async fn put(&self, batch: &Batch, pace: &impl AsyncFn(usize)) -> Result<Tally, Failure> {
        let (old, young) = by_age(&batch.events, time::now());
        let mut tally = Tally {
            bytes: batch.events.iter().map(|e| e.message.len() as u64).sum(),
            ..Tally::default()
        };
        tally.refuse("too_old", old as u64);
        if !young.is_empty() {
            pace(young.iter().map(Event::size).sum()).await;
            let rejected = self.group.put(&batch.stream, young).await?;
            tally.put(young.len() as u64, rejected);
        }
        Ok(tally)
    }
}

/// How many stand at the beginning that are too old, and the others.
pub(super) fn by_age(events: &[Event], now: Timestamp) -> (usize, &[Event]) {
    let oldest = (now.nanos() / 1_000_000).saturating_sub(TOO_OLD);
    let old = events.partition_point(|event| event.timestamp < oldest);
    (old, events.get(old..).unwrap_or_default())
}

fn told_rest(too_large: u64, mut taken: impl FnMut(Tally)) {
    if too_large > 0 {
        let mut tally = Tally::default();
        tally.refuse("too_large", too_large);
        taken(tally);
    }
}

fn folder(pending: &Pending) -> std::path::PathBuf {
    pending.state().join("logs")
}

/// What a stream may be called.
fn stream_name(text: &str) -> String {
    let plain = |c: char| if c == ':' || c == '*' { '_' } else { c };
    text.chars().take(LONGEST_NAME).map(plain).collect()
}

/// The batches of a file, one after the other.
struct Dealer {
    events: Events,
    batches: Batches,
    /// Lines since the last batch that no request could hold.
    too_large: u64,
    at_end: bool,
}

impl Dealer {
    fn next(&mut self, stream: impl Fn(&str) -> String) -> Result<Option<Batch>, Failure> {
        while !self.at_end {
            match self.events.next()? {
                Next::End => self.at_end = true,
                Next::TooLarge => self.too_large += 1,
                Next::Event { interface, event } => {
                    let full = self.batches.add(&stream(&interface), event);
                    if full.is_some() {
                        return Ok(full);
                    }
                }
            }
        }
        Ok(self.batches.next())
    }
}
