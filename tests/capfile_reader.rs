//! The reader on what captures may look like: byte orders, clocks, block kinds, packings, and lies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may fail loudly"
)]

use std::io::{Cursor, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mirrortap::capfile::encode;
use mirrortap::capfile::{Error, Format, LinkType, Precision, Reader};
use mirrortap::time::Timestamp;
use proptest::prelude::*;

fn open(bytes: Vec<u8>) -> Result<Reader, Error> {
    Reader::from_read(Cursor::new(bytes), "test")
}

/// (time, data, origlen, link, interface) of every record, and the damage.
type Row = (u64, Vec<u8>, u32, u16, u32);

fn read(bytes: Vec<u8>) -> (Vec<Row>, Option<(u64, String)>) {
    let mut reader = open(bytes).unwrap();
    let mut rows = Vec::new();
    while let Some(r) = reader.next().unwrap() {
        rows.push((
            r.time.nanos(),
            r.data.to_vec(),
            r.origlen,
            r.link.0,
            r.interface,
        ));
    }
    (rows, reader.damage().map(|d| (d.offset, d.what.clone())))
}

/// Numbers in a chosen byte order.
#[derive(Clone, Copy)]
struct Order(bool);

impl Order {
    fn u16(self, n: u16) -> [u8; 2] {
        if self.0 {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    }

    fn u32(self, n: u32) -> [u8; 4] {
        if self.0 {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| self.u32(*w)).collect()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let total = self.u32(12 + padded as u32);
        let mut block = [self.u32(kind), total].concat();
        block.extend_from_slice(body);
        block.resize(8 + padded, 0);
        block.extend_from_slice(&total);
        block
    }

    fn section(self) -> Vec<u8> {
        let version = [self.u16(1), self.u16(0)].concat();
        let body = [self.words(&[0x1A2B_3C4D]), version, vec![0xFF; 8]].concat();
        self.block(0x0A0D_0D0A, &body)
    }

    fn interface(self, link: u16, snaplen: u32, options: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = [self.u16(link), [0; 2]].concat();
        body.extend_from_slice(&self.u32(snaplen));
        for (code, value) in options {
            body.extend_from_slice(&self.u16(*code));
            body.extend_from_slice(&self.u16(value.len() as u16));
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    fn enhanced(self, id: u32, ticks: u64, data: &[u8], origlen: u32) -> Vec<u8> {
        let head = [
            id,
            (ticks >> 32) as u32,
            ticks as u32,
            data.len() as u32,
            origlen,
        ];
        self.block(6, &[self.words(&head), data.to_vec()].concat())
    }
}

const BIG: Order = Order(true);
const LITTLE: Order = Order(false);

#[test]
fn classic_pcap_is_read_in_all_four_variants_of_its_magic() {
    for order in [BIG, LITTLE] {
        for (magic, unit) in [(0xA1B2_C3D4, 1000), (0xA1B2_3C4D, 1)] {
            let mut file = order.u32(magic).to_vec();
            file.extend([order.u16(2), order.u16(4)].concat());
            file.extend(order.words(&[0, 0, 65_535, 113, 7, 8, 3, 90]));
            file.extend(b"abc");
            let (rows, damage) = read(file);
            let expected = (7_000_000_000 + 8 * unit, b"abc".to_vec(), 90, 113, 0);
            assert_eq!((rows, damage), (vec![expected], None));
        }
    }
}

#[test]
fn the_fcs_bits_of_the_link_type_field_are_not_the_link_type() {
    let mut file = LITTLE.words(&[0xA1B2_C3D4, 0x0004_0002, 0, 0, 65_535, 0x2400_0001]);
    file.extend(LITTLE.words(&[7, 8, 3, 3]));
    file.extend(b"abc");
    assert_eq!(read(file).0[0].3, 1);
}

#[test]
fn sections_in_both_byte_orders_have_interfaces_of_their_own() {
    let file = [
        BIG.section(),
        BIG.interface(1, 0, &[]),
        BIG.interface(101, 0, &[(9, vec![9])]),
        BIG.enhanced(1, 5, b"raw", 3),
        LITTLE.section(),
        LITTLE.interface(276, 0, &[]),
        LITTLE.enhanced(0, 6, b"cooked", 600),
    ];
    let (rows, damage) = read(file.concat());
    assert_eq!(damage, None);
    assert_eq!(rows[0], (5, b"raw".to_vec(), 3, 101, 1));
    assert_eq!(rows[1], (6000, b"cooked".to_vec(), 600, 276, 0));
}

#[test]
fn clocks_of_any_resolution_and_offset_give_nanoseconds() {
    let offset = |secs: i64| (14, secs.to_le_bytes().to_vec());
    for (options, ticks, nanos) in [
        (vec![], 1_500_000, 1_500_000_000),
        (vec![(9, vec![0])], 2, 2_000_000_000),
        (vec![(9, vec![3])], 1_500, 1_500_000_000),
        (vec![(9, vec![9])], 1_500, 1_500),
        (vec![(9, vec![12])], 1_500_999, 1_500),
        (vec![(9, vec![0x7F])], u64::MAX, 0),
        (vec![(9, vec![0x80])], 3, 3_000_000_000),
        (vec![(9, vec![0x81])], 3, 1_500_000_000),
        (vec![(9, vec![0xFF])], u64::MAX, 0),
        (vec![offset(100)], 1, 100_000_001_000),
        (vec![offset(-1)], 1_500_000, 500_000_000),
        (vec![offset(-10)], 1_500_000, 0),
        (vec![offset(i64::MAX)], 1, u64::MAX),
        (vec![(9, vec![0])], u64::MAX, u64::MAX),
        (vec![(1, b"a comment".to_vec()), (9, vec![9])], 7, 7),
        (vec![(0, vec![]), (9, vec![9])], 7, 7000),
        (vec![(9, vec![])], 7, 7000),
    ] {
        let file = [
            LITTLE.section(),
            LITTLE.interface(1, 0, &options),
            LITTLE.enhanced(0, ticks, b"x", 1),
        ];
        assert_eq!(read(file.concat()).0[0].0, nanos, "{options:?} {ticks}");
    }
}

#[test]
fn simple_and_old_packet_blocks_are_packets_and_other_blocks_are_not() {
    let old = [LITTLE.u16(0), LITTLE.u16(9)].concat();
    let old = [old, LITTLE.words(&[0, 77, 4, 99]), b"oldy".to_vec()].concat();
    let file = [
        LITTLE.section(),
        LITTLE.block(0x0BAD, &[1; 64]),
        LITTLE.interface(1, 6, &[]),
        LITTLE.block(3, &[LITTLE.words(&[20]), b"simple".to_vec()].concat()),
        LITTLE.block(9, b"__REALTIME_TIMESTAMP=0\n"),
        LITTLE.block(2, &old),
        LITTLE.block(10, &[7; 100_000]),
        LITTLE.block(3, &[LITTLE.words(&[2]), b"ab".to_vec()].concat()),
    ];
    let (rows, damage) = read(file.concat());
    assert_eq!(damage, None);
    let expected = [
        (0, b"simple".to_vec(), 20, 1, 0),
        (77_000, b"oldy".to_vec(), 99, 1, 0),
        (0, b"ab".to_vec(), 2, 1, 0),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn an_origlen_below_caplen_is_raised_to_it() {
    let file = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &[]),
        LITTLE.enhanced(0, 1, b"abcdef", 2),
    ];
    assert_eq!(read(file.concat()).0[0].2, 6);
}

#[test]
fn damage_in_pcapng_is_told_with_the_offset_of_its_block() {
    let good = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &[]),
        LITTLE.enhanced(0, 1, b"good", 4),
    ]
    .concat();
    let mut liar = LITTLE.enhanced(0, 1, b"liar", 4);
    liar[20] = 200;
    let mut trailer = LITTLE.enhanced(0, 1, b"tail", 4);
    *trailer.last_mut().unwrap() = 1;
    for (bad, why) in [
        (
            LITTLE.enhanced(1, 1, b"x", 1),
            "names interface 1, and 1 are described",
        ),
        (liar, "claims 200 bytes in a block of 36"),
        (trailer, "36 bytes at its start"),
        (LITTLE.words(&[6, 16, 0, 16]), "in a block of 16 bytes"),
        (LITTLE.words(&[77, 8, 0]), "less than its own framing"),
        (
            LITTLE.words(&[77, 4000, 0, 0, 0]),
            "ends within a block of 4000 bytes",
        ),
        (
            LITTLE.words(&[6, 0x7FFF_FFFC, 0]),
            "in a block of 2147483644 bytes",
        ),
        (
            LITTLE.words(&[77, 0x7FFF_FFFC, 0]),
            "ends within a block of 2147483644 bytes",
        ),
        (LITTLE.words(&[6]), "within a block header"),
        (
            LITTLE.words(&[0x0A0D_0D0A, 28, 0x1234]),
            "no byte-order mark",
        ),
        (LITTLE.words(&[0x0A0D_0D0A, 12, 0x1A2B_3C4D]), "too short"),
    ] {
        let (rows, damage) = read([good.clone(), bad].concat());
        let (offset, what) = damage.unwrap();
        assert_eq!(
            (rows.len(), offset),
            (1, good.len() as u64),
            "{why}: {what}"
        );
        assert!(what.contains(why), "{why}: {what}");
    }
}

/// One packet of each given size, as nanosecond pcap.
fn pcap(sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::pcap_header(&mut out, Precision::Nanos, 262_144, LinkType::ETHERNET);
    for (i, size) in sizes.iter().enumerate() {
        let time = Timestamp::from_nanos(i as u64);
        encode::pcap_record(&mut out, Precision::Nanos, time, &vec![i as u8; *size], 0);
    }
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn gzip_members_and_zstd_frames_one_after_the_other_are_one_capture() {
    let whole = pcap(&[60, 1400, 80_116, 262_144, 60]);
    for pack in [gzip, zstd] {
        let packed: Vec<u8> = whole.chunks(10_000).flat_map(pack).collect();
        assert_eq!(read(packed.clone()), read(whole.clone()));
        let mut reader = open(packed.clone()).unwrap();
        while reader.next().unwrap().is_some() {}
        assert_eq!(reader.bytes_read(), packed.len() as u64);
    }
    let skippable = [LITTLE.words(&[0x184D_2A50, 4, 0]), zstd(&whole)].concat();
    assert_eq!(read(skippable), read(whole));
}

#[test]
fn packed_captures_that_are_cut_or_spoiled_give_what_could_be_unpacked() {
    let whole = pcap(&[1000; 800]);
    for pack in [gzip, zstd] {
        let frames: Vec<Vec<u8>> = whole.chunks(100_000).map(pack).collect();
        let mut packed = frames.concat();
        packed.truncate(packed.len() - frames.last().unwrap().len() / 2);
        let (rows, damage) = read(packed.clone());
        let (offset, what) = damage.unwrap();
        assert!(rows.len() >= 700, "{}", rows.len());
        assert_eq!(offset, 24 + rows.len() as u64 * 1016);
        assert!(what.contains("can't be decompressed"), "{what}");
        let at = frames[0].len() + frames[1].len() / 2;
        packed[at..at + 8].fill(0xEE);
        let (rows, damage) = read(packed);
        assert!(
            damage.is_some() && rows.len() < 700,
            "{} {damage:?}",
            rows.len()
        );
    }
}

#[test]
fn what_is_no_capture_is_refused_with_what_was_found() {
    for (bytes, found) in [
        (vec![], "is empty"),
        (b"hello, world".to_vec(), "begins with \"hello, w\""),
        (b"PK".to_vec(), "begins with \"PK\""),
        (
            pcap(&[])[..10].to_vec(),
            "ends after 10 bytes, within the pcap file header",
        ),
        (
            LITTLE.section()[..20].to_vec(),
            "begins like pcapng, but the file ends within",
        ),
        (
            gzip(b"some text"),
            "is gzip around something that begins with \"some tex\"",
        ),
        (
            gzip(&gzip(&pcap(&[]))),
            "is gzip around something that begins with \"\\x1f\\x8b",
        ),
        (
            b"\x1f\x8bxxxxxxxxxxxxxx".to_vec(),
            "begins like gzip, but can't be decompressed",
        ),
        (
            b"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff".to_vec(),
            "begins like zstd, but",
        ),
    ] {
        let error = open(bytes).unwrap_err();
        assert!(matches!(error, Error::NotACapture { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(found), "{text}");
        assert!(text.contains("expected pcap or pcapng"), "{text}");
    }
}

#[test]
fn a_path_that_cannot_be_opened_is_told_with_the_reason() {
    let missing = Reader::open("/nowhere/at/all.pcap".as_ref())
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("/nowhere/at/all.pcap: No such file"),
        "{missing}"
    );
    let folder = Reader::open("/".as_ref()).unwrap_err().to_string();
    assert!(folder.contains("directory"), "{folder}");
}

/// Gives its bytes, then an error.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(std::io::Error::other("the disk is gone")),
            n => Ok(n),
        }
    }
}

#[test]
fn a_failing_file_is_an_error_after_the_records_before_it() {
    let mut file = pcap(&[10, 10, 10]);
    file.truncate(file.len() - 5);
    let mut reader = Reader::from_read(Failing(Cursor::new(file)), "sda").unwrap();
    assert!(reader.next().unwrap().is_some());
    assert!(reader.next().unwrap().is_some());
    let error = reader.next().unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read capture sda at byte 76: the disk is gone"
    );
    assert!(reader.next().unwrap().is_none());
}

/// Gives a header, then zeros for ever, and counts how many were taken.
struct Endless(Cursor<Vec<u8>>, Arc<AtomicUsize>);

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        let rest = buf.get_mut(n..).unwrap();
        rest.fill(0);
        self.1.fetch_add(buf.len(), Ordering::Relaxed);
        Ok(buf.len())
    }
}

#[test]
fn a_claim_of_two_gigabytes_is_not_read_after() {
    let mut pcap = pcap(&[]);
    pcap.extend(LITTLE.words(&[1, 1, 0x7FFF_FFFF, 0x7FFF_FFFF]));
    let mut pcapng = [LITTLE.section(), LITTLE.interface(1, 0, &[])].concat();
    pcapng.extend(LITTLE.words(&[6, 0x7FFF_FFFC, 0, 0, 0, 0x7FFF_0000, 0x7FFF_0000]));
    for file in [pcap, pcapng] {
        let taken = Arc::new(AtomicUsize::new(0));
        let endless = Endless(Cursor::new(file), Arc::clone(&taken));
        let mut reader = Reader::from_read(endless, "endless").unwrap();
        assert!(reader.next().unwrap().is_none());
        assert!(
            reader.damage().unwrap().what.contains("21474"),
            "{:?}",
            reader.damage()
        );
        assert!(taken.load(Ordering::Relaxed) <= 1024 * 1024);
    }
}

#[test]
fn a_reader_tells_its_format_and_name() {
    let reader = open(pcap(&[])).unwrap();
    assert_eq!((reader.format(), reader.name()), (Format::Pcap, "test"));
    let reader = open(LITTLE.section()).unwrap();
    assert_eq!(reader.format(), Format::Pcapng);
}

/// A capture with some bytes replaced.
fn spoiled() -> impl Strategy<Value = Vec<u8>> {
    let packets = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..6);
    let hits = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    (packets, hits, 0..3u8).prop_map(|(packets, hits, kind)| {
        let order = Order(kind == 1);
        let mut file = match kind {
            0 => pcap(&packets.iter().map(Vec::len).collect::<Vec<_>>()),
            _ => {
                let blocks = packets.iter().map(|p| order.enhanced(0, 1, p, 9));
                let head = [order.section(), order.interface(1, 0, &[(9, vec![9])])].concat();
                blocks.fold(head, |file, block| [file, block].concat())
            }
        };
        for (at, byte) in hits {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_or_give_more_than_there_is(
        bytes in prop_oneof![spoiled(), proptest::collection::vec(any::<u8>(), 0..400)],
    ) {
        let len = bytes.len();
        if let Ok(mut reader) = open(bytes) {
            let mut total = 0;
            while let Some(record) = reader.next().unwrap() {
                prop_assert!(record.origlen as usize >= record.data.len());
                total += record.data.len();
            }
            prop_assert!(total <= len);
            if let Some(damage) = reader.damage() {
                prop_assert!(damage.offset <= len as u64);
            }
        }
    }
}
