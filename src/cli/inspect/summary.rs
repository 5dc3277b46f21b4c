//! What is gathered of a capture, packet by packet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::capfile::{LinkType, Record};
use crate::cli::inspect::packets::walk;
use crate::cli::inspect::tally::{Count, Tally};
use crate::cli::inspect::tunnel::Tunnel;
use crate::headers::Headers;
use crate::time::Timestamp;

/// What a packet is, by the highest layer that a walk can name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    /// An IP protocol.
    Ip(u8),
    /// An EtherType that is not IP.
    Ether(u16),
    /// Anything else.
    Other,
}

/// One end of a flow.
pub(super) type End = (IpAddr, u16);

/// A flow, both directions: its ends in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Flow {
    pub(super) proto: u8,
    pub(super) ends: [End; 2],
}

/// A silence between two packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) length: Duration,
    /// Number of the packet that ended it.
    pub(super) before: u64,
}

/// Times, and how they run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// Earliest and latest.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    /// Packets whose time the file does not tell (pcapng's simple packets): they count as the epoch.
    pub(super) unknown: u64,
    previous: Timestamp,
    pub(super) longest: Option<Gap>,
    /// Packets that are older than the one before them.
    pub(super) backwards: u64,
    pub(super) furthest_back: Option<Gap>,
}

/// What is in a capture.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) wire_bytes: u64,
    pub(super) smallest: Option<u32>,
    pub(super) largest: u32,
    /// Packets of which less is in the file than the file says was there.
    pub(super) cut_by_snaplen: u64,
    /// Packets that end before what their headers announce, though the file calls them whole.
    pub(super) cut_before: u64,
    pub(super) fragments: u64,
    pub(super) links: BTreeMap<LinkType, u64>,
    pub(super) times: Times,
    pub(super) kinds: Tally<Kind>,
    pub(super) flows: Tally<Flow>,
    pub(super) tunnels: Tally<Tunnel>,
}

impl Summary {
    /// Adds a packet.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let headers = walk(record);
        let wire_len = headers.wire_len.max(record.origlen);
        self.packets += 1;
        self.sizes(record, wire_len, headers.truncated);
        self.times.add(self.packets, record.time);
        self.fragments += u64::from(headers.is_fragment());
        *self.links.entry(record.link).or_default() += 1;
        self.kinds.add(Kind::of(&headers), wire_len);
        if let Some(flow) = Flow::of(&headers) {
            self.flows.add(flow, wire_len);
        }
        if let Some(tunnel) = Tunnel::of(&headers, record.data) {
            self.tunnels.add(tunnel, wire_len);
        }
    }

    fn sizes(&mut self, record: &Record<'_>, wire_len: u32, truncated: bool) {
        self.bytes += record.data.len() as u64;
        self.wire_bytes += u64::from(wire_len);
        self.smallest = Some(self.smallest.map_or(wire_len, |s| s.min(wire_len)));
        self.largest = self.largest.max(wire_len);
        if record.origlen as usize > record.data.len() {
            self.cut_by_snaplen += 1;
        } else if truncated {
            self.cut_before += 1;
        }
    }

    /// Different VNIs.
    pub(super) fn vnis(&self) -> usize {
        let tunnels = self.tunnels.top(usize::MAX);
        let mut vnis: Vec<_> = tunnels.iter().map(|(tunnel, _)| tunnel.vni).collect();
        vnis.sort_unstable();
        vnis.dedup();
        vnis.len()
    }

    /// Packets that came through a tunnel.
    pub(super) fn tunnelled(&self) -> u64 {
        let tunnels = self.tunnels.top(usize::MAX);
        let apart: u64 = tunnels.iter().map(|(_, count)| count.packets).sum();
        apart + self.tunnels.beyond.packets
    }

    /// Kinds of packets, most bytes first.
    pub(super) fn kinds(&self) -> Vec<(Kind, Count)> {
        self.kinds.top(usize::MAX)
    }
}

impl Times {
    pub(super) fn add(&mut self, n: u64, time: Timestamp) {
        if time == Timestamp::default() {
            self.unknown += 1;
            return;
        }
        let (first, last) = self.span.unwrap_or((time, time));
        if time < self.previous {
            self.backwards += 1;
            longer(&mut self.furthest_back, self.previous.since(time), n);
        } else if self.span.is_some() {
            // A silence ends with a packet later than all before.
            longer(&mut self.longest, time.since(last), n);
        }
        self.span = Some((first.min(time), last.max(time)));
        self.previous = time;
    }
}

fn longer(gap: &mut Option<Gap>, length: Duration, before: u64) {
    if gap.is_none_or(|g| length > g.length) {
        *gap = Some(Gap { length, before });
    }
}

impl Kind {
    fn of(headers: &Headers) -> Self {
        match (headers.key.version, headers.eth_type) {
            (0, Some(kind)) => Self::Ether(kind),
            (0, None) => Self::Other,
            _ => Self::Ip(headers.key.proto),
        }
    }
}

impl Flow {
    /// The flow of an IP packet; pieces of a packet have no ports, so that they stay together.
    fn of(headers: &Headers) -> Option<Self> {
        let key = &headers.key;
        let (sport, dport) = if headers.is_fragment() {
            (0, 0)
        } else {
            (key.sport, key.dport)
        };
        let mut ends = [(key.source()?, sport), (key.destination()?, dport)];
        ends.sort_unstable();
        Some(Self {
            proto: key.proto,
            ends,
        })
    }
}
