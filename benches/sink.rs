//! From a kept packet to bytes in a file: the capture sink, its worker's side and its writer on one core, against a bare loop
//! that serialises into one buffer of a mebibyte and writes that. Time for a whole round of packets; the throughput is
//! packets. `MIRRORTAP_BENCH_MEMORY` and `MIRRORTAP_BENCH_DISK` name the folders (`/dev/shm`, `/var/tmp`).
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(
    clippy::expect_used,
    reason = "a bench without its disk has nothing to measure"
)]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mirrortap::capfile::encode;
use mirrortap::packet::{Ledger, Peer, Vni};
use mirrortap::sink::capture::{self, Capture, Config, Setup, Writers};
use mirrortap::sink::{Kept, Sink};
use mirrortap::spool::{Compression, Format, Io, Precision, Settings, Target};
use mirrortap::sys::disk::{Aligned, O_DIRECT};
use mirrortap::time::{self, Timestamp};

const MIXES: [(&str, &[usize]); 3] = [
    ("64", &[64]),
    (
        "imix",
        &[64, 64, 576, 64, 64, 576, 64, 1500, 576, 64, 64, 576],
    ),
    ("1400", &[1400]),
];

/// Bytes of frames in a round.
const ROUND: usize = 64 << 20;

/// Bytes in a file for the rate of the disk.
const ROOM: u64 = 512 << 20;

/// Frames lie in so much memory, as those of a warm ring do.
const WARM: usize = 256 << 10;

/// A feeder that is so far ahead lets the writer have the core;
const AHEAD: u64 = 4 << 20;

/// where the disk is the limit it sleeps when it is so far ahead.
const FAR_AHEAD: u64 = 24 << 20;

/// Packets between two looks at the clock, as a worker has in a batch.
const BATCH: u64 = 128;

struct Traffic {
    arena: Vec<u8>,
    frames: Vec<(usize, usize)>,
    packets: u64,
}

impl Traffic {
    fn new(sizes: &[usize], round: usize) -> Self {
        let (mut frames, mut at) = (Vec::new(), 0);
        for size in sizes.iter().cycle() {
            if at + size > WARM {
                break;
            }
            frames.push((at, *size));
            at += size;
        }
        let mean = at / frames.len();
        Self {
            arena: vec![7; WARM],
            frames,
            packets: (round / mean) as u64,
        }
    }

    fn each(&self, mut take: impl FnMut(Kept<'_>)) {
        let start = Timestamp::from_parts(1_795_561_200, 0).nanos();
        for (n, (at, size)) in (0..self.packets).zip(self.frames.iter().cycle()) {
            take(Kept {
                frame: &self.arena[*at..at + size],
                origlen: *size as u32,
                time: Timestamp::from_nanos(start + n * 1000),
                order: n,
            });
        }
    }
}

fn settings(directory: &Path) -> Settings {
    Settings {
        directory: directory.to_owned(),
        format: Format::Pcap,
        precision: Precision::Nanos,
        snaplen: 65_535,
        compression: Compression::None,
        level: 0,
        rotate_size: None,
        rotate_interval: None,
        rotate_packets: None,
    }
}

struct Rig {
    worker: Capture,
    writers: Writers,
    target: Arc<Target>,
    peer: Arc<Peer>,
}

impl Rig {
    fn new(folder: &Path, io: Io) -> Self {
        let setup = Setup {
            output: folder.to_owned(),
            workers: 1,
            live: true,
        };
        let config = Config {
            io,
            ..Config::default()
        };
        let (mut workers, writers) = capture::start(&config, &setup).expect("the sink starts");
        let source = IpAddr::from([10, 0, 0, 1]);
        Self {
            worker: workers.remove(0),
            writers,
            target: Arc::new(Target {
                id: 0,
                name: "web".into(),
                settings: settings(folder),
                ledger: Arc::new(Ledger::new()),
            }),
            peer: Arc::new(Peer::new(0, source, Vni::new(1), None, "web".into())),
        }
    }

    fn feed(&mut self, traffic: &Traffic, ahead: u64) {
        let stats = self.writers.stats();
        traffic.each(|kept| {
            while self.worker.keep(&self.target, &self.peer, kept).is_err() {
                self.worker.progress(kept.order, true);
                std::thread::yield_now();
            }
            if kept.order % BATCH == 0 {
                self.worker.progress(kept.order + 1, false);
                while stats.buffered() > ahead {
                    rest(ahead);
                }
            }
        });
        self.worker.progress(traffic.packets, true);
    }

    /// How long it took until everything was in the file; its sync is not in it.
    fn round(mut self, traffic: &Traffic, ahead: u64) -> Duration {
        let start = time::monotonic();
        self.feed(traffic, ahead);
        drop(self.worker);
        while self.target.ledger.read().written < traffic.packets {
            rest(ahead);
        }
        let took = time::monotonic().since(start);
        self.writers.finish(Duration::from_secs(20));
        took
    }
}

fn rest(ahead: u64) {
    match ahead {
        FAR_AHEAD => std::thread::sleep(Duration::from_micros(200)),
        _ => std::thread::yield_now(),
    }
}

fn bare(path: &Path, traffic: &Traffic) -> Duration {
    let mut out = Vec::with_capacity((1 << 20) + (64 << 10));
    let start = time::monotonic();
    let mut file = File::create(path).expect("a file");
    traffic.each(|kept| {
        encode::pcap_record(
            &mut out,
            Precision::Nanos,
            kept.time,
            kept.frame,
            kept.origlen,
        );
        if out.len() >= 1 << 20 {
            file.write_all(&out).expect("written");
            out.clear();
        }
    });
    file.write_all(&out).expect("written");
    time::monotonic().since(start)
}

fn base(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| default.into(), PathBuf::from)
}

/// Copies a file that is in the page cache past it, as `dd oflag=direct` does: what the disk takes.
fn copy(from: &Path, to: &Path) -> Duration {
    let mut memory = Aligned::new(4 << 20);
    let mut from = File::open(from).expect("the source");
    let mut options = File::options();
    options.write(true).create(true).custom_flags(O_DIRECT);
    let mut to = options.open(to).expect("the disk has direct I/O");
    let start = time::monotonic();
    loop {
        from.read_exact(&mut memory).expect("read");
        to.write_all(&memory).expect("written");
        if to.stream_position().expect("a place") >= ROOM {
            return time::monotonic().since(start);
        }
    }
}

/// The disk's own rate against the sink's: the copy, the sink past the page cache, the sink through it. On all cores, as
/// the disk is the limit.
fn disk(c: &mut Criterion) {
    let base = base("MIRRORTAP_BENCH_DISK", "/var/tmp");
    let mut group = c.benchmark_group("sink/rate");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(ROOM));
    let folder = tempfile::tempdir_in(&base).expect("a folder");
    let source = folder.path().join("source");
    std::fs::write(&source, vec![0xA5; ROOM as usize]).expect("the source");
    group.bench_function("copy", |b| {
        b.iter_custom(|n| {
            let one = || {
                let to = folder.path().join("copy");
                let took = copy(&source, &to);
                std::fs::remove_file(to).expect("removed");
                took
            };
            (0..n).map(|_| one()).sum()
        });
    });
    let traffic = Traffic::new(&[1400], ROOM as usize);
    for (name, io) in [("direct", Io::Direct), ("buffered", Io::Buffered)] {
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                let one = || {
                    let folder = tempfile::tempdir_in(&base).expect("a folder");
                    Rig::new(folder.path(), io).round(&traffic, FAR_AHEAD)
                };
                (0..n).map(|_| one()).sum()
            });
        });
    }
    group.finish();
}

fn sink(c: &mut Criterion) {
    // Threads that are started from here on stay on this core too.
    let cores = mirrortap::sys::affinity::allowed().unwrap_or_default();
    let _ = mirrortap::sys::affinity::pin(cores.last().copied().unwrap_or(0));
    let places = [
        ("memory", base("MIRRORTAP_BENCH_MEMORY", "/dev/shm")),
        ("disk", base("MIRRORTAP_BENCH_DISK", "/var/tmp")),
    ];
    for (place, base) in &places {
        let mut group = c.benchmark_group(format!("sink/{place}"));
        group.sample_size(10);
        for (name, sizes) in MIXES {
            let traffic = Traffic::new(sizes, ROUND);
            group.throughput(Throughput::Elements(traffic.packets));
            let folder = || tempfile::tempdir_in(base).expect("a folder");
            group.bench_function(BenchmarkId::new("bare", name), |b| {
                b.iter_custom(|n| {
                    (0..n)
                        .map(|_| bare(&folder().path().join("file"), &traffic))
                        .sum()
                });
            });
            group.bench_function(BenchmarkId::new("sink", name), |b| {
                b.iter_custom(|n| {
                    (0..n)
                        .map(|_| {
                            let folder = folder();
                            Rig::new(folder.path(), Io::Buffered).round(&traffic, AHEAD)
                        })
                        .sum()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, disk, sink);
criterion_main!(benches);
