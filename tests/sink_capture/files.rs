//! What is in the files.

use std::time::Duration;

use mirrortap::sink::Sink;
use mirrortap::sink::capture::{Config, Error, Ordering, Setup, start};
use mirrortap::spool::{Format, Precision};

use crate::rig::{
    Rig, START, assert_closed, capinfos, files, folder, frame, is_hidden, number, packet, peer,
    settings, target, tcpdump, tshark, wait_or,
};

fn lengths() -> impl Iterator<Item = usize> {
    (0..400)
        .map(|n| 60 + n * 37 % 1400)
        .chain([9_000, 22, 65_535])
}

fn check(format: Format, precision: Precision) {
    check_with(format, precision, &Config::default());
}

fn check_with(format: Format, precision: Precision, config: &Config) {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let mut settings = settings(&folder.path().join("new/deep"), format);
    settings.precision = precision;
    let (target, peer) = (target(0, settings), peer(1));
    let mut rig = Rig::new(folder.path(), 1, false, config);
    let mut bytes = 0;
    for (n, len) in (0..).zip(lengths()) {
        let frame = frame(n, len);
        let mut packet = packet(&frame, n * 1_001);
        packet.origlen += 7;
        rig.keep(0, &target, &peer, packet).unwrap();
        bytes += len as u64;
    }
    let report = rig.finish();
    let tally = assert_closed(&target.ledger);
    assert_eq!((tally.written, tally.bytes_written), (403, bytes));
    assert_eq!(assert_closed(&peer.ledger).written, 403);
    let found = files(folder.path());
    assert_eq!(report.files.total, 1);
    let closed = &report.files.last[0];
    assert_eq!((&found[0], closed.packets), (&closed.path, 403));
    assert_eq!(closed.bytes, found[0].metadata().unwrap().len());
    assert_eq!((capinfos(&found[0]), tcpdump(&found[0])), (403, 403));
    let read = tshark(&found[0]);
    for ((n, len), read) in (0..).zip(lengths()).zip(&read) {
        let step = if precision == Precision::Nanos {
            1
        } else {
            1_000
        };
        assert_eq!(read.nanos, (START + n * 1_001) / step * step);
        assert_eq!((read.caplen, read.origlen), (len, len + 7));
        assert_eq!(read.data, frame(n, len)[14..], "packet {n}");
    }
}

#[test]
fn a_pcap_file_holds_what_was_kept() {
    check(Format::Pcap, Precision::Nanos);
    check(Format::Pcap, Precision::Micros);
}

#[test]
fn a_pcapng_file_holds_what_was_kept() {
    check(Format::Pcapng, Precision::Nanos);
    check(Format::Pcapng, Precision::Micros);
}

#[test]
fn a_file_written_past_the_page_cache_holds_what_was_kept() {
    let config = toml::from_str("io = \"direct\"").unwrap();
    check_with(Format::Pcap, Precision::Nanos, &config);
    check_with(Format::Pcapng, Precision::Micros, &config);
}

#[test]
fn a_file_is_hidden_while_it_is_written_and_a_lone_packet_is_soon_in_it() {
    let folder = folder();
    let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(1));
    let config = toml::from_str("flush_interval = \"200ms\"").unwrap();
    let mut rig = Rig::new(folder.path(), 1, true, &config);
    let frame = frame(1, 60);
    rig.keep(0, &target, &peer, packet(&frame, 1)).unwrap();
    wait_or(Duration::from_millis(900), "the packet", || {
        rig.workers[0].progress(2, true);
        target.ledger.read().written == 1
    });
    let all = || {
        std::fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().path())
    };
    let capture = all()
        .find(|p| p.to_string_lossy().contains("session-0"))
        .unwrap();
    assert!(is_hidden(&capture) && capture.extension().unwrap() == "partial");
    assert_eq!(capture.metadata().unwrap().len(), 24 + 16 + 60);
    rig.finish();
    let name = "session-0-20261124T230000.000000Z-000001.pcap";
    assert_eq!(files(folder.path()), [folder.path().join(name)]);
}

#[test]
fn each_worker_has_its_own_files_when_asked_for() {
    let folder = folder();
    let config = Config {
        ordering: Ordering::PerWorker,
        ..Config::default()
    };
    let mut rig = Rig::new(folder.path(), 2, false, &config);
    let (target, peer) = (target(0, settings(folder.path(), Format::Pcap)), peer(1));
    for n in 0..1000 {
        let frame = frame(n, 100);
        rig.keep(n as usize % 2, &target, &peer, packet(&frame, n))
            .unwrap();
    }
    let report = rig.finish();
    assert_eq!(assert_closed(&target.ledger).written, 1000);
    let found = files(folder.path());
    assert_eq!(found.len(), 2);
    for (worker, path) in (0..).zip(&found) {
        assert!(
            path.to_string_lossy()
                .contains(&format!("session-0-w{worker}-2026"))
        );
        let read = tshark(path);
        assert_eq!(read.len(), 500);
        assert!(
            read.iter()
                .all(|r| number(&[&[0; 14], &r.data[..]].concat()) % 2 == worker)
        );
    }
    let workers = report.files.last.iter().map(|c| c.worker);
    assert_eq!(workers.flatten().sum::<u16>(), 1);
}

#[test]
fn an_output_that_cannot_be_written_to_is_refused_at_the_start() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let setup = Setup {
        output: file.join("sub"),
        workers: 1,
        live: true,
    };
    let error = start(&Config::default(), &setup).expect_err("a file is no folder");
    assert!(matches!(error, Error::Output(_)));
    let text = error.to_string();
    assert!(
        text.contains(&file.display().to_string()) && text.contains("choose"),
        "{text}"
    );
    let config = Config {
        max_open_files: 0,
        ..Config::default()
    };
    let error = start(&config, &setup).expect_err("no files at all");
    assert!(error.to_string().contains("max_open_files"));
}

#[test]
fn a_target_that_was_retired_has_its_file_closed_while_the_others_go_on() {
    let folder = folder();
    let mut rig = Rig::new(folder.path(), 1, true, &Config::default());
    let target = |id| target(id, settings(folder.path(), Format::Pcap));
    let (old, new, peer) = (target(0), target(1), peer(1));
    for (n, to) in [(0, &old), (1, &new)] {
        let frame = frame(n, 100);
        rig.keep(0, to, &peer, packet(&frame, n)).unwrap();
    }
    rig.workers[0].progress(2, false);
    rig.writers().retire(old.id);
    wait_or(Duration::from_secs(5), "the file", || {
        rig.workers[0].progress(2, true);
        rig.stats.files_closed() == 1
    });
    assert_eq!(rig.stats.files().last[0].session, old.name);
    let frame = frame(2, 100);
    rig.keep(0, &old, &peer, packet(&frame, 2)).unwrap();
    assert_eq!(
        rig.finish().files.total,
        3,
        "a straggler gets a file of its own"
    );
    assert_eq!(assert_closed(&old.ledger).written, 2);
}
