//! Clients of control that mean no good, or nothing at all.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::Sensor;
use crate::{Load, is_healthy};

fn connect(sensor: &Sensor) -> TcpStream {
    TcpStream::connect(("127.0.0.1", sensor.http)).unwrap()
}

fn descriptors(sensor: &Sensor) -> usize {
    fs::read_dir(format!("/proc/{}/fd", sensor.child.id()))
        .unwrap()
        .count()
}

#[test]
fn a_thousand_silent_clients_hold_up_neither_capture_nor_a_health_check() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), "", &[]);
    let mut load = Load::to(&sensor);
    for _ in 0..5 {
        let clients: Vec<_> = (0..200).map(|_| connect(&sensor)).collect();
        assert!(is_healthy(&sensor));
        load.goes_on(&sensor);
        // 64 for a door, and what the sensor has anyway
        assert!(descriptors(&sensor) < 200, "{}", descriptors(&sensor));
        drop(clients);
    }
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn clients_that_send_a_byte_at_a_time_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), "", &[]);
    let mut load = Load::to(&sensor);
    let mut clients: Vec<_> = (0..60).map(|_| connect(&sensor)).collect();
    for byte in b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaa" {
        for client in &mut clients {
            // it may have been sent away meanwhile
            let _ = client.write_all(&[*byte]);
        }
        assert!(is_healthy(&sensor));
    }
    load.goes_on(&sensor);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn clients_that_ask_and_never_read_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), "", &[]);
    let mut load = Load::to(&sensor);
    let clients: Vec<_> = (0..30)
        .map(|_| {
            let mut client = connect(&sensor);
            client.set_nonblocking(true).unwrap();
            let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
            // as much as the socket takes
            let _ = client.write(requests.as_bytes());
            client
        })
        .collect();
    assert!(is_healthy(&sensor));
    load.goes_on(&sensor);
    drop(clients);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn what_is_no_http_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), "", &[]);
    let mut load = Load::to(&sensor);
    let mut noise = 0x9e37_79b9_u32;
    let mut random = |len: usize| -> Vec<u8> {
        let mut next = || {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            noise as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let mut garbage: Vec<Vec<u8>> = (0..50).map(|n| random(n * 40)).collect();
    garbage.extend([
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nffffffffffffffff\r\n".to_vec(),
        [b"GET /".as_slice(), &[b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat(),
        [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(10_000), b"\r\n"].concat(),
    ]);
    for bytes in garbage {
        let mut client = connect(&sensor);
        let _ = client.write_all(&bytes);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
    }
    assert!(is_healthy(&sensor));
    assert_eq!(sensor.status()["config"]["generation"], 1);
    load.goes_on(&sensor);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}
