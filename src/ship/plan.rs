//! What the shipping process is told at its start, and what it tells while it runs.
//!
//! Both go through one stream socket as lines of JSON: the [`Plan`] to it, once; a [`Status`] from it, whenever something has changed and at least
//! once a second. The end of the stream is the end of the sensor, and the process ends too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ship::{CloudWatch, S3};

/// All that is to be shipped, and where to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Each is served by itself, so that one destination that is down holds up no other.
    pub queues: Vec<Queue>,
}

/// A folder of pending files and their destination.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Queue {
    /// Its name in logs and metrics: that of the flow log, or `captures`.
    pub name: String,
    /// Where its [`Pending`](crate::ship::Pending) is.
    pub folder: PathBuf,
    /// Where the files go.
    pub destination: Destination,
    /// What is done with one that has arrived.
    pub after: After,
    /// The most bytes a second, for all files of the queue together.
    pub bandwidth: Option<u64>,
    /// Files larger than this go in parts of this size, which survive a restart.
    pub part_size: u64,
}

/// Where files go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// A bucket: a file is an object, its name below the folder the end of the key.
    S3(S3),
    /// A log group: a file is gzip text with a header line, and each of its lines an event.
    CloudWatch {
        /// The group.
        group: CloudWatch,
        /// The name of the stream, where there is one for all interfaces.
        stream: String,
    },
}

/// What is done with a pending file that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It is forgotten.
    Forget,
    /// It is put among the [`done`](crate::ship::Pending::done), for the sensor to see.
    Tell,
}

/// How the queues stand.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// By name.
    pub queues: BTreeMap<String, QueueStatus>,
}

/// How a queue stands. All numbers count from the start of the process.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueStatus {
    /// Files that have arrived.
    pub shipped_files: u64,
    /// Their bytes.
    pub shipped_bytes: u64,
    /// Requests that failed and were made again.
    pub retries: u64,
    /// Files that can never arrive (the destination says that they are wrong), moved aside.
    pub refused_files: u64,
    /// Events taken by CloudWatch Logs.
    pub events: u64,
    /// Events refused by it, by reason: `too_new`, `too_old`, `expired`, `too_large`.
    pub refused_events: BTreeMap<String, u64>,
    /// What stands in the way now, if anything.
    pub trouble: Option<Trouble>,
}

/// Why nothing arrives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// Of what kind: `access`, `missing`, `throttled`, `unreachable`, `credentials`, `server`, `local`.
    pub kind: String,
    /// What was being done, to what, and what was answered.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
}
