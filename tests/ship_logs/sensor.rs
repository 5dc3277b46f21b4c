//! The whole way: mirrored packets, a sensor, a flow log, events.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;

use crate::aws_support::{ACCESS_KEY, REGION, SECRET_KEY, without_aws};
use crate::common::{PROGRAM, Sensor, wait_until};
use crate::ship_support::{Reply, Scripted};
use crate::waiting::{put, service};

const PACKETS: u64 = 40;

fn start(folder: &Path, endpoint: &str) -> Sensor {
    let mut command = Command::new(PROGRAM);
    without_aws(&mut command).envs([
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_REGION", REGION),
    ]);
    let directory = folder.join("flows");
    let config = format!(
        "[[flow_log]]\ndirectory = '{}'\ninterval = '1s'\n[flow_log.cloudwatch]\nlog_group = '/mirror/flows'\nendpoint = '{endpoint}'\n",
        directory.display()
    );
    Sensor::start_with(command, folder, &config, &[])
}

/// A mirrored UDP packet from one of two ports.
fn datagram(number: u64) -> Vec<u8> {
    let (from, to) = (Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(192, 0, 2, 9));
    let mut bytes = vec![8, 0, 0, 0, 0, 0, 7, 0];
    etherparse::PacketBuilder::ethernet2([2, 0, 10, 0, 0, 5], [2, 0xff, 0, 0, 0, 1])
        .ipv4(from.octets(), to.octets(), 64)
        .udp(5000 + (number % 2) as u16, 443)
        .write(&mut bytes, &[0; 50])
        .unwrap();
    bytes
}

/// Packets of all records that have arrived; a record that came twice counts once.
fn arrived(server: &Scripted) -> u64 {
    let asked = server.asked();
    let puts = asked
        .iter()
        .filter(|asked| asked.target() == "PutLogEvents");
    let events = puts.flat_map(put);
    let lines: BTreeSet<String> = events
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    let packets = |line: &String| -> u64 { line.split(' ').nth(8).unwrap().parse().unwrap() };
    lines.iter().map(packets).sum()
}

#[test]
fn what_a_sensor_saw_is_in_the_group_after_its_stop_or_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = service(|_, _| Reply::ok("{}"));
    let sensor = start(folder.path(), &server.address());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..PACKETS {
        let to = ("127.0.0.1", sensor.udp);
        socket.send_to(&datagram(number), to).unwrap();
    }
    wait_until("the packets arrive", || {
        sensor.status()["ledger"]["received"] == PACKETS
    });
    sensor.stop();
    // what the stop had no time for
    let sensor = start(folder.path(), &server.address());
    wait_until("the records arrive", || arrived(&server) == PACKETS);
    let queue = |sensor: &Sensor| sensor.status()["ship"]["queues"]["default"].clone();
    wait_until("nothing waits", || queue(&sensor)["pending_files"] == 0);
    sensor.stop();
    let asked = server.asked();
    let stream = |name: &str| asked.iter().any(|asked| asked.body.contains(name));
    assert!(stream("unknown-accept"), "no metadata names the interface");
}
