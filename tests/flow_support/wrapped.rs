//! Many captures in one outer capture, wrapped as a mirror would, each from a source of its own.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mirrortap::capfile::{LinkType, Reader};

/// The longest frame that VXLAN over IPv4 can carry.
const MOST: usize = 65_535 - 20 - 8 - 8;
const SECOND: u64 = 1_000_000_000;
/// 28 November 2026, midnight.
const BEGIN: u64 = 1_795_824_000 * SECOND;

/// A capture as its mirror source.
pub struct Source {
    pub address: Ipv4Addr,
    pub name: String,
    pub packets: u64,
}

impl Source {
    /// The id that the metadata gives it.
    pub fn interface(&self) -> String {
        let [_, _, c, d] = self.address.octets();
        format!("eni-{:017x}", u32::from(c) << 8 | u32::from(d))
    }
}

/// Writes the Ethernet frames of all captures, wrapped, into one file. Bare IP gets an Ethernet header; frames of other links
/// can't be mirrored, and are left out.
///
/// They begin one after the other, as if on one day; what comes later than `longest` seconds after the first packet of a
/// capture comes then.
pub fn wrap(captures: &[PathBuf], longest: u64, outer: &Path) -> Vec<Source> {
    let mut file = BufWriter::new(fs::File::create(outer).unwrap());
    let magic_and_version = [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 262_144, 1];
    magic_and_version
        .iter()
        .for_each(|word| file.write_all(&word.to_le_bytes()).unwrap());
    let mut begin = BEGIN;
    let mut sources = Vec::new();
    for (number, capture) in (1_u16..).zip(captures) {
        let [c, d] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, 99, c, d);
        let (packets, end) = wrap_one(capture, address, begin, longest * SECOND, &mut file);
        begin = end + 5 * SECOND;
        sources.push(Source {
            address,
            name: crate::common::stem(capture),
            packets,
        });
    }
    file.flush().unwrap();
    sources
}

/// How many packets there were, and when the last of them was.
fn wrap_one(
    capture: &Path,
    source: Ipv4Addr,
    begin: u64,
    longest: u64,
    file: &mut impl Write,
) -> (u64, u64) {
    let mut reader = Reader::open(capture).unwrap();
    let (mut first, mut end, mut packets) = (None, begin, 0);
    while let Some(record) = reader.next().unwrap() {
        let Some(frame) = frame(record.link, record.data) else {
            continue;
        };
        let nanos = record.time.nanos();
        let since = nanos.saturating_sub(*first.get_or_insert(nanos));
        let time = begin + since.min(longest);
        write_wrapped(file, time, source, &frame);
        end = end.max(time);
        packets += 1;
    }
    (packets, end)
}

fn frame(link: LinkType, data: &[u8]) -> Option<Vec<u8>> {
    let version = data.first().map_or(0, |b| b >> 4);
    let mut frame = match (link.0, version) {
        (1, _) => data.to_vec(),
        (12 | 101 | 228 | 229, 4) => [&[2; 12][..], &[0x08, 0x00], data].concat(),
        (12 | 101 | 228 | 229, 6) => [&[2; 12][..], &[0x86, 0xdd], data].concat(),
        _ => return None,
    };
    frame.truncate(MOST);
    Some(frame)
}

fn write_wrapped(file: &mut impl Write, nanos: u64, source: Ipv4Addr, frame: &[u8]) {
    let mut outer = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(source.octets(), [10, 0, 0, 9], 64)
        .udp(49_152, 4789)
        .write(
            &mut outer,
            &[&[8, 0, 0, 0, 0, 0, 77, 0][..], frame].concat(),
        )
        .unwrap();
    let length = outer.len() as u32;
    let [seconds, below] = [(nanos / SECOND) as u32, (nanos % SECOND) as u32];
    for word in [seconds, below, length, length] {
        file.write_all(&word.to_le_bytes()).unwrap();
    }
    file.write_all(&outer).unwrap();
}
