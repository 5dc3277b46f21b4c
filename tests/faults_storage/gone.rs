//! Files and folders that somebody removes, replaces, or takes the rights of.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{self, Ledger, Sensor};
use crate::disk_support::{World, check, deliver, number, send, wait_sick, wait_until, wait_well};
use crate::{QUICK, beyond};

fn plain() -> (tempfile::TempDir, PathBuf, Sensor) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let config = format!("[control]\nsocket = 'off'\n{}", beyond(folder.path()));
    let sensor = Sensor::start(folder.path(), &config, &[]);
    deliver(&sensor, "1", 100);
    (folder, out, sensor)
}

/// Sends until a file is there that was begun after the fault; stops, and checks that what is there is whole.
fn goes_on(sensor: Sensor, out: &Path) -> Ledger {
    wait_until("a new file", || {
        deliver(&sensor, "1", 50);
        hidden(out).is_some()
    });
    deliver(&sensor, "1", 50);
    wait_well(&sensor);
    let ledger = sensor.stop();
    let there = common::files(out);
    assert!(!there.is_empty());
    there.iter().for_each(|f| drop(common::packets(f)));
    ledger
}

fn failed(sensor: &Sensor) -> u64 {
    sensor.status()["ledger"]["dropped"]["write_failed"]
        .as_u64()
        .unwrap_or(0)
}

/// The file that is being written.
fn hidden(out: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(out.join("vni-1")).ok()?;
    let mut paths = entries.filter_map(|e| Some(e.ok()?.path()));
    paths.find(|p| p.extension().is_some_and(|e| e == "partial"))
}

#[test]
fn an_output_folder_that_is_removed_is_made_again() {
    let (_folder, out, sensor) = plain();
    // the probe may write into it meanwhile
    wait_until("its removal", || fs::remove_dir_all(&out).is_ok());
    let ledger = goes_on(sensor, &out);
    assert_eq!(ledger.dropped("write_failed"), 0, "{}", ledger.0);
}

#[test]
fn a_session_folder_that_is_removed_is_made_again() {
    let (_folder, out, sensor) = plain();
    fs::remove_dir_all(out.join("vni-1")).unwrap();
    goes_on(sensor, &out);
}

#[test]
fn a_hidden_file_that_is_removed_under_the_writer_is_told_and_another_is_begun() {
    let (_folder, out, mut sensor) = plain();
    fs::remove_file(hidden(&out).unwrap()).unwrap();
    wait_until("the loss to be told", || {
        send(sensor.udp, "1", 20);
        number(&sensor, &["files", "lost"]) == 1
    });
    sensor.wait_logged("removed while it was being written");
    goes_on(sensor, &out);
}

#[test]
fn a_session_folder_replaced_by_a_file_is_told_and_works_again_when_the_file_is_gone() {
    let (_folder, out, sensor) = plain();
    fs::remove_dir_all(out.join("vni-1")).unwrap();
    fs::write(out.join("vni-1"), "in the way").unwrap();
    wait_until("a failed write", || {
        deliver(&sensor, "1", 20);
        failed(&sensor) > 0
    });
    wait_sick(&sensor, "vni-1");
    fs::remove_file(out.join("vni-1")).unwrap();
    wait_well(&sensor);
    goes_on(sensor, &out);
}

#[test]
fn an_output_folder_replaced_by_a_file_is_told_and_works_again_when_the_file_is_gone() {
    let (_folder, out, sensor) = plain();
    // the probe may make the folder anew in between
    wait_until("a file in the way", || {
        let _ = fs::remove_dir_all(&out);
        fs::write(&out, "in the way").is_ok()
    });
    let reason = wait_sick(&sensor, "plain file");
    assert!(reason.contains("out"), "{reason}");
    fs::remove_file(&out).unwrap();
    wait_well(&sensor);
    goes_on(sensor, &out);
}

#[test]
fn an_output_folder_that_the_sandbox_does_not_know_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let config = format!("[control]\nsocket = 'off'\n{QUICK}");
    let mut sensor = Sensor::start(folder.path(), &config, &[]);
    let caged = !sensor.log().iter().any(|l| l.contains("Landlock"));
    deliver(&sensor, "1", 100);
    fs::rename(&out, folder.path().join("old")).unwrap();
    fs::create_dir(&out).unwrap();
    if caged {
        wait_sick(&sensor, "restart the sensor");
        wait_until("a failed write", || {
            deliver(&sensor, "1", 300);
            failed(&sensor) > 0
        });
    } else {
        println!("no Landlock here: the new folder is written to");
    }
    let ledger = sensor.stop();
    assert!(ledger.number("received") >= 100);
}

#[test]
fn a_folder_without_permission_is_told_and_works_again_with_it() {
    let Some(world) = World::new() else { return };
    world.sh("chown 65534:65534 out");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let program = common::program_for_all(world.folder.path());
    let program = program.to_str().unwrap();
    let sensor = world.sensor_of(program, &nobody, QUICK);
    deliver(&sensor, "1", 100);
    world.sh("chmod 0555 out out/vni-1");
    wait_sick(&sensor, "write access");
    deliver(&sensor, "1", 1_000);
    world.sh("chmod 0755 out out/vni-1");
    wait_well(&sensor);
    deliver(&sensor, "1", 300);
    let ledger = sensor.stop();
    assert!(ledger.dropped("write_failed") > 0, "{}", ledger.0);
    world.check(&ledger);
    common::files(&world.output(""));
}

#[test]
fn a_session_folder_that_is_a_link_is_written_to_and_never_cleared() {
    let (folder, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    std::os::unix::fs::symlink(far.path(), out.join("vni-1")).unwrap();
    let config = format!(
        "[control]\nsocket = 'off'\n{}\n[retention]\nmax_size = '256KiB'",
        beyond(far.path())
    );
    let mut sensor = Sensor::start(folder.path(), &config, &[]);
    deliver(&sensor, "1", 1_000);
    wait_until("the link to be told", || {
        sensor.log().iter().any(|l| l.contains("symbolic link"))
    });
    let ledger = sensor.stop();
    assert_eq!(ledger.number("written"), ledger.number("received"));
    check(&ledger, &Path::to_owned);
    assert_eq!(
        common::files(far.path()).len() as u64,
        ledger.number("files_total")
    );
}

#[test]
fn files_with_our_names_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (outer, out) = (folder.path().join("outer.pcap"), folder.path().join("out"));
    let path = outer.to_str().unwrap();
    let made = common::mirrortap(&[
        "send",
        "--to",
        "127.0.0.1:4789",
        "--vni",
        "3",
        "--count",
        "500",
        "--write",
        path,
    ]);
    assert!(made.status.success());
    let first = common::replay(&[&outer], &out, &[]);
    let there = common::files(&out);
    let before = fs::read(&there[0]).unwrap();
    let second = common::replay(&[&outer], &out, &[]);
    let after = common::files(&out);
    assert_eq!(
        (there.len(), after.len()),
        (1, 2),
        "the second run takes the next number"
    );
    assert!(after.contains(&there[0]) && fs::read(&there[0]).unwrap() == before);
    check(&first, &Path::to_owned);
    check(&second, &Path::to_owned);
}
