//! A capture that is wrapped, replayed, and compared with itself.

use std::path::Path;
use std::process::Command;

use mirrortap::capfile::Reader;
use serde_json::Value;

use crate::common::{PROGRAM, all_packets, readable_packets, replay, stem};

/// Wraps a capture as AWS would, replays that, and compares every packet: bytes, order, times, lengths.
pub fn assert_wrapped_round_trip(capture: &Path) {
    let name = stem(capture);
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("outer.pcap");
    let run = Command::new(PROGRAM)
        .args([
            "send",
            "--to",
            "127.0.0.1:4789",
            "--vni",
            "77",
            "--json",
            "--write",
        ])
        .arg(&outer)
        .arg(capture)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let (before, damage) = readable_packets(capture);
    if said.contains("holds no packet that can be wrapped") {
        assert!(before.is_empty() || !is_ethernet(capture), "{name}: {said}");
        return;
    }
    assert_eq!(run.status.success(), damage.is_none(), "{name}: {said}");
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let skipped = report["skipped"].as_u64().unwrap();
    assert_eq!(
        report["sent"].as_u64().unwrap() + skipped,
        before.len() as u64,
        "{name}: {report}"
    );
    let out = folder.path().join("out");
    let ledger = replay(&[&outer], &out, &[]);
    assert_eq!(
        ledger.number("written"),
        report["sent"].as_u64().unwrap(),
        "{name}: {}",
        ledger.0
    );
    let after = all_packets(&out);
    if skipped > 0 || !is_ethernet(capture) {
        // frames that got a made-up Ethernet header: the end of each is the original
        return assert_eq!(after.len() as u64 + skipped, before.len() as u64, "{name}");
    }
    for (n, (a, b)) in before.iter().zip(&after).enumerate() {
        // a UDP datagram holds no more
        let whole = a.data.len().min(MOST);
        assert!(
            a.data[..whole] == b.data,
            "{name}: bytes of packet {}",
            n + 1
        );
        // pcap has 32 bits for seconds: until 2106
        let last = u64::from(u32::MAX) * 1_000_000_000;
        let time = if a.nanos >= last + 1_000_000_000 {
            last
        } else {
            a.nanos
        };
        assert_eq!(time, b.nanos, "{name}: time of packet {}", n + 1);
    }
}

/// The longest frame that VXLAN over IPv4 can carry: 65,535 less IP, UDP and VXLAN headers.
const MOST: usize = 65_535 - 20 - 8 - 8;

fn is_ethernet(capture: &Path) -> bool {
    let mut reader = Reader::open(capture).unwrap();
    while let Ok(Some(record)) = reader.next() {
        if record.link != mirrortap::capfile::LinkType::ETHERNET {
            return false;
        }
    }
    true
}
