//! Sending over loopback: every packet arrives once, and every failure is counted.
//!
//! Each test sends from an address of its own (127.0.1.N), so that all source ports are free.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

mod send_support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mirrortap::generator::{Failure, Generator, Input, Options, Pace, Report, Size, sequence};
use mirrortap::packet::Vni;
use send_support::{pcap, tshark};

/// A receiver, and options that send to it slowly enough for any machine.
fn receiver(source: &str) -> (UdpSocket, Options) {
    let source: IpAddr = source.parse().unwrap();
    let any_port = SocketAddr::new(source, 0);
    let socket = UdpSocket::bind(any_port).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let options = Options {
        source: Some(source),
        pace: Pace::Rate(4000),
        count: Some(1000),
        ..Options::new(socket.local_addr().unwrap())
    };
    (socket, options)
}

/// Sends, while a thread takes `count` datagrams.
fn exchange(socket: UdpSocket, options: Options) -> (Report, Vec<(Vec<u8>, SocketAddr)>) {
    let count = options.count.unwrap();
    let taking = thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        let mut got = Vec::new();
        while (got.len() as u64) < count {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                break;
            };
            got.push((buffer[..len].to_vec(), from));
        }
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert!(socket.recv(&mut buffer).is_err(), "more than were sent");
        got
    });
    let report = Generator::new(options)
        .unwrap()
        .run(&AtomicBool::new(false));
    (report.unwrap(), taking.join().unwrap())
}

fn vni(datagram: &[u8]) -> Vni {
    assert_eq!((datagram[0], datagram[7]), (8, 0));
    Vni::from_bytes(datagram[4..7].try_into().unwrap())
}

#[test]
fn every_sequence_number_arrives_exactly_once_and_in_order_within_its_flow() {
    let (socket, options) = receiver("127.0.1.1");
    let options = Options {
        vnis: "100-104,300".parse().unwrap(),
        ..options
    };
    let (report, got) = exchange(socket, options);
    let (mut numbers, mut per_vni) = (BTreeSet::new(), BTreeMap::<u32, BTreeSet<u64>>::new());
    let mut last_of_flow = BTreeMap::new();
    for (datagram, _) in &got {
        let frame = &datagram[8..];
        let mark = sequence::read(frame).expect("a mark");
        assert_eq!(mark.vni, vni(datagram));
        assert!(numbers.insert(mark.number), "{} came twice", mark.number);
        let of_vni = per_vni.entry(mark.vni.value()).or_default();
        assert!(of_vni.insert(mark.in_vni), "{} came twice", mark.in_vni);
        let before = last_of_flow.insert(mark.number % 258, mark.number);
        assert!(before.is_none_or(|before| before < mark.number));
    }
    assert_eq!(numbers, (0..1000).collect());
    for (vni, numbers) in &per_vni {
        assert_eq!(*numbers, (0..numbers.len() as u64).collect(), "VNI {vni}");
    }
    let counted: BTreeMap<_, _> = per_vni.iter().map(|(v, n)| (*v, n.len() as u64)).collect();
    assert_eq!(report.per_vni, counted);
    assert_eq!((report.sent, report.unsent), (1000, 0));
    let bytes: usize = got.iter().map(|(datagram, _)| datagram.len()).sum();
    assert_eq!(report.bytes, bytes as u64);
    assert!(report.errors.is_empty(), "{report:?}");
}

#[test]
fn datagrams_come_from_the_source_ports_of_aws_one_for_each_flow() {
    let (socket, options) = receiver("127.0.1.2");
    let (report, got) = exchange(socket, options);
    assert_eq!(report.source_ports, 128);
    let mut of_flow = BTreeMap::new();
    for (datagram, from) in got {
        assert_eq!(from.ip().to_string(), "127.0.1.2");
        assert!(from.port() >= 65408);
        let number = sequence::read(&datagram[8..]).unwrap().number;
        // 256 flows take turns, first in one direction, then in the other
        let port = *of_flow.entry(number % 256).or_insert(from.port());
        assert_eq!(port, from.port(), "flow {}", number % 256);
    }
    let ports: BTreeSet<_> = of_flow.values().collect();
    assert!(ports.len() > 64, "256 flows use {} ports", ports.len());
}

#[test]
fn a_source_port_that_is_taken_is_replaced_and_told() {
    let taken = UdpSocket::bind("127.0.1.3:65500").unwrap();
    let (socket, options) = receiver("127.0.1.3");
    let (report, got) = exchange(socket, options);
    assert_eq!((report.source_ports, got.len()), (127, 1000));
    drop(taken);
}

#[test]
fn a_closed_receiver_does_not_stop_it_and_refusals_are_counted() {
    let (socket, options) = receiver("127.0.1.4");
    drop(socket);
    let mut generator = Generator::new(Options {
        pace: Pace::Full,
        ..options
    })
    .unwrap();
    let counters = generator.counters();
    let report = generator.run(&AtomicBool::new(false)).unwrap();
    assert_eq!((report.sent, report.unsent), (1000, 0));
    let refused = counters.errors(Failure::Refused) + counters.errors(Failure::CutShort);
    assert!(refused > 100, "{report:?}");
    assert_eq!(report.errors.values().sum::<u64>(), refused);
}

#[test]
fn synthetic_frames_have_the_size_asked_for_and_are_cut_to_the_mtu() {
    for (address, mtu, len, cut) in [
        ("127.0.1.5", None, 1400, 0),
        ("127.0.1.6", Some(500), 464, 200),
    ] {
        let (socket, options) = receiver(address);
        let options = Options {
            count: Some(200),
            mtu,
            input: Input::Synthetic {
                flows: 5,
                size: Size::Fixed(1400),
                seed: 1,
            },
            ..options
        };
        let (report, got) = exchange(socket, options);
        assert_eq!((report.cut, got.len()), (cut, 200));
        assert!(got.iter().all(|(datagram, _)| datagram.len() == 8 + len));
    }
}

#[test]
fn ipv6_carries_it_too() {
    let (socket, options) = receiver("::1");
    // a plain receiver drops IPv6 datagrams that have no checksum
    let options = Options {
        checksum: true,
        ..options
    };
    let (report, got) = exchange(socket, options);
    let numbers: BTreeSet<_> = got
        .iter()
        .map(|(datagram, _)| sequence::read(&datagram[8..]).unwrap().number)
        .collect();
    assert_eq!((report.sent, numbers.len()), (1000, 1000));
}

#[test]
fn a_rate_is_not_exceeded_and_a_stop_is_heard_within_it() {
    let (socket, options) = receiver("127.0.1.7");
    let report = exchange(socket, options).0;
    assert!(report.pps < 4300.0, "{report:?}");

    let (_socket, options) = receiver("127.0.1.8");
    let mut generator = Generator::new(Options {
        pace: Pace::Rate(1),
        ..options
    })
    .unwrap();
    let counters = generator.counters();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let running = thread::spawn(move || generator.run(&told).unwrap());
    while counters.sent.value() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(running.join().unwrap().sent <= 2, "it went on");
}

#[test]
fn a_capture_keeps_its_order_and_its_loops_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inner.pcap");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&[0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, 4, 0, 1, 0, 0, 0]);
    for n in 0..50_u8 {
        let micros = u32::from(n) * 2_000_000;
        bytes.extend_from_slice(&[9, 0, 0, 0]);
        bytes.extend_from_slice(&micros.to_le_bytes());
        bytes.extend_from_slice(&[15, 0, 0, 0, 15, 0, 0, 0]);
        bytes.extend_from_slice(&[n; 15]);
    }
    std::fs::write(&file, bytes).unwrap();
    let (socket, options) = receiver("127.0.1.9");
    let options = Options {
        input: Input::Capture {
            path: file,
            loops: 3,
        },
        // 98 ms from first to last, at half the speed: 588 ms in three rounds
        pace: Pace::Original(0.5),
        count: Some(150),
        ..options
    };
    let (report, got) = exchange(socket, options);
    let firsts: Vec<_> = got.iter().map(|(datagram, _)| datagram[8]).collect();
    let want: Vec<_> = (0..3).flat_map(|_| 0..50).collect();
    assert_eq!(firsts, want);
    assert!((0.58..2.0).contains(&report.seconds), "{report:?}");
}

#[test]
fn the_same_seed_makes_the_same_flows_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    // everything but checksums, mark and the time in it
    let make = |name: &str, seed| {
        let file = folder.path().join(name);
        let options = Options {
            count: Some(500),
            input: Input::Synthetic {
                flows: 40,
                size: Size::Imix,
                seed,
            },
            destination: mirrortap::generator::Destination::File(file.clone()),
            ..Options::new("10.0.2.20:4789".parse().unwrap())
        };
        Generator::new(options)
            .unwrap()
            .run(&AtomicBool::new(false))
            .unwrap();
        let lines = |p: send_support::Packet| (p.data.len(), p.data[34..88].to_vec());
        pcap(&file).1.into_iter().map(lines).collect::<Vec<_>>()
    };
    let first = make("a.pcap", 5);
    assert_eq!(first, make("b.pcap", 5));
    assert_ne!(first, make("c.pcap", 6));
}

#[test]
fn tshark_finds_nothing_wrong_with_synthetic_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flows.pcap");
    let options = Options {
        count: Some(3000),
        vnis: "5-9".parse().unwrap(),
        destination: mirrortap::generator::Destination::File(file.clone()),
        ..Options::new("10.0.2.20:4789".parse().unwrap())
    };
    Generator::new(options)
        .unwrap()
        .run(&AtomicBool::new(false))
        .unwrap();
    let file = file.to_str().unwrap();
    let check = [
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.check_checksum:TRUE",
    ];
    let more = ["-o", "udp.check_checksum:TRUE", "-n", "-r", file, "-Y"];
    let wrong = "_ws.malformed or ip.checksum.status==0 or tcp.checksum.status==0 or udp.checksum.status==0 \
                 or tcp.analysis.retransmission or tcp.analysis.lost_segment or tcp.analysis.ack_lost_segment";
    let found = send_support::output("tshark", &[&check[..], &more, &[wrong]].concat());
    assert_eq!(found.as_deref(), Some(""));
    let kinds = tshark(file.as_ref(), &["frame.protocols"]);
    let share = |what: &str| kinds.iter().filter(|k| k[20..].contains(what)).count();
    assert!(
        (1800..2400).contains(&share("tcp")),
        "TCP: {}",
        share("tcp")
    );
    assert!(
        (300..900).contains(&share("ipv6")),
        "IPv6: {}",
        share("ipv6")
    );
}
