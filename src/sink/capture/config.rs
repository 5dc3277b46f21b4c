//! The part of the configuration that belongs to writing capture files as a whole.
//!
//! Takes: the `[writer]` table. Gives: [`Config`]. Holds: a configuration that passes [`Config::check`]
//! can be run; what a single session wants of its files is its own ([`crate::spool::Settings`]).

use serde::{Deserialize, Serialize};

use crate::spool::Io;
use crate::units::{Interval, Size};

/// The smallest memory budget: a few jumbo packets for each thread have to fit.
const SMALLEST_BUFFER: Size = Size::mebibytes(1);

/// The most writer threads.
const MOST_WRITERS: usize = 16;

/// How packets of different workers are put into files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// One file per session, in the order of arrival.
    #[default]
    Time,
    /// One file per session and worker, as it comes; cheaper, and a flow is still in order.
    PerWorker,
}

/// How capture files are written, for all sessions together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Memory for packets that wait for the disk. When it is used up, packets are dropped as `buffer_full`.
    pub buffer: Size,
    /// How packets of different workers are put into files.
    pub ordering: Ordering,
    /// The longest that a packet waits in memory before it is written: what a crash may cost.
    pub flush_interval: Interval,
    /// How bytes get to the disk.
    pub io: Io,
    /// Most capture files that are open at once; more sessions take turns.
    pub max_open_files: usize,
    /// Writer threads; 0 chooses.
    pub writers: usize,
    /// A command to run for each finished file: its path is appended as the last argument, and a
    /// description in JSON is on its standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_close: Option<Vec<String>>,
    /// A command that runs longer than this is killed.
    pub hook_timeout: Interval,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            buffer: Size::mebibytes(256),
            ordering: Ordering::Time,
            flush_interval: Interval::seconds(1),
            io: Io::Buffered,
            max_open_files: 256,
            writers: 0,
            on_close: None,
            hook_timeout: Interval::seconds(60),
        }
    }
}

impl Config {
    /// Every problem, in words that name the key.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        require(
            self.buffer >= SMALLEST_BUFFER,
            format!(
                "buffer = \"{}\" is too small; give it at least \"{SMALLEST_BUFFER}\"",
                self.buffer
            ),
        );
        require(
            !self.flush_interval.duration().is_zero(),
            "flush_interval must be more than zero; \"1s\" is the default".to_owned(),
        );
        require(
            self.max_open_files > 0,
            "max_open_files must be at least 1; 256 is the default".to_owned(),
        );
        require(
            self.writers <= MOST_WRITERS,
            format!(
                "writers = {} is too many; at most {MOST_WRITERS}, and 0 chooses",
                self.writers
            ),
        );
        let program = self
            .on_close
            .as_ref()
            .map(|c| c.first().map(String::as_str));
        require(
            !matches!(program, Some(None | Some(""))),
            "on_close names no program; write [\"/path/to/program\", \"argument\"] or leave it out"
                .to_owned(),
        );
        require(
            !self.hook_timeout.duration().is_zero(),
            "hook_timeout must be more than zero; \"60s\" is the default".to_owned(),
        );
        problems
    }

    /// How many writer threads there will be.
    pub fn writer_count(&self) -> usize {
        self.writers.clamp(1, MOST_WRITERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_check_and_read_back() {
        let config = Config::default();
        assert_eq!(config.check(), Vec::<String>::new());
        let text = toml::to_string(&config).expect("it can be shown");
        assert!(text.contains("buffer = \"256MiB\"") && text.contains("flush_interval = \"1s\""));
        assert_eq!(
            toml::from_str::<Config>(&text).expect("it reads back"),
            config
        );
        assert_eq!(
            toml::from_str::<Config>("").expect("all keys have defaults"),
            config
        );
    }

    #[test]
    fn direct_io_is_asked_for_by_name_and_nothing_else_passes_for_it() {
        let config: Config = toml::from_str("io = \"direct\"").expect("it can be read");
        assert_eq!(config.io, Io::Direct);
        let error = toml::from_str::<Config>("io = \"mmap\"").expect_err("no such way");
        assert!(error.to_string().contains("buffered"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Config>("bufer = \"1MiB\"").expect_err("a slip of the pen");
        assert!(error.to_string().contains("bufer"));
    }

    #[test]
    fn each_bad_value_is_named() {
        let text = "buffer = 100\nflush_interval = \"0s\"\nmax_open_files = 0\nwriters = 99\n\
                    on_close = []\nhook_timeout = \"0s\"\nordering = \"per_worker\"";
        let config: Config = toml::from_str(text).expect("it can be read");
        assert_eq!(config.ordering, Ordering::PerWorker);
        let problems = config.check().join("\n");
        for key in [
            "buffer",
            "flush_interval",
            "max_open_files",
            "writers",
            "on_close",
            "hook_timeout",
        ] {
            assert!(problems.contains(key), "{key} is missing in:\n{problems}");
        }
    }
}
