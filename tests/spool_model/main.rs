//! A capture file's life against a model of it: random writes, failing writes, rotations, crashes and recoveries, in every
//! format, however compressed, past the page cache and through it.
//!
//! The disk that gets full is a small tmpfs in a mount namespace of the test's own, which ends with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what went wrong by failing"
)]

mod model;
#[path = "../spool_support/mod.rs"]
mod spool_support;

use std::path::PathBuf;
use std::process::Command;

use mirrortap::spool::Io;
use model::{Kind, Model, Step};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use spool_support::*;

/// Tells the inner process where its disk is.
const DISK: &str = "MIRRORTAP_MODEL_DISK";

/// Runs this very test again, with a small disk of its own.
fn on_a_small_disk(test: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=512k,mode=0700 mirrortap-model \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(folder.path())
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(DISK, folder.path())
        .output()
        .expect("unshare is installed: scripts/setup.sh test");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        assert!(said.contains("1 passed"), "{said}");
        print!("{said}");
        return;
    }
    let refused = said.contains("unshare failed") || said.contains("mount:");
    if refused && std::env::var_os("CI").is_none() {
        eprintln!("skipped: mounting a small disk needs root: {said}");
        return;
    }
    panic!("{said}");
}

fn kind() -> impl Strategy<Value = Kind> {
    (0_usize..12).prop_map(|n| Kind {
        format: FORMATS[n % 2],
        compression: COMPRESSIONS[n / 2 % 3],
        io: [Io::Buffered, Io::Direct][n / 6],
    })
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop::collection::vec(22_usize..3000, 1..8);
    let index = any::<prop::sample::Index>();
    prop_oneof![
        6 => sizes.clone().prop_map(Step::Append),
        2 => (0_usize..5).prop_map(Step::AppendWithoutSpace),
        1 => Just(Step::Rest),
        1 => Just(Step::Trim),
        1 => Just(Step::Rotate),
        1 => Just(Step::Crash),
        2 => (sizes, index).prop_map(|(sizes, cut)| Step::CrashWhileAppending(sizes, cut)),
    ]
}

fn run(disk: PathBuf) {
    let mut runner = TestRunner::new(Config {
        cases: 250,
        failure_persistence: None,
        ..Config::default()
    });
    let steps = prop::collection::vec(step(), 1..14);
    let failed = std::cell::Cell::new([0; 3]);
    let result = runner.run(&(kind(), steps), |(kind, steps)| {
        let mut model = Model::new(&disk, kind);
        for step in steps {
            model.step(step);
        }
        let mut sums = failed.get();
        sums[kind.compression as usize] += model.end();
        failed.set(sums);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let failed = failed.get();
    assert!(
        failed.iter().all(|n| *n > 5),
        "the disk was hardly ever full: {failed:?}"
    );
    println!("writes that failed, by compression: {failed:?}");
}

#[test]
fn whatever_happens_the_files_hold_what_the_model_says() {
    match std::env::var_os(DISK) {
        Some(disk) => run(disk.into()),
        None => on_a_small_disk("whatever_happens_the_files_hold_what_the_model_says"),
    }
}
