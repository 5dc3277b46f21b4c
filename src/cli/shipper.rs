//! `mirrortap shipper`: the process that ships files; for the program's own use.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::failure::{self, Failure};
use crate::ship;

/// Ship files for a sensor that may connect to nobody; the sensor runs this by itself.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ship; without it, see that somebody does.
    #[arg(long)]
    worker: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let ended = match args.worker {
        true => ship::work().map(|end| match end {
            ship::End::Over => ExitCode::SUCCESS,
            ship::End::Renew => ExitCode::from(ship::RENEW),
        }),
        false => ship::supervise(Path::new("/proc/self/exe")).map(|()| ExitCode::SUCCESS),
    };
    ended.map_err(|e| Failure::new(failure::SOFTWARE, e))
}
