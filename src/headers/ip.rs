//! IPv4 and IPv6.

use crate::headers::facts::{Below, FlowKey, Fragment, Headers, length};
use crate::headers::transport::Carried;
use crate::headers::{field, proto, transport};

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

/// [`v4`] for the rarer ways to IP, which share one copy of it.
#[inline(never)]
pub(super) fn v4_behind(below: &Below, frame: &[u8], at: usize) -> Headers {
    v4(below, frame, at)
}

/// [`v6`] for the rarer ways to IP, which share one copy of it.
#[inline(never)]
pub(super) fn v6_behind(below: &Below, frame: &[u8], at: usize) -> Headers {
    v6(below, frame, at)
}

/// Reads an IPv4 header at `at` and goes on to what it carries.
#[inline(always)]
pub(super) fn v4(below: &Below, frame: &[u8], at: usize) -> Headers {
    let Some(head) = field::<20>(frame, at) else {
        return below.cut(frame);
    };
    let head_len = usize::from(head[0] & 0x0f) * 4;
    if head[0] >> 4 != 4 || head_len < head.len() {
        return below.stop(frame);
    }
    let total = u16::from_be_bytes([head[2], head[3]]);
    let claim = Claim::of(frame, at, usize::from(total));
    let flags = u16::from_be_bytes([head[6], head[7]]);
    let fragment = (flags & 0x3fff != 0).then(|| Fragment {
        id: u32::from(u16::from_be_bytes([head[4], head[5]])),
        offset: (flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
    });
    let network = Network {
        at,
        src: padded([head[12], head[13], head[14], head[15]]),
        dst: padded([head[16], head[17], head[18], head[19]]),
        version: 4,
        proto: head[9],
        fragment,
        wire_len: claim.wire_len,
        truncated: claim.truncated,
    };
    network.carrying(below, claim.packet, at + head_len, flags & 0x1fff != 0)
}

/// Reads an IPv6 header at `at` and goes on to what it carries.
#[inline(always)]
pub(super) fn v6(below: &Below, frame: &[u8], at: usize) -> Headers {
    let Some(head) = field::<40>(frame, at) else {
        return below.cut(frame);
    };
    let [version, _, _, _, p0, p1, next, _, addresses @ ..] = head;
    if version >> 4 != 6 {
        return below.stop(frame);
    }
    // A length of zero stands for "see the jumbo option", or a packet caught before segmentation.
    let total = match u16::from_be_bytes([*p0, *p1]) {
        0 => 0,
        n => usize::from(n) + head.len(),
    };
    let claim = Claim::of(frame, at, total);
    let ([src, dst], _) = addresses.as_chunks::<16>() else {
        return below.stop(frame);
    };
    let network = Network {
        at,
        src: *src,
        dst: *dst,
        version: 6,
        proto: *next,
        fragment: None,
        wire_len: claim.wire_len,
        truncated: claim.truncated,
    };
    let start = at + head.len();
    match extension::length(*next, 0) {
        None => network.carrying(below, claim.packet, start, false),
        Some(_) => network.extended(below, claim.packet, start),
    }
}

/// What an IP header says.
#[derive(Clone, Copy)]
struct Network {
    at: usize,
    src: [u8; 16],
    dst: [u8; 16],
    version: u8,
    proto: u8,
    fragment: Option<Fragment>,
    wire_len: u32,
    truncated: bool,
}

impl Network {
    /// Goes on to what begins at `start`, unless it is a later piece of it. Every way ends in headers of its own: were what
    /// they found brought together first, it would go through memory, and what was written there in small pieces and is
    /// read in large ones stalls the processor.
    #[inline(always)]
    fn carrying(self, below: &Below, packet: &[u8], start: usize, later: bool) -> Headers {
        // Offsets have 16 bits, which only a chain of giant IPv6 extension headers can exceed.
        if later || start > packet.len().min(usize::from(u16::MAX)) {
            return self.carrying_rarer(below, packet, start, later);
        }
        match self.proto {
            proto::TCP => self.headers(below, transport::tcp(packet, start)),
            proto::UDP => self.headers(below, transport::udp(packet, start)),
            _ => self.carrying_rarer(below, packet, start, later),
        }
    }

    #[inline(never)]
    fn carrying_rarer(self, below: &Below, packet: &[u8], start: usize, later: bool) -> Headers {
        self.headers(below, carried(self.proto, packet, start, later))
    }

    #[inline(never)]
    fn extended(self, below: &Below, packet: &[u8], start: usize) -> Headers {
        let (proto, fragment, carried) = extensions(self.proto, packet, start);
        let whole = Self {
            proto,
            fragment,
            ..self
        };
        whole.headers(below, carried)
    }

    #[inline(always)]
    fn headers(self, below: &Below, carried: Carried) -> Headers {
        Headers {
            key: FlowKey {
                src: self.src,
                dst: self.dst,
                version: self.version,
                proto: self.proto,
                sport: carried.sport,
                dport: carried.dport,
            },
            wire_len: self.wire_len,
            reached: carried.reached,
            truncated: self.truncated,
            has_ports: carried.has_ports,
            eth_type: below.eth_type,
            vlans: below.vlans,
            labels: below.labels,
            network: Some(self.at as u16),
            transport: carried.transport,
            payload: carried.payload,
            tcp_flags: carried.tcp_flags,
            icmp: carried.icmp,
            arp: None,
            fragment: self.fragment,
        }
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
