//! `mirrortap run` under a stand-in for systemd: what is told, and when.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::{PROGRAM, Sensor};

fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let mut all = Vec::new();
    while let Ok(n) = socket.recv(&mut buffer) {
        all.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
    }
    all
}

#[test]
fn ready_watchdog_reloading_and_stopping_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000");
    let sensor = Sensor::start_with(command, folder.path(), "", &[]);
    let first = heard(&socket);
    assert!(first.iter().any(|m| m.contains("READY=1")), "{first:?}");
    assert!(
        folder.path().join("out").is_dir(),
        "the output was made before READY"
    );
    std::thread::sleep(Duration::from_millis(1500));
    let later = heard(&socket);
    assert!(
        later.iter().filter(|m| m.contains("WATCHDOG=1")).count() >= 2,
        "{later:?}"
    );
    sensor.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    let reload = heard(&socket);
    assert!(
        reload.iter().any(|m| m.contains("RELOADING=1")),
        "{reload:?}"
    );
    assert!(reload.iter().any(|m| m.contains("READY=1")), "{reload:?}");
    sensor.stop();
    let last = heard(&socket);
    assert!(last.iter().any(|m| m.contains("STOPPING=1")), "{last:?}");
}
