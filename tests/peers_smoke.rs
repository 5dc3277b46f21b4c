//! The comparisons with other programs still work: one short trial each. They assert on ledgers and packets, not on speed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test panics"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{PROGRAM, is_root};

fn script(name: &str, args: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let mut command = Command::new("python3");
    command.arg(path.join(name)).args(["--mirrortap", PROGRAM]);
    command.args(args).output().expect("python3 is needed")
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Makes network namespaces: needs root, and two cores.
#[test]
fn the_sensor_and_tcpdump_take_turns_under_the_generator_in_the_kernel() {
    let cores = std::thread::available_parallelism().unwrap().get();
    if !is_root() || cores < 2 {
        println!("not root, or one core: nothing was checked");
        return;
    }
    let out = script("live.py", &["--smoke", "--programs", "udp,tcpdump+"]);
    let text = text(&out);
    assert!(out.status.success(), "{text}");
    for row in ["| imix | udp |", "| imix | tcpdump+ |"] {
        assert!(text.contains(row), "{text}");
    }
}

#[test]
fn replay_and_editcap_write_the_same_packets() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().to_str().unwrap();
    let args = ["--packets", "20000", "--rounds", "1", "--core", "0", "--output", output];
    let out = script("offline.py", &args);
    let text = text(&out);
    assert!(out.status.success(), "{text}");
    let left_out = text.contains("not installed") && text.contains("editcap");
    let same = text.contains("the same packets, byte by byte");
    assert!(same || (left_out && std::env::var_os("CI").is_none()), "{text}");
}
