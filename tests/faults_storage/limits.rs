//! Limits of the process, and streams that nobody reads.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::QUICK;
use crate::common::{self, PROGRAM, Sensor};
use crate::disk_support::{check, deliver, number, send, wait_until, wait_well};

fn limited(limit: &str, config: &str) -> (tempfile::TempDir, Sensor) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("prlimit");
    command.args([limit, PROGRAM]);
    let config = format!("[control]\nsocket = 'off'\n{config}");
    let sensor = Sensor::start_with(command, folder.path(), &config, &[]);
    (folder, sensor)
}

#[test]
fn a_limit_on_file_sizes_ends_files_and_not_the_sensor() {
    let (folder, sensor) = limited("--fsize=1048576", "[writer]\nflush_interval = '50ms'");
    for _ in 0..6 {
        deliver(&sensor, "1", 500);
    }
    wait_until("a second file", || {
        number(&sensor, &["files", "closed"]) >= 1
    });
    deliver(&sensor, "1", 100);
    wait_well(&sensor);
    let ledger = sensor.stop();
    check(&ledger, &Path::to_owned);
    let files = common::files(&folder.path().join("out"));
    assert!(files.len() >= 2, "{}", ledger.0);
    assert!(files.iter().all(|f| f.metadata().unwrap().len() <= 1 << 20));
}

#[test]
fn few_descriptors_are_shared_by_many_sessions() {
    let (folder, sensor) = limited("--nofile=96:96", QUICK);
    for _ in 0..3 {
        deliver(&sensor, "1-200", 2_000);
    }
    wait_well(&sensor);
    let ledger = sensor.stop();
    assert_eq!(
        ledger.number("written"),
        ledger.number("received"),
        "{}",
        ledger.0
    );
    check(&ledger, &Path::to_owned);
    assert_eq!(common::files(&folder.path().join("out")).len(), 200);
}

#[test]
fn a_ledger_that_nobody_reads_does_not_make_the_run_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensor = Sensor::start(folder.path(), QUICK, &[]);
    drop(sensor.child.stdout.take());
    deliver(&sensor, "1", 500);
    sensor.signal("TERM");
    let mut status = None;
    wait_until("the end", || {
        status = sensor.child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}: {:?}", sensor.log());
    assert!(!common::files(&folder.path().join("out")).is_empty());
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_sensor() {
    let folder = tempfile::tempdir().unwrap();
    let (udp, http) = (common::free_udp_port(), common::free_tcp_port());
    let out = folder.path().join("out");
    let config = folder.path().join("mirrortap.toml");
    std::fs::write(&config, format!("[control]\nsocket = 'off'\n{QUICK}")).unwrap();
    let mut child = Command::new(PROGRAM)
        .args([
            "run",
            "--json",
            "--listen",
            &format!("127.0.0.1:{udp}"),
            "--control",
            &format!("127.0.0.1:{http}"),
            "--config",
        ])
        .arg(&config)
        .arg("--output")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let healthy = || common::http_get(http, "/healthz").is_some_and(|(code, _)| code == 200);
    wait_until("good health", healthy);
    // each closed file is a line of log
    for _ in 0..4 {
        send(udp, "1", 500);
    }
    wait_until("closed files", || {
        common::http_get(http, "/status").is_some_and(|(_, text)| {
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            status["files"]["closed"].as_u64().unwrap() >= 2
        })
    });
    assert!(healthy());
    Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    check(&common::ledger(&output), &Path::to_owned);
}
