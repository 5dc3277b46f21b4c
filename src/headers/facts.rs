//! What a walk finds out.
//!
//! A fact that a frame does not state, or that was cut off, is `None`; offsets count from the first
//! byte of the frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The 5-tuple of a packet, as it was sent (not ordered).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowKey {
    /// Source address; an IPv4 address fills the first four bytes.
    pub src: [u8; 16],
    /// Destination address; an IPv4 address fills the first four bytes.
    pub dst: [u8; 16],
    /// 4, 6, or 0 when the frame holds no IP.
    pub version: u8,
    /// IP protocol number (for IPv6 behind the extension headers, as far as they could be read).
    pub proto: u8,
    /// Source port; 0 where there is none or it was cut off.
    pub sport: u16,
    /// Destination port; 0 where there is none or it was cut off.
    pub dport: u16,
}

impl FlowKey {
    /// The source address, if the frame holds IP.
    pub fn source(&self) -> Option<IpAddr> {
        address(self.version, self.src)
    }

    /// The destination address, if the frame holds IP.
    pub fn destination(&self) -> Option<IpAddr> {
        address(self.version, self.dst)
    }
}

fn address(version: u8, bytes: [u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, ..] = bytes;
    match version {
        4 => Some(Ipv4Addr::new(a, b, c, d).into()),
        6 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

/// How far a walk got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Layer {
    /// Not even the link header is whole.
    #[default]
    Nothing,
    /// The link header is known; what it carries is unknown, cut off or nonsense.
    Link,
    /// An IP (or ARP) header was read.
    Network,
    /// The ports, type and code, or first words of a known transport were read.
    Transport,
}

/// A piece of a fragmented packet. An IPv6 packet may carry a fragment header and be whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Fragment {
    /// The sender's number for the packet.
    pub id: u32,
    /// Where in the packet this piece belongs, in bytes.
    pub offset: u16,
    /// Whether more pieces follow.
    pub more: bool,
}

/// What an ICMP or ICMPv6 message is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Icmp {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
}

/// The VLAN ids of a frame, outermost first; at most four.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Vlans {
    ids: [u16; Self::MOST],
    count: u8,
}

impl Vlans {
    /// Tags that a walk goes through.
    pub const MOST: usize = 4;

    /// The ids.
    pub fn ids(&self) -> &[u16] {
        self.ids.get(..usize::from(self.count)).unwrap_or(&self.ids)
    }

    /// Adds the id of a tag; false when there is no room.
    pub(super) fn push(&mut self, id: u16) -> bool {
        let Some(slot) = self.ids.get_mut(usize::from(self.count)) else {
            return false;
        };
        *slot = id;
        self.count += 1;
        true
    }
}

/// Where the MPLS label stack of a frame lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Labels {
    pub(super) at: u16,
    pub(super) count: u8,
}

impl Labels {
    /// Labels that a walk goes through.
    pub const MOST: usize = 16;

    /// How many labels there are.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The labels, outermost first, of the frame that was walked over.
    pub fn of<'a>(&self, frame: &'a [u8]) -> impl Iterator<Item = u32> + use<'a> {
        let stack = frame.get(usize::from(self.at)..).unwrap_or_default();
        let (entries, _) = stack.as_chunks::<4>();
        entries
            .iter()
            .take(self.count())
            .map(|entry| u32::from_be_bytes(*entry) >> 12)
    }
}

/// What a frame says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Headers {
    /// The flow key.
    pub key: FlowKey,
    /// Bytes that the frame had on the wire, from the IP length and what stands before IP; the bytes
    /// present where there is no IP, or it claims less (Ethernet padding is no loss) or a length of
    /// zero (a packet caught before segmentation; also an IPv6 jumbogram).
    pub wire_len: u32,
    /// How far the walk got.
    pub reached: Layer,
    /// The frame ends before what its headers announce.
    pub truncated: bool,
    /// Whether the key's ports were read; where not, they are 0.
    pub has_ports: bool,
    /// EtherType behind the VLAN tags, of the outermost Ethernet header; behind LLC/SNAP its protocol;
    /// none for 802.3 frames of other kinds and on links without EtherTypes.
    pub eth_type: Option<u16>,
    /// VLAN ids.
    pub vlans: Vlans,
    /// MPLS labels.
    pub labels: Labels,
    /// Offset of the IP or ARP header.
    pub network: Option<u16>,
    /// Offset of what the IP header (with options and extension headers) carries; none in fragments
    /// but the first.
    pub transport: Option<u16>,
    /// Offset of what the transport carries; of the whole where the transport is unknown; in fragments
    /// but the first, of their piece. None where the transport header is not whole.
    pub payload: Option<u16>,
    /// The 12 bits around the TCP flags: FIN is 0x001, CWR 0x080, AE 0x100.
    pub tcp_flags: Option<u16>,
    /// ICMP or ICMPv6 type and code.
    pub icmp: Option<Icmp>,
    /// ARP operation: 1 is a request, 2 a reply.
    pub arp: Option<u16>,
    /// Fragmentation: of IPv4 packets that are fragments, of IPv6 packets with a fragment header.
    pub fragment: Option<Fragment>,
}

impl Headers {
    /// Source and destination port, where the packet has ports and they were not cut off.
    pub fn ports(&self) -> Option<(u16, u16)> {
        self.has_ports.then_some((self.key.sport, self.key.dport))
    }

    /// Whether this is a piece of a larger packet: the pieces of a packet share only addresses,
    /// protocol and fragment id, not the ports.
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.more || f.offset != 0)
    }
}

/// What a worker needs to know of every packet. To find out no more spares a third of the walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gist {
    /// The flow key.
    pub key: FlowKey,
    /// Bytes that the frame had on the wire.
    pub wire_len: u32,
    /// Whether the key's ports were read.
    pub has_ports: bool,
}

impl From<&Headers> for Gist {
    #[inline(always)]
    fn from(headers: &Headers) -> Self {
        Self {
            key: headers.key,
            wire_len: headers.wire_len,
            has_ports: headers.has_ports,
        }
    }
}

impl Gist {
    /// Source and destination port, where the packet has ports and they were not cut off.
    pub fn ports(&self) -> Option<(u16, u16)> {
        self.has_ports.then_some((self.key.sport, self.key.dport))
    }
}

/// What a flow record needs to know of a packet: the gist and a little more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outline {
    /// What a worker needs to know of every packet.
    pub gist: Gist,
    /// Offset of the IP header; 0 where there is none.
    pub network: u16,
    /// The 12 bits around the TCP flags; 0 where there are none.
    pub tcp_flags: u16,
    /// Fragmentation, as in [`Headers::fragment`].
    pub fragment: Option<Fragment>,
}

impl From<&Headers> for Outline {
    #[inline(always)]
    fn from(headers: &Headers) -> Self {
        Self {
            gist: Gist::from(headers),
            network: headers.network.unwrap_or_default(),
            tcp_flags: headers.tcp_flags.unwrap_or_default(),
            fragment: headers.fragment,
        }
    }
}

impl Outline {
    /// Whether the frame holds IP.
    pub fn is_ip(&self) -> bool {
        self.gist.key.version != 0
    }

    /// Whether this is a piece of a larger packet, as [`Headers::is_fragment`].
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.more || f.offset != 0)
    }
}

/// What was met on the way to IP. It travels down the walk; the [`Headers`] are made in one piece where
/// the walk ends, since a struct that is filled in bit by bit and then moved stalls the processor for
/// longer than the whole walk takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Below {
    pub(super) reached: Layer,
    pub(super) eth_type: Option<u16>,
    pub(super) vlans: Vlans,
    pub(super) labels: Labels,
}

impl Below {
    /// Behind a link header and nothing else.
    pub(super) const DIRECTLY: Self = Self {
        reached: Layer::Link,
        eth_type: None,
        vlans: Vlans {
            ids: [0; Vlans::MOST],
            count: 0,
        },
        labels: Labels { at: 0, count: 0 },
    };

    /// Once a link header is whole.
    #[inline(always)]
    pub(super) fn linked(self) -> Self {
        Self {
            reached: Layer::Link,
            ..self
        }
    }

    /// With an EtherType, unless an outer Ethernet header had one.
    #[inline(always)]
    pub(super) const fn named(self, kind: u16) -> Self {
        let eth_type = if self.labels.count == 0 {
            Some(kind)
        } else {
            self.eth_type
        };
        Self { eth_type, ..self }
    }

    /// Headers of a frame that is not understood any further.
    pub(super) fn stop(&self, frame: &[u8]) -> Headers {
        Headers {
            wire_len: length(frame),
            reached: self.reached,
            eth_type: self.eth_type,
            vlans: self.vlans,
            labels: self.labels,
            ..Headers::default()
        }
    }

    /// Headers of a frame that ends within a header.
    pub(super) fn cut(&self, frame: &[u8]) -> Headers {
        Headers {
            truncated: true,
            ..self.stop(frame)
        }
    }
}

/// The bytes present.
#[inline(always)]
pub(super) fn length(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).unwrap_or(u32::MAX)
}
