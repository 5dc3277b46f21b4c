//! Interfaces that come and go, and what is told of a source.

use std::time::Duration;

use crate::net_support::{DEVICE, Net, SENSOR};
use crate::raw;
use crate::scene::{Scene, send};

fn set(net: &Net, way: &str) {
    net.run("b", &["ip", "link", "set", DEVICE, way]);
}

pub fn an_interface_that_was_down_is_read_again(mut scene: Scene) {
    scene.listen = vec![format!("{SENSOR}:4789")];
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let mut sent = send(&net, SENSOR, "--vni 1 --count 200 --rate 2000");
    sensor.wait_received(sent);
    set(&net, "down");
    std::thread::sleep(Duration::from_millis(300));
    let (code, said) = sensor.get("/healthz").unwrap();
    assert_eq!(code, 200, "it is not dead, it waits: {said}");
    set(&net, "up");
    net.run("a", &["ping", "-q", "-c", "1", "-w", "10", SENSOR]);
    sent += send(&net, SENSOR, "--vni 1 --count 300 --rate 2000");
    sensor.wait_received(sent);
    sensor.stop().is_whole(sent);
}

pub fn an_interface_that_is_down_at_the_start_is_read_when_it_comes_up(scene: Scene) {
    let net = scene.net();
    set(&net, "down");
    let mut sensor = scene.start(&net);
    set(&net, "up");
    net.run("a", &["ping", "-q", "-c", "1", "-w", "10", SENSOR]);
    let sent = send(&net, SENSOR, "--vni 1 --count 300 --rate 2000");
    sensor.wait_received(sent);
    sensor.stop().is_whole(sent);
}

/// Those that read an interface end with it, and say so.
pub fn a_removed_interface_is_named(scene: Scene) {
    let net = scene.net();
    let mut sensor = scene.start(&net);
    net.run("b", &["ip", "link", "del", DEVICE]);
    sensor.wait("health tells", |s| {
        let (code, said) = s.get("/healthz").unwrap();
        code == 503 && said.contains(DEVICE)
    });
    sensor.wait("the log tells", |s| {
        let log = s.log();
        log.contains(DEVICE) && log.contains("is gone")
    });
}

/// An interface is given a name while it is down, by udev at boot for one.
pub fn a_renamed_interface_is_still_read(scene: Scene) {
    let net = scene.net();
    let mut sensor = scene.start(&net);
    set(&net, "down");
    std::thread::sleep(Duration::from_millis(300));
    net.run("b", &["ip", "link", "set", DEVICE, "name", "other"]);
    std::thread::sleep(Duration::from_millis(300));
    net.run("b", &["ip", "link", "set", "other", "up"]);
    net.run("a", &["ping", "-q", "-c", "1", "-w", "10", SENSOR]);
    let sent = send(&net, SENSOR, "--vni 1 --count 300 --rate 2000");
    sensor.wait_received(sent);
    sensor.stop().is_whole(sent);
}

pub fn a_fragment_that_a_removed_interface_left_alone_is_counted(scene: Scene) {
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let first = raw::ipv4(7, 0, true, &raw::vxlan(1, 1, 50)[..32]);
    raw::put(&net, &[[raw::ethernet(&net, 0x0800), first].concat()]);
    std::thread::sleep(Duration::from_millis(300));
    net.run("b", &["ip", "link", "del", DEVICE]);
    sensor.wait("health tells", |s| s.get("/healthz").unwrap().0 == 503);
    let outcome = sensor.stop();
    let dropped = outcome.ledger.0["dropped"]["fragment_incomplete"].as_u64();
    let counts = (outcome.ledger.number("received"), dropped);
    assert_eq!(counts, (1, Some(1)), "{}", outcome.ledger.0);
}

/// A pair of interfaces has no clock of its own.
pub fn a_card_without_receive_times_is_told(mut scene: Scene) {
    scene.source = "timestamps = 'hardware'".to_owned();
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let sent = send(&net, SENSOR, "--vni 1 --count 200 --rate 2000");
    sensor.wait_received(sent);
    let source = sensor.status()["source"].clone();
    let each_is_counted = source["stray_times"] == sent;
    assert!(
        source["timestamps"] == "kernel" || each_is_counted,
        "{source}"
    );
    let outcome = sensor.stop();
    outcome.is_whole(sent);
    let says = |words| outcome.log.contains("WARN") && outcome.log.contains(words);
    assert!(says("receive times") || says("no time"), "{}", outcome.log);
}

pub fn status_and_metrics_tell_the_kind(scene: Scene) {
    let net = scene.net();
    let sensor = scene.start(&net);
    let source = sensor.status()["source"].clone();
    assert_eq!(source["kind"], scene.kind);
    assert_eq!(
        (&source["chosen"], &source["timestamps"]),
        (&false.into(), &"kernel".into())
    );
    let (_, metrics) = sensor.get("/metrics").unwrap();
    let line = metrics
        .lines()
        .find(|l| l.starts_with("mirrortap_source_kind_info{"));
    let line = line.expect("the metric is there");
    for label in [
        format!("kind=\"{}\"", scene.kind),
        "chosen=\"configured\"".into(),
    ] {
        assert!(line.contains(&label), "{line}");
    }
    let mode = source["mode"].as_str().unwrap();
    assert!(!mode.is_empty() && line.contains(mode), "{line}");
    let outcome = sensor.stop();
    let told = format!("source=\"{}\"", scene.kind);
    assert!(
        outcome.log.contains("Listening") && outcome.log.contains(&told),
        "{}",
        outcome.log
    );
}
