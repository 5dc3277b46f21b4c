//! Starting the graph, back to front, so that every stage has somewhere to give to.

use std::sync::{Arc, Mutex};

use crossbeam_channel::Receiver;

use crate::dispatch::{self, Dispatch, Parcel};
use crate::flowlog;
use crate::packet::Ports;
use crate::pipeline::feeds::Choice;
use crate::pipeline::{Layout, Pipeline, Stage, flows};
use crate::receiver::{self, Way};
use crate::session::{self, Seats, Table};
use crate::sink::null::Null;
use crate::sink::{Sink, capture};
use crate::source::{Allowed, Facts, Source, packet, passed, udp, xdp};
use crate::spool::lock::OutputLock;
use crate::spool::manifest::KeyError;
use crate::spool::retain::Bounds;
use crate::sys::affinity;
use crate::worker::{self, Work, Worker};

/// Why a pipeline can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket.
    #[error(transparent)]
    Listen(#[from] udp::Error),
    /// Sockets that the service manager has passed.
    #[error(transparent)]
    Passed(#[from] passed::Error),
    /// A packet ring.
    #[error(transparent)]
    Packet(#[from] packet::Error),
    /// AF_XDP.
    #[error(transparent)]
    Xdp(#[from] xdp::Error),
    /// The sockets beside AF_XDP.
    #[error("cannot read the sockets beside AF_XDP: {0}")]
    Companion(#[source] std::io::Error),
    /// The sessions; normally found when the configuration was loaded.
    #[error("the sessions do not compile: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Sessions(Vec<session::Error>),
    /// The flow logs; normally found when the configuration was loaded.
    #[error("the flow logs cannot be written: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    FlowLogs(Vec<flowlog::Problem>),
    /// Their folders.
    #[error("the flow logs have no folder: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    FlowLogFolders(Vec<flowlog::Problem>),
    /// The output.
    #[error(transparent)]
    Output(#[from] capture::Error),
    /// The key of the manifest.
    #[error(transparent)]
    Manifest(#[from] KeyError),
    /// A capture to be replayed.
    #[error(transparent)]
    Replay(#[from] crate::capfile::Error),
    /// The system gives no thread.
    #[error("cannot start the thread {name}: {error}")]
    Thread {
        /// Its name.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Where kept packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlet {
    /// Capture files.
    Files,
    /// Nowhere: they are counted as written. For measuring what lies before the files.
    Nowhere,
}

impl Outlet {
    pub(super) fn live(self, live: bool) -> Ends {
        Ends { live, outlet: self }
    }

    /// One for each worker. Writers whose captures are dropped have nothing to do and end.
    fn sinks(self, captures: Vec<capture::Capture>) -> Vec<Box<dyn Sink>> {
        let sink = |capture| -> Box<dyn Sink> {
            match self {
                Self::Files => Box::new(capture),
                Self::Nowhere => Box::new(Null::default()),
            }
        };
        captures.into_iter().map(sink).collect()
    }
}

/// What is at the two ends: whether packets arrive now, and where they go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) live: bool,
    pub(super) outlet: Outlet,
}

/// A source and the core of its receiver.
pub(super) struct Fed {
    pub(super) source: Box<dyn Source>,
    pub(super) core: Option<usize>,
}

/// What is known before a thread is started.
pub(super) struct Parts {
    pub(super) ports: Ports,
    pub(super) allowed: Allowed,
    pub(super) layout: Layout,
    pub(super) feeds: Vec<Fed>,
    pub(super) ends: Ends,
    pub(super) table: Arc<Table>,
    pub(super) writer: capture::Config,
    pub(super) setup: capture::Setup,
    pub(super) bounds: Bounds,
    pub(super) flow_logs: flowlog::Setup,
    /// What the kernel counts as lost.
    pub(super) facts: Vec<Arc<Facts>>,
    pub(super) runner: Option<capture::Runner>,
    pub(super) manifest: Option<capture::Manifest>,
    pub(super) shipments: Option<Arc<capture::Shipments>>,
    /// Of the output, unless it is for measuring only.
    pub(super) lock: Option<OutputLock>,
}

/// Starts every thread.
pub(super) fn start(parts: Parts) -> Result<Pipeline, Error> {
    let Parts {
        allowed,
        layout,
        feeds,
        table,
        ends,
        manifest,
        flow_logs,
        ..
    } = parts;
    let extras = capture::Extras {
        lock: parts.lock,
        runner: parts.runner,
        manifest,
        shipments: parts.shipments,
    };
    let keeping = extras.shipments.as_ref().map(capture::Shipments::keeping);
    let (captures, mut writers) = capture::start_with(&parts.writer, &parts.setup, extras)?;
    writers.keep(
        parts.setup.output,
        parts.bounds,
        keeping.unwrap_or_default(),
    )?;
    let shared = Arc::new(receiver::Shared::default());
    shared.allowed.store(Arc::new(allowed));
    let joints = Joints {
        table: &table,
        layout: &layout,
        ports: parts.ports,
        live: ends.live,
    };
    let (flow_logs, meters) = meters(flow_logs, &joints, &parts.facts, &shared)?;
    let works = joints.works(ends.outlet.sinks(captures), meters, feeds.len());
    let Running {
        receivers,
        workers,
        queues,
    } = match (feeds.len(), works.len()) {
        (1, 1) => joints.run_to_completion(feeds, works, &shared)?,
        _ => joints.over_queues(feeds, works, &shared)?,
    };
    Ok(Pipeline {
        table,
        receivers,
        workers,
        queues,
        sources: Vec::new(),
        choice: Choice::default(),
        progress: None,
        layout,
        capture: writers.stats(),
        flow_logs,
        writers: Mutex::new(Some(writers)),
        shared,
    })
}

/// Starts the thread of the flow logs, if there are any; with a meter for each worker.
fn meters(
    setup: flowlog::Setup,
    joints: &Joints<'_>,
    sources: &[Arc<Facts>],
    shared: &Arc<receiver::Shared>,
) -> Result<(Option<flowlog::Running>, Vec<Option<flowlog::Meter>>), Error> {
    let workers = joints.layout.workers;
    if setup.is_empty() {
        return Ok((None, (0..workers).map(|_| None).collect()));
    }
    let ask = flows::losses(joints.table, sources, shared);
    let started = flowlog::start(setup, workers, joints.live, ask);
    let (running, meters) = started.map_err(|error| Error::Thread {
        name: "flowlog".to_owned(),
        error,
    })?;
    Ok((Some(running), meters.into_iter().map(Some).collect()))
}

/// What the threads of the packet path are joined with.
struct Joints<'a> {
    table: &'a Arc<Table>,
    layout: &'a Layout,
    ports: Ports,
    live: bool,
}

impl Joints<'_> {
    fn seats(&self) -> Seats {
        Seats::new(Arc::clone(self.table))
    }

    /// One for each sink and meter, of which there are as many as workers.
    fn works(
        &self,
        sinks: Vec<Box<dyn Sink>>,
        meters: Vec<Option<flowlog::Meter>>,
        receivers: usize,
    ) -> Vec<Work> {
        let each = sinks.into_iter().zip(meters).enumerate();
        let work = |(id, (sink, meter))| {
            Work::new(id, receivers, self.seats(), sink, !self.live).with_meter(meter)
        };
        each.map(work).collect()
    }

    /// One receiver, which is the worker too.
    fn run_to_completion(
        &self,
        feeds: Vec<Fed>,
        works: Vec<Work>,
        shared: &Arc<receiver::Shared>,
    ) -> Result<Running, Error> {
        let workers = works.iter().map(|w| Stage::without_thread(w.counters()));
        let workers = workers.collect();
        let ways = works.into_iter().map(|work| Way::Here(Box::new(work)));
        Ok(Running {
            receivers: self.receivers(feeds, ways, shared)?,
            workers,
            queues: Vec::new(),
        })
    }

    /// Receivers and workers on threads of their own.
    fn over_queues(
        &self,
        feeds: Vec<Fed>,
        works: Vec<Work>,
        shared: &Arc<receiver::Shared>,
    ) -> Result<Running, Error> {
        let queues = dispatch::queues(works.len(), feeds.len() * receiver::BATCHES);
        let watched = queues.receivers.clone();
        let workers = self.workers(works, queues.receivers)?;
        let way = |id| Way::Queues(Dispatch::new(id, queues.senders.clone()));
        let ways: Vec<_> = (0_u16..).take(feeds.len()).map(way).collect();
        Ok(Running {
            receivers: self.receivers(feeds, ways.into_iter(), shared)?,
            workers,
            queues: watched,
        })
    }

    fn workers(
        &self,
        works: Vec<Work>,
        queues: Vec<Receiver<Parcel>>,
    ) -> Result<Vec<Stage<worker::Counters>>, Error> {
        let each = works.into_iter().zip(queues).enumerate();
        let started = each.map(|(id, (work, queue))| {
            let worker = Worker::new(work, queue);
            let counters = worker.counters();
            let core = self.layout.worker_core(id);
            stage(format!("worker-{id}"), core, counters, || worker.run())
        });
        started.collect()
    }

    fn receivers(
        &self,
        feeds: Vec<Fed>,
        ways: impl Iterator<Item = Way>,
        shared: &Arc<receiver::Shared>,
    ) -> Result<Vec<Stage<receiver::Counters>>, Error> {
        let each = (0_u16..).zip(feeds).zip(ways);
        let started = each.map(|((id, Fed { source, core }), way)| {
            let shared = Arc::clone(shared);
            let receiver =
                receiver::Receiver::new(id, source, self.ports, way, self.seats(), shared);
            let counters = receiver.counters();
            stage(format!("receiver-{id}"), core, counters, || receiver.run())
        });
        started.collect()
    }
}

/// The stages of a pipeline that has been started.
struct Running {
    receivers: Vec<Stage<receiver::Counters>>,
    workers: Vec<Stage<worker::Counters>>,
    queues: Vec<Receiver<Parcel>>,
}

/// Starts a thread of the packet path, on its core if it has one.
fn stage<C>(
    name: String,
    core: Option<usize>,
    counters: Arc<C>,
    run: impl FnOnce() + Send + 'static,
) -> Result<Stage<C>, Error> {
    let pinned = name.clone();
    let body = move || {
        if let Some(error) = core.and_then(|c| affinity::pin(c).err()) {
            tracing::warn!(thread = pinned, %error, "Could not pin the thread to its core; it floats.");
        }
        run();
    };
    let thread = std::thread::Builder::new().name(name.clone()).spawn(body);
    let thread = thread.map_err(|error| Error::Thread { name, error })?;
    Ok(Stage {
        counters,
        thread: Mutex::new(Some(thread)),
    })
}
