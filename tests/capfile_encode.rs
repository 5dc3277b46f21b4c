//! What the encoder writes is read back the same by us, tshark, capinfos, tcpdump and pcap-file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may fail loudly"
)]

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use mirrortap::capfile::encode::{self, Interface, Statistics};
use mirrortap::capfile::{Format, LinkType, Precision, Reader};
use mirrortap::time::Timestamp;
use proptest::prelude::*;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Packet {
    nanos: u64,
    data: Vec<u8>,
    origlen: u32,
    interface: u32,
}

const START: u64 = 1_795_561_200_123_456_789;

fn packets() -> Vec<Packet> {
    let sizes = [
        60, 61, 62, 63, 350, 1400, 9001, 65_535, 80_116, 262_144, 1, 0,
    ];
    let packet = |(i, size): (usize, &usize)| Packet {
        nanos: START + i as u64 * 1_000_000_001,
        data: (0..*size).map(|b| (b * 7 + i) as u8).collect(),
        origlen: (*size + i * 3) as u32,
        interface: (i % 2) as u32,
    };
    sizes.iter().enumerate().map(packet).collect()
}

fn pcap(precision: Precision, packets: &[Packet]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::pcap_header(&mut out, precision, 262_144, LinkType::ETHERNET);
    for p in packets {
        let before = out.len();
        let time = Timestamp::from_nanos(p.nanos);
        encode::pcap_record(&mut out, precision, time, &p.data, p.origlen);
        assert_eq!(out.len() - before, encode::pcap_record_len(p.data.len()));
    }
    out
}

fn interface(precision: Precision, name: &str) -> Interface<'_> {
    Interface {
        link: LinkType::ETHERNET,
        snaplen: 262_144,
        precision,
        name,
        description: "mirrored from 10.0.0.7, VNI 5569041 (größer)",
        filter: "tcp port 443",
        comment: "session web",
    }
}

fn pcapng(precision: Precision, packets: &[Packet]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::section(&mut out, "mirrortap 0.1.0", "a comment");
    encode::interface(&mut out, &interface(precision, "eni-1"));
    encode::interface(&mut out, &interface(precision, "eni-2"));
    for p in packets {
        let before = out.len();
        let time = Timestamp::from_nanos(p.nanos);
        encode::packet(&mut out, p.interface, precision, time, &p.data, p.origlen);
        assert_eq!(out.len() - before, encode::packet_len(p.data.len()));
    }
    let statistics = Statistics {
        interface_id: 1,
        precision,
        time: Timestamp::from_nanos(START + 60_000_000_000),
        start: Timestamp::from_nanos(START),
        end: Timestamp::from_nanos(START + 59_000_000_000),
        received: 4321,
        dropped: 17,
        filter_accepted: 4000,
        os_dropped: 3,
    };
    encode::statistics(&mut out, &statistics);
    out
}

/// The packets as a file of this precision can say them.
fn rounded(precision: Precision, packets: &[Packet]) -> Vec<Packet> {
    let step = if precision == Precision::Micros {
        1000
    } else {
        1
    };
    let round = |p: &Packet| Packet {
        nanos: p.nanos / step * step,
        origlen: p.origlen.max(p.data.len() as u32),
        ..p.clone()
    };
    packets.iter().map(round).collect()
}

fn read(bytes: &[u8]) -> (Vec<Packet>, Format, Precision) {
    let mut reader = Reader::from_read(Cursor::new(bytes.to_vec()), "test").unwrap();
    let mut packets = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.link, LinkType::ETHERNET);
        packets.push(Packet {
            nanos: record.time.nanos(),
            data: record.data.to_vec(),
            origlen: record.origlen,
            interface: record.interface,
        });
    }
    assert_eq!(reader.damage(), None);
    assert_eq!(reader.position(), bytes.len() as u64);
    assert_eq!(reader.bytes_read(), bytes.len() as u64);
    (packets, reader.format(), reader.precision())
}

const BOTH: [Precision; 2] = [Precision::Nanos, Precision::Micros];

fn saved(folder: &Path, precision: Precision, format: Format) -> PathBuf {
    let path = folder.join(format!("{format:?}-{precision:?}"));
    let bytes = match format {
        Format::Pcap => pcap(precision, &packets()),
        Format::Pcapng => pcapng(precision, &packets()),
    };
    std::fs::write(&path, bytes).unwrap();
    path
}

fn run(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn stamp(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[test]
fn tshark_reads_the_same_times_and_lengths() {
    let folder = tempfile::tempdir().unwrap();
    for precision in BOTH {
        for format in [Format::Pcap, Format::Pcapng] {
            let path = saved(folder.path(), precision, format);
            let fields = ["frame.time_epoch", "frame.cap_len", "frame.len"];
            let mut arguments = vec!["-n", "-T", "fields"];
            arguments.extend(fields.iter().flat_map(|f| ["-e", f]));
            arguments.push("-r");
            let text = run("tshark", &arguments, &path);
            let expected: Vec<String> = rounded(precision, &packets())
                .iter()
                .map(|p| format!("{}\t{}\t{}", stamp(p.nanos), p.data.len(), p.origlen))
                .collect();
            assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{path:?}");
        }
    }
}

#[test]
fn capinfos_shows_interfaces_names_comments_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), Precision::Nanos, Format::Pcapng);
    let text = run("capinfos", &[], &path);
    for part in [
        "Number of packets:   12",
        "File timestamp precision:  nanoseconds (9)",
        "Number of interfaces in file: 2",
        "Name = eni-2",
        "Description = mirrored from 10.0.0.7, VNI 5569041 (größer)",
        "Comment = session web",
        "Filter string = tcp port 443",
        "Time precision = nanoseconds (9)",
        "Number of stat entries = 1",
        "Capture application: mirrortap 0.1.0",
        "Capture comment:     a comment",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn tcpdump_reads_every_packet_of_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Pcap, Format::Pcapng] {
        let path = saved(folder.path(), Precision::Nanos, format);
        let text = run("tcpdump", &["-n", "-q", "-tt", "--nano", "-r"], &path);
        let times: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("17955"))
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        // tcpdump says "Invalid header" of a packet without any byte, or longer than its own limit.
        let expected: Vec<_> = packets()
            .iter()
            .filter(|p| !p.data.is_empty() && p.origlen <= 262_144)
            .map(|p| stamp(p.nanos))
            .collect();
        assert_eq!(expected.len(), 10);
        assert_eq!(text.matches("Invalid header").count(), 2, "{text}");
        assert_eq!(times, expected, "{path:?}");
    }
}

#[test]
fn pcap_file_reads_the_same_packets() {
    use pcap_file::pcap::PcapParser;
    for precision in BOTH {
        let bytes = pcap(precision, &packets());
        let (mut rest, parser) = PcapParser::new(&bytes).unwrap();
        for expected in rounded(precision, &packets()) {
            let (next, packet) = parser.next_packet(rest).unwrap();
            assert_eq!(packet.timestamp().as_nanos(), u128::from(expected.nanos));
            assert_eq!(packet.data(), expected.data);
            assert_eq!(packet.orig_len(), expected.origlen);
            rest = next;
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn pcap_file_reads_the_same_pcapng_blocks_with_their_statistics() {
    use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption as Option_;
    use pcap_file::pcapng::{Block, PcapNgParser};
    for precision in BOTH {
        let bytes = pcapng(precision, &packets());
        let (mut rest, mut parser) = PcapNgParser::new(&bytes).unwrap();
        let mut found = Vec::new();
        let mut options = Vec::new();
        while !rest.is_empty() {
            let (next, block) = parser.next_block(rest).unwrap();
            match block {
                Block::EnhancedPacket(p) => found.push(Packet {
                    nanos: p.timestamp.as_nanos() as u64,
                    data: p.data.to_vec(),
                    origlen: p.original_len,
                    interface: p.interface_id,
                }),
                Block::InterfaceStatistics(s) => options = s.into_owned().options,
                _ => {}
            }
            rest = next;
        }
        assert_eq!(found, rounded(precision, &packets()));
        for expected in [
            Option_::IsbIfRecv(4321),
            Option_::IsbIfDrop(17),
            Option_::IsbFilterAccept(4000),
            Option_::IsbOsDrop(3),
        ] {
            assert!(options.contains(&expected), "{expected:?} in {options:?}");
        }
    }
}

#[test]
fn we_read_what_we_wrote_and_know_its_format() {
    for precision in BOTH {
        let expected = rounded(precision, &packets());
        let (found, format, resolution) = read(&pcapng(precision, &packets()));
        assert_eq!(
            (found, format, resolution),
            (expected, Format::Pcapng, precision)
        );
        let (found, format, resolution) = read(&pcap(precision, &packets()));
        assert_eq!((format, resolution), (Format::Pcap, precision));
        assert_eq!(found.len(), packets().len());
    }
}

#[test]
fn the_interface_of_a_block_can_be_changed_afterwards() {
    let mut out = pcapng(Precision::Nanos, &[]);
    let start = out.len();
    let time = Timestamp::from_nanos(START);
    encode::packet(&mut out, u32::MAX, Precision::Nanos, time, b"frame", 5);
    let at = start + mirrortap::capfile::PCAPNG_INTERFACE_OFFSET;
    out[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
    assert_eq!(read(&out).0[0].interface, 1);
}

#[test]
fn times_beyond_the_year_2106_stop_at_the_last_second_of_pcap_and_go_on_in_pcapng() {
    let late = Packet {
        nanos: u64::MAX,
        data: vec![1, 2, 3],
        origlen: 3,
        interface: 0,
    };
    let (found, ..) = read(&pcap(Precision::Nanos, std::slice::from_ref(&late)));
    assert_eq!(found[0].nanos / 1_000_000_000, u64::from(u32::MAX));
    let (found, ..) = read(&pcapng(Precision::Nanos, std::slice::from_ref(&late)));
    assert_eq!(found, [late]);
}

#[test]
fn a_text_longer_than_an_option_is_cut_between_characters() {
    let long = "ü".repeat(40_000);
    let mut out = Vec::new();
    encode::section(&mut out, "app", &long);
    let texts = Interface {
        name: &long,
        filter: &long,
        ..interface(Precision::Nanos, "")
    };
    encode::interface(&mut out, &texts);
    let time = Timestamp::from_nanos(START);
    encode::packet(&mut out, 0, Precision::Nanos, time, b"x", 1);
    assert_eq!(read(&out).0.len(), 1);
    let (rest, mut parser) = pcap_file::pcapng::PcapNgParser::new(&out).unwrap();
    parser.next_block(rest).unwrap();
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let data = proptest::collection::vec(any::<u8>(), 0..300);
    (
        0..u64::from(u32::MAX) * 1_000_000_000,
        data,
        any::<u32>(),
        0..2u32,
    )
        .prop_map(|(nanos, data, origlen, interface)| Packet {
            nanos,
            data,
            origlen,
            interface,
        })
}

proptest! {
    #[test]
    fn any_packets_come_back_from_either_format(
        packets in proptest::collection::vec(any_packet(), 0..20),
        micros in any::<bool>(),
    ) {
        let precision = if micros { Precision::Micros } else { Precision::Nanos };
        let expected = rounded(precision, &packets);
        prop_assert_eq!(&read(&pcapng(precision, &packets)).0, &expected);
        let expected: Vec<_> = expected.into_iter().map(|p| Packet { interface: 0, ..p }).collect();
        prop_assert_eq!(&read(&pcap(precision, &packets)).0, &expected);
    }

    #[test]
    fn a_file_cut_anywhere_gives_the_packets_before_the_cut_and_says_where(
        packets in proptest::collection::vec(any_packet(), 1..8),
        ng in any::<bool>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let whole = if ng { pcapng(Precision::Nanos, &packets) } else { pcap(Precision::Nanos, &packets) };
        let end = cut.index(whole.len());
        let Ok(mut reader) = Reader::from_read(Cursor::new(whole[..end].to_vec()), "cut") else {
            return Ok(()); // within the file header
        };
        let mut position = reader.position();
        let mut n = 0;
        while let Some(record) = reader.next().unwrap() {
            prop_assert_eq!(record.data, &packets[n].data);
            n += 1;
            position = reader.position();
        }
        if let Some(damage) = reader.damage() {
            prop_assert!(damage.offset >= position && damage.offset < end as u64);
            if !ng { prop_assert_eq!(damage.offset, position); }
        } else {
            prop_assert!(position <= end as u64);
        }
    }
}
