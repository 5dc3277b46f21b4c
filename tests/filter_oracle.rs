//! Rules against a plain linear scan: of any packet, by any rules, the first that matches decides; on both sides of each
//! word of 32 or 64 rules; and what makes no sense is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use mirrortap::filter::{Action, Config, Direction, Filter, RuleConfig, Verdict};
use mirrortap::headers::{FlowKey, Headers};
use mirrortap::packet::FilterReason;
use proptest::prelude::*;

fn rule(text: &str) -> RuleConfig {
    toml::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn compile(rules: Vec<RuleConfig>) -> Filter {
    let config = Config {
        rules,
        ..Config::default()
    };
    Filter::compile(&config, Path::new(".")).unwrap_or_else(|e| panic!("{e:?}"))
}

/// The first rule of a direction that matches, found by asking each.
fn naive(
    rules: &[RuleConfig],
    key: &FlowKey,
    ports: Option<(u16, u16)>,
    direction: Direction,
) -> Option<(u32, Action)> {
    let mut rules: Vec<&RuleConfig> = rules.iter().filter(|r| r.direction == direction).collect();
    rules.sort_by_key(|r| r.number);
    let first = rules.into_iter().find(|r| matches(r, key, ports))?;
    Some((first.number, first.action))
}

fn matches(rule: &RuleConfig, key: &FlowKey, ports: Option<(u16, u16)>) -> bool {
    let within = |block: &Option<String>, address: Option<IpAddr>| {
        let block = block.as_ref().map(|text| text.parse::<IpNet>().unwrap());
        block.is_none_or(|block| address.is_some_and(|a| block.contains(&a)))
    };
    let protocol = rule
        .protocol
        .as_ref()
        .map(|p| p.as_str().parse::<u8>().unwrap());
    let asks_ports = rule.source_ports.is_some() || rule.destination_ports.is_some();
    let has_ports = key.version != 0 && (key.proto == 6 || key.proto == 17);
    let covers = |range: &Option<mirrortap::filter::Number>, port: Option<u16>| {
        let Some(text) = range else { return true };
        let (from, to) = text.as_str().split_once('-').unwrap();
        let (from, to): (u16, u16) = (from.parse().unwrap(), to.parse().unwrap());
        match port {
            Some(port) => (from..=to).contains(&port),
            None => (from, to) == (0, 65535),
        }
    };
    protocol.is_none_or(|p| key.version != 0 && p == key.proto)
        && within(&rule.source, key.source())
        && within(&rule.destination, key.destination())
        && (!asks_ports || has_ports)
        && covers(&rule.source_ports, ports.map(|p| p.0))
        && covers(&rule.destination_ports, ports.map(|p| p.1))
}

fn blocks() -> impl Strategy<Value = (Option<String>, Option<String>)> {
    let some = |list: &'static [&'static str]| {
        prop::option::of(prop::sample::select(list).prop_map(str::to_owned))
    };
    let v4 = || {
        some(&[
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/31",
            "10.0.0.1/32",
            "255.255.255.255/32",
            "128.0.0.0/1",
        ])
    };
    let v6 = || {
        some(&[
            "::/0",
            "fe80::/10",
            "2001:db8::/127",
            "2001:db8::1/128",
            "8000::/1",
            "::/128",
        ])
    };
    prop_oneof![(v4(), v4()), (v6(), v6())]
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(&[0_u16, 1, 52, 53, 54, 443, 1023, 1024, 65534, 65535][..])
}

fn range() -> impl Strategy<Value = Option<String>> {
    let some = (port(), port()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    prop::option::weighted(0.4, some)
}

fn random_rule() -> impl Strategy<Value = RuleConfig> {
    let protocol = prop::option::of(prop::sample::select(&["1", "6", "17", "58", "132"][..]));
    (
        any::<bool>(),
        any::<bool>(),
        protocol,
        blocks(),
        range(),
        range(),
    )
        .prop_map(
            |(
                ingress,
                accept,
                protocol,
                (source, destination),
                source_ports,
                destination_ports,
            )| {
                let portless = protocol.is_some_and(|p| !["6", "17"].contains(&p));
                let ports = |range: Option<String>| range.filter(|_| !portless).map(Into::into);
                RuleConfig {
                    number: 0,
                    direction: if ingress {
                        Direction::Ingress
                    } else {
                        Direction::Egress
                    },
                    action: if accept {
                        Action::Accept
                    } else {
                        Action::Reject
                    },
                    protocol: protocol.map(Into::into),
                    source,
                    destination,
                    source_ports: ports(source_ports),
                    destination_ports: ports(destination_ports),
                    description: None,
                }
            },
        )
}

/// Rules in any order of numbers.
fn random_rules() -> impl Strategy<Value = Vec<RuleConfig>> {
    let numbers = (1..=200_u32).collect::<Vec<_>>();
    (
        prop::collection::vec(random_rule(), 1..200),
        Just(numbers).prop_shuffle(),
    )
        .prop_map(|(mut rules, numbers)| {
            for (rule, number) in rules.iter_mut().zip(numbers) {
                rule.number = number;
            }
            rules
        })
}

/// An address as a flow key holds it.
fn bytes(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    match text.parse().unwrap() {
        IpAddr::V4(a) => bytes[..4].copy_from_slice(&a.octets()),
        IpAddr::V6(a) => bytes = a.octets(),
    }
    bytes
}

fn random_packet() -> impl Strategy<Value = Headers> {
    let v4 = prop::sample::select(
        &[
            "0.0.0.0",
            "9.255.255.255",
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.2",
            "11.0.0.0",
            "255.255.255.255",
        ][..],
    );
    let v6 = prop::sample::select(
        &[
            "::",
            "::1",
            "fe80::1",
            "febf::ffff",
            "fec0::",
            "2001:db8::",
            "2001:db8::1",
            "2001:db8::2",
            "ffff::",
        ][..],
    );
    let proto = prop::sample::select(&[1_u8, 6, 17, 58, 132, 0, 255][..]);
    let version = prop::sample::select(&[4_u8, 6, 0][..]);
    (
        version,
        (v4.clone(), v4),
        (v6.clone(), v6),
        proto,
        port(),
        port(),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(version, v4, v6, proto, sport, dport, known)| {
            let (src, dst) = if version == 6 { v6 } else { v4 };
            let mut headers = Headers::default();
            if version != 0 {
                headers.key = FlowKey {
                    src: bytes(src),
                    dst: bytes(dst),
                    version,
                    proto,
                    ..FlowKey::default()
                };
                // SCTP has ports, too, and they are not for rules
                headers.has_ports = known && [6, 17, 132].contains(&proto);
            }
            if headers.has_ports {
                (headers.key.sport, headers.key.dport) = (sport, dport);
            }
            headers
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_first_rule_in_a_linear_scan_decides(
        rules in random_rules(),
        packets in prop::collection::vec(random_packet(), 20),
    ) {
        let filter = compile(rules.clone());
        for headers in &packets {
            let scan = |direction| naive(&rules, &headers.key, headers.ports(), direction);
            let judge = |direction| filter.judge(&[], headers, 0, direction);
            let number = |verdict: Verdict| verdict.rule.map(|i| filter.rules()[i as usize].number);
            for direction in [Direction::Ingress, Direction::Egress] {
                let verdict = judge(direction);
                let expected = scan(direction);
                prop_assert_eq!(number(verdict), expected.map(|(n, _)| n), "{:?}", headers.key);
                let reject = match expected {
                    Some((_, Action::Accept)) => None,
                    Some((_, Action::Reject)) => Some(FilterReason::RuleReject),
                    None => Some(FilterReason::NoRule),
                };
                prop_assert_eq!(verdict.reject, reject);
            }
            let either = [Direction::Ingress, Direction::Egress].map(|d| judge(d).reject.is_none());
            prop_assert_eq!(judge(Direction::Unknown).reject.is_none(), either[0] || either[1]);
        }
    }
}

#[test]
fn rules_on_both_sides_of_a_full_word_are_found() {
    let port = |n: u32| {
        let text = format!(
            "number={}\ndirection='ingress'\naction='accept'\nprotocol='tcp'\ndestination_ports='{n}'",
            n + 1
        );
        rule(&text)
    };
    for count in [1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000] {
        let filter = compile((0..count).map(port).collect());
        for n in [0, 31, 32, 62, 63, 64, 65, 127, 128, 999]
            .into_iter()
            .filter(|n| *n <= count)
        {
            let mut headers = Headers {
                has_ports: true,
                ..Headers::default()
            };
            headers.key = FlowKey {
                version: 4,
                proto: 6,
                dport: n as u16,
                ..FlowKey::default()
            };
            let verdict = filter.judge(&[], &headers, 0, Direction::Ingress);
            assert_eq!(verdict.rule, (n < count).then_some(n), "{n} of {count}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_advice() {
    let base = "number=1\ndirection='ingress'\naction='accept'\n";
    for (text, says) in [
        ("protocol='tcq'", "neither a name"),
        ("protocol=256", "0 to 255"),
        (
            "protocol='icmp'\ndestination_ports='80'",
            "TCP and UDP only",
        ),
        ("source='10.0.0.0/33'", "no CIDR block"),
        ("source=''", "no CIDR block"),
        (
            "source='10.0.0.0/8'\ndestination='::/0'",
            "different families",
        ),
        ("protocol=6\nsource_ports='90-80'", "reversed"),
        (
            "protocol=6\nsource_ports='80-'",
            "neither a port nor a range",
        ),
        (
            "protocol=6\nsource_ports=65536",
            "neither a port nor a range",
        ),
    ] {
        let config = Config {
            rules: vec![rule(&format!("{base}{text}"))],
            ..Config::default()
        };
        let errors = Filter::compile(&config, Path::new(".")).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = errors[0].to_string();
        assert!(
            error.contains(says) && error.contains("rule 1 (ingress)"),
            "{text}: {error}"
        );
    }
    let twice = Config {
        rules: vec![rule(base), rule(base)],
        ..Config::default()
    };
    let error = Filter::compile(&twice, Path::new(".")).unwrap_err()[0].to_string();
    assert!(error.contains("give it another"), "{error}");
    let nothing = Filter::compile(&Config::default(), Path::new(".")).unwrap();
    assert!(nothing.keeps_everything() && !nothing.needs_direction());
}
