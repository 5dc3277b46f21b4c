//! Disks that are full, folders that vanish, memory that runs out, time that runs out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mirrortap::packet::DropReason;
use mirrortap::sink::Sink;
use mirrortap::sink::capture::Config;
use mirrortap::spool::Format;
use mirrortap::time;

use crate::rig::{
    Rig, assert_closed, capinfos, files, folder, frame, packet, peer, settings, target, wait_for,
};

/// A file system of one mebibyte, which only root can make.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(at);
        if mount.output().expect("mount is installed").status.success() {
            return Some(Self(at.to_owned()));
        }
        assert!(
            std::env::var("CI").is_err(),
            "this test has to mount a tmpfs: run it as root"
        );
        eprintln!("SKIPPED: a tmpfs can be mounted by root only");
        None
    }
}

/// An ext4 of 8 MiB in a file, which only root can make.
struct Disk(PathBuf);

impl Disk {
    fn mount(image: &Path, at: &Path) -> Option<Self> {
        fs::write(image, vec![0; 8 << 20]).unwrap();
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            let command = command.args(args).arg(image);
            if program == "mount" {
                command.arg(at);
            }
            command.output().is_ok_and(|o| o.status.success())
        };
        // Without reserved blocks it is full for root too.
        let made = run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal"]);
        if made && run("mount", &["-o", "loop"]) {
            return Some(Self(at.to_owned()));
        }
        assert!(
            std::env::var("CI").is_err(),
            "this test has to make and mount an ext4 in a file: run it as root, with e2fsprogs"
        );
        eprintln!("SKIPPED: an ext4 in a file can be mounted by root only");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Packets of 1000 bytes in all go to a disk of 8 MiB, in writes that `chunk` packets make.
fn full_disk_past_the_page_cache(format: Format, chunk: u64) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = folder.path().join("disk");
    fs::create_dir(&at).unwrap();
    let Some(_disk) = Disk::mount(&folder.path().join("image"), &at) else {
        return;
    };
    let output = at.join("out");
    let config = toml::from_str("flush_interval = \"20ms\"\nio = \"direct\"").unwrap();
    let mut rig = Rig::new(&output, 1, true, &config);
    let (target, peer) = (target(0, settings(&output, format)), peer(0));
    let mut n = 0;
    let mut send = |rig: &mut Rig, packets: u64| {
        for _ in 0..packets {
            let frame = frame(n, 1000);
            rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
            n += 1;
            if n.is_multiple_of(chunk) {
                wait_for("the packets to end", || {
                    rig.workers[0].progress(n, true);
                    target.ledger.read().is_closed()
                });
            }
        }
        wait_for("the packets to end", || {
            rig.workers[0].progress(n, true);
            target.ledger.read().is_closed()
        });
    };
    let ballast = at.join("ballast");
    fs::write(&ballast, vec![0; 3 << 20]).unwrap();
    send(&mut rig, 1000);
    assert_eq!(rig.stats.health(), Ok(()));
    send(&mut rig, 6000);
    // What is smaller than the write that failed may still find room, so that all is well again.
    let failed = dropped(&target.ledger.read(), DropReason::WriteFailed);
    assert!(failed > 1000, "{failed}");
    fs::remove_file(&ballast).unwrap();
    send(&mut rig, 500);
    let report = rig.finish();
    let tally = assert_closed(&target.ledger);
    assert_eq!(tally, assert_closed(&peer.ledger));
    assert_eq!(tally.written + failed, 7500, "there was room again");
    let found = files(&output);
    assert_eq!((found.len(), report.lost.len()), (1, 0));
    assert_eq!(capinfos(&found[0]), tally.written, "the file is whole");
    assert_eq!(
        report.files.last[0].bytes,
        found[0].metadata().unwrap().len()
    );
}

#[test]
fn a_full_disk_written_past_the_page_cache_costs_counted_packets_and_no_half_record() {
    full_disk_past_the_page_cache(Format::Pcap, 10_000);
    full_disk_past_the_page_cache(Format::Pcapng, 333);
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn dropped(tally: &mirrortap::packet::Tally, reason: DropReason) -> u64 {
    tally.dropped[reason.index()]
}

fn full_disk(format: Format) {
    let folder = folder();
    let Some(_small) = Small::mount(folder.path()) else {
        return;
    };
    let config = toml::from_str("flush_interval = \"20ms\"").unwrap();
    let mut rig = Rig::new(folder.path(), 1, true, &config);
    let (target, peer) = (target(0, settings(folder.path(), format)), peer(0));
    let mut n = 0;
    let mut send = |rig: &mut Rig, packets: u64| {
        for _ in 0..packets {
            let frame = frame(n, 1000);
            rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
            n += 1;
        }
        wait_for("the packets to end", || {
            rig.workers[0].progress(n, true);
            target.ledger.read().is_closed()
        });
    };
    let ballast = folder.path().join("ballast");
    fs::write(&ballast, vec![0; 300 << 10]).unwrap();
    send(&mut rig, 100);
    assert_eq!(rig.stats.health(), Ok(()));
    send(&mut rig, 1500);
    let trouble = rig.stats.health().expect_err("the disk is full");
    assert!(
        trouble.reason.contains("session-0") && trouble.reason.contains("space"),
        "{trouble:?}"
    );
    let failed = dropped(&target.ledger.read(), DropReason::WriteFailed);
    assert!(failed > 0);
    fs::remove_file(&ballast).unwrap();
    send(&mut rig, 100);
    let after = target.ledger.read();
    assert_eq!(
        dropped(&after, DropReason::WriteFailed),
        failed,
        "there is room again"
    );
    wait_for("good health", || rig.stats.health().is_ok());
    let report = rig.finish();
    let tally = assert_closed(&target.ledger);
    assert_eq!(tally, assert_closed(&peer.ledger));
    assert_eq!(tally.written + failed, 1700);
    let found = files(folder.path());
    assert_eq!((found.len(), report.lost.len()), (1, 0));
    assert_eq!(capinfos(&found[0]), tally.written, "the file is whole");
}

#[test]
fn a_full_disk_costs_counted_packets_and_no_half_record() {
    full_disk(Format::Pcap);
    full_disk(Format::Pcapng);
}

#[test]
fn a_disk_that_is_full_without_traffic_is_told_before_a_packet_is_lost() {
    let folder = folder();
    let Some(_small) = Small::mount(folder.path()) else {
        return;
    };
    let rig = Rig::new(folder.path(), 1, true, &Config::default());
    assert_eq!(rig.stats.health(), Ok(()));
    let ballast = folder.path().join("ballast");
    // It ends with an error when the disk is full, which is what is wanted.
    let _ = fs::write(&ballast, vec![0; 2 << 20]);
    wait_for("bad health", || rig.stats.health().is_err());
    fs::remove_file(&ballast).unwrap();
    wait_for("good health", || rig.stats.health().is_ok());
    rig.finish();
}

#[test]
fn packets_are_refused_when_the_buffer_is_used_up_and_kept_again_later() {
    let folder = folder();
    let config = toml::from_str("buffer = \"2MiB\"\nflush_interval = \"20ms\"").unwrap();
    let mut rig = Rig::new(folder.path(), 2, true, &config);
    let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(0));
    let mut refused = 0;
    for n in 0..10_000 {
        let frame = frame(n, 400);
        let result = rig.keep(0, &target, &peer, packet(&frame, n));
        assert!(matches!(result, Ok(()) | Err(DropReason::BufferFull)));
        refused += u64::from(result.is_err());
        rig.workers[0].progress(n + 1, false);
    }
    // The second worker has told nothing, so nothing is settled: the writer stands still.
    assert!((2_000..9_000).contains(&refused), "{refused}");
    assert!(rig.stats.buffered() <= 2 << 20);
    assert!(
        rig.stats.buffered() > 1 << 20,
        "most of the budget is used: {}",
        rig.stats.buffered()
    );
    rig.workers[1].progress(u64::MAX, true);
    wait_for("the packets to end", || {
        rig.workers[0].progress(10_000, true);
        target.ledger.read().is_closed()
    });
    for n in 10_000..11_000 {
        let frame = frame(n, 400);
        rig.keep(0, &target, &peer, packet(&frame, n))
            .expect("there is room again");
    }
    let stats = rig.stats.clone();
    rig.finish();
    assert!(stats.buffered_high() <= stats.buffer_limit());
    let tally = assert_closed(&target.ledger);
    assert_eq!(
        (tally.written, dropped(&tally, DropReason::BufferFull)),
        (11_000 - refused, refused)
    );
    assert_eq!(capinfos(&files(folder.path())[0]), tally.written);
}

#[test]
fn a_folder_that_was_removed_is_made_again() {
    let (folder, config) = (
        folder(),
        toml::from_str("flush_interval = \"20ms\"").unwrap(),
    );
    let output = folder.path().join("out");
    let mut rig = Rig::new(&output, 1, true, &config);
    let (target, peer) = (target(0, settings(&output, Format::Pcap)), peer(0));
    for n in 0..2 {
        let frame = frame(n, 60);
        rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
        wait_for("the packet", || {
            rig.workers[0].progress(n + 1, true);
            target.ledger.read().written == n + 1
        });
        if n == 0 {
            fs::remove_dir_all(&output).unwrap();
        }
    }
    let report = rig.finish();
    assert_eq!(
        (report.files.total, report.lost.len()),
        (1, 1),
        "one was removed, and that is told"
    );
    assert_eq!(capinfos(&files(&output)[0]), 1);
}

#[test]
fn a_session_whose_folder_cannot_be_made_does_not_hold_up_the_others() {
    let (folder, config) = (
        folder(),
        toml::from_str("flush_interval = \"20ms\"").unwrap(),
    );
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    fs::write(&bad, "a plain file").unwrap();
    let mut rig = Rig::new(folder.path(), 1, true, &config);
    let good = target(0, settings(&good, Format::Pcap));
    let blocked = target(1, settings(&bad, Format::Pcap));
    let peer = peer(0);
    for n in 0..100 {
        let frame = frame(n, 60);
        let to = if n % 2 == 0 { &good } else { &blocked };
        rig.keep(0, to, &peer, packet(&frame, n)).unwrap();
        rig.workers[0].progress(n + 1, false);
    }
    wait_for("the packets to end", || {
        rig.workers[0].progress(100, true);
        good.ledger.read().is_closed() && blocked.ledger.read().is_closed()
    });
    let trouble = rig.stats.health().expect_err("a session cannot be stored");
    assert!(trouble.reason.contains("bad"), "{trouble:?}");
    fs::remove_file(&bad).unwrap();
    wait_for("good health, by the probe alone", || {
        rig.stats.health().is_ok()
    });
    rig.finish();
    assert_eq!(assert_closed(&good.ledger).written, 50);
    assert_eq!(
        dropped(&assert_closed(&blocked.ledger), DropReason::WriteFailed),
        50
    );
}

#[test]
fn what_cannot_be_written_before_the_deadline_is_counted_as_shutdown() {
    let folder = folder();
    let mut rig = Rig::new(folder.path(), 2, true, &Config::default());
    let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(0));
    for n in 0..500 {
        let frame = frame(n, 60);
        rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
    }
    let started = time::monotonic();
    rig.finish_within(Duration::ZERO);
    assert!(time::monotonic().since(started) < Duration::from_secs(2));
    let tally = assert_closed(&target.ledger);
    assert_eq!(dropped(&tally, DropReason::Shutdown), 500);
    assert_eq!(tally, assert_closed(&peer.ledger));
}

#[test]
fn a_worker_that_outlives_the_writers_counts_what_it_holds() {
    let folder = folder();
    let mut rig = Rig::new(folder.path(), 1, true, &Config::default());
    let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(0));
    let writers = rig.writers.take().unwrap();
    let frame = frame(0, 60);
    rig.keep(0, &target, &peer, packet(&frame, 0)).unwrap();
    writers.finish(Duration::from_millis(10));
    assert!(!target.ledger.read().is_closed(), "the worker still has it");
    rig.workers.clear();
    assert_eq!(
        dropped(&assert_closed(&target.ledger), DropReason::Shutdown),
        1
    );
    assert_eq!(
        dropped(&assert_closed(&peer.ledger), DropReason::Shutdown),
        1
    );
    assert_eq!(rig.stats.buffered(), 0);
}

#[test]
fn at_whatever_moment_the_deadline_falls_every_packet_is_counted() {
    for millis in 0..20 {
        let folder = folder();
        let mut rig = Rig::new(folder.path(), 1, true, &Config::default());
        let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(0));
        let writers = rig.writers.take().unwrap();
        let (to, from) = (target.clone(), peer.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let worker = std::thread::spawn(move || {
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                let frame = frame(n, 700);
                // A refused packet is counted by the rig.
                let _ = rig.keep(0, &to, &from, packet(&frame, n));
                n += 1;
                rig.workers[0].progress(n, n.is_multiple_of(64));
            }
        });
        let report = writers.finish(Duration::from_millis(millis * 3));
        assert_eq!(report.stuck, Vec::<String>::new());
        stop.store(true, Ordering::Relaxed);
        worker.join().unwrap();
        assert!(assert_closed(&target.ledger).received > 0);
        assert_closed(&peer.ledger);
    }
}

#[test]
fn a_writer_shows_that_it_is_alive_when_nothing_happens() {
    let folder = folder();
    let rig = Rig::new(folder.path(), 1, true, &Config::default());
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        let age = rig.stats.heartbeats[0].age(time::monotonic().nanos());
        assert!(age < Duration::from_secs(2), "{age:?}");
    }
    rig.finish();
}
