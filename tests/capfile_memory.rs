//! The reader's memory, handed over with the packets in it: nothing is copied, lost or moved meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may fail loudly"
)]

use std::io::{Cursor, Read};

use mirrortap::capfile::encode::{self, Interface};
use mirrortap::capfile::{LinkType, Precision, Reader, Record};
use mirrortap::time::Timestamp;
use proptest::prelude::*;

/// Time, origlen and bytes of every record, and the damage.
type Read1 = (Vec<(u64, u32, Vec<u8>)>, Option<(u64, String)>);

fn damage(reader: &Reader) -> Option<(u64, String)> {
    reader.damage().map(|d| (d.offset, d.what.clone()))
}

fn one_by_one(mut reader: Reader) -> Read1 {
    let mut rows = Vec::new();
    while let Some(r) = reader.next().unwrap() {
        rows.push((r.time.nanos(), r.origlen, r.data.to_vec()));
    }
    (rows, damage(&reader))
}

/// The same out of memories that the reader handed over, each with at most so many packets.
fn handed_over(mut reader: Reader, most: usize) -> Read1 {
    let place = |r: Record<'_>| (r.place, r.data.len(), r.time.nanos(), r.origlen);
    let (mut rows, mut memory) = (Vec::new(), vec![0; Reader::MEMORY]);
    while let Some(first) = reader.next().unwrap().map(place) {
        let mut places = vec![first];
        if most > 1 {
            reader.each_at_hand(|record| {
                places.push(place(*record));
                places.len() < most
            });
        }
        reader.hand_over(first.0, &mut memory);
        let row = |(at, len, time, origlen)| (time, origlen, memory[at..at + len].to_vec());
        rows.extend(places.into_iter().map(row));
    }
    (rows, damage(&reader))
}

/// Gives its bytes in pieces of these sizes.
struct Pieces(Cursor<Vec<u8>>, Vec<usize>);

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let size = self.1[self.0.position() as usize % self.1.len()];
        let n = size.min(buf.len());
        self.0.read(&mut buf[..n])
    }
}

fn pcap(sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::pcap_header(&mut out, Precision::Nanos, 262_144, LinkType::ETHERNET);
    for (i, size) in sizes.iter().enumerate() {
        let time = Timestamp::from_nanos(i as u64);
        encode::pcap_record(&mut out, Precision::Nanos, time, &vec![i as u8; *size], 99);
    }
    out
}

/// With a block that is no packet before every third packet, where they are `mixed`.
fn pcapng(sizes: &[usize], mixed: bool) -> Vec<u8> {
    let mut out = Vec::new();
    encode::section(&mut out, "test", "");
    let interface = Interface {
        link: LinkType::ETHERNET,
        snaplen: 262_144,
        precision: Precision::Nanos,
        name: "",
        description: "",
        filter: "",
        comment: "",
    };
    encode::interface(&mut out, &interface);
    for (i, size) in sizes.iter().enumerate() {
        if mixed && i % 3 == 0 {
            encode::interface(&mut out, &interface);
        }
        let time = Timestamp::from_nanos(i as u64);
        encode::packet(
            &mut out,
            0,
            Precision::Nanos,
            time,
            &vec![i as u8; *size],
            99,
        );
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn packets_handed_over_are_those_that_are_read_one_by_one(
        sizes in prop::collection::vec(prop_oneof![8 => 0..9_000_usize, 1 => 0..262_000_usize], 1..120),
        pieces in prop::collection::vec(prop_oneof![1..100_usize, 1_000..300_000_usize], 1..8),
        most in prop_oneof![1..40_usize, Just(usize::MAX)],
        kind in 0..3_u8,
        cut in 0..4_usize,
    ) {
        let mut file = match kind {
            0 => pcap(&sizes),
            _ => pcapng(&sizes, kind == 2),
        };
        file.truncate(file.len() - cut);
        let open = |pieces| Reader::from_read(Pieces(Cursor::new(file.clone()), pieces), "pieces").unwrap();
        let expected = one_by_one(open(vec![usize::MAX]));
        prop_assert!(handed_over(open(pieces), most) == expected);
    }
}
