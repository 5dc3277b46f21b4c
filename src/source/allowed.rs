//! Who may send.
//!
//! Takes: the networks of `allowed_sources`. Gives: whether an address lies in one of them. Holds: an IPv4 address is the same whether it comes as
//! itself or mapped into IPv6, in a network as in a packet; a question costs one search in sorted, disjoint ranges, however many
//! networks there are; no networks at all are everybody.
//!
//! VXLAN has no authentication: whoever reaches the port can put packets into files. The address can be forged, too, where the network lets
//! forged addresses through; a VPC does not. docs/overload.md and docs/threat-model.md tell what this holds and what not.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that datagrams may come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// First and last address of each range, sorted and apart; IPv4 ones in their mapped form.
    ranges: Vec<(u128, u128)>,
}

impl Allowed {
    /// The addresses of all `networks`; everybody where there are none.
    pub fn new(networks: &[IpNet]) -> Self {
        let mut all: Vec<_> = networks.iter().map(range).collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    /// Whether nobody is refused.
    pub fn is_everybody(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether datagrams of `source` are taken.
    pub fn admits(&self, source: IpAddr) -> bool {
        let bits = bits(source);
        let behind = self.ranges.partition_point(|(first, _)| *first <= bits);
        let nearest = behind.checked_sub(1).and_then(|i| self.ranges.get(i));
        self.is_everybody() || nearest.is_some_and(|(_, last)| bits <= *last)
    }
}

/// An address as a number; an IPv4 one as if it were mapped.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// First and last address of a network. `::/0` names IPv6 addresses: it takes the mapped ones in, as the address family does.
fn range(network: &IpNet) -> (u128, u128) {
    match network {
        IpNet::V4(v4) => (bits(v4.network().into()), bits(v4.broadcast().into())),
        IpNet::V6(v6) => {
            let last: Ipv6Addr = v6.broadcast();
            (v6.network().to_bits(), last.to_bits())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn allowed(networks: &[&str]) -> Allowed {
        let nets: Vec<IpNet> = networks
            .iter()
            .map(|n| n.parse().expect("a network"))
            .collect();
        Allowed::new(&nets)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn without_networks_everybody_may_send() {
        let everybody = allowed(&[]);
        assert!(everybody.is_everybody());
        assert!(
            ["0.0.0.0", "255.255.255.255", "::", "ff::1"]
                .map(address)
                .into_iter()
                .all(|a| everybody.admits(a))
        );
    }

    #[test]
    fn only_addresses_of_the_networks_may_send_to_their_first_and_last() {
        let some = allowed(&["10.0.0.0/16", "192.0.2.7/32", "2001:db8::/32"]);
        for (yes, no) in [
            ("10.0.0.0", "9.255.255.255"),
            ("10.0.255.255", "10.1.0.0"),
            ("192.0.2.7", "192.0.2.8"),
            ("2001:db8::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
        ] {
            assert!(some.admits(address(yes)), "{yes}");
            assert!(!some.admits(address(no)), "{no}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_that_it_maps() {
        for networks in [["10.0.0.0/16"], ["::ffff:10.0.0.0/112"]] {
            let some = allowed(&networks);
            assert!(some.admits(address("10.0.3.4")) && some.admits(address("::ffff:10.0.3.4")));
            assert!(!some.admits(address("10.1.0.1")) && !some.admits(address("::ffff:10.1.0.1")));
            // neither the deprecated compatible form nor a translated one
            assert!(
                !some.admits(address("::10.0.3.4")) && !some.admits(address("64:ff9b::10.0.3.4"))
            );
        }
    }

    #[test]
    fn all_of_ipv4_leaves_ipv6_out() {
        let four = allowed(&["0.0.0.0/0"]);
        assert!(four.admits(address("255.255.255.255")) && four.admits(address("0.0.0.0")));
        assert!(!four.admits(address("::1")) && !four.admits(address("2001:db8::1")));
    }

    proptest! {
        #[test]
        fn an_address_may_send_exactly_when_a_network_contains_it(
            nets in prop::collection::vec((any::<bool>(), any::<[u8; 16]>(), 0_u8..=128), 1..20),
            addresses in prop::collection::vec((any::<bool>(), any::<[u8; 16]>()), 1..20),
            near in any::<bool>(),
        ) {
            let ip = |four: bool, b: [u8; 16]| -> IpAddr {
                // few different bytes, so that networks meet
                let b = b.map(|b| if near { b & 0x81 } else { b });
                if four { IpAddr::from([b[0], b[1], b[2], b[3]]) } else { IpAddr::from(b) }
            };
            let net = |(four, b, len): (bool, [u8; 16], u8)| {
                IpNet::new(ip(four, b), if four { len % 33 } else { len }).expect("a length that fits")
            };
            let nets: Vec<IpNet> = nets.into_iter().map(net).collect();
            let some = Allowed::new(&nets);
            proptest::prop_assert!(some.ranges.windows(2).all(|w| w[0].1 < w[1].0));
            for (four, b) in addresses {
                let address = ip(four, b);
                let mapped = match address {
                    IpAddr::V4(v4) => IpAddr::from(v4.to_ipv6_mapped()),
                    IpAddr::V6(_) => address,
                };
                let contained = nets.iter().any(|n| n.contains(&address) || n.contains(&mapped) || n.contains(&address.to_canonical()));
                proptest::prop_assert_eq!(some.admits(address), contained, "{} in {:?}", address, nets);
            }
        }
    }
}
