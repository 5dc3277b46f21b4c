//! More sessions than files may be open.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mirrortap::sink::Sink;
use mirrortap::sink::capture::Config;
use mirrortap::spool::Format;

use crate::rig::{
    Rig, assert_closed, capinfos, files, folder, frame, packet, peer, settings, target,
};

const TARGETS: u32 = 3_000;

/// Descriptors of this process on capture files below `folder`.
fn open_below(folder: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|e| fs::read_link(e.ok()?.path()).ok());
    links
        .filter(|l| l.starts_with(folder) && l.is_file())
        .count()
}

/// Three packets each, a whole round of all sessions apart.
fn check(format: Format) {
    let folder = folder();
    let config = Config {
        max_open_files: 64,
        ..toml::from_str("flush_interval = \"50ms\"").unwrap()
    };
    let mut rig = Rig::new(folder.path(), 2, false, &config);
    let to = |id: u32| target(id, settings(&folder.path().join(format!("s{id}")), format));
    let targets: Vec<_> = (0..TARGETS).map(to).collect();
    let peers: Vec<_> = (0..TARGETS).map(peer).collect();
    let (mut most, mut n) = (0, 0);
    for _ in 0..3 {
        for (target, peer) in targets.iter().zip(&peers) {
            let frame = frame(n, 80);
            rig.keep(n as usize % 2, target, peer, packet(&frame, n))
                .unwrap();
            n += 1;
            if n % 500 == 0 {
                rig.workers.iter_mut().for_each(|w| w.progress(n, true));
                most = most.max(open_below(folder.path()));
                std::thread::sleep(Duration::from_millis(30));
            }
        }
    }
    assert!(rig.stats.open_files.value() <= 64);
    let (high, limit) = (rig.stats.buffered_high(), rig.stats.buffer_limit());
    assert!(high < limit / 4, "{high} bytes for {n} small packets");
    let report = rig.finish();
    // The closers have one or two descriptors each.
    assert!(
        (32..=64 + 8).contains(&most),
        "{most} files were open at once"
    );
    let found = files(folder.path());
    assert_eq!(
        (found.len(), report.files.total),
        (3_000, 3_000),
        "one file each"
    );
    assert!(
        targets
            .iter()
            .all(|t| assert_closed(&t.ledger).written == 3)
    );
    for path in found.iter().step_by(100) {
        assert_eq!(capinfos(path), 3);
    }
}

#[test]
fn three_thousand_sessions_take_turns_with_64_open_files() {
    check(Format::Pcap);
    check(Format::Pcapng);
}
