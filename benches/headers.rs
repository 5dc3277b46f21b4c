//! What the walk costs, beside etherparse on the same frames.
//!
//! The frames are like those of an Internet mix: 7 of 64 bytes, 4 of 594, 1 of 1514; one in five is
//! IPv6, seven in ten are TCP; 4,096 flows, so that no branch predictor learns them by heart.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make undocumented functions; a bench may panic"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{LaxSlicedPacket, PacketBuilder, SlicedPacket};
use mirrortap::headers::walk;

const FRAMES: u32 = 4096;

/// A small generator of numbers that are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn frame(numbers: &mut Numbers) -> Vec<u8> {
    let size = [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1514];
    let size = size[numbers.below(12) as usize];
    let (a, b) = (numbers.next().to_be_bytes(), numbers.next().to_be_bytes());
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let v6 = numbers.below(5) == 0;
    let ip = if v6 {
        let address = |x: [u8; 8]| {
            [[0xfd, 0, 0, 0, 0, 0, 0, 0], x]
                .concat()
                .try_into()
                .unwrap()
        };
        link.ipv6(address(a), address(b), 64)
    } else {
        link.ipv4([10, a[0], a[1], a[2]], [10, b[0], b[1], b[2]], 64)
    };
    let (sport, dport) = (
        1024 + numbers.below(60_000) as u16,
        numbers.below(1024) as u16,
    );
    let tcp = numbers.below(10) < 7;
    let headers = 14 + if v6 { 40 } else { 20 } + if tcp { 20 } else { 8 };
    let payload = vec![0; usize::max(size, headers) - headers];
    let mut frame = Vec::new();
    if tcp {
        ip.tcp(sport, dport, 1, 1024).write(&mut frame, &payload)
    } else {
        ip.udp(sport, dport).write(&mut frame, &payload)
    }
    .unwrap();
    frame
}

fn frames() -> Vec<Vec<u8>> {
    let mut numbers = Numbers(7);
    (0..FRAMES).map(|_| frame(&mut numbers)).collect()
}

fn parsers(criterion: &mut Criterion) {
    let mix = frames();
    // IPv4 and TCP only: what is left when no branch is mispredicted.
    let alike: Vec<_> = mix
        .iter()
        .filter(|frame| frame[12] == 0x08 && frame[23] == 6)
        .cloned()
        .collect();
    for (name, frames) in [("mix", mix), ("tcp4", alike)] {
        let mut group = criterion.benchmark_group(format!("headers/{name}"));
        group.throughput(Throughput::Elements(frames.len() as u64));
        group.bench_function("walk", |b| b.iter(|| each(&frames, walk)));
        group.bench_function("etherparse_sliced", |b| {
            b.iter(|| each(&frames, SlicedPacket::from_ethernet));
        });
        group.bench_function("etherparse_lax_sliced", |b| {
            b.iter(|| each(&frames, LaxSlicedPacket::from_ethernet));
        });
        group.finish();
    }
}

fn each<'a, T>(frames: &'a [Vec<u8>], parse: impl Fn(&'a [u8]) -> T) {
    for frame in frames {
        // By reference: a copy right after the small writes would cost more than the walk.
        black_box(&parse(black_box(frame)));
    }
}

criterion_group!(benches, parsers);
criterion_main!(benches);
