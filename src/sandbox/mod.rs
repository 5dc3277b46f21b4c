//! The walls that the process puts around itself once everything is open.
//!
//! Takes: a [`Config`] and [`Needs`]: the folders that are still written to and read, and what the source still asks of the kernel.
//! Gives: [`Enforced`]: which walls stand. Holds: called before the first thread, so that every thread is inside; a wall that
//! the kernel does not have is told, or, with `required`, an error; nothing in here can take a wall down again.
//! `docs/threat-model.md` says what each wall holds.

mod calls;
mod config;
mod files;

use std::path::PathBuf;

pub use calls::{Conditional, allowed};
pub use config::{Config, Mode};

use crate::sys::privileges;

/// What is still needed inside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Folders that are written to: files are made, renamed and removed in them.
    pub write: Vec<PathBuf>,
    /// Folders out of which files are only removed.
    pub remove: Vec<PathBuf>,
    /// Files and folders that are read.
    pub read: Vec<PathBuf>,
    /// Which calls are made beside those that everybody makes: by the source, or by who speaks with servers. That decides about connections too.
    pub source: Calls,
}

/// The calls that some make, beside those that everybody makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Calls {
    /// None: sockets, files.
    #[default]
    Plain,
    /// Those of a ring: it asks whether its interface is there.
    Ring,
    /// Those of AF_XDP: it takes its sockets out of the program's map, and asks for the distance of two clocks.
    Xdp,
    /// No source, but who speaks with servers: TCP, and UDP to find out where they are.
    Connect,
}

/// A wall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// No capability, and none to be had.
    Privileges,
    /// Landlock: files and folders.
    Files,
    /// Landlock: no TCP port can be bound, and none connected to but by who speaks with servers.
    Network,
    /// Landlock: no signal, and no abstract socket, beyond the process.
    Signals,
    /// seccomp: the calls to the kernel.
    Calls,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Privileges,
        Self::Files,
        Self::Network,
        Self::Signals,
        Self::Calls,
    ];

    /// Its name in log, status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Privileges => "privileges",
            Self::Files => "files",
            Self::Network => "network",
            Self::Signals => "signals",
            Self::Calls => "calls",
        }
    }
}

/// Which walls stand.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Enforced {
    mode: Mode,
    missing: Vec<(Part, String)>,
}

impl Enforced {
    /// What was asked for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether a wall stands.
    pub fn has(&self, part: Part) -> bool {
        self.mode != Mode::Off && self.missing.iter().all(|(missing, _)| *missing != part)
    }

    /// The walls that do not stand though they were asked for, and why.
    pub fn missing(&self) -> &[(Part, String)] {
        &self.missing
    }
}

/// Why the sandbox could not be closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// With `required`, what is missing.
    #[error(
        "the sandbox cannot be closed as sandbox.mode = \"required\" asks: {}; use a newer kernel, or sandbox.mode = \"on\"",
        .0.iter().map(|(part, why)| format!("{}: {why}", part.name())).collect::<Vec<_>>().join("; ")
    )]
    Missing(Vec<(Part, String)>),
    /// Some threads would be outside.
    #[error(
        "the sandbox cannot be closed: {0} threads run already, and would be outside; this is a fault of the program"
    )]
    Threads(usize),
}

/// Closes the sandbox around the process, which has one thread.
///
/// # Errors
/// With [`Mode::Required`], a wall that can't be had.
pub fn close(config: &Config, needs: &Needs) -> Result<Enforced, Error> {
    let mut enforced = Enforced {
        mode: config.mode,
        missing: Vec::new(),
    };
    if config.mode == Mode::Off {
        return Ok(enforced);
    }
    // a system that hides its /proc says nothing either way
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Error::Threads(threads));
    }
    let mut needs = needs.clone();
    needs.write.extend(config.write.iter().cloned());
    needs.read.extend(config.read.iter().cloned());
    let privileges = privileges::no_new_privileges().and_then(|()| privileges::drop_capabilities());
    if let Err(error) = privileges {
        enforced.missing.push((Part::Privileges, error.to_string()));
    }
    enforced.missing.extend(files::restrict(&needs));
    // last: the calls that put up the others are not allowed any more
    if let Err(why) = calls::restrict(needs.source) {
        enforced.missing.push((Part::Calls, why));
    }
    if config.mode == Mode::Required && !enforced.missing.is_empty() {
        return Err(Error::Missing(enforced.missing));
    }
    Ok(enforced)
}
