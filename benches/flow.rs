//! What flow logs cost: a packet of a known flow, a new flow and its end, memory, and a record on its way to a file.
//!
//! Packets come from random flows of 1,000, 100,000 and a million open ones, so nearly every look-up of the largest
//! meets memory that is in no cache.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make undocumented functions; a bench may panic"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mirrortap::filter::Direction;
use mirrortap::flow::{Closed, Limits, Seen, Table};
use mirrortap::flowlog::{Config, FileFormat, Interface, Log};
use mirrortap::headers::{self, Headers};
use mirrortap::time::Timestamp;

#[path = "support/mod.rs"]
mod support;
use support::Numbers;

const INTERVAL: Duration = Duration::from_secs(60);
/// Packets of one round.
const ROUND: usize = 4096;

fn table(flows: u32) -> Table {
    Table::new(Limits {
        flows,
        per_eni: flows,
        interval: INTERVAL,
    })
}

/// Headers of a TCP packet; flows differ from it by addresses and ports.
fn like() -> (Headers, Vec<u8>) {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1, 443, 0, 0)
        .write(&mut frame, &[0; 100])
        .unwrap();
    (headers::walk(&frame), frame)
}

fn seen(flow: u32, like: &(Headers, Vec<u8>), time: Timestamp) -> Seen {
    let mut headers = like.0;
    let [a, b, c, d] = flow.to_be_bytes();
    headers.key.src[..4].copy_from_slice(&[10, b, c, d]);
    headers.key.sport = u16::from_be_bytes([c, a ^ d]);
    Seen::of(flow % 64, Direction::Egress, &headers, &like.1, time).unwrap()
}

fn ignore(closed: &Closed) {
    black_box(closed);
}

fn full(flows: u32, like: &(Headers, Vec<u8>)) -> Table {
    let mut table = table(flows);
    (0..flows).for_each(|n| table.add(&seen(n, like, Timestamp::default()), &mut ignore));
    assert_eq!(table.len(), flows as usize);
    table
}

fn known(criterion: &mut Criterion) {
    let like = like();
    let mut group = criterion.benchmark_group("flow/known");
    group.throughput(Throughput::Elements(ROUND as u64));
    for flows in [1_000_u32, 100_000, 1_000_000] {
        let mut table = full(flows, &like);
        let mut numbers = Numbers(7);
        // far more than one round, so that no cache holds what one round touches
        let packets: Vec<Seen> = (0..ROUND * 256)
            .map(|_| numbers.below(u64::from(flows)) as u32)
            .map(|flow| seen(flow, &like, Timestamp::default()))
            .collect();
        let mut rounds = packets.chunks_exact(ROUND).cycle();
        group.bench_function(format!("{flows}"), |b| {
            b.iter(|| {
                let round = rounds.next().unwrap();
                round.iter().for_each(|p| table.add(p, &mut ignore));
            });
        });
    }
    group.finish();
}

/// A full table that gets nothing but new flows: each closes the oldest and takes its place.
fn new(criterion: &mut Criterion) {
    let like = like();
    let mut group = criterion.benchmark_group("flow/new_closes_oldest");
    group.throughput(Throughput::Elements(ROUND as u64));
    for flows in [1_000_u32, 100_000, 1_000_000] {
        let mut table = full(flows, &like);
        let mut next = flows;
        group.bench_function(format!("{flows}"), |b| {
            b.iter(|| {
                for _ in 0..ROUND {
                    next = next.wrapping_add(1);
                    table.add(&seen(next, &like, Timestamp::default()), &mut ignore);
                }
            });
        });
    }
    group.finish();
}

/// The end of the interval: all flows of a table are closed at once; divide by their number.
fn expiry(criterion: &mut Criterion) {
    let like = like();
    let mut group = criterion.benchmark_group("flow/expire_all");
    group.sample_size(10);
    for flows in [1_000_u32, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(u64::from(flows)));
        group.bench_function(format!("{flows}"), |b| {
            b.iter_batched(
                || full(flows, &like),
                |mut table| {
                    let end = Timestamp::default().saturating_add(INTERVAL);
                    table.expire(end, &mut ignore);
                    assert!(table.is_empty());
                    table
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A question whether something is over, asked for each batch, when nothing is.
fn nothing_over(criterion: &mut Criterion) {
    let mut table = full(100_000, &like());
    criterion.bench_function("flow/expire_nothing", |b| {
        b.iter(|| table.expire(black_box(Timestamp::from_nanos(1)), &mut ignore));
    });
}

/// From the headers of a frame to what the table takes.
fn of_headers(criterion: &mut Criterion) {
    let (headers, frame) = like();
    criterion.bench_function("flow/seen_of_headers", |b| {
        b.iter(|| {
            let time = Timestamp::default();
            Seen::of(
                1,
                Direction::Egress,
                black_box(&headers),
                black_box(&frame),
                time,
            )
        });
    });
}

/// What the process grows by with a million flows; printed, since it is no time.
fn memory(_: &mut Criterion) {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let number = line.and_then(|l| l.split_whitespace().next());
        number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let (before, like) = (resident(), like());
    let table = full(1_000_000, &like);
    let grown = resident().saturating_sub(before);
    println!("flow/memory: {} bytes a flow", grown / table.len() as u64);
}

/// Records of a hundred thousand flows into files, synced and named. As Parquet they are written twice: as lines first.
fn records(criterion: &mut Criterion) {
    let (mut table, mut flows) = (full(100_000, &like()), Vec::new());
    table.close(&mut |closed| flows.push(*closed));
    let interface = Interface::default();
    let mut group = criterion.benchmark_group("flow/records");
    group.sample_size(10);
    group.throughput(Throughput::Elements(flows.len() as u64));
    for (name, file_format) in [("text", FileFormat::Text), ("parquet", FileFormat::Parquet)] {
        let config = Config {
            file_format,
            ..Config::default()
        };
        group.bench_function(name, |b| {
            b.iter_batched(
                || tempfile::tempdir().unwrap(),
                |folder| {
                    let mut log = Log::new(&config, folder.path(), Timestamp::from_nanos(1));
                    flows
                        .iter()
                        .for_each(|flow| log.record(&interface, flow).unwrap());
                    log.finish().unwrap();
                    assert_eq!(log.counts().published, flows.len() as u64);
                    folder
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    memory,
    known,
    new,
    expiry,
    nothing_over,
    of_headers,
    records
);
criterion_main!(benches);
