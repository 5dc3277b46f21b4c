//! One JSON object per packet.

use std::io::Write;
use std::net::IpAddr;

use serde::Serialize;

use crate::capfile::{Reader, Record};
use crate::cli::inspect::Stop;
use crate::headers::{Headers, Link, walk_link};

/// What is printed of a packet; the order of the fields is that of the output.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    n: u64,
    time: String,
    link: String,
    caplen: usize,
    origlen: u32,
    wire_len: u32,
    truncated: bool,
    eth_type: Option<String>,
    vlans: Vec<u16>,
    mpls: Vec<u32>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    proto: Option<u8>,
    frag_offset: Option<u16>,
    more_fragments: Option<bool>,
    sport: Option<u16>,
    dport: Option<u16>,
    tcp_flags: Option<String>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
}

impl Line {
    pub(super) fn of(n: u64, record: &Record<'_>) -> Self {
        let headers = walk(record);
        let ports = headers.ports();
        let fragment = (headers.key.version == 4)
            .then(|| headers.fragment.unwrap_or_default())
            .or(headers.fragment);
        Self {
            n,
            time: record.time.to_string(),
            link: record.link.to_string(),
            caplen: record.data.len(),
            origlen: record.origlen,
            wire_len: headers.wire_len.max(record.origlen),
            truncated: headers.truncated || record.origlen as usize > record.data.len(),
            eth_type: headers.eth_type.map(hex),
            vlans: headers.vlans.ids().to_vec(),
            mpls: headers.labels.of(record.data).collect(),
            src: headers.key.source(),
            dst: headers.key.destination(),
            proto: (headers.key.version != 0).then_some(headers.key.proto),
            frag_offset: fragment.map(|f| f.offset),
            more_fragments: fragment.map(|f| f.more),
            sport: ports.map(|p| p.0),
            dport: ports.map(|p| p.1),
            tcp_flags: headers.tcp_flags.map(hex),
            icmp_type: headers.icmp.map(|i| i.kind),
            icmp_code: headers.icmp.map(|i| i.code),
        }
    }
}

fn hex(number: u16) -> String {
    format!("{number:#06x}")
}

/// Walks over a record; one of an unknown link type has a length and nothing else.
pub(super) fn walk(record: &Record<'_>) -> Headers {
    match Link::from_number(record.link.0) {
        Some(link) => walk_link(link, record.data),
        None => Headers {
            wire_len: u32::try_from(record.data.len()).unwrap_or(u32::MAX),
            ..Headers::default()
        },
    }
}

/// Prints all packets of a capture.
pub(super) fn print(reader: &mut Reader, out: &mut impl Write) -> Result<(), Stop> {
    let mut n = 0;
    while let Some(record) = reader.next().map_err(Stop::Input)? {
        n += 1;
        serde_json::to_writer(&mut *out, &Line::of(n, &record))
            .map_err(|error| Stop::Output(error.into()))?;
        out.write_all(b"\n").map_err(Stop::Output)?;
    }
    Ok(())
}
