//! Mirror filters as `aws ec2 describe-traffic-mirror-filters` prints them.
//!
//! Every member is optional when reading and unknown ones are passed over: the AWS CLI leaves out what is not set and
//! grows new members. The network service `amazon-dns` mirrors DNS with the Amazon resolver whatever the rules say.
//! A filter does not say where the resolver is, see [`Resolvers`].

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde::Deserialize;

use crate::filter::protocol::{TCP, UDP};
use crate::filter::{Action, Direction, Error, RuleConfig};
use crate::headers::FlowKey;

/// What was read of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// The filter's id.
    pub id: String,
    /// Its rules, of both directions.
    pub rules: Vec<RuleConfig>,
    /// Whether it has the network service `amazon-dns`.
    pub amazon_dns: bool,
}

/// The Amazon resolver, where it can be: at its link-local addresses, and at the address of each VPC that is its
/// first plus two. VPCs are from /16 to /28 large and private as a rule, so that one ends in the bits 0010
/// (10.0.0.2, 172.31.0.2, 192.168.7.18). Another DNS server at such an address is taken for the resolver: what AWS
/// would mirror is never lost, and a little more may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolvers;

impl Resolvers {
    const V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253);
    /// Networks that VPCs have without being public: RFC 1918 and shared address space.
    const PRIVATE: [(Ipv4Addr, u32); 4] = [
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
    ];

    /// Whether a packet is DNS with the resolver. Where the ports are not known (later fragments of a long
    /// answer, packets that were cut) it is taken for DNS.
    pub(super) fn serve(self, key: &FlowKey, ports: Option<(u16, u16)>) -> bool {
        const DNS: u16 = 53;
        if key.proto != UDP && key.proto != TCP {
            return false;
        }
        let (sport, dport) = ports.unwrap_or((DNS, DNS));
        (dport == DNS && Self::is(key.version, &key.dst))
            || (sport == DNS && Self::is(key.version, &key.src))
    }

    fn is(version: u8, address: &[u8; 16]) -> bool {
        let [a, b, c, d, ..] = *address;
        match version {
            4 => Self::is_v4(Ipv4Addr::new(a, b, c, d)),
            _ => *address == Self::V6.octets(),
        }
    }

    fn is_v4(address: Ipv4Addr) -> bool {
        let bits = address.to_bits();
        let within =
            |(network, length): &(Ipv4Addr, u32)| (bits ^ network.to_bits()) >> (32 - length) == 0;
        address == Self::V4 || (bits & 0xf == 2 && Self::PRIVATE.iter().any(within))
    }
}

/// What to do about a file that is something else.
const ADVICE: &str = "write it with `aws ec2 describe-traffic-mirror-filters --output json`";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    traffic_mirror_filters: Vec<MirrorFilter>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct MirrorFilter {
    traffic_mirror_filter_id: String,
    ingress_filter_rules: Vec<MirrorRule>,
    egress_filter_rules: Vec<MirrorRule>,
    network_services: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct MirrorRule {
    rule_number: Option<u32>,
    rule_action: Option<Action>,
    /// -1 is how other EC2 calls say all.
    protocol: Option<i64>,
    source_port_range: Option<PortRange>,
    destination_port_range: Option<PortRange>,
    source_cidr_block: Option<String>,
    destination_cidr_block: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortRange {
    from_port: u16,
    to_port: u16,
}

/// Reads one filter of a file: the one with `id`, or the only one.
///
/// # Errors
/// [`Error::Read`] and [`Error::Import`], which say where and what to do.
pub fn import(path: &Path, id: Option<&str>) -> Result<Import, Error> {
    let text = std::fs::read_to_string(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })?;
    import_text(path, &text, id)
}

/// As [`import`], of a text as if it were the file.
///
/// # Errors
/// [`Error::Import`].
pub fn import_text(path: &Path, text: &str, id: Option<&str>) -> Result<Import, Error> {
    let failed = |message| Error::Import {
        path: path.to_owned(),
        message,
    };
    let answer: Answer =
        serde_json::from_str(text).map_err(|e| failed(format!("{e}; {ADVICE}")))?;
    let filter = choose(answer.traffic_mirror_filters, id).map_err(failed)?;
    let ingress = filter
        .ingress_filter_rules
        .into_iter()
        .map(|r| (Direction::Ingress, r));
    let egress = filter
        .egress_filter_rules
        .into_iter()
        .map(|r| (Direction::Egress, r));
    let rules: Result<Vec<_>, String> = ingress.chain(egress).map(|(d, r)| rule(d, r)).collect();
    let amazon_dns = filter.network_services.iter().any(|s| s == "amazon-dns");
    let import = Import {
        id: filter.traffic_mirror_filter_id,
        rules: rules.map_err(failed)?,
        amazon_dns,
    };
    if import.rules.is_empty() && !amazon_dns {
        return Err(Error::Nothing {
            path: path.to_owned(),
            id: import.id,
        });
    }
    Ok(import)
}

fn choose(mut filters: Vec<MirrorFilter>, id: Option<&str>) -> Result<MirrorFilter, String> {
    let ids: Vec<&str> = filters
        .iter()
        .map(|f| f.traffic_mirror_filter_id.as_str())
        .collect();
    let place = match id {
        Some(id) => ids
            .iter()
            .position(|i| *i == id)
            .ok_or(format!("it has no filter {id:?}")),
        None if ids.len() == 1 => Ok(0),
        None if ids.is_empty() => Err("it has no TrafficMirrorFilters".to_owned()),
        None => Err("it has several filters".to_owned()),
    };
    match place {
        Ok(place) => Ok(filters.swap_remove(place)),
        Err(why) if ids.is_empty() => Err(format!("{why}; {ADVICE}")),
        Err(why) => Err(format!(
            "{why}; choose with `id` one of: {}",
            ids.join(", ")
        )),
    }
}

fn rule(direction: Direction, rule: MirrorRule) -> Result<RuleConfig, String> {
    let missing = |what: &str| {
        format!(
            "a rule for {} has no {what}; import the unchanged output of the AWS CLI",
            direction.name()
        )
    };
    let range = |r: PortRange| format!("{}-{}", r.from_port, r.to_port).into();
    Ok(RuleConfig {
        number: rule.rule_number.ok_or_else(|| missing("RuleNumber"))?,
        direction,
        action: rule.rule_action.ok_or_else(|| missing("RuleAction"))?,
        protocol: rule.protocol.map(|p| p.to_string().into()),
        source: rule.source_cidr_block,
        destination: rule.destination_cidr_block,
        source_ports: rule.source_port_range.map(range),
        destination_ports: rule.destination_port_range.map(range),
        description: rule.description,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_FIELDS: &str = r#"{"TrafficMirrorFilters":[{"TrafficMirrorFilterId":"tmf-1","Description":"all",
      "IngressFilterRules":[{"TrafficMirrorFilterRuleId":"tmfr-1","TrafficMirrorFilterId":"tmf-1",
         "TrafficDirection":"ingress","RuleNumber":100,"RuleAction":"accept","Protocol":6,
         "DestinationPortRange":{"FromPort":443,"ToPort":8443},"SourcePortRange":{"FromPort":1024,"ToPort":65535},
         "SourceCidrBlock":"0.0.0.0/0","DestinationCidrBlock":"10.0.0.0/8","Description":"web","Tags":[]}],
      "EgressFilterRules":[{"RuleNumber":7,"RuleAction":"reject","SourceCidrBlock":"::/0","DestinationCidrBlock":"::/0"}],
      "NetworkServices":["amazon-dns"],"Tags":[{"Key":"a","Value":"b"}]},
      {"TrafficMirrorFilterId":"tmf-2","IngressFilterRules":[],"EgressFilterRules":[]}]}"#;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn every_field_of_an_aws_filter_is_read() {
        let import = import(file(ALL_FIELDS).path(), Some("tmf-1")).unwrap();
        assert!(import.amazon_dns);
        let [web, egress] = &import.rules[..] else {
            panic!("{import:?}")
        };
        assert_eq!(
            (web.number, web.direction, web.action),
            (100, Direction::Ingress, Action::Accept)
        );
        assert_eq!(web.protocol, Some("6".into()));
        assert_eq!(web.destination_ports, Some("443-8443".into()));
        assert_eq!(web.source_ports, Some("1024-65535".into()));
        assert_eq!(
            (web.source.as_deref(), web.destination.as_deref()),
            (Some("0.0.0.0/0"), Some("10.0.0.0/8"))
        );
        assert_eq!(web.description.as_deref(), Some("web"));
        assert_eq!(
            (egress.number, egress.direction, egress.action),
            (7, Direction::Egress, Action::Reject)
        );
        assert_eq!(egress.protocol, None);
    }

    #[test]
    fn what_cannot_be_imported_says_what_to_do() {
        for (text, id, says) in [
            (ALL_FIELDS, None, "choose with `id` one of: tmf-1, tmf-2"),
            (ALL_FIELDS, Some("tmf-9"), "no filter \"tmf-9\""),
            (ALL_FIELDS, Some("tmf-2"), "would keep nothing"),
            ("{}", None, "describe-traffic-mirror-filters"),
            ("{\n \"TrafficMirrorFilters\": 5}", None, "line 2"),
            (
                r#"{"TrafficMirrorFilters":[{"IngressFilterRules":[{"RuleAction":"accept"}]}]}"#,
                None,
                "no RuleNumber",
            ),
        ] {
            let error = import(file(text).path(), id).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
        let missing = import(Path::new("/nowhere/f.json"), None)
            .unwrap_err()
            .to_string();
        assert!(missing.contains("/nowhere/f.json"), "{missing}");
    }

    #[test]
    fn the_resolver_is_known_where_a_vpc_can_have_it() {
        let dns = |server: [u8; 4], port: u16| {
            let mut key = FlowKey {
                version: 4,
                proto: UDP,
                ..FlowKey::default()
            };
            key.dst[..4].copy_from_slice(&server);
            let asked = Resolvers.serve(&key, Some((40_000, port)));
            std::mem::swap(&mut key.src, &mut key.dst);
            assert_eq!(
                Resolvers.serve(&key, Some((port, 40_000))),
                asked,
                "{server:?}"
            );
            let icmp = FlowKey { proto: 1, ..key };
            assert!(!Resolvers.serve(&icmp, None));
            // a later fragment of a long answer
            assert_eq!(
                Resolvers.serve(&key, None),
                Resolvers.serve(&key, Some((53, 1)))
            );
            asked
        };
        for server in [
            [169, 254, 169, 253],
            [10, 0, 0, 2],
            [172, 31, 0, 2],
            [192, 168, 7, 18],
            [100, 64, 0, 2],
        ] {
            assert!(dns(server, 53), "{server:?}");
            assert!(!dns(server, 80), "{server:?}");
        }
        for server in [
            [10, 0, 0, 3],
            [1, 1, 1, 2],
            [172, 32, 0, 2],
            [169, 254, 169, 254],
            [100, 128, 0, 2],
        ] {
            assert!(!dns(server, 53), "{server:?}");
        }
        let mut key = FlowKey {
            version: 6,
            proto: UDP,
            ..FlowKey::default()
        };
        key.src = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253).octets();
        assert!(Resolvers.serve(&key, Some((53, 40_000))));
        assert!(!Resolvers.serve(&key, Some((40_000, 53))));
    }
}
