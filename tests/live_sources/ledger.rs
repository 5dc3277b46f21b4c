//! Every datagram ends in one counter, also when there are too many of them.

use std::time::Duration;

use mirrortap::generator::sequence;

use crate::net_support::{Net, SENSOR};
use crate::scene::{Scene, send, sending, sent};

/// What the pair of interfaces itself had no room for: it never reached the sensor's.
fn refused_by_the_link(net: &Net) -> u64 {
    let out = net.run("a", &["cat", "/sys/class/net/mt0/statistics/tx_dropped"]);
    String::from_utf8_lossy(&out.stdout).trim().parse().unwrap()
}

pub fn what_a_frozen_sensor_has_no_room_for_is_counted(mut scene: Scene) {
    scene.source = "receive_buffer = '256KiB'".to_owned();
    let net = scene.net();
    let before = refused_by_the_link(&net);
    let mut sensor = scene.start(&net);
    // a process that does not run is slower than any packet rate
    sensor.signal("-STOP");
    let sent = send(&net, SENSOR, "--vni 1-8 --count 30000 --size 600");
    sensor.signal("-CONT");
    sensor.wait("the backlog is read", |s| {
        let before = s.received();
        std::thread::sleep(Duration::from_millis(200));
        before > 0 && s.received() == before
    });
    let link = refused_by_the_link(&net) - before;
    let outcome = sensor.stop();
    let ledger = &outcome.ledger;
    let (received, lost) = (ledger.number("received"), ledger.sum("kernel_dropped"));
    assert!(lost > 0, "nothing was lost: the test shows nothing");
    assert_eq!(received + lost + link, sent, "link {link}, {}", ledger.0);
    assert_eq!(ledger.number("written"), outcome.all_packets().len() as u64);
}

pub fn a_stop_under_load_writes_all_that_was_received(scene: Scene) {
    let net = scene.net();
    let sensor = scene.start(&net);
    let sender = sending(&net, SENSOR, "--vni 1 --flows 1 --count 20000 --rate 8000");
    std::thread::sleep(Duration::from_millis(1200));
    let outcome = sensor.stop();
    let sent = sent(&sender.wait_with_output().unwrap());
    let ledger = &outcome.ledger;
    let received = ledger.number("received");
    assert!(
        received > 1000 && received < sent,
        "it ran under load: {}",
        ledger.0
    );
    let packets = outcome.packets(1);
    assert_eq!(
        [ledger.number("written"), packets.len() as u64],
        [received; 2]
    );
    let marks = packets
        .iter()
        .map(|p| sequence::read(&p.data).unwrap().number);
    assert!(
        marks.eq(0..received),
        "none is missing before the last one that was taken"
    );
}

pub fn an_idle_sensor_received_nothing(scene: Scene) {
    let net = scene.net();
    let sensor = scene.start(&net);
    // neighbours and ping are not for us
    net.run("a", &["ping", "-q", "-c", "20", "-i", "0.01", SENSOR]);
    let outcome = sensor.stop();
    outcome.is_whole(0);
    assert_eq!(outcome.ledger.0["dropped"], serde_json::json!({}));
}
