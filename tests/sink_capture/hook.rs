//! The command that is run for each finished file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mirrortap::sink::Sink;
use mirrortap::sink::capture::{Config, Report};
use mirrortap::spool::Format;
use mirrortap::time;
use mirrortap::units::Interval;

use crate::rig::{Rig, assert_closed, folder, frame, packet, peer, settings, target, wait_for};

fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("hook.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn config(program: &Path) -> Config {
    let command = vec![program.display().to_string(), "an argument".to_owned()];
    Config {
        on_close: Some(command),
        ..Config::default()
    }
}

/// 50 packets, ten in a file.
fn five_files(rig: &mut Rig, output: &Path) {
    let mut settings = settings(output, Format::Pcapng);
    settings.rotate_packets = Some(10);
    let (target, peer) = (target(0, settings), peer(3));
    for n in 0..50 {
        let frame = frame(n, 60);
        rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
        rig.workers[0].progress(n + 1, false);
    }
    rig.workers.clear();
}

fn paths(report: &Report) -> Vec<String> {
    report
        .files
        .last
        .iter()
        .map(|c| c.path.display().to_string())
        .collect()
}

#[test]
fn the_hook_is_run_for_every_file_also_the_last() {
    let (folder, output) = (folder(), folder());
    let log = folder.path().join("log");
    let text = format!("echo \"$1|$2|$(cat)\" >> {}; test -s \"$2\"", log.display());
    let mut rig = Rig::new(
        output.path(),
        1,
        false,
        &config(&script(folder.path(), &text)),
    );
    five_files(&mut rig, output.path());
    let report = rig.finish_within(Duration::from_secs(20));
    let log = fs::read_to_string(log).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|l| l.splitn(3, '|').collect()).collect();
    assert_eq!(
        lines.iter().map(|l| l[1]).collect::<Vec<_>>(),
        paths(&report)
    );
    assert_eq!(lines.len(), 5);
    for line in &lines {
        assert_eq!(line[0], "an argument");
        let json: serde_json::Value = serde_json::from_str(line[2]).unwrap();
        assert_eq!(
            (&json["path"], &json["packets"]),
            (&line[1].into(), &10.into())
        );
        assert_eq!(json["session"], "session-0");
        assert_eq!(json["vnis"], serde_json::json!([1003]));
        assert_eq!(json["sources"], serde_json::json!(["10.0.0.4"]));
        assert!(
            json["first"]
                .as_str()
                .unwrap()
                .starts_with("2026-11-24T23:00:00.0")
        );
    }
    assert_eq!(
        (rig.stats.hooks_run.value(), rig.stats.hooks_failed.value()),
        (5, 0)
    );
}

#[test]
fn a_hook_that_fails_or_does_not_exist_is_counted() {
    for (program, failed) in [("/bin/false", 5), ("/no/such/program", 5), ("/bin/true", 0)] {
        let output = folder();
        let mut rig = Rig::new(output.path(), 1, false, &config(Path::new(program)));
        five_files(&mut rig, output.path());
        let report = rig.finish_within(Duration::from_secs(20));
        assert_eq!(report.files.total, 5);
        assert_eq!(rig.stats.hooks_failed.value(), failed, "{program}");
        assert_eq!(rig.stats.hooks_run.value(), 5 - failed, "{program}");
    }
}

#[test]
fn a_hook_that_hangs_is_killed_and_capture_does_not_wait_for_it() {
    let (folder, output) = (folder(), folder());
    let mut config = config(&script(folder.path(), "exec sleep 600"));
    config.hook_timeout = Interval(Duration::from_millis(200));
    let mut rig = Rig::new(output.path(), 1, false, &config);
    let started = time::monotonic();
    five_files(&mut rig, output.path());
    let report = rig.finish_within(Duration::from_secs(20));
    assert_eq!(report.files.total, 5);
    assert_eq!(rig.stats.hooks_failed.value(), 5);
    let took = time::monotonic().since(started);
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
}

#[test]
fn at_the_deadline_files_without_their_hook_are_counted_and_nothing_is_waited_for() {
    let (folder, output) = (folder(), folder());
    let config = config(&script(folder.path(), "exec sleep 600"));
    let mut rig = Rig::new(output.path(), 1, false, &config);
    five_files(&mut rig, output.path());
    let started = time::monotonic();
    let report = rig.finish_within(Duration::from_secs(2));
    let took = time::monotonic().since(started);
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(report.files.total, 5, "files are published in any case");
    assert_eq!(
        (
            rig.stats.hooks_failed.value(),
            rig.stats.hooks_skipped.value()
        ),
        (1, 4)
    );
}

#[test]
fn a_full_hook_queue_is_counted_and_loses_no_file() {
    let (folder, output) = (folder(), folder());
    let config = config(&script(folder.path(), "exec sleep 600"));
    let mut rig = Rig::new(output.path(), 1, false, &config);
    let mut settings = settings(output.path(), Format::Pcap);
    settings.rotate_packets = Some(1);
    let (target, peer) = (target(0, settings), peer(0));
    for n in 0..1_200 {
        let frame = frame(n, 60);
        rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
    }
    // publishing has the time that it needs; the deadline is for the hook
    rig.workers.clear();
    let stats = Arc::clone(&rig.stats);
    wait_for("all files", || stats.files_closed() == 1_200);
    let report = rig.finish_within(Duration::from_secs(4));
    assert_eq!(report.files.total, 1_200);
    assert_eq!(assert_closed(&target.ledger).written, 1_200);
    let stats = &rig.stats;
    assert_eq!(
        stats.hooks_failed.value() + stats.hooks_skipped.value(),
        1_200
    );
}
