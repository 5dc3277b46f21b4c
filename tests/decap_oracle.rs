//! Every outer capture of the corpus, replayed, against tshark's answer: VNI, bytes, lengths, and order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Packet, captures, packets, replay, stem};
use serde_json::Value;

/// Where our answer differs from tshark's, and why: capture, what tshark says of how many frames, what we do.
const EXPLAINED: &[(&str, &str, usize, &str)] = &[
    // tshark opens any IP in GENEVE; ours is the product's rule: GENEVE with IP that is not VXLAN is Gateway Load
    // Balancer traffic, no mirror
    ("mercury-geneve", "0x0800", 224, "geneve_not_vxlan"),
    ("suricata-bug-6402-01", "0x0800", 12, "geneve_not_vxlan"),
    // BIG TCP: outer IP length 0 (or a jumbo payload option); tshark 4.0 does not dissect it, tcpdump does, so do we
    (
        "tcpdump-bigtcp-ipv4-geneve-ipv4",
        "not-dissected",
        1,
        "written",
    ),
    (
        "tcpdump-bigtcp-ipv4-vxlan-ipv4",
        "not-dissected",
        1,
        "written",
    ),
    (
        "tcpdump-bigtcp-ipv6-vxlan-ipv4",
        "no-udp-to-port",
        1,
        "written",
    ),
];

fn explained(capture: &str, what: &str) -> Option<&'static str> {
    EXPLAINED
        .iter()
        .find(|(c, w, ..)| *c == capture && *w == what)
        .map(|(.., ours)| *ours)
}

/// What tshark says should be in the files, by VNI.
fn expected(capture: &Path) -> (BTreeMap<u64, Vec<Value>>, BTreeMap<String, usize>, usize) {
    let oracle = capture.with_extension("expected.jsonl");
    let text = std::fs::read_to_string(&oracle).unwrap();
    let (mut frames, mut refused, mut total) =
        (BTreeMap::<u64, Vec<Value>>::new(), BTreeMap::new(), 0);
    for line in text.lines() {
        let frame: Value = serde_json::from_str(line).unwrap();
        total += 1;
        let kind = frame["inner_kind"].as_str().unwrap_or_default();
        if frame["decap"] == true && kind == "ethernet" {
            frames
                .entry(frame["vni"].as_u64().unwrap())
                .or_default()
                .push(frame);
        } else {
            let what = frame["reason"].as_str().unwrap_or(kind).to_owned();
            *refused.entry(what).or_insert(0) += 1;
        }
    }
    (frames, refused, total)
}

fn sha256(data: &[u8]) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(data).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout)[..64].to_owned()
}

fn check(capture: &str, frame: &Value, packet: &Packet) {
    let at = format!("{capture} frame {}", frame["frame"]);
    assert_eq!(
        packet.data.len() as u64,
        frame["inner_caplen"].as_u64().unwrap(),
        "caplen, {at}"
    );
    assert_eq!(
        u64::from(packet.origlen),
        frame["inner_orig_len"].as_u64().unwrap(),
        "origlen, {at}"
    );
    assert_eq!(
        sha256(&packet.data),
        frame["inner_sha256"].as_str().unwrap(),
        "bytes, {at}"
    );
}

#[test]
fn every_outer_capture_gives_the_frames_that_tshark_finds() {
    let mut seen = Vec::new();
    for capture in captures("vxlan") {
        let name = stem(&capture);
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("m.toml");
        // the one capture of the old Linux port
        let port = if name.contains("8472") { 8472 } else { 4789 };
        std::fs::write(&file, format!("[source]\nvxlan_port = {port}\n")).unwrap();
        let out = tempfile::tempdir().unwrap();
        let ledger = replay(
            &[&capture],
            out.path(),
            &["--config", file.to_str().unwrap()],
        );
        let (frames, refused, total) = expected(&capture);
        assert_eq!(
            ledger.number("received"),
            total as u64,
            "{name}: every record is in the ledger"
        );
        let more: usize = refused
            .iter()
            .filter(|(what, _)| explained(&name, what) == Some("written"))
            .map(|(_, n)| n)
            .sum();
        let written: usize = frames.values().map(Vec::len).sum();
        assert_eq!(
            ledger.number("written"),
            (written + more) as u64,
            "{name}: {:?}",
            ledger.0
        );
        for (vni, frames) in &frames {
            let files = common::files(&out.path().join(format!("vni-{vni}")));
            let packets: Vec<Packet> = files.iter().flat_map(|f| packets(f)).collect();
            assert_eq!(packets.len(), frames.len(), "{name} VNI {vni}");
            frames
                .iter()
                .zip(&packets)
                .for_each(|(f, p)| check(&name, f, p));
        }
        for (what, n) in refused {
            if let Some(ours) = explained(&name, &what) {
                seen.push((name.clone(), what, n));
                assert!(
                    ours == "written" || ledger.dropped(ours) == n as u64,
                    "{name}: {:?}",
                    ledger.0
                );
            }
        }
    }
    let rows = EXPLAINED
        .iter()
        .map(|(c, w, n, _)| ((*c).to_owned(), (*w).to_owned(), *n));
    assert!(
        seen.is_empty() || seen == rows.collect::<Vec<_>>(),
        "explained, but no longer so: {seen:?}"
    );
}

#[test]
fn the_real_aws_mirror_has_its_vni_and_every_packet() {
    let Some(corpus) = common::corpus() else {
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let ledger = replay(
        &[&corpus.join("vxlan/suricata-vxlan-decoder-03.pcap")],
        out.path(),
        &[],
    );
    assert_eq!(
        (ledger.number("received"), ledger.number("written")),
        (100, 100)
    );
    assert_eq!(
        ledger.sessions().keys().collect::<Vec<_>>(),
        ["vni-5569041"]
    );
}
