//! What the packet path costs beyond the kernel: unwrapping, dealing to workers, hashing. Nanoseconds for a whole batch
//! of 128 IMIX packets; divide by 128.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mirrortap::packet::{Batch, Datagram, Ports, Tally};
use mirrortap::time::Timestamp;
use mirrortap::{decap, flow, headers};

const N: usize = 128;

/// A VXLAN payload with a TCP packet of `len` bytes inside.
fn payload(i: usize, len: usize) -> Vec<u8> {
    let mut out = vec![8, 0, 0, 0, 0, 0, (i % 8) as u8, 0];
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, i as u8], [192, 0, 2, 1], 64)
        .tcp(40_000 + i as u16, 443, 1, 1000);
    let body = vec![7; len - 54];
    // a Vec takes everything
    let _ = builder.write(&mut out, &body);
    out
}

fn batch() -> Batch {
    const SIZES: [usize; 12] = [64, 64, 576, 64, 64, 576, 64, 1500, 576, 64, 64, 576];
    let mut batch = Batch::new(0, N, 4 << 20);
    for i in 0..N {
        let bytes = payload(i, SIZES[i % SIZES.len()]);
        let Some(start) = batch.append(&bytes) else {
            continue;
        };
        batch.datagrams.push(Datagram {
            start,
            len: bytes.len() as u32,
            cut: 0,
            source: IpAddr::from([10, 0, 0, 9]),
            port: 4789,
            time: Timestamp::from_nanos(i as u64),
            order: i as u64,
        });
    }
    batch
}

fn path(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    group.throughput(Throughput::Elements(N as u64));
    let counters = decap::Counters::default();
    let mut full = batch();
    group.bench_function("unwrap a batch", |b| {
        b.iter(|| {
            full.packets.clear();
            let mut refused = Tally::default();
            decap::unwrap_batch(&mut full, Ports::default(), &mut refused, &counters);
            black_box(full.packets.len())
        });
    });
    for workers in [2_u16, 4, 16] {
        group.bench_function(format!("deal a batch to {workers} workers"), |b| {
            b.iter(|| {
                full.deal(usize::from(workers), |batch, packet| {
                    let place = flow::place_hash(packet.source, packet.vni);
                    let headers = headers::walk(batch.frame(packet));
                    flow::worker_of(flow::symmetric_hash(place, &headers), workers)
                });
                black_box(full.lot_len(0))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, path);
criterion_main!(benches);
