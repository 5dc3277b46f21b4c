//! Mirror sessions: whose packet this is, and what is wanted of it.
//!
//! Takes: the `[[session]]` tables of the configuration. Gives: for an (endpoint, outer source, VNI) its
//! [`Peer`](crate::packet::Peer) and its [`Session`]: filter, packet length, and the [`Target`] that its packets go to. Holds: what is
//! known of a session or a peer (ledger, learnt MAC address) outlives every reload; a [`Snapshot`] is immutable
//! and swapped whole.
//!
//! A VNI is no session: users give many ENIs the same one. A session is found by outer source and VNI, then by
//! VNI alone, then by source alone, and what none claims is kept under the name `vni-N`.

mod config;
mod direction;
mod index;
mod seats;
mod snapshot;
mod table;

use std::sync::Arc;

pub use config::{Config, Mac, OutputConfig, Unknown, VniRange, Vnis};
pub use direction::Learner;
pub use seats::{Seat, Seats};
pub use snapshot::{Error, Snapshot};
pub use table::{Keep, Key, MAX_PEERS, MAX_UNKNOWN, Table};

use crate::filter::Filter;
use crate::metrics::Counter;
use crate::packet::Ledger;
use crate::spool::Target;

/// A mirror session as the configuration describes it now.
#[derive(Debug)]
pub struct Session {
    /// Its name, and the stem of its files.
    pub name: Arc<str>,
    /// What is kept.
    pub filter: Filter,
    /// Hits of each rule of the filter.
    pub rule_hits: Vec<Counter>,
    /// Bytes kept of each packet, counted behind the VXLAN header as AWS counts `PacketLength`.
    pub packet_length: Option<u32>,
    /// MAC addresses and IP addresses of its ENIs, where they are configured.
    pub learner: Learner,
    /// Where its packets go; `None` for packets of unknown sessions that are to be dropped.
    pub target: Option<Arc<Target>>,
    /// What came and where it ended.
    pub ledger: Arc<Ledger>,
}
