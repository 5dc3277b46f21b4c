//! Sessions and filters on real traffic: what is in the files is what tshark's own filters pick from the capture.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Ledger, PROGRAM, all_packets, corpus, packets, replay, tool};

/// Wraps captures into one outer capture, each with its own VNI, counted from 1.
fn wrapped(folder: &Path, captures: &[PathBuf]) -> Vec<PathBuf> {
    let wrap = |(i, capture): (usize, &PathBuf)| {
        let outer = folder.join(format!("{i}.pcap"));
        let vni = (i + 1).to_string();
        let run = Command::new(PROGRAM)
            .args(["send", "--to", "127.0.0.1:4789", "--vni", &vni, "--write"])
            .arg(&outer)
            .arg(capture)
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        outer
    };
    captures.iter().enumerate().map(wrap).collect()
}

fn run(folder: &Path, outer: &[PathBuf], config: &str) -> (Ledger, PathBuf) {
    let file = folder.join("m.toml");
    std::fs::write(&file, config).unwrap();
    let out = folder.join("out");
    let paths: Vec<&Path> = outer.iter().map(PathBuf::as_path).collect();
    let ledger = replay(&paths, &out, &["--config", file.to_str().unwrap()]);
    (ledger, out)
}

/// How many frames of a capture a tshark display filter matches.
fn tshark_count(capture: &Path, filter: &str) -> usize {
    let out = tool("tshark")
        .arg("-nr")
        .arg(capture)
        .args(["-Y", filter, "-T", "fields", "-e", "frame.number"])
        .output();
    String::from_utf8_lossy(&out.unwrap().stdout)
        .lines()
        .count()
}

#[test]
fn an_expression_keeps_what_tshark_would_keep() {
    let Some(corpus) = corpus() else { return };
    let capture = corpus.join("protocols/arkime-v6-http.pcap");
    for (expression, display) in [
        ("tcp port 80", "tcp.port == 80"),
        ("ip6 and tcp", "ipv6 and tcp"),
        ("not tcp", "not tcp"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let outer = wrapped(folder.path(), std::slice::from_ref(&capture));
        let config = format!(
            "[[session]]\nname = 'web'\nvni = 1\nfilter = {{ expression = '{expression}' }}\n"
        );
        let (ledger, out) = run(folder.path(), &outer, &config);
        let expected = tshark_count(&capture, display);
        assert_eq!(
            ledger.number("written"),
            expected as u64,
            "{expression}: {}",
            ledger.0
        );
        assert_eq!(all_packets(&out).len(), expected, "{expression}");
        assert_eq!(
            ledger.filtered("expression") + ledger.number("written"),
            ledger.number("received")
        );
    }
}

#[test]
fn sessions_are_told_apart_by_vni_and_unknown_ones_can_be_dropped() {
    let Some(corpus) = corpus() else { return };
    let names = [
        "arkime-v6-http.pcap",
        "zeek-ssh-single-conn.pcap",
        "ndpi-memcached.pcap",
    ];
    let captures: Vec<PathBuf> = names
        .iter()
        .map(|n| corpus.join("protocols").join(n))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let outer = wrapped(folder.path(), &captures);
    let config = "unknown = 'drop'\n[[session]]\nname = 'first'\nvni = 1\n[[session]]\nname = 'second'\nvni = '2-2'\n";
    let (ledger, out) = run(folder.path(), &outer, config);
    for (name, capture) in ["first", "second"].iter().zip(&captures) {
        assert_eq!(
            all_packets(&out.join(name)).len(),
            packets(capture).len(),
            "{name}"
        );
    }
    assert_eq!(
        ledger.filtered("unknown_session"),
        packets(&captures[2]).len() as u64
    );
    assert!(!out.join("vni-3").exists());
}

#[test]
fn a_packet_length_cuts_packets_and_keeps_their_wire_length() {
    let Some(corpus) = corpus() else { return };
    let capture = corpus.join("protocols/zeek-ssh-single-conn.pcap");
    let folder = tempfile::tempdir().unwrap();
    let outer = wrapped(folder.path(), std::slice::from_ref(&capture));
    let config = "[[session]]\nname = 'short'\npacket_length = 60\n";
    let (_, out) = run(folder.path(), &outer, config);
    for (before, after) in packets(&capture).iter().zip(all_packets(&out)) {
        assert_eq!(after.data, before.data[..before.data.len().min(60)]);
        assert_eq!(after.origlen as usize, before.data.len());
    }
}

#[test]
fn a_packet_cut_by_aws_keeps_its_wire_length() {
    let Some(corpus) = corpus() else { return };
    let capture = corpus.join("protocols/zeek-ssh-single-conn.pcap");
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("cut.pcap");
    let run = Command::new(PROGRAM)
        .args([
            "send",
            "--to",
            "127.0.0.1:4789",
            "--vni",
            "1",
            "--packet-length",
            "100",
            "--write",
        ])
        .arg(&outer)
        .arg(&capture)
        .output()
        .unwrap();
    assert!(run.status.success());
    let out = folder.path().join("out");
    replay(&[&outer], &out, &[]);
    let (before, after) = (packets(&capture), all_packets(&out));
    assert!(
        before.iter().any(|p| p.data.len() > 100),
        "something was cut"
    );
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(after) {
        assert_eq!(after.data, before.data[..before.data.len().min(100)]);
        // this capture's frames carry four bytes behind IP, of which a cut copy knows nothing
        let ip = u16::from_be_bytes([before.data[16], before.data[17]]);
        let whole = before.data.len();
        let expected = if whole > 100 {
            (14 + usize::from(ip)).max(100)
        } else {
            whole
        };
        assert_eq!(after.origlen as usize, expected);
    }
}
