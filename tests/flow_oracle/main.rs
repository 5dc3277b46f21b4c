//! Records of every capture of the corpus, beside sums of tshark's columns: packets, bytes, flags, and times, for each
//! interface, direction and 5-tuple.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../flow_support/mod.rs"]
mod flow_support;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use flow_support::{Source, Sum, Sums, sensor, tshark, wrap};

const FORMAT: &str = "${interface-id} ${pkt-srcaddr} ${pkt-dstaddr} ${protocol} ${srcport} ${dstport} ${packets} ${bytes} ${tcp-flags} ${start} ${end} ${action} ${log-status} ${type}";

/// Captures that tshark tells otherwise: links that the walk does not open, a route in the options (tshark shows its end as
/// the destination), packets beyond 64 KiB (they can't be mirrored whole, and count what is there), and broken options.
const OTHERWISE: [&str; 7] = [
    "suricata-decode-nsh-type1",
    "suricata-decode-vntag-01",
    "tcpdump-macsec-integonly",
    "pcapplusplus-ipv4-options",
    "tcpdump-bigtcp-ipv6-hbh",
    "tcpdump-ipv6_jumbogram_1",
    "zeek-ipv6-mobility-dst-opts",
];

/// Every capture that can be inner traffic.
fn captures() -> Vec<PathBuf> {
    let folders = ["protocols", "l2l4"].into_iter();
    folders.flat_map(common::captures).collect()
}

/// Text below a folder, file after file.
fn lines(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            lines(&path, found);
        } else if name.ends_with(".log.gz") {
            let mut text = String::new();
            let file = std::fs::File::open(&path).unwrap();
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
            let mut rows = text.lines();
            let header: Vec<_> = rows.next().unwrap().split(' ').collect();
            assert_eq!(header.len(), FORMAT.split(' ').count());
            found.extend(rows.map(str::to_owned));
        }
    }
}

/// The sums of all records below a folder.
fn records(folder: &Path, sources: &[Source]) -> Sums {
    let by_interface: BTreeMap<String, String> = sources
        .iter()
        .map(|s| (s.interface(), s.address.to_string()))
        .collect();
    let mut all = Vec::new();
    lines(folder, &mut all);
    let mut sums = Sums::new();
    for line in &all {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| words[n].parse::<u64>().unwrap();
        let key = (
            by_interface[words[0]].clone(),
            words[1].parse().unwrap(),
            words[2].parse().unwrap(),
            number(3) as u8,
            number(4) as u16,
            number(5) as u16,
        );
        let sum = Sum {
            packets: number(6),
            bytes: number(7),
            flags: number(8) as u8,
            start: number(9),
            end: number(10),
        };
        assert_eq!(words[11..13], ["ACCEPT", "OK"]);
        assert!(sum.start <= sum.end && sum.end - sum.start <= 60, "{line}");
        sums.entry(key).or_default().add(sum);
    }
    sums
}

#[test]
fn records_of_every_capture_are_the_sums_of_tsharks_columns() {
    let captures = captures();
    if captures.is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("outer.pcap");
    let sources = wrap(&captures, 300, &outer);
    let theirs = std::thread::spawn({
        let outer = outer.clone();
        move || tshark::sums(&outer)
    });
    let run = sensor::flow_logs(&outer, &sources, FORMAT);
    let ours = records(&run.text, &sources);
    assert_eq!(
        ours.values().map(|s| s.packets).sum::<u64>(),
        run.recorded()
    );
    let (theirs, odd) = theirs.join().unwrap();
    assert_eq!(differences(&theirs, &ours, &odd, &sources), [""; 0]);
    assert!(theirs.len() > 8000, "{} flows", theirs.len());
}

/// What the one has and the other has not, apart from what is known to be told otherwise.
fn differences(theirs: &Sums, ours: &Sums, odd: &[String], sources: &[Source]) -> Vec<String> {
    let names: BTreeMap<String, &str> = sources
        .iter()
        .map(|s| (s.address.to_string(), s.name.as_str()))
        .collect();
    let is_known = |source: &str| OTHERWISE.contains(&names[source]);
    let of_theirs = theirs
        .iter()
        .filter(|(key, sum)| ours.get(key) != Some(sum));
    let of_theirs = of_theirs.map(|(key, sum)| (key, Some(sum), ours.get(key)));
    let of_ours = ours.iter().filter(|(key, _)| !theirs.contains_key(key));
    let of_ours = of_ours.map(|(key, sum)| (key, None, Some(sum)));
    let of_odd = odd
        .iter()
        .filter(|row| !is_known(row.split('\t').nth(2).unwrap().split(',').next().unwrap()));
    of_theirs
        .chain(of_ours)
        .filter(|(key, ..)| !is_known(&key.0))
        .map(|(key, theirs, ours)| format!("{} {key:?}: {theirs:?}, ours {ours:?}", names[&key.0]))
        .chain(of_odd.map(|row| format!("no flow of {row}")))
        .collect()
}
