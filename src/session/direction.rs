//! Ingress or egress: which way a packet went, seen from the mirrored ENI.
//!
//! The copy carries no direction bit, but its MAC addresses are the real ones: a frame from the ENI's MAC is
//! egress, one to it ingress, whatever IP addresses it carries. The MAC is configured, or learnt: the outer source
//! is the ENI's primary address, so the first frame whose inner source (destination) is that address gives the MAC
//! away.

use std::net::IpAddr;

use crate::filter::Direction;
use crate::headers::Gist;
use crate::packet::Peer;
use crate::session::Mac;

/// What is configured of a session's ENIs.
#[derive(Debug, Default)]
pub struct Learner {
    macs: Vec<u64>,
    addresses: Vec<IpAddr>,
}

impl Learner {
    /// From configured MAC addresses and further IP addresses.
    pub fn new(macs: &[Mac], addresses: &[IpAddr]) -> Self {
        Self {
            macs: macs.iter().map(|m| m.bits()).collect(),
            addresses: addresses.to_vec(),
        }
    }

    /// The direction of a frame of `peer`, learning the ENI's MAC address on the way.
    #[inline]
    pub fn direction(&self, peer: &Peer, frame: &[u8], gist: &Gist) -> Direction {
        let Some((dst, src)) = macs(frame) else {
            return self.by_address(peer, gist);
        };
        let known = peer.eni_mac();
        // all are compared, without a jump: both directions come mixed
        let first = known.unwrap_or(u64::MAX);
        let is_eni =
            |mac: u64| (self.macs.iter()).fold(first == mac, |any, own| any | (*own == mac));
        let (egress, ingress) = (is_eni(src), is_eni(dst));
        if egress != ingress {
            return if egress {
                Direction::Egress
            } else {
                Direction::Ingress
            };
        }
        // both ends of one ENI's hairpin, or neither known: the addresses decide
        let direction = self.by_address(peer, gist);
        if known.is_none() && self.macs.is_empty() {
            match direction {
                Direction::Egress => peer.learn_eni_mac(src),
                Direction::Ingress => peer.learn_eni_mac(dst),
                Direction::Unknown => {}
            }
        }
        direction
    }

    #[inline]
    fn by_address(&self, peer: &Peer, gist: &Gist) -> Direction {
        let key = &gist.key;
        let is_eni = |address: &[u8; 16]| {
            let is = |own: &IpAddr| is_address(own, key.version, address);
            // one that stands for many has no address: nobody mirrors from 0.0.0.0
            (!peer.source.is_unspecified() && is(&peer.source)) || self.addresses.iter().any(is)
        };
        match (is_eni(&key.src), is_eni(&key.dst)) {
            (true, false) => Direction::Egress,
            (false, true) => Direction::Ingress,
            _ => Direction::Unknown,
        }
    }
}

/// Whether an address is that of a flow key.
#[inline]
fn is_address(own: &IpAddr, version: u8, address: &[u8; 16]) -> bool {
    match own {
        IpAddr::V4(v4) => version == 4 && address.first_chunk() == Some(&v4.octets()),
        IpAddr::V6(v6) => version == 6 && v6.octets() == *address,
    }
}

/// Destination and source MAC address, in the low 48 bits each.
#[inline]
fn macs(frame: &[u8]) -> Option<(u64, u64)> {
    let twelve: &[u8; 12] = frame.first_chunk()?;
    let (first, last) = (twelve.first_chunk::<8>()?, twelve.last_chunk::<8>()?);
    let dst = u64::from_be_bytes(*first) >> 16;
    let src = u64::from_be_bytes(*last) & 0xffff_ffff_ffff;
    Some((dst, src))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers;
    use crate::packet::Vni;

    const ENI: [u8; 6] = [2, 1, 1, 1, 1, 1];
    const ROUTER: [u8; 6] = [2, 9, 9, 9, 9, 9];

    fn frame(dst_mac: [u8; 6], src_mac: [u8; 6], src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2(src_mac, dst_mac)
            .ipv4(src, dst, 64)
            .udp(1, 2)
            .write(&mut frame, b"x")
            .unwrap();
        frame
    }

    fn peer() -> Peer {
        Peer::new(
            0,
            IpAddr::from([10, 0, 0, 5]),
            Vni::new(1),
            None,
            "s".into(),
        )
    }

    fn direction(learner: &Learner, peer: &Peer, frame: &[u8]) -> Direction {
        learner.direction(peer, frame, &headers::gist(frame))
    }

    #[test]
    fn the_mac_is_learnt_from_the_primary_address_and_then_serves_secondary_ones() {
        let (learner, peer) = (Learner::default(), peer());
        let secondary_out = frame(ROUTER, ENI, [10, 0, 0, 77], [1, 1, 1, 1]);
        assert_eq!(
            direction(&learner, &peer, &secondary_out),
            Direction::Unknown
        );
        let primary_in = frame(ENI, ROUTER, [1, 1, 1, 1], [10, 0, 0, 5]);
        assert_eq!(direction(&learner, &peer, &primary_in), Direction::Ingress);
        assert_eq!(
            direction(&learner, &peer, &secondary_out),
            Direction::Egress
        );
    }

    #[test]
    fn a_configured_mac_decides_at_once() {
        let (learner, peer) = (Learner::new(&[Mac(ENI)], &[]), peer());
        let out = frame(ROUTER, ENI, [9, 9, 9, 9], [1, 1, 1, 1]);
        let back = frame(ENI, ROUTER, [1, 1, 1, 1], [9, 9, 9, 9]);
        assert_eq!(direction(&learner, &peer, &out), Direction::Egress);
        assert_eq!(direction(&learner, &peer, &back), Direction::Ingress);
    }

    #[test]
    fn a_configured_address_counts_like_the_primary_one() {
        let (learner, peer) = (Learner::new(&[], &[IpAddr::from([10, 0, 0, 77])]), peer());
        let out = frame(ROUTER, ENI, [10, 0, 0, 77], [1, 1, 1, 1]);
        assert_eq!(direction(&learner, &peer, &out), Direction::Egress);
    }

    #[test]
    fn nothing_is_learnt_of_a_peer_that_stands_for_many() {
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        let other = Peer::new(0, nowhere, Vni::new(1), None, "s".into());
        let asks_for_an_address = frame([255; 6], ENI, [0, 0, 0, 0], [255, 255, 255, 255]);
        let direction = direction(&Learner::default(), &other, &asks_for_an_address);
        assert_eq!((direction, other.eni_mac()), (Direction::Unknown, None));
    }

    #[test]
    fn a_frame_too_short_for_macs_has_no_direction() {
        assert_eq!(
            direction(&Learner::default(), &peer(), &[1, 2, 3]),
            Direction::Unknown
        );
    }
}
