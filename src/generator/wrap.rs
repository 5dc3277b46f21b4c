//! Wrapping: an inner Ethernet frame becomes the UDP payload that AWS would send for it.
//!
//! Two shapes: VXLAN alone (targets that are a network interface or a Network Load Balancer), and GENEVE
//! with IPv4, UDP and VXLAN inside (Gateway Load Balancer). A frame that is too long is cut as AWS cuts
//! it: at its end, to the MTU of the encapsulated IP packet or to the session's `PacketLength`, and all
//! lengths describe what is left.

use std::net::Ipv4Addr;

use crate::packet::{Endpoint, Vni};

const VXLAN_PORT: u16 = 4789;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const VXLAN: usize = 8;
/// Outer UDP, GENEVE and its options: what a Gateway Load Balancer adds, without the outer IP header.
const GENEVE: usize = UDP + 8 + 32;

/// What lies around the inner frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Shape {
    /// VXLAN: what a network interface or a Network Load Balancer target receives.
    #[default]
    Vxlan,
    /// GENEVE, IPv4, UDP and VXLAN: what comes from a Gateway Load Balancer.
    Gwlb(Gwlb),
}

impl Shape {
    /// The UDP port that this shape is sent to.
    pub const fn port(self) -> u16 {
        match self {
            Self::Vxlan => VXLAN_PORT,
            Self::Gwlb(_) => 6081,
        }
    }
}

/// What the middle headers of a Gateway Load Balancer say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gwlb {
    /// The mirrored ENI: source of the middle IPv4 header.
    pub mirrored: Ipv4Addr,
    /// Address of the Gateway Load Balancer endpoint: destination of the middle IPv4 header.
    pub endpoint_address: Ipv4Addr,
    /// Id of the endpoint's ENI (option type 1).
    pub endpoint: Endpoint,
    /// Attachment id (option type 2).
    pub attachment: u64,
    /// Flow cookie (option type 3).
    pub cookie: u32,
}

impl Default for Gwlb {
    fn default() -> Self {
        Self {
            mirrored: Ipv4Addr::new(10, 0, 1, 10),
            endpoint_address: Ipv4Addr::new(10, 0, 3, 30),
            endpoint: Endpoint(0x2b8e_e1d4_db0c_51c4),
            attachment: 0x0011_2233_4455_6677,
            cookie: 0xdead_beef,
        }
    }
}

/// Wraps frames in one [`Shape`], cutting those that do not fit.
#[derive(Clone, Copy, Debug)]
pub struct Wrapper {
    shape: Shape,
    room: usize,
}

impl Wrapper {
    /// A wrapper for an outer header of IPv6 or IPv4. `mtu` limits the encapsulated IP packet (of the
    /// Gateway Load Balancer shape: the middle one, as its own headers come on top), `packet_length` the
    /// bytes behind the VXLAN header. Without limits a frame is cut only where no IP packet could hold it.
    pub fn new(shape: Shape, ipv6: bool, mtu: Option<u16>, packet_length: Option<u32>) -> Self {
        let outer_ip = if ipv6 { IPV6 } else { IPV4 };
        let (ip, added) = match shape {
            Shape::Vxlan => (outer_ip, 0),
            Shape::Gwlb(_) => (IPV4, outer_ip + GENEVE),
        };
        let largest = usize::from(u16::MAX) - added;
        let mtu = mtu.map_or(largest, |mtu| usize::from(mtu).min(largest));
        let room = mtu.saturating_sub(ip + UDP + VXLAN);
        let length = packet_length.map_or(room, |length| length as usize);
        Self {
            shape,
            room: room.min(length),
        }
    }

    /// The most bytes of a frame that it keeps.
    pub const fn room(&self) -> usize {
        self.room
    }

    /// Appends the UDP payload for `frame` to `out` and returns how many bytes of the frame it holds.
    /// `port` is the source port of the middle UDP header, if there is one.
    pub fn append(&self, vni: Vni, port: u16, frame: &[u8], out: &mut Vec<u8>) -> usize {
        let kept = frame.get(..self.room).unwrap_or(frame);
        self.head(vni, port, kept.len(), out);
        out.extend_from_slice(kept);
        kept.len()
    }

    /// Appends what stands before `kept` bytes of a frame.
    pub(crate) fn head(&self, vni: Vni, port: u16, kept: usize, out: &mut Vec<u8>) {
        if let Shape::Gwlb(gwlb) = &self.shape {
            geneve(gwlb, out);
            middle(gwlb, port, kept, out);
        }
        let [_, a, b, c] = vni.value().to_be_bytes();
        out.extend_from_slice(&[0x08, 0, 0, 0, a, b, c, 0]);
    }
}

/// GENEVE version 0 with eight words of options, carrying IPv4, VNI 0.
fn geneve(gwlb: &Gwlb, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x08, 0, 0x08, 0, 0, 0, 0, 0]);
    option(1, &gwlb.endpoint.0.to_be_bytes(), out);
    option(2, &gwlb.attachment.to_be_bytes(), out);
    option(3, &gwlb.cookie.to_be_bytes(), out);
}

/// An option of Amazon's class.
fn option(kind: u8, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x01, 0x08, kind, (data.len() / 4) as u8]);
    out.extend_from_slice(data);
}

/// IPv4 and UDP as the mirrored ENI sent them towards the endpoint. `kept` is at most the wrapper's room,
/// so the lengths fit.
fn middle(gwlb: &Gwlb, port: u16, kept: usize, out: &mut Vec<u8>) {
    let udp_len = (UDP + VXLAN + kept) as u16;
    let mut ip = [0; IPV4];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(IPV4 as u16 + udp_len).to_be_bytes());
    ip[8] = 255;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&gwlb.mirrored.octets());
    ip[16..].copy_from_slice(&gwlb.endpoint_address.octets());
    let checksum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(&ip);
    for word in [port, VXLAN_PORT, udp_len, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// The sum of the 16-bit words of `bytes`, an odd last byte counting as a high one.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks();
    let whole: u32 = words
        .iter()
        .map(|w| u32::from(u16::from_be_bytes(*w)))
        .sum();
    whole + rest.first().map_or(0, |&b| u32::from(b) << 8)
}

/// The one's complement sum that a sum of words stands for.
pub(crate) const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrapped(wrapper: Wrapper, frame: &[u8]) -> (usize, Vec<u8>) {
        let mut out = Vec::new();
        let kept = wrapper.append(Vni::new(1234), 65474, frame, &mut out);
        (kept, out)
    }

    #[test]
    fn a_frame_is_cut_so_that_the_encapsulated_packet_meets_the_mtu() {
        let frame = [7; 9000];
        for (ipv6, kept) in [(false, 1500 - 20 - 8 - 8), (true, 1500 - 40 - 8 - 8)] {
            let (n, out) = wrapped(Wrapper::new(Shape::Vxlan, ipv6, Some(1500), None), &frame);
            assert_eq!((n, out.len()), (kept, 8 + kept));
        }
        let gwlb = Shape::Gwlb(Gwlb::default());
        let (n, out) = wrapped(Wrapper::new(gwlb, false, Some(1500), None), &frame);
        assert_eq!(n, 1464);
        assert_eq!(out[42..44], 1500_u16.to_be_bytes(), "middle IPv4 length");
        assert_eq!(out[64..66], 1480_u16.to_be_bytes(), "middle UDP length");
    }

    #[test]
    fn packet_length_counts_the_bytes_behind_the_vxlan_header() {
        let wrapper = Wrapper::new(Shape::Vxlan, false, Some(1500), Some(96));
        assert_eq!(wrapped(wrapper, &[7; 300]).0, 96);
        assert_eq!(wrapped(wrapper, &[7; 95]).0, 95);
        let mtu_is_less = Wrapper::new(Shape::Vxlan, false, Some(100), Some(96));
        assert_eq!(mtu_is_less.room(), 64);
    }

    #[test]
    fn a_frame_that_no_ip_packet_holds_is_cut_to_the_largest_one() {
        let frame = vec![0; 100_000];
        let (kept, out) = wrapped(Wrapper::new(Shape::Vxlan, false, None, None), &frame);
        assert_eq!(20 + 8 + out.len(), 65_535);
        assert_eq!(kept, 65_499);
        let gwlb = Shape::Gwlb(Gwlb::default());
        let (_, out) = wrapped(Wrapper::new(gwlb, true, None, None), &frame);
        assert_eq!(40 + 8 + out.len(), 65_535);
    }

    proptest! {
        #[test]
        fn the_frame_is_kept_from_its_start_and_the_lengths_describe_it(
            frame in proptest::collection::vec(any::<u8>(), 0..3000),
            mtu in proptest::option::of(0_u16..4000),
            length in proptest::option::of(0_u32..4000),
        ) {
            let gwlb = Wrapper::new(Shape::Gwlb(Gwlb::default()), false, mtu, length);
            let (kept, out) = wrapped(gwlb, &frame);
            prop_assert_eq!(&out[76..], &frame[..kept]);
            prop_assert_eq!(usize::from(u16::from_be_bytes([out[42], out[43]])), kept + 36);
            prop_assert_eq!(fold(sum(&out[40..60])), 0xffff, "middle IPv4 checksum");
        }
    }
}
