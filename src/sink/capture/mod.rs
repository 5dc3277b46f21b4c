//! Capture files: from the workers' packets to rotating files, in order.
//!
//! Takes: kept packets, through one [`Capture`] for each worker. Gives: published capture files, and
//! [`Writers`], which knows how they are doing. Holds: packets that wait are bounded by `buffer`, a packet
//! more is refused; a session's packets are in one file at a time, in order of arrival; workers never wait for a
//! writer, writers never wait for a sync; each packet taken is counted once. `docs/capture-files.md`
//! tells the life of a file.
//!
//! ```text
//! Capture ─ runs ─┐                     ┌─ Closer ─ sync, name ─┐
//! Capture ─ runs ─┼─► Writer ─ Desk ────┼─ Closer               ├─► Hook
//! Capture ─ runs ─┘   merge   write     └─ Closer               ┘
//! ```

mod agenda;
mod closed;
mod closer;
mod config;
mod desk;
mod hook;
mod intake;
mod peers;
mod plan;
mod pool;
mod probe;
mod queue;
mod run;
mod series;
mod share;
mod shared;
mod stats;
mod writer;
mod writers;

pub use closed::{Cause, Closed, Files};
pub use config::{Config, Ordering};
pub use intake::Capture;
pub use stats::{Stats, Trouble};
pub use writers::{Error, Report, Setup, Writers, check, start};

#[cfg(test)]
pub(crate) mod tests;
