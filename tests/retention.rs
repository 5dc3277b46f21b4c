//! Retention, from the outside: bounds hold, the oldest go, what is not ours stays, and each deletion is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod disk_support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::Sensor;
use disk_support::{World, check, deliver, leave, number, send, wait_sick, wait_until, wait_well};

const HOUR: Duration = Duration::from_secs(3600);

fn deleted(sensor: &Sensor, cause: &str) -> u64 {
    number(sensor, &["retention", "deleted_files", cause])
}

/// Bytes of everything in a folder's folders.
fn bytes(output: &Path) -> u64 {
    let folders = fs::read_dir(output).unwrap().map(|e| e.unwrap().path());
    let files = folders
        .filter(|p| p.is_dir())
        .flat_map(|f| fs::read_dir(f).unwrap());
    files
        .map(|f| f.unwrap().metadata().map_or(0, |m| m.len()))
        .sum()
}

fn names(files: &[PathBuf]) -> BTreeSet<String> {
    let name = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(name).collect()
}

#[test]
fn files_never_take_more_than_max_size_and_the_newest_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[capture]\nrotate_size = '64KiB'\n[retention]\nmax_size = '1MiB'\n[writer]\nflush_interval = '50ms'";
    let sensor = Sensor::start(folder.path(), config, &[]);
    let out = folder.path().join("out");
    for _ in 0..10 {
        deliver(&sensor, "1", 400);
        wait_until("the bound", || bytes(&out) <= 1 << 20);
    }
    wait_until("deletions to be told", || deleted(&sensor, "size") > 0);
    let (_, metrics) = sensor.get("/metrics").unwrap();
    assert!(metrics.contains("mirrortap_spool_deleted_files_total{cause=\"size\"}"));
    let ledger = sensor.stop();
    check(&ledger, &Path::to_owned);
    assert!(bytes(&out) <= 1 << 20);
    let left = names(&common::files(&out));
    let all: Vec<PathBuf> = ledger.0["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["path"].as_str().unwrap().into())
        .collect();
    let all = names(&all);
    let newest: BTreeSet<String> = all.iter().rev().take(left.len()).cloned().collect();
    assert!(left.len() < all.len() && !left.is_empty());
    assert_eq!(left, newest, "the oldest went");
}

#[test]
fn each_deletion_is_in_the_manifest_after_its_file_and_the_manifest_holds() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[capture]\nrotate_size = '64KiB'\n[retention]\nmax_size = '512KiB'\n[writer]\nflush_interval = '50ms'";
    let out = folder.path().join("out");
    for _ in 0..2 {
        let sensor = Sensor::start(folder.path(), config, &[]);
        for _ in 0..5 {
            deliver(&sensor, "1", 400);
        }
        check(&sensor.stop(), &Path::to_owned);
    }
    let text = fs::read_to_string(out.join("manifest.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let mut told = BTreeSet::new();
    let mut deletions = 0;
    for line in &lines {
        let name = line["name"].as_str().unwrap_or_default();
        match line["kind"].as_str().unwrap() {
            "published" => assert!(told.insert(name.to_owned()), "{name}"),
            "deleted" => {
                assert!(told.remove(name), "{name} was not told before");
                assert!(
                    !out.join(name).exists() && line["cause"] == "size",
                    "{line}"
                );
                deletions += 1;
            }
            _ => {}
        }
    }
    assert!(deletions > 20, "{deletions}");
    assert_eq!(told.len(), common::files(&out).len(), "the rest is there");
    let verified = common::mirrortap(&["verify", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{said}");
}

#[test]
fn what_earlier_runs_left_counts_and_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let old: Vec<_> = (1..=20)
        .map(|n| leave(&out, "vni-9", n, 50_000, HOUR))
        .collect();
    let config = "[capture]\nrotate_size = '64KiB'\n[retention]\nmax_size = '512KiB'";
    let sensor = Sensor::start(folder.path(), config, &[]);
    wait_until("old files to go", || bytes(&out) <= 512 << 10);
    assert!(
        !old[0].exists() && old[19].exists(),
        "the oldest went, and no more than had to"
    );
    send(sensor.udp, "1", 450);
    let ledger = sensor.stop();
    check(&ledger, &Path::to_owned);
    assert!(old[..15].iter().all(|p| !p.exists()));
    assert!(bytes(&out) <= 512 << 10);
}

#[test]
fn files_that_are_recovered_count_once_and_go_as_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for number in 1..=30 {
        let path = leave(&out, "vni-9", number, 50_000, HOUR);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        fs::rename(&path, path.with_file_name(format!(".{name}.partial"))).unwrap();
    }
    let config = "[retention]\nmax_size = '512KiB'\n[capture]\nrotate_size = '64KiB'";
    let sensor = Sensor::start(folder.path(), config, &[]);
    wait_until("the bound", || bytes(&out) <= 512 << 10);
    let gone = || deleted(&sensor, "size");
    wait_until("deletions to be told", || {
        gone() + common::files(&out).len() as u64 == 30
    });
    // what is counted twice makes others go: that would show within five seconds
    let kept = || number(&sensor, &["retention", "kept_files"]);
    wait_until("the count", || kept() == 30 - gone());
    check(&sensor.stop(), &Path::to_owned);
    let left = bytes(&out);
    assert!(
        (400 << 10..=512 << 10).contains(&left),
        "no more went than had to: {left}"
    );
}

#[test]
fn files_older_than_max_age_go_and_younger_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let old = leave(&out, "web", 1, 500, HOUR * 3);
    let young = leave(&out, "web", 2, 500, HOUR);
    let older_than_its_session_may_be = leave(&out, "dns", 1, 500, HOUR);
    let config = "[retention]\nmax_age = '2h'\n[[session]]\nname = 'dns'\nvni = 5\n[session.retention]\nmax_age = '30m'";
    let sensor = Sensor::start(folder.path(), config, &[]);
    wait_until("old files to go", || deleted(&sensor, "age") == 2);
    assert!(!old.exists() && young.exists() && !older_than_its_session_may_be.exists());
    sensor.stop();
    assert!(young.exists());
}

#[test]
fn a_session_over_its_own_bound_costs_no_file_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let other = leave(&out, "vni-2", 1, 400_000, HOUR * 1000);
    let config = "[capture]\nrotate_size = '32KiB'\n[[session]]\nname = 'web'\nvni = 1\n[session.retention]\nmax_size = '128KiB'";
    let sensor = Sensor::start(folder.path(), config, &[]);
    deliver(&sensor, "1", 1000);
    wait_until("files of the session to go", || {
        deleted(&sensor, "size") > 10
    });
    let ledger = sensor.stop();
    check(&ledger, &Path::to_owned);
    assert!(other.exists());
    assert!(bytes(&out) <= 400_000 + (128 << 10));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = folder.path().join("out");
    let goes = leave(&out, "web", 1, 500, HOUR * 9);
    let stays = [
        leave(&out.join("web"), "deeper", 1, 500, HOUR * 9),
        leave(&out, "other", 1, 500, HOUR * 9),
        leave(elsewhere.path(), "far", 1, 500, HOUR * 9),
        out.join("web/notes.pcap"),
        out.join("web/.web-20250101T000000.000009Z-000009.pcap.aside"),
    ];
    fs::write(&stays[3], "mine").unwrap();
    fs::write(&stays[4], "torn").unwrap();
    fs::write(out.join("other/.mirrortap.lock"), "").unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("far"), out.join("far")).unwrap();
    let sensor = Sensor::start(folder.path(), "[retention]\nmax_age = '1h'", &[]);
    wait_until("our file to go", || deleted(&sensor, "age") == 1);
    // a second look, so that whatever is chosen wrongly is gone
    let later = leave(&out, "web", 2, 500, HOUR * 9);
    sensor.stop();
    assert!(!goes.exists());
    for path in stays.iter().chain([&later]) {
        assert!(path.exists(), "{}", path.display());
    }
    assert!(out.join("far").is_symlink());
}

#[test]
fn a_file_that_was_changed_after_it_was_seen_stays() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // within the bound at first
    let files: Vec<_> = (1..=6)
        .map(|n| leave(&out, "web", n, 20_000, HOUR))
        .collect();
    let config = "[capture]\nrotate_size = '32KiB'\n[retention]\nmax_size = '160KiB'";
    let sensor = Sensor::start(folder.path(), config, &[]);
    wait_until("the files to be seen", || {
        number(&sensor, &["retention", "kept_files"]) == 6
    });
    fs::write(&files[0], "evidence, edited").unwrap();
    fs::remove_file(&files[1]).unwrap();
    deliver(&sensor, "1", 300);
    wait_until("deletions", || deleted(&sensor, "size") >= 4);
    let ledger = sensor.stop();
    check(&ledger, &Path::to_owned);
    assert!(files[0].exists());
    assert!(files[2..].iter().all(|p| !p.exists()));
}

#[test]
fn the_free_space_is_kept_while_others_fill_the_disk() {
    let Some(world) = World::small("16m") else {
        return;
    };
    let config = "[capture]\nrotate_size = '256KiB'\n[retention]\nmin_free = '25%'\n[writer]\nflush_interval = '50ms'";
    let sensor = world.sensor(config);
    deliver(&sensor, "1", 6_000);
    fs::write(world.output("ballast"), vec![0; 8 << 20]).unwrap();
    wait_until("files to go for want of space", || {
        deleted(&sensor, "free") > 0
    });
    wait_until("the free space", || {
        number(&sensor, &["retention", "free_bytes"]) >= 4 << 20
    });
    deliver(&sensor, "1", 2_000);
    wait_well(&sensor);
    let ledger = sensor.stop();
    assert_eq!(ledger.dropped("write_failed"), 0, "{}", ledger.0);
    world.check(&ledger);
    assert!(world.output("ballast").exists(), "not ours");
}

#[test]
fn when_nothing_may_go_health_says_so_and_writing_goes_on() {
    let Some(world) = World::small("16m") else {
        return;
    };
    let sensor = world.sensor("[retention]\nmin_free = '50%'");
    fs::write(world.output("ballast"), vec![0; 10 << 20]).unwrap();
    let reason = wait_sick(&sensor, "min_free");
    assert!(reason.contains("free some space"), "{reason}");
    deliver(&sensor, "1", 500);
    fs::remove_file(world.output("ballast")).unwrap();
    wait_well(&sensor);
    let ledger = sensor.stop();
    assert_eq!(
        ledger.number("written"),
        ledger.number("received"),
        "{}",
        ledger.0
    );
    world.check(&ledger);
}

#[test]
fn a_reload_changes_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let old = leave(&out, "web", 1, 500, HOUR * 3);
    let sensor = Sensor::start(folder.path(), "", &[]);
    assert_eq!(number(&sensor, &["retention", "kept_files"]), 0);
    fs::write(
        folder.path().join("mirrortap.toml"),
        "[retention]\nmax_age = '2h'\n",
    )
    .unwrap();
    sensor.signal("HUP");
    wait_until("the file to go", || !old.exists());
    let ledger = sensor.stop();
    assert!(old.parent().unwrap().exists(), "an empty folder may stay");
    check(&ledger, &Path::to_owned);
}

#[test]
fn a_replay_keeps_within_its_bounds_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (outer, out) = (folder.path().join("outer.pcap"), folder.path().join("out"));
    let made = common::mirrortap(&[
        "send",
        "--to",
        "127.0.0.1:4789",
        "--vni",
        "3",
        "--count",
        "3000",
        "--size",
        "1000",
        "--write",
        outer.to_str().unwrap(),
    ]);
    assert!(made.status.success());
    let config = folder.path().join("mirrortap.toml");
    fs::write(
        &config,
        "[capture]\nrotate_size = '64KiB'\n[retention]\nmax_size = '512KiB'\n",
    )
    .unwrap();
    let ledger = common::replay(&[&outer], &out, &["--config", config.to_str().unwrap()]);
    assert_eq!(ledger.number("written"), 3000);
    check(&ledger, &Path::to_owned);
    assert!(bytes(&out) <= 512 << 10);
    assert!(!common::files(&out).is_empty());
}

#[test]
fn bounds_that_cannot_hold_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mirrortap.toml");
    for (text, wanted) in [
        ("[retention]\nmax_size = '1MiB'", "rotate_size"),
        (
            "[capture]\nrotate_size = 0\n[retention]\nmax_size = '1MiB'",
            "rotate_size",
        ),
        (
            "[[session]]\nname = 'web'\nvni = 1\n[session.retention]\nmax_size = '1MiB'",
            "web",
        ),
        ("[retention]\nmin_free = '120%'", "5%"),
        ("[retention]\nmax_sise = '1GiB'", "max_size"),
        (
            "[[session]]\nname = 'web'\nvni = 1\n[session.retention]\nmin_free = '5%'",
            "max_",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let out = common::mirrortap(&["check", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned()
            + &String::from_utf8_lossy(&out.stdout);
        assert!(
            !out.status.success() && said.contains(wanted),
            "{text}: {said}"
        );
    }
}
