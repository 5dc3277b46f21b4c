//! What it costs to get datagrams and to hand them on: filling batches from memory, from a capture file and from a UDP
//! socket, and the hop to a worker's thread in batches of 64 and 256. Time is for all packets of a round; criterion's "elem/s"
//! are packets a second.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make public items; a bench may panic"
)]

use std::hint::black_box;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mirrortap::decap;
use mirrortap::dispatch::{self, Dispatch, Parcel};
use mirrortap::generator::{Options, payloads, wrap_capture};
use mirrortap::packet::{Batch, Ports, Tally};
use mirrortap::source::replay::Replay;
use mirrortap::source::synthetic::{Set, Synthetic};
use mirrortap::source::{Received, Source, udp};
use mirrortap::time;

/// Packets of a capture file.
const PACKETS: u64 = 20_000;

fn options() -> Options {
    Options::new("127.0.0.1:4789".parse().unwrap())
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("source");
    let made = payloads(&options(), 1024, 1 << 24).unwrap();
    let set = Set::new(made.bytes, &made.places, [10, 0, 0, 1].into(), 4789);
    let mut source = Synthetic::new(Arc::new(set), 0);
    let mut batch = source.new_batch(0);
    group.throughput(Throughput::Elements(256));
    group.bench_function("memory", |b| {
        b.iter(|| {
            batch.clear();
            source.receive(&mut batch).unwrap();
            black_box(batch.datagrams.len())
        });
    });
    group.finish();
}

/// A capture of outer packets in a folder that is removed with the guard.
fn capture() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (inner, outer) = (
        folder.path().join("inner.pcap"),
        folder.path().join("outer.pcap"),
    );
    let traffic = Options {
        count: Some(PACKETS),
        destination: mirrortap::generator::Destination::File(inner.clone()),
        ..options()
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    mirrortap::generator::Generator::new(traffic)
        .unwrap()
        .run(&stop)
        .unwrap();
    wrap_capture(&inner, &outer, options()).unwrap();
    (folder, outer)
}

fn file(c: &mut Criterion) {
    let mut group = c.benchmark_group("source");
    let (_guard, path) = capture();
    group.throughput(Throughput::Elements(PACKETS));
    group.bench_function("replay", |b| {
        b.iter(|| {
            let mut source = Replay::open(vec![path.clone()], Ports::default()).unwrap();
            let mut batch = source.new_batch(0);
            let mut packets = 0;
            loop {
                batch.clear();
                if source.receive(&mut batch).unwrap() == Received::End {
                    break black_box(packets);
                }
                packets += batch.datagrams.len();
            }
        });
    });
    group.finish();
}

/// What waits in a socket is read: the kernel's copy is in it, its receive work is not.
fn socket(c: &mut Criterion) {
    const WAITING: u64 = 256;
    let mut group = c.benchmark_group("source");
    group.sample_size(20);
    let mut source = udp::bind(
        "127.0.0.1:0".parse().unwrap(),
        1,
        &mirrortap::source::Config::default(),
    )
    .unwrap()
    .remove(0);
    let to = *source.facts().listen.first().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut batch = source.new_batch(0);
    group.throughput(Throughput::Elements(WAITING));
    group.bench_function("udp", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                for _ in 0..WAITING {
                    sender.send_to(&[8; 400], to).unwrap();
                }
                let (begun, mut read) = (time::monotonic(), 0);
                while read < WAITING {
                    batch.clear();
                    source.receive(&mut batch).unwrap();
                    read += batch.datagrams.len() as u64;
                }
                spent += time::monotonic().since(begun);
            }
            spent
        });
    });
    group.finish();
}

fn batch_of(packets: u32) -> Batch {
    let made = payloads(&options(), u64::from(packets), 1 << 24).unwrap();
    let set = Set::new(made.bytes, &made.places, [10, 0, 0, 1].into(), 4789);
    let mut source = Synthetic::new(Arc::new(set), 0);
    let mut batch = source.new_batch(0);
    source.receive(&mut batch).unwrap();
    let (mut refused, counters) = (Tally::default(), decap::Counters::default());
    decap::unwrap_batch(&mut batch, Ports::default(), &mut refused, &counters);
    batch
}

/// From the receiver's hands into the worker's, and the batch home again; both threads spin, so that waking costs nothing.
fn hop(c: &mut Criterion) {
    let mut group = c.benchmark_group("hop");
    for packets in [64, 256] {
        group.throughput(Throughput::Elements(u64::from(packets)));
        group.bench_function(BenchmarkId::from_parameter(packets), |b| {
            b.iter_custom(|rounds| pass(rounds, packets));
        });
    }
    group.finish();
}

fn pass(rounds: u64, packets: u32) -> Duration {
    let mut queues = dispatch::queues(1, 8);
    let queue = queues.receivers.remove(0);
    let worker = std::thread::spawn(move || {
        let mut seen = 0_u64;
        loop {
            match queue.try_recv() {
                Ok(Parcel::Batch(batch)) => seen += batch.lot_len(0) as u64,
                Ok(Parcel::Tick { .. }) => return seen,
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    let mut dispatch = Dispatch::new(0, queues.senders);
    let mut batches: Vec<_> = (0..8).map(|_| Arc::new(batch_of(packets))).collect();
    let begun = time::monotonic();
    for _ in 0..rounds {
        let free = loop {
            match batches.iter_mut().position(|b| Arc::get_mut(b).is_some()) {
                Some(free) => break free,
                None => std::thread::yield_now(),
            }
        };
        dispatch.send(&batches[free], || false, |_, _| ());
    }
    dispatch.finish();
    assert_eq!(worker.join().unwrap(), rounds * u64::from(packets));
    time::monotonic().since(begun)
}

criterion_group!(benches, memory, file, socket, hop);
criterion_main!(benches);
