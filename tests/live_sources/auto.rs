//! `auto`: the fastest that can be had, and which it was.

use crate::net_support::SENSOR;
use crate::scene::{Scene, Sensor, send};

/// Kinds that `auto` prefers to sockets, the fastest first.
const FASTER: [&str; 2] = ["xdp", "packet"];

fn is_told(sensor: &mut Sensor, kind: &str, refused: &[&str]) {
    let source = sensor.status()["source"].clone();
    assert_eq!(
        (&source["kind"], &source["chosen"]),
        (&kind.into(), &true.into())
    );
    let reasons: Vec<&str> = source["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r.as_str().unwrap())
        .collect();
    assert_eq!(reasons.len(), refused.len(), "{reasons:?}");
    for (reason, kind) in reasons.iter().zip(refused) {
        assert!(
            reason.starts_with(&format!("{kind}: ")) && reason.contains("CAP_"),
            "{reason}"
        );
    }
    let (_, metrics) = sensor.get("/metrics").unwrap();
    let line = metrics
        .lines()
        .find(|l| l.starts_with("mirrortap_source_kind_info{"))
        .unwrap();
    for label in [format!("kind=\"{kind}\""), "chosen=\"auto\"".into()] {
        assert!(line.contains(&label), "{line}");
    }
    let log = sensor.log();
    assert!(log.contains(&format!("source=\"{kind}\"")), "{log}");
    for kind in refused {
        assert!(log.contains(&format!("kind=\"{kind}\"")), "{log}");
    }
}

#[test]
fn with_every_privilege_the_fastest_is_taken() {
    let Some(scene) = Scene::make("auto") else {
        return;
    };
    let net = scene.net();
    let mut sensor = scene.start(&net);
    is_told(&mut sensor, FASTER[0], &[]);
    let sent = send(&net, SENSOR, "--vni 1 --count 100 --rate 1000");
    sensor.wait_received(sent);
    sensor.stop().is_whole(sent);
}

#[test]
fn without_any_privilege_sockets_are_taken_and_the_log_says_what_is_missing() {
    let Some(mut scene) = Scene::make("auto") else {
        return;
    };
    scene.through = vec![
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ];
    let net = scene.net();
    let mut sensor = scene.start(&net);
    is_told(&mut sensor, "udp", &FASTER);
    let log = sensor.log();
    assert!(
        !log.contains("behind the tap"),
        "what could not be had is told once: {log}"
    );
    let sent = send(&net, SENSOR, "--vni 1 --count 100 --rate 1000");
    sensor.wait_received(sent);
    sensor.stop().is_whole(sent);
}
