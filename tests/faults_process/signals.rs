//! Signals: too many, twice, and those that stop or limit a process.

use std::process::Command;

use crate::common::{PROGRAM, Sensor, mirrortap, wait_until};
use crate::{Load, is_healthy, number, wait_stopped};

#[test]
fn a_storm_of_reloads_loses_no_packet() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[session]]\nname = \"a\"\nvni = 7\n";
    let sensor = Sensor::start(folder.path(), config, &[]);
    let mut load = Load::to(&sensor);
    for _ in 0..100 {
        sensor.signal("HUP");
        load.send(5);
    }
    wait_until("a reload", || {
        sensor.status()["config"]["generation"].as_u64() > Some(1)
    });
    load.goes_on(&sensor);
    assert!(is_healthy(&sensor));
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn a_second_sigterm_may_cut_the_end_short_and_the_next_start_finds_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensor = Sensor::start(folder.path(), "[writer]\nflush_interval = \"50ms\"", &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    sensor.signal("TERM");
    let again = Command::new("kill")
        .args(["-TERM", &sensor.child.id().to_string()])
        .output();
    assert!(again.is_ok());
    wait_until("the end", || sensor.child.try_wait().unwrap().is_some());
    drop(sensor);
    let output = folder.path().join("out");
    let next = Sensor::start(folder.path(), "", &[]);
    wait_until("what the first run left, published", || {
        crate::common::partials(&output).is_empty()
    });
    next.stop();
    let found = crate::common::all_packets(&output);
    assert_eq!(
        found.len() as u64,
        load.sent,
        "they were in files before the signals"
    );
}

#[test]
fn a_stopped_process_finds_its_packets_waiting_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), "", &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    sensor.signal("STOP");
    wait_stopped(&sensor);
    // fewer than the smallest buffer of a socket holds
    load.send(100);
    sensor.signal("CONT");
    load.goes_on(&sensor);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn a_limit_on_the_size_of_files_costs_counted_packets_and_does_not_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    // in blocks of 1024 bytes
    command.args(["-c", "ulimit -f 100; exec \"$0\" \"$@\"", PROGRAM]);
    let sensor = Sensor::start_with(
        command,
        folder.path(),
        "[writer]\nflush_interval = \"50ms\"",
        &[],
    );
    let mut load = Load::to(&sensor);
    // the next file takes what comes next, and health is good again
    wait_until("packets that do not fit, and health that says so", || {
        load.send(100);
        let failed = sensor.status()["ledger"]["dropped"]["write_failed"].as_u64();
        let sick = |(code, why): (u16, String)| code == 503 && why.contains("too large");
        failed > Some(0) && sensor.get("/healthz").is_some_and(sick)
    });
    wait_until("all to arrive", || number(&sensor, "received") == load.sent);
    let ledger = sensor.stop();
    assert_eq!(ledger.number("received"), load.sent);
    let there = crate::common::files(&folder.path().join("out"));
    assert!(
        there
            .iter()
            .all(|file| std::fs::metadata(file).unwrap().len() <= 100 * 1024)
    );
    let packets: usize = there
        .iter()
        .map(|file| crate::common::packets(file).len())
        .sum();
    assert_eq!(packets as u64, ledger.number("written"));
}

#[test]
fn the_hidden_verb_without_a_sensor_ends_at_once() {
    let out = mirrortap(&["hook-runner", "--output", "out", "--", "true"]);
    assert!(!out.status.success());
    let help = mirrortap(&["--help"]);
    assert!(!String::from_utf8_lossy(&help.stdout).contains("hook-runner"));
}
