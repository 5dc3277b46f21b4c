//! A capture sink with targets, peers and workers, and other programs' readings of its files.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mirrortap::packet::{DropReason, Ledger, Peer, Tally, Vni};
use mirrortap::sink::capture::{Capture, Config, Report, Setup, Stats, Writers, start};
use mirrortap::sink::{Kept, Sink};
use mirrortap::spool::{Compression, Format, Precision, Settings, Target};
use mirrortap::time::Timestamp;
use tempfile::TempDir;

/// 2026-11-24T23:00:00Z.
pub(crate) const START: u64 = 1_795_561_200_000_000_000;

pub(crate) struct Rig {
    pub(crate) workers: Vec<Capture>,
    pub(crate) writers: Option<Writers>,
    pub(crate) stats: Arc<Stats>,
}

/// Settings without limits.
pub(crate) fn settings(directory: &Path, format: Format) -> Settings {
    Settings {
        directory: directory.to_owned(),
        format,
        precision: Precision::Nanos,
        snaplen: 65_535,
        compression: Compression::None,
        level: 0,
        rotate_size: None,
        rotate_interval: None,
        rotate_packets: None,
    }
}

pub(crate) fn target(id: u32, settings: Settings) -> Arc<Target> {
    let name = format!("session-{id}").into();
    let ledger = Arc::new(Ledger::new());
    Arc::new(Target {
        id,
        name,
        settings,
        ledger,
    })
}

pub(crate) fn peer(id: u32) -> Arc<Peer> {
    let [_, b, c, d] = (id + 1).to_be_bytes();
    let source = IpAddr::from([10, b, c, d]);
    Arc::new(Peer::new(
        id,
        source,
        Vni::new(1000 + id),
        None,
        format!("session-{id}").into(),
    ))
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

impl Rig {
    pub(crate) fn new(output: &Path, workers: usize, live: bool, config: &Config) -> Self {
        let output = output.to_owned();
        let setup = Setup {
            output,
            workers,
            live,
        };
        let (workers, writers) = start(config, &setup).expect("started");
        let stats = writers.stats();
        Self {
            workers,
            writers: Some(writers),
            stats,
        }
    }

    pub(crate) fn simple(output: &Path) -> Self {
        Self::new(output, 1, false, &Config::default())
    }

    /// Counts a packet as received, and keeps it; a refused one is counted as the worker loop does.
    pub(crate) fn keep(
        &mut self,
        worker: usize,
        target: &Arc<Target>,
        peer: &Arc<Peer>,
        packet: Kept<'_>,
    ) -> Result<(), DropReason> {
        let mut tally = Tally::default();
        tally.receive(packet.frame.len());
        let result = self.workers[worker].keep(target, peer, packet);
        if let Err(reason) = result {
            tally.drop(reason);
        }
        target.ledger.add(&tally);
        peer.ledger.add(&tally);
        result
    }

    pub(crate) fn writers(&self) -> &Writers {
        self.writers.as_ref().expect("not finished")
    }

    pub(crate) fn finish(mut self) -> Report {
        self.finish_within(Duration::from_secs(60))
    }

    pub(crate) fn finish_within(&mut self, deadline: Duration) -> Report {
        self.workers.clear();
        let report = self.writers.take().expect("not finished").finish(deadline);
        assert_eq!(report.stuck, Vec::<String>::new());
        assert_eq!(self.stats.buffered(), 0, "all memory came back");
        assert_eq!(
            self.stats.open_files.value(),
            0,
            "all descriptors came back"
        );
        report
    }
}

/// A packet whose order is its time.
pub(crate) fn packet(frame: &[u8], order: u64) -> Kept<'_> {
    Kept {
        frame,
        origlen: frame.len() as u32,
        time: Timestamp::from_nanos(START + order),
        order,
    }
}

/// An Ethernet frame of `len` bytes that carries `number`.
pub(crate) fn frame(number: u64, len: usize) -> Vec<u8> {
    let mut frame = vec![0x55; len.max(22)];
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The number in a frame.
pub(crate) fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().unwrap())
}

/// Published files below a folder, by name; nothing else may be there.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            assert!(!is_hidden(&path), "{} was left", path.display());
            found.push(path);
        }
    }
    found.sort();
    found
}

pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with('.')
}

/// What tshark says of each packet.
pub(crate) struct Read {
    pub(crate) nanos: u64,
    pub(crate) caplen: usize,
    pub(crate) origlen: usize,
    pub(crate) interface: String,
    pub(crate) data: Vec<u8>,
}

/// Reads a file with tshark: it must do so without complaint.
pub(crate) fn tshark(path: &Path) -> Vec<Read> {
    let fields = [
        "frame.time_epoch",
        "frame.cap_len",
        "frame.len",
        "frame.interface_name",
        "data.data",
    ];
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(path).args(["-T", "fields"]);
    fields.iter().for_each(|f| _ = command.args(["-e", f]));
    let text = run(&mut command);
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Read {
    let mut fields = line.split('\t');
    let mut next = || fields.next().unwrap_or_default().to_owned();
    let (secs, nanos) = next()
        .split_once('.')
        .map(|(s, n)| (s.to_owned(), n.to_owned()))
        .unwrap();
    let data = |hex: &str| {
        (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    };
    Read {
        nanos: secs.parse::<u64>().unwrap() * 1_000_000_000 + nanos.parse::<u64>().unwrap(),
        caplen: next().parse().unwrap(),
        origlen: next().parse().unwrap(),
        interface: next(),
        data: data(&next()),
    }
}

/// Packets as capinfos counts them; it fails for a file that ends within a record.
pub(crate) fn capinfos(path: &Path) -> u64 {
    let text = run(Command::new("capinfos").args(["-M", "-c"]).arg(path));
    let line = text
        .lines()
        .find(|l| l.contains("Number of packets"))
        .expect("a count");
    line.rsplit([' ', '\t'])
        .next()
        .unwrap()
        .parse()
        .expect("a number")
}

/// Packets as tcpdump counts them.
pub(crate) fn tcpdump(path: &Path) -> u64 {
    let text = run(Command::new("tcpdump").args(["-nn", "-r"]).arg(path));
    // Lines of a frame's bytes are indented.
    let lines = text.lines().filter(|l| !l.starts_with(char::is_whitespace));
    lines.count() as u64
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("it is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    assert!(!errors.contains("cut short"), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `done`, or fails.
pub(crate) fn wait_for(what: &str, done: impl FnMut() -> bool) {
    wait_or(Duration::from_secs(60), what, done);
}

pub(crate) fn wait_or(longest: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let start = mirrortap::time::monotonic();
    while !done() {
        let waited = mirrortap::time::monotonic().since(start);
        assert!(waited < longest, "waited {waited:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts that received = written + filtered + dropped.
pub(crate) fn assert_closed(ledger: &Ledger) -> Tally {
    let tally = ledger.read();
    assert!(tally.is_closed(), "{tally:?}");
    tally
}
