//! What wrapping costs: one frame into a UDP payload, and a whole outer packet for a capture file.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mirrortap::generator::{Gwlb, Outer, Shape, Wrapper, port};
use mirrortap::packet::Vni;

const SIZES: [usize; 3] = [64, 576, 1500];

fn payloads(c: &mut Criterion) {
    for (name, shape) in [
        ("wrap/vxlan", Shape::Vxlan),
        ("wrap/gwlb", Shape::Gwlb(Gwlb::default())),
    ] {
        let mut group = c.benchmark_group(name);
        let wrapper = Wrapper::new(shape, false, Some(8500), None);
        for size in SIZES {
            let (frame, mut out) = (vec![7; size], Vec::with_capacity(10_000));
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    out.clear();
                    wrapper.append(Vni::new(1234), 65474, black_box(&frame), &mut out)
                });
            });
        }
        group.finish();
    }
}

fn outer_packets(c: &mut Criterion) {
    let source = std::net::Ipv4Addr::new(10, 0, 1, 10).into();
    let Some(outer) = Outer::new(source, ([10, 0, 2, 20], 4789).into()) else {
        return;
    };
    let mut group = c.benchmark_group("wrap/outer");
    for size in SIZES {
        let (payload, mut out) = (vec![7; size], Vec::with_capacity(10_000));
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                out.clear();
                outer.append(65474, black_box(&payload), &mut out);
            });
        });
    }
    group.finish();
}

fn source_port(c: &mut Criterion) {
    let key = mirrortap::headers::FlowKey {
        version: 4,
        proto: 6,
        sport: 443,
        ..Default::default()
    };
    c.bench_function("wrap/source_port", |b| b.iter(|| port::of(black_box(&key))));
}

criterion_group!(benches, payloads, outer_packets, source_port);
criterion_main!(benches);
