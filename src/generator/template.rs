//! The headers of one direction of a synthetic flow, built once and patched for each packet.
//!
//! Length, TCP numbers and mark differ from packet to packet, and all checksums must be right for
//! each: so the sums of what stays the same are kept, and only the rest is added.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;

use crate::generator::mix::mix;
use crate::generator::sequence::{self, Sequence};
use crate::generator::wrap::{fold, sum};

const ETHERNET: usize = 14;
/// Ethernet, IPv6 and TCP.
const LONGEST: usize = ETHERNET + 40 + 20;

/// One end of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub mac: [u8; 6],
    pub address: SocketAddr,
}

/// What differs between the packets of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Variable {
    pub mark: Sequence,
    /// TCP sequence and acknowledgement numbers; UDP has none.
    pub seq: u32,
    pub ack: u32,
}

/// Headers with zeros where [`Variable`] and the length go.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    head: [u8; LONGEST],
    len: u8,
    transport: u8,
    tcp: bool,
    /// Of the IPv4 header without its length; unused with IPv6.
    ip_sum: u32,
    /// Of pseudo header and transport header without lengths and TCP numbers.
    transport_sum: u32,
}

impl Template {
    pub(crate) fn new(from: End, to: End, tcp: bool) -> Self {
        let mut head = [0; LONGEST];
        let len = build(from, to, tcp, &mut head);
        let transport = len - if tcp { 20 } else { 8 };
        clear(&mut head, transport, tcp);
        let addresses = if transport == ETHERNET + 20 { 26 } else { 22 };
        let proto = if tcp { 6 } else { 17 };
        Self {
            len: len as u8,
            transport: transport as u8,
            tcp,
            ip_sum: sum(&head[ETHERNET..transport]),
            transport_sum: proto + sum(&head[addresses..transport]) + sum(&head[transport..]),
            head,
        }
    }

    /// The size of the smallest frame.
    pub(crate) const fn least(&self) -> usize {
        self.len as usize + sequence::LEN
    }

    /// How many bytes of transport payload a frame of `size` bytes has.
    pub(crate) const fn payload(&self, size: usize) -> usize {
        size - self.len as usize
    }

    /// Appends a frame of `size` bytes, which is at least [`Self::least`] and at most 65,535.
    pub(crate) fn append(&self, size: usize, what: &Variable, filler: &Filler, out: &mut Vec<u8>) {
        let mut head = self.head;
        let mark = what.mark.to_bytes();
        let rest = filler.first(size - self.least());
        let transport_len = (size - usize::from(self.transport)) as u32;
        self.patch_ip(&mut head, transport_len);
        let sum = self.transport_sum + transport_len + sum(&mark) + rest.1;
        self.patch_transport(&mut head, transport_len, what, sum);
        out.extend_from_slice(&head[..usize::from(self.len)]);
        out.extend_from_slice(&mark);
        out.extend_from_slice(rest.0);
    }

    fn patch_ip(&self, head: &mut [u8; LONGEST], transport_len: u32) {
        if usize::from(self.transport) == ETHERNET + 20 {
            let total = transport_len + 20;
            put(head, 16, total as u16);
            put(head, 24, !fold(self.ip_sum + total));
        } else {
            put(head, 18, transport_len as u16);
        }
    }

    fn patch_transport(&self, head: &mut [u8; LONGEST], len: u32, what: &Variable, mut sum: u32) {
        let at = usize::from(self.transport);
        if self.tcp {
            for (at, number) in [(at + 4, what.seq), (at + 8, what.ack)] {
                put(head, at, (number >> 16) as u16);
                put(head, at + 2, number as u16);
                sum += (number >> 16) + (number & 0xffff);
            }
            put(head, at + 16, !fold(sum));
        } else {
            put(head, at + 4, len as u16);
            // A UDP checksum of zero would mean that there is none.
            let checksum = !fold(sum + len);
            put(head, at + 6, if checksum == 0 { 0xffff } else { checksum });
        }
    }
}

/// Writes the headers, with an empty payload, and returns their length.
fn build(from: End, to: End, tcp: bool, head: &mut [u8; LONGEST]) -> usize {
    let ethernet = PacketBuilder::ethernet2(from.mac, to.mac);
    let ip = match (from.address.ip(), to.address.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (from, to) => ethernet.ipv6(ipv6(from), ipv6(to), 64),
    };
    let (sport, dport) = (from.address.port(), to.address.port());
    let written = if tcp {
        let segment = ip.tcp(sport, dport, 0, 64_240).ack(0).psh();
        segment.write_to_slice(head, &[])
    } else {
        ip.udp(sport, dport).write_to_slice(head, &[])
    };
    debug_assert!(written.is_ok(), "all headers fit");
    written.unwrap_or(0)
}

fn ipv6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Puts zeros where [`Template::append`] puts lengths and checksums.
fn clear(head: &mut [u8; LONGEST], transport: usize, tcp: bool) {
    if transport == ETHERNET + 20 {
        put(head, 16, 0);
        put(head, 24, 0);
    } else {
        put(head, 18, 0);
    }
    if tcp {
        put(head, transport + 16, 0);
    } else {
        put(head, transport + 4, 0);
        put(head, transport + 6, 0);
    }
}

fn put(head: &mut [u8; LONGEST], at: usize, value: u16) {
    head[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// What stands behind the mark: bytes that do not compress, with the sum of every start of them.
#[derive(Clone, Debug)]
pub(crate) struct Filler {
    bytes: Vec<u8>,
    sums: Vec<u32>,
}

impl Filler {
    /// Enough for frames of up to `size` bytes.
    pub(crate) fn new(seed: u64, size: usize) -> Self {
        let words = (0..size.div_ceil(8) as u64).map(|i| mix(seed ^ (i + 1)));
        let bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
        let mut sums = vec![0; bytes.len() + 1];
        for (i, byte) in bytes.iter().enumerate() {
            let shift = if i % 2 == 0 { 8 } else { 0 };
            sums[i + 1] = sums[i] + (u32::from(*byte) << shift);
        }
        Self { bytes, sums }
    }

    /// The first `len` bytes and the sum of their words.
    fn first(&self, len: usize) -> (&[u8], u32) {
        let len = len.min(self.bytes.len());
        (&self.bytes[..len], self.sums[len])
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::generator::sequence;
    use crate::packet::Vni;

    fn end(host: u8, ipv6: bool) -> End {
        let ip = if ipv6 {
            format!("[2001:db8::{host:x}]:443")
        } else {
            format!("198.51.100.{host}:443")
        };
        End {
            mac: [2, 0, 0, 0, 0, host],
            address: ip.parse().unwrap(),
        }
    }

    proptest! {
        #[test]
        fn frames_have_right_lengths_and_checksums_and_carry_their_mark(
            ipv6: bool, tcp: bool, size in 106_usize..3000, seq: u32, ack: u32, number: u64, host: u8,
        ) {
            let template = Template::new(end(host, ipv6), end(7, ipv6), tcp);
            let mark = Sequence { number, vni: Vni::new(number as u32), ..Sequence::default() };
            let mut frame = Vec::new();
            let what = Variable { mark, seq, ack };
            template.append(size, &what, &Filler::new(number, size), &mut frame);
            prop_assert_eq!(frame.len(), size);
            prop_assert_eq!(sequence::read(&frame), Some(mark));
            check_with_etherparse(&frame, tcp, seq);
        }
    }

    /// Its strict slicer refuses wrong lengths; the checksums are computed anew from the headers.
    fn check_with_etherparse(frame: &[u8], tcp: bool, seq: u32) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let ip = packet.net.unwrap();
        match packet.transport.unwrap() {
            TransportSlice::Tcp(slice) => {
                let header = slice.to_header();
                assert!(tcp && header.sequence_number == seq && header.psh);
                let checksum = match &ip {
                    etherparse::NetSlice::Ipv4(ip) => {
                        header.calc_checksum_ipv4(&ip.header().to_header(), slice.payload())
                    }
                    etherparse::NetSlice::Ipv6(ip) => {
                        header.calc_checksum_ipv6(&ip.header().to_header(), slice.payload())
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(header.checksum, checksum.unwrap());
            }
            TransportSlice::Udp(slice) => {
                let header = slice.to_header();
                let checksum = match &ip {
                    etherparse::NetSlice::Ipv4(ip) => {
                        header.calc_checksum_ipv4(&ip.header().to_header(), slice.payload())
                    }
                    etherparse::NetSlice::Ipv6(ip) => {
                        header.calc_checksum_ipv6(&ip.header().to_header(), slice.payload())
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!((header.checksum, tcp), (checksum.unwrap(), false));
            }
            other => panic!("{other:?}"),
        }
        if let etherparse::NetSlice::Ipv4(ip) = ip {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
        }
    }
}
