//! When a new file is begun.

use std::fs;
use std::time::Duration;

use mirrortap::sink::Sink;
use mirrortap::sink::capture::{Cause, Config};
use mirrortap::spool::Format;
use mirrortap::time::{self, Timestamp};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use crate::rig::{
    Rig, START, assert_closed, capinfos, files, folder, frame, number, packet, peer, settings,
    target, tshark, wait_or,
};

fn size_is_kept(format: Format, limit: u64, packets: &[(usize, u8)]) {
    let folder = folder();
    let mut settings = settings(folder.path(), format);
    settings.rotate_size = Some(limit);
    let target = target(0, settings);
    let peers: Vec<_> = (0..4).map(peer).collect();
    let mut rig = Rig::simple(folder.path());
    for (n, (len, from)) in (0..).zip(packets) {
        let frame = frame(n, *len);
        let from = &peers[usize::from(*from) % peers.len()];
        rig.keep(0, &target, from, packet(&frame, n)).unwrap();
        rig.workers[0].progress(n + 1, false);
    }
    let report = rig.finish();
    assert_eq!(assert_closed(&target.ledger).written, packets.len() as u64);
    let found = files(folder.path());
    assert_eq!(report.files.total, found.len() as u64);
    for closed in &report.files.last {
        let size = closed.path.metadata().unwrap().len();
        assert_eq!(size, closed.bytes);
        assert!(
            size <= limit || closed.packets == 1,
            "{size} > {limit}: {closed:?}"
        );
        assert_eq!(count(&closed.path), closed.packets);
    }
}

/// Packets by our own reader: starting a program for each of some thousand files takes too long.
fn count(path: &std::path::Path) -> u64 {
    let mut reader = mirrortap::capfile::Reader::open(path).unwrap();
    let mut count = 0;
    while reader.next().unwrap().is_some() {
        count += 1;
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_file_is_larger_than_its_limit_unless_a_single_packet_is(
        limit in 200..20_000u64,
        packets in prop::collection::vec((22..3000usize, any::<u8>()), 1..60),
    ) {
        size_is_kept(Format::Pcap, limit, &packets);
        size_is_kept(Format::Pcapng, limit, &packets);
    }
}

#[test]
fn a_packet_larger_than_the_limit_has_a_file_of_its_own() {
    let folder = folder();
    let mut settings = settings(folder.path(), Format::Pcap);
    settings.rotate_size = Some(1000);
    let (target, peer) = (target(0, settings), peer(0));
    let mut rig = Rig::simple(folder.path());
    for (n, len) in [(0, 100), (1, 5000), (2, 100), (3, 100)] {
        let frame = frame(n, len);
        rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
    }
    rig.finish();
    let counts: Vec<u64> = files(folder.path()).iter().map(|f| capinfos(f)).collect();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn a_file_holds_no_more_packets_than_it_may() {
    let folder = folder();
    let mut settings = settings(folder.path(), Format::Pcap);
    settings.rotate_packets = Some(100);
    let (target, peer) = (target(0, settings), peer(0));
    let mut rig = Rig::simple(folder.path());
    for n in 0..250 {
        let frame = frame(n, 60);
        rig.keep(0, &target, &peer, packet(&frame, n)).unwrap();
    }
    let report = rig.finish();
    let found = files(folder.path());
    let counts: Vec<u64> = found.iter().map(|f| capinfos(f)).collect();
    assert_eq!(counts, [100, 100, 50]);
    let causes: Vec<Cause> = report.files.last.iter().map(|c| c.cause).collect();
    assert_eq!(causes, [Cause::Packets, Cause::Packets, Cause::Shutdown]);
    let numbers = found
        .iter()
        .flat_map(|f| tshark(f))
        .map(|r| number(&[&[0; 14], &r.data[..]].concat()));
    assert!(numbers.eq(0..250), "nothing is lost between files");
}

#[test]
fn a_packet_of_the_next_interval_opens_the_next_file() {
    let folder = folder();
    let mut settings = settings(folder.path(), Format::Pcap);
    settings.rotate_interval = Some(Duration::from_secs(60));
    let (target, peer) = (target(0, settings), peer(0));
    let mut rig = Rig::simple(folder.path());
    let minute = 60_000_000_000;
    for (n, after) in (0..).zip([10, minute - 1, minute, minute + 1, 5 * minute]) {
        let frame = frame(n, 60);
        let mut packet = packet(&frame, n);
        packet.time = Timestamp::from_nanos(START + after);
        rig.keep(0, &target, &peer, packet).unwrap();
    }
    rig.finish();
    let found = files(folder.path());
    let counts: Vec<u64> = found.iter().map(|f| capinfos(f)).collect();
    assert_eq!(counts, [2, 2, 1]);
    assert!(
        found[1]
            .to_string_lossy()
            .contains("20261124T230100.000000Z-000002")
    );
}

#[test]
fn without_traffic_a_file_is_closed_soon_after_its_interval_and_not_before() {
    let folder = folder();
    let interval = Duration::from_secs(2);
    let mut settings = settings(folder.path(), Format::Pcapng);
    settings.rotate_interval = Some(interval);
    let (target, peer) = (target(0, settings), peer(0));
    let mut rig = Rig::new(folder.path(), 1, true, &Config::default());
    let now = time::now();
    let (frame, boundary) = (frame(0, 60), now.next_boundary(interval));
    let mut packet = packet(&frame, now.nanos());
    packet.time = now;
    rig.keep(0, &target, &peer, packet).unwrap();
    wait_or(interval + Duration::from_secs(3), "the file", || {
        rig.workers[0].progress(time::now().nanos(), true);
        let closed = rig.stats.files_closed() == 1;
        assert!(
            !closed || time::now() >= boundary,
            "closed before the boundary"
        );
        closed
    });
    let late = time::now().since(boundary);
    assert!(
        late < Duration::from_millis(1500),
        "closed {late:?} after the boundary"
    );
    assert_eq!(rig.stats.files().last[0].cause, Cause::Interval);
    assert_eq!(capinfos(&files(folder.path())[0]), 1);
    assert_eq!(rig.finish().files.total, 1);
}

#[test]
fn a_second_run_with_the_same_times_overwrites_nothing() {
    let folder = folder();
    for run in 0..3 {
        let mut rig = Rig::simple(folder.path());
        let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(0));
        let frame = frame(run, 60);
        rig.keep(0, &target, &peer, packet(&frame, 0)).unwrap();
        rig.finish();
    }
    let found = files(folder.path());
    let numbers = found.iter().map(|f| number(&fs::read(f).unwrap()[40..]));
    assert!(numbers.eq(0..3));
    assert!(
        found[2]
            .to_string_lossy()
            .ends_with("T230000.000000Z-000003.pcap")
    );
}

#[test]
fn two_sinks_that_write_the_same_names_at_once_keep_out_of_each_others_way() {
    let folder = folder();
    let mut rigs = [Rig::simple(folder.path()), Rig::simple(folder.path())];
    let mut settings = settings(folder.path(), Format::Pcap);
    settings.rotate_packets = Some(1);
    for rig in &mut rigs {
        let (target, peer) = (target(0, settings.clone()), peer(0));
        for n in 0..200 {
            let frame = frame(n, 60);
            let mut packet = packet(&frame, n);
            packet.time = Timestamp::from_nanos(START);
            rig.keep(0, &target, &peer, packet).unwrap();
        }
    }
    rigs.into_iter()
        .for_each(|rig| assert_eq!(rig.finish().files.total, 200));
    assert_eq!(files(folder.path()).len(), 400);
}
