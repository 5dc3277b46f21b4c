//! The command that is run for each file, and the process that runs it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Sensor, wait_until};
use crate::{Load, is_healthy, wait_logged};

/// A configuration with this shell script as hook. A file ends with the packet after its tenth.
fn config(script: &str, more: &str) -> String {
    format!(
        "[writer]\non_close = [\"sh\", \"-c\", '''{script}''']\n{more}\n[capture]\nrotate_packets = 10\n"
    )
}

/// The process that starts the hooks of a sensor.
fn runner(sensor: &Sensor) -> u32 {
    let pid = sensor.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // one that has ended and that nobody has asked for yet is a Z
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn kill(pid: u32) {
    let killed = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

fn hooks(sensor: &Sensor) -> u64 {
    sensor.status()["files"]["hook_failures"].as_u64().unwrap()
}

#[test]
fn a_killed_runner_costs_hooks_that_are_counted_and_no_packet() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensor = Sensor::start(folder.path(), &config("true", ""), &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    kill(runner(&sensor));
    load.goes_on(&sensor);
    load.goes_on(&sensor);
    wait_logged(&mut sensor, "The process that starts on_close has ended");
    wait_logged(
        &mut sensor,
        "on_close was not run: the process that starts it has ended",
    );
    assert!(hooks(&sensor) >= 2 && is_healthy(&sensor));
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn a_hook_that_hangs_is_killed_counted_and_waited_for_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let script = format!("echo $$ >> {}; exec sleep 1000", mark.display());
    let mut sensor = Sensor::start(
        folder.path(),
        &config(&script, "hook_timeout = \"200ms\""),
        &[],
    );
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    load.goes_on(&sensor);
    load.goes_on(&sensor);
    wait_until("two killed hooks", || hooks(&sensor) >= 2);
    wait_logged(&mut sensor, "it ran too long and was killed");
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
    for pid in fs::read_to_string(mark).unwrap().lines() {
        assert!(!is_there(pid.parse().unwrap()), "{pid} was left behind");
    }
}

#[test]
fn a_hook_that_leaves_a_process_behind_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pids");
    let script = format!("sleep 300 <&0 & echo $! >> {}", mark.display());
    let sensor = Sensor::start(folder.path(), &config(&script, ""), &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    wait_until("a hook", || mark.exists());
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
    // its own affair, and here the test's
    for pid in fs::read_to_string(mark).unwrap().lines() {
        let _ = Command::new("kill").arg(pid).status();
    }
}

#[test]
fn a_hook_that_prints_without_end_fills_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("done");
    let script = format!(
        "head -c 20000000 /dev/zero; echo done >> {}",
        mark.display()
    );
    let sensor = Sensor::start(folder.path(), &config(&script, ""), &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    wait_until("its end", || {
        fs::read_to_string(&mark).is_ok_and(|text| text.lines().count() == 1)
    });
    assert_eq!(hooks(&sensor), 0);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn a_hook_that_is_missing_is_told_for_each_file_and_costs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[writer]\non_close = [\"/no/such/program\"]\n[capture]\nrotate_packets = 10\n";
    let mut sensor = Sensor::start(folder.path(), config, &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    wait_until("a failure", || hooks(&sensor) == 1);
    wait_logged(&mut sensor, "No such file or directory");
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn a_hook_that_kills_the_sensor_leaves_whole_files_and_no_process() {
    let folder = tempfile::tempdir().unwrap();
    // the parent of the hook is the process that starts it, and the sensor is the parent of that
    let script = "kill -KILL $(cut -d' ' -f4 /proc/$PPID/stat)";
    let mut sensor = Sensor::start(folder.path(), &config(script, ""), &[]);
    let runner = runner(&sensor);
    let mut load = Load::to(&sensor);
    // one more than a file holds
    load.send(11);
    wait_until("the end of the sensor", || {
        sensor.child.try_wait().unwrap().is_some()
    });
    wait_until("the end of the runner", || !is_there(runner));
    let files = published(&folder.path().join("out"));
    assert!(!files.is_empty());
    assert!(files.iter().all(|file| common_packets(file) == 10));
}

fn published(output: &Path) -> Vec<std::path::PathBuf> {
    let all = crate::common::files_with_hidden(output);
    all.into_iter()
        .filter(|f| !f.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect()
}

fn common_packets(file: &Path) -> usize {
    crate::common::packets(file).len()
}
