//! The flow table on real captures, beside tshark, and what it does not cost: memory from the allocator.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::alloc::System;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mirrortap::capfile::Reader;
use mirrortap::filter::Direction;
use mirrortap::flow::{Closed, Limits, Seen, Table};
use mirrortap::headers::{self, Headers, Link, walk_link};
use mirrortap::time::Timestamp;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allocator counts the whole process, so the tests of this file take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const HOUR: Limits = Limits {
    flows: 100_000,
    per_eni: 100_000,
    interval: Duration::from_secs(365 * 86_400),
};

/// Source, destination, protocol, ports.
type Tuple = (IpAddr, IpAddr, u8, u16, u16);
/// Packets and bytes.
type Sums = BTreeMap<Tuple, (u64, u64)>;

fn add(sums: &mut Sums, tuple: Tuple, packets: u64, bytes: u64) {
    let sum = sums.entry(tuple).or_default();
    *sum = (sum.0 + packets, sum.1 + bytes);
}

fn walk(link: Option<Link>, data: &[u8]) -> Headers {
    link.map_or_else(Headers::default, |link| walk_link(link, data))
}

/// What the table makes of a capture, and how many packets it was given.
fn table(capture: &Path) -> (Sums, u64) {
    let mut reader = Reader::open(capture).unwrap();
    let (mut table, mut sums) = (Table::new(HOUR), Sums::new());
    let mut out = |closed: &Closed| {
        let flow = &closed.key.flow;
        let ends = (flow.source().unwrap(), flow.destination().unwrap());
        let tuple = (ends.0, ends.1, flow.proto, flow.sport, flow.dport);
        add(&mut sums, tuple, closed.packets, closed.bytes);
    };
    while let Some(record) = reader.next().unwrap() {
        let headers = walk(Link::from_number(record.link.0), record.data);
        let seen = Seen::of(0, Direction::Unknown, &headers, record.data, record.time);
        if let Some(seen) = seen {
            table.expire(record.time, &mut out);
            table.add(&seen, &mut out);
        }
    }
    table.close(&mut out);
    (sums, table.counts().packets)
}

/// The fields that are asked of tshark; the first value of each, which is of the outermost layer.
const FIELDS: [&str; 15] = [
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "ip.proto",
    "ipv6.nxt",
    "ip.len",
    "ipv6.plen",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "ip.flags.mf",
    "ip.frag_offset",
    "ip.id",
];

/// Ports of the first pieces that were seen, by source, destination, protocol and number.
type Pieces = BTreeMap<(String, String, u8, String), (u16, u16)>;

/// The same sums from the columns of tshark, of TCP, UDP and ICMP.
fn tshark(capture: &Path) -> Sums {
    let mut command = common::tool("tshark");
    command
        .arg("-r")
        .arg(capture)
        .args(["-Tfields", "-Eoccurrence=f", "-oip.defragment:FALSE"]);
    FIELDS.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut sums, mut pieces) = (Sums::new(), Pieces::new());
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        if let Some((tuple, bytes)) = row(&columns, &mut pieces) {
            add(&mut sums, tuple, 1, bytes);
        }
    }
    sums
}

fn row(columns: &[&str], pieces: &mut Pieces) -> Option<(Tuple, u64)> {
    let number = |i: usize| columns[i].parse::<u64>().ok();
    let v4 = !columns[0].is_empty();
    let (src, dst) = if v4 { (0, 1) } else { (2, 3) };
    let ends = (columns[src].parse().ok()?, columns[dst].parse().ok()?);
    let proto = number(if v4 { 4 } else { 5 })? as u8;
    let bytes = if v4 { number(6)? } else { number(7)? + 40 };
    let port = |i: usize| number(i).map(|n| n as u16);
    let ports = match proto {
        6 => port(8).zip(port(9)),
        17 => port(10).zip(port(11)),
        1 => Some((0, 0)),
        _ => return None,
    };
    let id = columns[14].to_owned();
    let key = (columns[0].to_owned(), columns[1].to_owned(), proto, id);
    let (more, offset) = (matches!(columns[12], "1" | "True"), number(13));
    let ports = match offset {
        Some(0) if more => *pieces.entry(key).or_insert(ports?),
        Some(0) | None => ports?,
        _ => pieces.get(&key).copied().unwrap_or_default(),
    };
    Some(((ends.0, ends.1, proto, ports.0, ports.1), bytes))
}

/// Captures in which the first IP header that tshark shows is not the one that the walk ends at, or is another: tunnels
/// and links that the walk does not open, and a route in the options.
const OTHERWISE: [&str; 10] = [
    "wireshark-nfs",
    "ndpi-4in6tunnel",
    "pcapplusplus-ipv4-options",
    "snabb-lwaftr-tcp-afteraftr-ipv6-3frags",
    "suricata-decode-nsh-type1",
    "tcpdump-macsec-integonly",
    "zeek-radiotap",
    // tshark's next header is the fragment header; see the next test
    "pcapplusplus-ip6_fragments",
    // of a version of pcapng that mergecap refuses
    "gopacket-be-test901",
    "gopacket-le-test901",
];

/// Captures of this size are left out.
const LARGE: u64 = 1 << 20;

#[test]
fn packets_and_bytes_of_every_flow_are_those_that_tshark_sums() {
    let _alone = alone();
    let folders = ["protocols", "l2l4"].into_iter();
    let captures: Vec<_> = folders
        .flat_map(common::captures)
        .filter(|capture| !OTHERWISE.contains(&common::stem(capture).as_str()))
        // four large ones would take longer than the three hundred others together
        .filter(|capture| fs::metadata(capture).unwrap().len() < LARGE)
        .collect();
    if captures.is_empty() {
        return;
    }
    // tshark takes a third of a second to begin, so it is asked once
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all.pcapng");
    let mut merge = common::tool("mergecap");
    merge.args(["-a", "-w"]).arg(&all).args(&captures);
    let merged = merge.output().unwrap();
    assert!(merged.status.success(), "{merged:?}");
    let theirs = tshark(&all);
    let mut ours = Sums::new();
    for (tuple, (packets, bytes)) in captures.iter().flat_map(|c| table(c).0) {
        add(&mut ours, tuple, packets, bytes);
    }
    let differing: Vec<_> = theirs
        .iter()
        .filter(|(tuple, sum)| ours.get(tuple) != Some(sum))
        .map(|(tuple, sum)| format!("{tuple:?}: {sum:?}, ours {:?}", ours.get(tuple)))
        .collect();
    assert!(differing.is_empty(), "\n{}\n", differing.join("\n"));
    assert!(theirs.len() > 1000, "{} flows", theirs.len());
}

#[test]
fn all_pieces_of_ipv6_packets_count_for_the_flow_of_the_first() {
    let _alone = alone();
    let Some(corpus) = common::corpus() else {
        return;
    };
    let sums = table(&corpus.join("l2l4/pcapplusplus-ip6_fragments.pcap")).0;
    let flow = |(tuple, _): &(&Tuple, &(u64, u64))| tuple.3 == 5353;
    let of_mdns: Vec<_> = sums.iter().filter(flow).map(|(_, sum)| sum.0).collect();
    assert_eq!(of_mdns, [20], "2 first and 18 later pieces");
}

fn packet(number: u32, time: Timestamp) -> Seen {
    let [_, a, b, c] = number.to_be_bytes();
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, a, b, c], [10, 0, 0, 2], 64)
        .udp(1, 2)
        .write(&mut frame, b"x")
        .unwrap();
    let headers = headers::walk(&frame);
    Seen::of(number % 3, Direction::Egress, &headers, &frame, time).unwrap()
}

#[test]
fn a_packet_takes_no_memory_from_the_allocator_once_the_interfaces_are_known() {
    let _alone = alone();
    let limits = Limits {
        flows: 1000,
        per_eni: 500,
        interval: Duration::from_secs(60),
    };
    let mut table = Table::new(limits);
    let at = |n: u32| Timestamp::from_nanos(u64::from(n) * 20_000_000);
    let packets: Vec<Seen> = (0..20_000).map(|n| packet(n % 3000, at(n))).collect();
    let mut closed = 0;
    let mut out = |c: &Closed| closed += c.packets;
    packets.iter().take(3).for_each(|p| table.add(p, &mut out));
    // other threads of the process may take memory meanwhile, but not in every round
    let rounds = 5;
    let taken = (0..rounds).map(|_| {
        let region = Region::new(ALLOCATOR);
        for seen in &packets {
            table.expire(seen.time, &mut out);
            table.add(seen, &mut out);
        }
        table.close(&mut out);
        let change = region.change();
        change.allocations + change.reallocations
    });
    assert_eq!(taken.min(), Some(0));
    assert_eq!(
        closed,
        3 + rounds * 20_000,
        "and every packet is in one record"
    );
}
