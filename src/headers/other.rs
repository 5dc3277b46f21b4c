//! Links other than Ethernet, which captures are taken on (numbers: the tcpdump.org list).

use crate::headers::facts::{Headers, Layer};
use crate::headers::link::{ethernet, llc, ppp, typed};
use crate::headers::{be16, field, ip};

/// What a frame begins with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Link {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// IPv4 or IPv6, by its first nibble.
    Ip,
    /// BSD loopback: an address family in the byte order of either machine, then IP.
    Loopback,
    /// PPP, with or without the address and control bytes of HDLC.
    Ppp,
    /// Linux "cooked" capture.
    Cooked,
    /// Linux "cooked" capture, version 2.
    Cooked2,
}

impl Link {
    /// The kind that a link type number of a capture stands for, if a walk knows it.
    pub fn from_number(link_type: u16) -> Option<Self> {
        Some(match link_type {
            0 | 108 => Self::Loopback,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            113 => Self::Cooked,
            276 => Self::Cooked2,
            _ => return None,
        })
    }
}

/// Walks over a frame of a kind of link.
pub(super) fn walk(headers: &mut Headers, link: Link, frame: &[u8]) {
    match link {
        Link::Ethernet => ethernet(headers, frame, 0),
        Link::Ip => by_version(headers, frame, 0),
        Link::Loopback => loopback(headers, frame),
        Link::Ppp => ppp_link(headers, frame),
        Link::Cooked => cooked(headers, frame, 14, 16),
        Link::Cooked2 => cooked(headers, frame, 0, 20),
    }
}

fn by_version(headers: &mut Headers, frame: &[u8], at: usize) {
    match frame.get(at).map(|first| first >> 4) {
        Some(4) => ip::v4(headers, frame, at),
        Some(6) => ip::v6(headers, frame, at),
        Some(_) => {}
        None => headers.truncated = true,
    }
}

/// The family says IPv4 (2 everywhere) or IPv6 (another number on every system), in either byte order;
/// some systems put an EtherType there.
fn loopback(headers: &mut Headers, frame: &[u8]) {
    let Some(family) = field::<4>(frame, 0) else {
        headers.truncated = true;
        return;
    };
    headers.reached = Layer::Link;
    match *family {
        [2 | 10 | 23 | 24 | 28 | 30, 0, 0, 0]
        | [0, 0, 0, 2 | 10 | 23 | 24 | 28 | 30]
        | [_, _, 0x08, 0x00]
        | [_, _, 0x86, 0xdd] => by_version(headers, frame, 4),
        _ => {}
    }
}

fn ppp_link(headers: &mut Headers, frame: &[u8]) {
    headers.reached = Layer::Link;
    let framing = if frame.starts_with(&[0xff, 0x03]) {
        2
    } else {
        0
    };
    ppp(headers, frame, framing);
}

/// An EtherType at `kind_at`, the packet at `at`. Small numbers are kinds of frames: 4 is LLC.
fn cooked(headers: &mut Headers, frame: &[u8], kind_at: usize, at: usize) {
    let (Some(kind), true) = (be16(frame, kind_at), frame.len() >= at) else {
        headers.truncated = true;
        return;
    };
    headers.reached = Layer::Link;
    match kind {
        4 => llc(headers, frame, at),
        0..1536 => {}
        _ => typed(headers, frame, kind, at),
    }
}
