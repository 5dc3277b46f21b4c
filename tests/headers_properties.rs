//! What holds for the walk over any bytes, and over any packet that etherparse can build.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use etherparse::{
    IpFragOffset, Ipv4Extensions, Ipv4Header, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice, VlanId,
};
use mirrortap::capfile::Reader;
use mirrortap::headers::{
    Headers, Layer, Link, Outline, outline, walk, walk_ip, walk_link, wire_len,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LINKS: [u16; 9] = [0, 1, 9, 50, 101, 108, 113, 228, 276];

/// What is true of every walk.
fn sound(headers: &Headers, frame: &[u8]) {
    assert!(headers.wire_len as usize >= frame.len());
    let end = frame.len();
    for at in [headers.network, headers.transport, headers.payload] {
        assert!(at.is_none_or(|at| usize::from(at) <= end));
    }
    assert!(headers.network <= headers.transport || headers.transport.is_none());
    assert!(headers.transport <= headers.payload || headers.payload.is_none());
    assert_eq!(headers.labels.of(frame).count(), headers.labels.count());
    if headers.ports().is_none() {
        assert_eq!((headers.key.sport, headers.key.dport), (0, 0));
    }
    assert_eq!(headers.key.version != 0, headers.key.source().is_some());
    if headers.key.version != 0 {
        assert!(headers.reached >= Layer::Network);
    }
    // More bytes than claimed, or as many: nothing is missing that a header announced.
    if headers.wire_len as usize > end {
        assert!(headers.truncated);
    }
}

fn check_all_links(frame: &[u8]) {
    assert_eq!(wire_len(frame), walk(frame).wire_len);
    for number in LINKS {
        let link = Link::from_number(number).unwrap();
        sound(&walk_link(link, frame), frame);
    }
}

#[test]
fn every_prefix_of_every_packet_of_the_corpus_is_walked_soundly() {
    if common::corpus().is_none() {
        return;
    }
    let mut prefixes = 0_u64;
    for folder in ["l2l4", "hostile", "vxlan", "protocols"] {
        for capture in common::captures(folder) {
            let Ok(mut reader) = Reader::open(&capture) else {
                continue;
            };
            let mut n = 0;
            while let Some(record) = reader.next().unwrap() {
                n += 1;
                // Shapes repeat within a file.
                if n > 40 && n % 97 != 0 {
                    continue;
                }
                for len in 0..=record.data.len().min(256) {
                    prefixes += 1;
                    check_prefix(record.link.0, &record.data[..len], record.data);
                }
            }
        }
    }
    assert!(prefixes > 1_000_000, "{prefixes}");
}

/// A shorter piece of a frame never says something else, only less.
fn check_prefix(link: u16, prefix: &[u8], frame: &[u8]) {
    let link = Link::from_number(link).unwrap_or_default();
    let (short, long) = (walk_link(link, prefix), walk_link(link, frame));
    sound(&short, prefix);
    if short.key.version != 0 {
        assert_eq!(short.key.src, long.key.src);
        assert_eq!(short.network, long.network);
    }
    if let (Some(short), Some(long)) = (short.ports(), long.ports()) {
        assert_eq!(short, long);
    }
    assert!(short.icmp.is_none() || short.icmp == long.icmp);
    assert!(short.tcp_flags.is_none() || short.tcp_flags == long.tcp_flags);
}

/// What etherparse says: version, protocol, source address (16 bytes), ports, TCP flags, ICMP type.
type Said = (u8, u8, Vec<u8>, Option<(u16, u16)>, Option<u16>, Option<u8>);

fn etherparse_says(frame: &[u8]) -> Said {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (version, proto, source) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => (4, ip.payload_ip_number().0, ip.header().source().to_vec()),
        NetSlice::Ipv6(ip) => (6, ip.payload().ip_number.0, ip.header().source().to_vec()),
        other => panic!("{other:?}"),
    };
    let (ports, flags, icmp) = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = u16::from_be_bytes([tcp.slice()[12], tcp.slice()[13]]) & 0x0fff;
            let ports = (tcp.source_port(), tcp.destination_port());
            (Some(ports), Some(flags), None)
        }
        Some(TransportSlice::Udp(udp)) => (
            Some((udp.source_port(), udp.destination_port())),
            None,
            None,
        ),
        Some(TransportSlice::Icmpv4(icmp)) => (None, None, Some(icmp.type_u8())),
        Some(TransportSlice::Icmpv6(icmp)) => (None, None, Some(icmp.type_u8())),
        None => (None, None, None),
        other => panic!("{other:?}"),
    };
    (version, proto, source, ports, flags, icmp)
}

fn we_say(headers: &Headers) -> Said {
    let key = &headers.key;
    let length = if key.version == 4 { 4 } else { 16 };
    (
        key.version,
        key.proto,
        key.src[..length].to_vec(),
        headers.ports(),
        headers.tcp_flags,
        headers.icmp.map(|i| i.kind),
    )
}

#[derive(Clone, Debug)]
struct Recipe {
    tags: Vec<u16>,
    version: u8,
    kind: u8,
    ports: (u16, u16),
    flags: u8,
    src: [u8; 16],
    options: usize,
    payload: Vec<u8>,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    (
        vec(0_u16..4096, 0..=2),
        prop_oneof![Just(4_u8), Just(6)],
        0_u8..3,
        any::<(u16, u16)>(),
        any::<u8>(),
        any::<[u8; 16]>(),
        0_usize..=10,
        vec(any::<u8>(), 0..64),
    )
        .prop_map(
            |(tags, version, kind, ports, flags, src, options, payload)| Recipe {
                tags,
                version,
                kind,
                ports,
                flags,
                src,
                options,
                payload,
            },
        )
}

impl Recipe {
    fn build(&self) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let id = |n: u16| VlanId::try_new(n).unwrap();
        let ip = self.ip();
        let ip = match self.tags.as_slice() {
            [] => link.ip(ip),
            [one] => link.single_vlan(id(*one)).ip(ip),
            [outer, inner, ..] => link.double_vlan(id(*outer), id(*inner)).ip(ip),
        };
        let mut frame = Vec::new();
        let ports = self.ports;
        match self.kind {
            0 => ip.udp(ports.0, ports.1).write(&mut frame, &self.payload),
            1 => self.tcp(ip).write(&mut frame, &self.payload),
            _ if self.version == 4 => ip
                .icmpv4_raw(self.flags % 13, 0, [0; 4])
                .write(&mut frame, &self.payload),
            _ => ip
                .icmpv6_raw(self.flags, 0, [0; 4])
                .write(&mut frame, &self.payload),
        }
        .unwrap();
        frame
    }

    fn ip(&self) -> etherparse::IpHeaders {
        let [a, b, c, d, ..] = self.src;
        if self.version == 6 {
            let header = etherparse::Ipv6Header {
                source: self.src,
                hop_limit: 9,
                ..Default::default()
            };
            return etherparse::IpHeaders::Ipv6(header, self.extensions());
        }
        let mut header = Ipv4Header::new(0, 9, etherparse::IpNumber::UDP, [a, b, c, d], [9; 4]);
        let header = header.as_mut().unwrap();
        header.fragment_offset = IpFragOffset::ZERO;
        header.options = vec![1; self.options * 4].as_slice().try_into().unwrap();
        etherparse::IpHeaders::Ipv4(header.clone(), Ipv4Extensions::default())
    }

    /// Hop-by-hop and destination options, of any length.
    fn extensions(&self) -> etherparse::Ipv6Extensions {
        let options = vec![0; 6 + 8 * self.options];
        let header = |next| etherparse::Ipv6RawExtHeader::new_raw(next, &options).unwrap();
        let mut extensions = etherparse::Ipv6Extensions::default();
        if self.options % 2 == 1 {
            extensions.hop_by_hop_options = Some(header(etherparse::IpNumber::UDP));
        }
        if self.options % 3 == 1 {
            extensions.destination_options = Some(header(etherparse::IpNumber::UDP));
        }
        extensions
    }

    fn tcp(
        &self,
        ip: etherparse::PacketBuilderStep<etherparse::IpHeaders>,
    ) -> etherparse::PacketBuilderStep<etherparse::TcpHeader> {
        let mut header = etherparse::TcpHeader::new(self.ports.0, self.ports.1, 1, 2);
        let bit = |n: u8| self.flags & (1 << n) != 0;
        (header.fin, header.syn, header.rst) = (bit(0), bit(1), bit(2));
        (header.psh, header.ack, header.urg) = (bit(3), bit(4), bit(5));
        (header.ece, header.cwr) = (bit(6), bit(7));
        header.set_options_raw(&vec![1; self.options * 4]).unwrap();
        ip.tcp_header(header)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_walked_soundly(frame in vec(any::<u8>(), 0..200)) {
        check_all_links(&frame);
        sound(&walk(&frame), &frame);
        prop_assert_eq!(outline(&frame), Outline::from(&walk(&frame)));
        sound(&walk_ip(&frame), &frame);
    }

    #[test]
    fn any_bytes_behind_a_familiar_type_are_walked_soundly(
        types in vec(prop::sample::select(vec![
            0x0800_u16, 0x86dd, 0x8100, 0x88a8, 0x8847, 0x8864, 0x0806, 0x0024,
        ]), 1..6),
        first in prop::sample::select(vec![0x45_u8, 0x4f, 0x60, 0x00, 0xaa]),
        rest in vec(any::<u8>(), 0..120),
    ) {
        let mut frame = vec![2; 12];
        types.iter().for_each(|t| frame.extend([(t >> 8) as u8, *t as u8, 0x00, 0x01]));
        frame.truncate(frame.len() - 2);
        frame.push(first);
        frame.extend(rest);
        sound(&walk(&frame), &frame);
        prop_assert_eq!(outline(&frame), Outline::from(&walk(&frame)));
    }

    #[test]
    fn etherparse_and_the_walk_agree_on_what_etherparse_builds(recipe in recipe()) {
        let frame = recipe.build();
        let headers = walk(&frame);
        prop_assert_eq!(we_say(&headers), etherparse_says(&frame));
        prop_assert_eq!(headers.vlans.ids(), &recipe.tags[..]);
        prop_assert_eq!(headers.wire_len as usize, frame.len());
        prop_assert!(!headers.truncated);
        let payload = frame.len() - recipe.payload.len();
        prop_assert_eq!(headers.payload.map(usize::from), Some(payload));
        // However it is cut behind the IP header, its length is remembered.
        let cut = usize::from(headers.transport.unwrap());
        for len in cut..frame.len() {
            let short = walk(&frame[..len]);
            prop_assert_eq!(short.wire_len as usize, frame.len());
            prop_assert!(short.truncated);
        }
    }
}
