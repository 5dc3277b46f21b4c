//! Disks that fail: I/O errors, file systems that turn read-only or are unmounted, files that cannot be deleted.

use std::fs;
use std::time::Duration;

use crate::common;
use crate::disk_support::{World, deliver, leave, number, wait_sick, wait_until, wait_well};
use crate::{QUICK, beyond};

/// Has an ext4 file system refuse everything with EIO from now on, as after a disk that is gone (EXT4_IOC_SHUTDOWN).
fn shut_down(world: &World) {
    world.sh("python3 -c 'import fcntl, os, struct; \
         fcntl.ioctl(os.open(\"out\", os.O_RDONLY), 0x8004587d, struct.pack(\"I\", 2))'");
}

#[test]
fn a_disk_with_io_errors_is_told_and_the_run_ends_with_a_closed_ledger() {
    let Some(world) = World::image(32, "mkfs.ext4 -q", "") else {
        return;
    };
    let sensor = world.sensor(QUICK);
    deliver(&sensor, "1", 1_000);
    wait_until("published files", || {
        number(&sensor, &["files", "closed"]) >= 3
    });
    let published = common::files_with_hidden(&world.output(""));
    shut_down(&world);
    deliver(&sensor, "1", 500);
    let reason = wait_sick(&sensor, "error");
    assert!(reason.contains("dmesg"), "{reason}");
    deliver(&sensor, "1", 500);
    assert!(number(&sensor, &["ledger", "dropped", "write_failed"]) > 0);
    let ledger = sensor.stop();
    assert!(ledger.dropped("write_failed") > 0, "{}", ledger.0);
    // what was published is on the disk, and whole
    world.sh("umount out && mount -o loop disk.img out");
    assert!(!published.is_empty());
    for file in published {
        assert!(!common::packets(&file).is_empty(), "{}", file.display());
    }
}

#[test]
fn a_file_with_an_io_error_is_given_up_and_the_next_one_works_on_a_disk_that_is_back() {
    let Some(world) = World::image(32, "mkfs.ext4 -q", "") else {
        return;
    };
    let sensor = world.sensor(&beyond(world.folder.path()));
    deliver(&sensor, "1", 200);
    shut_down(&world);
    deliver(&sensor, "1", 300);
    wait_sick(&sensor, "error");
    // another disk in its place
    world.sh("umount -l out && mount -t tmpfs -o size=16m tmpfs out");
    wait_well(&sensor);
    wait_until("new files", || {
        deliver(&sensor, "1", 100);
        world.output("vni-1").exists()
    });
    deliver(&sensor, "1", 600);
    let ledger = sensor.stop();
    let there = common::files(&world.output(""));
    assert!(there.len() > 1, "{}", ledger.0);
    there.iter().for_each(|f| drop(common::packets(f)));
}

#[test]
fn an_output_that_turns_read_only_is_told_and_works_again_when_it_is_writable() {
    let Some(world) = World::small("16m") else {
        return;
    };
    let sensor = world.sensor(QUICK);
    deliver(&sensor, "1", 100);
    world.sh("mount --bind out out && mount -o remount,bind,ro out");
    let reason = wait_sick(&sensor, "mount the file system for writing");
    assert!(reason.contains("out"), "{reason}");
    deliver(&sensor, "1", 1_000);
    world.sh("umount out");
    wait_well(&sensor);
    deliver(&sensor, "1", 300);
    let ledger = sensor.stop();
    assert!(ledger.dropped("write_failed") > 0, "{}", ledger.0);
    world.check(&ledger);
    common::files(&world.output(""));
}

#[test]
fn a_file_system_that_aborts_to_read_only_costs_counted_packets_and_no_end() {
    let Some(world) = World::image(32, "mkfs.ext4 -q", "errors=remount-ro") else {
        return;
    };
    let sensor = world.sensor(QUICK);
    deliver(&sensor, "1", 500);
    world.try_sh("mount -o remount,abort out");
    deliver(&sensor, "1", 1_000);
    wait_sick(&sensor, "out");
    let ledger = sensor.stop();
    assert!(ledger.dropped("write_failed") > 0, "{}", ledger.0);
}

#[test]
fn a_file_system_that_is_unmounted_under_the_sensor_does_not_stop_it() {
    let Some(world) = World::small("16m") else {
        return;
    };
    let sensor = world.sensor(&beyond(world.folder.path()));
    deliver(&sensor, "1", 300);
    world.sh("umount -l out");
    wait_until("files in the folder below", || {
        deliver(&sensor, "1", 200);
        world.output("vni-1").exists()
    });
    deliver(&sensor, "1", 600);
    wait_well(&sensor);
    sensor.stop();
    let there = common::files(&world.output(""));
    assert!(!there.is_empty());
    there.iter().for_each(|f| drop(common::packets(f)));
}

#[test]
fn a_file_that_cannot_be_deleted_is_told_and_the_next_one_goes_instead() {
    let Some(world) = World::image(32, "mkfs.ext4 -q", "") else {
        return;
    };
    let output = world.output("");
    let hour = Duration::from_secs(3600);
    let files: Vec<_> = (1..=5)
        .map(|n| leave(&output, "web", n, 500, hour * 3))
        .collect();
    let name = files[0].file_name().unwrap().to_string_lossy().into_owned();
    world.sh(&format!("chattr +i out/web/{name}"));
    let mut sensor = world.sensor("[retention]\nmax_age = '1h'");
    wait_until("the others to go", || {
        files[1..].iter().all(|f| !f.exists())
    });
    assert!(files[0].exists());
    wait_until("the warning", || {
        sensor
            .log()
            .iter()
            .any(|l| l.contains("cannot delete") && l.contains(&name))
    });
    wait_well(&sensor);
    sensor.stop();
    world.sh(&format!("chattr -i out/web/{name}"));
    fs::remove_file(&files[0]).unwrap();
}
