//! Flow logs: closed flows as records in files, named and laid out as AWS does it.
//!
//! Takes: closed flows ([`crate::flow::Closed`]), what is known apart from packets ([`Metadata`]: the JSON of `aws ec2
//! describe-network-interfaces`, AWS's `ip-ranges.json`), and a [`Config`]. Gives: files, `.log.gz` or `.log.parquet`, below one folder,
//! under the keys that they would have in a bucket, and offered for shipping where there is a destination. Holds: a file with its final name is
//! whole and was synced first; none is overwritten; every record that was given is in a file that was or will be
//! published, or counted as lost; what a kill leaves is recovered up to its last second.
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
mod community;
mod config;
mod desk;
mod enis;
mod error;
mod file;
mod interface;
mod interfaces;
mod key;
mod log;
mod metadata;
mod meter;
mod outbox;
mod publish;
mod recover;
mod resolver;
mod retain;
mod services;
mod setup;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod windows;
mod work;

pub use community::community_id;
pub use config::{Config, ConfigError, FileFormat, Keep, Packets};
pub use desk::{Ask, Losses, Lost, Running, start};
pub use enis::Eni;
pub use error::Error;
pub use interface::Interface;
pub use interfaces::Interfaces;
pub use key::{BUCKET, Layout};
pub use log::{Counts, Log};
pub use metadata::{Metadata, MetadataError};
pub use meter::{Counted, Meter, Sight};
pub use recover::{Leftovers, Recovered};
pub use services::Services;
pub use setup::{MOST, Problem, Setup, may_become};
pub use stats::{Stats, Summary};
