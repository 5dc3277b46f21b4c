//! A running sensor: the pipeline, the configuration in force, and how both are shown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::{self, Config};
use crate::control::{self, Configuration, Handles};
use crate::daemon::losses::Losses;
use crate::daemon::notify::Notify;
use crate::daemon::shipping::Shipping;
use crate::daemon::snapshot;
use crate::flowlog;
use crate::logging::Limited;
use crate::pipeline::{self, Opened, Pipeline, Report};
use crate::sandbox::{Enforced, Mode, Part};
use crate::ship::Overseer;
use crate::sink::capture::Shipments;
use crate::source::{self, Kind};
use crate::time::{self, Monotonic};

/// What is left of the time to stop is given to shipping, up to this: the rest waits for the next start.
const DRAIN: Duration = Duration::from_secs(5);

/// What the command line changes of the configuration; applied again at every reload.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Folder of the capture files.
    pub output: Option<PathBuf>,
    /// Kind of source.
    pub source: Option<Kind>,
    /// Interfaces that it reads.
    pub interface: Vec<String>,
    /// Folder of a flow log of the usual kind.
    pub flow_logs: Option<PathBuf>,
    /// Address of the HTTP control; `Some(None)` turns it off.
    pub control: Option<Option<SocketAddr>>,
    /// Whether the sandbox is left open.
    pub no_sandbox: bool,
}

impl Overrides {
    /// Changes `config` accordingly.
    pub fn apply(&self, config: &mut Config) {
        if !self.listen.is_empty() {
            config.source.listen.clone_from(&self.listen);
        }
        if let Some(output) = &self.output {
            config.output.clone_from(output);
        }
        if let Some(kind) = self.source {
            config.source.kind = kind;
        }
        if !self.interface.is_empty() {
            config.source.interface.clone_from(&self.interface);
        }
        if let Some(listen) = self.control {
            config.control.listen = listen;
        }
        if let Some(directory) = &self.flow_logs {
            config.add_flow_log(directory.clone());
        }
        if self.no_sandbox {
            config.sandbox.mode = Mode::Off;
        }
    }
}

/// A running sensor.
#[derive(Debug)]
pub struct Sensor {
    pipeline: Pipeline,
    file: Option<PathBuf>,
    overrides: Overrides,
    started: Monotonic,
    stopping: AtomicBool,
    stuck: Limited,
    losses: Losses,
    enforced: Enforced,
    shipments: Option<Arc<Shipments>>,
    /// The thread of shipping.
    overseer: Option<Overseer>,
    /// The configuration in force, and what is told of it.
    state: Mutex<(Config, Configuration)>,
}

impl Sensor {
    /// Starts the packet path, inside the walls that stand.
    ///
    /// # Errors
    /// What could not be started.
    pub fn start(
        config: &Config,
        file: Option<PathBuf>,
        overrides: Overrides,
        opened: Opened,
        enforced: Enforced,
    ) -> Result<Self, pipeline::Error> {
        let pipeline = opened.start()?;
        let now = time::now();
        let told = Configuration {
            path: file.as_ref().map(|f| f.display().to_string()),
            generation: 1,
            loaded_at: now.to_string(),
            loaded_at_seconds: now.nanos() as f64 / 1e9,
            ..Configuration::default()
        };
        Ok(Self {
            pipeline,
            file,
            overrides,
            started: time::monotonic(),
            stopping: AtomicBool::new(false),
            stuck: Limited::new(Duration::from_secs(60)),
            losses: Losses::new(),
            enforced,
            shipments: None,
            overseer: None,
            state: Mutex::new((config.clone(), told)),
        })
    }

    /// Looks after what is shipped, too.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn with_shipping(mut self, shipping: Option<Shipping>) -> std::io::Result<Self> {
        let Some(shipping) = shipping else {
            return Ok(self);
        };
        self.shipments = shipping.shipments();
        let config = self.state().0.clone();
        self.overseer = Some(shipping.oversee(&config, &self.pipeline)?);
        Ok(self)
    }

    /// Whether packets can be stored now.
    ///
    /// # Errors
    /// The reason why not.
    pub fn health(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("stopping".to_owned());
        }
        self.pipeline.health()
    }

    /// To be called every few seconds: feeds the watchdog while every thread moves (a full disk is no reason to be
    /// restarted: that is for health), and tells of losses.
    pub(super) fn tend(&self, notify: &Notify) {
        match self.pipeline.alive() {
            Ok(()) => notify.watchdog(),
            Err(reason) => {
                if let Some(suppressed) = self.stuck.pass(time::monotonic().nanos()) {
                    tracing::error!(reason, suppressed, "The watchdog is not fed.");
                }
            }
        }
        self.losses.tell(&Report::of(&self.pipeline));
    }

    /// Reads the configuration again and puts its sessions in force.
    ///
    /// # Errors
    /// What is wrong with it; the old one stays.
    pub fn reload(&self) -> Result<String, String> {
        let outcome = self.try_reload();
        match &outcome {
            Ok(told) => tracing::info!("{told}"),
            Err(refusal) => {
                self.state().1.reloads_refused += 1;
                self.state().1.last_reload_error = Some(refusal.clone());
                tracing::error!(
                    reason = refusal,
                    "The new configuration was refused; the old one stays in force."
                );
            }
        }
        outcome
    }

    fn try_reload(&self) -> Result<String, String> {
        let file = self
            .file
            .as_deref()
            .ok_or("the sensor was started without a configuration file")?;
        let mut new = Config::load(file).map_err(|problems| problems.to_string())?;
        self.overrides.apply(&mut new);
        let mut state = self.state();
        let mut waiting = needs_restart(&state.0, &new);
        if !flowlog::may_become(&state.0.flow_log, &new.flow_log) {
            waiting.push("flow_log");
        }
        // sessions and who may send: everything else keeps the values that its threads were started with
        let mut taken = state.0.clone();
        taken.session.clone_from(&new.session);
        taken.unknown = new.unknown;
        taken.capture = new.capture;
        taken.retention = new.retention;
        if !waiting.contains(&"flow_log") {
            taken.flow_log = new.flow_log;
        }
        taken.source.allowed_sources = new.source.allowed_sources;
        let generation = self
            .pipeline
            .reload(&taken, &base(Some(file)))
            .map_err(|errors| errors.join("\n"))?;
        let now = time::now();
        state.1.generation = generation;
        state.1.loaded_at = now.to_string();
        state.1.loaded_at_seconds = now.nanos() as f64 / 1e9;
        state.1.last_reload_error = None;
        if let Some(shipments) = &self.shipments {
            shipments.set_sessions(taken.shipped_sessions());
        }
        let sessions = taken.session.len();
        state.0 = taken;
        let told = format!(
            "The configuration was read again: {sessions} sessions, generation {generation}."
        );
        Ok(if waiting.is_empty() {
            told
        } else {
            format!("{told} Only a restart changes: {}.", waiting.join(", "))
        })
    }

    /// Stops in data order and closes every file; then gives the last of them a moment to be shipped.
    pub fn stop(&self, limit: Duration) -> Report {
        self.stopping.store(true, Ordering::Relaxed);
        let end = time::monotonic().plus(limit);
        let report = self.pipeline.finish(limit);
        if let Some(overseer) = &self.overseer {
            overseer.finish(end.since(time::monotonic()).min(DRAIN));
        }
        report
    }

    /// What control asks of a sensor.
    pub fn handles(this: &Arc<Self>) -> Handles {
        let (health, snapshot, reload) = (Arc::clone(this), Arc::clone(this), Arc::clone(this));
        Handles {
            health: Box::new(move || health.health()),
            snapshot: Box::new(move || snapshot.snapshot()),
            reload: Box::new(move || reload.reload()),
        }
    }

    fn snapshot(&self) -> control::Snapshot {
        let told = self.state().1.clone();
        control::Snapshot {
            uptime_seconds: time::monotonic().since(self.started).as_secs_f64(),
            config: told,
            sandbox: self.sandbox(),
            ship: self
                .overseer
                .as_ref()
                .map(Overseer::standing)
                .unwrap_or_default(),
            ..snapshot::of(&self.pipeline)
        }
    }

    fn sandbox(&self) -> control::Sandbox {
        let parts = Part::ALL.into_iter();
        control::Sandbox {
            mode: self.enforced.mode().name(),
            parts: parts.map(|p| (p.name(), self.enforced.has(p))).collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, (Config, Configuration)> {
        // a panic while it was held can only have left whole values
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sections that differ and that only a restart changes.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    // who may send is taken with the sessions
    let source = source::Config {
        allowed_sources: new.source.allowed_sources.clone(),
        ..old.source.clone()
    };
    let differ = BTreeMap::from([
        ("output", old.output != new.output),
        ("source", source != new.source),
        ("threads", old.threads != new.threads),
        ("writer", old.writer != new.writer),
        ("manifest", old.manifest != new.manifest),
        ("control", old.control != new.control),
        ("sandbox", old.sandbox != new.sandbox),
        ("ship", old.ship != new.ship),
        ("log", old.log != new.log),
        (
            "shutdown_timeout",
            old.shutdown_timeout != new.shutdown_timeout,
        ),
    ]);
    differ
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
}

pub(super) fn base(file: Option<&Path>) -> PathBuf {
    file.map_or_else(|| ".".into(), |f| config::base(f).to_owned())
}
