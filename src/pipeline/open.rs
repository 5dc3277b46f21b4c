//! Opening what a pipeline needs, apart from starting it.
//!
//! Takes: a configuration, and for a replay the files. Gives: [`Opened`]: sockets and rings are open, the output was made and
//! written to, the sessions are compiled. Holds: no thread has been started yet, so that whoever wants to give up privileges for all of them can do it
//! between [`open`] and [`Opened::start`]; a port in use is told before anything is made.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::pipeline::build::{self, Ends, Error, Fed, Outlet, Parts};
use crate::pipeline::feeds::{self, Choice, Lasting};
use crate::pipeline::{Layout, Machine, Pipeline, report};
use crate::session::{Keep, Table};
use crate::sink::capture::{self, Manifest};
use crate::source::replay::{Progress, Replay};
use crate::source::{Allowed, Facts, Source};
use crate::spool::lock::OutputLock;
use crate::units::Size;

/// The buffer of a replay, at most: files wait when the disk stalls, and running far ahead of it would only take fresh
/// memory, which costs as much as the packets do.
const REPLAY_BUFFER: Size = Size::mebibytes(32);

/// A pipeline that has all it needs, and no thread yet.
pub struct Opened {
    parts: Parts,
    sources: Vec<Arc<Facts>>,
    choice: Choice,
    bound: Vec<OwnedFd>,
    progress: Option<Arc<Progress>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources = &self.sources;
        f.debug_struct("Opened").field("sources", sources).finish()
    }
}

/// Opens the sensor: sockets first, so that a port in use is told before anything is made.
///
/// # Errors
/// What can't be had: a socket, the output; sessions that do not compile.
pub fn open(config: &Config, base: &Path) -> Result<Opened, Error> {
    open_into(config, base, Outlet::Files, Lasting::default())
}

/// As [`open`], over sockets that were passed, and with some that are kept.
///
/// # Errors
/// As for [`open`]; a passed socket that is no good.
pub fn open_over(config: &Config, base: &Path, lasting: Lasting) -> Result<Opened, Error> {
    open_into(config, base, Outlet::Files, lasting)
}

/// As [`open`], and what is kept goes where `outlet` says.
fn open_into(
    config: &Config,
    base: &Path,
    outlet: Outlet,
    lasting: Lasting,
) -> Result<Opened, Error> {
    let layout = layout(config);
    let opened = feeds::open(config, &layout, lasting)?;
    let feeds = fed(opened.sources, &layout);
    let mut parts = parts(
        config,
        base,
        layout,
        feeds,
        outlet.live(true),
        &opened.facts,
    )?;
    if outlet == Outlet::Files {
        parts.lock = Some(own(config)?);
    }
    Ok(Opened {
        parts,
        sources: opened.facts,
        choice: opened.choice,
        bound: opened.bound,
        progress: None,
    })
}

/// Opens a replay of captures of outer packets.
///
/// # Errors
/// As for [`open`]; a file that is no capture.
pub fn open_replay(config: &Config, base: &Path, files: Vec<PathBuf>) -> Result<Opened, Error> {
    let source = Replay::open(files, config.ports())?;
    let progress = source.progress();
    let layout = Layout {
        receivers: 1,
        ..layout(config)
    };
    let feeds = fed(vec![Box::new(source)], &layout);
    let mut config = config.clone();
    config.writer.buffer = config.writer.buffer.min(REPLAY_BUFFER);
    let mut parts = parts(&config, base, layout, feeds, Outlet::Files.live(false), &[])?;
    parts.lock = Some(own(&config)?);
    Ok(Opened {
        parts,
        sources: Vec::new(),
        choice: Choice::default(),
        bound: Vec::new(),
        progress: Some(progress),
    })
}

/// Opens and starts the sensor.
///
/// # Errors
/// As for [`open`] and [`Opened::start`].
pub fn live(config: &Config, base: &Path) -> Result<Pipeline, Error> {
    open(config, base)?.start()
}

/// As [`live`], and what is kept goes where `outlet` says.
///
/// # Errors
/// As for [`live`].
pub fn live_into(config: &Config, base: &Path, outlet: Outlet) -> Result<Pipeline, Error> {
    open_into(config, base, outlet, Lasting::default())?.start()
}

/// Starts a replay of captures of outer packets. It runs by itself until the files are through.
///
/// # Errors
/// As for [`open_replay`] and [`Opened::start`].
pub fn replay(config: &Config, base: &Path, files: Vec<PathBuf>) -> Result<Pipeline, Error> {
    open_replay(config, base, files)?.start()
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
    let feeds = fed(sources, &layout);
    build::start(parts(config, base, layout, feeds, outlet.live(false), &[])?)
}

impl Opened {
    /// Starts every thread of it. Nothing here needs a privilege.
    ///
    /// # Errors
    /// A thread that can't be had; an output that can't be written to any more.
    pub fn start(self) -> Result<Pipeline, Error> {
        let mut pipeline = build::start(self.parts)?;
        pipeline.sources = self.sources;
        pipeline.choice = self.choice;
        pipeline.progress = self.progress;
        Ok(pipeline)
    }

    /// Has the hook's commands started by a process of its own, which was started before anything was opened.
    #[must_use]
    pub fn with_runner(mut self, runner: Option<capture::Runner>) -> Self {
        self.parts.runner = runner;
        self
    }

    /// Ships published files; whoever starts the thread for it asks [`Pipeline::loader`] for its part.
    #[must_use]
    pub fn with_shipments(mut self, shipments: Option<Arc<capture::Shipments>>) -> Self {
        self.parts.shipments = shipments;
        self
    }

    /// The sockets that were bound here, for a service manager that keeps them.
    pub fn take_bound(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.bound)
    }

    /// What is known of the sources.
    pub fn sources(&self) -> &[Arc<Facts>] {
        &self.sources
    }
}

fn layout(config: &Config) -> Layout {
    let machine = Machine::read(&config.source);
    Layout::new(config.threads, config.source.kind, &machine)
}

fn fed(sources: Vec<Box<dyn Source>>, layout: &Layout) -> Vec<Fed> {
    let feed = |(i, source)| Fed {
        source,
        core: layout.receiver_core(i),
    };
    sources.into_iter().enumerate().map(feed).collect()
}

fn parts(
    config: &Config,
    base: &Path,
    layout: Layout,
    feeds: Vec<Fed>,
    ends: Ends,
    sources: &[Arc<Facts>],
) -> Result<Parts, Error> {
    let mut keep = Keep::default();
    let snapshot = config.snapshot(base, &mut keep).map_err(Error::Sessions)?;
    let mut writer = config.writer.clone();
    if writer.writers == 0 {
        writer.writers = layout.writers;
    }
    let setup = capture::Setup {
        output: config.output.clone(),
        workers: layout.workers,
        live: ends.live,
    };
    capture::check(&writer, &setup)?;
    let flow_logs = config.flow_logs(base).map_err(Error::FlowLogs)?;
    flow_logs.open().map_err(Error::FlowLogFolders)?;
    Ok(Parts {
        ports: config.ports(),
        allowed: Allowed::new(&config.source.allowed_sources),
        layout,
        feeds,
        ends,
        table: Arc::new(Table::new(snapshot, keep)),
        writer,
        setup,
        flow_logs,
        facts: sources.to_vec(),
        lock: None,
        bounds: config.bounds(),
        runner: None,
        manifest: manifest(config, base, ends, sources)?,
        shipments: None,
    })
}

/// What the manifest needs, where one is wanted. The key is read now, while it may be.
fn manifest(
    config: &Config,
    base: &Path,
    ends: Ends,
    sources: &[Arc<Facts>],
) -> Result<Option<Manifest>, Error> {
    if ends.outlet == Outlet::Nowhere {
        return Ok(None);
    }
    let prepared = config.manifest.prepare(base)?;
    let (sources, sessions) = (sources.to_vec(), &config.session);
    Ok(prepared.map(|prepared| Manifest {
        prepared,
        sessions: sessions.iter().map(|s| s.name.clone()).collect(),
        kernel: Box::new(move || report::kernel_dropped(&sources)),
    }))
}

/// Takes the output for ourselves.
fn own(config: &Config) -> Result<OutputLock, Error> {
    OutputLock::take(&config.output).map_err(|e| Error::Output(e.into()))
}
