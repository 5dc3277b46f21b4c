//! The command line: one file for each verb.
//!
//! Takes: arguments. Gives: an exit code (sysexits.h). Holds: what was typed is checked before anything runs; a
//! failure is one message that says what was being done, to what, and what to do next.

mod bench;
mod check;
mod demo;
mod failure;
mod flows;
mod hook_runner;
mod inspect;
mod interrupt;
mod ledger;
mod options;
mod recover;
mod reload;
mod replay;
mod run;
mod send;
#[cfg(feature = "aws")]
mod shipper;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;

use crate::sys::signal;

/// Receives AWS VPC Traffic Mirroring, takes the VXLAN wrapping off, and writes capture files.
#[derive(Debug, Parser)]
#[command(
    name = "mirrortap",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the sensor: the daemon.
    Run(run::Args),
    /// See it work on this machine alone: generator, sensor, files, ledger.
    Demo(demo::Args),
    /// Run captures of outer packets through the same pipeline.
    Replay(replay::Args),
    /// Send a capture, or made-up flows, wrapped as AWS would.
    Send(send::Args),
    /// Check a configuration; --show prints all of it.
    Check(check::Args),
    /// Look into a capture file: sessions, VNIs, flows, sizes, gaps.
    Inspect(inspect::Args),
    /// Check the capture files of an output folder against its manifest.
    Verify(verify::Args),
    /// Recover the capture files that a crash left.
    Recover(recover::Args),
    /// Read VPC Flow Logs: sums, top talkers, and AWS's records beside ours.
    Flows(flows::Args),
    /// Measure the packet path on this machine: packets a second, cost of each stage, and the limit.
    Bench(bench::Args),
    /// Make a running sensor read its configuration again.
    Reload(reload::Args),
    #[command(hide = true)]
    HookRunner(hook_runner::Args),
    #[cfg(feature = "aws")]
    #[command(hide = true)]
    Shipper(shipper::Args),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Runs the program.
pub fn main() -> ExitCode {
    // where that is not possible, the limit ends the program, as it does others
    let _ = signal::survive_file_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    cli.verb.run().unwrap_or_else(|failure| failure.report())
}

impl Verb {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Run(args) => run::run(args),
            Self::Demo(args) => demo::run(args),
            Self::Replay(args) => replay::run(args),
            Self::Send(args) => send::run(args),
            Self::Check(args) => check::run(args),
            Self::Inspect(args) => inspect::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Recover(args) => recover::run(args),
            Self::Flows(args) => flows::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Reload(args) => reload::run(args),
            Self::HookRunner(args) => hook_runner::run(&args),
            #[cfg(feature = "aws")]
            Self::Shipper(args) => shipper::run(&args),
            Self::Completions { shell } => {
                clap_complete::generate(
                    shell,
                    &mut Cli::command(),
                    "mirrortap",
                    &mut std::io::stdout(),
                );
                Ok(ExitCode::SUCCESS)
            }
            Self::Man => man(),
        }
    }
}

fn man() -> Result<ExitCode, Failure> {
    let page = clap_mangen::Man::new(Cli::command());
    page.render(&mut std::io::stdout())
        .map_err(|e| Failure::new(failure::IO, e))?;
    Ok(ExitCode::SUCCESS)
}

/// Help and version are answers; anything else is bad use.
fn usage(error: &clap::Error) -> ExitCode {
    // nothing can be done when even this can't be printed
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(failure::USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
