//! Link layers, ports, snaplen and padding.

use std::path::Path;

use mirrortap::capfile::LinkType;
use mirrortap::packet::DropReason;
use mirrortap::packet::Ports;

use crate::support::{AWS, Outcome, copy, frames, replay, replay_one, save, vxlan};

/// The same frames behind another link layer: `head` makes it from the EtherType.
fn relinked(path: &Path, link: LinkType, head: impl Fn([u8; 2]) -> Vec<u8>) -> Outcome {
    let mut frames = frames(path);
    for frame in &mut frames {
        let body = frame.data.split_off(14);
        let head = head([frame.data[12], frame.data[13]]);
        frame.origlen = frame.origlen - 14 + head.len() as u32;
        frame.data = [head, body].concat();
    }
    replay_one(save(link, &frames).path())
}

fn ethernet(tags: usize) -> impl Fn([u8; 2]) -> Vec<u8> {
    move |ethertype| {
        let tags = [0x81, 0, 0, 1, 0x88, 0xA8, 0, 2].repeat(3)[..tags * 4].to_vec();
        [vec![2; 12], tags, ethertype.to_vec()].concat()
    }
}

fn family(order: fn(u32) -> [u8; 4], v6: u32) -> impl Fn([u8; 2]) -> Vec<u8> {
    move |ethertype| order(if ethertype == [8, 0] { 2 } else { v6 }).to_vec()
}

#[test]
fn every_link_layer_that_carries_ip_gives_the_same_datagrams() {
    let sll = |t: [u8; 2]| [vec![0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], t.to_vec()].concat();
    let sll2 = |t: [u8; 2]| [t.to_vec(), vec![0; 18]].concat();
    let sll2_vlan = |t: [u8; 2]| [vec![0x81, 0], vec![0; 18], vec![0, 5], t.to_vec()].concat();
    for name in [
        AWS,
        "tcpdump-gso-ipv6-vxlan-ipv6.pcap",
        "tcpdump-bigtcp-ipv4-vxlan-ipv4.pcap",
    ] {
        let Some(path) = vxlan(name) else { return };
        let plain = replay_one(&path);
        for (link, outcome) in [
            (LinkType::RAW, relinked(&path, LinkType::RAW, |_| vec![])),
            (LinkType(12), relinked(&path, LinkType(12), |_| vec![])),
            (LinkType(14), relinked(&path, LinkType(14), |_| vec![])),
            (LinkType::IPV4, relinked(&path, LinkType::IPV4, |_| vec![])),
            (
                LinkType::LINUX_SLL,
                relinked(&path, LinkType::LINUX_SLL, sll),
            ),
            (
                LinkType::LINUX_SLL2,
                relinked(&path, LinkType::LINUX_SLL2, sll2),
            ),
            (
                LinkType::LINUX_SLL2,
                relinked(&path, LinkType::LINUX_SLL2, sll2_vlan),
            ),
            (
                LinkType::NULL,
                relinked(&path, LinkType::NULL, family(u32::to_le_bytes, 30)),
            ),
            (
                LinkType::NULL,
                relinked(&path, LinkType::NULL, family(u32::to_be_bytes, 10)),
            ),
            (
                LinkType::LOOP,
                relinked(&path, LinkType::LOOP, family(u32::to_be_bytes, 24)),
            ),
            (
                LinkType::ETHERNET,
                relinked(&path, LinkType::ETHERNET, ethernet(4)),
            ),
        ] {
            assert_eq!(outcome.got, plain.got, "{name} as {link}");
        }
    }
}

#[test]
fn a_fifth_vlan_tag_and_an_unknown_link_type_are_refused_by_name() {
    let Some(path) = vxlan(AWS) else { return };
    let outcome = relinked(&path, LinkType::ETHERNET, ethernet(5));
    assert_eq!(outcome.refused_as(DropReason::NotIp), 100);
    let outcome = relinked(&path, LinkType::PPP, |_| vec![]);
    assert_eq!(outcome.refused_as(DropReason::LinkType), 100);
    let other = Ports {
        vxlan: 4790,
        geneve: 6081,
    };
    assert_eq!(
        replay(&[&path], other).refused_as(DropReason::WrongPort),
        100
    );
}

#[test]
fn a_record_cut_by_the_snaplen_tells_what_is_missing_and_padding_is_no_payload() {
    let Some(path) = vxlan(AWS) else { return };
    let plain = replay_one(&path);
    let mut cut = frames(&path);
    let mut padded = frames(&path);
    for frame in &mut cut {
        frame.data.truncate(100);
    }
    for frame in &mut padded {
        frame.data.extend([0xEE; 20]);
        frame.origlen += 20;
    }
    assert_eq!(
        replay_one(save(LinkType::ETHERNET, &padded).path()).got,
        plain.got
    );
    let outcome = replay_one(save(LinkType::ETHERNET, &cut).path());
    for (short, whole) in outcome.got.iter().zip(&plain.got) {
        assert_eq!(short.payload, whole.payload[..58]);
        assert_eq!(
            short.payload.len() + short.cut as usize,
            whole.payload.len()
        );
    }
}

#[test]
fn the_largest_records_are_replayed_among_small_ones() {
    let Some(path) = vxlan("tcpdump-bigtcp-ipv4-vxlan-ipv4.pcap") else {
        return;
    };
    let plain = replay_one(&path);
    let mut big = frames(&path);
    let small = frames(&path);
    // The largest record that there may be, and one of 80,116 bytes.
    big[0].data.resize(262_144, 7);
    big[0].origlen = 262_144;
    let pairs = (0..100)
        .flat_map(|_| [copy(&big[0]), copy(&small[0])])
        .collect::<Vec<_>>();
    let outcome = replay_one(save(LinkType::ETHERNET, &pairs).path());
    assert_eq!((outcome.got.len(), outcome.refused.received), (200, 0));
    for pair in outcome.got.chunks(2) {
        assert_eq!(pair[0].payload.len(), 262_144 - 42);
        assert_eq!(pair[1].payload, plain.got[0].payload);
    }
}
