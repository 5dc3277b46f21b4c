//! `mirrortap reload`: a running sensor reads its configuration again, and says what it thinks of it.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::failure::{self, Failure};
use crate::cli::options::{INSTALLED, Loaded};
use crate::control::client;

/// Make a running sensor read its configuration again. Sessions and filters are swapped without losing a packet; a
/// bad configuration is refused, with the reasons, and the old one stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mirrortap reload                                    the packaged service
  mirrortap reload --config mirrortap.toml            find the socket in this configuration
  mirrortap reload --socket captures/.control.sock    a sensor started by hand")]
pub(super) struct Args {
    /// The sensor's control socket.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The configuration that the sensor was started with, to find its socket.
    #[arg(long, conflicts_with = "socket")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let socket = match args.socket {
        Some(socket) => socket,
        None => find(args.config)?,
    };
    match client::reload(&socket) {
        Ok(answer) => {
            println!("{}", answer.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Err(client::Error::Refused(text)) => Err(Failure::new(failure::CONFIG, text.trim_end())),
        Err(error) => Err(Failure::new(failure::UNAVAILABLE, error)),
    }
}

/// The socket of the configuration given, or of the installed one, or of a sensor started here without any.
fn find(config: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let installed = PathBuf::from(INSTALLED);
    let file = config.or_else(|| installed.is_file().then_some(installed));
    let loaded = Loaded::load(file.as_deref())?;
    loaded
        .config
        .control
        .socket_path(&loaded.config.output)
        .ok_or_else(|| {
            Failure::new(
                failure::CONFIG,
                "the control socket is off in this configuration; send SIGHUP instead",
            )
        })
}
