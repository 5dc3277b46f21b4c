//! Flow logs: closed flows as records in files, named and laid out as AWS does it.
//!
//! Takes: closed flows ([`crate::flow::Closed`]), what is known of interfaces ([`Interface`], also from the JSON of `aws ec2
//! describe-network-interfaces`), and a [`Config`]. Gives: files of text, `.log.gz`, below one folder, under the keys
//! that they would have in a bucket. Holds: a file with its final name is whole and was synced first; none is
//! overwritten; every record that was given is in a file that was or will be published, or counted as lost.
//!
//! No sensor feeds it yet.

mod config;
mod file;
mod interface;
mod key;
mod log;
#[cfg(test)]
mod tests;

pub use config::{Config, ConfigError, FileFormat, Keep, Packets};
pub use interface::{Interface, from_json};
pub use key::{BUCKET, Layout};
pub use log::{Counts, Error, Log};
