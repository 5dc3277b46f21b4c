//! IPv4 and IPv6.

use crate::headers::facts::{Below, FlowKey, Fragment, Headers, length};
use crate::headers::transport::Carried;
use crate::headers::{field, transport};

/// IPv6 headers that stand before the transport, and how they give their length.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const NOTHING: u8 = 59;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HOST_IDENTITY: u8 = 139;
    pub(super) const SHIM6: u8 = 140;

    /// Headers that a walk goes through. RFC 8200 sets no limit and a real packet has three or four, but
    /// who wants to hide a port from a filter may send a hundred.
    pub(super) const MOST: usize = 256;

    /// Length of an extension header of kind `next` whose length byte is `len`; none for a transport.
    #[inline]
    pub(super) fn length(next: u8, len: u8) -> Option<usize> {
        let len = usize::from(len);
        match next {
            FRAGMENT => Some(8),
            AUTHENTICATION => Some((len + 2) * 4),
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
                Some((len + 1) * 8)
            }
            _ => None,
        }
    }
}

/// Reads an IPv4 header at `at` and goes on to what it carries.
///
/// Nearly every packet is whole and carries TCP or UDP: these are read here, from the frame to the headers in registers.
/// What is not like them is read anew, apart, since what two ways share goes through memory, and what was put there in
/// small pieces and is fetched in large ones stalls the processor for longer than the whole walk takes. For the same reason
/// each way picks for itself what is wanted of the headers.
#[inline(always)]
pub(super) fn v4<T>(below: &Below, frame: &[u8], at: usize, pick: impl Fn(Headers) -> T) -> T {
    if let Some(head) = field::<20>(frame, at)
        && let Some(head_len) = v4_length(head)
        && u16::from_be_bytes([head[6], head[7]]) & 0x3fff == 0
    {
        let claim = Claim::of(frame, at, v4_total(head));
        let carried = transport::common(head[9], claim.packet, at + head_len);
        if let Some(carried) = carried {
            let key = v4_key(head, &carried);
            return pick(headers(below, at, &claim, key, None, carried));
        }
    }
    pick(v4_any(below, frame, at))
}

/// Any IPv4 packet.
#[inline(never)]
pub(super) fn v4_any(below: &Below, frame: &[u8], at: usize) -> Headers {
    let Some(head) = field::<20>(frame, at) else {
        return below.cut(frame);
    };
    let Some(head_len) = v4_length(head) else {
        return below.stop(frame);
    };
    let claim = Claim::of(frame, at, v4_total(head));
    let flags = u16::from_be_bytes([head[6], head[7]]);
    let fragment = (flags & 0x3fff != 0).then(|| Fragment {
        id: u32::from(u16::from_be_bytes([head[4], head[5]])),
        offset: (flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
    });
    let later = flags & 0x1fff != 0;
    let carried = carried(head[9], claim.packet, at + head_len, later);
    let key = v4_key(head, &carried);
    headers(below, at, &claim, key, fragment, carried)
}

/// What an IPv4 header at `at` says of the length of the frame on the wire.
#[inline]
pub(super) fn v4_wire_len(frame: &[u8], at: usize) -> u32 {
    match field::<20>(frame, at) {
        Some(head) if v4_length(head).is_some() => Claim::of(frame, at, v4_total(head)).wire_len,
        _ => length(frame),
    }
}

/// The same of an IPv6 header.
#[inline]
pub(super) fn v6_wire_len(frame: &[u8], at: usize) -> u32 {
    match field::<40>(frame, at) {
        Some(head) if head[0] >> 4 == 6 => Claim::of(frame, at, v6_total(head)).wire_len,
        _ => length(frame),
    }
}

/// The length of an IPv4 header, unless it is none.
#[inline(always)]
fn v4_length(head: &[u8; 20]) -> Option<usize> {
    let length = usize::from(head[0] & 0x0f) * 4;
    (head[0] >> 4 == 4 && length >= head.len()).then_some(length)
}

#[inline(always)]
fn v4_total(head: &[u8; 20]) -> usize {
    usize::from(u16::from_be_bytes([head[2], head[3]]))
}

#[inline(always)]
fn v4_key(head: &[u8; 20], carried: &Carried) -> FlowKey {
    FlowKey {
        src: padded([head[12], head[13], head[14], head[15]]),
        dst: padded([head[16], head[17], head[18], head[19]]),
        version: 4,
        proto: head[9],
        sport: carried.sport,
        dport: carried.dport,
    }
}

/// Reads an IPv6 header at `at` and goes on to what it carries; see [`v4`] for why in two ways.
#[inline(always)]
pub(super) fn v6<T>(below: &Below, frame: &[u8], at: usize, pick: impl Fn(Headers) -> T) -> T {
    if let Some(head) = field::<40>(frame, at)
        && head[0] >> 4 == 6
    {
        let claim = Claim::of(frame, at, v6_total(head));
        let carried = transport::common(head[6], claim.packet, at + head.len());
        if let Some(carried) = carried {
            let key = v6_key(head, head[6], &carried);
            return pick(headers(below, at, &claim, key, None, carried));
        }
    }
    pick(v6_any(below, frame, at))
}

/// Any IPv6 packet.
#[inline(never)]
pub(super) fn v6_any(below: &Below, frame: &[u8], at: usize) -> Headers {
    let Some(head) = field::<40>(frame, at) else {
        return below.cut(frame);
    };
    if head[0] >> 4 != 6 {
        return below.stop(frame);
    }
    let claim = Claim::of(frame, at, v6_total(head));
    let (start, next) = (at + head.len(), head[6]);
    let (proto, fragment, carried) = match extension::length(next, 0) {
        None => (next, None, carried(next, claim.packet, start, false)),
        Some(_) => extensions(next, claim.packet, start),
    };
    let key = v6_key(head, proto, &carried);
    headers(below, at, &claim, key, fragment, carried)
}

/// Bytes of the whole packet. A length of zero stands for "see the jumbo option", or a packet caught before segmentation.
#[inline(always)]
fn v6_total(head: &[u8; 40]) -> usize {
    match u16::from_be_bytes([head[4], head[5]]) {
        0 => 0,
        n => usize::from(n) + head.len(),
    }
}

#[inline(always)]
fn v6_key(head: &[u8; 40], proto: u8, carried: &Carried) -> FlowKey {
    let [_, _, _, _, _, _, _, _, addresses @ ..] = head;
    let (src, dst) = addresses.split_at(16);
    FlowKey {
        src: src.try_into().unwrap_or_default(),
        dst: dst.try_into().unwrap_or_default(),
        version: 6,
        proto,
        sport: carried.sport,
        dport: carried.dport,
    }
}

#[inline(always)]
fn headers(
    below: &Below,
    at: usize,
    claim: &Claim<'_>,
    key: FlowKey,
    fragment: Option<Fragment>,
    carried: Carried,
) -> Headers {
    Headers {
        key,
        wire_len: claim.wire_len,
        reached: carried.reached,
        truncated: claim.truncated,
        has_ports: carried.has_ports,
        eth_type: below.eth_type,
        vlans: below.vlans,
        labels: below.labels,
        network: Some(at as u16),
        transport: carried.transport,
        payload: carried.payload,
        tcp_flags: carried.tcp_flags,
        icmp: carried.icmp,
        arp: None,
        fragment,
    }
}

/// An IPv4 address in the first four of sixteen bytes.
#[inline]
fn padded(address: [u8; 4]) -> [u8; 16] {
    u128::from(u32::from_le_bytes(address)).to_le_bytes()
}

/// What an IP header says of the length of its packet.
struct Claim<'a> {
    /// The frame to the end of the packet, without what pads it.
    packet: &'a [u8],
    wire_len: u32,
    truncated: bool,
}

impl<'a> Claim<'a> {
    /// Of a header at `at` that claims `total` bytes; a claim of zero says nothing.
    #[inline(always)]
    fn of(frame: &'a [u8], at: usize, total: usize) -> Self {
        let present = length(frame);
        let end = at + total;
        match frame.get(..end) {
            Some(packet) => Self {
                packet: if total == 0 { frame } else { packet },
                wire_len: present,
                truncated: false,
            },
            None => Self {
                packet: frame,
                wire_len: end as u32,
                truncated: true,
            },
        }
    }
}

/// Reads what begins at `at`, unless it is a later piece of it.
fn carried(proto: u8, packet: &[u8], at: usize, later: bool) -> Carried {
    // Offsets have 16 bits, which only a chain of giant IPv6 extension headers can exceed.
    if at > packet.len().min(usize::from(u16::MAX)) {
        Carried::NOTHING
    } else if later {
        Carried {
            payload: Some(at as u16),
            ..Carried::NOTHING
        }
    } else {
        transport::read(proto, packet, at)
    }
}

/// Follows IPv6 extension headers from the first, which is of kind `kind` and at `at`. Gives the kind of
/// the last header that was announced, fragmentation, and what is carried.
fn extensions(mut kind: u8, packet: &[u8], mut at: usize) -> (u8, Option<Fragment>, Carried) {
    let mut found: Option<Fragment> = None;
    for _ in 0..extension::MOST {
        let Some([next, len]) = field(packet, at) else {
            break;
        };
        let Some(length) = extension::length(kind, *len) else {
            return (kind, found, carried(kind, packet, at, false));
        };
        // A mobility, HIP or Shim6 message with nothing behind it is the message, not a wrapping.
        if kind >= extension::MOBILITY && *next == extension::NOTHING {
            return (kind, found, Carried::message(at));
        }
        if kind == extension::FRAGMENT {
            let Some(fragment) = fragment(packet, at) else {
                break;
            };
            if found.is_none_or(|outer| !outer.more) {
                found = Some(fragment);
            }
            if fragment.offset != 0 {
                return (*next, found, carried(*next, packet, at + length, true));
            }
        }
        (kind, at) = (*next, at + length);
    }
    let carried = match extension::length(kind, 0) {
        // What is announced has less than two bytes; its offset is known all the same.
        None => carried(kind, packet, at, false),
        Some(_) => Carried::NOTHING,
    };
    (kind, found, carried)
}

fn fragment(packet: &[u8], at: usize) -> Option<Fragment> {
    let [_, _, high, low, id @ ..] = *field::<8>(packet, at)?;
    let flags = u16::from_be_bytes([high, low]);
    Some(Fragment {
        id: u32::from_be_bytes(id),
        offset: flags & 0xfff8,
        more: flags & 1 != 0,
    })
}
