//! Rules on real traffic: what they keep of the corpus is what tshark's display filters pick, put together in the order
//! of the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{corpus, packets, tool};
use mirrortap::filter::{Config, Direction, Filter, RuleConfig};
use mirrortap::headers::walk;

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

/// A rule without number and direction, and the display filter of the packets that it matches.
type Case = (&'static str, &'static str);

const V4: &str = "ip and not ipv6";
const V6: &str = "ipv6 and not ip";

/// Rule sets; the rules of each are numbered as they stand.
const SETS: &[&[Case]] = &[
    &[("action='accept'", "frame")],
    &[("action='reject'", "frame")],
    &[("action='accept'\nsource='0.0.0.0/0'", "ip")],
    &[(
        "action='accept'\nsource='0.0.0.0/0'\ndestination='0.0.0.0/0'",
        "ip",
    )],
    &[("action='accept'\ndestination='::/0'", "ipv6")],
    &[(
        "action='accept'\nprotocol='tcp'",
        "ip.proto#1 == 6 or (ipv6 and tcp)",
    )],
    &[
        (
            "action='reject'\nprotocol=17\ndestination_ports=53",
            "udp.dstport#1 == 53 and not icmp and not icmpv6",
        ),
        (
            "action='reject'\nprotocol=17\nsource_ports='53'",
            "udp.srcport#1 == 53 and not icmp and not icmpv6",
        ),
        (
            "action='accept'\nsource='0.0.0.0/0'\ndestination='0.0.0.0/0'",
            "ip",
        ),
        ("action='accept'\nsource='::/0'\ndestination='::/0'", "ipv6"),
    ],
    &[
        ("action='accept'\nprotocol='icmp'", "ip.proto#1 == 1"),
        (
            "action='reject'\nsource='10.0.0.0/8'",
            "ip.src#1 == 10.0.0.0/8",
        ),
        (
            "action='reject'\ndestination='10.0.0.0/8'",
            "ip.dst#1 == 10.0.0.0/8",
        ),
        (
            "action='accept'\nprotocol='tcp'\nsource='0.0.0.0/0'",
            "ip.proto#1 == 6",
        ),
    ],
    &[
        (
            "action='reject'\nsource='fe80::/10'",
            "ipv6.src#1 == fe80::/10",
        ),
        (
            "action='accept'\nprotocol='udp'\ndestination='ff02::fb/128'",
            "ipv6.dst#1 == ff02::fb and (udp or ipv6.fraghdr.nxt == 17)",
        ),
        (
            "action='accept'\nprotocol='tcp'\nsource='2001:6f8::/32'\ndestination_ports='80'",
            "ipv6.src#1 == 2001:6f8::/32 and tcp.dstport == 80",
        ),
    ],
    &[
        // ports without a protocol are of TCP and UDP
        (
            "action='reject'\nsource_ports='1-1023'",
            "(tcp.srcport#1 in {1..1023} or udp.srcport#1 in {1..1023}) and not icmp and not icmpv6",
        ),
        (
            "action='accept'\ndestination_ports='1024-65535'",
            "(tcp.dstport#1 in {1024..65535} or udp.dstport#1 in {1024..65535}) and not icmp and not icmpv6",
        ),
    ],
    &[
        // fragments but the first have no ports, and a range of all ports leaves none out
        (
            "action='reject'\nprotocol='udp'\ndestination_ports='2049'",
            "udp.dstport#1 == 2049 and not icmp and not icmpv6",
        ),
        (
            "action='accept'\nprotocol='udp'\ndestination_ports='0-65535'",
            "ip.proto#1 == 17 or (ipv6 and udp and not icmpv6) or ipv6.fraghdr.nxt == 17",
        ),
    ],
    &[
        ("action='reject'\nprotocol='icmpv6'", "icmpv6"),
        ("action='accept'\nprotocol=132", "ip.proto#1 == 132"),
        (
            "action='reject'\nsource='10.138.0.44'",
            "ip.src#1 == 10.138.0.44",
        ),
        ("action='accept'", "frame"),
    ],
];

/// Captures of Ethernet frames without tunnels, so that tshark's fields are those of the outermost packet; the layer
/// operator `#1` passes over what ICMP quotes.
const CAPTURES: &[&str] = &[
    "protocols/arkime-v6-http.pcap",
    "protocols/zeek-ssh-single-conn.pcap",
    "protocols/zeek-dns-mdns.pcap",
    "protocols/ipfixprobe-mixed.pcap",
    "l2l4/pcapplusplus-ip4_fragments.pcap",
    "l2l4/pcapplusplus-ip6_fragments.pcap",
    "l2l4/pcapplusplus-IcmpPackets.pcapng",
    "l2l4/arkime-sctp-www.pcap",
    "l2l4/brimcap-pings.pcap",
    "l2l4/ipfixprobe-arp.pcap",
    "l2l4/arkime-dot1ad.pcap",
    "l2l4/flowtest-ipv4-udp-fragmented.pcap",
    "l2l4/zeek-icmp6-toobig.pcap",
    "l2l4/suricata-community-id-ipv6.pcap",
];

fn merged(folder: &Path) -> Option<PathBuf> {
    let corpus = corpus()?;
    let file = folder.join("all.pcapng");
    let captures = CAPTURES.iter().map(|name| corpus.join(name));
    let run = tool("mergecap")
        .arg("-a")
        .arg("-w")
        .arg(&file)
        .args(captures)
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    Some(file)
}

/// Numbers of the frames that a display filter matches.
fn tshark(capture: &Path, filter: &str) -> BTreeSet<usize> {
    let mut tshark = tool("tshark");
    for layer in ["ip", "ipv6"] {
        tshark.args(["-o", &format!("{layer}.defragment:FALSE")]);
    }
    tshark
        .arg("-nr")
        .arg(capture)
        .args(["-Y", filter, "-T", "fields", "-e", "frame.number"]);
    let out = tshark.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{filter}: {said}");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .map(|n| n.parse().unwrap())
        .collect()
}

/// First match wins and nothing is the end, written as one display filter.
fn display(set: &[Case]) -> String {
    set.iter()
        .rev()
        .fold("frame.number == 0".to_owned(), |rest, (rule, matches)| {
            if rule.contains("accept") {
                format!("({matches}) or ({rest})")
            } else {
                format!("not ({matches}) and ({rest})")
            }
        })
}

#[test]
fn rules_keep_of_the_corpus_what_tshark_picks() {
    let folder = tempfile::tempdir().unwrap();
    let Some(capture) = merged(folder.path()) else {
        return;
    };
    let frames = packets(&capture);
    for (set, direction) in SETS
        .iter()
        .zip([Direction::Ingress, Direction::Egress].into_iter().cycle())
    {
        let rules = set.iter().enumerate().map(|(i, (text, _))| {
            rule(&format!(
                "number={}\ndirection='{}'\n{text}",
                10 * (i + 1),
                direction.name()
            ))
        });
        let filter = compile(rules.collect());
        let kept = |direction| -> BTreeSet<usize> {
            let judge = |data: &[u8]| {
                filter
                    .judge(data, &walk(data), data.len() as u32, direction)
                    .reject
            };
            let numbered = frames.iter().zip(1..);
            numbered
                .filter(|(p, _)| judge(&p.data).is_none())
                .map(|(_, n)| n)
                .collect()
        };
        let expected = tshark(&capture, &display(set));
        // a set that picks nothing, or everything, shows little; two are meant to
        let some = !expected.is_empty() && expected.len() < frames.len();
        assert!(some || set.len() == 1, "{set:?}: {}", expected.len());
        let ours = kept(direction);
        let differ: Vec<_> = ours.symmetric_difference(&expected).take(20).collect();
        assert!(
            differ.is_empty(),
            "{set:?}: frames {differ:?}; we keep {}, tshark {}",
            ours.len(),
            expected.len()
        );
        // a direction without rules keeps nothing, and an unknown one what either keeps
        let other = match direction {
            Direction::Ingress => Direction::Egress,
            _ => Direction::Ingress,
        };
        assert_eq!(kept(other), BTreeSet::new(), "{set:?}");
        assert_eq!(kept(Direction::Unknown), expected, "{set:?}");
    }
    // what the sets are made of is there
    for (filter, least) in [
        (V4, 300),
        (V6, 100),
        ("arp", 40),
        ("icmp", 5),
        ("sctp", 50),
        ("ip.frag_offset > 0", 40),
    ] {
        let count = tshark(&capture, filter).len();
        assert!(count >= least, "{filter}: {count}");
    }
}
