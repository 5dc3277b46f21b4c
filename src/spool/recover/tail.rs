//! Whether a tail is only a record that was being written, or holds more.
//!
//! Takes: the bytes behind the last whole record. Gives: whether other records begin among them, which a damaged length swallows.
//! Holds: what is in doubt is taken for evidence; packets that hold captures themselves only make more be kept.

use std::ops::RangeInclusive;

use crate::capfile::MAX_FRAME;
use crate::spool::{Compression, Format};

/// Further away than a day from the packets of the file, a time is not one of its.
const DAY: u64 = 86_400;

/// Magic number, deflate, no flags, no time: how members begin that are written here.
const MEMBER: [u8; 8] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0];

/// Type of a pcapng block that holds a packet, and its bytes without the packet.
const PACKET: u32 = 6;
const PACKET_FRAMING: usize = 32;

/// Whether a record, or a compressed unit, begins behind the first byte of `tail`; `seconds` are those of the first and last packet
/// before it.
pub(super) fn holds_more(
    tail: &[u8],
    kind: (Format, Compression),
    seconds: Option<(u64, u64)>,
) -> bool {
    match kind {
        // lengths of blocks are all that tells where they end
        (_, Compression::Zstd) => false,
        (_, Compression::Gzip) => {
            let behind = tail.get(1..).unwrap_or_default();
            memchr::memmem::find(behind, &MEMBER).is_some()
        }
        (Format::Pcap, Compression::None) => {
            let own = word(tail, 0).map(|s| (s.into(), s.into()));
            let (first, last) = seconds.or(own).unwrap_or_default();
            let near = first.saturating_sub(DAY)..=last.saturating_add(DAY);
            (1..tail.len()).any(|at| is_record(tail, at, &near))
        }
        (Format::Pcapng, Compression::None) => {
            (4..tail.len()).step_by(4).any(|at| is_packet(tail, at))
        }
    }
}

fn is_record(tail: &[u8], at: usize, near: &RangeInclusive<u64>) -> bool {
    let words = || {
        let [time, fraction, caplen, origlen] = [0, 4, 8, 12].map(|n| word(tail, at + n));
        Some((time?, fraction?, caplen?, origlen?))
    };
    words().is_some_and(|(time, fraction, caplen, origlen)| {
        let fits = caplen <= origlen && origlen as usize <= MAX_FRAME;
        near.contains(&time.into()) && fraction < 1_000_000_000 && caplen > 0 && fits
    })
}

fn is_packet(tail: &[u8], at: usize) -> bool {
    let words = || {
        let [kind, len, caplen, origlen] = [0, 4, 20, 24].map(|n| word(tail, at + n));
        Some((kind?, len? as usize, caplen? as usize, origlen? as usize))
    };
    words().is_some_and(|(kind, len, caplen, origlen)| {
        let fits = caplen <= origlen && origlen <= MAX_FRAME && caplen + PACKET_FRAMING <= len;
        kind == PACKET && len.is_multiple_of(4) && len <= 2 * MAX_FRAME && fits
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::compress::member_of;

    #[test]
    fn a_member_behind_a_torn_one_is_found_and_the_torn_one_alone_is_not() {
        let kind = (Format::Pcap, Compression::Gzip);
        let (mut one, mut both) = (Vec::new(), Vec::new());
        member_of(&mut one, b"some records").unwrap();
        both.extend_from_slice(&one);
        both.extend_from_slice(&one);
        assert!(holds_more(&both, kind, None));
        assert!(!holds_more(&one, kind, None));
    }
}
