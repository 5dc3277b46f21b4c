//! Sequence-numbered traffic on loopback, below capacity and far above: what is lost, and where it is counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{Ledger, Sensor, all_packets, files, packets, tool};
use mirrortap::generator::sequence;
use mirrortap::generator::{self, Generator, Options, Pace};

fn send(port: u16, count: u64, pace: Pace, vnis: &str) -> generator::Report {
    let mut options = Options::new(SocketAddr::from(([127, 0, 0, 1], port)));
    options.vnis = vnis.parse().unwrap();
    options.count = Some(count);
    options.pace = pace;
    Generator::new(options)
        .unwrap()
        .run(&AtomicBool::new(false))
        .unwrap()
}

fn config(receivers: u16, workers: u16, more: &str) -> String {
    format!("[threads]\nreceivers = {receivers}\nworkers = {workers}\n{more}")
}

/// Everything sent was received or lost in the kernel by count; each session's ledger is closed, and is what is in
/// its files.
fn account(sent: &generator::Report, ledger: &Ledger, out: &Path) {
    let arrived = ledger.number("received") + ledger.sum("kernel_dropped");
    assert_eq!(arrived, sent.sent, "{}", ledger.0);
    let mut received = 0;
    for (name, session) in ledger.sessions() {
        let written: usize = files(&out.join(&name))
            .iter()
            .map(|f| packets(f).len())
            .sum();
        assert_eq!(
            session["written"].as_u64().unwrap(),
            written as u64,
            "{name}"
        );
        received += session["received"].as_u64().unwrap();
    }
    assert_eq!(
        received,
        ledger.number("received"),
        "every datagram belongs to a session here"
    );
}

/// The file as capinfos, tcpdump and tshark read it.
fn assert_read_elsewhere(file: &Path, packets: usize) {
    let lines = |program: &str, args: &[&str]| {
        let out = tool(program).args(args).arg(file).output().unwrap();
        assert!(
            out.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let counted = lines("capinfos", &["-Mrc"]);
    assert!(
        counted.trim_end().ends_with(&format!("{packets}")),
        "{counted}"
    );
    assert_eq!(lines("tcpdump", &["-nqtr"]).lines().count(), packets);
    assert_eq!(
        lines("tshark", &["-nT", "fields", "-e", "frame.number", "-r"])
            .lines()
            .count(),
        packets
    );
}

fn below_capacity(receivers: u16, workers: u16) {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), &config(receivers, workers, ""), &[]);
    let sent = send(sensor.udp, 30_000, Pace::Rate(15_000), "1-5");
    let ledger = sensor.stop();
    account(&sent, &ledger, &folder.path().join("out"));
    assert_eq!(
        (sent.sent, ledger.number("written")),
        (30_000, 30_000),
        "{}",
        ledger.0
    );
    let mut numbers: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for packet in all_packets(&folder.path().join("out")) {
        let mark = sequence::read(&packet.data).expect("its mark is whole");
        numbers
            .entry(mark.vni.value())
            .or_default()
            .push(mark.in_vni);
    }
    for (vni, mut numbers) in numbers {
        numbers.sort_unstable();
        assert_eq!(
            numbers,
            (0..sent.per_vni[&vni]).collect::<Vec<_>>(),
            "VNI {vni}: each once"
        );
    }
    for file in files(&folder.path().join("out")) {
        let times: Vec<u64> = packets(&file).iter().map(|p| p.nanos).collect();
        assert_read_elsewhere(&file, times.len());
        assert!(times.is_sorted(), "{}: in order of time", file.display());
    }
}

#[test]
fn below_capacity_nothing_is_lost_with_one_worker() {
    below_capacity(1, 1);
}

#[test]
fn below_capacity_nothing_is_lost_with_two_receivers_and_two_workers() {
    below_capacity(2, 2);
}

#[test]
fn below_capacity_nothing_is_lost_with_two_receivers_and_four_workers() {
    below_capacity(2, 4);
}

/// A tiny buffer, one core's worth of everything, and a sender that does not care.
fn above_capacity(receivers: u16, workers: u16, buffer: &str) {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("[source]\nreceive_buffer = '256KiB'\n[writer]\nbuffer = '{buffer}'\n");
    let sensor = Sensor::start(folder.path(), &config(receivers, workers, &more), &[]);
    let sent = send(sensor.udp, 400_000, Pace::Full, "1-8");
    let ledger = sensor.stop();
    let lost = ledger.sum("dropped") + ledger.sum("kernel_dropped");
    println!("sent {}, lost {lost}: {}", sent.sent, ledger.0["dropped"]);
    account(&sent, &ledger, &folder.path().join("out"));
}

#[test]
fn above_capacity_every_packet_is_in_one_counter_with_one_worker() {
    above_capacity(1, 1, "1MiB");
}

#[test]
fn above_capacity_every_packet_is_in_one_counter_with_two_workers() {
    above_capacity(1, 2, "2MiB");
}

#[test]
fn above_capacity_every_packet_is_in_one_counter_with_two_receivers_and_four_workers() {
    above_capacity(2, 4, "4MiB");
}

#[test]
fn a_stop_under_load_closes_every_file_and_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), &config(1, 2, ""), &[]);
    let port = sensor.udp;
    let sender = std::thread::spawn(move || send(port, 150_000, Pace::Rate(60_000), "1-8"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    let ledger = sensor.stop();
    sender.join().unwrap();
    assert!(
        ledger.number("received") > 10_000,
        "it ran under load: {}",
        ledger.0
    );
    let written: usize = files(&folder.path().join("out"))
        .iter()
        .map(|f| packets(f).len())
        .sum();
    assert_eq!(ledger.number("written"), written as u64);
}

#[test]
fn ten_thousand_vnis_fit_into_a_thousand_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = std::process::Command::new("sh");
    limited.args([
        "-c",
        &format!("ulimit -n 1024 && exec {} \"$@\"", common::PROGRAM),
        "sh",
    ]);
    let sensor = Sensor::start_with(limited, folder.path(), &config(1, 2, ""), &[]);
    let sent = send(sensor.udp, 60_000, Pace::Rate(20_000), "1-10000");
    let ledger = sensor.stop();
    assert_eq!(
        ledger.number("written"),
        sent.sent,
        "{:?}",
        ledger.0["dropped"]
    );
    assert_eq!(ledger.sessions().len(), 10_000);
    assert_eq!(
        files(&folder.path().join("out")).len(),
        10_000,
        "one file each: none was given up for another"
    );
}
