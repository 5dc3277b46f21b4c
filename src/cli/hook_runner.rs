//! `mirrortap hook-runner`: the process that starts the hook's commands; for the program's own use.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::failure::{self, Failure};
use crate::sink::capture;
use crate::sys::privileges;

/// Start commands for a sensor that may start none; the sensor runs this by itself.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder in which the files lie.
    #[arg(long)]
    output: PathBuf,
    /// The command and its first arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // a sensor's capabilities are for its sockets; a hook of root's is root's
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        privileges::drop_capabilities().map_err(|e| Failure::new(failure::SOFTWARE, e))?;
    }
    let served = capture::serve_runner(&args.command, &args.output);
    served.map_err(|e| Failure::new(failure::SOFTWARE, e))?;
    Ok(ExitCode::SUCCESS)
}
