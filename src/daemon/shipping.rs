//! Shipping, as the daemon puts it together: what goes where, the process that does it, and the thread that looks after it.
//!
//! Takes: a configuration. Gives: [`Shipping`]. Holds: the process is started before anything is open, and only when there is something to be shipped; where
//! files wait depends on nothing but the configuration.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::flowlog;
use crate::pipeline::Pipeline;
use crate::sandbox;
use crate::ship::{
    After, CAPTURES, Destination, Heard, Lane, Listen, Orders, Overseer, Pending, Plan, Queue,
    Shipper,
};
use crate::sink::capture::{self, Loader, Shipments};
use crate::units::Size;

/// Larger files of flow logs go in parts of this size.
const PART: Size = Size::mebibytes(16);

/// What is to be shipped, before anything is open.
#[derive(Debug)]
pub struct Shipping {
    plan: Plan,
    shipper: Shipper,
    shipments: Option<Arc<Shipments>>,
}

impl Shipping {
    /// Starts the process, where there is something to be shipped.
    ///
    /// # Errors
    /// There is no process to be had.
    pub fn start(config: &Config) -> io::Result<Option<Self>> {
        let plan = plan(config);
        if plan.queues.is_empty() {
            return Ok(None);
        }
        let shipper = Shipper::start(&Orders {
            plan: plan.clone(),
            // further folders are opened for the sensor alone
            sandbox: sandbox::Config {
                mode: config.sandbox.mode,
                ..sandbox::Config::default()
            },
            log: config.log,
        })?;
        let shipments = || Shipments::new(&config.output, &config.ship, config.shipped_sessions());
        Ok(Some(Self {
            plan,
            shipper,
            shipments: config.ship.is_on().then(|| Arc::new(shipments())),
        }))
    }

    /// Lets the process begin: the output is this sensor's now, and what waits in it.
    pub(super) fn go(&mut self) {
        self.shipper.go();
    }

    /// The capture files' part.
    pub fn shipments(&self) -> Option<Arc<Shipments>> {
        self.shipments.clone()
    }

    /// Starts the thread that looks after it all.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn oversee(self, config: &Config, pipeline: &Pipeline) -> io::Result<Overseer> {
        let mut loader = pipeline.loader();
        let lane = |queue: &Queue| {
            let loader = loader.take_if(|_| queue.name == CAPTURES);
            let care = loader.map(Loader::care).unwrap_or_default();
            let pending = Pending::at(&queue.folder);
            let budget = budget(config, &queue.name);
            Lane::new(&queue.name, pending, &queue.destination, budget, care)
        };
        let lanes = self.plan.queues.iter().map(lane).collect();
        Overseer::start(lanes, listen(self.shipper))
    }
}

/// All that is to be shipped.
fn plan(config: &Config) -> Plan {
    let captures = config.ship.is_on().then(|| {
        let pending = capture::pending_of(&config.output);
        config.ship.queue(pending.root().to_owned())
    });
    let logs = config.flow_log.iter().filter_map(of_flow_log);
    Plan {
        queues: captures.into_iter().chain(logs).collect(),
    }
}

/// The queue of a flow log, where it has a destination.
fn of_flow_log(log: &flowlog::Config) -> Option<Queue> {
    let s3 = log.s3.clone().map(Destination::S3);
    let group = log.cloudwatch.clone();
    let group = group.map(|group| Destination::CloudWatch {
        group,
        stream: log.flow_log_id(),
    });
    Some(Queue {
        name: log.name.clone(),
        folder: log.pending(),
        destination: s3.or(group)?,
        after: After::Forget,
        bandwidth: None,
        part_size: PART.bytes(),
    })
}

/// Lets go of what earlier runs have left in queues that are no more: links would keep the room of files that retention deletes. What lies in the folder of a
/// flow log that is not configured is told only, for another sensor may ship it.
pub(super) fn release_left(config: &Config) {
    let captures = capture::pending_of(&config.output);
    let served = plan(config).queues.into_iter().map(|queue| queue.folder);
    let mut known: HashSet<PathBuf> = served.chain([captures.root().to_owned()]).collect();
    if !config.ship.is_on() {
        release(CAPTURES, &captures);
    }
    for log in &config.flow_log {
        if known.insert(log.pending()) {
            release(&log.name, &Pending::at(log.pending()));
        }
    }
    let above = config
        .flow_log
        .iter()
        .map(|log| log.directory.join(".ship"));
    let above: BTreeSet<PathBuf> = above.collect();
    let folders = above.iter().filter_map(|folder| folder.read_dir().ok());
    let folders = folders.flatten().flatten().map(|entry| entry.path());
    for folder in folders.filter(|folder| !known.contains(folder)) {
        let waiting = Pending::at(&folder).waiting().unwrap_or_default();
        if !waiting.is_empty() {
            let bytes: u64 = waiting.iter().map(|entry| entry.bytes).sum();
            tracing::warn!(
                path = %folder.display(), files = waiting.len(), bytes,
                "Files wait to be shipped for a flow log that is not configured here; if no other sensor ships them, remove the folder."
            );
        }
    }
}

fn release(queue: &str, pending: &Pending) {
    match pending.release() {
        Ok(released) if released.is_empty() => {}
        Ok(released) => {
            let (files, bytes) = (
                released.len(),
                released.iter().map(|e| e.bytes).sum::<u64>(),
            );
            tracing::warn!(
                queue,
                files,
                bytes,
                "Files that waited to be shipped have no destination any more, and wait no longer; they stay where they were published until retention takes them."
            );
        }
        Err(error) => {
            let path = pending.root().display();
            tracing::warn!(
                queue, %path,
                "Cannot let go of files that wait to be shipped, and that nobody ships: {error}; see to the folder's permissions, or remove it."
            );
        }
    }
}

/// The most bytes that wait in a queue.
fn budget(config: &Config, queue: &str) -> u64 {
    let mut logs = config.flow_log.iter();
    match logs.find(|log| log.name == queue) {
        Some(log) => log.spool_budget.bytes(),
        None => config.ship.budget.bytes(),
    }
}

/// Asks the process for its latest status.
fn listen(mut shipper: Shipper) -> Listen {
    Box::new(move || match shipper.statuses() {
        Ok(mut told) => told.pop().map_or(Heard::Nothing, Heard::Status),
        Err(error) => Heard::Ended(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_in_a_queue_that_is_no_more_waits_no_longer_and_that_of_others_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let log = |name: &str| flowlog::Config {
            name: name.to_owned(),
            directory: folder.path().join("flows"),
            ..flowlog::Config::default()
        };
        let mut shipped = log("shipped");
        shipped.s3 = Some(crate::ship::S3::default());
        let config = Config {
            output: folder.path().join("out"),
            flow_log: vec![log("mine"), shipped],
            ..Config::default()
        };
        let captures = capture::pending_of(&config.output);
        let of = |name: &str| Pending::at(log(name).pending());
        let all = [captures, of("mine"), of("shipped"), of("another's")];
        let waiting = || {
            all.each_ref()
                .map(|pending| pending.waiting().unwrap().len())
        };
        for pending in &all {
            pending.offer(&file, "a/b").unwrap();
        }
        release_left(&config);
        assert_eq!(waiting(), [0, 0, 1, 1]);
        assert!(file.exists());
    }
}
