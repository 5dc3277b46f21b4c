//! Records as bytes, appended to a buffer.
//!
//! Takes: frames, times, lengths, names. Gives: the bytes of pcap and pcapng, always little-endian.
//! Holds: nothing here fails or panics; a time beyond what the format can say is the largest that it can;
//! origlen is never below caplen. Written by hand because this is the last step of the packet path:
//! one header array and one copy of the frame for each packet.

use crate::capfile::{LinkType, Precision};
use crate::time::Timestamp;

/// Bytes of a pcap file header.
pub const PCAP_HEADER_LEN: usize = 24;

/// Where in an enhanced packet block its interface id stands (four bytes, little-endian), so that a
/// block can be made before its interface has got a number.
pub const PCAPNG_INTERFACE_OFFSET: usize = 8;

/// Where in an enhanced packet block its own length stands.
pub const PCAPNG_LEN_OFFSET: usize = 4;

/// Where in an enhanced packet block the length of the packet stands.
pub const PCAPNG_CAPLEN_OFFSET: usize = 20;

/// Where in a pcap record the length of the packet stands.
pub const PCAP_CAPLEN_OFFSET: usize = 8;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;

/// Size of a pcap record that holds `caplen` bytes.
pub const fn pcap_record_len(caplen: usize) -> usize {
    16 + caplen
}

/// Size of an enhanced packet block that holds `caplen` bytes.
pub const fn packet_len(caplen: usize) -> usize {
    32 + caplen.next_multiple_of(4)
}

/// Appends the header of a pcap file.
pub fn pcap_header(out: &mut Vec<u8>, precision: Precision, snaplen: u32, link: LinkType) {
    let magic: u32 = match precision {
        Precision::Nanos => 0xA1B2_3C4D,
        Precision::Micros => 0xA1B2_C3D4,
    };
    out.extend_from_slice(&magic.to_le_bytes());
    out.extend_from_slice(&2u16.to_le_bytes());
    out.extend_from_slice(&4u16.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&snaplen.to_le_bytes());
    out.extend_from_slice(&u32::from(link.0).to_le_bytes());
}

/// Appends a pcap record. Times after 2106 keep their fraction and stop at the last second that fits.
#[inline]
pub fn pcap_record(
    out: &mut Vec<u8>,
    precision: Precision,
    time: Timestamp,
    frame: &[u8],
    origlen: u32,
) {
    let caplen = frame.len() as u32;
    let secs = u32::try_from(time.secs()).unwrap_or(u32::MAX);
    let fraction = match precision {
        Precision::Nanos => time.subsec_nanos(),
        Precision::Micros => time.subsec_nanos() / 1_000,
    };
    let words = [secs, fraction, caplen, origlen.max(caplen)];
    let head = words
        .into_iter()
        .rfold(0, |head, word| head << 32 | u128::from(word));
    out.reserve(pcap_record_len(frame.len()));
    out.extend_from_slice(&head.to_le_bytes());
    out.extend_from_slice(frame);
}

/// Appends an enhanced packet block without options.
pub fn packet(
    out: &mut Vec<u8>,
    interface_id: u32,
    precision: Precision,
    time: Timestamp,
    frame: &[u8],
    origlen: u32,
) {
    let caplen = frame.len() as u32;
    let total = packet_len(frame.len());
    let ticks = ticks(precision, time);
    let mut head = [0; 28];
    put(&mut head, 0, ENHANCED_PACKET);
    put(&mut head, 4, total as u32);
    put(&mut head, PCAPNG_INTERFACE_OFFSET, interface_id);
    put(&mut head, 12, (ticks >> 32) as u32);
    put(&mut head, 16, ticks as u32);
    put(&mut head, 20, caplen);
    put(&mut head, 24, origlen.max(caplen));
    out.reserve(total);
    out.extend_from_slice(&head);
    out.extend_from_slice(frame);
    pad(out, frame.len());
    out.extend_from_slice(&(total as u32).to_le_bytes());
}

/// Appends a section header: what a pcapng file begins with. `app` names the program that
/// writes; an empty `comment` is left out.
pub fn section(out: &mut Vec<u8>, app: &str, comment: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend_from_slice(&0x1A2B_3C4Du32.to_le_bytes());
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        text(out, OPT_COMMENT, comment);
        text(out, 4, app);
        option(out, OPT_END, &[]);
    });
}

/// What an interface block says. Interfaces are numbered from 0 in the order of their blocks,
/// anew in each section. Empty texts are left out.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// Link type of its packets.
    pub link: LinkType,
    /// Most bytes that were kept of a packet.
    pub snaplen: u32,
    /// Resolution of its packets' times.
    pub precision: Precision,
    /// `if_name`.
    pub name: &'a str,
    /// `if_description`.
    pub description: &'a str,
    /// `if_filter`, as the text that the user wrote.
    pub filter: &'a str,
    /// A comment.
    pub comment: &'a str,
}

/// Appends an interface description.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>) {
    let resolution = match interface.precision {
        Precision::Nanos => 9,
        Precision::Micros => 6,
    };
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&interface.link.0.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&interface.snaplen.to_le_bytes());
        text(out, OPT_COMMENT, interface.comment);
        text(out, 2, interface.name);
        text(out, 3, interface.description);
        option(out, 9, &[resolution]);
        filter(out, interface.filter);
        option(out, OPT_END, &[]);
    });
}

/// What an interface statistics block says: the totals of one interface.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// Which interface.
    pub interface_id: u32,
    /// The resolution that was told when the interface was described.
    pub precision: Precision,
    /// When these numbers were read.
    pub time: Timestamp,
    /// When counting began.
    pub start: Timestamp,
    /// When counting ended.
    pub end: Timestamp,
    /// Packets received (`isb_ifrecv`).
    pub received: u64,
    /// Packets dropped by the interface for want of resources (`isb_ifdrop`).
    pub dropped: u64,
    /// Packets that the filter accepted (`isb_filteraccept`).
    pub filter_accepted: u64,
    /// Packets dropped by the operating system (`isb_osdrop`).
    pub os_dropped: u64,
}

/// Appends interface statistics.
pub fn statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    let stamp = |time| split(ticks(statistics.precision, time));
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend_from_slice(&statistics.interface_id.to_le_bytes());
        out.extend_from_slice(&stamp(statistics.time));
        option(out, 2, &stamp(statistics.start));
        option(out, 3, &stamp(statistics.end));
        option(out, 4, &statistics.received.to_le_bytes());
        option(out, 5, &statistics.dropped.to_le_bytes());
        option(out, 6, &statistics.filter_accepted.to_le_bytes());
        option(out, 7, &statistics.os_dropped.to_le_bytes());
        option(out, OPT_END, &[]);
    });
}

/// Appends the statistics of an interface of which nothing is known but what is in the file: its packets, and the
/// times of the file. What was dropped is left out, and a comment says why.
pub fn recovered_statistics(
    out: &mut Vec<u8>,
    interface_id: u32,
    precision: Precision,
    times: (Timestamp, Timestamp),
    packets: u64,
) {
    let stamp = |time| split(ticks(precision, time));
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend_from_slice(&interface_id.to_le_bytes());
        out.extend_from_slice(&stamp(times.1));
        text(out, OPT_COMMENT, "recovered after a crash");
        option(out, 2, &stamp(times.0));
        option(out, 3, &stamp(times.1));
        option(out, 4, &packets.to_le_bytes());
        option(out, 6, &packets.to_le_bytes());
        option(out, OPT_END, &[]);
    });
}

/// Appends a block: type, length, what `body` appends, length.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let total = ((out.len() - start + 4) as u32).to_le_bytes();
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&total);
    }
    out.extend_from_slice(&total);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// A text option; cut where a character ends when it is longer than an option can be.
fn text(out: &mut Vec<u8>, code: u16, value: &str) {
    if !value.is_empty() {
        let end = value.floor_char_boundary(usize::from(u16::MAX));
        option(out, code, value.get(..end).unwrap_or_default().as_bytes());
    }
}

/// `if_filter` begins with a byte that says what follows: 0 is the text of a filter expression.
fn filter(out: &mut Vec<u8>, expression: &str) {
    if !expression.is_empty() {
        let end = expression.floor_char_boundary(usize::from(u16::MAX) - 1);
        let mut value = vec![0];
        value.extend_from_slice(expression.get(..end).unwrap_or_default().as_bytes());
        option(out, 11, &value);
    }
}

fn pad(out: &mut Vec<u8>, len: usize) {
    const ZEROS: [u8; 3] = [0; 3];
    let missing = len.next_multiple_of(4) - len;
    out.extend_from_slice(ZEROS.get(..missing).unwrap_or_default());
}

fn ticks(precision: Precision, time: Timestamp) -> u64 {
    match precision {
        Precision::Nanos => time.nanos(),
        Precision::Micros => time.nanos() / 1_000,
    }
}

/// pcapng writes a time as its upper half and then its lower half.
fn split(ticks: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    put(&mut bytes, 0, (ticks >> 32) as u32);
    put(&mut bytes, 4, ticks as u32);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}
