//! `mirrortap inspect`, as a user meets it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mirrortap::capfile::Reader;
use mirrortap::headers::{Headers, Link, walk_link};
use serde_json::{Value, json};

fn inspect(arguments: &[&str]) -> Output {
    let mut command = Command::new(common::PROGRAM);
    command.arg("inspect").args(arguments).output().unwrap()
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// Columns of `tshark`, as text, row by row.
fn tshark(capture: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = common::tool("tshark");
    command
        .arg("-r")
        .arg(capture)
        .args(["-Tfields", "-Eoccurrence=f"]);
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    text.lines()
        .map(|line| line.split('\t').map(String::from).collect())
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn packets_are_printed_as_tshark_sees_them() {
    let Some(corpus) = common::corpus() else {
        return;
    };
    for name in [
        "l2l4/zeek-mixed-vlan-mpls.pcap",
        "l2l4/zeek-tcp-fast-open.pcap",
    ] {
        let capture = corpus.join(name);
        let fields = [
            "frame.number",
            "frame.cap_len",
            "frame.len",
            "ip.src",
            "ip.dst",
            "ip.proto",
            "tcp.srcport",
            "tcp.dstport",
            "tcp.flags",
        ];
        let expected = tshark(&capture, &fields);
        let ours = lines(&inspect(&["--packets", capture.to_str().unwrap()]));
        assert_eq!(ours.len(), expected.len());
        for (line, row) in ours.iter().zip(&expected) {
            let names = [
                "n",
                "caplen",
                "origlen",
                "src",
                "dst",
                "proto",
                "sport",
                "dport",
                "tcp_flags",
            ];
            let line = names.map(|name| text(&line[name]));
            assert_eq!(line[..], row[..], "{name}");
        }
    }
}

#[test]
fn every_line_says_what_the_walk_says() {
    let captures = ["l2l4", "protocols"].map(common::captures).concat();
    for capture in captures {
        let ours = lines(&inspect(&["--packets", capture.to_str().unwrap()]));
        let mut reader = Reader::open(&capture).unwrap();
        for line in &ours {
            let record = reader.next().unwrap().unwrap();
            let Some(link) = Link::from_number(record.link.0) else {
                continue;
            };
            same(line, &walk_link(link, record.data), record.data);
            assert_eq!(line["origlen"], record.origlen);
        }
        assert!(reader.next().unwrap().is_none(), "{}", capture.display());
    }
}

fn same(line: &Value, headers: &Headers, frame: &[u8]) {
    let key = &headers.key;
    let hex = |n: u16| format!("{n:#06x}");
    let ports = headers.ports();
    let labels: Vec<u32> = headers.labels.of(frame).collect();
    let expected = json!({
        "caplen": frame.len(),
        "eth_type": headers.eth_type.map(hex),
        "vlans": headers.vlans.ids(),
        "mpls": labels,
        "src": key.source(),
        "dst": key.destination(),
        "sport": ports.map(|p| p.0),
        "dport": ports.map(|p| p.1),
        "tcp_flags": headers.tcp_flags.map(hex),
        "icmp_type": headers.icmp.map(|i| i.kind),
        "icmp_code": headers.icmp.map(|i| i.code),
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} of {line}");
    }
    assert!(line["wire_len"].as_u64().unwrap() >= u64::from(headers.wire_len));
    if let Some(fragment) = headers.fragment {
        assert_eq!(line["frag_offset"], fragment.offset);
        assert_eq!(line["more_fragments"], fragment.more);
    }
}

#[test]
fn every_packet_has_every_field() {
    let Some(corpus) = common::corpus() else {
        return;
    };
    let capture = corpus.join("l2l4/zeek-radiotap.pcap");
    let ours = lines(&inspect(&["--packets", capture.to_str().unwrap()]));
    assert_eq!(ours.len(), 3);
    for line in ours {
        assert_eq!(line.as_object().unwrap().len(), 20);
        for absent in [
            "eth_type",
            "src",
            "proto",
            "frag_offset",
            "sport",
            "tcp_flags",
        ] {
            assert_eq!(line.get(absent), Some(&Value::Null), "{absent}");
        }
        assert_eq!(line["vlans"], Value::Array(Vec::new()));
    }
}

#[test]
fn the_real_aws_capture_shows_its_vni_and_source() {
    let Some(corpus) = common::corpus() else {
        return;
    };
    let capture = corpus.join("vxlan/suricata-vxlan-decoder-03.pcap");
    let summary = object(&inspect(&["--json", capture.to_str().unwrap()]));
    assert_eq!(
        (&summary["packets"], &summary["bytes"]),
        (&100.into(), &26048.into())
    );
    assert_eq!(
        (&summary["vnis"], &summary["tunnels"]),
        (&1.into(), &1.into())
    );
    let tunnel = &summary["top_tunnels"][0];
    assert_eq!(tunnel["vni"], 5_569_041);
    assert_eq!(
        (&tunnel["source"], &tunnel["packets"]),
        (&"172.31.0.238".into(), &100.into())
    );
    let shown = inspect(&[capture.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("VNI 5569041 from 172.31.0.238"));
}

#[test]
fn the_summary_counts_what_capinfos_counts() {
    let Some(corpus) = common::corpus() else {
        return;
    };
    for name in [
        "protocols/pcapplusplus-example.pcap",
        "l2l4/libtrace-100_packets.pcap",
    ] {
        let capture = corpus.join(name);
        let mut command = common::tool("capinfos");
        command.args(["-TrMcdu"]).arg(&capture);
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let columns: Vec<_> = text.trim().split('\t').collect();
        let summary = object(&inspect(&["--json", capture.to_str().unwrap()]));
        assert_eq!(summary["packets"].to_string(), columns[1], "{text}");
        // capinfos adds up lengths on the wire.
        assert_eq!(summary["wire_bytes"].to_string(), columns[2], "{text}");
        let duration: f64 = columns[3].parse().unwrap();
        assert!((summary["duration_seconds"].as_f64().unwrap() - duration).abs() < 1e-5);
    }
}

#[test]
fn a_damaged_capture_is_shown_to_its_last_whole_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pcap");
    std::fs::write(&path, &two_records()[..24 + 16 + 60 + 16 + 59]).unwrap();
    for option in ["--json", "--packets"] {
        let output = inspect(&[option, path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(65));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("damaged at byte 100"), "{message}");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            shown.contains("\"n\":1") || shown.contains("\"packets\": 1"),
            "{shown}"
        );
    }
}

/// A capture of two broadcast ARP frames of 60 bytes.
fn two_records() -> Vec<u8> {
    let words = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1];
    let mut file: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut frame = [0xff; 60];
    frame[12..14].copy_from_slice(&[8, 6]);
    for second in [1_u32, 4] {
        let head = [second, 500_000_000, 60, 60];
        file.extend(head.iter().flat_map(|word| word.to_le_bytes()));
        file.extend(frame);
    }
    file
}

#[test]
fn standard_input_is_read_and_gaps_are_told() {
    let mut child = Command::new(common::PROGRAM)
        .args(["inspect", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&two_records())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary = object(&output);
    assert_eq!(summary["first"], "1970-01-01T00:00:01.500000000Z");
    assert_eq!(summary["longest_gap"]["seconds"], 3.0);
    assert_eq!(summary["longest_gap"]["before_packet"], 2);
    assert_eq!(summary["protocols"][0]["name"], "ARP");
}

#[test]
fn bad_input_has_a_message_and_a_code() {
    let missing = inspect(&["no-such-file.pcap"]);
    assert_eq!(missing.status.code(), Some(66));
    let message = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(message.contains("no-such-file.pcap"), "{message}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let other = inspect(&[manifest]);
    assert_eq!((other.status.code(), other.stdout.len()), (Some(65), 0));
    let message = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(message.contains("is not a capture"), "{message}");
    let usage = inspect(&["--packets", "--json", "x"]);
    assert_eq!(usage.status.code(), Some(64));
}
