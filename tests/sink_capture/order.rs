//! The order of packets that came through different workers.

use mirrortap::sink::Sink;
use mirrortap::sink::capture::Config;
use mirrortap::spool::Format;

use crate::rig::{
    Rig, START, assert_closed, files, folder, frame, packet, peer, settings, target, tshark,
    wait_for,
};

const PACKETS: u64 = 30_000;

/// Three workers, each some way behind the other, in steps like batches.
fn run(config: &Config, formats: Format) {
    let folder = folder();
    let mut rig = Rig::new(folder.path(), 3, false, config);
    let (target, peer) = (target(0, settings(folder.path(), formats)), peer(1));
    let mut next = [0, 1, 2];
    for step in 0..u64::MAX {
        let worker = (step * 7 / 3 % 3) as usize;
        for _ in 0..=step * 31 % 97 {
            if next[worker] < PACKETS {
                let n = next[worker];
                let frame = frame(n, 60 + n as usize % 500);
                rig.keep(worker, &target, &peer, packet(&frame, n)).unwrap();
                next[worker] += 3;
            }
        }
        rig.workers[worker].progress(next[worker], step % 5 == 0);
        if next.iter().all(|&n| n >= PACKETS) {
            break;
        }
    }
    let stats = rig.stats.clone();
    rig.finish();
    assert_eq!(assert_closed(&target.ledger).written, PACKETS);
    let read = tshark(&files(folder.path())[0]);
    let times: Vec<u64> = read.iter().map(|r| r.nanos - START).collect();
    assert_eq!(times, Vec::from_iter(0..PACKETS));
    assert_eq!(stats.late.value(), 0);
}

#[test]
fn packets_of_three_workers_are_in_one_file_in_the_order_of_their_arrival() {
    run(&Config::default(), Format::Pcap);
}

#[test]
fn order_does_not_depend_on_memory_writers_or_flushes() {
    let config = "buffer = \"16MiB\"\nwriters = 2\nflush_interval = \"5ms\"";
    run(&toml::from_str(config).unwrap(), Format::Pcapng);
}

#[test]
fn a_packet_that_comes_after_its_turn_is_written_and_counted_as_late() {
    let folder = folder();
    let config = toml::from_str("flush_interval = \"10ms\"").unwrap();
    let mut rig = Rig::new(folder.path(), 1, true, &config);
    let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(1));
    for (orders, watermark) in [([10, 20], 21), ([5, 30], 31)] {
        for n in orders {
            let frame = frame(n, 60);
            rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
        }
        let before = target.ledger.read().written;
        wait_for("the packets", || {
            rig.workers[0].progress(watermark, true);
            target.ledger.read().written == before + 2
        });
    }
    let stats = rig.stats.clone();
    rig.finish();
    assert_eq!(stats.late.value(), 1);
    let times: Vec<u64> = tshark(&files(folder.path())[0])
        .iter()
        .map(|r| r.nanos - START)
        .collect();
    assert_eq!(times, [10, 20, 5, 30]);
}

#[test]
fn nothing_is_written_before_every_worker_has_passed_it() {
    let folder = folder();
    let config = toml::from_str("flush_interval = \"10ms\"").unwrap();
    let mut rig = Rig::new(folder.path(), 2, true, &config);
    let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(1));
    let frame = frame(7, 60);
    rig.keep(0, &target, &peer, packet(&frame, 7)).unwrap();
    for _ in 0..40 {
        rig.workers[0].progress(100, true);
        rig.workers[1].progress(7, true);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(target.ledger.read().written, 0);
    rig.workers[1].progress(8, true);
    wait_for("the packet", || target.ledger.read().written == 1);
    rig.finish();
}
