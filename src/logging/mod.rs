//! What is logged, and how.
//!
//! Takes: the `[log]` table. Gives: [`init`], and [`Limited`] for warnings that repeat. Holds: nothing is logged per
//! packet; standard output stays free for what a verb prints.

use std::any::Any;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The `[log]` table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The least severe events that are logged; `RUST_LOG` goes first.
    pub level: Level,
    /// For people or for programs.
    pub format: Format,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// What fails.
    Error,
    /// And what may lose packets.
    Warn,
    /// And what happens: starts, stops, files closed, reloads.
    #[default]
    Info,
    /// And details.
    Debug,
    /// And everything.
    Trace,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. A second call changes nothing.
pub fn init(config: &Config) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(config.level.name()));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        // where nobody reads standard error any more there is nobody to tell of it either, and trying would panic
        .log_internal_errors(false);
    // an error means that logging has been started before: by a test, or by a verb that contains another
    let _ = match config.format {
        Format::Json => lines.json().flatten_event(true).finish().try_init(),
        Format::Human => lines
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .finish()
            .try_init(),
    };
}

/// Standard error, whose reader may be gone: then lines are lost, and nothing else is.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a panic said.
pub fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    text.or(owned).unwrap_or("no message")
}

/// Lets one warning of a kind through in an interval, and counts the others.
#[derive(Debug)]
pub struct Limited {
    interval: Duration,
    /// Monotonic nanoseconds of the last one that was let through; 0 before the first.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl Limited {
    /// One each `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether to warn at `now` (monotonic nanoseconds): then with the number of warnings suppressed since the last.
    pub fn pass(&self, now: u64) -> Option<u64> {
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || Duration::from_nanos(now.saturating_sub(last)) >= self.interval;
        let first = due
            && self
                .last
                .compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if first {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_an_interval_passes_and_the_others_are_counted() {
        let limited = Limited::new(Duration::from_nanos(100));
        assert_eq!(limited.pass(5), Some(0));
        assert_eq!(limited.pass(50), None);
        assert_eq!(limited.pass(104), None);
        assert_eq!(limited.pass(105), Some(2));
        assert_eq!(limited.pass(205), Some(0));
    }
}
