//! What a packet does not cost: memory from the allocator, and calls to the kernel.
//!
//! The parts are the real ones. An allocator that counts stands under the whole process, so the tests take turns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::alloc::System;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{PROGRAM, tool};
use mirrortap::config::Config;
use mirrortap::decap;
use mirrortap::flowlog;
use mirrortap::packet::{Batch, Ports, Tally};
use mirrortap::pipeline;
use mirrortap::session::{Keep, Seats, Table};
use mirrortap::sink::null::Null;
use mirrortap::source::replay::Replay;
use mirrortap::source::{self, Received, Source, udp};
use mirrortap::time;
use mirrortap::worker::Work;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Sessions with everything that is asked of a packet: rules of both directions, an expression, a length.
const SESSIONS: &str = "
    [[session]]
    name = 'rules'
    vni = '1-4'
    packet_length = 100
    [[session.filter.rules]]
    number = 1
    direction = 'ingress'
    action = 'reject'
    source = '10.0.0.0/12'
    [[session.filter.rules]]
    number = 2
    direction = 'ingress'
    action = 'accept'
    [[session.filter.rules]]
    number = 1
    direction = 'egress'
    action = 'accept'
    destination_ports = '1-60000'
    [[session]]
    name = 'expression'
    vni = 5
    filter.bpf = [1, 6, 0, 0, 262144]
";

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocations of the whole process meanwhile, growing ones included.
fn allocations(run: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    run();
    let change = region.change();
    change.allocations + change.reallocations
}

/// A capture of outer packets: flows of eight VNIs.
fn outer(folder: &Path, packets: u32) -> PathBuf {
    let file = folder.join(format!("{packets}.pcap"));
    let count = packets.to_string();
    let run = Command::new(PROGRAM)
        .args([
            "send",
            "--to",
            "127.0.0.1:4789",
            "--vni",
            "1-8",
            "--count",
            &count,
            "--write",
        ])
        .arg(&file)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    file
}

fn worker(configuration: &str) -> Work {
    let config = Config::parse(Path::new("m.toml"), configuration).unwrap();
    let mut keep = Keep::default();
    let snapshot = config.snapshot(Path::new("."), &mut keep).unwrap();
    let seats = Seats::new(Arc::new(Table::new(snapshot, keep)));
    Work::new(0, 1, seats, Box::<Null>::default(), true)
}

/// The same with two flow logs, one of which has a filter.
fn metered(folder: &Path) -> (Work, flowlog::Running) {
    let logs = format!(
        "[[flow_log]]\nname = 'a'\ndirectory = '{0}/a'\n\
         [[flow_log]]\nname = 'b'\ndirectory = '{0}/b'\npackets = 'kept'\n\
         filter = {{ rules = [ {{ number = 1, direction = 'egress', action = 'accept' }} ] }}\n",
        folder.display()
    );
    let config = Config::parse(Path::new("m.toml"), &logs).unwrap();
    let setup = config.flow_logs(Path::new(".")).unwrap();
    let ask = Box::new(flowlog::Losses::default);
    let (running, mut meters) = flowlog::start(setup, 1, false, ask).unwrap();
    (worker(SESSIONS).with_meter(meters.pop()), running)
}

/// What a receiver and a worker do with a batch.
fn pass(batch: &mut Batch, worker: &mut Work) {
    let mut refused = Tally::default();
    let counters = decap::Counters::default();
    decap::unwrap_batch(batch, Ports::default(), &mut refused, &counters);
    assert_eq!(refused.received, 0);
    worker.take(batch);
    worker.progress(false);
}

#[test]
fn a_packet_allocates_nothing_between_its_capture_and_the_sink() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    allocates_nothing(folder.path(), worker(SESSIONS));
}

#[test]
fn a_packet_that_counts_in_flow_logs_allocates_nothing_either() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let (worker, running) = metered(folder.path());
    allocates_nothing(folder.path(), worker);
    let end = time::monotonic().plus(Duration::from_secs(60));
    running.finish(end);
    let counted = running.read();
    assert!(
        counted["a"].packets >= 50_000 && counted["b"].packets > 0,
        "{counted:?}"
    );
}

/// Of packets from a file, for a worker that has met every flow.
fn allocates_nothing(folder: &Path, mut worker: Work) {
    let file = outer(folder, 50_000);
    let mut source = Replay::open(vec![file], Ports::default()).unwrap();
    let mut batch = source.new_batch(0);
    let mut turn = || {
        batch.clear();
        let received = source.receive(&mut batch).unwrap();
        pass(&mut batch, &mut worker);
        (received == Received::Some, batch.packets.len())
    };
    // every flow, session and rule is met once, and buffers grow to their size
    let met: usize = (0..20).map(|_| turn().1).sum();
    let mut passed = 0;
    let allocated = allocations(|| {
        while let (true, packets) = turn() {
            passed += packets;
        }
    });
    assert!(met > 5_000 && passed > 20_000, "{met}, {passed}");
    // the end of the file closes it, which may allocate; a packet may not
    assert!(
        allocated < 10,
        "{allocated} allocations for {passed} packets"
    );
}

#[test]
fn a_datagram_allocates_nothing_between_its_socket_and_the_sink() {
    const TURNS: usize = 64;
    let _turn = alone();
    let address = "127.0.0.1:0".parse().unwrap();
    let mut source = udp::bind(address, 1, &source::Config::default())
        .unwrap()
        .remove(0);
    let to = source.facts().listen[0];
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &[0x55; 92]].concat();
    let ports = Ports {
        vxlan: to.port(),
        ..Ports::default()
    };
    let (mut batch, mut worker) = (source.new_batch(0), worker(SESSIONS));
    let counters = decap::Counters::default();
    let mut turn = || {
        for _ in 0..TURNS {
            sender.send_to(&datagram, to).unwrap();
        }
        let mut got = 0;
        while got < TURNS {
            batch.clear();
            let received = source.receive(&mut batch).unwrap();
            assert_ne!(received, Received::End);
            decap::unwrap_batch(&mut batch, ports, &mut Tally::default(), &counters);
            worker.take(&batch);
            worker.progress(false);
            got += batch.packets.len();
        }
    };
    turn();
    let allocated = allocations(|| (0..50).for_each(|_| turn()));
    // the harness itself may have something to print meanwhile
    let passed = 50 * TURNS;
    assert!(
        allocated < 10,
        "{allocated} allocations for {passed} datagrams"
    );
}

/// Allocations of a whole pipeline with its threads, from the first packet to the closed file.
fn of_a_replay(folder: &Path, packets: u32) -> usize {
    let file = outer(folder, packets);
    let output = folder.join(format!("out-{packets}"));
    let config = format!("output = '{}'\n{SESSIONS}", output.display());
    let config = Config::parse(Path::new("m.toml"), &config).unwrap();
    allocations(|| {
        let pipeline = pipeline::replay(&config, Path::new("."), vec![file]).unwrap();
        while !pipeline.is_through() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let report = pipeline.finish(Duration::from_secs(60));
        assert_eq!(report.total.received, u64::from(packets));
    })
}

#[test]
fn the_whole_pipeline_allocates_by_the_bundle_and_not_by_the_packet() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    // what start and end take is the same for both
    let (few, many) = (
        of_a_replay(folder.path(), 20_000),
        of_a_replay(folder.path(), 220_000),
    );
    let more = many.saturating_sub(few);
    assert!(
        more < 200_000 / 50,
        "{more} allocations for 200000 packets more"
    );
}

/// Calls to the kernel of a whole replay, but for those that wait, which are as many as the disk is slow.
fn calls_of_a_replay(folder: &Path, packets: u32) -> u64 {
    let file = outer(folder, packets);
    let counts = folder.join("counts");
    let run = tool("strace")
        .args(["-f", "-c", "-U", "calls,name", "-o"])
        .arg(&counts)
        .args([PROGRAM, "replay", "--json", "--output"])
        .args([&folder.join(format!("traced-{packets}")), &file])
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    let text = std::fs::read_to_string(counts).unwrap();
    let calls = text.lines().filter_map(|line| {
        let (calls, name) = line.trim().split_once(' ')?;
        let waits = name.contains("sleep") || name.contains("futex") || name.contains("total");
        calls.parse::<u64>().ok().filter(|_| !waits)
    });
    calls.sum()
}

#[test]
fn the_whole_pipeline_calls_the_kernel_by_the_block_and_not_by_the_packet() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let few = calls_of_a_replay(folder.path(), 20_000);
    let many = calls_of_a_replay(folder.path(), 220_000);
    assert!(few > 50, "strace counted {few} calls only");
    let more = many.saturating_sub(few);
    println!("{few} for 20000 packets, {many} for 220000");
    assert!(more < 200_000 / 50, "{more} calls for 200000 packets more");
}
