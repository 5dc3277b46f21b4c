//! The mirror tunnels of a capture that was taken on a mirror target: VXLAN, and GENEVE around it.
//!
//! Only counts; what `replay` would make of such a capture is for `replay` to say.

use std::net::IpAddr;

use crate::headers::{Headers, proto, walk_ip};

const VXLAN_PORT: u16 = 4789;
const GENEVE_PORT: u16 = 6081;

/// How a packet was wrapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Wrapping {
    /// VXLAN.
    Vxlan,
    /// GENEVE around Ethernet or anything that is not VXLAN.
    Geneve,
    /// VXLAN in IP in GENEVE: from a Gateway Load Balancer.
    VxlanInGeneve,
}

impl Wrapping {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::VxlanInGeneve => "vxlan in geneve",
        }
    }
}

/// A mirror tunnel: where packets come from, and under which number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Tunnel {
    pub(super) wrapping: Wrapping,
    pub(super) vni: u32,
    /// Source of the outermost VXLAN packet: the mirrored interface.
    pub(super) source: IpAddr,
}

impl Tunnel {
    /// The tunnel that a packet came through, if it did.
    pub(super) fn of(headers: &Headers, frame: &[u8]) -> Option<Self> {
        let source = headers.key.source()?;
        match (headers.key.dport, udp_payload(headers, frame)?) {
            (VXLAN_PORT, payload) => Some(Self {
                wrapping: Wrapping::Vxlan,
                vni: vxlan(payload)?,
                source,
            }),
            (GENEVE_PORT, payload) => geneve(payload, source),
            _ => None,
        }
    }
}

fn udp_payload<'a>(headers: &Headers, frame: &'a [u8]) -> Option<&'a [u8]> {
    if headers.key.proto != proto::UDP || headers.ports().is_none() {
        return None;
    }
    frame.get(usize::from(headers.payload?)..)
}

/// The number of a VXLAN header whose I flag says that it has one (RFC 7348).
fn vxlan(payload: &[u8]) -> Option<u32> {
    match payload.first_chunk()? {
        [flags, _, _, _, a, b, c, _] if flags & 0x08 != 0 => Some(vni([*a, *b, *c])),
        _ => None,
    }
}

/// A GENEVE header of version 0 (RFC 8926), and whether VXLAN is in what it carries.
fn geneve(payload: &[u8], source: IpAddr) -> Option<Tunnel> {
    let [first, _, _, _, a, b, c, _] = *payload.first_chunk()?;
    if first >> 6 != 0 {
        return None;
    }
    let carried = payload.get(8 + usize::from(first & 0x3f) * 4..)?;
    let inner = walk_ip(carried);
    let vxlan_in_it = || {
        let payload = udp_payload(&inner, carried).filter(|_| inner.key.dport == VXLAN_PORT)?;
        Some((vxlan(payload)?, inner.key.source()?))
    };
    let is_ip = matches!(payload.get(2..4), Some([0x08, 0x00] | [0x86, 0xdd]));
    Some(match is_ip.then(vxlan_in_it).flatten() {
        Some((vni, source)) => Tunnel {
            wrapping: Wrapping::VxlanInGeneve,
            vni,
            source,
        },
        None => Tunnel {
            wrapping: Wrapping::Geneve,
            vni: vni([a, b, c]),
            source,
        },
    })
}

fn vni([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}
