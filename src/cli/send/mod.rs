//! `mirrortap send`: wraps a capture, or synthetic flows, as AWS would, and sends it.

mod args;
mod progress;
mod summary;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) use args::Args;

use crate::capfile;
use crate::cli::failure::{self, Failure};
use crate::generator::{Destination, Error, Generator, Report, port};

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let json = args.json;
    let options = args
        .options()
        .map_err(|text| Failure::new(failure::USAGE, text))?;
    let to_stdout = matches!(&options.destination, Destination::File(p) if p.as_os_str() == "-");
    let live = options.destination == Destination::Network;
    let mut generator = Generator::new(options).map_err(|error| refused(&error))?;
    if live && generator.source_ports() < port::COUNT {
        warn_of_ports(generator.source_ports());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let watch =
        progress::Watch::start(&stop, generator.counters(), std::io::stderr().is_terminal());
    let report = generator.run(&stop);
    watch.end();
    let report = report.map_err(|error| refused(&error))?;
    summary::print(&report, json, to_stdout);
    verdict(&report)
}

fn warn_of_ports(had: usize) {
    eprintln!(
        "mirrortap: {} of the source ports {} to 65535 are in use on this address; their flows are sent \
         from other ports (another --source has all of them)",
        port::COUNT - had,
        port::FIRST
    );
}

fn refused(error: &Error) -> Failure {
    let code = match error {
        Error::Read(capfile::Error::Open { .. }) => failure::NO_INPUT,
        Error::Read(capfile::Error::Read { .. }) => failure::IO,
        Error::Read(_) | Error::Empty { .. } => failure::DATA,
        Error::Family { .. } | Error::Option(_) => failure::USAGE,
        Error::Socket { .. } => failure::UNAVAILABLE,
        Error::Write { .. } => failure::CANT_CREATE,
    };
    Failure::new(code, error)
}

/// A run is a success when something went out and nothing was given up.
fn verdict(report: &Report) -> Result<ExitCode, Failure> {
    if let Some(damage) = &report.damage {
        return Err(Failure::new(
            failure::DATA,
            format!("the capture was sent up to where it is damaged: {damage}"),
        ));
    }
    if report.unsent > 0 {
        let text = format!(
            "{} packets could not be sent; the reasons are in the report above",
            report.unsent
        );
        return Err(Failure::new(failure::UNAVAILABLE, text));
    }
    Ok(ExitCode::SUCCESS)
}
