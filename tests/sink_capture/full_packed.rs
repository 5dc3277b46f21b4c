//! A disk that gets full under compressed files, in a mount namespace of the test's own, which ends with it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mirrortap::capfile::Reader;
use mirrortap::packet::DropReason;
use mirrortap::sink::Sink;
use mirrortap::sink::capture::{Cause, Config};
use mirrortap::spool::{Compression, Format, Io};

use crate::rig::{
    Rig, assert_closed, capinfos, files, packet, peer, run, settings, target, wait_or,
};

/// Tells the inner process where its disk is.
const DISK: &str = "MIRRORTAP_FULL_DISK";

const TEST: &str =
    "full_packed::a_full_disk_leaves_compressed_files_whole_and_they_go_on_when_there_is_room";

const LONGEST: Duration = Duration::from_secs(60);

fn on_a_small_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=1m,mode=0700 mirrortap-full \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(folder.path())
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", TEST, "--nocapture", "--test-threads", "1"])
        .env(DISK, folder.path())
        .output()
        .expect("unshare is installed: scripts/setup.sh test");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return assert!(said.contains("1 passed"), "{said}");
    }
    let refused = said.contains("unshare failed") || said.contains("mount:");
    if refused && std::env::var_os("CI").is_none() {
        return eprintln!("SKIPPED: mounting a small disk needs root: {said}");
    }
    panic!("{said}");
}

/// A frame that cannot be compressed.
fn noise(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let mut frame: Vec<u8> = (0..600).map(byte).collect();
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    frame
}

/// Leaves no room on the disk.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a ballast");
    while file.write_all(&[0x55; 4096]).is_ok() {}
}

fn packets(path: &Path) -> u64 {
    let mut reader = Reader::open(path).unwrap();
    let mut packets = 0;
    while reader.next().unwrap().is_some() {
        packets += 1;
    }
    assert_eq!(reader.damage(), None, "{}", path.display());
    packets
}

/// Every file is whole for everybody, and together they hold so many packets.
fn assert_whole(files: &[PathBuf], compression: Compression, written: u64) {
    let there: u64 = files.iter().map(|path| packets(path)).sum();
    assert_eq!(there, written, "{files:?}");
    let zstd = compression == Compression::Zstd;
    let program = if zstd { "zstd" } else { "gzip" };
    for path in files {
        assert_eq!(capinfos(path), packets(path));
        run(Command::new(program).args(["-t", "-q"]).arg(path));
    }
}

fn full(disk: &Path, format: Format, compression: Compression, io: Io) {
    let (output, ballast) = (disk.join("out"), disk.join("ballast"));
    let mut config: Config = toml::from_str("flush_interval = \"20ms\"").unwrap();
    config.io = io;
    let mut rig = Rig::new(&output, 1, true, &config);
    let mut settings = settings(&output.join("web"), format);
    (settings.compression, settings.level) = (compression, compression.level());
    let (target, peer) = (target(0, settings), peer(0));
    let mut next = 0;
    let mut send = |rig: &mut Rig, packets: u64| {
        for _ in 0..packets {
            let frame = noise(next);
            rig.keep(0, &target, &peer, packet(&frame, next)).unwrap();
            next += 1;
        }
        wait_or(LONGEST, "the packets to end", || {
            rig.workers[0].progress(next, true);
            target.ledger.read().is_closed()
        });
        target.ledger.read().written
    };
    assert_eq!(send(&mut rig, 200), 200);
    fill(&ballast);
    let mut written = send(&mut rig, 400);
    assert!(
        written < 600,
        "{format:?} {compression:?} {io:?}: there was room"
    );
    fs::remove_file(&ballast).unwrap();
    let begun = mirrortap::time::monotonic();
    let before = written;
    while written == before {
        assert!(
            mirrortap::time::monotonic().since(begun) < LONGEST,
            "it does not go on"
        );
        written = send(&mut rig, 10);
    }
    written = send(&mut rig, 50);
    let report = rig.finish();
    let tally = assert_closed(&target.ledger);
    assert!(tally.written >= written && tally.dropped[DropReason::WriteFailed.index()] > 0);
    assert_whole(&files(&output), compression, tally.written);
    let mut closed = report.files.last.iter();
    let ended = closed.any(|f| f.cause == Cause::WriteFailed);
    assert_eq!(ended, compression == Compression::Zstd, "{report:?}");
    fs::remove_dir_all(&output).unwrap();
}

#[test]
fn a_full_disk_leaves_compressed_files_whole_and_they_go_on_when_there_is_room() {
    let Some(disk) = std::env::var_os(DISK) else {
        return on_a_small_disk();
    };
    for compression in [Compression::Zstd, Compression::Gzip] {
        for (format, io) in [
            (Format::Pcap, Io::Buffered),
            (Format::Pcapng, Io::Buffered),
            (Format::Pcapng, Io::Direct),
        ] {
            full(Path::new(&disk), format, compression, io);
        }
    }
}
