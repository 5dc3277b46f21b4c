//! What one packet says to its flow.

use std::hash::{Hash, Hasher};

use crate::filter::Direction;
use crate::headers::{FlowKey, Outline};
use crate::record::tcp_flags;
use crate::time::Timestamp;

/// Which record a packet belongs to: interface, direction and 5-tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The 5-tuple as sent; ports are 0 where there are none (ICMP too).
    pub flow: FlowKey,
    /// The interface: a small number that whoever fills the table gives to each. Two sessions of one interface share it.
    pub eni: u32,
    /// Which way the packet went, seen from the interface.
    pub direction: Direction,
}

/// By whole words: this is done for every packet.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let flow = &self.flow;
        let ports = u32::from(flow.sport) << 16 | u32::from(flow.dport);
        state.write_u128(u128::from_le_bytes(flow.src));
        state.write_u128(u128::from_le_bytes(flow.dst));
        state.write_u64(u64::from(self.eni) << 32 | u64::from(ports));
        let kind = [flow.version, flow.proto, self.direction as u8, 0];
        state.write_u32(u32::from_le_bytes(kind));
    }
}

/// A packet as the flow table sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What it belongs to; the ports of later fragments are not known yet.
    pub key: Key,
    /// IP total length: what was sent, however short the copy.
    pub bytes: u32,
    /// What its TCP flags add to `tcp-flags`.
    pub flags: u8,
    /// When it arrived.
    pub time: Timestamp,
    /// The sender's number, if it is a piece of a larger packet.
    pub(super) piece: Option<Piece>,
}

/// A piece of a fragmented packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) id: u32,
    /// Whether it is the one that has the ports.
    pub(super) first: bool,
}

impl Seen {
    /// Of a frame that was walked over. `None` where there is no IP: such frames belong to no flow.
    #[inline]
    pub fn of(
        eni: u32,
        direction: Direction,
        outline: impl Into<Outline>,
        frame: &[u8],
        time: Timestamp,
    ) -> Option<Self> {
        let outline = outline.into();
        if !outline.is_ip() {
            return None;
        }
        let fragment = outline.fragment.filter(|_| outline.is_fragment());
        Some(Self {
            key: Key {
                flow: outline.gist.key,
                eni,
                direction,
            },
            bytes: total_length(&outline, frame),
            flags: tcp_flags(outline.tcp_flags as u8),
            time,
            piece: fragment.map(|f| Piece {
                id: f.id,
                first: f.offset == 0,
            }),
        })
    }
}

/// IPv6 next header: nothing follows.
const NOTHING: u8 = 59;

/// The length that the IP header states. One of zero is a packet caught before segmentation, or a jumbogram: then what
/// the frame holds counts.
#[inline]
fn total_length(outline: &Outline, frame: &[u8]) -> u32 {
    let at = usize::from(outline.network);
    let word = |at: usize| {
        let bytes: Option<&[u8; 2]> = frame.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |b| u32::from(u16::from_be_bytes(*b)))
    };
    let stated = if outline.gist.key.version == 4 {
        word(at + 2)
    } else {
        match word(at + 4) {
            0 if frame.get(at + 6) == Some(&NOTHING) => 40,
            0 => 0,
            payload => payload + 40,
        }
    };
    let present = outline.gist.wire_len.saturating_sub(at as u32);
    if stated == 0 { present } else { stated }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers;

    fn seen(frame: &[u8]) -> Option<Seen> {
        let headers = headers::walk(frame);
        Seen::of(
            3,
            Direction::Egress,
            &headers,
            frame,
            Timestamp::from_nanos(7),
        )
    }

    fn ping() -> Vec<u8> {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .icmpv4_echo_request(5, 6)
            .write(&mut frame, &[0; 56])
            .unwrap();
        frame
    }

    #[test]
    fn a_ping_counts_84_bytes_and_has_no_ports() {
        let seen = seen(&ping()).unwrap();
        assert_eq!(seen.bytes, 84, "as in the documented example: 4 make 336");
        assert_eq!((seen.key.flow.sport, seen.key.flow.dport), (0, 0));
        assert_eq!((seen.key.eni, seen.flags), (3, 0));
    }

    #[test]
    fn a_cut_or_padded_packet_counts_what_its_header_states() {
        let whole = ping();
        assert_eq!(seen(&whole[..40]).unwrap().bytes, 84);
        let padded = [&whole[..], &[0; 9]].concat();
        assert_eq!(seen(&padded).unwrap().bytes, 84);
    }

    #[test]
    fn a_packet_that_states_no_length_counts_what_is_there() {
        let mut frame = ping();
        frame[16..18].fill(0);
        assert_eq!(seen(&frame).unwrap().bytes, 84);
    }

    #[test]
    fn ipv6_counts_its_header_too() {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([1; 16], [2; 16], 64)
            .tcp(1, 2, 3, 4)
            .syn()
            .ack(9)
            .write(&mut frame, &[0; 10])
            .unwrap();
        let seen = seen(&frame).unwrap();
        assert_eq!((seen.bytes, seen.flags), (40 + 20 + 10, 18));
    }

    #[test]
    fn what_is_not_ip_belongs_to_no_flow() {
        let mut arp = vec![2; 12];
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        arp.extend([0; 20]);
        assert_eq!(seen(&arp), None);
        assert_eq!(seen(&[]), None);
    }
}
