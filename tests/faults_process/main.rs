//! Faults of processes: the hook, the clients of control, signals, what the sensor was started with, and what is taken away from it. Each holds
//! the same: capture goes on, the ledger is closed, published files are whole, and the fault is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod hook;
mod manager;
mod signals;
mod streams;

use std::net::UdpSocket;
use std::path::Path;

use common::{Ledger, Sensor, wait_until};

/// Sends numbered packets, wrapped as AWS does, and knows how many.
struct Load {
    socket: UdpSocket,
    sent: u64,
}

impl Load {
    fn to(sensor: &Sensor) -> Self {
        Self::on(sensor.udp)
    }

    fn on(port: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        Self { socket, sent: 0 }
    }

    fn send(&mut self, count: u64) {
        for _ in 0..count {
            let mut packet = vec![8, 0, 0, 0, 0, 0, 7, 0];
            packet.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
            packet.extend(self.sent.to_be_bytes());
            packet.resize(8 + 60, 0);
            self.socket.send(&packet).unwrap();
            self.sent += 1;
        }
    }

    /// Sends some, and waits until they are written: capture goes on.
    fn goes_on(&mut self, sensor: &Sensor) {
        self.send(20);
        wait_until("packets in files", || {
            number(sensor, "written") == self.sent
        });
    }

    /// All that was sent is in the ledger and in the files, once, in order.
    fn assert_whole(&self, ledger: &Ledger, output: &Path) {
        assert_eq!(
            (ledger.number("received"), ledger.number("written")),
            (self.sent, self.sent),
            "{}",
            ledger.0
        );
        let numbers = common::all_packets(output);
        let numbers = numbers
            .iter()
            .map(|p| u64::from_be_bytes(p.data[14..22].try_into().unwrap()));
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..self.sent).collect::<Vec<_>>());
    }
}

/// A number of the ledger in `/status`.
fn number(sensor: &Sensor, key: &str) -> u64 {
    sensor.status()["ledger"][key].as_u64().unwrap()
}

fn wait_logged(sensor: &mut Sensor, text: &str) {
    sensor.wait_logged(text);
}

/// Waits until every thread of the sensor stands still.
fn wait_stopped(sensor: &Sensor) {
    let threads = format!("/proc/{}/task", sensor.child.id());
    wait_until("its standstill", || {
        let mut all = std::fs::read_dir(&threads).unwrap();
        all.all(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
        })
    });
}

fn is_healthy(sensor: &Sensor) -> bool {
    sensor.get("/healthz").is_some_and(|(code, _)| code == 200)
}
