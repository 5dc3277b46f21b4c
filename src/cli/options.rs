//! What several verbs share: the configuration file and what the command line changes of it.

use std::path::{Path, PathBuf};

use crate::cli::failure::{self, Failure};
use crate::config::{self, Config};

/// Where the package installs the configuration.
pub(super) const INSTALLED: &str = "/etc/mirrortap/mirrortap.toml";

/// The configuration as loaded, with the folder that its relative paths start from.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The configuration.
    pub(super) config: Config,
    /// The file, if there is one.
    pub(super) file: Option<PathBuf>,
}

impl Loaded {
    /// From a file, or the defaults without one.
    pub(super) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let config = match file {
            Some(file) => Config::load(file).map_err(|problems| refused(&problems))?,
            None => Config::default(),
        };
        Ok(Self {
            config,
            file: file.map(Path::to_owned),
        })
    }

    /// Where relative paths start from.
    pub(super) fn base(&self) -> PathBuf {
        self.file
            .as_deref()
            .map_or_else(|| ".".into(), |f| config::base(f).to_owned())
    }
}

fn refused(problems: &config::Problems) -> Failure {
    let n = problems.list.len();
    let s = if n == 1 { "" } else { "s" };
    Failure::new(
        failure::CONFIG,
        format!("{n} problem{s} in the configuration\n{problems}"),
    )
}
