//! The answers to the queries of the page, from tshark's sums: rows as DuckDB should give them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::flow_support::{Sum, Sums};

/// Two names and a port.
type Name = (String, String, u16);

fn name(a: &IpAddr, b: &IpAddr, port: u16) -> Name {
    (a.to_string(), b.to_string(), port)
}

/// The largest first, and equals by name.
fn ranked<T>(groups: BTreeMap<Name, T>, weight: impl Fn(&T) -> u64) -> Vec<(Name, T)> {
    let mut rows: Vec<_> = groups.into_iter().collect();
    rows.sort_by_key(|(_, value)| Reverse(weight(value)));
    rows
}

/// Whether it is a SYN without ACK, which only a client sends.
fn is_opening(proto: u8, sum: &Sum) -> bool {
    proto == 6 && sum.flags & 18 == 2
}

pub(crate) fn top_talkers(sums: &Sums) -> Vec<Value> {
    let mut groups: BTreeMap<Name, (u64, u64)> = BTreeMap::new();
    for ((_, src, dst, ..), sum) in sums {
        let (bytes, packets) = groups.entry(name(src, dst, 0)).or_default();
        *bytes += sum.bytes;
        *packets += sum.packets;
    }
    let rows = ranked(groups, |(bytes, _)| *bytes).into_iter().take(10);
    rows.map(|((src, dst, _), (bytes, packets))| json!([src, dst, bytes, packets]))
        .collect()
}

pub(crate) fn actions(sums: &Sums) -> Vec<Value> {
    let packets: u64 = sums.values().map(|s| s.packets).sum();
    vec![json!(["ACCEPT", sums.len(), packets])]
}

pub(crate) fn port_scans(sums: &Sums) -> Vec<Value> {
    let mut groups: BTreeMap<Name, (BTreeSet<u16>, u64)> = BTreeMap::new();
    for ((_, src, dst, proto, _, port), sum) in sums {
        if is_opening(*proto, sum) {
            let (ports, packets) = groups.entry(name(src, dst, 0)).or_default();
            ports.insert(*port);
            *packets += sum.packets;
        }
    }
    let rows = ranked(groups, |(ports, _)| ports.len() as u64).into_iter();
    rows.filter(|(_, (ports, _))| ports.len() > 100)
        .map(|((src, dst, _), (ports, packets))| json!([src, dst, ports.len(), packets]))
        .collect()
}

pub(crate) fn without_answer(sums: &Sums) -> Vec<Value> {
    let answers: BTreeSet<_> = sums
        .iter()
        .filter(|((_, _, _, proto, ..), sum)| *proto == 6 && sum.flags & 18 == 18)
        .map(|((_, src, dst, _, sport, dport), _)| (src, *sport, dst, *dport))
        .collect();
    let mut groups: BTreeMap<Name, u64> = BTreeMap::new();
    for ((_, src, dst, proto, sport, dport), sum) in sums {
        if is_opening(*proto, sum) && !answers.contains(&(dst, *dport, src, *sport)) {
            *groups.entry(name(src, dst, *dport)).or_default() += sum.packets;
        }
    }
    let rows = ranked(groups, |packets| *packets).into_iter();
    rows.map(|((src, dst, port), packets)| json!([src, dst, port, packets]))
        .collect()
}

/// Whether an address is somebody's of the public.
fn is_public(address: Ipv4Addr) -> bool {
    let local = address.is_private() || address.is_loopback() || address.is_link_local();
    !local && !address.is_multicast() && !matches!(address.octets()[0], 0 | 255)
}

pub(crate) fn exfiltration(sums: &Sums) -> Vec<Value> {
    let mut groups: BTreeMap<Name, (u64, u64)> = BTreeMap::new();
    for ((_, src, dst, ..), sum) in sums {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (src, dst) else {
            continue;
        };
        if from.is_private() && is_public(*to) {
            groups.entry(name(src, dst, 0)).or_default().0 += sum.bytes;
        }
        if to.is_private() && is_public(*from) {
            groups.entry(name(dst, src, 0)).or_default().1 += sum.bytes;
        }
    }
    let rows = ranked(groups, |(sent, _)| *sent).into_iter();
    rows.filter(|(_, (sent, received))| *sent > 50_000 && *sent > 5 * received)
        .map(|((inside, outside, _), (sent, received))| json!([inside, outside, sent, received]))
        .collect()
}

pub(crate) fn services(sums: &Sums) -> Vec<Value> {
    let mut groups: BTreeMap<Name, (BTreeSet<IpAddr>, u64)> = BTreeMap::new();
    for ((_, src, dst, proto, _, port), sum) in sums {
        if is_opening(*proto, sum) {
            let group = groups.entry((dst.to_string(), String::new(), *port));
            let (clients, packets) = group.or_default();
            clients.insert(*src);
            *packets += sum.packets;
        }
    }
    let weight =
        |(clients, packets): &(BTreeSet<IpAddr>, u64)| (clients.len() as u64) << 40 | packets;
    let rows = ranked(groups, weight).into_iter().take(20);
    rows.map(|((server, _, port), (clients, packets))| {
        json!([server, port, clients.len(), packets])
    })
    .collect()
}

pub(crate) fn resolvers(sums: &Sums) -> Vec<Value> {
    let mut groups: BTreeMap<Name, (BTreeSet<IpAddr>, u64)> = BTreeMap::new();
    for ((_, src, dst, proto, _, port), sum) in sums {
        if *port == 53 && matches!(proto, 6 | 17) {
            let group = groups.entry((dst.to_string(), String::new(), 0));
            let (clients, packets) = group.or_default();
            clients.insert(*src);
            *packets += sum.packets;
        }
    }
    let rows = ranked(groups, |(_, packets)| *packets).into_iter();
    rows.map(|((resolver, ..), (clients, packets))| json!([resolver, clients.len(), packets]))
        .collect()
}
