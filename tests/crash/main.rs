//! 200 times killed in the middle of it: every file opens, nothing is there twice, nothing that was told as written is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what went wrong by failing"
)]

mod lane;
#[path = "../spool_support/mod.rs"]
mod spool_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lane::{Lane, PROGRAM, Round};
use spool_support::*;

/// Sensors that are killed at the same time, each with an output of its own.
const LANES: u64 = 4;

/// How often each is killed.
const ROUNDS: u64 = 50;

/// Numbers of all packets in the published files, with how often each is there.
fn found(output: &Path) -> (Vec<PathBuf>, BTreeMap<u64, usize>) {
    let published: Vec<PathBuf> = files(output, false)
        .into_iter()
        .filter(|p| p.to_string_lossy().contains(".pcap"))
        .collect();
    let counts = capinfos(&published);
    assert_unpacks(&published);
    let mut found = BTreeMap::new();
    for (path, count) in published.iter().zip(counts) {
        let (numbers, whole) = read(path);
        assert!(whole, "{} is not whole", path.display());
        assert_eq!(numbers.len() as u64, count, "{}", path.display());
        assert!(numbers.is_sorted(), "{}: {numbers:?}", path.display());
        for number in numbers {
            *found.entry(number).or_default() += 1;
        }
    }
    (published, found)
}

fn recover(output: &Path) -> serde_json::Value {
    let text = run(Command::new(PROGRAM)
        .args(["recover", "--json"])
        .arg(output));
    serde_json::from_str(&text).unwrap()
}

/// What a round told as written is there, in full: its first packets, as they were sent.
fn check(round: &Round, found: &BTreeMap<u64, usize>) -> u64 {
    let there = round.numbers().filter(|n| found.contains_key(n)).count() as u64;
    let told = round.told;
    assert!(there >= told, "{round:?}: {there} packets are there");
    for number in round.numbers().take(told as usize) {
        assert!(
            found.contains_key(&number),
            "{round:?}: {number} is missing"
        );
    }
    for number in round.numbers().take(round.settled as usize) {
        assert!(
            found.contains_key(&number),
            "{round:?}: {number} was sent long before"
        );
    }
    round.sent - there
}

fn lane(number: u64) -> (u64, u64) {
    let mut lane = Lane::new(number);
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push(lane.round(round));
        if round % 10 == 5 {
            // in between, by hand
            recover(&lane.output());
            found(&lane.output());
        }
    }
    rounds.push(lane.quiet_round());
    if number == 0 {
        rounds.push(lane.long_round());
    }
    let report = recover(&lane.output());
    assert_eq!(report["left"].as_array().unwrap().len(), 0, "{report}");
    let (published, found) = found(&lane.output());
    let twice: Vec<_> = found.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
    let left = files(&lane.output(), true);
    let left: Vec<_> = left
        .iter()
        .filter(|p| p.to_string_lossy().ends_with(".partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let sent: u64 = rounds.iter().map(|r| r.sent).sum();
    let missing: u64 = rounds.iter().map(|r| check(r, &found)).sum();
    tshark(&published);
    (sent, missing)
}

/// tshark itself reads one file of each kind, the largest.
fn tshark(published: &[PathBuf]) {
    for ending in [
        ".pcap",
        ".pcapng",
        ".pcap.gz",
        ".pcapng.gz",
        ".pcap.zst",
        ".pcapng.zst",
    ] {
        let of_kind = published
            .iter()
            .filter(|p| p.to_string_lossy().ends_with(ending));
        let largest = of_kind.max_by_key(|p| std::fs::metadata(p).map_or(0, |m| m.len()));
        let Some(path) = largest else { continue };
        let text = run(Command::new("tshark").args(["-n", "-r"]).arg(path));
        assert_eq!(
            text.lines().count(),
            read(path).0.len(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn two_hundred_kills_at_any_moment_cost_no_packet_that_was_told_as_written() {
    let threads: Vec<_> = (0..LANES)
        .map(|number| std::thread::spawn(move || lane(number)))
        .collect();
    let results: Vec<_> = threads.into_iter().map(|t| t.join()).collect();
    for result in results {
        let (sent, missing) = result.expect("a lane failed; see above");
        println!("{sent} packets sent, {missing} of them never written");
    }
}
