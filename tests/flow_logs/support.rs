//! Outer captures of chosen packets, and the records that come of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Ledger, replay};

/// A time, in seconds, at which captures begin.
pub(crate) const START: u64 = 1_700_000_100;

/// A mirrored packet.
#[derive(Clone)]
pub(crate) struct Mirrored {
    pub(crate) source: Ipv4Addr,
    pub(crate) vni: u32,
    pub(crate) nanos: u64,
    pub(crate) frame: Vec<u8>,
}

/// The ENI that most of these tests mirror.
pub(crate) const ENI: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// Somebody else.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// Of an ENI its own, of all others the router's.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    match address.octets() {
        [10, b, c, d] => [2, 0, 10, b, c, d],
        _ => [2, 0xff, 0, 0, 0, 1],
    }
}

/// A UDP packet with so many bytes of payload.
pub(crate) fn udp(src: Ipv4Addr, dst: Ipv4Addr, ports: (u16, u16), payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(mac(src), mac(dst))
        .ipv4(src.octets(), dst.octets(), 64)
        .udp(ports.0, ports.1)
        .write(&mut frame, &vec![0; payload])
        .unwrap();
    frame
}

/// A frame that is no IP.
pub(crate) fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.resize(60, 0);
    frame
}

/// `count` packets of `flows` flows of an ENI, both directions in turn, spread over `seconds`.
pub(crate) fn traffic(
    source: Ipv4Addr,
    vni: u32,
    flows: u16,
    count: u64,
    seconds: u64,
) -> Vec<Mirrored> {
    let one = |n: u64| {
        let port = 20_000 + (n / 2 % u64::from(flows)) as u16;
        let frame = match n % 2 {
            0 => udp(source, PEER, (port, 443), 100),
            _ => udp(PEER, source, (443, port), 200),
        };
        let nanos = START * 1_000_000_000 + n * seconds * 1_000_000_000 / count;
        Mirrored {
            source,
            vni,
            nanos,
            frame,
        }
    };
    (0..count).map(one).collect()
}

/// The datagram's payload.
pub(crate) fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[8, 0, 0, 0, a, b, c, 0][..], frame].concat()
}

/// A nanosecond pcap of outer packets, in order of time.
pub(crate) fn capture(folder: &Path, mut packets: Vec<Mirrored>) -> PathBuf {
    packets.sort_by_key(|packet| packet.nanos);
    let mut bytes = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for packet in &packets {
        let mut outer = Vec::new();
        etherparse::PacketBuilder::ethernet2([4; 6], [6; 6])
            .ipv4(packet.source.octets(), [10, 9, 9, 9], 64)
            .udp(50_000, 4789)
            .write(&mut outer, &vxlan(packet.vni, &packet.frame))
            .unwrap();
        let (secs, nanos) = (packet.nanos / 1_000_000_000, packet.nanos % 1_000_000_000);
        for word in [secs, nanos, outer.len() as u64, outer.len() as u64] {
            bytes.extend((word as u32).to_le_bytes());
        }
        bytes.extend(outer);
    }
    let file = folder.join("outer.pcap");
    fs::write(&file, bytes).unwrap();
    file
}

/// A line of a flow log, by field.
pub(crate) type Record = BTreeMap<String, String>;

/// All lines of all files below a folder; nothing but published files may be there.
pub(crate) fn lines(folder: &Path) -> Vec<Record> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "gz") {
                all.extend(read(&path));
            }
        }
    }
    all
}

fn read(file: &Path) -> Vec<Record> {
    let mut text = String::new();
    let packed = fs::File::open(file).unwrap();
    let mut unpacked = flate2::read::MultiGzDecoder::new(packed);
    unpacked
        .read_to_string(&mut text)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let record = |line: &str| {
        let values: Vec<&str> = line.split(' ').collect();
        assert_eq!(values.len(), header.len(), "{line}");
        let pairs = header.iter().zip(values);
        pairs
            .map(|(k, v)| ((*k).to_owned(), v.to_owned()))
            .collect()
    };
    lines.map(record).collect()
}

/// Those that stand for flows.
pub(crate) fn records(folder: &Path) -> Vec<Record> {
    let mut all = lines(folder);
    all.retain(|record| record["log-status"] == "OK");
    all
}

pub(crate) fn number(record: &Record, field: &str) -> u64 {
    record[field]
        .parse()
        .unwrap_or_else(|_| panic!("{field} of {record:?}"))
}

pub(crate) fn sum(records: &[Record], field: &str) -> u64 {
    records.iter().map(|record| number(record, field)).sum()
}

/// Packets and bytes by direction-bound 5-tuple.
pub(crate) fn by_flow(records: &[Record]) -> BTreeMap<String, (u64, u64)> {
    let mut sums = BTreeMap::<_, (u64, u64)>::new();
    for record in records {
        let key = ["srcaddr", "srcport", "dstaddr", "dstport", "protocol"].map(|f| &*record[f]);
        let sum = sums.entry(key.join(" ")).or_default();
        *sum = (
            sum.0 + number(record, "packets"),
            sum.1 + number(record, "bytes"),
        );
    }
    sums
}

/// What a ledger says of a flow log.
pub(crate) fn log_of(ledger: &Ledger, name: &str) -> Value {
    let log = ledger.0["flow_logs"][name].clone();
    assert!(log.is_object(), "no flow log {name} in {}", ledger.0);
    log
}

pub(crate) fn of(log: &Value, key: &str) -> u64 {
    log[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} of {log}"))
}

/// Every packet that a flow log was shown is left out, without IP, in a record or lost; and what is not lost is in the files.
pub(crate) fn assert_conserved(ledger: &Ledger, name: &str, folder: &Path) -> Vec<Record> {
    let log = log_of(ledger, name);
    let ended = ["left_out", "not_ip", "recorded", "packets_lost"].map(|key| of(&log, key));
    assert_eq!(of(&log, "packets"), ended.iter().sum::<u64>(), "{log}");
    assert_eq!(of(&log, "open"), 0, "{log}");
    let records = records(folder);
    assert_eq!(records.len() as u64, of(&log, "records"), "{log}");
    assert_eq!(sum(&records, "packets"), of(&log, "recorded"), "{log}");
    records
}

/// Replays packets with a configuration whose folders are below `folder`; `{}` in it is that folder.
pub(crate) fn replayed(folder: &Path, config: &str, packets: Vec<Mirrored>) -> Ledger {
    let file = folder.join("mirrortap.toml");
    let text = config.replace("{}", folder.to_str().unwrap());
    fs::write(&file, text).unwrap();
    let outer = capture(folder, packets);
    let config = file.to_str().unwrap();
    replay(&[&outer], &folder.join("out"), &["--config", config])
}
