//! Links other than Ethernet, which captures are taken on (numbers: the tcpdump.org list).

use crate::headers::facts::{Below, Headers};
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
pub(super) fn walk(link: Link, frame: &[u8]) -> Headers {
    match link {
        Link::Ethernet => ethernet(Below::default(), frame, 0),
        Link::Ip => by_version(&Below::default(), frame, 0),
        Link::Loopback => loopback(frame),
        Link::Ppp => ppp_link(frame),
        Link::Cooked => cooked(frame, 14, 16),
        Link::Cooked2 => cooked(frame, 0, 20),
    }
}

fn by_version(below: &Below, frame: &[u8], at: usize) -> Headers {
    match frame.get(at).map(|first| first >> 4) {
        Some(4) => ip::v4_any(below, frame, at),
        Some(6) => ip::v6_any(below, frame, at),
        Some(_) => below.stop(frame),
        None => below.cut(frame),
    }
}

/// The family says IPv4 (2 everywhere) or IPv6 (another number on every system), in either byte order;
/// some systems put an EtherType there.
fn loopback(frame: &[u8]) -> Headers {
    let Some(family) = field::<4>(frame, 0) else {
        return Below::default().cut(frame);
    };
    let below = Below::default().linked();
    match *family {
        [2 | 10 | 23 | 24 | 28 | 30, 0, 0, 0]
        | [0, 0, 0, 2 | 10 | 23 | 24 | 28 | 30]
        | [_, _, 0x08, 0x00]
        | [_, _, 0x86, 0xdd] => by_version(&below, frame, 4),
        _ => below.stop(frame),
    }
}

fn ppp_link(frame: &[u8]) -> Headers {
    let framing = if frame.starts_with(&[0xff, 0x03]) {
        2
    } else {
        0
    };
    ppp(&Below::default().linked(), frame, framing)
}

/// An EtherType at `kind_at`, the packet at `at`. Small numbers are kinds of frames: 4 is LLC.
fn cooked(frame: &[u8], kind_at: usize, at: usize) -> Headers {
    let (Some(kind), true) = (be16(frame, kind_at), frame.len() >= at) else {
        return Below::default().cut(frame);
    };
    let below = Below::default().linked();
    match kind {
        4 => llc(below, frame, at),
        0..1536 => below.stop(frame),
        _ => typed(below, frame, kind, at),
    }
}
