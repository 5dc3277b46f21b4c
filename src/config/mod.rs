//! The configuration file: load, check, show.
//!
//! Takes: a TOML file. Gives: [`Config`], assembled from what each room calls its `Config`, or every problem of
//! the file at once with line, column and the nearest known key. Holds: closed (an unknown key is an error) and
//! complete (`show` prints every key with the value in force).

mod problem;
mod read;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use problem::{Problem, Problems};

use crate::flowlog::{self, Setup};
use crate::packet::Ports;
use crate::session::{self, Keep, OutputConfig, Snapshot, Unknown};
use crate::sink::capture;
use crate::source;
use crate::spool::manifest;
use crate::spool::retain::{self, Bounds};
use crate::spool::{Compression, Format, Precision, Settings};
use crate::units::{Interval, Size};
use crate::{control, logging, sandbox, ship};

/// The snaplen told in file headers where a session sets no packet length: the largest that readers accept.
const SNAPLEN: u32 = 262_144;

/// The whole configuration. Every key has a default.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the capture files: one folder a session inside it.
    pub output: PathBuf,
    /// What is done with packets that no session claims.
    pub unknown: Unknown,
    /// How long stopping may take, files and hooks included.
    pub shutdown_timeout: Interval,
    /// Where packets come from.
    pub source: source::Config,
    /// Threads of the packet path.
    pub threads: Threads,
    /// Between workers and files.
    pub writer: capture::Config,
    /// The manifest of the capture files.
    pub manifest: manifest::Config,
    /// How capture files are made.
    pub capture: OutputConfig,
    /// How much disk capture files may take.
    pub retention: retain::Config,
    /// Where capture files are shipped.
    pub ship: ship::Captures,
    /// HTTP control.
    pub control: control::Config,
    /// The walls around the process.
    pub sandbox: sandbox::Config,
    /// What is logged.
    pub log: logging::Config,
    /// Mirror sessions.
    pub session: Vec<session::Config>,
    /// Flow logs.
    pub flow_log: Vec<flowlog::Config>,
}

/// Threads of the packet path; 0 chooses by the cores that the process may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threads {
    /// Receivers, for each listening address. 0: half of the cores.
    pub receivers: u16,
    /// Workers. 0: a quarter of the cores.
    pub workers: u16,
    /// Whether receivers and workers stay on one core each.
    pub pin: bool,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            receivers: 0,
            workers: 0,
            pin: true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            output: "captures".into(),
            unknown: Unknown::default(),
            shutdown_timeout: Interval(Duration::from_secs(30)),
            source: source::Config::default(),
            threads: Threads::default(),
            writer: capture::Config::default(),
            manifest: manifest::Config::default(),
            capture: OutputConfig::default(),
            retention: retain::Config::default(),
            ship: ship::Captures::default(),
            control: control::Config::default(),
            sandbox: sandbox::Config::default(),
            log: logging::Config::default(),
            session: Vec::new(),
            flow_log: Vec::new(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every problem of it at once. A file that can't be read is one problem.
    pub fn load(file: &Path) -> Result<Self, Box<Problems>> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let message = format!("cannot read the configuration: {error}");
            let list = vec![Problem {
                span: None,
                message,
            }];
            Box::new(Problems {
                file: file.to_owned(),
                text: String::new(),
                list,
            })
        })?;
        Self::parse(file, &text)
    }

    /// Checks a text as if it were `file`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Box<Problems>> {
        let failed = |list| {
            Box::new(Problems {
                file: file.to_owned(),
                text: text.to_owned(),
                list,
            })
        };
        let read = read::read(text);
        let mut list = read.problems;
        let broken = !list.is_empty();
        if let Some(config) = &read.config {
            list.extend(config.own_problems(&read.table));
            // compiled to be thrown away: the sessions' names, claims, filters and expressions
            let compiled = config.snapshot(base(file), &mut Keep::default());
            let errors = compiled.err().unwrap_or_default();
            // what was wrong has been left out: a session may claim more than was meant
            let sure = |e: &&session::Error| !broken || !matches!(e.key, "vni" | "source");
            list.extend(errors.iter().filter(sure).map(|e| read.table.of_session(e)));
            if !broken {
                list.extend(config.strange_sessions(&read.table));
            }
            let errors = config.flow_logs(base(file)).err().unwrap_or_default();
            list.extend(errors.iter().map(|e| read.table.of_flow_log(e)));
        }
        list.sort_by_key(|p| p.span.as_ref().map(|s| s.start));
        match read.config {
            Some(config) if list.is_empty() => Ok(config),
            _ => Err(failed(list)),
        }
    }

    /// Compiles the sessions, with what `keep` knows of them from before.
    ///
    /// # Errors
    /// Every problem of the sessions.
    pub fn snapshot(&self, base: &Path, keep: &mut Keep) -> Result<Snapshot, Vec<session::Error>> {
        Snapshot::build(&self.session, self.unknown, self.settings(), base, keep)
    }

    /// Compiles the flow logs.
    ///
    /// # Errors
    /// Every problem of them.
    pub fn flow_logs(&self, base: &Path) -> Result<Setup, Vec<flowlog::Problem>> {
        Setup::build(&self.flow_log, base)
    }

    /// Adds a flow log of the usual kind below a folder, under a name that no other has.
    pub fn add_flow_log(&mut self, directory: PathBuf) {
        let taken = |name: &str| self.flow_log.iter().any(|log| log.name == name);
        let first = flowlog::Config::default().name;
        let numbered = (2..).map(|n| format!("{first}-{n}"));
        let mut names = std::iter::once(first.clone()).chain(numbered);
        let name = names.find(|name| !taken(name)).unwrap_or(first);
        self.flow_log.push(flowlog::Config {
            name,
            directory,
            ..flowlog::Config::default()
        });
    }

    /// How files are made where a session says nothing else.
    pub fn settings(&self) -> Settings {
        self.capture.over(&self.defaults())
    }

    fn defaults(&self) -> Settings {
        Settings {
            directory: self.output.clone(),
            format: Format::default(),
            precision: Precision::default(),
            snaplen: SNAPLEN,
            compression: Compression::default(),
            level: 0,
            rotate_size: Some(1 << 30),
            rotate_interval: None,
            rotate_packets: None,
        }
    }

    /// How much disk capture files may take.
    pub fn bounds(&self) -> Bounds {
        let sessions = self.session.iter();
        Bounds::new(
            &self.retention,
            sessions.map(|s| (s.name.as_str(), &s.retention)),
        )
    }

    /// The whole effective configuration, as a file that says the same.
    ///
    /// # Errors
    /// Never for what was loaded; the type is that of the library.
    pub fn show(&self) -> Result<String, toml::ser::Error> {
        let settings = self.settings();
        let mut whole = self.clone();
        whole.capture = OutputConfig::of(&settings);
        toml::to_string(&whole)
    }

    /// The tunnel ports.
    pub fn ports(&self) -> Ports {
        self.source.ports()
    }

    /// What is wrong beyond what the types say.
    fn own_problems(&self, table: &read::Table<'_>) -> Vec<Problem> {
        let mut list = Vec::new();
        let mut fail = |path: &[&str], message: &str| {
            list.push(Problem {
                span: table.find(path),
                message: message.to_owned(),
            });
        };
        for (key, message) in self.source.problems() {
            fail(&["source", key], &message);
        }
        for (key, message) in self.manifest.problems() {
            fail(&["manifest", key], &message);
        }
        if self.output.as_os_str().is_empty() {
            fail(
                &["output"],
                "an empty output folder; \".\" is the current one",
            );
        }
        if self.settings().rotate_size.is_some_and(|s| s < 4096) {
            fail(
                &["capture", "rotate_size"],
                "files of less than 4096 bytes hold hardly a packet",
            );
        }
        if let Some(problem) = self.capture.problem(&self.defaults()) {
            fail(&["capture", "compression_level"], &problem);
        }
        if let Some(problem) = Self::tight(&self.settings(), self.bounds().output.max_size) {
            fail(&["retention", "max_size"], &problem);
        }
        for (key, message) in self.ship.problems(self.bounds().output.max_size) {
            fail(&["ship", key], &message);
        }
        if self.ship.is_on() && self.flow_log.iter().any(|log| log.name == ship::CAPTURES) {
            fail(
                &["ship", "bucket"],
                "a flow log is called \"captures\", as the queue of capture files is; call it otherwise",
            );
        }
        list.extend(self.tight_sessions(table));
        list.extend(self.unshippable_sessions(table));
        list
    }

    /// Sessions whose `[session.ship]` makes no sense.
    fn unshippable_sessions(&self, table: &read::Table<'_>) -> Vec<Problem> {
        let each = self.session.iter().enumerate();
        let wrong = each.filter_map(|(index, session)| {
            let problem = session.ship.problem()?;
            let name = session.name.clone();
            Some(table.of_session(&session::Error {
                index,
                key: "ship",
                name,
                problem,
            }))
        });
        wrong.collect()
    }

    /// Flow logs of sessions that there can't be: they would stay empty.
    fn strange_sessions(&self, table: &read::Table<'_>) -> Vec<Problem> {
        let mut wrong = Vec::new();
        for (index, log) in self.flow_log.iter().enumerate() {
            for strange in log.session.iter().filter(|name| !self.may_be_session(name)) {
                let names = self.session.iter().map(|session| session.name.as_str());
                let near = names.min_by_key(|name| strsim::damerau_levenshtein(strange, name));
                let near = near.map(|near| format!("; the nearest is \"{near}\""));
                wrong.push(table.of_flow_log(&flowlog::Problem {
                    index,
                    key: vec!["session"],
                    name: log.name.clone(),
                    problem: format!(
                        "no session is called \"{strange}\"{}",
                        near.unwrap_or_default()
                    ),
                }));
            }
        }
        wrong
    }

    /// Whether packets can be of a session of this name: one that is configured, or one that is made for those that none claims.
    fn may_be_session(&self, name: &str) -> bool {
        let number = name.strip_prefix("vni-");
        let made = number.is_some_and(|n| n == "other" || n.parse::<u32>().is_ok());
        made || name == "unknown" || self.session.iter().any(|session| session.name == name)
    }

    /// What the sessions say of shipping.
    pub fn shipped_sessions(&self) -> ship::Sessions {
        let sessions = self.session.iter();
        ship::Sessions::new(sessions.map(|s| (s.name.as_str(), &s.ship)))
    }

    /// Sessions that may not keep as much as one of their files may hold.
    fn tight_sessions(&self, table: &read::Table<'_>) -> Vec<Problem> {
        let defaults = self.settings();
        let each = self.session.iter().enumerate();
        let tight = each.filter_map(|(index, session)| {
            let settings = session.capture.over(&defaults);
            let problem = Self::tight(&settings, session.retention.limits().max_size)?;
            let name = session.name.clone();
            Some(table.of_session(&session::Error {
                index,
                key: "retention",
                name,
                problem,
            }))
        });
        tight.collect()
    }

    /// Why files of these settings cannot be kept within `max_size`.
    fn tight(settings: &Settings, max_size: Option<u64>) -> Option<String> {
        let most = max_size?;
        match settings.rotate_size {
            Some(file) if file <= most => None,
            Some(file) => Some(format!(
                "max_size = \"{}\" is less than one file may hold (rotate_size = \"{}\"); lower rotate_size or raise max_size",
                Size(most),
                Size(file)
            )),
            None => Some(
                "max_size needs a rotate_size: a file that is being written is not deleted"
                    .to_owned(),
            ),
        }
    }
}

/// The folder that relative paths in a configuration file start from.
pub fn base(file: &Path) -> &Path {
    file.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
