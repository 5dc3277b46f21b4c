//! Running a replay to its end, and making captures for it.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use mirrortap::capfile::encode;
use mirrortap::capfile::{LinkType, Precision, Reader};
use mirrortap::packet::Ports;
use mirrortap::packet::{DropReason, Tally};
use mirrortap::source::replay::{FileDamage, Replay};
use mirrortap::source::{Received, Source};
use mirrortap::time::Timestamp;

/// The real AWS capture: 100 VXLAN packets, all with IP identification 0.
pub(crate) const AWS: &str = "suricata-vxlan-decoder-03.pcap";

pub(crate) fn corpus() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let root = std::env::var_os("MIRRORTAP_CORPUS").map_or(root, PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    let ci = std::env::var("CI").as_deref() == Ok("true");
    assert!(!ci, "no corpus at {}", root.display());
    eprintln!("no corpus at {}: nothing checked", root.display());
    None
}

pub(crate) fn captures(folders: &[&str]) -> Vec<PathBuf> {
    let Some(root) = corpus() else {
        return Vec::new();
    };
    let is_capture = |p: &PathBuf| p.extension().is_some_and(|e| e == "pcap" || e == "pcapng");
    let mut found: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(is_capture)
        .collect();
    found.sort();
    assert!(found.len() > 20, "a corpus of {} captures", found.len());
    found
}

pub(crate) fn vxlan(name: &str) -> Option<PathBuf> {
    Some(corpus()?.join("vxlan").join(name))
}

/// A datagram with its payload.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) order: u64,
    pub(crate) source: IpAddr,
    pub(crate) port: u16,
    pub(crate) time: Timestamp,
    pub(crate) payload: Vec<u8>,
    pub(crate) cut: u32,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (order, len) = (self.order, self.payload.len());
        let (source, port, cut) = (self.source, self.port, self.cut);
        write!(f, "#{order} {source} to {port}: {len} bytes and {cut} cut")
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) got: Vec<Got>,
    pub(crate) refused: Tally,
    pub(crate) records: u64,
    pub(crate) merged: u64,
    pub(crate) damage: Vec<FileDamage>,
}

impl Outcome {
    pub(crate) fn refused_as(&self, reason: DropReason) -> u64 {
        self.refused.dropped[reason.index()]
    }

    /// Everything but the order, which fragments change.
    pub(crate) fn contents(&self) -> Vec<Got> {
        let without_order = |got: &Got| Got {
            order: 0,
            ..got.clone()
        };
        self.got.iter().map(without_order).collect()
    }
}

/// Replays to the end, checking what holds of every batch.
pub(crate) fn replay(paths: &[&Path], ports: Ports) -> Outcome {
    let paths = paths.iter().map(|p| p.to_path_buf()).collect();
    let mut source = Replay::open(paths, ports).unwrap();
    assert!(!source.runs_away());
    let mut batch = source.new_batch(3);
    let progress = source.progress();
    let mut got: Vec<Got> = Vec::new();
    let mut refused = Tally::default();
    let mut watermark = 0;
    loop {
        batch.clear();
        let received = source.receive(&mut batch).unwrap();
        refused.merge(&batch.refused);
        assert!(batch.datagrams.len() <= batch.capacity());
        for datagram in &batch.datagrams {
            assert!(datagram.order >= watermark && datagram.order < batch.order);
            assert!(got.last().is_none_or(|last| last.order < datagram.order));
            got.push(Got {
                order: datagram.order,
                source: datagram.source,
                port: datagram.port,
                time: datagram.time,
                payload: batch.bytes(datagram.start, datagram.len).to_vec(),
                cut: datagram.cut,
            });
        }
        watermark = batch.order;
        if received == Received::End {
            assert!(batch.datagrams.is_empty() && batch.refused == Tally::default());
            break;
        }
    }
    assert_eq!(refused.received, refused.dropped_total());
    let (records, merged) = (progress.records.value(), progress.fragments_merged.value());
    assert_eq!(records, got.len() as u64 + refused.received + merged);
    Outcome {
        got,
        refused,
        records,
        merged,
        damage: source.damage(),
    }
}

pub(crate) fn replay_one(path: &Path) -> Outcome {
    replay(&[path], Ports::default())
}

/// A packet to be written to a capture.
pub(crate) struct Frame {
    pub(crate) time: Timestamp,
    pub(crate) data: Vec<u8>,
    pub(crate) origlen: u32,
}

pub(crate) fn frames(path: &Path) -> Vec<Frame> {
    let mut reader = Reader::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.link, LinkType::ETHERNET);
        frames.push(Frame {
            time: record.time,
            data: record.data.to_vec(),
            origlen: record.origlen,
        });
    }
    frames
}

pub(crate) fn save(link: LinkType, frames: &[Frame]) -> tempfile::NamedTempFile {
    let mut out = Vec::new();
    encode::pcap_header(&mut out, Precision::Nanos, 262_144, link);
    for frame in frames {
        encode::pcap_record(
            &mut out,
            Precision::Nanos,
            frame.time,
            &frame.data,
            frame.origlen,
        );
    }
    save_bytes(&out)
}

pub(crate) fn save_bytes(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(crate) fn copy(frame: &Frame) -> Frame {
    Frame {
        data: frame.data.clone(),
        ..*frame
    }
}
