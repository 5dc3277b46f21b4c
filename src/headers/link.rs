//! From Ethernet to IP: VLAN tags, MPLS, pseudo-wires, PPPoE, LLC/SNAP, ARP.

use crate::headers::facts::{Below, Headers, Labels, Layer};
use crate::headers::{be16, ether, field, ip};

/// Ethernet II and 802.3 share the field at byte 12: up to 1500 it is a length, from 1536 a type.
const LONGEST_802_3: u16 = 1500;

/// Bytes of a pseudo-wire control word (RFC 4448).
const CONTROL_WORD: usize = 4;

/// Reads the Ethernet header at `at`.
#[inline(always)]
pub(super) fn ethernet(below: Below, frame: &[u8], at: usize) -> Headers {
    let Some(kind) = be16(frame, at + 12) else {
        return below.cut(frame);
    };
    let below = below.linked();
    match kind {
        ether::IPV4 => ip::v4_any(&below.named(kind), frame, at + 14),
        ether::IPV6 => ip::v6_any(&below.named(kind), frame, at + 14),
        _ => typed(below, frame, kind, at + 14),
    }
}

/// [`ethernet`] of a whole frame. Nothing but IP directly behind the link header needs a [`Below`] in memory.
#[inline(always)]
pub(super) fn outermost<T>(frame: &[u8], pick: impl Fn(Headers) -> T) -> T {
    const IPV4: Below = Below::DIRECTLY.named(ether::IPV4);
    const IPV6: Below = Below::DIRECTLY.named(ether::IPV6);
    match be16(frame, 12) {
        Some(ether::IPV4) => ip::v4(&IPV4, frame, 14, pick),
        Some(ether::IPV6) => ip::v6(&IPV6, frame, 14, pick),
        _ => pick(outermost_rarer(frame)),
    }
}

#[inline(never)]
fn outermost_rarer(frame: &[u8]) -> Headers {
    ethernet(Below::default(), frame, 0)
}

/// Reads what an EtherType announces at `at`, through any VLAN tags.
#[inline(never)]
pub(super) fn typed(mut below: Below, frame: &[u8], mut kind: u16, mut at: usize) -> Headers {
    while matches!(
        kind,
        ether::VLAN | ether::SERVICE_VLAN | ether::OLD_SERVICE_VLAN
    ) {
        let (Some(tag), Some(next)) = (be16(frame, at), be16(frame, at + 2)) else {
            return below.named(kind).cut(frame);
        };
        if !below.vlans.push(tag & 0x0fff) {
            return below.named(kind).stop(frame);
        }
        (kind, at) = (next, at + 4);
    }
    if kind <= LONGEST_802_3 {
        return llc(below, frame, at);
    }
    let below = below.named(kind);
    match kind {
        ether::IPV4 => ip::v4_any(&below, frame, at),
        ether::IPV6 => ip::v6_any(&below, frame, at),
        ether::ARP | ether::RARP => arp(&below, frame, at),
        ether::MPLS | ether::MPLS_UPSTREAM => mpls(below, frame, at),
        ether::PPPOE => pppoe(&below, frame, at),
        _ => below.stop(frame),
    }
}

/// LLC. Only SNAP with the OUI 00-00-00, which puts an EtherType behind it (RFC 1042), is followed.
pub(super) fn llc(below: Below, frame: &[u8], at: usize) -> Headers {
    let Some([0xaa, 0xaa, 0x03, 0, 0, 0, high, low]) = field(frame, at) else {
        return below.stop(frame);
    };
    match u16::from_be_bytes([*high, *low]) {
        0..=LONGEST_802_3 => below.stop(frame),
        kind => typed(below, frame, kind, at + 8),
    }
}

fn arp(below: &Below, frame: &[u8], at: usize) -> Headers {
    let operation = be16(frame, at + 6);
    // Sender and target, each a hardware and a protocol address of the lengths that bytes 4 and 5 give.
    let truncated = field::<8>(frame, at).is_none_or(|head| {
        let claimed = 8 + 2 * (usize::from(head[4]) + usize::from(head[5]));
        frame.len() < at + claimed
    });
    Headers {
        reached: operation.map_or(Layer::Link, |_| Layer::Network),
        network: Some(at as u16),
        arp: operation,
        truncated,
        ..below.stop(frame)
    }
}

/// The label stack, down to the entry with the bottom-of-stack bit. Nothing below says what follows:
/// the first nibble does, as routers that balance load guess it (RFC 4928).
fn mpls(mut below: Below, frame: &[u8], mut at: usize) -> Headers {
    // A second stack (inside a pseudo-wire) belongs to another network.
    if below.labels.count() > 0 {
        return below.stop(frame);
    }
    below.labels.at = at as u16;
    while below.labels.count() < Labels::MOST {
        let Some(entry) = field::<4>(frame, at) else {
            return below.cut(frame);
        };
        below.labels.count += 1;
        at += 4;
        if entry[2] & 1 == 1 {
            return below_labels(below, frame, at);
        }
    }
    below.stop(frame)
}

fn below_labels(below: Below, frame: &[u8], at: usize) -> Headers {
    match frame.get(at).map(|first| first >> 4) {
        Some(4) => ip::v4_any(&below, frame, at),
        Some(6) => ip::v6_any(&below, frame, at),
        Some(_) => pseudo_wire(below, frame, at),
        None => below.cut(frame),
    }
}

/// Ethernet over MPLS, with or without a control word: taken for it where the EtherType is a familiar
/// one. (Wireshark looks for MAC addresses of known vendors instead, and else assumes a control word.)
fn pseudo_wire(below: Below, frame: &[u8], at: usize) -> Headers {
    let familiar = |&at: &usize| {
        matches!(
            be16(frame, at + 12),
            Some(
                ether::IPV4
                    | ether::IPV6
                    | ether::ARP
                    | ether::VLAN
                    | ether::SERVICE_VLAN
                    | ether::OLD_SERVICE_VLAN
            )
        )
    };
    // Without first: what stands behind a VLAN tag would do for the type behind a control word.
    match [at, at + CONTROL_WORD].iter().find(|at| familiar(at)) {
        Some(start) => inner_ethernet(below, frame, *start),
        None => below.stop(frame),
    }
}

#[inline(never)]
fn inner_ethernet(below: Below, frame: &[u8], at: usize) -> Headers {
    ethernet(below, frame, at)
}

/// A PPPoE session header (RFC 2516), then PPP without address and control bytes.
fn pppoe(below: &Below, frame: &[u8], at: usize) -> Headers {
    match field::<6>(frame, at) {
        Some([0x11, 0, ..]) => ppp(below, frame, at + 6),
        Some(_) => below.stop(frame),
        None => below.cut(frame),
    }
}

/// A PPP protocol number, which one byte may hold (RFC 1661: the last byte is odd, the others even).
pub(super) fn ppp(below: &Below, frame: &[u8], at: usize) -> Headers {
    match field::<2>(frame, at) {
        Some([0x00, 0x21]) => ip::v4_any(below, frame, at + 2),
        Some([0x00, 0x57]) => ip::v6_any(below, frame, at + 2),
        Some([0x21, _]) => ip::v4_any(below, frame, at + 1),
        Some([0x57, _]) => ip::v6_any(below, frame, at + 1),
        Some(_) => below.stop(frame),
        None => below.cut(frame),
    }
}
