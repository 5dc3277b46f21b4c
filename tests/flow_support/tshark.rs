//! What the flows of an outer capture are by tshark's columns, one row a packet, and by rules that are written down here
//! once more: nothing of the program is used.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Mirror source, packet source and destination, protocol, ports.
pub type Key = (String, IpAddr, IpAddr, u8, u16, u16);

/// What is known of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    pub packets: u64,
    pub bytes: u64,
    /// As `tcp-flags` counts them.
    pub flags: u8,
    /// Whole seconds of the first and the last packet.
    pub start: u64,
    pub end: u64,
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            packets,
            bytes,
            flags,
            start,
            end,
        } = self;
        write!(
            f,
            "{packets} packets, {bytes} bytes, flags {flags}, {start}-{end}"
        )
    }
}

impl Sum {
    pub fn add(&mut self, other: Self) {
        self.start = match self.packets {
            0 => other.start,
            _ => self.start.min(other.start),
        };
        self.end = self.end.max(other.end);
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.flags |= other.flags;
    }
}

pub type Sums = BTreeMap<Key, Sum>;

const FIELDS: [&str; 30] = [
    "frame.time_epoch",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.len",
    "ip.id",
    "ip.flags.mf",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
    "ipv6.plen",
    "ipv6.hopopts.nxt",
    "ipv6.routing.nxt",
    "ipv6.fraghdr.nxt",
    "ipv6.dstopts.nxt",
    "ah.next_header",
    "ipv6.fraghdr.ident",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "tcp.flags",
];

/// The sums of an outer capture, and the rows that no flow could be made of though tshark shows an inner IP header.
pub fn sums(outer: &Path) -> (Sums, Vec<String>) {
    let mut command: Command = crate::common::tool("tshark");
    command
        .arg("-nr")
        .arg(outer)
        .args(["-Tfields", "-Eoccurrence=a"])
        .args(["-oip.defragment:FALSE", "-oipv6.defragment:FALSE"])
        .args([
            "-otcp.desegment_tcp_streams:FALSE",
            "-otcp.analyze_sequence_numbers:FALSE",
        ]);
    FIELDS.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut sums, mut pieces, mut odd) = (Sums::new(), Pieces::new(), Vec::new());
    for line in lines.map(Result::unwrap) {
        let row = Row::of(&line);
        let Some(v4) = row.inner_version() else {
            continue;
        };
        match row.flow(v4, &mut pieces) {
            Some((key, sum)) => sums.entry(key).or_default().add(sum),
            None => odd.push(line),
        }
    }
    assert!(child.wait().unwrap().success());
    (sums, odd)
}

/// Ports of first pieces, by mirror source, ends, protocol and number.
type Pieces = BTreeMap<(String, String, String, u8, String), (u16, u16)>;

struct Row<'a>(BTreeMap<&'static str, Vec<&'a str>>);

impl<'a> Row<'a> {
    fn of(line: &'a str) -> Self {
        let values = line.split('\t').map(|column| column.split(',').collect());
        Self(FIELDS.into_iter().zip(values).collect())
    }

    /// The occurrence of a field, where there is one. The outer headers have IPv4 and UDP, so those inside come second.
    fn at(&self, field: &str, n: usize) -> Option<&'a str> {
        let value = self.0.get(field)?.get(n)?;
        Some(*value).filter(|v| !v.is_empty())
    }

    fn number(&self, field: &str, n: usize) -> Option<u64> {
        let text = self.at(field, n)?;
        match (text, text.strip_prefix("0x")) {
            ("True", _) => Some(1),
            ("False", _) => Some(0),
            (_, Some(hex)) => u64::from_str_radix(hex, 16).ok(),
            _ => text.parse().ok(),
        }
    }

    /// Whether the first IP header inside is IPv4. One that was cut before its addresses is none.
    fn inner_version(&self) -> Option<bool> {
        let layers = self.at("frame.protocols", 0)?;
        let (_, inner) = layers.split_once(":vxlan:")?;
        let first = inner.split(':').find(|l| matches!(*l, "ip" | "ipv6"))?;
        let source = if first == "ip" {
            self.at("ip.src", 1)
        } else {
            self.at("ipv6.src", 0)
        };
        source.map(|_| first == "ip")
    }

    fn flow(&self, v4: bool, pieces: &mut Pieces) -> Option<(Key, Sum)> {
        let source = self.at("ip.src", 0)?.to_owned();
        let (src, dst) = match v4 {
            true => (self.at("ip.src", 1)?, self.at("ip.dst", 1)?),
            false => (self.at("ipv6.src", 0)?, self.at("ipv6.dst", 0)?),
        };
        let proto = self.protocol(v4)?;
        let bytes = match v4 {
            true => self.number("ip.len", 1)?,
            false => self.number("ipv6.plen", 0)? + 40,
        };
        let ports = self.ports(proto);
        let (offset, more, id) = self.piece(v4);
        let key = (
            source.clone(),
            src.to_owned(),
            dst.to_owned(),
            proto,
            id.to_owned(),
        );
        let ports = match (offset, more) {
            (0, false) => ports?,
            (0, true) => {
                let ports = ports.unwrap_or_default();
                *pieces.entry(key).or_insert(ports)
            }
            _ => pieces.get(&key).copied().unwrap_or_default(),
        };
        let seconds = self.at("frame.time_epoch", 0)?.split('.').next()?;
        let start = seconds.parse().ok()?;
        let sum = Sum {
            packets: 1,
            bytes,
            flags: if proto == 6 && offset == 0 {
                self.flags()
            } else {
                0
            },
            start,
            end: start,
        };
        let key = (
            source,
            src.parse().ok()?,
            dst.parse().ok()?,
            proto,
            ports.0,
            ports.1,
        );
        Some((key, sum))
    }

    /// The protocol behind the extension headers.
    fn protocol(&self, v4: bool) -> Option<u8> {
        if v4 {
            return self.number("ip.proto", 1).map(|n| n as u8);
        }
        let mut next = self.number("ipv6.nxt", 0)?;
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        loop {
            let field = match next {
                0 => "ipv6.hopopts.nxt",
                43 => "ipv6.routing.nxt",
                44 => "ipv6.fraghdr.nxt",
                60 => "ipv6.dstopts.nxt",
                51 => "ah.next_header",
                other => return Some(other as u8),
            };
            let n = taken.entry(field).or_default();
            let Some(value) = self.number(field, *n) else {
                return Some(next as u8);
            };
            *n += 1;
            next = value;
        }
    }

    fn ports(&self, proto: u8) -> Option<(u16, u16)> {
        let (fields, n) = match proto {
            6 => (["tcp.srcport", "tcp.dstport"], 0),
            17 | 136 => (["udp.srcport", "udp.dstport"], 1),
            132 => (["sctp.srcport", "sctp.dstport"], 0),
            33 => (["dccp.srcport", "dccp.dstport"], 0),
            _ => return Some((0, 0)),
        };
        let [source, destination] = fields.map(|f| self.number(f, n).map(|n| n as u16));
        source.zip(destination)
    }

    /// Offset, whether more follow, and the number of the packet that this is a piece of.
    fn piece(&self, v4: bool) -> (u64, bool, &'a str) {
        let (offset, more, id, n) = match v4 {
            true => ("ip.frag_offset", "ip.flags.mf", "ip.id", 1),
            false => (
                "ipv6.fraghdr.offset",
                "ipv6.fraghdr.more",
                "ipv6.fraghdr.ident",
                0,
            ),
        };
        let number = |field| self.number(field, n).unwrap_or_default();
        (
            number(offset),
            number(more) == 1,
            self.at(id, n).unwrap_or_default(),
        )
    }

    /// FIN 1, SYN 2, RST 4, and ACK 16 in one packet with SYN.
    fn flags(&self) -> u8 {
        let bits = self.number("tcp.flags", 0).unwrap_or_default();
        let ack = u8::from(bits & 2 != 0 && bits & 16 != 0) * 16;
        (bits & 7) as u8 | ack
    }
}
