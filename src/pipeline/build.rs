//! Starting the graph, back to front, so that every stage has somewhere to give to.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crossbeam_channel::Receiver;

use crate::config::Config;
use crate::dispatch::{self, Dispatch, Parcel};
use crate::packet::Ports;
use crate::pipeline::feeds::{self, Choice};
use crate::pipeline::{Layout, Machine, Pipeline, Stage};
use crate::receiver::{self, Way};
use crate::session::{self, Keep, Seats, Table};
use crate::sink::null::Null;
use crate::sink::{Sink, capture};
use crate::source::replay::Replay;
use crate::source::{Source, packet, udp, xdp};
use crate::sys::affinity;
use crate::units::Size;
use crate::worker::{self, Work, Worker};

/// Why a pipeline can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket.
    #[error(transparent)]
    Listen(#[from] udp::Error),
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
    /// The output.
    #[error(transparent)]
    Output(#[from] capture::Error),
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

/// The buffer of a replay, at most: files wait when the disk stalls, and running far ahead of it would only take fresh
/// memory, which costs as much as the packets do.
const REPLAY_BUFFER: Size = Size::mebibytes(32);

/// Where kept packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlet {
    /// Capture files.
    Files,
    /// Nowhere: they are counted as written. For measuring what lies before the files.
    Nowhere,
}

impl Outlet {
    fn live(self, live: bool) -> Ends {
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
#[derive(Clone, Copy)]
struct Ends {
    live: bool,
    outlet: Outlet,
}

/// A source and the core of its receiver.
struct Fed {
    source: Box<dyn Source>,
    core: Option<usize>,
}

/// Starts the sensor: sockets first, so that a port in use is told before anything is made.
///
/// # Errors
/// What can't be had: a socket, the output, a thread.
pub fn live(config: &Config, base: &Path) -> Result<Pipeline, Error> {
    live_into(config, base, Outlet::Files)
}

/// As [`live`], and what is kept goes where `outlet` says.
///
/// # Errors
/// As for [`live`].
pub fn live_into(config: &Config, base: &Path, outlet: Outlet) -> Result<Pipeline, Error> {
    let layout = layout(config);
    let opened = feeds::open(config, &layout)?;
    let each = opened.sources.into_iter().enumerate();
    let fed = each.map(|(i, source)| Fed {
        source,
        core: layout.receiver_core(i),
    });
    let mut pipeline = start(
        config,
        base,
        layout.clone(),
        fed.collect(),
        outlet.live(true),
    )?;
    pipeline.sources = opened.facts;
    pipeline.choice = opened.choice;
    Ok(pipeline)
}

/// Starts a replay of captures of outer packets. It runs by itself until the files are through.
///
/// # Errors
/// As for [`live`]; a file that is no capture.
pub fn replay(config: &Config, base: &Path, files: Vec<PathBuf>) -> Result<Pipeline, Error> {
    let source = Replay::open(files, config.ports())?;
    let progress = source.progress();
    let layout = Layout {
        receivers: 1,
        ..layout(config)
    };
    let core = layout.receiver_core(0);
    let feeds = vec![Fed {
        source: Box::new(source),
        core,
    }];
    let mut config = config.clone();
    config.writer.buffer = config.writer.buffer.min(REPLAY_BUFFER);
    let mut pipeline = start(&config, base, layout, feeds, Outlet::Files.live(false))?;
    pipeline.progress = Some(progress);
    Ok(pipeline)
}

/// Starts a pipeline over sources that somebody has made, one for each receiver: a measurement. They are waited for as
/// files are.
///
/// # Errors
/// As for [`live`].
pub fn over(
    config: &Config,
    base: &Path,
    sources: Vec<Box<dyn Source>>,
    outlet: Outlet,
) -> Result<Pipeline, Error> {
    let layout = Layout {
        receivers: sources.len(),
        ..layout(config)
    };
    let feed = |(i, source)| Fed {
        source,
        core: layout.receiver_core(i),
    };
    let feeds = sources.into_iter().enumerate().map(feed).collect();
    start(config, base, layout, feeds, outlet.live(false))
}

fn layout(config: &Config) -> Layout {
    let machine = Machine::read(&config.source);
    Layout::new(config.threads, config.source.kind, &machine)
}

fn start(
    config: &Config,
    base: &Path,
    layout: Layout,
    feeds: Vec<Fed>,
    ends: Ends,
) -> Result<Pipeline, Error> {
    let mut keep = Keep::default();
    let snapshot = config.snapshot(base, &mut keep).map_err(Error::Sessions)?;
    let table = Arc::new(Table::new(snapshot, keep));
    let setup = capture::Setup {
        output: config.output.clone(),
        workers: layout.workers,
        live: ends.live,
    };
    let mut writer = config.writer.clone();
    if writer.writers == 0 {
        writer.writers = layout.writers;
    }
    let (captures, mut writers) = capture::start(&writer, &setup)?;
    writers.keep(setup.output, config.bounds(), capture::Keeping::default())?;
    let shared = Arc::new(receiver::Shared::default());
    let joints = Joints {
        table: &table,
        layout: &layout,
        ports: config.ports(),
        live: ends.live,
    };
    let works = joints.works(ends.outlet.sinks(captures), feeds.len());
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
        writers: Mutex::new(Some(writers)),
        shared,
    })
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

    fn works(&self, sinks: Vec<Box<dyn Sink>>, receivers: usize) -> Vec<Work> {
        let each = sinks.into_iter().enumerate();
        let work = |(id, sink)| Work::new(id, receivers, self.seats(), sink, !self.live);
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
