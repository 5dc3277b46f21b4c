//! `mirrortap demo`: the whole thing on this machine alone: generator, sensor, live view, files, flow logs, what to do next.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cli::failure::{self, Failure};
use crate::cli::flows;
use crate::cli::interrupt::Interrupts;
use crate::cli::ledger::{self, human_bytes};
use crate::cli::run;
use crate::config::Config;
use crate::generator::{self, Generator, Options, Pace};
use crate::pipeline::{self, Pipeline, Report};
use crate::time;

/// The sessions of the demonstration: two that are configured, and VNIs that nobody has told it of.
const SESSIONS: &str = r#"
[[session]]
name = "web"
vni = 100
filter = { expression = "tcp or icmp" }

[[session]]
name = "short"
vni = [101, 102]
packet_length = 128
capture = { format = "pcapng" }
"#;

/// See it work: a generator sends mirrored traffic as AWS would to a sensor, both on this machine's loopback.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mirrortap demo
  mirrortap demo --seconds 30 --rate 100000 --output /tmp/demo")]
pub(super) struct Args {
    /// How long traffic is sent.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Packets a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Folder of the capture files.
    #[arg(long, default_value = "mirrortap-demo")]
    output: PathBuf,
    /// Print the ledger at the end as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = config(&args)?;
    let pipeline = pipeline::live(&config, Path::new(".")).map_err(|e| run::failed(&e.into()))?;
    let Some(address) = pipeline
        .sources
        .first()
        .and_then(|s| s.listen.first().copied())
    else {
        return Err(Failure::new(failure::SOFTWARE, "the sensor has no socket"));
    };
    let interrupts = Interrupts::watch();
    let sent = send(&args, address, &pipeline, &interrupts)?;
    if interrupts.leave() {
        return Ok(ExitCode::from(130));
    }
    let report = pipeline.finish(config.shutdown_timeout.0);
    ledger::print(&report, args.json);
    if !args.json {
        conclude(&args, &report, sent.sent)?;
    }
    let whole = report.total.is_closed() && sent.sent == arrived(&report);
    let whole = whole && report.flow_logs.values().all(|log| log.is_closed());
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(failure::SOFTWARE)
    })
}

fn config(args: &Args) -> Result<Config, Failure> {
    let mut config = Config::parse(Path::new("demo.toml"), SESSIONS)
        .map_err(|e| Failure::new(failure::SOFTWARE, e))?;
    config.output.clone_from(&args.output);
    config.add_flow_log(flow_logs(args));
    config.source.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    Ok(config)
}

/// Runs the generator beside a live view until it is through.
fn send(
    args: &Args,
    to: SocketAddr,
    pipeline: &Pipeline,
    interrupts: &Interrupts,
) -> Result<generator::Report, Failure> {
    let mut options = Options::new(to);
    options.vnis = "100-104"
        .parse()
        .map_err(|e| Failure::new(failure::SOFTWARE, e))?;
    options.pace = Pace::Rate(args.rate);
    options.duration = Some(Duration::from_secs(args.seconds));
    let mut generator = Generator::new(options).map_err(|e| Failure::new(failure::SOFTWARE, e))?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || generator.run(&stopped));
    let mut view = View::new(args);
    while !thread.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
        view.show(pipeline);
        if interrupts.stop() {
            stop.store(true, Ordering::Relaxed);
        }
    }
    view.end();
    let report = thread
        .join()
        .map_err(|_| Failure::new(failure::SOFTWARE, "the generator panicked"))?;
    report.map_err(|e| Failure::new(failure::SOFTWARE, e))
}

fn arrived(report: &Report) -> u64 {
    report.total.received + report.kernel_dropped.values().sum::<u64>()
}

/// The folder of the flow log.
fn flow_logs(args: &Args) -> PathBuf {
    args.output.join("flow-logs")
}

fn conclude(args: &Args, report: &Report, sent: u64) -> Result<(), Failure> {
    let arrived = arrived(report);
    let verdict = if arrived == sent {
        "every one is in the ledger above"
    } else {
        "NOT ALL ACCOUNTED FOR"
    };
    println!("\nThe generator sent {sent} packets; {arrived} arrived: {verdict}.");
    for log in report.flow_logs.values() {
        let verdict = if log.is_closed() && log.packets_lost == 0 {
            "every one is in a record, or was left out by name"
        } else {
            "NOT ALL ARE IN A RECORD"
        };
        println!(
            "The flow log was shown {} of them: {verdict}.\n",
            log.packets
        );
    }
    flows::show(&flow_logs(args), 5)?;
    println!("\nWhat to do next");
    let Some(file) = report.files.first().map(|f| f.path.display()) else {
        return Ok(());
    };
    println!("  look at a file       tcpdump -nr {file} | head");
    println!("  in Wireshark         wireshark {file}");
    println!("  in Zeek              zeek -C -r {file}");
    println!("  what is in it        mirrortap inspect {file}");
    println!(
        "  who talked to whom   mirrortap flows {}",
        flow_logs(args).display()
    );
    println!("  the real thing       mirrortap run --output captures    (see docs/deploy-aws.md)");
    println!("  remove these files   rm -r {}", args.output.display());
    Ok(())
}

/// A table that is redrawn in place on a terminal, and one line a second elsewhere.
struct View {
    shown: bool,
    redraw: bool,
    lines: usize,
    last: (time::Monotonic, u64),
}

impl View {
    fn new(args: &Args) -> Self {
        let redraw = std::io::stdout().is_terminal();
        if !args.json {
            println!(
                "Sending {} mirrored packets a second for {} s: VNIs 100 to 104, as AWS wraps them.\n",
                args.rate, args.seconds
            );
        }
        Self {
            shown: !args.json,
            redraw,
            lines: 0,
            last: (time::monotonic(), 0),
        }
    }

    fn show(&mut self, pipeline: &Pipeline) {
        let now = time::monotonic();
        let every = Duration::from_millis(if self.redraw { 500 } else { 1000 });
        let elapsed = now.since(self.last.0);
        if !self.shown || elapsed < every {
            return;
        }
        let report = Report::of(pipeline);
        let received = report.total.received;
        let rate = (received - self.last.1) as f64 / elapsed.as_secs_f64();
        self.last = (now, received);
        if self.redraw {
            self.table(&report, rate)
        } else {
            line(&report, rate)
        }
    }

    fn table(&mut self, report: &Report, rate: f64) {
        if self.lines > 0 {
            print!("\x1b[{}A\x1b[J", self.lines);
        }
        println!(
            "{:<14} {:>12} {:>12} {:>12} {:>12}",
            "session", "received", "written", "filtered", "dropped"
        );
        for (name, t) in &report.per_session {
            let (filtered, dropped) = (t.filtered_total(), t.dropped_total());
            println!(
                "{name:<14} {:>12} {:>12} {filtered:>12} {dropped:>12}",
                t.received, t.written
            );
        }
        println!(
            "{rate:>27.0} packets/s, {} written",
            human_bytes(report.total.bytes_written)
        );
        self.lines = report.per_session.len() + 2;
    }

    fn end(&self) {
        if self.shown && self.lines > 0 {
            println!();
        }
    }
}

fn line(report: &Report, rate: f64) {
    let t = &report.total;
    let (filtered, dropped) = (t.filtered_total(), t.dropped_total());
    println!(
        "{:>9} received  {:>9} written  {filtered:>9} filtered  {dropped:>6} dropped  {rate:>8.0} packets/s",
        t.received, t.written
    );
}
