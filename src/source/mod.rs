//! Where datagrams come from.
//!
//! Takes: sockets or capture files. Gives: batches of [`Datagram`](crate::packet::Datagram)s: the UDP
//! payloads with outer source, port, time and order. Holds: everything that a source was given is either a
//! datagram in the batch or counted in `Batch::refused`; what the kernel lost before is in
//! [`udp::Facts`], never guessed.

mod fragments;
mod outer;
pub mod replay;
pub mod udp;

use std::net::{Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::packet::{Batch, Ports};
use crate::units::Size;

/// The `[source]` table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Kind of source. `udp` needs no privilege.
    pub kind: Kind,
    /// Addresses and ports to listen on. `[::]` takes IPv4 too. Add `"[::]:6081"` for a Gateway Load Balancer.
    pub listen: Vec<SocketAddr>,
    /// The VXLAN port.
    pub vxlan_port: u16,
    /// The GENEVE port. On a listening port that is neither, the two are told apart by their shape.
    pub geneve_port: u16,
    /// Receive buffer asked of the kernel, each socket. Beyond `net.core.rmem_max` it takes CAP_NET_ADMIN.
    pub receive_buffer: Size,
}

/// Kinds of live sources.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// UDP sockets.
    #[default]
    Udp,
}

impl Kind {
    /// Its name in configuration, status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let ports = Ports::default();
        Self {
            kind: Kind::default(),
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, ports.vxlan))],
            vxlan_port: ports.vxlan,
            geneve_port: ports.geneve,
            receive_buffer: Size(64 << 20),
        }
    }
}

impl Config {
    /// The tunnel ports.
    pub fn ports(&self) -> Ports {
        Ports {
            vxlan: self.vxlan_port,
            geneve: self.geneve_port,
        }
    }
}

/// What one call of [`Source::receive`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// The batch holds something (datagrams or refusals).
    Some,
    /// Nothing came within the source's waiting time; `Batch::order` is still set.
    Nothing,
    /// Nothing will ever come again (end of a replay).
    End,
}

/// A receiver's supply of datagrams. Two kinds live behind it: sockets and capture files.
pub trait Source: Send {
    /// Fills `batch`, which is empty, and sets its `order`. Waits a bounded time (some tens of
    /// milliseconds at most) for the first datagram.
    ///
    /// # Errors
    /// When the source can't be read any more (socket error, damaged file); what was read before is
    /// in earlier batches.
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received>;

    /// Whether packets will soon be lost unless the source is read: asked while every batch is still
    /// with the workers. Files never press.
    fn under_pressure(&mut self) -> bool;

    /// Whether what is not read in time is lost: true for sockets, false for files.
    fn runs_away(&self) -> bool;

    /// Ends the intake: nothing new is taken, what has already arrived is still given, then
    /// [`Received::End`].
    fn stop(&mut self);

    /// A batch of the right shape for this source.
    fn new_batch(&self, receiver: u16) -> Batch;
}
