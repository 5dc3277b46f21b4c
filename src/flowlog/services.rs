//! Which AWS service an address belongs to: `ip-ranges.json`, flattened.
//!
//! The prefixes overlap: every one is in AMAZON too, and many are in EC2. The longest that holds an address decides; among equally
//! long ones EC2 stands behind the others, and AMAZON behind EC2. As prefixes nest, one sweep makes disjoint ranges of them, and a
//! look-up is one binary search.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// The services by address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Services {
    names: Vec<Box<str>>,
    v4: Ranges,
    v6: Ranges,
}

/// The places at which the service changes, in order. From each on, up to the next, addresses have its service.
type Ranges = Vec<(u128, Option<u16>)>;

/// The file; what is not asked for is skipped.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    prefixes: Vec<Prefix>,
    #[serde(default)]
    ipv6_prefixes: Vec<Prefix>,
}

#[derive(Deserialize)]
struct Prefix {
    #[serde(alias = "ip_prefix", alias = "ipv6_prefix")]
    prefix: IpNet,
    service: Box<str>,
}

/// A prefix as the sweep sees it: what sorts first is outside of what sorts later.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    first: u128,
    last: Reverse<u128>,
    rank: u8,
    name: Reverse<Box<str>>,
}

impl Block {
    fn of(prefix: &Prefix) -> Self {
        Self {
            first: number(prefix.prefix.network()),
            last: Reverse(number(prefix.prefix.broadcast())),
            rank: match &*prefix.service {
                "AMAZON" => 0,
                "EC2" => 1,
                _ => 2,
            },
            name: Reverse(prefix.service.clone()),
        }
    }
}

impl Services {
    /// From `ip-ranges.json`.
    ///
    /// # Errors
    /// What is wrong with the JSON, with line and column.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let file: File = serde_json::from_str(text)?;
        let mut this = Self::default();
        let all = || file.prefixes.iter().chain(&file.ipv6_prefixes);
        let of = |v4: bool| all().filter(move |p| p.prefix.addr().is_ipv4() == v4);
        this.v4 = this.sweep(of(true));
        this.v6 = this.sweep(of(false));
        Ok(this)
    }

    /// The service of an address; none of one that is private, or in no range.
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        if is_private(address) {
            return None;
        }
        let ranges = if address.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let number = number(address);
        let at = ranges.partition_point(|(first, _)| *first <= number);
        let (_, service) = ranges.get(at.checked_sub(1)?)?;
        self.names.get(usize::from((*service)?)).map(|name| &**name)
    }

    fn sweep<'p>(&mut self, prefixes: impl Iterator<Item = &'p Prefix>) -> Ranges {
        let mut blocks: Vec<_> = prefixes.map(Block::of).collect();
        blocks.sort_unstable();
        let mut ranges = Ranges::new();
        // those that are open, the inner ones last: where they end, and which they are
        let mut open: Vec<(u128, u16)> = Vec::new();
        for block in &blocks {
            close(&mut open, &mut ranges, Some(block.first));
            let service = self.number(&block.name.0);
            open.push((block.last.0, service));
            change(&mut ranges, block.first, Some(service));
        }
        close(&mut open, &mut ranges, None);
        ranges
    }

    fn number(&mut self, name: &str) -> u16 {
        let known = self.names.iter().position(|known| &**known == name);
        let at = known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }
}

/// Closes what ends before `at`; everything, where there is no more to come.
fn close(open: &mut Vec<(u128, u16)>, ranges: &mut Ranges, at: Option<u128>) {
    while let Some((last, _)) = open.last().copied() {
        if at.is_some_and(|at| last >= at) {
            return;
        }
        open.pop();
        let outer = open.last().map(|(_, service)| *service);
        if let Some(behind) = last.checked_add(1) {
            change(ranges, behind, outer);
        }
    }
}

/// From `at` on it is `service`. The last word on a place counts, and a change to the same is none.
fn change(ranges: &mut Ranges, at: u128, service: Option<u16>) {
    while ranges.last().is_some_and(|(first, _)| *first == at) {
        ranges.pop();
    }
    if ranges.last().map(|(_, last)| *last) != Some(service) {
        ranges.push((at, service));
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Addresses of networks that are nobody's in particular.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xC0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn services(prefixes: &[(&str, &str)]) -> Services {
        let entry = |v4: bool| {
            let of = prefixes.iter().filter(|(p, _)| p.contains(':') != v4);
            let key = if v4 { "ip_prefix" } else { "ipv6_prefix" };
            of.map(|(prefix, service)| json!({key: prefix, "region": "r", "service": service, "network_border_group": "g"}))
                .collect::<Vec<_>>()
        };
        let file = json!({"syncToken": "1", "createDate": "x", "prefixes": entry(true), "ipv6_prefixes": entry(false)});
        Services::from_json(&file.to_string()).unwrap()
    }

    fn of<'a>(services: &'a Services, address: &str) -> Option<&'a str> {
        services.of(address.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_decides_then_any_name_before_ec2_before_amazon() {
        let services = services(&[
            ("52.92.0.0/16", "AMAZON"),
            ("52.92.0.0/16", "S3"),
            ("52.92.0.0/16", "EC2"),
            ("52.92.7.0/24", "AMAZON"),
            ("3.5.0.0/19", "EC2"),
            ("3.5.0.0/19", "AMAZON"),
            ("2600:1f00::/24", "AMAZON"),
            ("2600:1f10:4000::/36", "DYNAMODB"),
            ("10.0.0.0/8", "AMAZON"),
        ]);
        for (address, service) in [
            ("52.92.0.0", Some("S3")),
            ("52.92.255.255", Some("S3")),
            ("52.92.7.9", Some("AMAZON")),
            ("52.92.8.0", Some("S3")),
            ("52.93.0.0", None),
            ("52.91.255.255", None),
            ("3.5.31.255", Some("EC2")),
            ("2600:1f10:4000::1", Some("DYNAMODB")),
            ("2600:1f10:5000::1", Some("AMAZON")),
            ("2600:2000::", None),
            ("10.1.2.3", None),
            ("fd00::1", None),
        ] {
            assert_eq!(of(&services, address), service, "{address}");
        }
    }

    #[test]
    fn the_ends_of_all_addresses_belong_to_ranges_too() {
        let services = services(&[
            ("0.0.0.0/0", "AMAZON"),
            ("::/0", "AMAZON"),
            ("255.255.255.255/32", "S3"),
        ]);
        assert_eq!(of(&services, "255.255.255.255"), Some("S3"));
        assert_eq!(of(&services, "255.255.255.254"), Some("AMAZON"));
        assert_eq!(of(&services, "ffff::"), Some("AMAZON"));
        assert_eq!(of(&Services::default(), "8.8.8.8"), None);
    }

    #[test]
    fn a_prefix_that_is_none_is_told_with_its_line() {
        let text = "{\"prefixes\": [\n{\"ip_prefix\": \"1.2.3\", \"service\": \"S3\"}]}";
        let error = Services::from_json(text).unwrap_err();
        assert_eq!(error.line(), 2, "{error}");
    }

    /// By looking at every prefix.
    fn slowly<'a>(prefixes: &'a [(IpNet, &'a str)], address: IpAddr) -> Option<&'a str> {
        let rank = |name: &str| (name != "AMAZON", name != "AMAZON" && name != "EC2");
        let inside = prefixes.iter().filter(|(net, _)| net.contains(&address));
        let best = inside.max_by_key(|(net, name)| (net.prefix_len(), rank(name), Reverse(*name)));
        best.map(|(_, name)| *name)
    }

    proptest! {
        #[test]
        fn ranges_answer_as_the_prefixes_do(
            blocks in proptest::collection::vec((any::<[u8; 2]>(), 6..=32_u8, 0..4_usize), 0..40),
            asked in proptest::collection::vec(any::<[u8; 2]>(), 1..40),
        ) {
            let names = ["AMAZON", "EC2", "S3", "CLOUDFRONT"];
            // few bits differ, so that blocks meet
            let address = |[a, b]: [u8; 2]| IpAddr::from([52, a & 3, b & 7, b >> 5]);
            let prefixes: Vec<_> = blocks.iter().map(|(bytes, length, name)| {
                (IpNet::new(address(*bytes), *length).unwrap().trunc(), names[*name])
            }).collect();
            let texts: Vec<_> = prefixes.iter().map(|(net, name)| (net.to_string(), *name)).collect();
            let texts: Vec<_> = texts.iter().map(|(net, name)| (net.as_str(), *name)).collect();
            let services = services(&texts);
            let edges = prefixes.iter().flat_map(|(net, _)| [net.network(), net.broadcast()]);
            for asked in asked.into_iter().map(address).chain(edges) {
                prop_assert_eq!(services.of(asked), slowly(&prefixes, asked), "{}", asked);
            }
        }
    }
}
