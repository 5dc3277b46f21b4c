//! Whole outer packets, from Ethernet on, for capture files: as measured on mirrored traffic.
//!
//! IPv4 with TOS 0, identification 0, DF clear and TTL 255; a UDP checksum of zero. When the kernel
//! sends, it makes these headers instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, UdpHeader};

/// The outer headers around a UDP payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outer {
    /// MAC address of the VPC router.
    pub source_mac: [u8; 6],
    /// MAC address of the sensor.
    pub destination_mac: [u8; 6],
    ends: Ends,
    port: u16,
}

/// Source and destination, of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Outer {
    /// Headers from `source` to `to`, with made-up MAC addresses; `None` when one address is IPv4
    /// and the other IPv6.
    pub const fn new(source: IpAddr, to: SocketAddr) -> Option<Self> {
        let ends = match (source, to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ends::V4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => Ends::V6(from, to),
            _ => return None,
        };
        Some(Self {
            source_mac: [0x06, 0, 0, 0, 0, 0x01],
            destination_mac: [0x06, 0, 0, 0, 0, 0x02],
            ends,
            port: to.port(),
        })
    }

    /// Appends the packet that carries `payload` from `source_port`.
    pub fn append(&self, source_port: u16, payload: &[u8], out: &mut Vec<u8>) {
        let length = u16::try_from(UdpHeader::LEN + payload.len()).unwrap_or(u16::MAX);
        let udp = UdpHeader {
            source_port,
            destination_port: self.port,
            length,
            checksum: 0,
        };
        match self.ends {
            Ends::V4(from, to) => {
                out.extend_from_slice(&self.ethernet(EtherType::IPV4));
                out.extend_from_slice(&ipv4(from, to, length).to_bytes());
            }
            Ends::V6(from, to) => {
                out.extend_from_slice(&self.ethernet(EtherType::IPV6));
                out.extend_from_slice(&ipv6(from, to, length).to_bytes());
            }
        }
        out.extend_from_slice(&udp.to_bytes());
        out.extend_from_slice(payload);
    }

    fn ethernet(&self, ether_type: EtherType) -> [u8; Ethernet2Header::LEN] {
        let header = Ethernet2Header {
            source: self.source_mac,
            destination: self.destination_mac,
            ether_type,
        };
        header.to_bytes()
    }
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, payload_len: u16) -> Ipv4Header {
    let mut header = Ipv4Header {
        total_len: Ipv4Header::MIN_LEN_U16.saturating_add(payload_len),
        dont_fragment: false,
        time_to_live: 255,
        protocol: IpNumber::UDP,
        source: from.octets(),
        destination: to.octets(),
        ..Ipv4Header::default()
    };
    header.header_checksum = header.calc_header_checksum();
    header
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, payload_length: u16) -> Ipv6Header {
    Ipv6Header {
        payload_length,
        next_header: IpNumber::UDP,
        hop_limit: 255,
        source: from.octets(),
        destination: to.octets(),
        ..Ipv6Header::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Gwlb, Shape, Wrapper};
    use crate::packet::Vni;

    /// The inner frame of both examples: a TCP SYN with an MSS option.
    const INNER: &str = "02 11 22 33 44 55 02 aa bb cc dd ee 08 00 45 00 00 2c 30 39 40 00 3f 06 c4 7f \
        cb 00 71 09 0a 00 01 0a 91 3c 00 16 01 02 03 04 00 00 00 00 60 02 fa f0 c0 c9 00 00 02 04 05 b4";
    const VXLAN: &str = "06 00 00 00 02 14 06 00 00 00 02 01 08 00 45 00 00 5e 00 00 00 00 ff 11 a4 71 \
        0a 00 01 0a 0a 00 02 14 ff c2 12 b5 00 4a 00 00 08 00 00 00 00 04 d2 00";
    const GENEVE: &str = "06 00 00 00 64 64 06 00 00 00 64 32 08 00 45 00 00 a2 00 00 00 00 ff 11 a6 b3 \
        0a 01 00 32 0a 01 00 64 ea db 17 c1 00 8e 00 00 08 00 08 00 00 00 00 00 01 08 01 02 2b 8e e1 d4 \
        db 0c 51 c4 01 08 02 02 00 11 22 33 44 55 66 77 01 08 03 01 de ad be ef 45 00 00 5e 00 00 00 00 \
        ff 11 a3 67 0a 00 01 0a 0a 00 03 1e ff c2 12 b5 00 4a 00 00 08 00 00 00 00 04 d2 00";

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |b| u8::from_str_radix(b, 16).unwrap();
        hex.split_whitespace().map(byte).collect()
    }

    fn packet(shape: Shape, outer: Outer, port: u16) -> Vec<u8> {
        let (mut payload, mut packet) = (Vec::new(), Vec::new());
        let wrapper = Wrapper::new(shape, false, None, None);
        wrapper.append(Vni::new(1234), 65474, &bytes(INNER), &mut payload);
        outer.append(port, &payload, &mut packet);
        packet
    }

    #[test]
    fn the_worked_vxlan_example_is_made_byte_by_byte() {
        let source = "10.0.1.10".parse().unwrap();
        let outer = Outer {
            source_mac: [6, 0, 0, 0, 2, 1],
            destination_mac: [6, 0, 0, 0, 2, 0x14],
            ..Outer::new(source, "10.0.2.20:4789".parse().unwrap()).unwrap()
        };
        let made = packet(Shape::Vxlan, outer, 65474);
        assert_eq!(made.len(), 108);
        assert_eq!(made, [bytes(VXLAN), bytes(INNER)].concat());
    }

    #[test]
    fn the_worked_gateway_load_balancer_example_is_made_byte_by_byte() {
        let source = "10.1.0.50".parse().unwrap();
        let outer = Outer {
            source_mac: [6, 0, 0, 0, 0x64, 0x32],
            destination_mac: [6, 0, 0, 0, 0x64, 0x64],
            ..Outer::new(source, "10.1.0.100:6081".parse().unwrap()).unwrap()
        };
        let made = packet(Shape::Gwlb(Gwlb::default()), outer, 0xeadb);
        assert_eq!(made.len(), 176);
        assert_eq!(made, [bytes(GENEVE), bytes(INNER)].concat());
    }

    #[test]
    fn an_ipv6_outer_header_reads_back_and_mixed_families_are_refused() {
        let to = "[2001:db8::2]:4789".parse().unwrap();
        let outer = Outer::new("2001:db8::1".parse().unwrap(), to).unwrap();
        let made = packet(Shape::Vxlan, outer, 65500);
        let sliced = etherparse::SlicedPacket::from_ethernet(&made).unwrap();
        let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else {
            panic!("no UDP in {made:?}");
        };
        assert_eq!((udp.source_port(), udp.destination_port()), (65500, 4789));
        assert_eq!((udp.checksum(), udp.payload().len()), (0, 8 + 58));
        assert_eq!(Outer::new("10.0.0.1".parse().unwrap(), to), None);
    }
}
