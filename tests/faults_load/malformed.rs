//! What is no mirror traffic, and what hardly is.

use crate::common::{captures, readable_packets};
use crate::scene::{OTHER, Scene, frame, vxlan};

const N: usize = 1_000;

fn dropped_as(reason: &str, payloads: impl IntoIterator<Item = Vec<u8>>) {
    let mut scene = Scene::new("");
    let before = scene.sent - scene.mouse_sent;
    scene.flood(OTHER, payloads);
    let others = scene.sent - scene.mouse_sent - before;
    scene.end().assert_dropped(&[(reason, others)]);
}

#[test]
fn one_byte_datagrams_are_counted_as_short() {
    dropped_as("short", (0..N).map(|n| vec![n as u8]));
}

#[test]
fn empty_datagrams_are_counted_as_short() {
    dropped_as("short", (0..N).map(|_| Vec::new()));
}

#[test]
fn vxlan_headers_that_were_cut_are_counted_as_short() {
    dropped_as("short", (0..N).map(|n| vxlan(9, &[])[..1 + n % 7].to_vec()));
}

#[test]
fn vxlan_headers_without_a_frame_are_counted_as_empty() {
    dropped_as("empty_inner", (0..N).map(|n| vxlan(n as u32, &[])));
}

#[test]
fn vxlan_without_a_valid_vni_is_counted() {
    let without = |n: usize| {
        let mut payload = vxlan(n as u32, &frame(0, 60));
        payload[0] = 0xf7 & n as u8;
        payload
    };
    dropped_as("no_vni_flag", (0..N).map(without));
}

/// GENEVE with `options` (whole words), of a protocol, around a payload.
fn geneve(version: u8, options: &[u8], protocol: u16, inner: &[u8]) -> Vec<u8> {
    let [p1, p2] = protocol.to_be_bytes();
    let words = (options.len() / 4) as u8;
    [
        &[version << 6 | words, 0, p1, p2, 0, 0, 9, 0],
        options,
        inner,
    ]
    .concat()
}

fn ipv4(protocol: u8, fragment: u16, udp_port: u16, payload: &[u8]) -> Vec<u8> {
    let [l1, l2] = (20 + 8 + payload.len() as u16).to_be_bytes();
    let [f1, f2] = fragment.to_be_bytes();
    let ip = [
        0x45, 0, l1, l2, 0, 0, f1, f2, 64, protocol, 0, 0, 10, 9, 9, 9, 10, 0, 0, 1,
    ];
    let [p1, p2] = udp_port.to_be_bytes();
    let [u1, u2] = (8 + payload.len() as u16).to_be_bytes();
    [&ip[..], &[0, 1, p1, p2, u1, u2, 0, 0], payload].concat()
}

#[test]
fn geneve_with_options_that_overrun_is_counted() {
    // an option that claims up to 31 words, in a header that has two
    let option = |n: usize| [0x01, 0x08, 1, 2 + (n % 30) as u8, 0, 0, 0, 0];
    dropped_as(
        "bad_geneve",
        (0..N).map(|n| geneve(0, &option(n), 0x6558, &frame(0, 60))),
    );
}

#[test]
fn geneve_with_as_many_options_as_fit_is_walked_and_kept() {
    let mut scene = Scene::new("");
    // 63 words of empty options
    let options = [0x01, 0x08, 2, 0].repeat(63);
    let payloads = (0..N).map(|n| geneve(0, &options, 0x6558, &frame(n as u64, 60)));
    scene.flood(OTHER, payloads);
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.packets("vni-9"), N as u64);
}

#[test]
fn geneve_of_each_hostile_kind_is_counted_by_its_name() {
    let inner = vxlan(9, &frame(0, 60));
    let kinds = [
        geneve(0, &[], 0x0800, &ipv4(17, 0, 6081, &inner)),
        geneve(0, &[], 0x0800, &ipv4(6, 0, 4789, &inner)),
        geneve(0, &[], 0x0800, &ipv4(17, 0x2000, 4789, &inner)),
        geneve(0, &[], 0x0800, &ipv4(17, 0, 53, &inner)),
        geneve(0, &[], 0x0800, &ipv4(17, 0, 4789, &inner[..5])),
        geneve(0, &[], 0x0800, &[0x45; 12]),
    ];
    let mut scene = Scene::new("");
    let rounds = 150;
    scene.flood(OTHER, (0..rounds).flat_map(|_| kinds.clone()));
    scene.end().assert_dropped(&[
        ("nested_too_deep", rounds),
        ("geneve_not_vxlan", 2 * rounds),
        ("geneve_fragment", rounds),
        ("short", 2 * rounds),
    ]);
}

#[test]
fn bytes_at_random_are_counted_whatever_they_are() {
    let mut scene = Scene::new("");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut payload = move || {
        let len = next() % 200;
        (0..len).map(|_| next() as u8).collect::<Vec<u8>>()
    };
    let payloads: Vec<_> = (0..3 * N).map(|_| payload()).collect();
    // most have some VNI of their own: they are one session here
    scene.write_config("unknown = 'drop'");
    assert_eq!(scene.reload(), (true, String::new()));
    scene.flood(OTHER, payloads);
    let outcome = scene.end();
    let ended = outcome.ledger.sum("dropped") + outcome.ledger.filtered("unknown_session");
    assert_eq!(
        ended + outcome.mouse_sent,
        outcome.sent,
        "{}",
        outcome.ledger.0
    );
}

#[test]
fn hostile_packets_of_the_corpus_are_kept_as_inner_ones_and_counted_as_outer_ones() {
    let mut scene = Scene::new("unknown = 'keep'");
    let socket = scene.sender(OTHER);
    let mut inner = 0;
    for capture in captures("hostile") {
        if mirrortap::capfile::Reader::open(&capture).is_err() {
            continue;
        }
        for packet in readable_packets(&capture).0.iter().take(40) {
            if packet.data.len() > 60_000 {
                continue;
            }
            scene.send(&socket, &vxlan(66, &packet.data));
            inner += u64::from(!packet.data.is_empty());
            // with a first byte that makes it neither VXLAN with a VNI nor GENEVE of a known version
            let outer = [&[0xf0][..], &packet.data].concat();
            scene.send(&socket, &outer);
        }
    }
    let outcome = scene.end();
    assert_eq!(outcome.packets("vni-66"), inner);
    assert_eq!(
        outcome.ledger.number("written"),
        inner + outcome.mouse_sent,
        "{}",
        outcome.ledger.0
    );
}

#[test]
fn inner_frames_of_a_few_bytes_are_kept_as_they_are() {
    let mut scene = Scene::new("");
    scene.flood(OTHER, (0..N).map(|n| vxlan(66, &[0xaa; 13][..1 + n % 13])));
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.packets("vni-66"), N as u64);
}

#[test]
fn jumbo_frames_and_the_largest_datagrams_are_kept_whole() {
    let mut scene = Scene::new("");
    let sizes = [1_500, 9_001, 30_000, 65_507 - 8];
    scene.flood(
        OTHER,
        (0..40).flat_map(|n| sizes.map(|len| vxlan(66, &frame(n, len)))),
    );
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.packets("vni-66"), 160);
    let bytes: u64 = sizes.iter().map(|len| 40 * *len as u64).sum();
    let session = &outcome.ledger.sessions()["vni-66"];
    assert_eq!(session["bytes_written"].as_u64(), Some(bytes), "{session}");
}
