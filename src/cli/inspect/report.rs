//! The summary, as text and as JSON.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use crate::capfile::{Format, Reader};
use crate::cli::inspect::summary::{End, Flow, Gap, Kind, Summary};
use crate::cli::inspect::tally::{Count, Tally};
use crate::cli::inspect::tunnel::Tunnel;
use crate::time::Timestamp;

/// What is printed; the order of the fields is that of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    file: String,
    format: Format,
    link_types: Vec<Named>,
    packets: u64,
    bytes: u64,
    wire_bytes: u64,
    smallest: Option<u32>,
    largest: Option<u32>,
    first: Option<String>,
    last: Option<String>,
    duration_seconds: Option<f64>,
    without_time: u64,
    cut_by_snaplen: u64,
    cut_before_capture: u64,
    fragments: u64,
    longest_gap: Option<Silence>,
    time_backwards: u64,
    furthest_back: Option<Silence>,
    protocols: Vec<Share>,
    flows: usize,
    packets_of_uncounted_flows: u64,
    top_flows: Vec<FlowLine>,
    tunnelled_packets: u64,
    vnis: usize,
    tunnels: usize,
    top_tunnels: Vec<TunnelLine>,
    damage: Option<String>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    packets: u64,
}

#[derive(Debug, Serialize)]
struct Share {
    name: String,
    #[serde(flatten)]
    count: Count,
}

#[derive(Debug, Serialize)]
struct Silence {
    seconds: f64,
    before_packet: u64,
}

#[derive(Debug, Serialize)]
struct FlowLine {
    proto: u8,
    name: String,
    a: IpAddr,
    a_port: u16,
    b: IpAddr,
    b_port: u16,
    #[serde(flatten)]
    count: Count,
}

#[derive(Debug, Serialize)]
struct TunnelLine {
    encap: &'static str,
    vni: u32,
    source: IpAddr,
    #[serde(flatten)]
    count: Count,
}

impl Report {
    /// Of what was gathered from `reader`, with the `most` largest flows and tunnels.
    pub(super) fn of(summary: Summary, reader: &Reader, most: usize) -> Self {
        let times = &summary.times;
        let duration = |(first, last): (Timestamp, Timestamp)| last.since(first).as_secs_f64();
        let links = summary.links.iter();
        let links = links.map(|(link, packets)| Named {
            name: link.to_string(),
            packets: *packets,
        });
        Self {
            file: reader.name().to_owned(),
            format: reader.format(),
            link_types: links.collect(),
            packets: summary.packets,
            bytes: summary.bytes,
            wire_bytes: summary.wire_bytes,
            smallest: summary.smallest,
            largest: summary.smallest.map(|_| summary.largest),
            first: times.span.map(|(first, _)| first.to_string()),
            last: times.span.map(|(_, last)| last.to_string()),
            duration_seconds: times.span.map(duration),
            without_time: times.unknown,
            cut_by_snaplen: summary.cut_by_snaplen,
            cut_before_capture: summary.cut_before,
            fragments: summary.fragments,
            longest_gap: times.longest.map(Silence::of),
            time_backwards: times.backwards,
            furthest_back: times.furthest_back.map(Silence::of),
            protocols: summary.kinds().into_iter().map(Share::of).collect(),
            flows: summary.flows.len(),
            packets_of_uncounted_flows: summary.flows.beyond.packets,
            top_flows: summary
                .flows
                .top(most)
                .into_iter()
                .map(FlowLine::of)
                .collect(),
            tunnelled_packets: summary.tunnelled(),
            vnis: summary.vnis(),
            tunnels: summary.tunnels.len(),
            top_tunnels: tunnels(&summary.tunnels, most),
            damage: reader.damage().map(ToString::to_string),
        }
    }

    /// As one JSON object.
    pub(super) fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// For a person.
    pub(super) fn text(&self, out: &mut impl Write) -> io::Result<()> {
        self.head(out)?;
        self.oddities(out)?;
        writeln!(out, "\nprotocols")?;
        for share in &self.protocols {
            writeln!(out, "  {:<28} {}", share.name, share.count)?;
        }
        if self.flows > 0 {
            writeln!(out, "\nflows       {} (largest first)", self.flows)?;
        }
        for flow in &self.top_flows {
            writeln!(out, "  {flow:<62} {}", flow.count)?;
        }
        if self.tunnels > 0 {
            self.mirror(out)?;
        }
        Ok(())
    }

    fn head(&self, out: &mut impl Write) -> io::Result<()> {
        let links: Vec<_> = self.link_types.iter().map(|l| l.name.as_str()).collect();
        let format = match self.format {
            Format::Pcap => "pcap",
            Format::Pcapng => "pcapng",
        };
        writeln!(
            out,
            "file        {} ({format}) {}",
            self.file,
            links.join(", ")
        )?;
        writeln!(out, "packets     {}", self.packets)?;
        writeln!(
            out,
            "bytes       {} in the file, {} on the wire",
            self.bytes, self.wire_bytes
        )?;
        if let (Some(smallest), Some(largest)) = (self.smallest, self.largest) {
            writeln!(out, "sizes       {smallest} to {largest} bytes on the wire")?;
        }
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            writeln!(out, "time        {first} to {last}")?;
        }
        match self.duration_seconds {
            Some(seconds) => writeln!(out, "duration    {seconds:.6} s"),
            None => Ok(()),
        }
    }

    fn oddities(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(gap) = &self.longest_gap {
            writeln!(out, "silence     longest {gap}")?;
        }
        if let Some(step) = &self.furthest_back {
            writeln!(
                out,
                "backwards   {} times, furthest {step}",
                self.time_backwards
            )?;
        }
        let lines = [
            (
                self.cut_by_snaplen,
                "cut         ",
                "packets by the capture's snaplen",
            ),
            (
                self.cut_before_capture,
                "cut         ",
                "packets before they were captured",
            ),
            (self.fragments, "fragments   ", "packets"),
            (self.without_time, "no time     ", "packets"),
        ];
        for (count, word, what) in lines.iter().filter(|(count, ..)| *count > 0) {
            writeln!(out, "{word}{count} {what}")?;
        }
        Ok(())
    }

    fn mirror(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\nmirrored    {} packets of {} VNIs (unwrap them: mirrortap replay)",
            self.tunnelled_packets, self.vnis
        )?;
        for tunnel in &self.top_tunnels {
            let (vni, source) = (tunnel.vni, tunnel.source);
            let name = format!("{} VNI {vni} from {source}", tunnel.encap);
            writeln!(out, "  {name:<62} {}", tunnel.count)?;
        }
        Ok(())
    }
}

fn tunnels(tally: &Tally<Tunnel>, most: usize) -> Vec<TunnelLine> {
    let line = |(tunnel, count): (Tunnel, Count)| TunnelLine {
        encap: tunnel.wrapping.name(),
        vni: tunnel.vni,
        source: tunnel.source,
        count,
    };
    tally.top(most).into_iter().map(line).collect()
}

impl Share {
    fn of((kind, count): (Kind, Count)) -> Self {
        Self {
            name: kind.to_string(),
            count,
        }
    }
}

impl Silence {
    fn of(gap: Gap) -> Self {
        Self {
            seconds: gap.length.as_secs_f64(),
            before_packet: gap.before,
        }
    }
}

impl FlowLine {
    fn of((flow, count): (Flow, Count)) -> Self {
        let [(a, a_port), (b, b_port)] = flow.ends;
        Self {
            proto: flow.proto,
            name: Kind::Ip(flow.proto).to_string(),
            a,
            a_port,
            b,
            b_port,
            count,
        }
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>10} packets {:>14} bytes", self.packets, self.bytes)
    }
}

impl Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.6} s, before packet {}",
            self.seconds, self.before_packet
        )
    }
}

impl Display for FlowLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (a, b) = (end((self.a, self.a_port)), end((self.b, self.b_port)));
        f.pad(&format!("{a} <-> {b} {}", self.name))
    }
}

/// An address, with its port where it has one.
fn end((address, port): End) -> String {
    match (address, port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(v4), port) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), port) => format!("[{v6}]:{port}"),
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Ip(number) => protocol(*number),
            Self::Ether(number) => ether_type(*number),
            Self::Other => Some("neither IP nor EtherType"),
        };
        match (name, self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::Ip(number)) => write!(f, "IP protocol {number}"),
            (None, Self::Ether(number)) => write!(f, "EtherType {number:#06x}"),
            (None, Self::Other) => Ok(()),
        }
    }
}

const fn protocol(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "ICMP",
        2 => "IGMP",
        4 => "IPv4 in IP",
        6 => "TCP",
        17 => "UDP",
        33 => "DCCP",
        41 => "IPv6 in IP",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "ICMPv6",
        89 => "OSPF",
        103 => "PIM",
        112 => "VRRP",
        132 => "SCTP",
        136 => "UDP-Lite",
        _ => return None,
    })
}

const fn ether_type(number: u16) -> Option<&'static str> {
    Some(match number {
        0x0800 => "broken IPv4",
        0x0806 => "ARP",
        0x8035 => "RARP",
        0x8100 | 0x88a8 | 0x9100 => "VLAN tags, too many or cut",
        0x86dd => "broken IPv6",
        0x8847 | 0x8848 => "MPLS around no IP",
        0x8863 => "PPPoE discovery",
        0x8864 => "PPPoE around no IP",
        0x88cc => "LLDP",
        0x88e5 => "MACsec",
        _ => return None,
    })
}
