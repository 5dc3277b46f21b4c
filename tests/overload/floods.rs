//! Floods that would fill tables: the peak of the sensor's memory stays within what is configured and documented.
//!
//! They come as captures that are replayed, so that nothing depends on who is quicker, and are looked at by a process of their own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Ledger, PROGRAM};

/// The buffer, an eighth of it for reuse, what the tables may hold (docs/overload.md), and the program itself, built for debugging.
const MOST: u64 = (16 << 20) / 8 * 9 + (150 << 20);

/// An outer packet: Ethernet, IPv4 from a source, UDP to a port, payload.
struct Outer {
    source: [u8; 4],
    /// Flags and offset of a fragment.
    fragment: u16,
    id: u16,
    payload: Vec<u8>,
}

fn outer(source: u32, payload: Vec<u8>) -> Outer {
    Outer {
        source: source.to_be_bytes(),
        fragment: 0,
        id: 0,
        payload,
    }
}

fn vxlan(vni: u32) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut payload = vec![8, 0, 0, 0, a, b, c, 0];
    payload.resize(8 + 60, 0x55);
    payload
}

/// A classic capture of these packets, a microsecond apart.
fn write(file: &Path, packets: impl Iterator<Item = Outer>) -> u64 {
    let mut out = BufWriter::new(File::create(file).unwrap());
    out.write_all(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0])
        .unwrap();
    out.write_all(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0])
        .unwrap();
    let mut count = 0;
    for (n, packet) in (0_u32..).zip(packets) {
        let udp = 8 + packet.payload.len() as u16;
        let mut frame = [&[2; 12][..], &[8, 0, 0x45, 0]].concat();
        frame.extend((20 + udp).to_be_bytes());
        frame.extend(packet.id.to_be_bytes());
        frame.extend(packet.fragment.to_be_bytes());
        frame.extend([64, 17, 0, 0]);
        frame.extend(packet.source);
        frame.extend([10, 255, 0, 1]);
        frame.extend([0xc0, 0, 0x12, 0xb5]);
        frame.extend(udp.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(&packet.payload);
        let (secs, micros) = (1_700_000_000 + n / 1_000_000, n % 1_000_000);
        let len = frame.len() as u32;
        for word in [secs, micros, len, len] {
            out.write_all(&word.to_le_bytes()).unwrap();
        }
        out.write_all(&frame).unwrap();
        count += 1;
    }
    out.flush().unwrap();
    count
}

/// Replays a flood: the ledger, and the peak of the memory.
fn replay(packets: impl Iterator<Item = Outer>, config: &str) -> (Ledger, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (capture, file) = (
        folder.path().join("flood.pcap"),
        folder.path().join("m.toml"),
    );
    let count = write(&capture, packets);
    std::fs::write(&file, format!("{config}\n[writer]\nbuffer = '16MiB'\n")).unwrap();
    // the shell tells of the largest that a child of it was, once that has ended
    let script = "import resource, subprocess, sys\n\
        code = subprocess.run(sys.argv[1:]).returncode\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n\
        sys.exit(code)";
    let out = Command::new("python3")
        .args(["-c", script, PROGRAM, "replay", "--json", "--config"])
        .arg(&file)
        .arg("--output")
        .arg(folder.path().join("out"))
        .arg(&capture)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    let text = String::from_utf8(out.stdout).unwrap();
    let mut lines = text.lines().rev();
    let peak = lines.next().unwrap().parse::<u64>().unwrap() << 10;
    let ledger = Ledger(serde_json::from_str(lines.next().unwrap()).unwrap());
    ledger.assert_closed();
    assert_eq!(ledger.number("received"), count, "{}", ledger.0);
    (ledger, peak)
}

// 45,000 are more than the 32,768 that are told apart.

#[test]
fn a_flood_of_vnis_does_not_fill_the_memory() {
    let step = |n: u32| n.wrapping_mul(0x9e_3779) & 0xff_ffff;
    let flood = (0..45_000).map(|n| outer(0x0a00_0001, vxlan(step(n))));
    let (ledger, peak) = replay(flood, "unknown = 'drop'");
    assert_eq!(ledger.filtered("unknown_session"), 45_000);
    assert!(peak < MOST, "{peak} bytes");
}

#[test]
fn a_flood_of_sources_does_not_fill_the_memory_and_a_session_gets_what_is_its_own() {
    let flood = (0..45_000_u32).map(|n| match n % 10 {
        0 => outer(0x0a00_0001, vxlan(7)),
        _ => outer(0xc600_0000 + n, vxlan(9)),
    });
    let config = "[[session]]\nname = 'own'\nvni = 7\nsource = ['10.0.0.1/32']\n";
    let (ledger, peak) = replay(
        flood,
        &format!(
            "unknown = 'drop'\n[source]\nallowed_sources = ['10.0.0.0/8', '198.0.0.0/8']\n{config}"
        ),
    );
    assert_eq!(ledger.sessions()["own"]["written"], 4_500);
    assert_eq!(ledger.filtered("unknown_session"), 40_500);
    assert!(peak < MOST, "{peak} bytes");
}

#[test]
fn a_flood_of_sources_that_are_not_allowed_takes_nothing() {
    let flood = (0..60_000_u32).map(|n| match n % 10 {
        0 => outer(0x0a00_0001, vxlan(7)),
        _ => outer(0xc600_0000 + n, vxlan(n)),
    });
    let (ledger, peak) = replay(flood, "[source]\nallowed_sources = ['10.0.0.0/8']\n");
    assert_eq!(ledger.dropped("source_not_allowed"), 54_000);
    assert_eq!(
        (ledger.number("written"), ledger.sessions().len()),
        (6_000, 1)
    );
    assert!(peak < MOST / 2, "{peak} bytes");
}

#[test]
fn a_flood_of_first_fragments_is_given_up_in_turn() {
    let flood = (0..60_000_u32).map(|n| match n % 10 {
        0 => outer(0x0a00_0001, vxlan(7)),
        _ => Outer {
            fragment: 0x2000,
            id: n as u16,
            ..outer(0xc600_0000 + n, vec![0x55; 64])
        },
    });
    let (ledger, peak) = replay(flood, "");
    assert_eq!(ledger.dropped("fragment_incomplete"), 54_000);
    assert_eq!(ledger.number("written"), 6_000);
    assert!(peak < MOST, "{peak} bytes");
}

#[test]
fn a_flood_of_last_fragments_of_the_largest_packets_is_bounded_too() {
    // each claims to end a packet of nearly 64 KiB
    let flood = (0..30_000_u32).map(|n| Outer {
        fragment: 8_180,
        id: n as u16,
        ..outer(0xc600_0000 + n, vec![0x55; 20])
    });
    let (ledger, peak) = replay(flood, "");
    let ended = ledger.dropped("fragment_incomplete") + ledger.dropped("outer_malformed");
    assert_eq!(ended, 30_000, "{}", ledger.0);
    assert!(peak < MOST, "{peak} bytes");
}

#[test]
fn a_flood_of_unknown_sessions_that_are_kept_is_bounded() {
    // each has a file: as many as can be made in a test
    let flood = (0..1_500).map(|n| outer(0x0a00_0001, vxlan(n)));
    let (ledger, peak) = replay(flood, "");
    assert_eq!(
        (ledger.number("written"), ledger.sessions().len()),
        (1_500, 1_500)
    );
    assert!(peak < MOST, "{peak} bytes");
}
