//! What becomes of a packet between source and sink: decap, headers, session, filter, counting; beside etherparse, which
//! only parses, on the same frames. Then what more sessions and more CIDR blocks cost.
//!
//! The worker is the real one, over a sink that keeps nothing. Batches have 256 packets of 4,096 flows and 8 VNIs. Small
//! pools stay in the cache; the large one has 256 MiB, so that each frame comes from memory.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make undocumented functions; a bench may panic"
)]

mod support;

use std::cell::{LazyCell, RefCell};
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use etherparse::SlicedPacket;
use mirrortap::packet::{Batch, Datagram, Ports, Tally};
use mirrortap::session::{self, Keep, Seats, Snapshot, Table, Unknown};
use mirrortap::sink::null::Null;
use mirrortap::spool::{Compression, Format, Precision, Settings};
use mirrortap::time::{Timestamp, monotonic};
use mirrortap::worker::Work;
use mirrortap::{decap, headers};
use support::{IMIX, Numbers, SMALL, frame};

/// Packets of a batch.
const N: usize = 256;

/// Batches of a pool that stays in the second-level cache with descriptors and all: 64 B, IMIX.
const WARM: usize = 4;

/// Bytes of a pool that does not fit into any cache.
const COLD: usize = 256 << 20;

/// Pools by name: sizes of frames, and how many batches.
const POOLS: [(&str, &[usize], usize); 4] = [
    ("64B/warm", &SMALL, WARM),
    ("imix/warm", &IMIX, WARM),
    ("64B/cold", &SMALL, COLD / (N * (64 + 90))),
    ("imix/cold", &IMIX, COLD / (N * (354 + 90))),
];

/// Numbers of sessions, and enough packets for each to be met some times.
const SESSIONS: [u32; 4] = [10, 100, 1_000, 10_000];
const SESSION_BATCHES: usize = 400;

/// What the sessions are: found by VNI alone, with the same rules, each with rules of its own.
type Configuration = fn(u32) -> String;
const SESSION_RULES: [(&str, Configuration); 3] = [
    ("unknown", |_| String::new()),
    ("same rules", |count| many_sessions(count, true)),
    ("own rules", |count| many_sessions(count, false)),
];

/// Numbers of CIDR blocks.
const CIDRS: [u32; 3] = [16, 1_000, 20_000];
const CIDR_BATCHES: usize = 16;

/// How often each way of a table is measured.
const ROUNDS: usize = 25;

/// Who mirrors: an outer source and a VNI for each number.
fn place(number: u32) -> (IpAddr, u32) {
    let source = Ipv4Addr::from_bits(0x0a00_0000 + number / 8 + 1);
    (source.into(), number % 8 + 1)
}

/// A batch as a ring gives it: payloads behind each other, each behind its outer headers.
fn batch(numbers: &mut Numbers, sizes: &[usize], places: u32) -> Batch {
    let mut batch = Batch::new(0, N, N * 1600);
    for order in 0..N as u64 {
        let (source, vni) = place(numbers.below(u64::from(places)) as u32);
        let [_, v1, v2, v3] = vni.to_be_bytes();
        let wrapping = [8, 0, 0, 0, v1, v2, v3, 0];
        let payload = [&wrapping[..], &frame(numbers, sizes)].concat();
        batch.append(&[0; 82]).unwrap();
        let start = batch.append(&payload).unwrap();
        batch.datagrams.push(Datagram {
            start,
            len: payload.len() as u32,
            cut: 0,
            source,
            port: 4789,
            time: Timestamp::from_nanos(order),
            order,
        });
    }
    batch
}

fn pool(sizes: &[usize], places: u32, batches: usize) -> Vec<Batch> {
    let mut numbers = Numbers(7);
    let mut pool: Vec<_> = (0..batches)
        .map(|_| batch(&mut numbers, sizes, places))
        .collect();
    pool.iter_mut().for_each(unwrap);
    pool
}

fn unwrap(batch: &mut Batch) {
    batch.packets.clear();
    let mut refused = Tally::default();
    let counters = decap::Counters::default();
    decap::unwrap_batch(batch, Ports::default(), &mut refused, &counters);
    assert!(refused.is_closed() && refused.received == 0);
}

#[derive(serde::Deserialize)]
struct File {
    #[serde(default)]
    session: Vec<session::Config>,
}

fn worker(configuration: &str) -> Work {
    let settings = Settings {
        directory: "nowhere".into(),
        format: Format::Pcap,
        precision: Precision::Nanos,
        snaplen: 65_535,
        compression: Compression::None,
        level: 0,
        rotate_size: None,
        rotate_interval: None,
        rotate_packets: None,
    };
    let file: File = toml::from_str(configuration).unwrap();
    let mut keep = Keep::default();
    let base = Path::new(".");
    let snapshot = Snapshot::build(&file.session, Unknown::Keep, settings, base, &mut keep);
    let table = Table::new(snapshot.unwrap(), keep);
    let seats = Seats::new(Arc::new(table));
    Work::new(0, 1, seats, Box::<Null>::default(), false)
}

/// Twenty rules, ten for each direction, with nine CIDR blocks among them; about half of the packets pass.
fn twenty_rules() -> String {
    let mut text = String::new();
    for direction in ["ingress", "egress"] {
        for (number, rule) in [
            "action = 'reject'\nprotocol = 'tcp'\ndestination_ports = 22",
            "action = 'reject'\nprotocol = 'udp'\ndestination_ports = 53",
            "action = 'reject'\nsource = '10.0.0.0/12'",
            "action = 'reject'\ndestination = '10.16.0.0/14'",
            "action = 'reject'\nsource = '10.32.0.0/16'\ndestination_ports = '1024-65535'",
            "action = 'reject'\nsource = '192.168.0.0/16'",
            "action = 'reject'\nsource = '10.64.0.0/10'\ndestination = '172.16.0.0/12'",
            "action = 'accept'\nprotocol = 'tcp'\nsource = '10.128.0.0/9'",
            "action = 'reject'\nsource = '::/0'\ndestination_ports = 80",
            "action = 'accept'",
        ]
        .iter()
        .enumerate()
        {
            let number = number + 1;
            write!(
                text,
                "[[session.filter.rules]]\nnumber = {number}\ndirection = '{direction}'\n{rule}\n"
            )
            .unwrap();
        }
    }
    text
}

fn one_session() -> String {
    format!(
        "[[session]]\nname = 'all'\neni_mac = ['02:00:00:00:00:01']\n{}",
        twenty_rules()
    )
}

/// Decap and the whole worker over each batch of a pool.
fn work(worker: &mut Work, pool: &mut [Batch]) {
    for batch in pool {
        unwrap(batch);
        worker.take(batch);
        worker.progress(false);
    }
}

fn each<T>(pool: &[Batch], parse: impl Fn(&[u8]) -> T) {
    for batch in pool {
        for packet in &batch.packets {
            // By reference: a copy right after the small writes would cost more than the walk.
            black_box(&parse(black_box(batch.frame(packet))));
        }
    }
}

/// Whether each frame parses; etherparse has no cheaper question.
fn parse(pool: &[Batch]) {
    for batch in pool {
        for packet in &batch.packets {
            let frame = black_box(batch.frame(packet));
            black_box(&SlicedPacket::from_ethernet(frame));
        }
    }
}

fn beside_etherparse(criterion: &mut Criterion) {
    for (name, sizes, batches) in POOLS {
        let pool = LazyCell::new(|| RefCell::new(pool(sizes, 8, batches)));
        let mut group = criterion.benchmark_group(format!("work/{name}"));
        group.throughput(Throughput::Elements((batches * N) as u64));
        group.sample_size(20);
        group.bench_function("etherparse", |b| b.iter(|| parse(&pool.borrow())));
        group.bench_function("walk", |b| b.iter(|| each(&pool.borrow(), headers::walk)));
        group.bench_function("decap", |b| {
            b.iter(|| pool.borrow_mut().iter_mut().for_each(unwrap));
        });
        for (name, sessions) in [
            ("decap_session", String::new()),
            ("decap_session_20_rules", one_session()),
        ] {
            group.bench_function(name, |b| {
                let mut worker = worker(&sessions);
                b.iter(|| work(&mut worker, &mut pool.borrow_mut()));
            });
        }
        group.finish();
    }
}

/// A session for each place, with the same rules or each with rules of its own.
fn many_sessions(count: u32, alike: bool) -> String {
    let mut text = String::new();
    for number in 0..count {
        let (source, vni) = place(number);
        let port = if alike { 1 } else { 1 + number };
        let own = format!("destination_ports = {port}");
        let rules = twenty_rules().replace("destination_ports = 22", &own);
        write!(
            text,
            "[[session]]\nname = 's{number}'\nvni = {vni}\nsource = ['{source}/32']\n{rules}"
        )
        .unwrap();
    }
    text
}

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("work");
    group.sample_size(20);
    group.throughput(Throughput::Elements((SESSION_BATCHES * N) as u64));
    for count in SESSIONS {
        let pool = LazyCell::new(|| RefCell::new(pool(&IMIX, count, SESSION_BATCHES)));
        for (name, configuration) in SESSION_RULES {
            group.bench_function(BenchmarkId::new(name, count), |b| {
                let mut worker = worker(&configuration(count));
                b.iter(|| work(&mut worker, &mut pool.borrow_mut()));
            });
        }
    }
    group.finish();
}

/// `count` blocks to be left out, a quarter of them met by packets, and all else to be kept.
fn blocks(count: u32) -> String {
    let mut numbers = Numbers(13);
    let mut text = "[[session]]\nname = 'all'\neni_mac = ['02:00:00:00:00:01']\n".to_owned();
    for number in 1..=count {
        let [a, b, c, ..] = numbers.next().to_be_bytes();
        let net = numbers.one_of(&[10, 52, 54, 172]);
        let length = 20 + number % 9;
        for direction in ["ingress", "egress"] {
            write!(text, "[[session.filter.rules]]\nnumber = {number}\ndirection = '{direction}'\naction = 'reject'\nsource = '{net}.{a}.{b}.{c}/{length}'\n").unwrap();
        }
    }
    for direction in ["ingress", "egress"] {
        write!(text, "[[session.filter.rules]]\nnumber = 30000\ndirection = '{direction}'\naction = 'accept'\n").unwrap();
    }
    text
}

fn cidrs(criterion: &mut Criterion) {
    let mut pool = pool(&IMIX, 8, CIDR_BATCHES);
    let mut group = criterion.benchmark_group("work/cidrs");
    group.throughput(Throughput::Elements((pool.len() * N) as u64));
    group.sample_size(20);
    for count in CIDRS {
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            let mut worker = worker(&blocks(count));
            b.iter(|| work(&mut worker, &mut pool));
        });
    }
    group.finish();
}

/// One thing that is measured.
struct Way<'a> {
    name: String,
    packets: usize,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Way<'a> {
    fn new(name: impl Into<String>, packets: usize, run: Box<dyn FnMut() + 'a>) -> Self {
        let name = name.into();
        Self { name, packets, run }
    }
}

/// Nanoseconds a packet of each way: the best of many rounds, in which the ways take turns, so that what else the machine
/// does strikes all of them alike. The first is what the others are held against.
fn table(title: &str, mut ways: Vec<Way<'_>>) {
    let mut best = vec![f64::INFINITY; ways.len()];
    for _ in 0..ROUNDS {
        for (way, best) in ways.iter_mut().zip(&mut best) {
            let start = monotonic();
            (way.run)();
            let took = monotonic().since(start).as_nanos() as f64;
            *best = best.min(took / way.packets as f64);
        }
    }
    let first = best[0];
    for (way, ns) in ways.iter().zip(best) {
        println!("{title:14} {:24} {ns:8.1} ns {:8.2}", way.name, ns / first);
    }
}

fn ratios() {
    for (title, sizes, batches) in POOLS {
        let pool = RefCell::new(pool(sizes, 8, batches));
        let packets = batches * N;
        let (mut all, mut filtering) = (worker(""), worker(&one_session()));
        table(
            title,
            vec![
                Way::new("etherparse", packets, Box::new(|| parse(&pool.borrow()))),
                Way::new(
                    "walk",
                    packets,
                    Box::new(|| each(&pool.borrow(), headers::walk)),
                ),
                Way::new(
                    "decap",
                    packets,
                    Box::new(|| pool.borrow_mut().iter_mut().for_each(unwrap)),
                ),
                Way::new(
                    "+ walk, session",
                    packets,
                    Box::new(|| work(&mut all, &mut pool.borrow_mut())),
                ),
                Way::new(
                    "+ 20 rules",
                    packets,
                    Box::new(|| work(&mut filtering, &mut pool.borrow_mut())),
                ),
            ],
        );
    }
}

/// How the cost grows with the number of sessions, packets of which come in any order.
fn ratios_of_sessions() {
    let pools: Vec<_> = SESSIONS
        .map(|count| (count, RefCell::new(pool(&IMIX, count, SESSION_BATCHES))))
        .into();
    for (title, configuration) in SESSION_RULES {
        let ways = pools.iter().map(|(count, pool)| {
            let mut worker = worker(&configuration(*count));
            let run = move || work(&mut worker, &mut pool.borrow_mut());
            Way::new(
                format!("{count} sessions"),
                SESSION_BATCHES * N,
                Box::new(run),
            )
        });
        table(title, ways.collect());
    }
}

/// How the cost grows with the number of CIDR blocks.
fn ratios_of_cidrs() {
    let pool = RefCell::new(pool(&IMIX, 8, CIDR_BATCHES));
    let ways = CIDRS.map(|count| {
        let mut worker = worker(&blocks(count));
        let pool = &pool;
        let run = move || work(&mut worker, &mut pool.borrow_mut());
        Way::new(
            format!("{count} CIDR blocks"),
            CIDR_BATCHES * N,
            Box::new(run),
        )
    });
    table("cidrs", ways.into());
}

fn ratios_of_growth() {
    ratios_of_sessions();
    ratios_of_cidrs();
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    match filter.as_deref() {
        Some("ratios") => ratios(),
        Some("ratios-growth") => ratios_of_growth(),
        Some(_) => benches(),
        None => {
            ratios();
            ratios_of_growth();
            benches();
        }
    }
}

criterion_group!(benches, beside_etherparse, sessions, cidrs);
