//! From the writers to the closers.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};

use crate::sink::capture::closer::Job;
use crate::sink::capture::stats::Stats;
use crate::time;

/// How often a writer that waits for a closer shows that it is alive.
const WAIT: Duration = Duration::from_millis(250);

/// A writer's way to the closers.
#[derive(Debug)]
pub(super) struct Handover {
    closers: Vec<Sender<Job>>,
    stats: Arc<Stats>,
}

impl Handover {
    pub(super) fn new(closers: Vec<Sender<Job>>, stats: Arc<Stats>) -> Self {
        Self { closers, stats }
    }

    /// Files of one target go to the same closer, and so stay in order. When very many files wait
    /// for their sync, the writer waits too: memory is bounded, and what comes meanwhile is counted.
    pub(super) fn give(&self, target: u32, job: Job, writer: usize) {
        let closer = target as usize % self.closers.len().max(1);
        let Some(closer) = self.closers.get(closer) else {
            return;
        };
        let mut job = job;
        loop {
            match closer.send_timeout(job, WAIT) {
                Ok(()) => return,
                Err(SendTimeoutError::Timeout(back)) => job = back,
                Err(SendTimeoutError::Disconnected(back)) => {
                    return self.stats.lose_file(back.sealed.partial().to_owned());
                }
            }
            self.stats.beat(writer, time::monotonic());
        }
    }
}
