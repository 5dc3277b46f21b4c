//! Reloads, by signal and by command: nothing is lost, a bad configuration changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::{PROGRAM, Sensor};
use mirrortap::generator::{Generator, Options, Pace};

fn reload(folder: &std::path::Path) -> std::process::Output {
    let config = folder.join("mirrortap.toml");
    let socket = folder.join("control.sock");
    std::process::Command::new(PROGRAM)
        .arg("reload")
        .arg("--socket")
        .arg(socket)
        .env("CONFIG", config)
        .output()
        .unwrap()
}

fn config(folder: &std::path::Path, sessions: &str) -> String {
    let socket = folder.join("control.sock");
    format!(
        "[threads]\nworkers = 2\n[control]\nsocket = '{}'\n{sessions}",
        socket.display()
    )
}

const NAMED: &str = "[[session]]\nname = 'named'\nvni = 1\n";

#[test]
fn reloads_under_load_lose_nothing_and_bad_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mirrortap.toml");
    let plain = config(folder.path(), "");
    let mut sensor = Sensor::start(folder.path(), &plain, &[]);
    let port = sensor.udp;
    let sender = std::thread::spawn(move || {
        let mut options = Options::new(SocketAddr::from(([127, 0, 0, 1], port)));
        options.vnis = "1-4".parse().unwrap();
        options.count = Some(60_000);
        options.pace = Pace::Rate(20_000);
        Generator::new(options)
            .unwrap()
            .run(&AtomicBool::new(false))
            .unwrap()
    });
    for round in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        let named = config(folder.path(), NAMED);
        let text = if round % 2 == 0 { &named } else { &plain };
        std::fs::write(&file, text).unwrap();
        if round % 3 == 0 {
            sensor.signal("HUP");
        } else {
            let out = reload(folder.path());
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
        }
    }
    std::fs::write(&file, "[[session]]\nname = 'x'\nvin = 1\n").unwrap();
    let out = reload(folder.path());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(78), "{said}");
    assert!(
        said.contains(":3:1: unknown key \"vin\"; did you mean \"vni\"?"),
        "{said}"
    );
    assert!(
        sensor.status()["config"]["last_reload_error"]
            .as_str()
            .unwrap()
            .contains("vin")
    );
    let sent = sender.join().unwrap();
    sensor.signal("TERM");
    let ledger = sensor.collect();
    assert_eq!(ledger.number("written"), sent.sent, "{}", ledger.0);
    assert!(ledger.sessions().contains_key("named") && ledger.sessions().contains_key("vni-1"));
    let parts = ["named", "vni-1"].map(|n| ledger.sessions()[n]["written"].as_u64().unwrap());
    assert!(parts.iter().all(|n| *n > 0), "{parts:?}");
}

#[test]
fn a_second_signal_leaves_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let hook = "[writer]\non_close = ['sh', '-c', 'sleep 20']\n";
    let mut sensor = Sensor::start(folder.path(), hook, &[]);
    let mut options = Options::new(SocketAddr::from(([127, 0, 0, 1], sensor.udp)));
    options.count = Some(10);
    Generator::new(options)
        .unwrap()
        .run(&AtomicBool::new(false))
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    sensor.signal("INT");
    std::thread::sleep(Duration::from_millis(700));
    assert!(
        sensor.child.try_wait().unwrap().is_none(),
        "the hook still runs"
    );
    sensor.signal("INT");
    for _ in 0..1200 {
        if let Some(status) = sensor.child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(130));
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it stayed");
}
