//! `mirrortap run`: the sensor.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::failure::{self, Failure};
use crate::cli::ledger;
use crate::cli::options::Loaded;
use crate::config::Config;
use crate::daemon;
use crate::pipeline;
use crate::sink::capture;
use crate::source::Kind;
use crate::spool::lock;

/// Run the sensor. Without a configuration it listens on port 4789 and keeps every VNI in ./captures.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mirrortap run                                       every VNI, into ./captures
  mirrortap run --output /var/lib/mirrortap           another folder
  mirrortap run --listen [::]:4789 --listen [::]:6081 a Gateway Load Balancer's GENEVE too
  mirrortap run --config /etc/mirrortap/mirrortap.toml

SIGHUP reads the configuration again; SIGTERM and SIGINT stop, close every file and print the ledger;
a second one exits at once.")]
pub(super) struct Args {
    /// Configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address and port to listen on, instead of the configuration's. May be given several times.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Folder of the capture files, instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Where packets come from.
    #[arg(long, value_enum)]
    source: Option<Kind>,
    /// Interface that the sources packet and xdp read. May be given several times.
    #[arg(long, value_name = "DEV")]
    interface: Vec<String>,
    /// Write a flow log too: VPC Flow Logs of version 2, as text, one record a minute, into this folder.
    #[arg(long, value_name = "DIR")]
    flow_logs: Option<PathBuf>,
    /// Address of the HTTP control, instead of the configuration's; "off" for none.
    #[arg(long, value_name = "ADDR")]
    control: Option<crate::control::Listen>,
    /// Leave the sandbox open, whatever the configuration says.
    #[arg(long)]
    no_sandbox: bool,
    /// Print the ledger at the end as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let overrides = daemon::Overrides {
        listen: args.listen,
        output: args.output,
        source: args.source,
        interface: args.interface,
        flow_logs: args.flow_logs,
        control: args.control.map(|l| l.0),
        no_sandbox: args.no_sandbox,
    };
    let loaded = Loaded::load(args.config.as_deref())?;
    check(&loaded.config, &overrides)?;
    let report = daemon::run(loaded.config, loaded.file, overrides).map_err(|e| failed(&e))?;
    let Some(report) = report else {
        return Ok(ExitCode::from(130));
    };
    ledger::print(&report, args.json);
    Ok(ExitCode::SUCCESS)
}

/// What the file says was checked when it was read; the command line may say something else.
fn check(config: &Config, overrides: &daemon::Overrides) -> Result<(), Failure> {
    let mut config = config.clone();
    overrides.apply(&mut config);
    match config.source.problems().first() {
        Some((key, message)) => Err(Failure::new(failure::CONFIG, format!("{key}: {message}"))),
        None => Ok(()),
    }
}

/// The exit code of a pipeline that did not start.
pub(super) fn failed(error: &daemon::Error) -> Failure {
    use pipeline::Error as P;
    let code = match error {
        daemon::Error::Pipeline(
            P::Listen(_) | P::Passed(_) | P::Packet(_) | P::Xdp(_) | P::Companion(_),
        )
        | daemon::Error::Control(_)
        | daemon::Error::Sandbox(_) => failure::UNAVAILABLE,
        daemon::Error::Pipeline(P::Sessions(_) | P::FlowLogs(_) | P::Manifest(_)) => {
            failure::CONFIG
        }
        daemon::Error::Pipeline(P::Output(capture::Error::Lock(lock::Error::Held { .. }))) => {
            failure::TEMPORARY
        }
        daemon::Error::Pipeline(P::Output(_) | P::FlowLogFolders(_)) => failure::CANT_CREATE,
        daemon::Error::Pipeline(P::Replay(_)) => failure::DATA,
        daemon::Error::Pipeline(P::Thread { .. })
        | daemon::Error::Runtime(_)
        | daemon::Error::Runner(_)
        | daemon::Error::Shipping(_) => failure::SOFTWARE,
    };
    Failure::new(code, error)
}
