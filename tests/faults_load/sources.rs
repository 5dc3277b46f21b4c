//! Who sends: those who may not, very many, and those who share a VNI.

use std::net::Ipv4Addr;

use crate::common::Sensor;
use crate::scene::{MOUSE, OTHER, Scene, frame, sender6, vxlan};

const ALLOWED: &str = "[source]\nallowed_sources = ['127.0.0.0/24', '2001:db8::/32']\n";

fn strangers(sensor: &Sensor) -> serde_json::Value {
    sensor.status()["refused_sources"].clone()
}

#[test]
fn a_sender_that_is_not_allowed_is_refused_and_named() {
    let mut scene = Scene::new(ALLOWED);
    scene.flood(OTHER, (0..500).map(|n| vxlan(66, &frame(n, 100))));
    scene.flood(
        Ipv4Addr::new(127, 0, 66, 2),
        (0..100).map(|n| vxlan(7, &frame(n, 100))),
    );
    scene.flood(
        Ipv4Addr::new(127, 0, 0, 9),
        (0..100).map(|n| vxlan(9, &frame(n, 100))),
    );
    scene.settle();
    crate::scene::wait("status tells", || strangers(&scene.sensor)["known"] == 2);
    let told = strangers(&scene.sensor);
    let expected = serde_json::json!({"known": 2, "others": 0, "busiest": [
        {"source": "127.0.66.1", "datagrams": 500}, {"source": "127.0.66.2", "datagrams": 100}]});
    assert_eq!(told, expected);
    let (_, metrics) = scene.sensor.get("/metrics").unwrap();
    assert!(
        metrics.contains("mirrortap_receiver_refused_sources 2\n"),
        "{metrics}"
    );
    let outcome = scene.end();
    outcome.assert_dropped(&[("source_not_allowed", 600)]);
    assert_eq!(
        (outcome.packets("vni-9"), outcome.packets("vni-66")),
        (100, 0)
    );
}

#[test]
fn refused_datagrams_are_not_looked_into_whatever_they_hold() {
    let mut scene = Scene::new(ALLOWED);
    scene.flood(OTHER, (0..500).map(|n| vec![0; n % 9]));
    scene.end().assert_dropped(&[("source_not_allowed", 500)]);
}

#[test]
fn ipv6_senders_are_held_against_the_same_list() {
    let port = crate::common::free_udp_port();
    let more = format!("[::1]:{port}");
    let start = |config: &str| {
        let command = std::process::Command::new(crate::common::PROGRAM);
        Scene::with(command, config, &["--listen", &more])
    };
    for (network, refused) in [("2001:db8::/32", 200), ("::1/128", 0)] {
        let mut scene = start(&format!(
            "[source]\nallowed_sources = ['127.0.0.0/24', '{network}']\n"
        ));
        let six = sender6(port);
        for n in 0..200 {
            scene.send(&six, &vxlan(66, &frame(n, 100)));
        }
        let sensor = &scene.sensor;
        let sent = scene.sent;
        crate::scene::wait("all is received", || {
            sensor.status()["ledger"]["received"] == sent
        });
        let outcome = scene.end();
        let expected = [("source_not_allowed", refused)];
        outcome.assert_dropped(if refused > 0 { &expected } else { &[] });
        assert_eq!(outcome.packets("vni-66"), 200 - refused);
    }
}

#[test]
fn an_ipv4_sender_to_a_socket_of_both_families_is_an_ipv4_sender() {
    let port = crate::common::free_udp_port();
    let more = format!("[::]:{port}");
    let command = std::process::Command::new(crate::common::PROGRAM);
    let config = "[source]\nallowed_sources = ['127.0.0.2/32', '::ffff:127.0.5.0/120']\n";
    let mut scene = Scene::with(command, config, &["--listen", &more]);
    for (from, _) in [([127, 0, 5, 1], true), ([127, 0, 6, 1], false)] {
        let socket = crate::scene::sender(from.into(), port);
        for n in 0..100 {
            scene.send(&socket, &vxlan(66, &frame(n, 100)));
        }
    }
    let (sensor, sent) = (&scene.sensor, scene.sent);
    crate::scene::wait("all is received", || {
        sensor.status()["ledger"]["received"] == sent
    });
    let outcome = scene.end();
    outcome.assert_dropped(&[("source_not_allowed", 100)]);
    assert_eq!(outcome.packets("vni-66"), 100);
}

#[test]
fn a_flood_of_forged_senders_fills_no_table_and_hides_nobody() {
    let mut scene = Scene::new(ALLOWED);
    let busy = scene.sender(OTHER);
    for n in 0..3_000_u32 {
        let [_, _, c, d] = n.to_be_bytes();
        let socket = scene.sender(Ipv4Addr::new(127, 77, c, d));
        scene.send(&socket, &vxlan(66, &frame(0, 60)));
        if n % 4 == 0 {
            scene.send(&busy, &vxlan(66, &frame(0, 60)));
        }
    }
    scene.settle();
    let told = strangers(&scene.sensor);
    assert!(told["known"].as_u64().unwrap() <= 256, "{told}");
    assert_eq!(told["busiest"].as_array().unwrap().len(), 32);
    assert_eq!(told["busiest"][0]["source"], OTHER.to_string(), "{told}");
    scene.end().assert_dropped(&[("source_not_allowed", 3_750)]);
}

#[test]
fn two_sources_with_one_vni_are_two_sources_and_lose_nothing() {
    let mut scene = Scene::new("");
    let (one, two) = (
        scene.sender(OTHER),
        scene.sender(Ipv4Addr::new(127, 0, 66, 2)),
    );
    for n in 0..500 {
        scene.send(&one, &vxlan(66, &frame(n, 100)));
        scene.send(&two, &vxlan(66, &frame(n, 100)));
        // the mouse's VNI, which only the mouse may claim
        scene.send(&two, &vxlan(7, &frame(n, 100)));
    }
    scene.settle();
    let (sensor, sent) = (&scene.sensor, scene.sent);
    crate::scene::wait("all is received", || {
        sensor.status()["ledger"]["received"] == sent
    });
    assert_eq!(scene.sensor.status()["sessions"]["vni-66"]["peers"], 2);
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(
        (outcome.packets("vni-66"), outcome.packets("vni-7")),
        (1_000, 500)
    );
}

#[test]
fn vnis_that_nobody_knows_are_kept_each_by_itself() {
    let mut scene = Scene::new("");
    scene.flood(
        OTHER,
        (0..600_u32).map(|n| vxlan(0xff_ffff - n, &frame(0, 60))),
    );
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.ledger.sessions().len(), 601);
    assert_eq!(outcome.packets("vni-16777215"), 1);
}

#[test]
fn a_port_scan_inside_the_mirrored_traffic_costs_no_packet() {
    // every packet is a flow of its own, for two workers
    let mut scene = Scene::new("[threads]\nworkers = 2\n");
    let syn = |n: u32| {
        let mut frame = vec![0; 14 + 20 + 20];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..34].copy_from_slice(&[
            0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame[34..36].copy_from_slice(&40_000_u16.to_be_bytes());
        frame[36..38].copy_from_slice(&(n as u16).to_be_bytes());
        frame[46] = 0x50;
        frame[47] = 2;
        vxlan(66, &frame)
    };
    scene.flood(OTHER, (0..10_000).map(syn));
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.packets("vni-66"), 10_000);
}

#[test]
fn ten_thousand_sessions_with_a_packet_each_lose_none() {
    // one in ten keeps what it gets, so that the test does not take as long as ten thousand syncs
    let filter = |n: u32| match n % 10 {
        0 => "",
        _ => "[session.filter]\nexpression = 'ip'\n",
    };
    let session = |n: u32| {
        let vni = 1_000 + n;
        let filter = filter(n);
        format!("[[session]]\nname = 's{n}'\nvni = {vni}\nsource = ['127.0.66.0/24']\n{filter}")
    };
    let sessions: String = (0..10_000).map(session).collect();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let text = format!(
        "shutdown_timeout = '120s'\n[control]\nsocket = '{}'\n[[session]]\nname = 'mouse'\nvni = 7\nsource = ['{MOUSE}/32']\n{sessions}",
        socket.display()
    );
    let sensor = Sensor::start(folder.path(), &text, &[]);
    let mut scene = Scene::over(sensor, folder, "");
    scene.flood(
        OTHER,
        (0..10_000_u32).map(|n| vxlan(1_000 + n, &frame(0, 60))),
    );
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.ledger.filtered("expression"), 9_000);
    assert_eq!(outcome.ledger.number("written"), outcome.sent - 9_000);
    assert_eq!((outcome.packets("s0"), outcome.packets("s9990")), (1, 1));
    assert_eq!(outcome.ledger.sessions().len(), 10_001);
}
