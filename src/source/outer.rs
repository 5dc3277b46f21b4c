//! From a captured outer packet to its UDP payload.
//!
//! Takes: a record's bytes and link type. Gives: where the UDP datagram is and what its headers say, or
//! a fragment of one, or the reason why there is none. Holds: never reads outside the record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::capfile::LinkType;
use crate::packet::DropReason;

const UDP: u8 = 17;
const MAX_VLAN_TAGS: usize = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;

/// What an outer packet holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outer<'a> {
    /// A whole UDP datagram.
    Datagram(Udp<'a>),
    /// A part of an IP packet.
    Fragment(Fragment<'a>),
}

/// A UDP datagram without its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Udp<'a> {
    pub(super) source: IpAddr,
    pub(super) port: u16,
    /// The payload bytes that are present.
    pub(super) payload: &'a [u8],
    /// Payload bytes that were on the wire and are not here.
    pub(super) cut: u32,
}

/// A part of an IP packet that may be UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fragment<'a> {
    /// What belongs together.
    pub(super) key: Key,
    /// Where it goes, in bytes.
    pub(super) offset: u16,
    /// Whether more follow.
    pub(super) more: bool,
    /// The bytes that are present.
    pub(super) bytes: &'a [u8],
    /// Bytes that it had on the wire and that are not here.
    pub(super) cut: u32,
}

/// What the fragments of one IP packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) id: u32,
    /// Protocol, or the first header in the fragmented part of IPv6.
    pub(super) proto: u8,
}

/// Bytes of a layer: those present, and how many more there were on the wire.
#[derive(Clone, Copy)]
struct Span<'a> {
    bytes: &'a [u8],
    cut: u32,
}

impl<'a> Span<'a> {
    /// What lies behind a header of `n` bytes.
    fn after(self, n: usize) -> Result<Self, DropReason> {
        let bytes = self.bytes.get(n..).ok_or(DropReason::OuterMalformed)?;
        Ok(Self { bytes, ..self })
    }

    /// The first `len` bytes, where that was the length on the wire: what is behind is padding, what
    /// is missing was cut off (even where the record's own lengths do not tell).
    fn first(self, len: usize) -> Self {
        let present = len.min(self.bytes.len());
        Self {
            bytes: self.bytes.get(..present).unwrap_or_default(),
            cut: (len - present) as u32,
        }
    }

    /// Bytes on the wire.
    fn wire(self) -> usize {
        self.bytes.len() + self.cut as usize
    }

    fn u8(self, at: usize) -> Result<u8, DropReason> {
        self.bytes
            .get(at)
            .copied()
            .ok_or(DropReason::OuterMalformed)
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], DropReason> {
        let bytes = self.bytes.get(at..at + N);
        bytes
            .and_then(|b| b.try_into().ok())
            .ok_or(DropReason::OuterMalformed)
    }

    fn u16(self, at: usize) -> Result<u16, DropReason> {
        self.array(at).map(u16::from_be_bytes)
    }
}

/// Finds the UDP datagram, or the fragment, in a record. `origlen` is what the record had on the wire.
#[inline]
pub(super) fn find(link: LinkType, data: &[u8], origlen: u32) -> Result<Outer<'_>, DropReason> {
    if let Some(udp) = plain(link, data, origlen) {
        return Ok(Outer::Datagram(udp));
    }
    walk(link, data, origlen)
}

/// What nearly every mirrored packet looks like: a whole Ethernet frame, untagged, with IPv4 without options, no fragment, UDP, and lengths
/// that agree. `None` says no more than that the frame has to be walked.
#[inline(always)]
pub(super) fn plain(link: LinkType, data: &[u8], origlen: u32) -> Option<Udp<'_>> {
    const ETHERNET: usize = 14;
    const HEADERS: usize = ETHERNET + 20 + 8;
    let head = data.first_chunk::<HEADERS>()?;
    let u16_at = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let total = usize::from(u16_at(16));
    let is_plain = link == LinkType::ETHERNET
        && origlen as usize == data.len()
        && u16_at(12) == IPV4
        && head[14] == 0x45
        && u16_at(20) & 0x3FFF == 0
        && head[23] == UDP
        && total >= HEADERS - ETHERNET
        && usize::from(u16_at(38)) == total - 20;
    let payload = data.get(HEADERS..ETHERNET + total).filter(|_| is_plain)?;
    Some(Udp {
        source: IpAddr::from([head[26], head[27], head[28], head[29]]),
        port: u16_at(36),
        payload,
        cut: 0,
    })
}

#[inline(never)]
fn walk(link: LinkType, data: &[u8], origlen: u32) -> Result<Outer<'_>, DropReason> {
    let span = Span {
        bytes: data,
        cut: origlen.saturating_sub(data.len() as u32),
    };
    let packet = match link {
        LinkType::ETHERNET => tagged(span, 12)?,
        LinkType::LINUX_SLL => tagged(span, 14)?,
        LinkType::LINUX_SLL2 => cooked(span)?,
        LinkType::NULL | LinkType::LOOP => loopback(span)?,
        LinkType::RAW
        | LinkType::RAW_BSD
        | LinkType::RAW_OPENBSD
        | LinkType::IPV4
        | LinkType::IPV6 => span,
        _ => return Err(DropReason::LinkType),
    };
    ip(packet)
}

/// An EtherType at `at`, behind up to four VLAN tags.
fn tagged(span: Span<'_>, mut at: usize) -> Result<Span<'_>, DropReason> {
    for _ in 0..=MAX_VLAN_TAGS {
        match span.u16(at)? {
            IPV4 | IPV6 => return span.after(at + 2),
            0x8100 | 0x88A8 | 0x9100 | 0x9200 => at += 4,
            _ => return Err(DropReason::NotIp),
        }
    }
    Err(DropReason::NotIp)
}

/// SLL2 has its protocol in front of the rest of its header; tags follow the header.
fn cooked(span: Span<'_>) -> Result<Span<'_>, DropReason> {
    const HEADER: usize = 20;
    match span.u16(0)? {
        IPV4 | IPV6 => span.after(HEADER),
        0x8100 | 0x88A8 | 0x9100 | 0x9200 => tagged(span, HEADER + 2),
        _ => Err(DropReason::NotIp),
    }
}

/// An address family in either byte order; IPv6 has a number of its own on each system.
fn loopback(span: Span<'_>) -> Result<Span<'_>, DropReason> {
    let family = span.array(0).map(u32::from_be_bytes)?;
    match family.min(family.swap_bytes()) {
        2 | 10 | 24 | 28 | 30 => span.after(4),
        _ => Err(DropReason::NotIp),
    }
}

fn ip(span: Span<'_>) -> Result<Outer<'_>, DropReason> {
    match span.u8(0)? >> 4 {
        4 => ipv4(span),
        6 => ipv6(span),
        _ => Err(DropReason::OuterMalformed),
    }
}

fn ipv4(span: Span<'_>) -> Result<Outer<'_>, DropReason> {
    let header = usize::from(span.u8(0)? & 0x0F) * 4;
    let total = usize::from(span.u16(2)?);
    if header < 20 || (total != 0 && total < header) {
        return Err(DropReason::OuterMalformed);
    }
    // A total length of 0 is a packet larger than the field can say (BIG TCP), captured before it
    // was split: everything that is there belongs to it.
    let packet = if total == 0 { span } else { span.first(total) };
    let body = packet.after(header)?;
    let proto = span.u8(9)?;
    if proto != UDP {
        return Err(DropReason::NotUdp);
    }
    let source = IpAddr::from(Ipv4Addr::from(span.array::<4>(12)?));
    let placing = span.u16(6)?;
    if placing & 0x3FFF == 0 {
        return udp(source, body).map(Outer::Datagram);
    }
    Ok(Outer::Fragment(Fragment {
        key: Key {
            source,
            destination: IpAddr::from(Ipv4Addr::from(span.array::<4>(16)?)),
            id: u32::from(span.u16(4)?),
            proto,
        },
        offset: (placing & 0x1FFF) << 3,
        more: placing & 0x2000 != 0,
        bytes: body.bytes,
        cut: body.cut,
    }))
}

fn ipv6(span: Span<'_>) -> Result<Outer<'_>, DropReason> {
    const HEADER: usize = 40;
    let source = IpAddr::from(Ipv6Addr::from(span.array::<16>(8)?)).to_canonical();
    let destination = IpAddr::from(Ipv6Addr::from(span.array::<16>(24)?));
    let behind = span.after(HEADER)?;
    // As in IPv4: a payload length of 0 is a jumbogram.
    let body = match usize::from(span.u16(4)?) {
        0 => behind,
        length => behind.first(length),
    };
    match extensions(span.u8(6)?, body)? {
        Payload::Udp(body) => udp(source, body).map(Outer::Datagram),
        Payload::Fragment(head, body) => Ok(Outer::Fragment(Fragment {
            key: Key {
                source,
                destination,
                id: head.id,
                proto: head.next,
            },
            offset: head.offset,
            more: head.more,
            bytes: body.bytes,
            cut: body.cut,
        })),
    }
}

/// What the extension headers lead to.
enum Payload<'a> {
    Udp(Span<'a>),
    Fragment(FragmentHeader, Span<'a>),
}

struct FragmentHeader {
    next: u8,
    offset: u16,
    more: bool,
    id: u32,
}

/// Walks over extension headers; each has at least eight bytes, so the walk ends.
fn extensions(mut next: u8, mut body: Span<'_>) -> Result<Payload<'_>, DropReason> {
    loop {
        let size = match next {
            UDP => return Ok(Payload::Udp(body)),
            0 | 43 | 60 | 135 | 139 | 140 => (usize::from(body.u8(1)?) + 1) * 8,
            51 => (usize::from(body.u8(1)?) + 2) * 4,
            44 => {
                let placing = body.u16(2)?;
                let head = FragmentHeader {
                    next: body.u8(0)?,
                    offset: placing & !7,
                    more: placing & 1 != 0,
                    id: u32::from_be_bytes(body.array(4)?),
                };
                if head.offset != 0 || head.more {
                    return part(head, body.after(8)?);
                }
                8
            }
            _ => return Err(DropReason::NotUdp),
        };
        next = body.u8(0)?;
        body = body.after(size)?;
    }
}

/// A fragment is worth keeping when UDP follows, or a header that UDP may follow.
fn part(head: FragmentHeader, body: Span<'_>) -> Result<Payload<'_>, DropReason> {
    match head.next {
        UDP | 0 | 43 | 51 | 60 | 135 | 139 | 140 => Ok(Payload::Fragment(head, body)),
        _ => Err(DropReason::NotUdp),
    }
}

/// The datagram in a reassembled IP payload.
pub(super) fn reassembled(key: Key, bytes: &[u8]) -> Result<Udp<'_>, DropReason> {
    let body = Span { bytes, cut: 0 };
    match extensions(key.proto, body)? {
        Payload::Udp(body) => udp(key.source, body),
        // Fragments of fragments: nothing sends these.
        Payload::Fragment(..) => Err(DropReason::OuterMalformed),
    }
}

fn udp(source: IpAddr, body: Span<'_>) -> Result<Udp<'_>, DropReason> {
    const HEADER: usize = 8;
    let port = body.u16(2)?;
    let datagram = match usize::from(body.u16(4)?) {
        // Larger than the field can say, as above.
        0 => body,
        length if length < HEADER || length > body.wire() => {
            return Err(DropReason::OuterMalformed);
        }
        length => body.first(length),
    };
    let payload = datagram.after(HEADER)?;
    Ok(Udp {
        source,
        port,
        payload: payload.bytes,
        cut: payload.cut,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An IPv4 packet with UDP to port 4789 and `payload`.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let mut out = Vec::new();
        let built = builder.udp(65_500, 4789).write(&mut out, payload);
        built.expect("a Vec takes everything");
        out
    }

    fn datagram(data: &[u8]) -> Result<Udp<'_>, DropReason> {
        match find(LinkType::RAW, data, data.len() as u32)? {
            Outer::Datagram(udp) => Ok(udp),
            Outer::Fragment(f) => panic!("a fragment: {f:?}"),
        }
    }

    #[test]
    fn an_ordinary_packet_takes_the_short_way() {
        let frame = [&[2; 12][..], &[8, 0], &packet(b"mirrored")].concat();
        let udp = plain(LinkType::ETHERNET, &frame, frame.len() as u32);
        assert_eq!(
            udp.map(|u| (u.payload, u.port)),
            Some((&b"mirrored"[..], 4789))
        );
    }

    #[test]
    fn lengths_that_contradict_each_other_are_malformed() {
        let good = packet(b"twelve bytes");
        assert_eq!(datagram(&good).map(|u| u.payload), Ok(&b"twelve bytes"[..]));
        for (at, value) in [(25, 21), (25, 7), (0, 0x44), (0, 0x15), (3, 19)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(datagram(&bad), Err(DropReason::OuterMalformed), "{at}");
        }
        for len in 0..28 {
            assert_eq!(datagram(&good[..len]), Err(DropReason::OuterMalformed));
        }
    }

    #[test]
    fn a_udp_length_below_the_ip_length_bounds_the_payload() {
        let mut data = packet(b"twelve bytes");
        data[25] = 8 + 6;
        let udp = datagram(&data).expect("a datagram");
        assert_eq!((udp.payload, udp.cut), (&b"twelve"[..], 0));
    }

    #[test]
    fn a_packet_missing_bytes_that_its_record_does_not_admit_is_cut_all_the_same() {
        let data = packet(b"twelve bytes");
        let udp = datagram(&data[..30]).expect("a datagram");
        assert_eq!((udp.payload, udp.cut), (&b"tw"[..], 10));
    }

    #[test]
    fn extension_headers_lead_to_udp_and_anything_else_is_not_udp() {
        let mut head = vec![0x60, 0, 0, 0, 0, 34, 0, 64];
        head.extend([0x20; 32]);
        let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
        let options = [44, 0, 1, 4, 0, 0, 0, 0];
        let atomic_fragment = [17, 0, 0, 0, 0, 0, 0, 9];
        let udp = [0xFF, 0xDC, 0x12, 0xB5, 0, 10, 0, 0, b'h', b'i'];
        let data = [&head[..], &hop_by_hop, &options, &atomic_fragment, &udp].concat();
        assert_eq!(datagram(&data).map(|u| u.payload), Ok(&b"hi"[..]));
        for next in [6, 50, 58, 59] {
            let mut other = data.clone();
            other[40 + 8] = next;
            assert_eq!(datagram(&other), Err(DropReason::NotUdp));
        }
    }

    #[test]
    fn an_ipv4_mapped_source_is_given_as_ipv4() {
        let mut data = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        data.extend(Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().octets());
        data.extend([0; 16]);
        data.extend([0, 1, 0x12, 0xB5, 0, 8, 0, 0]);
        let source = datagram(&data).map(|u| u.source);
        assert_eq!(source, Ok(IpAddr::from([10, 1, 2, 3])));
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_walk_say_the_same(
            payload in proptest::collection::vec(any::<u8>(), 0..60),
            padding in 0_usize..8,
            changes in proptest::collection::vec((12_usize..44, prop_oneof![any::<u8>(), Just(0x45), Just(17), Just(0)]), 0..3),
            cut in 0_usize..50,
            more in prop_oneof![Just(0_u32), 0_u32..20],
        ) {
            let mut frame = [&[2; 12][..], &[8, 0], &packet(&payload), &vec![0; padding]].concat();
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) { *byte = value; }
            }
            frame.truncate(frame.len().saturating_sub(cut.saturating_sub(40)));
            let origlen = frame.len() as u32 + more;
            let walked = walk(LinkType::ETHERNET, &frame, origlen);
            if let Some(udp) = plain(LinkType::ETHERNET, &frame, origlen) {
                prop_assert_eq!(walked, Ok(Outer::Datagram(udp)));
            }
        }

        #[test]
        fn no_bytes_make_the_walk_panic_or_give_more_than_there_is(
            link in prop_oneof![Just(1), Just(0), Just(101), Just(108), Just(113), Just(276)],
            mut data in proptest::collection::vec(any::<u8>(), 0..120),
            version in prop_oneof![Just(0x45u8), Just(0x60), Just(0x4F)],
            proto in prop_oneof![Just(17u8), Just(0), Just(44), Just(60)],
            origlen in any::<u32>(),
        ) {
            if let (LinkType::RAW, [first, ..]) = (LinkType(link), data.as_mut_slice()) {
                *first = version;
                for at in [6, 9] {
                    if let Some(byte) = data.get_mut(at) { *byte = proto; }
                }
            }
            let present = match find(LinkType(link), &data, origlen) {
                Ok(Outer::Datagram(udp)) => udp.payload.len(),
                Ok(Outer::Fragment(fragment)) => fragment.bytes.len(),
                Err(_) => 0,
            };
            prop_assert!(present <= data.len());
        }
    }
}
