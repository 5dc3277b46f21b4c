//! Flows: which packets belong together, and what is known of each flow.
//!
//! Takes: a flow key and where the packet was mirrored. Gives: a hash that is the same for both directions, and a
//! bounded [`Table`] of flows by interface and direction that gives each of them back, closed, once per interval. Holds:
//! the hash is equal for a packet and its reply, and for every fragment of a datagram; different sessions with the
//! same addresses (overlapping VPCs) hash apart. The packets of all closed flows are the packets that were put in.
//!
//! The sum and the exclusive-or of two endpoints do not depend on their order; both are mixed in, so
//! that endpoints which agree in one still differ in the other.

mod closed;
mod entry;
mod pieces;
mod seen;
mod table;

use std::net::IpAddr;

pub use closed::{Addresses, Closed, Why};
pub use seen::{Key, Seen};
pub use table::{Counts, Limits, Table};

use crate::headers::Headers;
use crate::packet::Vni;

/// Multiplier of the folded multiply: the fractional bits of the golden ratio, odd.
const PHI: u64 = 0x9e37_79b9_7f4a_7c15;

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a ^ PHI) * u128::from(b ^ PHI.rotate_left(32));
    (wide as u64) ^ ((wide >> 64) as u64)
}

fn words(address: [u8; 16]) -> (u64, u64) {
    let wide = u128::from_be_bytes(address);
    ((wide >> 64) as u64, wide as u64)
}

/// Hash of where a packet was mirrored: the outer source and the VNI.
pub fn place_hash(source: IpAddr, vni: Vni) -> u64 {
    let address = match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let (high, low) = words(address.octets());
    fold(fold(high, low), u64::from(vni.value()))
}

/// Symmetric hash of (outer source, VNI, inner 5-tuple). Fragments, first ones too, hash without ports, since
/// later ones carry none. Frames without IP hash by place alone, so their order is kept.
pub fn symmetric_hash(place: u64, headers: &Headers) -> u64 {
    let key = &headers.key;
    let (src, dst) = (words(key.src), words(key.dst));
    // the pieces of a packet share addresses only: not ports, nor (behind IPv6 destination options) the protocol
    let (proto, sport, dport) = if headers.is_fragment() {
        (0, 0, 0)
    } else {
        (key.proto, key.sport, key.dport)
    };
    let a = fold(fold(src.0, src.1), u64::from(sport));
    let b = fold(fold(dst.0, dst.1), u64::from(dport));
    let both = fold(a.wrapping_add(b), a ^ b);
    fold(place ^ u64::from(proto), both)
}

/// The worker of `workers` that a hash belongs to: the high bits scaled, which needs no division.
pub fn worker_of(hash: u64, workers: u16) -> u16 {
    ((u128::from(hash) * u128::from(workers)) >> 64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::{self, FlowKey, Fragment};

    fn packet(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Headers {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(src, dst, 64)
            .tcp(sport, dport, 0, 0)
            .write(&mut frame, b"x")
            .unwrap();
        headers::walk(&frame)
    }

    fn hash(headers: &Headers) -> u64 {
        symmetric_hash(
            place_hash(IpAddr::from([10, 0, 0, 1]), Vni::new(7)),
            headers,
        )
    }

    #[test]
    fn the_same_addresses_in_another_session_are_another_flow() {
        let headers = packet([10, 0, 0, 1], [10, 0, 0, 2], 1, 2);
        let places = [([10, 0, 0, 1], 7), ([10, 0, 0, 1], 8), ([10, 0, 0, 2], 7)];
        let hashes =
            places.map(|(s, v)| symmetric_hash(place_hash(IpAddr::from(s), Vni::new(v)), &headers));
        assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
    }

    #[test]
    fn every_fragment_of_a_packet_meets_the_same_worker() {
        let first = Headers {
            fragment: Some(Fragment {
                offset: 0,
                more: true,
                id: 5,
            }),
            ..packet([10, 0, 0, 1], [10, 0, 0, 2], 1000, 53)
        };
        let later = Headers {
            key: FlowKey {
                sport: 0,
                dport: 0,
                ..first.key
            },
            fragment: Some(Fragment {
                offset: 1480,
                more: false,
                id: 5,
            }),
            ..first
        };
        assert_eq!(hash(&first), hash(&later));
    }

    #[test]
    fn flows_spread_evenly_over_workers() {
        for workers in [2_u16, 3, 4, 8, 16] {
            let mut counts = vec![0_u32; usize::from(workers)];
            for i in 0..16_000_u32 {
                let [_, _, c, d] = i.to_be_bytes();
                let headers = packet([10, 1, c, d], [10, 0, 0, 2], 40_000, 443);
                counts[usize::from(worker_of(hash(&headers), workers))] += 1;
            }
            let fair = 16_000 / u32::from(workers);
            assert!(
                counts.iter().all(|n| n.abs_diff(fair) < fair / 5),
                "{workers}: {counts:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn both_directions_of_a_flow_hash_alike(
            src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16,
        ) {
            let there = packet(src, dst, sport, dport);
            let back = packet(dst, src, dport, sport);
            proptest::prop_assert_eq!(hash(&there), hash(&back));
        }
    }
}
