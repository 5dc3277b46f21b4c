//! Capture files made by hand, one record after the other, and other programs' readings of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a test says what went wrong by failing; not every test needs all of it"
)]

use std::fs;
use std::io::{IoSlice, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use mirrortap::capfile::{LinkType, Reader, encode};
use mirrortap::spool::{Compression, Format, Io, Name, Ours, Partial, Precision, Short, Staging};
use mirrortap::time::Timestamp;
use tempfile::TempDir;

pub const FORMATS: [Format; 2] = [Format::Pcap, Format::Pcapng];
pub const COMPRESSIONS: [Compression; 3] =
    [Compression::None, Compression::Zstd, Compression::Gzip];

/// 2026-11-24T23:00:00Z.
pub const START: u64 = 1_795_561_200_000_000_000;

/// A folder in memory where there is one: what is tested here is not the disk.
pub fn folder() -> TempDir {
    let memory = tempfile::Builder::new()
        .prefix("mirrortap-")
        .tempdir_in("/dev/shm");
    memory.unwrap_or_else(|_| tempfile::tempdir().expect("a folder"))
}

pub fn name(directory: &Path, format: Format, compression: Compression, seq: u32) -> Name {
    let start = Timestamp::from_nanos(START);
    Name::new(directory, "web", start, (format, compression), seq)
}

/// An Ethernet frame of `len` bytes that carries `number`.
pub fn frame(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    // Half of it looks like noise, which cannot be compressed.
    let byte = |i: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if i % 64 < 32 { state as u8 } else { i as u8 }
    };
    let mut frame: Vec<u8> = (0..len.max(22)).map(byte).collect();
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The number in a frame.
pub fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().unwrap())
}

/// What a file begins with: in pcapng with one interface.
pub fn header(format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    match format {
        Format::Pcap => {
            encode::pcap_header(&mut out, Precision::Nanos, 65_535, LinkType::ETHERNET);
        }
        Format::Pcapng => {
            encode::section(&mut out, "mirrortap test", "");
            interface(&mut out);
        }
    }
    out
}

pub fn interface(out: &mut Vec<u8>) {
    let interface = encode::Interface {
        link: LinkType::ETHERNET,
        snaplen: 65_535,
        precision: Precision::Nanos,
        name: "vni-7@10.0.0.4",
        description: "web",
        filter: "",
        comment: "",
    };
    encode::interface(out, &interface);
}

/// A record that carries `number`.
pub fn record(format: Format, number: u64, len: usize) -> Vec<u8> {
    let (mut out, frame) = (Vec::new(), frame(number, len));
    let time = Timestamp::from_nanos(START + number * 1_000);
    let origlen = frame.len() as u32;
    match format {
        Format::Pcap => encode::pcap_record(&mut out, Precision::Nanos, time, &frame, origlen),
        Format::Pcapng => encode::packet(&mut out, 0, Precision::Nanos, time, &frame, origlen),
    }
    out
}

/// A hidden file, as a writer makes it.
pub struct Making {
    pub partial: Partial,
    pub staging: Staging,
}

impl Making {
    pub fn new(name: Name, io: Io) -> Self {
        let level = name.compression().level();
        Self {
            partial: Partial::create(name, io, level, &Ours::default()).expect("created"),
            staging: Staging::default(),
        }
    }

    /// With its header.
    pub fn begun(directory: &Path, format: Format, compression: Compression, io: Io) -> Self {
        let mut making = Self::new(name(directory, format, compression, 1), io);
        making.append(&header(format)).expect("written");
        making
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Short> {
        let (a, b) = bytes.split_at(bytes.len() / 2);
        let mut parts = [IoSlice::new(a), IoSlice::new(b)];
        self.partial.append(&mut parts, &mut self.staging)
    }
}

/// Numbers of the packets that our own reader finds, and whether the file was whole.
pub fn read(path: &Path) -> (Vec<u64>, bool) {
    let mut reader = Reader::open(path).unwrap_or_else(|e| panic!("{e}"));
    let mut numbers = Vec::new();
    while let Some(record) = reader.next().unwrap_or_else(|e| panic!("{e}")) {
        numbers.push(number(record.data));
    }
    (numbers, reader.damage().is_none())
}

/// All files in a folder whose names begin with a dot, or do not.
pub fn files(folder: &Path, hidden: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, hidden));
        } else if path.file_name().unwrap().to_string_lossy().starts_with('.') == hidden {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Runs a program on files, so many at a time that the command line holds them; it must succeed.
pub fn on_all(program: &[&str], files: &[PathBuf]) -> String {
    let mut out = String::new();
    for some in files.chunks(500) {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(some);
        out.push_str(&run(&mut command));
    }
    out
}

pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .expect("it is installed: scripts/setup.sh test");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    assert!(!said.contains("cut short"), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Packets of each file, as capinfos counts them; it fails for a file that ends within a record.
pub fn capinfos(files: &[PathBuf]) -> Vec<u64> {
    // A table without head: file, packets.
    let text = on_all(&["capinfos", "-T", "-r", "-M", "-m", "-c"], files);
    let last = |line: &str| line.rsplit(',').next().unwrap().trim_matches('"').parse();
    let counts: Vec<u64> = text.lines().map(|l| last(l).expect("a count")).collect();
    assert_eq!(counts.len(), files.len(), "{text}");
    counts
}

/// The programs that know the compression agree that each file is whole.
pub fn assert_unpacks(files: &[PathBuf]) {
    let ending = |ending: &str| -> Vec<PathBuf> {
        let path = |p: &&PathBuf| p.to_string_lossy().ends_with(ending);
        files.iter().filter(path).cloned().collect()
    };
    for (program, files) in [("gzip", ending(".gz")), ("zstd", ending(".zst"))] {
        if !files.is_empty() {
            on_all(&[program, "-t", "-q"], &files);
        }
    }
}

/// Unpacks a file, as the system's programs do.
pub fn unpacked(path: &Path) -> Vec<u8> {
    let text = path.to_string_lossy();
    let mut command = match () {
        () if text.ends_with(".gz") => Command::new("gzip"),
        () if text.ends_with(".zst") => Command::new("zstd"),
        () => return fs::read(path).unwrap(),
    };
    let child = command.args(["-d", "-q", "-c"]).arg(path);
    let output = child.output().expect("it is installed");
    assert!(output.status.success(), "{path:?}");
    output.stdout
}

/// The whole of a file.
pub fn bytes(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut out).unwrap();
    out
}
