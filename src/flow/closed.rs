//! What comes out of the table: one record's worth of a flow.

use std::net::{IpAddr, Ipv4Addr};

use crate::filter::Direction;
use crate::flow::Key;
use crate::time::Timestamp;

/// Why a record was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The interval is over.
    Interval,
    /// There was no room for another flow: closed early. A second record with the same key may follow.
    Full,
    /// Nothing more will come.
    End,
}

/// A flow of one interval. It never spans more than the interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Interface, direction, 5-tuple.
    pub key: Key,
    /// Packets.
    pub packets: u64,
    /// Sum of their IP total lengths.
    pub bytes: u64,
    /// The earliest packet.
    pub first: Timestamp,
    /// The latest packet.
    pub last: Timestamp,
    /// All TCP flags, as `tcp-flags` counts them.
    pub flags: u8,
    /// Why it was closed.
    pub why: Why,
}

/// The four addresses of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// `srcaddr`.
    pub src: IpAddr,
    /// `dstaddr`.
    pub dst: IpAddr,
    /// `pkt-srcaddr`.
    pub pkt_src: IpAddr,
    /// `pkt-dstaddr`.
    pub pkt_dst: IpAddr,
}

impl Closed {
    /// The addresses, for an interface whose primary IPv4 address is known or not. The near end is told as the primary
    /// address, whichever address of the interface (or of a host behind it) is in the packet. IPv6 is told as sent, and so is
    /// everything of unknown direction.
    pub fn addresses(&self, primary: Option<Ipv4Addr>) -> Option<Addresses> {
        let flow = &self.key.flow;
        let (pkt_src, pkt_dst) = (flow.source()?, flow.destination()?);
        let near = primary
            .map(IpAddr::V4)
            .filter(|_| pkt_src.is_ipv4() && pkt_dst.is_ipv4());
        let (src, dst) = match (self.key.direction, near) {
            (Direction::Egress, Some(near)) => (near, pkt_dst),
            (Direction::Ingress, Some(near)) => (pkt_src, near),
            _ => (pkt_src, pkt_dst),
        };
        Some(Addresses {
            src,
            dst,
            pkt_src,
            pkt_dst,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::FlowKey;

    const PRIMARY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 220);

    fn padded([a, b, c, d]: [u8; 4]) -> [u8; 16] {
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// srcaddr, dstaddr, pkt-srcaddr, pkt-dstaddr, as text.
    fn told(direction: Direction, src: [u8; 4], dst: [u8; 4]) -> String {
        let flow = FlowKey {
            src: padded(src),
            dst: padded(dst),
            version: 4,
            ..FlowKey::default()
        };
        let closed = Closed {
            key: Key {
                flow,
                eni: 0,
                direction,
            },
            packets: 1,
            bytes: 1,
            first: Timestamp::default(),
            last: Timestamp::default(),
            flags: 0,
            why: Why::End,
        };
        let a = closed.addresses(Some(PRIMARY)).unwrap();
        format!("{} {} {} {}", a.src, a.dst, a.pkt_src, a.pkt_dst)
    }

    #[test]
    fn a_nat_gateway_is_told_as_in_the_guide() {
        let (host, nat, peer) = ([10, 0, 1, 5], [10, 0, 0, 220], [203, 0, 113, 5]);
        for (direction, src, dst, line) in [
            (
                Direction::Ingress,
                host,
                peer,
                "10.0.1.5 10.0.0.220 10.0.1.5 203.0.113.5",
            ),
            (
                Direction::Egress,
                nat,
                peer,
                "10.0.0.220 203.0.113.5 10.0.0.220 203.0.113.5",
            ),
            (
                Direction::Ingress,
                peer,
                nat,
                "203.0.113.5 10.0.0.220 203.0.113.5 10.0.0.220",
            ),
            (
                Direction::Egress,
                peer,
                host,
                "10.0.0.220 10.0.1.5 203.0.113.5 10.0.1.5",
            ),
            (
                Direction::Unknown,
                host,
                peer,
                "10.0.1.5 203.0.113.5 10.0.1.5 203.0.113.5",
            ),
        ] {
            assert_eq!(told(direction, src, dst), line);
        }
    }
}
