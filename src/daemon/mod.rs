//! The daemon: start order and stop order on one screen.
//!
//! Takes: a configuration and what the command line changes of it. Gives: the ledger, when it was told to stop.
//! Holds: what needs a privilege is opened first, then the sandbox is closed, then the first thread is started; READY is told only after every socket is bound and the output was written to; a reload that is refused
//! changes nothing; the first SIGTERM or SIGINT drains and closes, the second leaves at once.

mod losses;
mod notify;
mod sensor;
mod shipping;
mod snapshot;
mod walls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

pub use sensor::{Overrides, Sensor};
pub use shipping::Shipping;

use crate::config::Config;
use crate::pipeline::{self, Lasting, Report};
use crate::sandbox::Enforced;
use crate::sink::capture;
use crate::source::Kind;
use crate::source::passed::Passed;
use crate::{control, logging, sandbox};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The packet path.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// HTTP control.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The process that starts the hook.
    #[error(
        "cannot start the process that starts on_close: {0}; check the limits on processes (ulimit -u), or leave on_close out"
    )]
    Runner(std::io::Error),
    /// The process that ships files, or the thread that looks after it.
    #[error(
        "cannot start what ships files: {0}; check the limits on processes (ulimit -u), or leave [ship] and the destinations of flow logs out"
    )]
    Shipping(std::io::Error),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The runtime of signals.
    #[error("cannot start the signal loop: {0}")]
    Runtime(std::io::Error),
}

/// Runs the sensor until it is told to stop. `None`: it was told twice and left at once.
///
/// # Errors
/// What could not be started; whatever was started before is stopped again.
pub fn run(
    mut config: Config,
    file: Option<PathBuf>,
    overrides: Overrides,
) -> Result<Option<Report>, Error> {
    overrides.apply(&mut config);
    logging::init(&config.log);
    // before anything is opened that a passed socket could be taken for, or that a hook could inherit
    let mut passed = Passed::from_env().map_err(pipeline::Error::from)?;
    let runner = runner(&config)?;
    let mut shipping = Shipping::start(&config).map_err(Error::Shipping)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    // signals are taken before anything is started, so that one that comes early is not lost
    let mut signals = {
        let _context = runtime.enter();
        Signals::new().map_err(Error::Runtime)?
    };
    let notify = notify::Notify::from_env();
    let takes = matches!(config.source.kind, Kind::Udp | Kind::Auto);
    notify.give_up(&passed.give_up(&config.source.listen, takes));
    let keeps = notify.keeps();
    let lasting = Lasting { passed, keeps };
    let base = sensor::base(file.as_deref());
    let shipments = shipping.as_ref().and_then(Shipping::shipments);
    let mut opened = pipeline::open_over(&config, &base, lasting)?
        .with_runner(runner)
        .with_shipments(shipments);
    // the output is locked: nobody else ships from it
    shipping::release_left(&config);
    if let Some(shipping) = &mut shipping {
        shipping.go();
    }
    notify.keep(&opened.take_bound());
    let doors = control::Doors::open(&config.control, &config.output)?;
    let kind = opened.sources().first().map(|facts| facts.kind);
    let enforced = close(&config, file.as_deref(), kind)?;
    let sensor = Sensor::start(&config, file, overrides, opened, enforced)?;
    let sensor = sensor.with_shipping(shipping).map_err(Error::Shipping)?;
    let sensor = Arc::new(sensor);
    let _control = doors.serve(Sensor::handles(&sensor))?;
    notify.ready("Receiving.");
    let limit = config.shutdown_timeout.0;
    let report = runtime.block_on(async {
        signals.watch(&sensor, &notify).await;
        notify.stopping();
        signals.drain(Arc::clone(&sensor), limit).await
    });
    // a drain that was cut short must not be waited for
    runtime.shutdown_background();
    Ok(report)
}

/// The process that starts the hook's commands, where there is a hook. What concerns this process alone comes after it.
///
/// # Errors
/// There is no process to be had.
pub fn runner(config: &Config) -> Result<Option<capture::Runner>, Error> {
    let command = config.writer.on_close.as_deref();
    let runner = command.map(|command| capture::Runner::start(command, &config.output));
    runner.transpose().map_err(Error::Runner)
}

/// Closes the sandbox, and says what came of it.
///
/// # Errors
/// With `required`, a wall that can't be had.
pub fn close(
    config: &Config,
    file: Option<&Path>,
    source: Option<Kind>,
) -> Result<Enforced, Error> {
    let needs = walls::needs(config, file, source);
    let enforced = sandbox::close(&config.sandbox, &needs)?;
    walls::tell(&enforced, &needs);
    Ok(enforced)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Until the first request to stop: reloads, and feeds the watchdog.
    async fn watch(&mut self, sensor: &Arc<Sensor>, notify: &notify::Notify) {
        let mut beat = tokio::time::interval(notify.interval().unwrap_or(Duration::from_secs(5)));
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return tracing::info!("SIGTERM: stopping."),
                _ = self.interrupt.recv() => return tracing::info!("SIGINT: stopping."),
                _ = self.hangup.recv() => reload(sensor, notify).await,
                _ = beat.tick() => sensor.tend(notify),
            }
        }
    }

    /// Stops and closes; a second request to stop leaves at once.
    async fn drain(&mut self, sensor: Arc<Sensor>, limit: Duration) -> Option<Report> {
        let (done, finished) = oneshot::channel();
        // a thread of its own: nothing may hold up the second signal
        std::thread::spawn(move || {
            // nobody listens any more when a second signal came first
            let _ = done.send(Box::new(sensor.stop(limit)));
        });
        tokio::select! {
            report = finished => report.ok().map(|boxed| *boxed),
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
        }
    }
}

async fn reload(sensor: &Arc<Sensor>, notify: &notify::Notify) {
    notify.reloading();
    let sensor = Arc::clone(sensor);
    // compiling filters may take a while; what came of it is logged where it happens
    let _ = tokio::task::spawn_blocking(move || sensor.reload()).await;
    notify.ready("Receiving.");
}
