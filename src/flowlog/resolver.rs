//! Traffic with the Amazon resolver, which AWS does not log.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::headers::{FlowKey, proto};

const PORT: u16 = 53;
const V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x253);

/// Whether a flow is DNS with the resolver: at its link-local addresses, or at the third address of one of the VPC's ranges.
pub(super) fn is_resolver(flow: &FlowKey, vpc_ranges: &[IpNet]) -> bool {
    if !matches!(flow.proto, proto::UDP | proto::TCP) {
        return false;
    }
    let ends = [
        (flow.source(), flow.sport),
        (flow.destination(), flow.dport),
    ];
    let is = |address: Option<IpAddr>| match address {
        Some(IpAddr::V4(v4)) => v4 == V4 || vpc_ranges.iter().any(|range| third(range) == Some(v4)),
        Some(IpAddr::V6(v6)) => v6 == V6,
        None => false,
    };
    ends.into_iter()
        .any(|(address, port)| port == PORT && is(address))
}

fn third(range: &IpNet) -> Option<Ipv4Addr> {
    let IpNet::V4(range) = range else { return None };
    u32::from(range.network())
        .checked_add(2)
        .map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> FlowKey {
        let mut flow = FlowKey {
            version: 4,
            proto: proto::UDP,
            sport,
            dport,
            ..FlowKey::default()
        };
        flow.src[..4].copy_from_slice(&src);
        flow.dst[..4].copy_from_slice(&dst);
        flow
    }

    #[test]
    fn the_resolver_is_at_its_own_addresses_and_at_the_third_of_the_vpc() {
        let vpc = ["10.1.0.0/16".parse().unwrap()];
        let host = [10, 1, 5, 5];
        for (peer, port, ranges, is) in [
            ([169, 254, 169, 253], 53, &[][..], true),
            ([10, 1, 0, 2], 53, &vpc[..], true),
            ([10, 1, 0, 2], 53, &[][..], false),
            ([10, 1, 0, 2], 443, &vpc[..], false),
            ([10, 1, 0, 3], 53, &vpc[..], false),
        ] {
            assert_eq!(
                is_resolver(&flow(host, 4000, peer, port), ranges),
                is,
                "{peer:?} {port}"
            );
            assert_eq!(
                is_resolver(&flow(peer, port, host, 4000), ranges),
                is,
                "the answer"
            );
        }
    }
}
