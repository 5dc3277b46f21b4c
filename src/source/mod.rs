//! Where datagrams come from.
//!
//! Takes: sockets, rings or capture files. Gives: batches of [`Datagram`](crate::packet::Datagram)s: the UDP
//! payloads with outer source, port, time and order. Holds: everything that a source was given is either a
//! datagram in the batch or counted in `Batch::refused`; what the kernel lost before is in
//! [`Facts`], never guessed.

mod allowed;
mod facts;
mod fragments;
pub mod ingress;
pub mod interfaces;
mod matcher;
mod naps;
mod outer;
pub mod packet;
pub mod passed;
pub mod replay;
mod strangers;
pub mod synthetic;
pub mod udp;
mod watermark;
pub mod xdp;

pub use allowed::Allowed;
pub use facts::{Clock, Facts, place};
pub use strangers::{Refused, Strangers};

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::packet::{Batch, Ports};
use crate::units::{Interval, Size, networks};

/// The longest `latency`: receivers rest for most of it, and may not look dead meanwhile.
pub const LONGEST_LATENCY: Duration = Duration::from_secs(1);
/// How long a source is read after the stop was asked for, whatever it still holds.
const DRAIN: Duration = Duration::from_secs(5);

/// The `[source]` table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Kind of source. `udp` needs no privilege.
    pub kind: Kind,
    /// Interfaces that `packet` and `xdp` read. None: those that have the addresses listened on, or, for addresses
    /// like `[::]`, the one of the default route.
    pub interface: Vec<String>,
    /// Addresses and ports to listen on. `[::]` takes IPv4 too. Add `"[::]:6081"` for a Gateway Load Balancer.
    pub listen: Vec<SocketAddr>,
    /// Networks that datagrams may come from, by the address of whoever sent them. None: everybody. A reload changes it.
    #[serde(deserialize_with = "networks")]
    pub allowed_sources: Vec<IpNet>,
    /// The VXLAN port.
    pub vxlan_port: u16,
    /// The GENEVE port. On a listening port that is neither, the two are told apart by their shape.
    pub geneve_port: u16,
    /// Receive buffer asked of the kernel, each socket or ring. A socket's beyond `net.core.rmem_max` takes CAP_NET_ADMIN.
    pub receive_buffer: Size,
    /// The longest that a packet may wait between its arrival and the sink at loads that can be borne. Longer saves CPU.
    pub latency: Interval,
    /// Which clock packet times come from.
    pub timestamps: Timestamps,
}

/// Clocks to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timestamps {
    /// The kernel's.
    #[default]
    Kernel,
    /// The network card's, where it has one; else the kernel's, with a warning.
    Hardware,
}

/// Kinds of live sources.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// UDP sockets: no privilege, any interface.
    #[default]
    Udp,
    /// AF_PACKET rings: about twice the rate; needs CAP_NET_RAW.
    Packet,
    /// AF_XDP: the fastest, where the driver has it; needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF.
    Xdp,
    /// The fastest of these that privileges, driver and MTU allow.
    Auto,
}

impl Kind {
    /// Its name in configuration, status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Packet => "packet",
            Self::Xdp => "xdp",
            Self::Auto => "auto",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let ports = Ports::default();
        Self {
            kind: Kind::default(),
            interface: Vec::new(),
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, ports.vxlan))],
            allowed_sources: Vec::new(),
            vxlan_port: ports.vxlan,
            geneve_port: ports.geneve,
            receive_buffer: Size(64 << 20),
            latency: Interval(Duration::from_millis(1)),
            timestamps: Timestamps::default(),
        }
    }
}

impl Config {
    /// What is wrong beyond what the types say: the key, and what to do about it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut list = Vec::new();
        if self.listen.is_empty() {
            let message = "no address to listen on; \"[::]:4789\" takes IPv4 and IPv6";
            list.push(("listen", message.to_owned()));
        }
        for (i, one) in self.listen.iter().enumerate() {
            let others = self.listen.iter().skip(i + 1);
            list.extend(others.filter(|other| overlap(one, other)).map(|other| {
                let message = format!(
                    "\"{one}\" and \"{other}\" take the same datagrams; leave one of them out"
                );
                ("listen", message)
            }));
        }
        if self.latency.duration() > LONGEST_LATENCY {
            let message = "a packet may be made to wait for at most 1s; \"1ms\" is usual";
            list.push(("latency", message.to_owned()));
        }
        list
    }

    /// The tunnel ports.
    pub fn ports(&self) -> Ports {
        Ports {
            vxlan: self.vxlan_port,
            geneve: self.geneve_port,
        }
    }
}

/// Whether two addresses to listen on take some datagrams both, so that only one can be had. Of port 0 each is another.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let takes = |any: &SocketAddr, other: &SocketAddr| match any.ip().to_canonical() {
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => other.ip().to_canonical().is_ipv4(),
        ip => ip == other.ip().to_canonical(),
    };
    a.port() != 0 && a.port() == b.port() && (takes(a, b) || takes(b, a))
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

/// A receiver's supply of datagrams: a socket, a ring, or capture files.
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

    /// Takes back what it lent to a batch that nobody uses any more; called for each such batch before every
    /// [`receive`](Self::receive). Sources that lend nothing have nothing to do.
    fn reclaim(&mut self, batch: &mut Batch) {
        batch.take_lease();
    }
}
