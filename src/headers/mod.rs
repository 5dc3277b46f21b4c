//! One walk over an inner frame, from Ethernet to the transport header.
//!
//! Takes: the bytes of a frame, however cut, and what they begin with (Ethernet for mirrored frames;
//! captures know other [`Link`]s). Gives: [`Headers`]: flow key, length on the wire, offsets, and the
//! facts of the layers. Holds: never fails, never reads outside the frame, never allocates; a frame
//! that stops making sense at layer N is known to layer N.
//!
//! The walk ends at the first IP header and what it carries: a tunnel inside (IP in IP, GRE, VXLAN) is
//! the payload of its outer packet. Labels and session headers below IP (802.1Q, MPLS with or without
//! an Ethernet pseudo-wire, PPPoE, LLC/SNAP) are walked through, as Wireshark does.

mod facts;
mod ip;
mod link;
mod other;
#[cfg(test)]
mod tests;
mod transport;

pub use facts::{FlowKey, Fragment, Gist, Headers, Icmp, Labels, Layer, Outline, Vlans};
pub use other::Link;

/// EtherTypes, as IEEE lists them.
pub mod ether {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// RARP, which has the form of ARP.
    pub const RARP: u16 = 0x8035;
    /// A customer VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// MPLS.
    pub const MPLS: u16 = 0x8847;
    /// MPLS with an upstream-assigned label (once: multicast).
    pub const MPLS_UPSTREAM: u16 = 0x8848;
    /// A PPPoE session.
    pub const PPPOE: u16 = 0x8864;
    /// A service VLAN tag (802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// A service VLAN tag from before 802.1ad.
    pub const OLD_SERVICE_VLAN: u16 = 0x9100;
}

/// IP protocol numbers, as IANA lists them.
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Walks over an Ethernet frame.
pub fn walk(frame: &[u8]) -> Headers {
    link::outermost(frame, |headers| headers)
}

/// Walks over an Ethernet frame for what a worker needs.
#[inline]
pub fn gist(frame: &[u8]) -> Gist {
    link::outermost(frame, |headers| Gist::from(&headers))
}

/// Walks over an Ethernet frame for what a worker and a flow record need.
#[inline]
pub fn outline(frame: &[u8]) -> Outline {
    link::outermost(frame, |headers| Outline::from(&headers))
}

/// [`Headers::wire_len`] of an Ethernet frame, for those who want nothing else.
#[inline]
pub fn wire_len(frame: &[u8]) -> u32 {
    match be16(frame, 12) {
        Some(ether::IPV4) => ip::v4_wire_len(frame, 14),
        Some(ether::IPV6) => ip::v6_wire_len(frame, 14),
        _ => walk(frame).wire_len,
    }
}

/// Walks over a bare IPv4 or IPv6 packet.
pub fn walk_ip(packet: &[u8]) -> Headers {
    walk_link(Link::Ip, packet)
}

/// Walks over a frame of any known kind of link.
pub fn walk_link(link: Link, frame: &[u8]) -> Headers {
    other::walk(link, frame)
}

/// The destination address of an Ethernet frame.
pub fn destination_mac(frame: &[u8]) -> Option<[u8; 6]> {
    field(frame, 0).copied()
}

/// The source address of an Ethernet frame.
pub fn source_mac(frame: &[u8]) -> Option<[u8; 6]> {
    field(frame, 6).copied()
}

/// `N` bytes at `at`, where they are all there.
#[inline]
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// A big-endian 16-bit number at `at`, where it is there.
#[inline]
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(|b| u16::from_be_bytes(*b))
}
