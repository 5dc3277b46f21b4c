//! No space: of whatever kind, and however the files are written.

use std::fs;

use crate::QUICK;
use crate::common::{self, Ledger, Sensor};
use crate::disk_support::{World, check_each, deliver, number, wait_sick, wait_until, wait_well};

/// Fills the disk with packets, makes room, and goes on; gives the ledger.
fn fill_and_go_on(world: &World, config: &str, words: &str) -> Ledger {
    fs::write(world.output("ballast"), vec![0; 1 << 20]).unwrap();
    let sensor = world.sensor(config);
    deliver(&sensor, "1", 200);
    fill(&sensor, words);
    let before = written(&sensor);
    fs::remove_file(world.output("ballast")).unwrap();
    wait_well(&sensor);
    resumes(&sensor, before);
    let ledger = sensor.stop();
    assert!(ledger.dropped("write_failed") > 0, "{}", ledger.0);
    world.check(&ledger);
    common::files(&world.output(""));
    ledger
}

/// Sends until the disk takes no more, and health says so. It may be good again in between: what is refused may leave room
/// for less.
fn fill(sensor: &Sensor, words: &str) {
    wait_until("bad health", || {
        deliver(sensor, "1", 1_000);
        let sick = |(code, reason): (u16, String)| {
            code == 503 && reason.contains(words) && reason.contains("free some space")
        };
        failed(sensor) > 0 && sensor.get("/healthz").is_some_and(sick)
    });
}

/// Writing goes on. A file that could not be opened is tried once a second.
fn resumes(sensor: &Sensor, before: u64) {
    wait_until("written packets", || {
        deliver(sensor, "1", 300);
        written(sensor) > before
    });
}

fn failed(sensor: &Sensor) -> u64 {
    sensor.status()["ledger"]["dropped"]["write_failed"]
        .as_u64()
        .unwrap_or(0)
}

fn written(sensor: &Sensor) -> u64 {
    number(sensor, &["ledger", "written"])
}

#[test]
fn a_disk_that_fills_up_costs_counted_packets_and_writing_resumes_when_there_is_room() {
    let Some(world) = World::small("4m") else {
        return;
    };
    fill_and_go_on(&world, QUICK, "space");
}

#[test]
fn a_disk_that_fills_up_under_pcapng_leaves_whole_files() {
    let Some(world) = World::small("4m") else {
        return;
    };
    fill_and_go_on(
        &world,
        &format!(
            "{QUICK}\n[[session]]\nname = 'web'\nvni = 1\n[session.capture]\nformat = 'pcapng'"
        ),
        "space",
    );
}

#[test]
fn a_disk_that_fills_up_past_the_page_cache_leaves_whole_files() {
    let Some(world) = World::image(6, "mkfs.ext4 -q -O ^has_journal -m 0", "") else {
        return;
    };
    fill_and_go_on(
        &world,
        &QUICK.replace("[writer]", "[writer]\nio = 'direct'"),
        "space",
    );
}

#[test]
fn a_disk_that_fills_up_under_compression_leaves_whole_files() {
    for compression in ["zstd", "gzip"] {
        // these packets compress well: the bound of a file is before compression
        let Some(world) = World::small("1500k") else {
            return;
        };
        let config = format!(
            "[capture]\ncompression = '{compression}'\nrotate_size = '4MiB'\n[writer]\nflush_interval = '50ms'\n"
        );
        fs::write(world.output("ballast"), vec![0; 1300 << 10]).unwrap();
        let sensor = world.sensor(&config);
        fill(&sensor, "space");
        fs::remove_file(world.output("ballast")).unwrap();
        wait_well(&sensor);
        let before = written(&sensor);
        resumes(&sensor, before);
        let ledger = sensor.stop();
        world.check(&ledger);
        for file in common::files(&world.output("")) {
            let tool = if compression == "zstd" {
                "zstd"
            } else {
                "gzip"
            };
            let tested = common::tool(tool).arg("-tq").arg(&file).status().unwrap();
            assert!(tested.success(), "{}", file.display());
        }
    }
}

#[test]
fn one_large_file_on_a_full_disk_is_cut_at_its_last_whole_record() {
    let Some(world) = World::small("3m") else {
        return;
    };
    let ledger = fill_and_go_on(&world, "[writer]\nflush_interval = '50ms'", "space");
    assert_eq!(ledger.number("files_total"), 1);
}

#[test]
fn a_quota_that_is_used_up_is_told_and_writing_resumes_when_it_is_raised() {
    let Some(world) = World::image(160, "mkfs.btrfs -q", "") else {
        return;
    };
    world.sh("btrfs quota enable out && btrfs qgroup limit 3M out");
    let sensor = world.sensor(QUICK);
    // refused at a write, which is counted, or only at the sync, which leaves a hidden file and makes room again
    wait_until("the quota to be told", || {
        deliver(&sensor, "1", 1_000);
        failed(&sensor) + number(&sensor, &["files", "lost"]) > 0
    });
    world.sh("btrfs qgroup limit none out");
    wait_well(&sensor);
    let before = written(&sensor);
    resumes(&sensor, before);
    let ledger = sensor.stop();
    // what the quota refused only at the sync keeps its hidden name
    let told = check_each(&ledger, &|path| world.see(path));
    assert!(told > 0 && told <= ledger.number("written"), "{}", ledger.0);
}

#[test]
fn a_file_that_cannot_get_its_name_for_want_of_inodes_gets_it_when_there_are_some() {
    let Some(world) = World::small("16m,nr_inodes=40") else {
        return;
    };
    let sensor = world.sensor(QUICK);
    deliver(&sensor, "1", 100);
    // as many as there are
    world.try_sh("for i in $(seq 60); do : > out/filler-$i; done 2>/dev/null");
    deliver(&sensor, "1", 1_000);
    wait_sick(&sensor, "free some space");
    world.sh("rm out/filler-*");
    wait_well(&sensor);
    deliver(&sensor, "1", 300);
    let ledger = sensor.stop();
    world.check(&ledger);
    common::files(&world.output(""));
}

#[test]
fn a_disk_that_is_full_at_the_start_is_told_with_what_to_do() {
    let Some(world) = World::small("1m") else {
        return;
    };
    world.try_sh("head -c 2M /dev/zero > out/ballast");
    let mut command = world.command(common::PROGRAM);
    let udp = format!("127.0.0.1:{}", common::free_udp_port());
    command.args(["run", "--control", "off", "--listen", &udp, "--output"]);
    let output = command.arg(world.out()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(73), "{said}");
    assert!(said.contains("free some space"), "{said}");
}
