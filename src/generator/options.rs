//! What to generate, how fast, and where to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::generator::{Shape, VniSet};
use crate::packet::Vni;

/// Everything that a [`Generator`](crate::generator::Generator) is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The target. A port of 0 stands for the shape's own: 4789 or 6081.
    pub to: SocketAddr,
    /// The outer source address, the "mirrored ENI"; the one that the route gives when `None` (a made-up
    /// one when writing to a file).
    pub source: Option<IpAddr>,
    /// The VNIs; a flow keeps to one of them.
    pub vnis: VniSet,
    /// The wrapping.
    pub shape: Shape,
    /// Cuts frames so that the encapsulated IP packet is no larger.
    pub mtu: Option<u16>,
    /// Cuts frames to so many bytes.
    pub packet_length: Option<u32>,
    /// Sends with UDP checksums, which AWS leaves out.
    pub checksum: bool,
    /// What is wrapped.
    pub input: Input,
    /// How fast.
    pub pace: Pace,
    /// Stops after so many packets.
    pub count: Option<u64>,
    /// Stops after so much time.
    pub duration: Option<Duration>,
    /// Where the outer packets go.
    pub destination: Destination,
}

impl Options {
    /// Synthetic flows over VXLAN to `to`, VNI 1, as fast as it goes, until stopped.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            source: None,
            vnis: VniSet::one(Vni::new(1)),
            shape: Shape::Vxlan,
            mtu: None,
            packet_length: None,
            checksum: false,
            input: Input::synthetic(),
            pace: Pace::Full,
            count: None,
            duration: None,
            destination: Destination::Network,
        }
    }
}

/// What is wrapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A capture file, held in memory.
    Capture {
        /// The file.
        path: PathBuf,
        /// How often it is sent; 0 for without end.
        loops: u64,
    },
    /// Flows made up from a seed.
    Synthetic {
        /// How many flows, at least; each VNI gets the same number, and at least one.
        flows: u32,
        /// Sizes of the inner frames.
        size: Size,
        /// What makes two runs differ.
        seed: u64,
    },
}

impl Input {
    /// 256 flows, IMIX, seed 0.
    pub const fn synthetic() -> Self {
        Self::Synthetic {
            flows: 256,
            size: Size::Imix,
            seed: 0,
        }
    }
}

/// Sizes of synthetic inner frames, Ethernet header included. A frame that could not hold its headers
/// and its mark grows to 74 (UDP over IPv4) to 106 (TCP over IPv6) bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// All of one size.
    Fixed(u16),
    /// 64, 576 and 1500 bytes, 7 : 4 : 1.
    Imix,
}

impl Size {
    /// The largest frame that fits into every shape.
    pub const MAX: u16 = 65_000;
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "imix" {
            return Ok(Self::Imix);
        }
        match text.parse() {
            Ok(size) if size <= Self::MAX => Ok(Self::Fixed(size)),
            _ => Err(format!(
                "{text:?} is no frame size; give a number up to {} or imix",
                Self::MAX
            )),
        }
    }
}

/// How fast packets are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// As fast as the kernel takes them.
    Full,
    /// So many packets a second, on average.
    Rate(u64),
    /// As the times in the capture say, this many times as fast. Synthetic flows have no times
    /// and go as fast as they can.
    Original(f64),
}

/// Where the outer packets go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// To the target, over UDP sockets.
    Network,
    /// Into a nanosecond pcap file, at once: with the times of the capture, or for synthetic flows
    /// with times spaced as the rate says (10,000 packets a second when none is given).
    File(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_or_imix() {
        assert_eq!("imix".parse(), Ok(Size::Imix));
        assert_eq!("1400".parse(), Ok(Size::Fixed(1400)));
        for bad in ["", "big", "-1", "65001", "1e3"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
