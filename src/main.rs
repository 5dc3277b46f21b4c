//! The `mirrortap` program: hands the command line to [`mirrortap::cli`] and its answer to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    mirrortap::cli::main()
}
