//! `mirrortap check`: is this configuration good, and what does it come to?

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::failure::{self, Failure};
use crate::cli::options::{INSTALLED, Loaded};
use crate::pipeline::{Layout, Machine};

/// Check a configuration file and tell every problem at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mirrortap check                          the installed file
  mirrortap check mirrortap.toml           another one
  mirrortap check mirrortap.toml --show    every key with the value in force")]
pub(super) struct Args {
    /// The configuration.
    #[arg(default_value = INSTALLED)]
    file: PathBuf,
    /// Print the whole effective configuration, and the threads that it comes to on this machine.
    #[arg(long)]
    show: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let loaded = Loaded::load(Some(&args.file))?;
    if !args.show {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let (n, logs) = (loaded.config.session.len(), loaded.config.flow_log.len());
        let flow_logs = match logs {
            0 => String::new(),
            logs => format!(", {logs} flow log{}", plural(logs)),
        };
        println!(
            "{}: good; {n} session{}{flow_logs}",
            args.file.display(),
            plural(n)
        );
        return Ok(ExitCode::SUCCESS);
    }
    let text = loaded
        .config
        .show()
        .map_err(|e| Failure::new(failure::SOFTWARE, e))?;
    let config = &loaded.config;
    let machine = Machine::read(&config.source);
    let layout = Layout::new(config.threads, config.source.kind, &machine);
    println!(
        "# {}, with every key that it leaves to its default",
        args.file.display()
    );
    println!(
        "# threads on this machine (cores: {}):",
        machine.cores.len()
    );
    for line in layout.describe(&machine).lines() {
        println!("#   {line}");
    }
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
