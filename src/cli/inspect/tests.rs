//! The parts of the summary that a capture of the corpus would not put to the test.

use std::time::Duration;

use crate::cli::inspect::summary::Times;
use crate::cli::inspect::tally::Tally;
use crate::cli::inspect::tunnel::{Tunnel, Wrapping};
use crate::headers::walk_ip;
use crate::time::Timestamp;

/// UDP in IPv4 from 10.0.0.`source`.
fn udp(source: u8, dport: u16, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = (28 + payload.len() as u16).to_be_bytes();
    let [p0, p1] = dport.to_be_bytes();
    let head = [0x45, 0, l0, l1, 0, 0, 0, 0, 64, 17, 0, 0];
    let addresses = [10, 0, 0, source, 10, 0, 0, 99];
    let ports = [0xff, 0x80, p0, p1, 0, 0, 0, 0];
    [&head[..], &addresses, &ports, payload].concat()
}

fn tunnel(packet: &[u8]) -> Option<Tunnel> {
    Tunnel::of(&walk_ip(packet), packet)
}

const VXLAN: [u8; 8] = [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0];

#[test]
fn a_tunnel_is_told_by_its_port_and_its_flag() {
    let found = tunnel(&udp(1, 4789, &VXLAN)).unwrap();
    assert_eq!((found.wrapping, found.vni), (Wrapping::Vxlan, 0x12_3456));
    assert_eq!(found.source.to_string(), "10.0.0.1");
    assert_eq!(tunnel(&udp(1, 4789, &[0; 8])), None, "no I flag");
    assert_eq!(tunnel(&udp(1, 4790, &VXLAN)), None, "another port");
    assert_eq!(tunnel(&udp(1, 4789, &VXLAN[..7])), None, "cut");
}

#[test]
fn vxlan_in_geneve_counts_for_the_mirrored_interface() {
    let inner = udp(7, 4789, &VXLAN);
    let geneve = [&[1, 0, 0x08, 0, 0, 0, 5, 0, 0, 0, 0, 0][..], &inner].concat();
    let found = tunnel(&udp(1, 6081, &geneve)).unwrap();
    assert_eq!(
        (found.wrapping, found.vni),
        (Wrapping::VxlanInGeneve, 0x12_3456)
    );
    assert_eq!(found.source.to_string(), "10.0.0.7");
    let ethernet = [0, 0, 0x65, 0x58, 0, 0, 5, 0, 0, 0, 0, 0];
    let found = tunnel(&udp(1, 6081, &ethernet)).unwrap();
    assert_eq!((found.wrapping, found.vni), (Wrapping::Geneve, 5));
}

#[test]
fn keys_beyond_the_bound_are_counted_together() {
    let mut tally = Tally::bounded(100);
    (0..102).for_each(|key| tally.add(key, 10));
    tally.add(0, 5);
    assert_eq!((tally.len(), tally.beyond.packets), (100, 2));
    assert_eq!(tally.top(1)[0].0, 0);
    assert_eq!(tally.top(1)[0].1.bytes, 15);
}

#[test]
fn a_silence_ends_with_a_packet_later_than_all_before() {
    let mut times = Times::default();
    for (n, seconds) in [(1, 100), (2, 110), (3, 0), (4, 105), (5, 112)] {
        times.add(n, Timestamp::from_parts(seconds, 0));
    }
    let longest = times.longest.unwrap();
    assert_eq!(
        (longest.length, longest.before),
        (Duration::from_secs(10), 2)
    );
    let back = times.furthest_back.unwrap();
    assert_eq!(
        (times.backwards, back.length, back.before),
        (1, Duration::from_secs(5), 4)
    );
    assert_eq!(times.unknown, 1, "the epoch stands for no time");
    let (first, last) = times.span.unwrap();
    assert_eq!(last.since(first), Duration::from_secs(12));
}
