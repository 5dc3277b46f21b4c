//! Shipping, as the daemon puts it together: what goes where, the process that does it, and the thread that looks after it.
//!
//! Takes: a configuration. Gives: [`Shipping`]. Holds: the process is started before anything is open, and only when there is something to be shipped; where
//! files wait depends on nothing but the configuration.

use std::io;
use std::sync::Arc;

use crate::config::Config;
use crate::flowlog;
use crate::pipeline::Pipeline;
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
            sandbox: config.sandbox.clone(),
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
