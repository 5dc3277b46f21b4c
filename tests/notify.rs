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

/// Listens until this has been said so often.
fn hear(socket: &UnixDatagram, word: &str, times: usize) {
    let mut buffer = [0; 4096];
    let (mut all, mut count) = (Vec::new(), 0);
    while count < times {
        let n = socket
            .recv(&mut buffer)
            .unwrap_or_else(|e| panic!("{e}: {word} was not said: {all:?}"));
        let said = String::from_utf8_lossy(&buffer[..n]).into_owned();
        count += usize::from(said.lines().any(|line| line == word));
        all.push(said);
    }
}

#[test]
fn ready_watchdog_reloading_and_stopping_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000");
    let sensor = Sensor::start_with(command, folder.path(), "", &[]);
    hear(&socket, "READY=1", 1);
    assert!(
        folder.path().join("out").is_dir(),
        "the output was made before READY"
    );
    hear(&socket, "WATCHDOG=1", 2);
    sensor.signal("HUP");
    hear(&socket, "RELOADING=1", 1);
    hear(&socket, "READY=1", 1);
    sensor.stop();
    hear(&socket, "STOPPING=1", 1);
}
