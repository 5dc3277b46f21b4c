//! Flow logs: closed flows as records in files, named and laid out as AWS does it.
//!
//! Takes: closed flows ([`crate::flow::Closed`]), what is known of interfaces ([`Interface`], also from the JSON of `aws ec2
//! describe-network-interfaces`), and a [`Config`]. Gives: files of text, `.log.gz`, below one folder, under the keys
//! that they would have in a bucket. Holds: a file with its final name is whole and was synced first; none is
//! overwritten; every record that was given is in a file that was or will be published, or counted as lost.
//!
//! ```text
//! worker: Meter ─ Table ─ Outbox ─┐
//! worker: Meter ─ Table ─ Outbox ─┼─ parcels ─► Desk ─► Book ─► Log ─► files
//! worker: Meter ─ Table ─ Outbox ─┘             losses ─► SKIPDATA
//! ```
//!
//! A [`Meter`] for each worker puts packets into tables; one thread, the desk, makes records of what they close. Workers never wait for it
//! where packets run away.

mod book;
mod config;
mod desk;
mod enis;
mod file;
mod interface;
mod key;
mod log;
mod meter;
mod outbox;
mod setup;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod windows;

pub use config::{Config, ConfigError, FileFormat, Keep, Packets};
pub use desk::{Ask, Losses, Running, start};
pub use enis::Eni;
pub use interface::{Interface, from_json};
pub use key::{BUCKET, Layout};
pub use log::{Counts, Error, Log};
pub use meter::{Counted, Meter, Sight};
pub use setup::{MOST, Problem, Setup, may_become};
pub use stats::{Stats, Summary};
