//! Starting the graph, back to front, so that every stage has somewhere to give to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};

use crate::config::Config;
use crate::dispatch::{self, Dispatch, Parcel};
use crate::packet::Ports;
use crate::pipeline::{Layout, Pipeline, Stage};
use crate::receiver;
use crate::session::{self, Keep, Seats, Table};
use crate::sink::{Sink, capture};
use crate::source::replay::Replay;
use crate::source::{Source, udp};
use crate::sys::affinity;
use crate::worker::{self, Worker};

/// Why a pipeline can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket.
    #[error(transparent)]
    Listen(#[from] udp::Error),
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
    let layout = layout(config);
    let mut feeds = Vec::new();
    let mut sources = Vec::new();
    for address in &config.source.listen {
        for udp in listen(*address, config, layout.receivers)? {
            sources.push(udp.facts());
            let core = layout.receiver_core(feeds.len());
            feeds.push(Fed {
                source: Box::new(udp),
                core,
            });
        }
    }
    let mut pipeline = start(config, base, layout, feeds, true)?;
    pipeline.sources = sources;
    Ok(pipeline)
}

fn listen(address: SocketAddr, config: &Config, count: usize) -> Result<Vec<udp::Udp>, udp::Error> {
    let sockets = udp::bind(address, count, config.source.receive_buffer)?;
    if let Some(facts) = sockets.first().map(udp::Udp::facts) {
        tracing::info!(
            address = facts.name,
            sockets = count,
            receive_buffer = facts.buffer_granted,
            "Listening."
        );
        if facts.is_clamped() {
            tracing::warn!(
                asked = facts.buffer_asked,
                granted = facts.buffer_granted,
                "The kernel granted a smaller receive buffer than asked for; bursts may be lost. \
                 Raise net.core.rmem_max (see the packaged sysctl file) or grant CAP_NET_ADMIN."
            );
        }
    }
    Ok(sockets)
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
    let mut pipeline = start(config, base, layout, feeds, false)?;
    pipeline.progress = Some(progress);
    Ok(pipeline)
}

fn layout(config: &Config) -> Layout {
    let cores = affinity::allowed().unwrap_or_default();
    Layout::new(config.threads, &cores)
}

fn start(
    config: &Config,
    base: &Path,
    layout: Layout,
    feeds: Vec<Fed>,
    live: bool,
) -> Result<Pipeline, Error> {
    let mut keep = Keep::default();
    let snapshot = config.snapshot(base, &mut keep).map_err(Error::Sessions)?;
    let table = Arc::new(Table::new(snapshot, keep));
    let setup = capture::Setup {
        output: config.output.clone(),
        workers: layout.workers,
        live,
    };
    let (sinks, writers) = capture::start(&config.writer, &setup)?;
    let queues = dispatch::queues(layout.workers, feeds.len() * receiver::BATCHES);
    let watched = queues.receivers.clone();
    let shared = Arc::new(receiver::Shared::default());
    let joints = Joints {
        table: &table,
        layout: &layout,
        ports: config.ports(),
        live,
    };
    let workers = joints.workers(queues.receivers, sinks, feeds.len())?;
    let receivers = joints.receivers(feeds, &queues.senders, &shared)?;
    Ok(Pipeline {
        table,
        receivers,
        workers,
        queues: watched,
        sources: Vec::new(),
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

    fn workers(
        &self,
        queues: Vec<Receiver<Parcel>>,
        sinks: Vec<capture::Capture>,
        receivers: usize,
    ) -> Result<Vec<Stage<worker::Counters>>, Error> {
        let each = queues.into_iter().zip(sinks).enumerate();
        let started = each.map(|(id, (queue, sink))| {
            let sink: Box<dyn Sink> = Box::new(sink);
            let worker = Worker::new(id, queue, receivers, self.seats(), sink, !self.live);
            let counters = worker.counters();
            let core = self.layout.worker_core(id);
            stage(format!("worker-{id}"), core, counters, || worker.run())
        });
        started.collect()
    }

    fn receivers(
        &self,
        feeds: Vec<Fed>,
        workers: &[Sender<Parcel>],
        shared: &Arc<receiver::Shared>,
    ) -> Result<Vec<Stage<receiver::Counters>>, Error> {
        let started = (0_u16..).zip(feeds).map(|(id, Fed { source, core })| {
            let dispatch = Dispatch::new(id, workers.to_vec());
            let shared = Arc::clone(shared);
            let receiver =
                receiver::Receiver::new(id, source, self.ports, dispatch, self.seats(), shared);
            let counters = receiver.counters();
            stage(format!("receiver-{id}"), core, counters, || receiver.run())
        });
        started.collect()
    }
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
