//! What is known of a live source, for logs, status and metrics.
//!
//! Takes: what the source finds out while it opens and runs. Gives: [`Facts`], readable from any thread while a
//! receiver owns the source. Holds: what the kernel lost is counted by place, and never guessed.

use std::net::SocketAddr;

use crate::metrics::{Counter, Gauge};
use crate::source::Kind;

/// Where the kernel loses packets: the names in the ledger, in metrics and in docs/metrics.md.
pub mod place {
    /// A UDP socket's buffer was full (or a checksum was bad).
    pub const SOCKET: &str = "socket";
    /// What came to a UDP socket after the stop was asked for.
    pub const AFTER_STOP: &str = "after_stop";
    /// Every block of a packet ring was full.
    pub const RING: &str = "ring";
    /// AF_XDP: the receive ring was full.
    pub const XDP_RX_FULL: &str = "xdp_rx_full";
    /// AF_XDP: no frame was free to receive into.
    pub const XDP_FILL_EMPTY: &str = "xdp_fill_empty";
    /// AF_XDP: dropped for another reason (a packet larger than the frames, say).
    pub const XDP_OTHER: &str = "xdp_other";
}

/// Which clock packet times come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Clock {
    /// The kernel's, when it first saw the packet.
    #[default]
    Kernel,
    /// The network card's.
    Hardware,
}

impl Clock {
    /// Its name in status, metrics and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Hardware => "hardware",
        }
    }
}

/// What is known of one source: a socket, a ring, an AF_XDP queue.
#[derive(Debug)]
pub struct Facts {
    /// Its kind; never `auto`.
    pub kind: Kind,
    /// What it reads, for people: `0.0.0.0:4789`, `eth0`, `eth0 queue 2`.
    pub name: String,
    /// Addresses whose datagrams it takes.
    pub listen: Vec<SocketAddr>,
    /// The interface, where it is bound to one.
    pub interface: Option<String>,
    /// How it works, for people: `TPACKET_V3, 256 blocks of 256 KiB`, `native, zero-copy`.
    pub mode: String,
    /// Which clock packet times come from.
    pub clock: Clock,
    /// Packets that came without a time of that clock and have the kernel's.
    pub stray_times: Counter,
    /// Packets whose outer VLAN tag the network card took off.
    pub tagged: Counter,
    /// Receive buffer or ring asked for, in bytes.
    pub buffer_asked: u64,
    /// What was granted, in bytes, as the kernel accounts for it.
    pub buffer_granted: u64,
    /// Packets lost in the kernel, by [`place`].
    pub lost: Vec<(&'static str, Counter)>,
    /// Bytes waiting in the kernel, when last looked at.
    pub queued: Gauge,
}

impl Facts {
    /// Facts with nothing counted; the rest is for the source to fill in.
    pub fn new(kind: Kind, name: String, places: &[&'static str]) -> Self {
        Self {
            kind,
            name,
            listen: Vec::new(),
            interface: None,
            mode: String::new(),
            clock: Clock::default(),
            stray_times: Counter::new(),
            tagged: Counter::new(),
            buffer_asked: 0,
            buffer_granted: 0,
            lost: places.iter().map(|p| (*p, Counter::new())).collect(),
            queued: Gauge::new(),
        }
    }

    /// Counts packets that have a time of the other clock, and tells of the first.
    pub fn count_stray_times(&self, packets: u64) {
        if packets == 0 {
            return;
        }
        if self.stray_times.value() == 0 {
            tracing::warn!(
                source = self.name,
                timestamps = self.clock.name(),
                "A packet came without a time of this clock and has the other one's: times in the files are mixed. \
                 How many such there are is in /status and metrics."
            );
        }
        self.stray_times.add(packets);
    }

    /// Whether less was granted than asked for.
    pub fn is_clamped(&self) -> bool {
        self.buffer_granted < self.buffer_asked
    }

    /// Counts packets lost at a place that the facts were made with.
    pub fn lose(&self, place: &str, packets: u64) {
        let known = self.lost.iter().find(|(p, _)| *p == place);
        if let Some((_, counter)) = known {
            counter.add(packets);
        }
    }

    /// Packets lost at a place.
    pub fn lost_at(&self, place: &str) -> u64 {
        let known = self.lost.iter().find(|(p, _)| *p == place);
        known.map_or(0, |(_, counter)| counter.value())
    }
}
