//! Runs of the pipeline with one or both ends replaced.
//!
//! A run has a window: rates and costs are those between its two readings, when everything is warm; the ledger is
//! that of the whole run, read when all threads have ended.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bench::folder::Folder;
use crate::bench::shares::{self, Reading};
use crate::bench::{Error, Measured, Mode, Options, Outcome, disk, plan, scale, stages};
use crate::generator::{self, Generator};
use crate::packet::Tally;
use crate::pipeline::{self, Outlet, Pipeline, Report};
use crate::time;

/// Before the window: threads start, seats are found, caches fill.
const WARM: Duration = Duration::from_millis(300);
/// How often the folder is looked after.
const LOOK: Duration = Duration::from_millis(20);
/// Workers of the mode that varies them.
const WORKERS: [u16; 4] = [1, 2, 4, 8];

/// Measures one mode; `stop` ends it early.
///
/// # Errors
/// What could not be had. Losses are no error: they are in the outcome.
pub fn run(mode: Mode, options: &Options, stop: &AtomicBool) -> Result<Measured, Error> {
    let one = |outcome: Outcome| Measured::Runs(vec![outcome]);
    match mode {
        Mode::Work => memory(mode, options, Outlet::Nowhere, stop).map(one),
        Mode::Sink => memory(mode, options, Outlet::Files, stop).map(one),
        Mode::Source => loopback(mode, options, Outlet::Nowhere, stop).map(one),
        Mode::Path => loopback(mode, options, Outlet::Files, stop).map(one),
        Mode::Disk => disk::run(options, stop).map(one),
        Mode::Stages => stages::run(options, stop).map(|stages| Measured::Stages { stages }),
        Mode::Workers => {
            let with = |workers| scale::run(options, workers, stop);
            let runs: Result<Vec<_>, _> = WORKERS.into_iter().map(with).collect();
            runs.map(Measured::Runs)
        }
    }
}

/// A source in memory.
pub(super) fn memory(
    mode: Mode,
    options: &Options,
    outlet: Outlet,
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let folder = Folder::new(&options.output)?;
    let config = plan::config(options, folder.path())?;
    let receivers = usize::from(options.receivers.max(1));
    let sources = plan::sources(&plan::set(options)?, receivers);
    let pipeline = pipeline::over(&config, Path::new("."), sources, outlet)?;
    let window = Window::over(&pipeline, &folder, options, stop)?;
    Ok(window.close(mode, &pipeline, None))
}

/// The generator over the loopback to a live source.
fn loopback(
    mode: Mode,
    options: &Options,
    outlet: Outlet,
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let folder = Folder::new(&options.output)?;
    let mut config = plan::config(options, folder.path())?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    config.source.listen = vec![to];
    config.source.vxlan_port = to.port();
    config.source.interface = vec!["lo".to_owned()];
    if config.threads.receivers == 0 {
        // the generator needs cores of its own, and does the kernel's part of the way as well
        config.threads.receivers = 1;
    }
    let pipeline = pipeline::live_into(&config, Path::new("."), outlet)?;
    let sender = Sender::start(options, to)?;
    let window = Window::over(&pipeline, &folder, options, stop);
    let sent = sender.end()?;
    // what is on its way has a moment to arrive
    std::thread::sleep(LOOK * 5);
    Ok(window?.close(mode, &pipeline, Some(sent.sent)))
}

/// A port that nobody has now.
fn free_port() -> Result<u16, Error> {
    let bound = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr());
    let failed = |e| Error::Options(format!("no UDP port is free on the loopback: {e}"));
    bound.map(|a| a.port()).map_err(failed)
}

/// The generator in a thread.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<generator::Report, generator::Error>>,
}

impl Sender {
    fn start(options: &Options, to: SocketAddr) -> Result<Self, Error> {
        let mut traffic = plan::traffic(options, to)?;
        traffic.duration = None;
        let mut generator = Generator::new(traffic)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(shares::SENDER.to_owned())
            .spawn(move || generator.run(&stopped))
            .map_err(|error| pipeline::Error::Thread {
                name: shares::SENDER.to_owned(),
                error,
            })?;
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<generator::Report, Error> {
        self.stop.store(true, Ordering::Relaxed);
        let report = self.thread.join().map_err(|_| Error::Panicked)?;
        Ok(report?)
    }
}

/// What was measured between two moments.
struct Window {
    wall: Duration,
    packets: u64,
    bytes: u64,
    threads: Vec<shares::Share>,
}

impl Window {
    /// Opens after the warm-up, and closes after the time, when the disk is full enough, or when asked to.
    fn over(
        pipeline: &Pipeline,
        folder: &Folder,
        options: &Options,
        stop: &AtomicBool,
    ) -> Result<Self, Error> {
        rest(WARM, folder, options, stop);
        let begun = time::monotonic();
        let (before, from) = (Reading::now()?, Report::of(pipeline).total);
        rest(options.duration, folder, options, stop);
        let (after, to) = (Reading::now()?, Report::of(pipeline).total);
        let wall = time::monotonic().since(begun);
        let packets = through(&to) - through(&from);
        Ok(Self {
            wall,
            packets,
            bytes: to.bytes_written - from.bytes_written,
            threads: after.shares(&before, packets, wall),
        })
    }

    /// Stops the pipeline and tells what it came to.
    fn close(self, mode: Mode, pipeline: &Pipeline, sent: Option<u64>) -> Outcome {
        let report = pipeline.finish(Duration::from_secs(60));
        let seconds = self.wall.as_secs_f64();
        let lost = report.total.dropped_total() + report.kernel_dropped.values().sum::<u64>();
        let mut limit = shares::limit(&self.threads);
        if lost > 0 {
            limit = format!("{limit}; it loses what comes faster");
        }
        Outcome {
            mode,
            source: pipeline.sources.first().map(|s| s.kind.name()),
            receivers: pipeline.receivers.len(),
            workers: pipeline.workers.len(),
            seconds,
            packets: self.packets,
            pps: self.packets as f64 / seconds,
            bytes_per_second: self.bytes as f64 / seconds,
            limit,
            threads: self.threads,
            closed: report.total.is_closed() && sent.is_none_or(|sent| sent == arrived(&report)),
            ledger: report.total,
            sent,
            kernel_dropped: report.kernel_dropped,
        }
    }
}

/// Waits, and keeps the folder small meanwhile. Leaves early when asked to, or when the disk is taken.
pub(super) fn rest(time: Duration, folder: &Folder, options: &Options, stop: &AtomicBool) {
    let begun = time::monotonic();
    while time::monotonic().since(begun) < time && !stop.load(Ordering::Relaxed) {
        if folder.tidy() > options.disk {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Packets that have come to their end, kept or filtered.
fn through(tally: &Tally) -> u64 {
    tally.written + tally.filtered_total()
}

fn arrived(report: &Report) -> u64 {
    report.total.received + report.kernel_dropped.values().sum::<u64>()
}
