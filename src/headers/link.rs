//! From Ethernet to IP: VLAN tags, MPLS, pseudo-wires, PPPoE, LLC/SNAP, ARP.

use crate::headers::facts::{Headers, Labels, Layer};
use crate::headers::{be16, ether, field, ip};

/// Ethernet II and 802.3 share the field at byte 12: up to 1500 it is a length, from 1536 a type.
const LONGEST_802_3: u16 = 1500;

/// Bytes of a pseudo-wire control word (RFC 4448).
const CONTROL_WORD: usize = 4;

/// Reads the Ethernet header at `at`.
#[inline]
pub(super) fn ethernet(headers: &mut Headers, frame: &[u8], at: usize) {
    let Some(kind) = be16(frame, at + 12) else {
        headers.truncated = true;
        return;
    };
    headers.reached = Layer::Link;
    match kind {
        ether::IPV4 => {
            headers.named(kind);
            ip::v4(headers, frame, at + 14);
        }
        ether::IPV6 => {
            headers.named(kind);
            ip::v6(headers, frame, at + 14);
        }
        _ => typed(headers, frame, kind, at + 14),
    }
}

/// Reads what an EtherType announces at `at`, through any VLAN tags.
pub(super) fn typed(headers: &mut Headers, frame: &[u8], mut kind: u16, mut at: usize) {
    while matches!(
        kind,
        ether::VLAN | ether::SERVICE_VLAN | ether::OLD_SERVICE_VLAN
    ) {
        let (Some(tag), Some(next)) = (be16(frame, at), be16(frame, at + 2)) else {
            headers.named(kind);
            headers.truncated = true;
            return;
        };
        if !headers.vlans.push(tag & 0x0fff) {
            headers.named(kind);
            return;
        }
        (kind, at) = (next, at + 4);
    }
    if kind <= LONGEST_802_3 {
        return llc(headers, frame, at);
    }
    headers.named(kind);
    match kind {
        ether::IPV4 => ip::v4(headers, frame, at),
        ether::IPV6 => ip::v6(headers, frame, at),
        ether::ARP | ether::RARP => arp(headers, frame, at),
        ether::MPLS | ether::MPLS_UPSTREAM => mpls(headers, frame, at),
        ether::PPPOE => pppoe(headers, frame, at),
        _ => {}
    }
}

/// LLC. Only SNAP with the OUI 00-00-00, which puts an EtherType behind it (RFC 1042), is followed.
pub(super) fn llc(headers: &mut Headers, frame: &[u8], at: usize) {
    let Some([0xaa, 0xaa, 0x03, 0, 0, 0, high, low]) = field(frame, at) else {
        return;
    };
    let kind = u16::from_be_bytes([*high, *low]);
    if kind > LONGEST_802_3 {
        typed(headers, frame, kind, at + 8);
    }
}

fn arp(headers: &mut Headers, frame: &[u8], at: usize) {
    headers.network = Some(at as u16);
    headers.arp = be16(frame, at + 6);
    if headers.arp.is_some() {
        headers.reached = Layer::Network;
    }
    // Sender and target, each a hardware and a protocol address of the lengths that bytes 4 and 5 give.
    headers.truncated = field::<8>(frame, at).is_none_or(|head| {
        let claimed = 8 + 2 * (usize::from(head[4]) + usize::from(head[5]));
        frame.len() < at + claimed
    });
}

/// The label stack, down to the entry with the bottom-of-stack bit. Nothing below says what follows:
/// the first nibble does, as routers that balance load guess it (RFC 4928).
fn mpls(headers: &mut Headers, frame: &[u8], mut at: usize) {
    // A second stack (inside a pseudo-wire) belongs to another network.
    if headers.labels.count() > 0 {
        return;
    }
    headers.labels.at = at as u16;
    while headers.labels.count() < Labels::MOST {
        let Some(entry) = field::<4>(frame, at) else {
            headers.truncated = true;
            return;
        };
        headers.labels.count += 1;
        at += 4;
        if entry[2] & 1 == 1 {
            return below_labels(headers, frame, at);
        }
    }
}

fn below_labels(headers: &mut Headers, frame: &[u8], at: usize) {
    match frame.get(at).map(|first| first >> 4) {
        Some(4) => ip::v4(headers, frame, at),
        Some(6) => ip::v6(headers, frame, at),
        Some(_) => pseudo_wire(headers, frame, at),
        None => headers.truncated = true,
    }
}

/// Ethernet over MPLS, with or without a control word: taken for it where the EtherType is a familiar
/// one. (Wireshark looks for MAC addresses of known vendors instead, and else assumes a control word.)
fn pseudo_wire(headers: &mut Headers, frame: &[u8], at: usize) {
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
    if let Some(start) = [at, at + CONTROL_WORD].iter().find(|at| familiar(at)) {
        ethernet(headers, frame, *start);
    }
}

/// A PPPoE session header (RFC 2516), then PPP without address and control bytes.
fn pppoe(headers: &mut Headers, frame: &[u8], at: usize) {
    match field::<6>(frame, at) {
        Some([0x11, 0, ..]) => ppp(headers, frame, at + 6),
        Some(_) => {}
        None => headers.truncated = true,
    }
}

/// A PPP protocol number, which one byte may hold (RFC 1661: the last byte is odd, the others even).
pub(super) fn ppp(headers: &mut Headers, frame: &[u8], at: usize) {
    match field::<2>(frame, at) {
        Some([0x00, 0x21]) => ip::v4(headers, frame, at + 2),
        Some([0x00, 0x57]) => ip::v6(headers, frame, at + 2),
        Some([0x21, _]) => ip::v4(headers, frame, at + 1),
        Some([0x57, _]) => ip::v6(headers, frame, at + 1),
        Some(_) => {}
        None => headers.truncated = true,
    }
}

impl Headers {
    /// Notes the EtherType, unless an outer Ethernet header had one.
    #[inline]
    fn named(&mut self, kind: u16) {
        if self.labels.count() == 0 {
            self.eth_type = Some(kind);
        }
    }
}
