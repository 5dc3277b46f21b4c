//! Compressed files hold what plain ones would.

use std::path::{Path, PathBuf};

use mirrortap::sink::capture::Config;
use mirrortap::spool::{Compression, Format, Io};

use crate::rig::{Rig, assert_closed, files, folder, frame, packet, peer, run, settings, target};

/// Writes the same packets of two sources, and gives the files.
fn write(output: &Path, format: Format, compression: Compression, io: Io) -> Vec<PathBuf> {
    let config = Config {
        io,
        ..Config::default()
    };
    let mut rig = Rig::new(output, 1, false, &config);
    let mut settings = settings(output, format);
    (settings.compression, settings.level) = (compression, compression.level());
    settings.rotate_size = Some(200_000);
    let (target, peers) = (target(0, settings), [peer(0), peer(1)]);
    for order in 0..1500 {
        let frame = frame(order, 22 + order as usize % 600);
        rig.keep(
            0,
            &target,
            &peers[order as usize % 2],
            packet(&frame, order),
        )
        .expect("there is room");
    }
    let report = rig.finish();
    assert_eq!(assert_closed(&target.ledger).written, 1500);
    for closed in &report.files.last {
        let size = std::fs::metadata(&closed.path).unwrap().len();
        assert_eq!(closed.bytes, size, "what is told is what is on the disk");
    }
    let mut files = files(output);
    files.sort();
    files
}

fn unpacked(path: &Path) -> Vec<u8> {
    let text = path.to_string_lossy();
    let program = match () {
        () if text.ends_with(".gz") => "gzip",
        () if text.ends_with(".zst") => "zstd",
        () => return std::fs::read(path).unwrap(),
    };
    let mut command = std::process::Command::new(program);
    let output = command.args(["-d", "-q", "-c"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", path.display());
    output.stdout
}

#[test]
fn a_compressed_file_unpacks_to_the_plain_one_and_rotates_where_that_does() {
    for format in [Format::Pcap, Format::Pcapng] {
        let plain = folder();
        let plain = write(plain.path(), format, Compression::None, Io::Buffered)
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect::<Vec<_>>();
        assert!(plain.len() > 2);
        for compression in [Compression::Zstd, Compression::Gzip] {
            for io in [Io::Buffered, Io::Direct] {
                let folder = tempfile::tempdir_in("/var/tmp").unwrap();
                let packed = write(folder.path(), format, compression, io);
                assert_eq!(
                    packed.len(),
                    plain.len(),
                    "{format:?} {compression:?} {io:?}"
                );
                for (path, plain) in packed.iter().zip(&plain) {
                    assert!(unpacked(path) == *plain, "{}", path.display());
                    assert!(std::fs::metadata(path).unwrap().len() < plain.len() as u64);
                }
                run(std::process::Command::new("tshark")
                    .args(["-n", "-r"])
                    .arg(&packed[0]));
            }
        }
    }
}

#[test]
fn more_zstd_files_than_encoders_are_all_whole() {
    let folder = folder();
    let config = Config {
        max_open_files: 2,
        ..Config::default()
    };
    let mut rig = Rig::new(folder.path(), 1, false, &config);
    let each = |id: u32| {
        let mut settings = settings(&folder.path().join(id.to_string()), Format::Pcap);
        (settings.compression, settings.level) = (Compression::Zstd, 1);
        (target(id, settings), peer(id))
    };
    let sessions: Vec<_> = (0..7).map(each).collect();
    for order in 0..700 {
        let (target, peer) = &sessions[order as usize % sessions.len()];
        let frame = frame(order, 400);
        rig.keep(0, target, peer, packet(&frame, order))
            .expect("there is room");
    }
    rig.finish();
    let files = files(folder.path());
    assert_eq!(files.len(), 7);
    for path in files {
        assert_eq!(unpacked(&path).len(), 24 + 100 * 416, "{}", path.display());
    }
}
