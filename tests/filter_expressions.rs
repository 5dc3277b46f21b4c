//! Expressions: what our machine says of a whole packet is what libpcap's own says, on the corpus; of a cut packet it
//! knows the length on the wire; and no program that passed the check, and no numbers, can make it panic or hang.
#![cfg(feature = "pcap-filter")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::{captures, readable_packets, tool};
use mirrortap::capfile::{LinkType, Reader};
use mirrortap::filter::{Config, Direction, Filter, Numbers, Program};
use mirrortap::headers::walk;
use mirrortap::time::monotonic;
use proptest::prelude::*;

/// Every form of the language that Ethernet frames can be asked about.
const EXPRESSIONS: &[&str] = &[
    "",
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "tcp port 443",
    "tcp port 80 or tcp port 8080",
    "udp port 53",
    "port http",
    "src port 53",
    "dst port 53",
    "portrange 1-1023",
    "tcp dst portrange 1024-65535",
    "host 10.0.0.1",
    "src host 192.168.1.1 or dst host 192.168.1.1",
    "net 10.0.0.0/8",
    "src net 192.168.0.0/16",
    "not net 10.0.0.0/8",
    "tcp port 443 and not net 10.0.0.0/8",
    "ip6 net fe80::/10",
    "ip6 host 2001:6f8:900:7c0::2",
    "dst net ff02::/16",
    "ip proto 47",
    "ip proto \\icmp",
    "ip6 proto 58",
    "ether proto 0x0806",
    "ether broadcast",
    "ether multicast",
    "ip multicast",
    "ip6 multicast",
    "ether host ff:ff:ff:ff:ff:ff",
    "ether[0] & 1 = 1",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[tcpflags] & tcp-rst != 0",
    "tcp[tcpflags] = tcp-syn",
    "icmp[icmptype] = icmp-echo or icmp[icmptype] = icmp-echoreply",
    "ip[6:2] & 0x1fff != 0",
    "ip[6:2] & 0x3fff != 0 and udp",
    "((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "udp[4:2] > 100",
    "len > 100",
    "greater 500",
    "less 64",
    "len - 14 < 60 * 2",
    "len % 2 = 0",
    "ip[2:2] / 4 > 20 or ip[8] * 2 = 128",
    "ip[0] ^ 0x45 = 0 and (ip[1] | 1) != 1",
    "vlan",
    "vlan and ip",
    "vlan 100",
    "vlan and vlan and tcp",
    "mpls",
    "mpls and ip",
    "pppoes and ip",
    "not (tcp or udp)",
    "(tcp or udp) and (src port 53 or dst port 53) and not host 10.1.2.3",
    "geneve",
    "llc",
    "llc u",
    "llc s or llc i",
    "stp",
    "ip and -ip[8] < 0xffffff00",
];

/// Those among them that ask for the length.
const LENGTHS: &[&str] = &[
    "len > 100",
    "greater 500",
    "less 64",
    "len - 14 < 60 * 2",
    "len % 2 = 0",
    "ether[0] >= 0 and len = 60",
];

/// What libpcap can't compile for Ethernet, with a machine of this system, is no expression to compare.
fn theirs(expression: &str) -> Option<pcap::BpfProgram> {
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).unwrap();
    dead.compile(expression, true).ok()
}

fn ours(expression: &str) -> Filter {
    let config = Config {
        expression: Some(expression.to_owned()),
        ..Config::default()
    };
    let compiled = Filter::compile(&config, Path::new("."));
    compiled.unwrap_or_else(|e| panic!("{}", e[0]))
}

fn keeps(filter: &Filter, frame: &[u8], wire_len: u32) -> bool {
    let headers = walk(frame);
    let verdict = filter.judge(frame, &headers, wire_len, Direction::Unknown);
    assert_eq!(verdict.rule, None);
    verdict.reject.is_none()
}

/// Frames of a folder's captures, a few hundred of each; all are bytes, also those of other links.
fn frames(folder: &str) -> Vec<Vec<u8>> {
    let some = |path: &Path| {
        readable_packets(path)
            .0
            .into_iter()
            .take(300)
            .map(|p| p.data)
    };
    let readable = captures(folder)
        .into_iter()
        .filter(|p| Reader::open(p).is_ok());
    readable
        .flat_map(|path| some(&path).collect::<Vec<_>>())
        .collect()
}

#[test]
fn our_machine_says_what_libpcap_says_of_every_corpus_packet() {
    let mut frames = frames("l2l4");
    frames.extend(self::frames("protocols"));
    if frames.is_empty() {
        return;
    }
    let (mut matched, mut unequal) = (BTreeSet::new(), Vec::new());
    for expression in EXPRESSIONS {
        let Some(theirs) = theirs(expression) else {
            panic!("libpcap refuses {expression:?}")
        };
        let ours = ours(expression);
        for (n, frame) in frames.iter().enumerate() {
            let expected = theirs.filter(frame);
            if expected {
                matched.insert(*expression);
            }
            if keeps(&ours, frame, frame.len() as u32) != expected {
                unequal.push(format!("{expression} on frame {n}: {expected}"));
            }
        }
    }
    println!(
        "{} expressions on {} frames",
        EXPRESSIONS.len(),
        frames.len()
    );
    assert!(unequal.is_empty(), "{unequal:#?}");
    // a comparison in which nothing ever matches shows little
    assert!(matched.len() >= 55, "{matched:?}");
}

#[test]
fn of_a_cut_packet_the_length_on_the_wire_is_asked() {
    for expression in LENGTHS {
        let (ours, theirs) = (ours(expression), theirs(expression).unwrap());
        for frame in frames("l2l4").iter().filter(|f| f.len() > 20) {
            let cut = &frame[..frame.len() / 2];
            assert_eq!(
                keeps(&ours, cut, frame.len() as u32),
                theirs.filter(frame),
                "{expression}: {} bytes",
                frame.len()
            );
        }
    }
    assert!(keeps(&ours("greater 1400"), &[0; 64], 1500));
    assert!(!keeps(&ours("less 1400"), &[0; 64], 1500));
}

#[test]
fn what_was_cut_off_rejects_the_packet_even_behind_not() {
    let frame = [&[2; 12][..], &[8, 0, 0x45, 0]].concat();
    assert!(!keeps(&ours("tcp port 80"), &frame, 60));
    assert!(!keeps(&ours("not tcp port 80"), &frame, 60));
    assert!(keeps(&ours("ip"), &frame, 60));
}

#[test]
fn the_numbers_of_tcpdump_are_the_same_filter() {
    let frames = frames("l2l4");
    for expression in [
        "tcp port 443 and not net 10.0.0.0/8",
        "icmp or ip6",
        "greater 500",
    ] {
        let out = tool("tcpdump")
            .args(["-y", "EN10MB", "-ddd", expression])
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let list: Vec<u32> = text
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        let whole = ours(expression);
        for numbers in [
            Numbers::Text(text),
            Numbers::List(list.clone()),
            Numbers::List(list[1..].to_vec()),
        ] {
            let config = Config {
                bpf: Some(numbers),
                ..Config::default()
            };
            let filter = Filter::compile(&config, Path::new(".")).unwrap();
            for frame in &frames {
                let len = frame.len() as u32;
                assert_eq!(
                    keeps(&filter, frame, len),
                    keeps(&whole, frame, len),
                    "{expression}"
                );
            }
        }
    }
}

#[test]
fn a_frame_of_a_corpus_file_is_ethernet() {
    // the comparison above is about Ethernet for the most part, or it compares noise
    let ethernet = |path: &std::path::PathBuf| {
        let mut reader = Reader::open(path).unwrap();
        matches!(reader.next(), Ok(Some(record)) if record.link == LinkType::ETHERNET)
    };
    let all = captures("protocols");
    let some = all.iter().filter(|path| ethernet(path)).count();
    assert!(some * 10 >= all.len() * 8, "{some} of {}", all.len());
}

#[test]
fn programs_that_could_fail_while_running_are_refused() {
    let says = |numbers: &[u32]| Program::from_numbers(numbers).unwrap_err().to_string();
    for (numbers, problem) in [
        (&[][..], "0 instructions"),
        (&[6, 0, 0], "3 numbers"),
        (&[2, 6, 0, 0, 1], "5 numbers"),
        (&[0x28, 0, 0, 12], "does not return"),
        (&[0x15, 1, 0, 1, 6, 0, 0, 1], "jump leaves"),
        (&[0x15, 0, 256, 1, 6, 0, 0, 1], "jump leaves"),
        (&[5, 0, 0, u32::MAX, 6, 0, 0, 1], "jump leaves"),
        (&[2, 0, 0, 16, 6, 0, 0, 1], "16 words"),
        (&[0x34, 0, 0, 0, 6, 0, 0, 1], "division by zero"),
        (&[0x94, 0, 0, 0, 6, 0, 0, 1], "division by zero"),
        (&[0x20, 0, 0, 0xffff_f004, 6, 0, 0, 1], "Linux kernel"),
        (&[0xff, 0, 0, 0, 6, 0, 0, 1], "unknown operation 0xff"),
    ] {
        assert!(
            says(numbers).contains(problem),
            "{problem}: {}",
            says(numbers)
        );
    }
    let long = [6, 0, 0, 1].repeat(4097);
    assert!(says(&long).contains("4097 instructions"));
    assert!(
        Program::parse("1\n6 0 0 x")
            .unwrap_err()
            .to_string()
            .contains("not a number")
    );
    assert!(Program::parse("1\n6 0 0 4294967296").is_err());
    // division by X is checked when it runs, and rejects
    let by_x = Program::from_numbers(&[0x3c, 0, 0, 0, 6, 0, 0, 1]).unwrap();
    assert!(!by_x.accepts(&[], 0));
    // a constant shift of 32 leaves nothing, as libpcap has it
    let shift = Program::from_numbers(&[0, 0, 0, 1, 0x64, 0, 0, 32, 0x16, 0, 0, 0]).unwrap();
    assert!(!shift.accepts(&[], 0));
}

/// Codes that mean something, and a few that do not.
const CODES: &[u32] = &[
    0x00, 0x01, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x61, 0x80, 0x81, 0xb1, 0x02, 0x03, 0x04,
    0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84,
    0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07,
    0x87,
];

fn instruction() -> impl Strategy<Value = [u32; 4]> {
    let k = prop_oneof![4 => 0..20_u32, 2 => 0..200_u32, 1 => any::<u32>()];
    (prop::sample::select(CODES), 0..6_u32, 0..6_u32, k)
        .prop_map(|(code, jt, jf, k)| [code, jt, jf, k])
}

/// Programs of which most are valid: what can't be is replaced by something harmless.
fn program() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(instruction(), 0..60).prop_map(|mut insns| {
        insns.push([0x16, 0, 0, 0]);
        let last = insns.len() as u32 - 1;
        for (at, [code, jt, jf, k]) in insns.iter_mut().enumerate() {
            let room = last - (at as u32).min(last);
            match *code {
                0x05 if room > 0 => *k %= room,
                c if c & 7 == 5 && room > 0 => (*jt, *jf) = (*jt % room, *jf % room),
                0x60 | 0x61 | 2 | 3 => *k %= 16,
                0x34 | 0x94 => *k |= 1,
                0x20 | 0x28 | 0x30 | 0xb1 => *k &= 0x7fff_ffff,
                _ => {}
            }
        }
        insns.concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_checked_program_ends_on_any_frame(
        numbers in program(),
        frame in prop::collection::vec(any::<u8>(), 0..200),
        wire_len in any::<u32>(),
    ) {
        let program = Program::from_numbers(&numbers);
        prop_assert!(program.is_ok(), "{:?}", program);
        // the same frame gets the same answer: there is no state
        let program = program.unwrap();
        prop_assert_eq!(program.accepts(&frame, wire_len), program.accepts(&frame, wire_len));
    }

    #[test]
    fn no_numbers_make_the_reader_panic(
        numbers in prop::collection::vec(prop_oneof![0..256_u32, any::<u32>()], 0..64),
        frame in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        if let Ok(program) = Program::from_numbers(&numbers) {
            program.accepts(&frame, 1500);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ 0-9,\\n-]{0,80}|.{0,40}") {
        let _ = Program::parse(&text);
    }

}

proptest! {
    // each case compiles dozens of beginnings
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn words_in_any_order_are_compiled_or_marked(
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..9)
    ) {
        let expression = words.join(" ");
        let config = Config { expression: Some(expression.clone()), ..Config::default() };
        let start = monotonic();
        let compiled = Filter::compile(&config, Path::new("."));
        // a name server that does not answer takes five seconds
        prop_assert!(monotonic().since(start) < Duration::from_secs(3), "{}", expression);
        if let Err(errors) = compiled {
            let shown = errors[0].to_string();
            prop_assert!(shown.contains('^'), "no mark: {}", shown);
        }
    }
}

/// What people build expressions from.
const WORDS: [&str; 24] = [
    "tcp",
    "udp",
    "ip",
    "ip6",
    "port",
    "80",
    "host",
    "10.0.0.1",
    "net",
    "10.0.0.0/8",
    "and",
    "or",
    "not",
    "(",
    ")",
    "src",
    "dst",
    "len",
    ">",
    "tcp[13]",
    "&",
    "fe80::1",
    "vlan",
    "http",
];
