//! CloudWatch Logs: the lines of a file of records as events.
//!
//! A file is read from its beginning, and its lines go into batches, one after the other (`batch`). The same file always gives the same batches, so a
//! number is all that has to be kept of how far it has come (`progress`): after a restart at most one batch goes twice. What CloudWatch Logs would not have, because it is too old
//! or too large, is not sent, and what it takes without keeping is counted too: a request that succeeds says in passing which events are lost.

mod batch;
mod events;
mod group;
mod progress;
mod ship;
#[cfg(test)]
mod tests;

pub use ship::{Logs, Tally};
