//! Capture files: from the workers' packets to rotating files, in order.
//!
//! Takes: kept packets, through one [`Capture`] for each worker. Gives: published capture files, and
//! [`Writers`], which knows how they are doing. Holds: packets that wait are bounded by `buffer`, a packet
//! more is refused; a session's packets are in one file at a time, in order of arrival; workers never wait for a
//! writer, writers never wait for a sync; each packet taken is counted once. `docs/capture-files.md`
//! tells the life of a file.
//!
//! ```text
//! Capture ─ runs ─┐                     ┌─ Closer ─ sync, name, hash ─┐
//! Capture ─ runs ─┼─► Writer ─ Desk ────┼─ Closer                     ├─► Scribe ─► Hook
//! Capture ─ runs ─┘   merge   write     └─ Closer                     ┘   manifest
//! ```
//!
//! Beside them the keeper deletes the oldest published files, where retention is set (`docs/retention.md`).

mod agenda;
mod closed;
mod closer;
mod config;
mod desk;
mod handover;
mod hook;
mod intake;
mod keeper;
mod peers;
mod plan;
mod pool;
mod probe;
mod queue;
mod rescue;
mod run;
mod runner;
mod scribe;
mod series;
mod share;
mod shared;
mod shipments;
mod stats;
mod view;
mod watched;
mod weights;
mod writer;
mod writers;

pub use closed::{Cause, Closed, Files};
pub use config::{Config, Ordering};
pub use intake::Capture;
pub use keeper::{Ask, Keeping, MayGo, Tell};
pub use runner::{Runner, VERB as RUNNER_VERB, serve as serve_runner};
pub use scribe::Manifest;
pub use shipments::{Loader, Shipments, pending_of};
pub use stats::{Deleted, Stats, Trouble};
pub use writers::{Error, Extras, Report, Setup, Writers, check, start, start_with};

#[cfg(test)]
pub(crate) mod tests;
