//! `mirrortap replay`: captures of outer packets through the same pipeline.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::failure::{self, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::ledger;
use crate::cli::options::Loaded;
use crate::cli::run;
use crate::daemon;
use crate::logging;
use crate::pipeline::{self, Pipeline, Report};
use crate::sandbox::Mode;
use crate::source::replay::Progress;
use crate::time::{self, Deadline};

/// How often it is looked whether the files are through: seldom enough to cost nothing, often enough that a short
/// replay does not wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// How long the last of it may take to be written, unless somebody asks to stop: files don't run away, and what was read of them
/// is to be written, however slow the disk is.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Looks from one showing of the progress to the next.
const SHOW_EVERY: u32 = 16;

/// Run captures of outer packets (as tcpdump on a mirror target writes them) through the same decapsulation,
/// sessions, filters and files as live traffic. Times and order are those of the capture.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads pcap and pcapng, plain, .gz or .zst, of Ethernet, raw IP, Linux SLL and SLL2; - is standard input.

Examples:
  mirrortap replay mirror.pcap --output captures
  zstdcat old.pcap.zst | mirrortap replay - --output captures --json
  mirrortap replay a.pcap b.pcap --config sessions.toml --output captures"
)]
pub(super) struct Args {
    /// The captures, one after the other; - is standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Folder of the capture files, instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write a flow log too: VPC Flow Logs of version 2, as text, one record a minute, into this folder.
    #[arg(long, value_name = "DIR")]
    flow_logs: Option<PathBuf>,
    /// Configuration file: sessions, filters, how files are made.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Leave the sandbox open, whatever the configuration says.
    #[arg(long)]
    no_sandbox: bool,
    /// Print the ledger at the end as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut loaded = Loaded::load(args.config.as_deref())?;
    if let Some(output) = args.output {
        loaded.config.output = output;
    }
    if let Some(directory) = args.flow_logs {
        loaded.config.add_flow_log(directory);
    }
    logging::init(&loaded.config.log);
    if let Some(missing) = args
        .files
        .iter()
        .find(|f| f.as_os_str() != "-" && !f.exists())
    {
        let message = format!("{}: no such file", missing.display());
        return Err(Failure::new(failure::NO_INPUT, message));
    }
    if args.no_sandbox {
        loaded.config.sandbox.mode = Mode::Off;
    }
    let (pipeline, interrupts) = start(&loaded, args.files).map_err(|e| run::failed(&e))?;
    let pipeline = Arc::new(pipeline);
    wait(&pipeline, &interrupts);
    let Some(report) = finish(&pipeline, &interrupts, loaded.config.shutdown_timeout.0) else {
        return Ok(ExitCode::from(130));
    };
    ledger::print(&report, args.json);
    let damage = pipeline
        .progress
        .as_deref()
        .map(Progress::damage)
        .unwrap_or_default();
    if damage.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let told: Vec<String> = damage.iter().map(ToString::to_string).collect();
    Err(Failure::new(failure::DATA, told.join("\n")))
}

/// Opens the files and the output, closes the sandbox, and starts: what is read may be hostile.
fn start(loaded: &Loaded, files: Vec<PathBuf>) -> Result<(Pipeline, Interrupts), daemon::Error> {
    let mut config = loaded.config.clone();
    config.sandbox.read.extend(files.iter().cloned());
    let runner = daemon::runner(&config)?;
    let opened = pipeline::open_replay(&config, &loaded.base(), files)?.with_runner(runner);
    daemon::close(&config, loaded.file.as_deref(), None)?;
    let interrupts = Interrupts::watch();
    Ok((opened.start()?, interrupts))
}

/// Until the files are through or somebody asks to stop, showing how far they are where somebody looks.
fn wait(pipeline: &Pipeline, interrupts: &Interrupts) {
    let shown = std::io::stderr().is_terminal();
    let started = time::monotonic();
    let mut looks = 0_u32;
    while !pipeline.is_through() && !interrupts.stop() {
        std::thread::sleep(LOOK_EVERY);
        looks = looks.wrapping_add(1);
        let long = time::monotonic().since(started) > Duration::from_secs(1);
        let now = shown && long && looks.is_multiple_of(SHOW_EVERY);
        if let Some(progress) = pipeline.progress.as_deref().filter(|_| now) {
            show(progress);
        }
    }
    if shown && time::monotonic().since(started) > Duration::from_secs(1) {
        eprintln!();
    }
}

/// Waits for what was read to be written. Who asks to stop gives it `limit` from then on; who asks again, no time at all.
fn finish(pipeline: &Arc<Pipeline>, interrupts: &Interrupts, limit: Duration) -> Option<Report> {
    let deadline = Deadline::within(PATIENCE.max(limit));
    let (ending, until) = (Arc::clone(pipeline), deadline.clone());
    let ending = std::thread::spawn(move || ending.finish_by(&until));
    let mut was_asked = false;
    while !ending.is_finished() {
        if interrupts.leave() {
            return None;
        }
        if interrupts.stop() && !was_asked {
            was_asked = true;
            deadline.hasten(limit);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let report = ending.join();
    Some(report.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn show(progress: &Progress) {
    let (read, total) = (progress.bytes_read.value(), progress.bytes_total.value());
    let done = if total == 0 {
        0.0
    } else {
        read as f64 / total as f64
    };
    let filled = (done * 30.0) as usize;
    eprint!(
        "\r[{:<30}] {:>3.0} %  {} packets  {} ",
        "#".repeat(filled.min(30)),
        done * 100.0,
        progress.records.value(),
        ledger::human_bytes(read)
    );
    // a progress bar that can't be shown is no reason to stop
    let _ = std::io::stderr().flush();
}
