//! Which claims a packet may fall to, without asking all of ten thousand.
//!
//! A claim on single hosts is found by its sources, one on few VNIs by these; only what is wider is asked about every
//! packet. Holds: the claim that takes a packet is always among its candidates.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::Vni;
use crate::session::VniRange;

/// VNIs of a claim up to which it is filed under each.
const FEW: u32 = 256;

/// Where a claim is filed.
enum Place {
    Hosts(Vec<IpAddr>),
    Vnis(Vec<Vni>),
    Anywhere,
}

impl Place {
    fn of(vnis: &[VniRange], sources: &[IpNet]) -> Self {
        let is_host = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        if !sources.is_empty() && sources.iter().all(is_host) {
            return Self::Hosts(sources.iter().map(IpNet::addr).collect());
        }
        let width = |range: &VniRange| range.last.value() - range.first.value() + 1;
        let count: u32 = vnis.iter().map(width).fold(0, u32::saturating_add);
        if count == 0 || count > FEW {
            return Self::Anywhere;
        }
        let all = vnis
            .iter()
            .flat_map(|range| range.first.value()..=range.last.value());
        Self::Vnis(all.map(Vni::new).collect())
    }
}

/// Numbers of claims, ascending in each list.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_host: HashMap<IpAddr, Vec<usize>>,
    by_vni: HashMap<Vni, Vec<usize>>,
    hosts: Vec<usize>,
    vnis: Vec<usize>,
    anywhere: Vec<usize>,
}

impl Index {
    /// Files a claim, whose number is above those of all before.
    pub(super) fn add(&mut self, number: usize, vnis: &[VniRange], sources: &[IpNet]) {
        match Place::of(vnis, sources) {
            Place::Hosts(hosts) => {
                self.hosts.push(number);
                hosts
                    .iter()
                    .for_each(|host| self.by_host.entry(*host).or_default().push(number));
            }
            Place::Vnis(vnis) => {
                self.vnis.push(number);
                vnis.iter()
                    .for_each(|vni| self.by_vni.entry(*vni).or_default().push(number));
            }
            Place::Anywhere => self.anywhere.push(number),
        }
    }

    /// The claims that may take packets of `source` with `vni`.
    pub(super) fn of_packet(&self, source: IpAddr, vni: Vni) -> impl Iterator<Item = usize> {
        let lists = [
            listed(&self.by_host, &source),
            listed(&self.by_vni, &vni),
            &self.anywhere,
        ];
        lists.into_iter().flatten().copied()
    }

    /// The claims that may take packets that this one takes.
    pub(super) fn beside(&self, vnis: &[VniRange], sources: &[IpNet]) -> Vec<usize> {
        let mut beside: Vec<&[usize]> = vec![&self.anywhere];
        match Place::of(vnis, sources) {
            Place::Hosts(hosts) => {
                beside.push(&self.vnis);
                beside.extend(hosts.iter().map(|host| listed(&self.by_host, host)));
            }
            Place::Vnis(vnis) => {
                beside.push(&self.hosts);
                beside.extend(vnis.iter().map(|vni| listed(&self.by_vni, vni)));
            }
            Place::Anywhere => beside.extend([&*self.hosts, &*self.vnis]),
        }
        beside.concat()
    }
}

fn listed<'a, K: Eq + std::hash::Hash>(lists: &'a HashMap<K, Vec<usize>>, key: &K) -> &'a [usize] {
    lists.get(key).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Claim = (Vec<VniRange>, Vec<IpNet>);

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let range = (0_u32..20, 0_u32..400).prop_map(|(first, more)| VniRange {
            first: Vni::new(first),
            last: Vni::new(first + if more < 390 { more % 3 } else { more }),
        });
        let net = (0_u8..4, 30_u8..=32)
            .prop_map(|(d, length)| IpNet::new([10, 0, 0, d].into(), length).unwrap().trunc());
        let claim = (
            prop::collection::vec(range, 0..3),
            prop::collection::vec(net, 0..3),
        );
        prop::collection::vec(claim, 0..30)
    }

    fn takes((vnis, sources): &Claim, source: IpAddr, vni: Vni) -> bool {
        (vnis.is_empty() || vnis.iter().any(|range| range.contains(vni)))
            && (sources.is_empty() || sources.iter().any(|net| net.contains(&source)))
    }

    proptest! {
        #[test]
        fn whoever_takes_a_packet_is_among_its_candidates_and_beside_all_others_that_do(
            claims in claims(), d in 0_u8..4, vni in 0_u32..25,
        ) {
            let mut index = Index::default();
            for (number, (vnis, sources)) in claims.iter().enumerate() {
                index.add(number, vnis, sources);
            }
            let (source, vni) = (IpAddr::from([10, 0, 0, d]), Vni::new(vni));
            let taking: Vec<_> = (0..claims.len()).filter(|n| takes(&claims[*n], source, vni)).collect();
            for number in &taking {
                prop_assert!(index.of_packet(source, vni).any(|n| n == *number));
                let beside = index.beside(&claims[*number].0, &claims[*number].1);
                prop_assert!(taking.iter().all(|other| beside.contains(other)));
            }
        }
    }
}
