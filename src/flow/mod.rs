//! Flows: which packets belong together.
//!
//! Takes: a flow key and where the packet was mirrored. Gives: a hash that is the same for both directions.
//! Holds: equal for a packet and its reply, and for every fragment of a datagram; different sessions with the
//! same addresses (overlapping VPCs) hash apart.
//!
//! The sum and the exclusive-or of two endpoints do not depend on their order; both are mixed in, so
//! that endpoints which agree in one still differ in the other.

use std::net::IpAddr;

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
    let (sport, dport) = if headers.is_fragment() {
        (0, 0)
    } else {
        (key.sport, key.dport)
    };
    let a = fold(fold(src.0, src.1), u64::from(sport));
    let b = fold(fold(dst.0, dst.1), u64::from(dport));
    let both = fold(a.wrapping_add(b), a ^ b);
    fold(place ^ u64::from(key.proto), both)
}

/// The worker of `workers` that a hash belongs to: the high bits scaled, which needs no division.
pub fn worker_of(hash: u64, workers: u16) -> u16 {
    ((u128::from(hash) * u128::from(workers)) >> 64) as u16
}
