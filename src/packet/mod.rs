//! What travels: datagrams, mirrored packets, the batch that carries them, and the ledger they end in.
//!
//! Takes: bytes that a source received. Gives: [`Batch`] (an arena and the descriptors of what lies in
//! it), [`Packet`], [`Peer`], [`Ledger`], and the two closed lists [`DropReason`] and [`FilterReason`].
//! Holds: received = written + filtered + dropped for every [`Tally`] once nothing is in flight.

mod batch;
mod ledger;
mod lots;
mod peer;
mod ports;
mod reason;

pub use batch::{Batch, Datagram, LENT, Packet};
pub use ledger::{Judged, Ledger, Tally};
pub use peer::{Endpoint, Peer, Vni};
pub use ports::Ports;
pub use reason::{DropReason, FilterReason};
