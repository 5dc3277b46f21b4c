//! Outer fragments, put together again.

use mirrortap::capfile::LinkType;
use mirrortap::packet::{DropReason, Tally};

use crate::support::{AWS, Frame, copy, frames, replay_one, save, vxlan};

/// Cuts Ethernet frames with IPv4 or IPv6 into fragments of at most `size` bytes of IP payload.
fn fragmented(frames: &[Frame], size: usize, ids: bool) -> Vec<Vec<Frame>> {
    let cut = |(i, frame): (usize, &Frame)| {
        let id = if ids { i as u32 } else { 0 };
        match frame.data[14] >> 4 {
            4 => fragments4(frame, size, id as u16),
            _ => fragments6(frame, size, id),
        }
    };
    frames.iter().enumerate().map(cut).collect()
}

fn fragments4(frame: &Frame, size: usize, id: u16) -> Vec<Frame> {
    let (head, body) = frame.data.split_at(34);
    let pieces = body.chunks(size).count();
    let piece = |(i, bytes): (usize, &[u8])| {
        let mut head = head.to_vec();
        let more = if i + 1 < pieces { 0x2000 } else { 0 };
        head[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
        head[18..20].copy_from_slice(&id.to_be_bytes());
        head[20..22].copy_from_slice(&((i * size / 8) as u16 | more).to_be_bytes());
        let data = [head, bytes.to_vec()].concat();
        Frame {
            time: frame.time,
            origlen: data.len() as u32,
            data,
        }
    };
    body.chunks(size).enumerate().map(piece).collect()
}

fn fragments6(frame: &Frame, size: usize, id: u32) -> Vec<Frame> {
    let (head, body) = frame.data.split_at(54);
    let pieces = body.chunks(size).count();
    let piece = |(i, bytes): (usize, &[u8])| {
        let mut head = head.to_vec();
        head[18..20].copy_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
        let next = std::mem::replace(&mut head[20], 44);
        let placing = (i * size) as u16 | u16::from(i + 1 < pieces);
        head.extend([next, 0]);
        head.extend(placing.to_be_bytes());
        head.extend(id.to_be_bytes());
        let data = [head, bytes.to_vec()].concat();
        Frame {
            time: frame.time,
            origlen: data.len() as u32,
            data,
        }
    };
    body.chunks(size).enumerate().map(piece).collect()
}

const FRAGMENTABLE: [&str; 4] = [
    AWS,
    "zeek-vxlan-encapsulated-http.pcap",
    "tcpdump-gso-ipv4-geneve-ipv4.pcap",
    "tcpdump-gso-ipv6-vxlan-ipv6.pcap",
];

#[test]
fn fragments_in_any_order_give_the_datagrams_of_the_whole_packets() {
    for name in FRAGMENTABLE {
        let Some(path) = vxlan(name) else { return };
        let plain = replay_one(&path);
        let wholes = frames(&path);
        for size in [8, 64, 1480] {
            let mut groups = fragmented(&wholes, size, true);
            let in_order = save(LinkType::ETHERNET, &groups.concat_frames());
            for group in &mut groups {
                let half = group.len() / 2;
                group.rotate_left(half);
                group.reverse();
            }
            let shuffled = save(LinkType::ETHERNET, &groups.concat_frames());
            for file in [in_order, shuffled] {
                let outcome = replay_one(file.path());
                assert_eq!(
                    outcome.contents(),
                    plain.contents(),
                    "{name} in pieces of {size}"
                );
                assert_eq!(outcome.merged, outcome.records - wholes.len() as u64);
                assert_eq!(outcome.refused, Tally::default());
            }
        }
    }
}

trait ConcatFrames {
    fn concat_frames(&self) -> Vec<Frame>;
}

impl ConcatFrames for Vec<Vec<Frame>> {
    fn concat_frames(&self) -> Vec<Frame> {
        self.iter().flatten().map(copy).collect()
    }
}

#[test]
fn a_lost_fragment_costs_its_own_packet_only_even_when_all_packets_are_numbered_0() {
    let Some(path) = vxlan(AWS) else { return };
    let plain = replay_one(&path);
    let mut groups = fragmented(&frames(&path), 64, false);
    let lost = groups[7].len() as u64 - 1;
    groups[7].pop();
    let outcome = replay_one(save(LinkType::ETHERNET, &groups.concat_frames()).path());
    let mut expected = plain.contents();
    expected.remove(7);
    assert_eq!(outcome.contents(), expected);
    assert_eq!(outcome.refused_as(DropReason::FragmentIncomplete), lost);
}

#[test]
fn fragments_captured_twice_are_merged_and_cut_ones_are_refused() {
    let Some(path) = vxlan("tcpdump-gso-ipv4-vxlan-ipv4.pcap") else {
        return;
    };
    let plain = replay_one(&path);
    let mut groups = fragmented(&frames(&path), 1480, true);
    let last = groups[0].pop().unwrap();
    let twice = vec![groups.concat_frames(), groups.concat_frames(), vec![last]];
    let outcome = replay_one(save(LinkType::ETHERNET, &twice.concat_frames()).path());
    assert_eq!(outcome.contents(), plain.contents());
    assert_eq!(outcome.merged, outcome.records - 1);

    for frame in &mut groups[0] {
        frame.data.truncate(100);
    }
    let outcome = replay_one(save(LinkType::ETHERNET, &groups[0]).path());
    assert_eq!(
        outcome.refused_as(DropReason::FragmentIncomplete),
        outcome.records
    );
}
