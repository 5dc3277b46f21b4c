//! `mirrortap bench` as a shell sees it: ledgers that close, a folder left as it was, exit codes. No test asserts on speed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test panics"
)]

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

fn bench(output: &Path, line: &str) -> Output {
    let mut command = Command::cargo_bin("mirrortap").unwrap();
    command.args(["bench", "--seconds", "0.2", "--output"]);
    command.arg(output).args(line.split_whitespace());
    command.timeout(Duration::from_secs(60)).output().unwrap()
}

fn runs(line: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let out = bench(folder.path(), &format!("--json {line}"));
    assert!(out.status.success(), "{out:?}");
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "what was written is removed");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn sum(counts: &Value) -> u64 {
    counts
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum()
}

#[test]
fn every_run_has_a_ledger_that_closes_and_something_in_it() {
    let all = runs(
        "--mode work --mode sink --mode disk --mode path --mode workers --sessions 7 --rules 5",
    );
    let runs = all["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 8, "four modes, and 1, 2, 4 and 8 workers");
    for run in runs {
        let ledger = &run["ledger"];
        let number = |key: &str| ledger[key].as_u64().unwrap();
        let ended = number("written") + sum(&ledger["filtered"]) + sum(&ledger["dropped"]);
        assert_eq!(number("received"), ended, "{run}");
        assert!(number("written") > 0 && run["closed"] == true, "{run}");
        assert_eq!(
            sum(&ledger["filtered"]),
            0,
            "the rules let all of it pass: {run}"
        );
    }
    let path = &runs[3];
    let lost = sum(&path["kernel_dropped"]);
    assert_eq!(
        path["sent"].as_u64().unwrap(),
        path["ledger"]["received"].as_u64().unwrap() + lost
    );
}

#[test]
fn a_source_in_memory_loses_nothing_with_several_receivers_and_workers() {
    let all = runs("--mode sink --receivers 2 --workers 3 --size 64 --disk 64MiB");
    let run = &all["runs"][0];
    assert_eq!((&run["receivers"], &run["workers"]), (&2.into(), &3.into()));
    assert_eq!(sum(&run["ledger"]["dropped"]), 0, "{run}");
}

#[test]
fn stages_are_told_in_the_order_of_the_path() {
    let all = runs("--mode stages");
    let stages = all["stages"].as_array().unwrap();
    let names: Vec<_> = stages
        .iter()
        .map(|s| s["stage"].as_str().unwrap())
        .collect();
    let path = [
        "source", "decap", "work", "deal", "join", "append", "write", "publish",
    ];
    assert_eq!(names, path);
}

#[test]
fn people_get_a_line_for_each_run_without_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let out = bench(folder.path(), "--mode work");
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("packets/s") && text.contains("closed"),
        "{text}"
    );
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn what_cannot_be_is_refused_with_the_code_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (output, line, code, word) in [
        (
            folder.path(),
            "--mode work --sessions 1000 --rules 20000",
            64,
            "rules",
        ),
        (folder.path(), "--size big", 64, "frame size"),
        (folder.path(), "--mode speed", 64, "stages"),
        (file.as_path(), "--mode sink", 73, "--output"),
    ] {
        let out = bench(output, line);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{line}: {text}");
        assert!(text.contains(word), "{line}: {text}");
    }
}
