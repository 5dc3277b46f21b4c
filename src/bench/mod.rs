//! How fast the packet path is on this machine, and what limits it.
//!
//! Takes: [`Options`] and a [`Mode`]. Gives: an [`Outcome`]: packets a second, CPU time for each packet by kind of thread,
//! where packets were lost, which stage is the limit. Holds: what is measured are the real stages, joined as `pipeline` joins
//! them, only their ends are replaced (a source in memory, a sink that keeps nothing); traffic stays on the loopback; what is
//! written lies in a folder of the run's own, bounded, and is removed at the end.

mod disk;
mod folder;
mod plan;
mod runs;
mod scale;
mod shares;
mod stages;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::generator::{self, Size};
use crate::packet::Tally;
use crate::source::Kind;
use crate::{config, pipeline, sink};

pub use runs::run;
pub use shares::Share;
pub use stages::Cost;

/// What to measure with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sizes of the inner frames.
    pub size: Size,
    /// How long each run takes.
    pub duration: Duration,
    /// Receivers; 0 chooses.
    pub receivers: u16,
    /// Workers; 0 chooses.
    pub workers: u16,
    /// Mirror sessions that packets belong to, in turn.
    pub sessions: u32,
    /// Rules with a CIDR block in the filter of each session; 0: no filter.
    pub rules: u32,
    /// The live source of the modes that have one.
    pub source: Kind,
    /// Packets a second of the generator on the loopback; none: as fast as it goes.
    pub rate: Option<u64>,
    /// Where a folder for capture files is made and removed again.
    pub output: PathBuf,
    /// Most bytes on the disk at a time.
    pub disk: u64,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Source in memory, receivers and workers, a sink that keeps nothing.
    Work,
    /// Source in memory to capture files.
    Sink,
    /// The generator over the loopback to a sink that keeps nothing.
    Source,
    /// The generator over the loopback to capture files: the whole path.
    Path,
    /// Packets that are ready to be written, to capture files.
    Disk,
    /// The cost of each stage.
    Stages,
    /// Workers alone, 1, 2, 4 and 8 of them.
    Workers,
}

impl Mode {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Path => "path",
            Self::Disk => "disk",
            Self::Stages => "stages",
            Self::Workers => "workers",
        }
    }
}

/// What one run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was measured.
    pub mode: Mode,
    /// The live source that it really was, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    /// Receivers.
    pub receivers: usize,
    /// Workers.
    pub workers: usize,
    /// Length of the window that rates and costs are of.
    pub seconds: f64,
    /// Packets that went through in it.
    pub packets: u64,
    /// Packets a second.
    pub pps: f64,
    /// Bytes of packets a second that went to files, or would have.
    pub bytes_per_second: f64,
    /// CPU time by kind of thread.
    pub threads: Vec<Share>,
    /// The ledger of the whole run.
    pub ledger: Tally,
    /// Whether received = written + filtered + dropped.
    pub closed: bool,
    /// Packets that the generator sent, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Lost in the kernel, by place.
    pub kernel_dropped: std::collections::BTreeMap<&'static str, u64>,
    /// Which stage is the limit.
    pub limit: String,
}

impl Outcome {
    /// CPU nanoseconds for each packet of one kind of thread.
    pub fn cost(&self, stage: &str) -> f64 {
        let share = self.threads.iter().find(|s| s.stage == stage);
        share.map_or(0.0, |s| s.ns_per_packet)
    }
}

/// What [`run`] gives.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Measured {
    /// Runs of the pipeline.
    Runs(Vec<Outcome>),
    /// Costs of stages.
    Stages {
        /// In the order of the path.
        stages: Vec<Cost>,
    },
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The sessions, which the bench makes itself.
    #[error(transparent)]
    Config(#[from] Box<config::Problems>),
    /// A source, an output, a thread.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// The writers of the disk mode.
    #[error(transparent)]
    Sink(#[from] sink::capture::Error),
    /// The generator.
    #[error("the generator cannot run: {0}")]
    Generator(#[from] generator::Error),
    /// The folder for capture files.
    #[error("cannot use {path} for capture files: {source}; name another folder with --output")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// CPU times.
    #[error("cannot read the CPU times of threads from /proc: {0}; is /proc mounted?")]
    Usage(#[source] std::io::Error),
    /// A defect.
    #[error("a thread of the measurement panicked")]
    Panicked,
}
