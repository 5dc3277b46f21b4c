//! Capture files as bytes: records into them, records out of them.
//!
//! Takes: frames with their times and lengths, or the bytes of a pcap or pcapng file (plain, gzip,
//! zstd, standard input). Gives: [`encode`], which appends records to a buffer, and [`Reader`], which
//! hands out [`Record`]s. Holds: memory is bounded whatever a file claims; a damaged file is read to
//! its last whole record; `origlen` is never below caplen. Knows no folder and no rotation.
//!
//! Crate `pcap-file` takes classic pcap apart, by its raw records: its checked ones refuse a record above
//! the file's snaplen (a fixed limit in old tcpdump files), an origlen below caplen, and a fraction of
//! a second above one. pcapng is taken apart here, because `pcap-file` gives up on the whole
//! file for one interface option of an unexpected size, a name that is not UTF-8, times finer than
//! nanoseconds, or a block length that is not a multiple of four; Wireshark reads all of these.

mod blocks;
mod buffer;
mod classic;
pub mod encode;
mod error;
mod input;
mod reader;

use std::fmt;

pub use encode::{
    PCAP_CAPLEN_OFFSET, PCAPNG_CAPLEN_OFFSET, PCAPNG_INTERFACE_OFFSET, PCAPNG_LEN_OFFSET,
};
pub use error::{Damage, Error};
pub use reader::{Described, Reader, Record};

/// The longest frame that a capture may hold: the limit of libpcap and Wireshark. A record that
/// claims more is damage.
pub const MAX_FRAME: usize = 262_144;

/// File format of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Classic pcap.
    #[default]
    Pcap,
    /// pcapng: one interface per (outer source, VNI), session names, drop counts.
    Pcapng,
}

/// Resolution of the times in a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub enum Precision {
    /// Nanoseconds.
    #[default]
    #[serde(rename = "ns")]
    Nanos,
    /// Microseconds.
    #[serde(rename = "us")]
    Micros,
}

/// What a frame begins with: a number of the tcpdump.org list of link types.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: four bytes of address family in the byte order of the machine that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP.
    pub const PPP: Self = Self(9);
    /// Bare IPv4 or IPv6 as most systems number it inside themselves; found in files all the same.
    pub const RAW_BSD: Self = Self(12);
    /// Bare IPv4 or IPv6 as OpenBSD numbers it inside itself.
    pub const RAW_OPENBSD: Self = Self(14);
    /// PPP in HDLC framing.
    pub const PPP_HDLC: Self = Self(50);
    /// Bare IPv4 or IPv6.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: four bytes of address family, big-endian.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture (the `any` device).
    pub const LINUX_SLL: Self = Self(113);
    /// Bare IPv4.
    pub const IPV4: Self = Self(228);
    /// Bare IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// The name in the tcpdump.org list, for the types that this program knows.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::NULL => Some("NULL"),
            Self::ETHERNET => Some("ETHERNET"),
            Self::PPP => Some("PPP"),
            Self::RAW | Self::RAW_BSD | Self::RAW_OPENBSD => Some("RAW"),
            Self::PPP_HDLC => Some("PPP_HDLC"),
            Self::LOOP => Some("LOOP"),
            Self::LINUX_SLL => Some("LINUX_SLL"),
            Self::IPV4 => Some("IPV4"),
            Self::IPV6 => Some("IPV6"),
            Self::LINUX_SLL2 => Some("LINUX_SLL2"),
            _ => None,
        }
    }
}

/// The name, or `link type N`.
impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "link type {}", self.0),
        }
    }
}
