//! What the tests of `send` share: the corpus, other programs, and a pcap reader of their own.

#![allow(
    dead_code,
    reason = "each test program uses its part of what they share"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The captures of a corpus folder; none, with a word on it, where there is no corpus.
pub(crate) fn corpus(folder: &str) -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let root = std::env::var_os("MIRRORTAP_CORPUS").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "no corpus in {}; set MIRRORTAP_CORPUS",
            root.display()
        );
        println!("skipped: no corpus in {}", root.display());
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "pcap" || e == "pcapng"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Runs a program; what it printed, or `None` when it failed.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    out.status.success().then_some(text)
}

/// The fields that tshark decodes, one line for each packet.
pub(crate) fn tshark(file: &Path, fields: &[&str]) -> Vec<String> {
    let file = file.to_str().unwrap();
    let mut args = vec!["-n", "-r", file, "-T", "fields", "-E", "separator=|"];
    // no reassembly: each packet by itself
    args.extend(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]);
    args.extend(["-o", "tcp.desegment_tcp_streams:FALSE"]);
    for field in fields {
        args.extend(["-e", field]);
    }
    let text = output("tshark", &args).unwrap_or_else(|| panic!("tshark can't read {file}"));
    text.lines().map(str::to_owned).collect()
}

/// A packet of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    pub(crate) nanos: u64,
    pub(crate) data: Vec<u8>,
}

/// A little-endian nanosecond pcap file: its link type and packets.
pub(crate) fn pcap(file: &Path) -> (u32, Vec<Packet>) {
    let bytes = std::fs::read(file).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0xa1b2_3c4d, "{}", file.display());
    let (mut at, mut packets) = (24, Vec::new());
    while at < bytes.len() {
        let caplen = word(at + 8) as usize;
        packets.push(Packet {
            nanos: u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)),
            data: bytes[at + 16..at + 16 + caplen].to_vec(),
        });
        at += 16 + caplen;
    }
    (word(20), packets)
}
