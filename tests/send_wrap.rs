//! Wrapping real captures: nothing is lost or changed, and Wireshark decodes what comes out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

mod send_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mirrortap::capfile::{LinkType, Reader};
use mirrortap::generator::{Gwlb, Options, Shape, wrap_capture};
use send_support::{Packet, corpus, output, pcap, tshark};

fn options(vnis: &str) -> Options {
    Options {
        vnis: vnis.parse().unwrap(),
        ..Options::new("10.0.2.20:0".parse().unwrap())
    }
}

/// What Wireshark's own tool makes of a capture: a nanosecond pcap, when that can be.
fn converted(file: &Path, to: &Path, chop: &str) -> Option<(u32, Vec<Packet>)> {
    let (from, into) = (file.to_str().unwrap(), to.to_str().unwrap());
    output("editcap", &["-F", "nsecpcap", "-C", chop, from, into])?;
    Some(pcap(to))
}

/// The records as our reader gives them, for files that editcap can't convert.
fn read(file: &Path) -> Vec<(LinkType, Packet)> {
    let mut reader = Reader::open(file).unwrap();
    let mut packets = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        let (nanos, data) = (record.time.nanos(), record.data.to_vec());
        packets.push((record.link, Packet { nanos, data }));
    }
    packets
}

#[test]
fn every_corpus_capture_comes_out_of_its_wrapping_byte_identical() {
    let folder = tempfile::tempdir().unwrap();
    let (outer, inner, plain) = (
        folder.path().join("outer.pcap"),
        folder.path().join("inner.pcap"),
        folder.path().join("plain.pcap"),
    );
    let files = [corpus("l2l4"), corpus("protocols")].concat();
    let (mut by_editcap, mut packets) = (0, 0);
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let records = read(file);
        let report = match wrap_capture(file, &outer, options("7")) {
            Ok(report) => report,
            Err(error) => {
                assert!(no_ethernet_form(&records), "{name}: {error}");
                continue;
            }
        };
        // 14 + 20 + 8 + 8 bytes of wrapping, taken off by Wireshark's editcap
        let (_, unwrapped) = converted(&outer, &inner, "50").unwrap();
        assert_eq!(report.sent, unwrapped.len() as u64, "{name}");
        assert_eq!(report.sent + report.skipped, records.len() as u64, "{name}");
        let all_ethernet = records.iter().all(|r| r.0 == LinkType::ETHERNET);
        if all_ethernet && let Some((1, reference)) = converted(file, &plain, "0") {
            // pcap ends in 2106: editcap starts at 1970 again, we stop at the last second
            let late = records.iter().any(|r| r.1.nanos >> 32 >= 1_000_000_000);
            assert_same(name, &unwrapped, &reference, late);
            by_editcap += 1;
        } else {
            assert_inside(name, &unwrapped, &records);
        }
        packets += unwrapped.len();
    }
    assert!(files.is_empty() || by_editcap * 10 > files.len() * 8 && packets > 50_000);
}

fn no_ethernet_form(records: &[(LinkType, Packet)]) -> bool {
    records.iter().all(|(link, _)| link.name().is_none())
}

fn assert_same(name: &str, got: &[Packet], want: &[Packet], late: bool) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (n, (got, want)) in got.iter().zip(want).enumerate() {
        let most = want.data.len().min(65_499);
        assert!(got.data == want.data[..most], "{name}, packet {}", n + 1);
        assert!(got.nanos == want.nanos || late, "{name}, packet {}", n + 1);
    }
}

/// Frames with a made-up header hold the packet behind the link header: Ethernet, then its tail.
fn assert_inside(name: &str, got: &[Packet], records: &[(LinkType, Packet)]) {
    let mut records = records.iter();
    for (n, got) in got.iter().enumerate() {
        let holds = |(link, want): &&(LinkType, Packet)| {
            let tail = if *link == LinkType::ETHERNET { 0 } else { 14 };
            let same = want
                .data
                .ends_with(got.data.get(tail..).unwrap_or_default());
            same && (tail != 0 || got.data.len() == want.data.len().min(65_499))
        };
        // skipped packets lie between those that were sent
        let found = records.find(holds);
        assert!(found.is_some(), "{name}: packet {} was never there", n + 1);
    }
}

/// Small captures of ordinary traffic.
fn some() -> Vec<std::path::PathBuf> {
    let small = |f: &std::path::PathBuf| (2_000..60_000).contains(&f.metadata().unwrap().len());
    let files = corpus("protocols").into_iter().filter(small);
    files.step_by(4).take(12).collect()
}

#[test]
fn tshark_decodes_the_wrapping_and_finds_inside_what_it_found_before() {
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("outer.pcap");
    let gwlb = Options {
        shape: Shape::Gwlb(Gwlb::default()),
        ..options("1234")
    };
    let ipv6 = Options {
        to: "[2001:db8::20]:4789".parse().unwrap(),
        ..options("1234")
    };
    let shapes = [
        (options("1234"), "eth:ethertype:ip:udp:vxlan:"),
        (ipv6, "eth:ethertype:ipv6:udp:vxlan:"),
        (gwlb, "eth:ethertype:ip:udp:geneve:ip:udp:vxlan:"),
    ];
    for (file, (options, around)) in some().iter().zip(shapes.iter().cycle()) {
        let name = file.display();
        let report = wrap_capture(file, &outer, options.clone()).unwrap();
        if report.skipped > 0 {
            continue;
        }
        let before = tshark(file, &["frame.protocols"]);
        let after = tshark(
            &outer,
            &["vxlan.vni", "ip.checksum.status", "frame.protocols"],
        );
        assert_eq!(before.len(), after.len(), "{name}");
        for (n, (before, after)) in before.iter().zip(&after).enumerate() {
            let fields: Vec<_> = after.split('|').collect();
            assert!(fields[0].starts_with("1234"), "{name} {n}: {after}");
            assert!(!fields[1].starts_with('0'), "{name} {n}: outer checksum");
            assert!(fields[2].starts_with(around), "{name} {n}: {after}");
            let inside = &fields[2][around.len()..];
            let layers = |text: &str| text.split(':').take(5).collect::<Vec<_>>().join(":");
            assert_eq!(layers(inside), layers(before), "{name} {n}");
        }
    }
}

#[test]
fn the_outer_headers_are_as_measured_on_aws() {
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("outer.pcap");
    for file in some().iter().take(2) {
        wrap_capture(file, &outer, options("7")).unwrap();
        let fields = [
            "ip.dsfield",
            "ip.id",
            "ip.flags",
            "ip.ttl",
            "ip.checksum.status",
        ];
        let udp = [
            "udp.checksum",
            "udp.dstport",
            "vxlan.flags",
            "ip.src",
            "ip.dst",
        ];
        let lines = tshark(&outer, &[&fields[..], &udp].concat());
        for line in lines {
            let first: Vec<_> = line
                .split('|')
                .map(|f| f.split(',').next().unwrap())
                .collect();
            // checksum status 2 is "unverified": tshark does not check IP checksums unless asked to
            let want = ["0x00", "0x0000", "0x00", "255", "2"];
            assert_eq!(first[..5], want, "{line}");
            let want = ["0x0000", "4789", "0x0800", "10.0.1.10", "10.0.2.20"];
            assert_eq!(first[5..], want, "{line}");
        }
    }
}

#[test]
fn both_directions_of_a_flow_have_one_source_port_and_one_vni() {
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("outer.pcap");
    let (mut ports, mut several) = (BTreeSet::new(), 0);
    for file in some() {
        wrap_capture(&file, &outer, options("100-104,7")).unwrap();
        let fields = [
            "udp.srcport",
            "vxlan.vni",
            "ip.src",
            "ip.dst",
            "tcp.srcport",
            "tcp.dstport",
        ];
        let mut flows = BTreeMap::<_, BTreeSet<_>>::new();
        for line in tshark(&outer, &fields) {
            let f: Vec<_> = line.split('|').collect();
            let (Some(("10.0.1.10", a)), Some(("10.0.2.20", b))) =
                (f[2].split_once(','), f[3].split_once(','))
            else {
                continue;
            };
            if f[4].is_empty() || a.contains(',') {
                continue;
            }
            let port: u16 = f[0].split(',').next().unwrap().parse().unwrap();
            assert!(port >= 65408);
            ports.insert(port);
            let mut ends = [
                (a.to_owned(), f[4].to_owned()),
                (b.to_owned(), f[5].to_owned()),
            ];
            ends.sort();
            let (wrapping, direction) = ((port, f[1].to_owned()), f[4].to_owned());
            flows.entry(ends).or_default().insert((wrapping, direction));
        }
        for (ends, seen) in flows {
            let wrappings: BTreeSet<_> = seen.iter().map(|s| &s.0).collect();
            assert_eq!(wrappings.len(), 1, "{}: {ends:?} {seen:?}", file.display());
            several += usize::from(seen.len() > 1);
        }
    }
    if !some().is_empty() {
        assert!(several > 5, "only {several} flows had two directions");
        assert!(ports.len() > 8, "flows do not spread: {ports:?}");
    }
}

#[test]
fn frames_are_cut_to_the_mtu_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (
        folder.path().join("whole.pcap"),
        folder.path().join("cut.pcap"),
    );
    let (files, mut shortened) = (some(), 0);
    for file in &files {
        wrap_capture(file, &whole, options("7")).unwrap();
        let narrow = Options {
            mtu: Some(400),
            ..options("7")
        };
        let report = wrap_capture(file, &cut, narrow).unwrap();
        let (whole, cut) = (pcap(&whole).1, pcap(&cut).1);
        let longer = whole.iter().filter(|p| p.data.len() > 14 + 400).count();
        assert_eq!(report.cut, longer as u64);
        shortened += longer;
        for (whole, cut) in whole.iter().zip(&cut) {
            assert_eq!(cut.data.len(), whole.data.len().min(14 + 400));
            assert_eq!(cut.data[42..], whole.data[42..cut.data.len()]);
            let length = |at| usize::from(u16::from_be_bytes([cut.data[at], cut.data[at + 1]]));
            assert_eq!(length(16), cut.data.len() - 14, "outer IP length");
            assert_eq!(length(38), cut.data.len() - 34, "outer UDP length");
        }
    }
    assert!(files.is_empty() || shortened > 20, "{shortened} were cut");
}

#[test]
fn a_capture_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evidence.pcap");
    let Some(some) = some().into_iter().next() else {
        return;
    };
    std::fs::copy(some, &file).unwrap();
    let before = std::fs::read(&file).unwrap();
    let error = wrap_capture(&file, &file, options("7")).unwrap_err();
    assert!(error.to_string().contains("is the input"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}
