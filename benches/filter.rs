//! What judging a packet costs: ten rules with CIDR blocks, two hundred, and an expression.
//!
//! The frames are an Internet mix: one in five is IPv6, seven in ten are TCP, 4,096 flows. Headers are walked over before,
//! as the worker does; the direction alternates.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make undocumented functions; a bench may panic"
)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use mirrortap::filter::{Action, Config, Direction, Filter, RuleConfig};
use mirrortap::headers::{Headers, walk};

const FRAMES: u64 = 4096;

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
    let (a, b) = (numbers.next().to_be_bytes(), numbers.next().to_be_bytes());
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = if numbers.below(5) == 0 {
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
    let sport = 1024 + numbers.below(60_000) as u16;
    let dport = [443, 80, 53, 22, numbers.below(65_536) as u16][numbers.below(5) as usize];
    let mut frame = Vec::new();
    let payload = [0; 40];
    if numbers.below(10) < 7 {
        ip.tcp(sport, dport, 1, 1024).write(&mut frame, &payload)
    } else {
        ip.udp(sport, dport).write(&mut frame, &payload)
    }
    .unwrap();
    frame
}

fn frames() -> Vec<(Vec<u8>, Headers)> {
    let mut numbers = Numbers(11);
    let frames = (0..FRAMES).map(|_| frame(&mut numbers));
    frames.map(|frame| (frame.clone(), walk(&frame))).collect()
}

/// Rules that reject small blocks of IPv4 addresses, and last of all accept both families.
fn rules(count: u32) -> Filter {
    let mut numbers = Numbers(13);
    let mut rules = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        let rule = |number| RuleConfig {
            number,
            direction,
            action: Action::Reject,
            protocol: Some("tcp".into()),
            source: None,
            destination: None,
            source_ports: None,
            destination_ports: None,
            description: None,
        };
        for number in 1..=count - 2 {
            let [a, b, ..] = numbers.next().to_be_bytes();
            rules.push(RuleConfig {
                source: Some("10.0.0.0/8".to_owned()),
                destination: Some(format!("10.{a}.{b}.0/24")),
                destination_ports: Some(format!("{}", 1 + numbers.below(1024)).into()),
                ..rule(number)
            });
        }
        for (number, block) in [(count - 1, "0.0.0.0/0"), (count, "::/0")] {
            rules.push(RuleConfig {
                action: Action::Accept,
                protocol: None,
                source: Some(block.to_owned()),
                ..rule(number)
            });
        }
    }
    compile(&Config {
        rules,
        ..Config::default()
    })
}

fn expression(text: &str) -> Filter {
    compile(&Config {
        expression: Some(text.to_owned()),
        ..Config::default()
    })
}

fn compile(config: &Config) -> Filter {
    Filter::compile(config, Path::new(".")).unwrap()
}

fn judging(criterion: &mut Criterion) {
    let frames = frames();
    let filters = [
        ("rules_10", rules(10)),
        ("rules_200", rules(200)),
        ("rules_1000", rules(1000)),
        (
            "expression",
            expression("tcp port 443 and not net 10.0.0.0/16"),
        ),
        (
            "expression_long",
            expression(
                "(tcp port 443 or tcp port 80 or udp port 53) and not (src net 10.1.0.0/16 or dst net 10.2.0.0/16) and len > 60",
            ),
        ),
    ];
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Elements(FRAMES));
    for (name, filter) in &filters {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let directions = [Direction::Ingress, Direction::Egress].into_iter().cycle();
                for ((frame, headers), direction) in frames.iter().zip(directions) {
                    let wire_len = frame.len() as u32;
                    black_box(filter.judge(black_box(frame), headers, wire_len, direction));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, judging);
criterion_main!(benches);
