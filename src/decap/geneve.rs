//! GENEVE (RFC 8926, section 3.4), and what a Gateway Load Balancer puts into it.
//!
//! ```text
//!  Ver │ Opt Len (4-byte words) │ O C rsvd │ protocol type (16 bits)
//!  VNI (24 bits)                           │ reserved (8 bits)
//!  options: class (16) │ type (8) │ rsvd (3) length (5, 4-byte words) │ data …
//! ```
//! Options are walked by their lengths; unknown ones are skipped, in whatever order they come. The AWS ones
//! have class 0x0108; type 1 holds the 8-byte id of the endpoint's ENI.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decap::{Inner, behind, vxlan};
use crate::packet::{DropReason, Endpoint, Ports, Vni};

const HEADER_LEN: usize = 8;
const UDP_LEN: usize = 8;
const UDP: u8 = 17;

const ETHERNET: u16 = 0x6558;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

const AWS_CLASS: u16 = 0x0108;
const AWS_ENDPOINT: u8 = 1;

/// Whether a payload of unknown wrapping is GENEVE: version 0, and one of the three protocol types that a
/// mirror can carry, where VXLAN has reserved zeros.
pub(super) fn looks_like(payload: &[u8]) -> bool {
    payload
        .first_chunk::<4>()
        .is_some_and(|&[version, _, t1, t2]| {
            version >> 6 == 0 && matches!(u16::from_be_bytes([t1, t2]), ETHERNET | IPV4 | IPV6)
        })
}

pub(super) fn unwrap(payload: &[u8], cut: usize, ports: Ports) -> Result<Inner, DropReason> {
    let Some(&[first, second, t1, t2, v1, v2, v3, r]) = payload.first_chunk::<HEADER_LEN>() else {
        return Err(DropReason::Short);
    };
    // "Packets received by a tunnel endpoint with an unknown version MUST be dropped" (section 3.4).
    if first >> 6 != 0 {
        return Err(DropReason::BadGeneve);
    }
    let start = HEADER_LEN + usize::from(first & 0x3f) * 4;
    let Some(options) = payload.get(HEADER_LEN..start) else {
        return Err(DropReason::Short);
    };
    let endpoint = endpoint(options)?;
    let reserved_bits = second & 0x3f != 0 || r != 0;
    let (len, cut) = behind(start, payload.len(), cut)?;
    match u16::from_be_bytes([t1, t2]) {
        ETHERNET => {
            let vni = Vni::from_bytes([v1, v2, v3]);
            Ok(Inner {
                start,
                len,
                cut,
                vni,
                source: None,
                endpoint,
                reserved_bits,
            })
        }
        kind @ (IPV4 | IPV6) => {
            let middle = Middle::parse(payload.get(start..).unwrap_or_default(), cut, kind)?;
            let inner = middle.unwrap(ports)?;
            Ok(Inner {
                start: start + inner.start,
                source: Some(middle.source),
                endpoint,
                reserved_bits: reserved_bits || inner.reserved_bits,
                ..inner
            })
        }
        _ => Err(DropReason::GeneveProtocol),
    }
}

/// The endpoint id among the options. An option that overruns the options' length makes the header
/// malformed, whatever it is.
fn endpoint(mut options: &[u8]) -> Result<Option<Endpoint>, DropReason> {
    let mut found = None;
    while !options.is_empty() {
        let Some((&[c1, c2, kind, length], rest)) = options.split_first_chunk::<4>() else {
            return Err(DropReason::BadGeneve);
        };
        let data_len = usize::from(length & 0x1f) * 4;
        let Some((data, after)) = rest.split_at_checked(data_len) else {
            return Err(DropReason::BadGeneve);
        };
        if (u16::from_be_bytes([c1, c2]), kind) == (AWS_CLASS, AWS_ENDPOINT) {
            found = data
                .first_chunk()
                .map(|id| Endpoint(u64::from_be_bytes(*id)))
                .or(found);
        }
        options = after;
    }
    Ok(found)
}

/// The IP and UDP headers between GENEVE and VXLAN.
struct Middle<'a> {
    source: IpAddr,
    /// UDP destination port.
    port: u16,
    /// Where the UDP payload starts, counted from the IP header.
    start: usize,
    payload: &'a [u8],
    cut: usize,
}

impl<'a> Middle<'a> {
    fn parse(ip: &'a [u8], cut: usize, kind: u16) -> Result<Self, DropReason> {
        let (source, header, total) = if kind == IPV4 { ipv4(ip)? } else { ipv6(ip)? };
        // what the IP length bounds is the packet; bytes behind it are not, missing ones were cut
        let (ip, cut) = bound(ip, cut, total);
        let udp = ip.get(header..).unwrap_or_default();
        let Some(&[_, _, p1, p2, l1, l2, _, _]) = udp.first_chunk::<UDP_LEN>() else {
            return Err(DropReason::Short);
        };
        let udp_len = usize::from(u16::from_be_bytes([l1, l2]));
        let (udp, cut) = if udp_len < UDP_LEN {
            (udp, cut)
        } else {
            bound(udp, cut, udp_len)
        };
        Ok(Self {
            source,
            port: u16::from_be_bytes([p1, p2]),
            start: header + UDP_LEN,
            payload: udp.get(UDP_LEN..).unwrap_or_default(),
            cut,
        })
    }

    fn unwrap(&self, ports: Ports) -> Result<Inner, DropReason> {
        if self.port == ports.geneve && self.port != ports.vxlan {
            return Err(DropReason::NestedTooDeep);
        }
        if self.port != ports.vxlan {
            return Err(DropReason::GeneveNotVxlan);
        }
        let inner = vxlan::unwrap(self.payload, self.cut)?;
        Ok(Inner {
            start: self.start + inner.start,
            ..inner
        })
    }
}

/// The first `claimed` bytes, and how many bytes are missing at the end. A claim of zero (segmentation
/// offload, BIG TCP) is no claim.
fn bound(bytes: &[u8], cut: usize, claimed: usize) -> (&[u8], usize) {
    if claimed == 0 {
        return (bytes, cut);
    }
    match bytes.get(..claimed) {
        Some(exact) => (exact, 0),
        None => (bytes, claimed - bytes.len()),
    }
}

/// Source, header length and total length of a middle IPv4 header that carries a whole UDP datagram.
fn ipv4(ip: &[u8]) -> Result<(IpAddr, usize, usize), DropReason> {
    let Some(h) = ip.first_chunk::<20>() else {
        return Err(DropReason::Short);
    };
    let header = usize::from(h[0] & 0x0f) * 4;
    if h[0] >> 4 != 4 || header < 20 {
        return Err(DropReason::GeneveNotVxlan);
    }
    // more fragments, or an offset: RFC 791, section 3.1
    if u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0 {
        return Err(DropReason::GeneveFragment);
    }
    if h[9] != UDP {
        return Err(DropReason::GeneveNotVxlan);
    }
    let source = Ipv4Addr::new(h[12], h[13], h[14], h[15]);
    Ok((
        source.into(),
        header,
        usize::from(u16::from_be_bytes([h[2], h[3]])),
    ))
}

/// The same of IPv6. Extension headers never stand before a mirror's VXLAN, but for the fragment header.
fn ipv6(ip: &[u8]) -> Result<(IpAddr, usize, usize), DropReason> {
    const FRAGMENT: u8 = 44;
    let Some(h) = ip.first_chunk::<40>() else {
        return Err(DropReason::Short);
    };
    if h[0] >> 4 != 6 {
        return Err(DropReason::GeneveNotVxlan);
    }
    match h[6] {
        UDP => {}
        FRAGMENT => return Err(DropReason::GeneveFragment),
        _ => return Err(DropReason::GeneveNotVxlan),
    }
    let Some(source) = h[8..].first_chunk::<16>() else {
        return Err(DropReason::Short);
    };
    let payload = usize::from(u16::from_be_bytes([h[4], h[5]]));
    let total = if payload == 0 { 0 } else { 40 + payload };
    Ok((Ipv6Addr::from(*source).into(), 40, total))
}
