//! Health tells whether packets can be stored: a full disk turns it bad, with the reason, and a freed one good again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::Sensor;
use mirrortap::generator::{Generator, Options, Pace, Shape};

/// A small file system on a folder, for as long as the value lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path) -> Self {
        std::fs::create_dir(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder)
            .status();
        assert!(mounted.unwrap().success());
        Self(folder)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn send(port: u16, count: u64) {
    let mut options = Options::new(SocketAddr::from(([127, 0, 0, 1], port)));
    options.count = Some(count);
    options.pace = Pace::Rate(10_000);
    Generator::new(options)
        .unwrap()
        .run(&AtomicBool::new(false))
        .unwrap();
}

fn wait_for(sensor: &Sensor, code: u16) -> String {
    for _ in 0..1200 {
        if let Some((found, body)) = sensor.get("/healthz")
            && found == code
        {
            return body;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("health did not become {code}: {:?}", sensor.get("/healthz"));
}

#[test]
fn a_full_disk_is_told_and_its_packets_are_counted_and_writing_goes_on_when_there_is_room() {
    if !common::is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let disk = SmallDisk::mount(&out);
    // the control socket lives elsewhere: the disk is for captures
    let config = "[control]\nsocket = 'off'\n[capture]\nrotate_size = '200KiB'\n[writer]\nflush_interval = '100ms'\n";
    let sensor = Sensor::start(folder.path(), config, &[]);
    send(sensor.udp, 8_000);
    let reason = wait_for(&sensor, 503);
    assert!(reason.contains("space"), "{reason}");
    for file in std::fs::read_dir(out.join("vni-1")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "pcap") {
            std::fs::remove_file(path).unwrap();
        }
    }
    wait_for(&sensor, 200);
    send(sensor.udp, 500);
    let ledger = sensor.stop();
    assert_eq!(ledger.number("received"), 8_500);
    assert!(ledger.dropped("write_failed") > 0, "{}", ledger.0);
    let files = common::files(&out);
    assert!(!files.is_empty(), "it went on writing");
    files.iter().for_each(|f| {
        common::packets(f);
    });
    drop(disk);
}

#[test]
fn gateway_load_balancer_and_ipv6_shapes_arrive_like_plain_ones() {
    let folder = tempfile::tempdir().unwrap();
    let six = common::free_udp_port();
    let listen = format!("[::1]:{six}");
    let sensor = Sensor::start(folder.path(), "", &["--listen", &listen]);
    let kinds = [
        (
            SocketAddr::from(([127, 0, 0, 1], sensor.udp)),
            Shape::Vxlan,
            "1",
        ),
        (
            SocketAddr::from(([127, 0, 0, 1], sensor.udp)),
            Shape::Gwlb(Default::default()),
            "2",
        ),
        (listen.parse().unwrap(), Shape::Vxlan, "3"),
    ];
    for (to, shape, vni) in kinds {
        let mut options = Options::new(to);
        options.shape = shape;
        options.vnis = vni.parse().unwrap();
        options.count = Some(1_000);
        options.pace = Pace::Rate(20_000);
        Generator::new(options)
            .unwrap()
            .run(&AtomicBool::new(false))
            .unwrap();
    }
    let status = sensor.status();
    assert_eq!(status["source"]["listen"].as_array().unwrap().len(), 2);
    let ledger = sensor.stop();
    for vni in 1..=3 {
        let written = &ledger.sessions()[&format!("vni-{vni}")]["written"];
        assert_eq!(written.as_u64(), Some(1_000), "VNI {vni}: {}", ledger.0);
    }
}
