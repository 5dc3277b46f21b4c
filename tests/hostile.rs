//! Malformed packets and broken files, raw and wrapped: nothing crashes, everything is counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::Command;

use common::{PROGRAM, captures, ledger, readable_packets, stem};

/// Files that are no capture at all, as far as anybody can tell.
fn is_readable(capture: &std::path::Path) -> bool {
    mirrortap::capfile::Reader::open(capture).is_ok()
}

#[test]
fn raw_hostile_captures_are_counted_record_by_record() {
    for capture in captures("hostile") {
        let out = tempfile::tempdir().unwrap();
        let run = Command::new(PROGRAM)
            .arg("replay")
            .arg(&capture)
            .arg("--output")
            .arg(out.path())
            .arg("--json")
            .output()
            .unwrap();
        let name = stem(&capture);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        if !is_readable(&capture) {
            assert_eq!(run.status.code(), Some(65), "{name}: {said}");
            assert!(said.starts_with("mirrortap: "), "{name}: {said}");
            continue;
        }
        let (packets, damage) = readable_packets(&capture);
        let expected = if damage.is_some() { 65 } else { 0 };
        assert_eq!(run.status.code(), Some(expected), "{name}: {said}");
        let ledger = ledger(&run);
        // fragments that were merged are fewer datagrams than records
        assert!(
            ledger.number("received") <= packets.len() as u64,
            "{name}: {}",
            ledger.0
        );
    }
}

#[test]
fn wrapped_hostile_packets_are_kept_byte_for_byte() {
    for capture in captures("hostile") {
        if !is_readable(&capture) {
            continue;
        }
        common::assert_wrapped_round_trip(&capture);
    }
}
