//! The outer source port: 65408 and a 7-bit hash of the inner flow, the same in both directions.
//!
//! AWS documents a hash of the 5-tuple for ICMP, TCP and UDP and of the 3-tuple for everything else; on
//! the one public capture only the low seven bits vary. Its hash function is not known, so this is
//! another one with the same shape.

use crate::generator::mix::mix;
use crate::headers::{self, FlowKey};

/// The first port of the range.
pub const FIRST: u16 = 65408;
/// How many ports there are.
pub const COUNT: usize = 128;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A hash of the flow that does not tell its directions apart.
pub(crate) fn hash(key: &FlowKey) -> u64 {
    let with_ports = matches!(key.proto, ICMP | TCP | UDP | ICMPV6);
    let port = |port: u16| if with_ports { u64::from(port) } else { 0 };
    let ends = [end(key.src, port(key.sport)), end(key.dst, port(key.dport))];
    let kind = u64::from(key.version) << 8 | u64::from(key.proto);
    let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
    mix(mix(low ^ kind) ^ high)
}

fn end(address: [u8; 16], port: u64) -> u64 {
    let address = u128::from_be_bytes(address);
    mix((address >> 64) as u64 ^ mix(address as u64 ^ mix(port)))
}

/// The place in the range, 0 to 127, that a [`hash`] leads to.
pub(crate) fn slot(hash: u64) -> u8 {
    (hash & (COUNT as u64 - 1)) as u8
}

/// The outer source port of a flow.
pub fn of(key: &FlowKey) -> u16 {
    FIRST | u16::from(slot(hash(key)))
}

/// The outer source port of a frame.
pub fn of_frame(frame: &[u8]) -> u16 {
    of(&headers::walk(frame).key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reversed(key: FlowKey) -> FlowKey {
        FlowKey {
            src: key.dst,
            dst: key.src,
            sport: key.dport,
            dport: key.sport,
            ..key
        }
    }

    proptest! {
        #[test]
        fn both_directions_of_a_flow_have_one_port_in_the_range(
            src: [u8; 16], dst: [u8; 16], proto: u8, sport: u16, dport: u16,
        ) {
            let key = FlowKey { src, dst, version: 6, proto, sport, dport };
            prop_assert_eq!(of(&key), of(&reversed(key)));
            prop_assert!((65408..=65535).contains(&of(&key)));
        }
    }

    #[test]
    fn flows_spread_over_all_ports() {
        let mut seen = [0_u32; COUNT];
        for sport in 0..12_800 {
            let key = FlowKey {
                proto: TCP,
                version: 4,
                sport,
                dport: 443,
                ..FlowKey::default()
            };
            seen[usize::from(of(&key) - FIRST)] += 1;
        }
        assert!(seen.iter().all(|n| (50..150).contains(n)), "{seen:?}");
    }

    #[test]
    fn only_icmp_tcp_and_udp_are_told_apart_by_port() {
        let ports = |proto, sport| {
            let key = FlowKey {
                proto,
                version: 4,
                sport,
                ..FlowKey::default()
            };
            of(&key)
        };
        let distinct = |proto| (1..20).any(|sport| ports(proto, sport) != ports(proto, 0));
        assert!(distinct(TCP) && distinct(UDP) && distinct(ICMP));
        assert!(!distinct(132) && !distinct(47));
    }
}
