//! The outer headers of a record: link, IP, UDP.

use std::net::IpAddr;

use crate::capfile::{LinkType, Record};
use crate::headers::{self, Headers, Link, proto};
use crate::packet::DropReason;
use crate::source::replay::fragments::{Key, Piece};

const UDP_HEADER: usize = 8;

/// A UDP datagram.
pub(super) struct Udp<'a> {
    pub(super) source: IpAddr,
    /// Destination port.
    pub(super) port: u16,
    pub(super) payload: &'a [u8],
    /// Payload bytes that the lengths promise and that are not here.
    pub(super) cut: usize,
}

/// What a record holds.
pub(super) enum Outer<'a> {
    Udp(Udp<'a>),
    Piece(Piece<'a>),
    Refused(DropReason),
}

pub(super) fn parse<'a>(record: &Record<'a>) -> Outer<'a> {
    let LinkType(number) = record.link;
    let Some(link) = Link::from_number(number) else {
        return Outer::Refused(DropReason::LinkType);
    };
    let headers = headers::walk_link(link, record.data);
    if headers.key.version == 0 {
        // an IP header that is announced and not whole is damage, anything else is no IP
        let announced = headers.truncated || headers.network.is_some() && headers.arp.is_none();
        let reason = if announced {
            DropReason::OuterMalformed
        } else {
            DropReason::NotIp
        };
        return Outer::Refused(reason);
    }
    if headers.key.proto != proto::UDP {
        return Outer::Refused(DropReason::NotUdp);
    }
    let (Some(source), Some(destination)) = (headers.key.source(), headers.key.destination())
    else {
        return Outer::Refused(DropReason::OuterMalformed);
    };
    let Some((bytes, cut)) = carried(&headers, record.data) else {
        return Outer::Refused(DropReason::OuterMalformed);
    };
    match headers.fragment.filter(|f| f.more || f.offset != 0) {
        Some(fragment) => {
            let key = Key {
                source,
                destination,
                id: fragment.id,
            };
            Outer::Piece(Piece {
                key,
                offset: fragment.offset,
                more: fragment.more,
                bytes,
                cut,
            })
        }
        None => udp(source, bytes, cut).map_or_else(Outer::Refused, Outer::Udp),
    }
}

/// What the IP header carries, bounded by its length: bytes behind it are padding, missing ones were cut.
fn carried<'a>(headers: &Headers, data: &'a [u8]) -> Option<(&'a [u8], usize)> {
    let start = usize::from(headers.transport.or(headers.payload)?);
    let network = usize::from(headers.network?);
    let end = match ip_end(network, data) {
        Some(end) => end,
        // no length (BIG TCP, segmentation offload): all that is there
        None => data.len(),
    };
    let bytes = data.get(start..end.min(data.len()))?;
    Some((bytes, end.saturating_sub(data.len())))
}

/// Where the IP packet ends by its own length; `None` when it says zero.
fn ip_end(network: usize, data: &[u8]) -> Option<usize> {
    let word = |at: usize| {
        let bytes: &[u8; 2] = data.get(network + at..)?.first_chunk()?;
        Some(usize::from(u16::from_be_bytes(*bytes))).filter(|n| *n != 0)
    };
    match data.get(network)? >> 4 {
        4 => word(2).map(|total| network + total),
        _ => word(4).map(|payload| network + 40 + payload),
    }
}

/// A UDP datagram from its first byte on, `cut` bytes short at its end.
pub(super) fn udp(source: IpAddr, bytes: &[u8], cut: usize) -> Result<Udp<'_>, DropReason> {
    let Some((&[_, _, p1, p2, l1, l2, _, _], rest)) = bytes.split_first_chunk::<UDP_HEADER>()
    else {
        return Err(DropReason::OuterMalformed);
    };
    let port = u16::from_be_bytes([p1, p2]);
    let present = rest.len();
    let (payload, cut) = match usize::from(u16::from_be_bytes([l1, l2])) {
        // RFC 2675, section 4: the length of a UDP jumbogram is zero
        0 => (rest, cut),
        len if len < UDP_HEADER => return Err(DropReason::OuterMalformed),
        len => (
            rest.get(..len - UDP_HEADER).unwrap_or(rest),
            (len - UDP_HEADER).saturating_sub(present),
        ),
    };
    Ok(Udp {
        source,
        port,
        payload,
        cut,
    })
}
