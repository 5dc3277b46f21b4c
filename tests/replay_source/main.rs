//! Replay gives the datagrams of outer captures, in file order, and counts everything else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may fail loudly"
)]

mod fragments;
mod links;
mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use mirrortap::capfile::Reader;
use mirrortap::packet::Ports;
use mirrortap::source::replay::Replay;

use crate::support::{AWS, Got, captures, replay, replay_one, save_bytes, vxlan};

#[test]
fn every_vxlan_capture_gives_the_datagrams_of_its_oracle() {
    for path in captures(&["vxlan"]) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let vxlan = if name.contains("8472") { 8472 } else { 4789 };
        let outcome = replay(
            &[&path],
            Ports {
                vxlan,
                geneve: 6081,
            },
        );
        assert_eq!(outcome.damage, []);
        let got: BTreeMap<u64, &Got> = outcome.got.iter().map(|g| (g.order, g)).collect();
        let oracle = std::fs::read_to_string(path.with_extension("expected.jsonl")).unwrap();
        assert_eq!(oracle.lines().count() as u64, outcome.records, "{name}");
        for line in oracle.lines() {
            let expected: serde_json::Value = serde_json::from_str(line).unwrap();
            let frame = expected["frame"].as_u64().unwrap();
            compare(
                &expected,
                got.get(&frame).copied(),
                &format!("{name} frame {frame}"),
            );
        }
    }
}

fn compare(expected: &serde_json::Value, got: Option<&Got>, place: &str) {
    if expected["decap"] == true {
        let got = got.unwrap_or_else(|| panic!("{place}: no datagram"));
        let outer = &expected["outer"];
        assert_eq!(
            got.source.to_string(),
            outer["src"].as_str().unwrap(),
            "{place}"
        );
        assert_eq!(
            u64::from(got.port),
            outer["dport"].as_u64().unwrap(),
            "{place}"
        );
        let wire = got.payload.len() as u64 + u64::from(got.cut);
        assert_eq!(wire, outer["udp_len"].as_u64().unwrap() - 8, "{place}");
        assert_eq!(got.cut > 0, expected["outer_cut"] == true, "{place}");
        return;
    }
    match expected["reason"].as_str().unwrap() {
        // BIG TCP, which tshark does not take apart: outer lengths of 0, so everything that was
        // captured behind Ethernet, IP and UDP.
        _ if place.contains("bigtcp") => {
            let got = got.unwrap_or_else(|| panic!("{place}: no datagram"));
            let headers = 14 + 8 + if got.source.is_ipv4() { 20 } else { 40 };
            let caplen = expected["caplen"].as_u64().unwrap() as usize;
            assert_eq!(
                (got.payload.len(), got.cut),
                (caplen - headers, 0),
                "{place}"
            );
        }
        "no-udp-to-port" | "gpe" => assert_eq!(got, None, "{place}"),
        "empty-inner" => assert!(got.is_some(), "{place}"),
        other => panic!("{place}: reason {other}"),
    }
}

#[test]
fn every_capture_of_the_corpus_is_replayed_with_all_records_counted() {
    let mut records = 0;
    for path in captures(&["hostile", "l2l4", "protocols", "vxlan"]) {
        let Ok(mut reader) = Reader::open(&path) else {
            assert!(Replay::open(vec![path.clone()], Ports::default()).is_err());
            continue;
        };
        let mut expected = 0;
        while reader.next().unwrap().is_some() {
            expected += 1;
        }
        let outcome = replay_one(&path);
        assert_eq!(outcome.records, expected, "{}", path.display());
        assert_eq!(outcome.damage.len(), usize::from(reader.damage().is_some()));
        records += outcome.records;
    }
    println!("{records} records");
}

#[test]
fn pcapng_gzip_and_zstd_give_the_same_as_plain_pcap() {
    let Some(path) = vxlan(AWS) else { return };
    let plain = replay_one(&path);
    assert_eq!((plain.got.len(), plain.records), (100, 100));
    let folder = tempfile::tempdir().unwrap();
    let pcapng = folder.path().join("x");
    let status = Command::new("editcap")
        .args(["-F", "pcapng"])
        .arg(&path)
        .arg(&pcapng)
        .status();
    assert!(status.unwrap().success());
    let bytes = std::fs::read(&path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&bytes).unwrap();
    let gzip = save_bytes(&gzip.finish().unwrap());
    let zstd = save_bytes(&zstd::encode_all(bytes.as_slice(), 3).unwrap());
    for other in [pcapng.as_path(), gzip.path(), zstd.path()] {
        assert_eq!(replay_one(other).got, plain.got, "{}", other.display());
    }
}

#[test]
fn several_files_are_replayed_one_after_the_other_with_orders_going_on() {
    let Some(path) = vxlan(AWS) else { return };
    let both = replay(&[&path, &path], Ports::default());
    let orders: Vec<u64> = both.got.iter().map(|g| g.order).collect();
    assert_eq!(orders, (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_damaged_file_is_told_and_the_next_file_goes_on() {
    let Some(path) = vxlan(AWS) else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 1);
    let cut = save_bytes(&bytes);
    let outcome = replay(&[cut.path(), &path], Ports::default());
    assert_eq!(outcome.records, 99 + 100);
    let [damage] = &outcome.damage[..] else {
        panic!("{:?}", outcome.damage);
    };
    assert_eq!(damage.path, cut.path());
    let text = damage.to_string();
    assert!(text.contains("the file ends within a record"), "{text}");
}

#[test]
fn a_file_that_is_no_capture_is_refused_before_anything_is_replayed() {
    let Some(path) = vxlan(AWS) else { return };
    let text = save_bytes(b"not a capture at all");
    let paths = vec![path, text.path().to_owned()];
    let error = Replay::open(paths, Ports::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("is not a capture"), "{error}");
    assert!(Replay::open(vec!["/no/such/file".into()], Ports::default()).is_err());
}

#[test]
fn a_pipe_is_opened_once_and_read_to_its_end() {
    let Some(path) = vxlan(AWS) else { return };
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let target = pipe.clone();
    let writer = std::thread::spawn(move || {
        std::fs::write(target, std::fs::read(path).unwrap()).unwrap();
    });
    assert_eq!(replay_one(&pipe).got.len(), 100);
    writer.join().unwrap();
}

/// Runs itself as a child that has the capture as its standard input.
#[test]
fn standard_input_is_a_file_called_dash() {
    const CHILD: &str = "REPLAY_SOURCE_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let outcome = replay_one(Path::new("-"));
        assert_eq!((outcome.got.len(), outcome.damage.len()), (100, 0));
        return;
    }
    let Some(path) = vxlan(AWS) else { return };
    let packed = zstd::encode_all(std::fs::read(path).unwrap().as_slice(), 3).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "standard_input_is_a_file_called_dash"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&packed).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
