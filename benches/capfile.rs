//! What a record costs: to write as pcap and as an enhanced packet block, and to read again.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mirrortap::capfile::encode::{self, Interface};
use mirrortap::capfile::{LinkType, Precision, Reader};
use mirrortap::time::Timestamp;

const SIZES: [usize; 3] = [64, 350, 1400];
/// Records of a batch: the buffer is emptied after as many, as a writer would.
const BATCH: usize = 1024;
const TIME: Timestamp = Timestamp::from_nanos(1_795_561_200_123_456_789);

fn pcap_records(out: &mut Vec<u8>, frame: &[u8]) {
    for _ in 0..BATCH {
        encode::pcap_record(out, Precision::Nanos, TIME, black_box(frame), 1500);
    }
}

fn packet_blocks(out: &mut Vec<u8>, frame: &[u8]) {
    for _ in 0..BATCH {
        encode::packet(out, 3, Precision::Nanos, TIME, black_box(frame), 1500);
    }
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in SIZES {
        let frame = vec![0xA5; size];
        let mut out = Vec::with_capacity(BATCH * 1500);
        group.bench_function(format!("pcap/{size}"), |b| {
            b.iter(|| {
                out.clear();
                pcap_records(&mut out, &frame);
                black_box(out.len())
            });
        });
        group.bench_function(format!("pcapng/{size}"), |b| {
            b.iter(|| {
                out.clear();
                packet_blocks(&mut out, &frame);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn pcap_file(frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::pcap_header(&mut out, Precision::Nanos, 65_535, LinkType::ETHERNET);
    (0..16).for_each(|_| pcap_records(&mut out, frame));
    out
}

fn pcapng_file(frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let interface = Interface {
        link: LinkType::ETHERNET,
        snaplen: 65_535,
        precision: Precision::Nanos,
        name: "eth0",
        description: "",
        filter: "",
        comment: "",
    };
    encode::section(&mut out, "bench", "");
    (0..4).for_each(|_| encode::interface(&mut out, &interface));
    (0..16).for_each(|_| packet_blocks(&mut out, frame));
    out
}

fn count(file: &[u8]) -> usize {
    let Ok(mut reader) = Reader::from_read(Cursor::new(file.to_vec()), "bench") else {
        return 0;
    };
    let mut bytes = 0;
    while let Ok(Some(record)) = reader.next() {
        bytes += black_box(record.data).len();
    }
    bytes
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(16 * BATCH as u64));
    for size in SIZES {
        let frame = vec![0xA5; size];
        let (pcap, pcapng) = (pcap_file(&frame), pcapng_file(&frame));
        assert_eq!(count(&pcap), 16 * BATCH * size);
        assert_eq!(count(&pcapng), 16 * BATCH * size);
        group.bench_function(format!("pcap/{size}"), |b| b.iter(|| count(&pcap)));
        group.bench_function(format!("pcapng/{size}"), |b| b.iter(|| count(&pcapng)));
    }
    group.finish();
}

criterion_group!(benches, encoding, reading);
criterion_main!(benches);
