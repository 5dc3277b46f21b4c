//! `mirrortap bench`: how fast the packet path is on this machine, and what limits it.

mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::bench::{self, Error, Mode, Options};
use crate::cli::failure::{self, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::run;
use crate::generator;
use crate::source::Kind;
use crate::units;

/// What is run when nobody says what.
const ALL: [Mode; 6] = [
    Mode::Stages,
    Mode::Work,
    Mode::Sink,
    Mode::Disk,
    Mode::Source,
    Mode::Path,
];

/// Measure the packet path on this machine: packets a second, CPU time of each stage, where packets are lost, and
/// what the limit is. Both ends can be replaced: by a source in memory, and by a sink that keeps nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Modes:
  stages   cost of each stage: source, decap, work, deal, join, append, write
  work     source in memory -> receivers, workers -> nothing kept
  sink     source in memory -> receivers, workers -> capture files
  disk     packets ready to be written -> capture files
  source   generator -> loopback -> live source -> nothing kept
  path     generator -> loopback -> live source -> capture files: the whole path
  workers  workers alone, 1, 2, 4 and 8 of them (not among the default ones)

Costs are CPU time, by kind of thread. Capture files are written to a folder made for the run, and removed again.
The generator on the loopback takes a core and does the kernel's receive work; for the highest rate without loss
against other programs see benches/peers. docs/performance.md says how to read the figures.

Examples:
  mirrortap bench
  mirrortap bench --mode sink --size 64 --output /mnt/capture
  mirrortap bench --mode source --source packet --rate 200000 --json
  mirrortap bench --mode work --sessions 10000
  mirrortap bench --mode work --rules 20000
  mirrortap bench --mode workers --seconds 5")]
pub(super) struct Args {
    /// What to measure; may be given several times [default: all but workers].
    #[arg(long, value_enum)]
    mode: Vec<Mode>,
    /// Size of the inner frames: a number, or imix (64, 576 and 1500 bytes, 7:4:1).
    #[arg(long, value_name = "BYTES", default_value = "imix")]
    size: generator::Size,
    /// How long each run takes.
    #[arg(long, value_name = "N", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Receivers [default: 1].
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    receivers: u16,
    /// Workers [default: 1].
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Mirror sessions.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=30_000))]
    sessions: u32,
    /// Rules with a CIDR block in the filter of each session.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rules: u32,
    /// Live source of the modes source and path.
    #[arg(long, value_enum, default_value_t)]
    source: Kind,
    /// Packets a second of the generator [default: as fast as it goes].
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Where the folder for capture files is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Most bytes on the disk at a time; a run ends early when more waits for it.
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    disk: units::Size,
    /// Print one JSON object: a list of runs and a list of stages.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let interrupts = Interrupts::watch();
    let stop = Arc::new(AtomicBool::new(false));
    listen(interrupts.clone(), &stop);
    let options = args.options();
    let modes = if args.mode.is_empty() {
        ALL.to_vec()
    } else {
        args.mode
    };
    let mut table = table::Table::new(&options, args.json);
    for mode in modes {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let measured = bench::run(mode, &options, &stop).map_err(|e| failed(mode, e))?;
        table.add(mode, measured);
    }
    let closed = table.end();
    match (interrupts.stop(), closed) {
        (true, _) => Ok(ExitCode::from(130)),
        (false, true) => Ok(ExitCode::SUCCESS),
        (false, false) => {
            let message = "a ledger does not close: packets are in no counter; please report this";
            Err(Failure::new(failure::SOFTWARE, message))
        }
    }
}

impl Args {
    fn options(&self) -> Options {
        Options {
            size: self.size,
            duration: self.seconds,
            receivers: self.receivers,
            workers: self.workers,
            sessions: self.sessions,
            rules: self.rules,
            source: self.source,
            rate: self.rate,
            output: self.output.clone(),
            disk: self.disk.0,
        }
    }
}

/// Hands a Ctrl-C on to the run; ends with the process.
fn listen(interrupts: Interrupts, stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        while !interrupts.stop() {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn failed(mode: Mode, error: Error) -> Failure {
    let code = match error {
        Error::Pipeline(error) => return run::failed(&error.into()),
        Error::Options(_) => failure::USAGE,
        Error::Sink(_) | Error::Folder { .. } => failure::CANT_CREATE,
        Error::Generator(_) | Error::Usage(_) => failure::UNAVAILABLE,
        Error::Config(_) | Error::Panicked => failure::SOFTWARE,
    };
    Failure::new(code, format!("bench {}: {error}", mode.name()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.1..=3600.0).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "give a number of seconds from 0.1 to 3600".to_owned())
}
