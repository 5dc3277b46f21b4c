//! Same bytes, same order, same times: whatever the outer packets look like.

use std::collections::BTreeMap;

use mirrortap::generator::sequence;
use mirrortap::time;

use crate::common::Packet;
use crate::net_support::{DEVICE, Net, SENSOR};
use crate::raw;
use crate::scene::{Outcome, Scene, Watch, send, targets};
use crate::wire::{self, Seen};

/// How far a time may stand from tcpdump's on the same interface.
const CLOSE: u64 = 2_000_000;
/// The same against the sender's interface, where the machine may rest between the two.
const NEAR: u64 = 200_000_000;

/// The session's file holds what tcpdump saw, each once and in that order.
fn is_what_was_seen(outcome: &Outcome, seen: &[Seen]) {
    let mut sessions: BTreeMap<u32, Vec<&[u8]>> = BTreeMap::new();
    for one in seen {
        sessions.entry(one.vni).or_default().push(&one.frame);
    }
    for (vni, frames) in sessions {
        let packets = outcome.packets(vni);
        let ours: Vec<&[u8]> = packets.iter().map(|p| p.data.as_slice()).collect();
        let place = ours.iter().zip(&frames).position(|(a, b)| a != b);
        let counts = (ours.len(), frames.len());
        assert!(
            place.is_none() && counts.0 == counts.1,
            "VNI {vni}: {counts:?} packets, the first that differs is {place:?}"
        );
        let lengths = packets.iter().all(|p| p.origlen as usize == p.data.len());
        assert!(lengths, "VNI {vni}: the wire lengths are told");
    }
}

/// Times do not go back, and are tcpdump's.
fn is_when_it_was_seen(packets: &[Packet], seen: &[Seen], within: u64) {
    let when: BTreeMap<&[u8], u64> = seen.iter().map(|s| (s.frame.as_slice(), s.nanos)).collect();
    assert!(packets.is_sorted_by_key(|p| p.nanos), "in order of time");
    for packet in packets {
        let theirs = when[packet.data.as_slice()];
        let apart = packet.nanos.abs_diff(theirs);
        assert!(
            apart <= within,
            "{apart} ns apart: {} and {theirs}",
            packet.nanos
        );
    }
}

/// Sends to both address families, and compares with tcpdump on the sender's side.
fn compare(scene: &Scene, net: &Net, more: &str) -> Outcome {
    let mut sensor = scene.start(net);
    let watch = Watch::start(net, "a", "mt0", "ip or ip6");
    let mut sent = 0;
    for (vni, target) in targets().iter().enumerate() {
        sent += send(net, target, &format!("--vni {vni} {more}"));
        sensor.wait_received(sent);
    }
    let seen = wire::unwrap(&watch.stop());
    assert_eq!(seen.len() as u64, sent, "tcpdump saw all of them");
    let outcome = sensor.stop();
    outcome.is_whole(sent);
    is_what_was_seen(&outcome, &seen);
    outcome
}

pub fn every_datagram_is_written_once_as_it_was_sent_and_when_it_came(scene: Scene) {
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let [left, right] =
        [("a", "mt0"), ("b", DEVICE)].map(|(host, device)| Watch::start(&net, host, device, "udp"));
    let start = time::now().nanos();
    let mut sent = 0;
    for (vni, target) in [4, 6].iter().zip(targets()) {
        sent += send(
            &net,
            &target,
            &format!("--vni {vni} --count 1500 --rate 6000"),
        );
    }
    let end = time::now().nanos();
    sensor.wait_received(sent);
    let [left, right] = [left, right].map(|watch| wire::unwrap(&watch.stop()));
    let outcome = sensor.stop();
    outcome.is_whole(sent);
    assert_eq!(left.len() as u64, sent, "tcpdump saw all of them");
    is_what_was_seen(&outcome, &left);
    // what XDP takes never reaches a packet tap on the same interface
    let (seen, within) = match scene.kind {
        "xdp" => (&left, NEAR),
        _ => (&right, CLOSE),
    };
    for vni in [4, 6] {
        let packets = outcome.packets(vni);
        is_when_it_was_seen(&packets, seen, within);
        for packet in &packets {
            let mark = sequence::read(&packet.data).expect("its mark is whole");
            let sending = start.max(mark.time.nanos())..end + NEAR;
            assert!(
                sending.contains(&packet.nanos),
                "{} is not in {sending:?}",
                packet.nanos
            );
        }
    }
}

pub fn datagrams_in_fragments_arrive_whole(scene: Scene) {
    let net = scene.net();
    compare(&scene, &net, "--count 300 --rate 2000 --size 4000");
}

pub fn jumbo_frames_arrive_whole(mut scene: Scene) {
    scene.mtu = 9001;
    let net = scene.net();
    compare(&scene, &net, "--count 600 --rate 3000 --size 8900");
}

pub fn a_load_balancers_geneve_is_taken_on_its_port(mut scene: Scene) {
    scene.listen.push("[::]:6081".to_owned());
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let watch = Watch::start(&net, "a", "mt0", "udp");
    let both = ["--shape gwlb --vni 7", "--vni 8"];
    let each = |shape| {
        send(
            &net,
            SENSOR,
            &format!("{shape} --count 500 --rate 4000 --size 1200"),
        )
    };
    let sent = both.map(each).iter().sum();
    sensor.wait_received(sent);
    let seen = wire::unwrap(&watch.stop());
    let outcome = sensor.stop();
    outcome.is_whole(sent);
    assert_eq!(seen.len() as u64, sent);
    is_what_was_seen(&outcome, &seen);
}

pub fn several_receivers_get_each_datagram_once(mut scene: Scene) {
    (scene.queues, scene.receivers) = (2, 2);
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let sent = send(&net, SENSOR, "--vni 1-20 --count 4000 --rate 8000");
    sensor.wait_received(sent);
    let outcome = sensor.stop();
    outcome.is_whole(sent);
    let packets = outcome.all_packets();
    let marks = packets
        .iter()
        .map(|p| sequence::read(&p.data).unwrap().number);
    let mut numbers: Vec<u64> = marks.collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "each once");
}

/// Datagrams of several fragments each, of two datagrams at a time, in an order of which `shuffle` is the number.
fn shuffled(net: &Net, vni: u32, is_v6: bool) -> Vec<Vec<u8>> {
    let header = raw::ethernet(net, if is_v6 { 0x86dd } else { 0x0800 });
    let mut all = Vec::new();
    for pair in 0..20_u32 {
        let mut frames = Vec::new();
        for number in [2 * pair, 2 * pair + 1] {
            let udp = raw::vxlan(vni, number, 3000 + 17 * number as usize);
            let chunks: Vec<&[u8]> = udp.chunks(1000).collect();
            for (i, chunk) in chunks.iter().enumerate() {
                let (offset, more) = (i * 1000, i + 1 < chunks.len());
                let ip = if is_v6 {
                    raw::ipv6(number + 1, offset, more, chunk)
                } else {
                    raw::ipv4(number as u16 + 1, offset, more, chunk)
                };
                frames.push([&header[..], &ip].concat());
            }
        }
        // backwards, or every third one of a circle
        let n = frames.len();
        let step = if n.is_multiple_of(3) { 5 } else { 3 };
        let order = (0..n).map(|i| {
            if pair % 2 == 0 {
                n - 1 - i
            } else {
                i * step % n
            }
        });
        all.extend(order.map(|i| frames[i].clone()));
    }
    all
}

pub fn fragments_that_come_out_of_order_make_the_same_datagram(scene: Scene) {
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let watch = Watch::start(&net, "a", "mt0", "ip or ip6");
    raw::put(&net, &shuffled(&net, 14, false));
    raw::put(&net, &shuffled(&net, 16, true));
    sensor.wait_received(80);
    let seen = wire::unwrap(&watch.stop());
    let outcome = sensor.stop();
    outcome.is_whole(80);
    assert_eq!(seen.len(), 80);
    is_what_was_seen(&outcome, &seen);
}

/// Sends frames with these tags, and compares with what tcpdump saw.
fn tagged(scene: &Scene, tags: &[&[u16]]) {
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let watch = Watch::start(&net, "a", "mt0", "");
    let addresses = raw::ethernet(&net, 0)[..12].to_vec();
    let mut frames = Vec::new();
    for number in 0..100 {
        for (vni, tags) in (1..).zip(tags) {
            let tags = tags.iter().flat_map(|word| word.to_be_bytes());
            let tags: Vec<u8> = tags.collect();
            let udp = raw::vxlan(vni, number, 500 + number as usize);
            let v4 = [&[8, 0][..], &raw::ipv4(number as u16, 0, false, &udp)].concat();
            frames.push([&addresses[..], &tags, &v4].concat());
        }
    }
    raw::put(&net, &frames);
    let sent = frames.len() as u64;
    sensor.wait_received(sent);
    let counted = sensor.status()["source"]["tagged"].as_u64().unwrap();
    let seen = wire::unwrap(&watch.stop());
    let outcome = sensor.stop();
    outcome.is_whole(sent);
    assert_eq!(seen.len() as u64, sent);
    is_what_was_seen(&outcome, &seen);
    if scene.kind == "packet" {
        let with = frames.iter().filter(|f| f[12..14] != [8, 0]).count() as u64;
        assert_eq!(counted, with, "tags that were taken off are counted");
    }
}

/// A tag without a VLAN is for everybody.
pub fn priority_tags_are_looked_through(scene: Scene) {
    tagged(&scene, &[&[], &[0x8100, 0xA000]]);
}

/// Those that read an interface need no interface for each VLAN.
pub fn vlan_tags_are_looked_through(scene: Scene) {
    let double: &[u16] = &[0x88A8, 9, 0x8100, 7];
    tagged(
        &scene,
        &[&[], &[0x8100, 5], double, &[0x8100, 9, 0x8100, 7]],
    );
}
