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
