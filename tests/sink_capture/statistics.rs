//! What a pcapng file says of its interfaces.

use std::process::Command;

use mirrortap::packet::{FilterReason, Tally};
use mirrortap::spool::Format;

use crate::rig::{Rig, files, folder, frame, packet, peer, run, settings, target, tshark};

#[test]
fn each_source_is_an_interface_whose_statistics_add_up_over_the_files() {
    let folder = folder();
    let mut settings = settings(folder.path(), Format::Pcapng);
    settings.rotate_packets = Some(20);
    let target = target(0, settings);
    let peers = [peer(0), peer(1)];
    let mut rig = Rig::simple(folder.path());
    for n in 0..40 {
        let frame = frame(n, 61);
        rig.keep(0, &target, &peers[n as usize % 2], packet(&frame, n))
            .unwrap();
    }
    let mut filtered = Tally::default();
    (0..5).for_each(|_| filtered.receive(60));
    (0..5).for_each(|_| filtered.filter(FilterReason::Expression));
    peers[1].ledger.add(&filtered);
    rig.finish();
    let found = files(folder.path());
    assert_eq!(found.len(), 2);
    let names: Vec<_> = tshark(&found[1]).into_iter().map(|r| r.interface).collect();
    assert_eq!(
        (names[0].as_str(), names[1].as_str()),
        ("vni-1000@10.0.0.1", "vni-1001@10.0.0.2")
    );
    let infos = run(Command::new("capinfos").arg(&found[0]));
    for text in [
        "Number of interfaces in file: 2",
        "Number of stat entries = 1",
        "vni-1000@10.0.0.1",
        "session-1",
        "mirrortap",
    ] {
        assert!(infos.contains(text), "{text} is missing in {infos}");
    }
    let mut received = 0;
    let mut accepted = 0;
    for path in &found {
        let blocks = run(Command::new("tshark")
            .args(["-X", "read_format:MIME Files Format", "-V", "-r"])
            .arg(path));
        received += sum(&blocks, "Number of Received Packets: ");
        accepted += sum(&blocks, "Number of Accepted by Filter Packets: ");
    }
    assert_eq!((received, accepted), (45, 40));
}

/// The sum of the numbers behind a label.
fn sum(blocks: &str, label: &str) -> u64 {
    let numbers = blocks.lines().filter_map(|l| l.trim().strip_prefix(label));
    numbers.map(|n| n.parse::<u64>().unwrap()).sum()
}
