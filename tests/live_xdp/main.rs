//! AF_XDP on veth pairs: numbered datagrams arrive once, as they were sent, and everything else on the interface goes on.
//! Needs root, iproute2, and Linux 6.6 or newer; makes its own network namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../net_support/mod.rs"]
mod net_support;
mod roles;

use std::collections::BTreeMap;
use std::time::Duration;

use mirrortap::source::Config;
use mirrortap::source::xdp::{self, Allow};
use net_support::{DEVICE, Net, Role, SENSOR, my_role};

#[test]
fn role() {
    let Some(role) = my_role() else { return };
    let words: Vec<&str> = role.split(' ').collect();
    match words[0] {
        "sensor" => roles::sensor(&words[1..]),
        "sender" => roles::sender(),
        "echo" => roles::echo(),
        _ => panic!("{role}"),
    }
}

/// What came of one run.
struct Run {
    mode: String,
    report: BTreeMap<String, u64>,
    bytes: u64,
}

impl Run {
    fn of(&self, key: &str) -> u64 {
        self.report[key]
    }

    /// Every datagram came once, whole, in time, and nothing else came.
    fn is_whole(&self, sent: u64) {
        let report = &self.report;
        assert_eq!(self.of("xdp") + self.of("udp"), sent, "{report:?}");
        assert_eq!(self.of("distinct"), sent, "{report:?}");
        for fault in ["twice", "wrong", "refused", "late", "lost"] {
            assert_eq!(self.of(fault), 0, "{fault} {report:?}");
        }
        assert_eq!(self.of("bytes"), self.bytes);
    }
}

struct Scene {
    net: Net,
    sensor: Role,
    mode: String,
}

impl Scene {
    fn make(mtu: u32, queues: u32, words: &str) -> Option<Self> {
        if !common::is_root() {
            return None;
        }
        let net = Net::make(mtu, queues);
        let mut sensor = net.role("b", &format!("sensor {words}"));
        let mode = sensor.hear();
        Some(Self { net, sensor, mode })
    }

    fn send(mut self, what: &str) -> Run {
        let mut sender = self.net.role("a", "sender");
        sender.tell(what);
        let bytes = sender.hear().parse().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        self.stop(bytes)
    }

    fn stop(&mut self, bytes: u64) -> Run {
        self.sensor.tell("stop");
        let said = self.sensor.hear();
        let pairs = said.split(' ').map(|pair| pair.split_once('=').unwrap());
        let report = pairs.map(|(k, v)| (k.to_owned(), v.parse().unwrap()));
        Run {
            mode: self.mode.clone(),
            report: report.collect(),
            bytes,
        }
    }

    /// What `ip` says of the sensor's interface.
    fn link(&self) -> String {
        let out = self.net.run("b", &["ip", "-d", "link", "show", DEVICE]);
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

#[test]
fn every_datagram_arrives_once_with_its_bytes_through_the_driver() {
    let Some(scene) = Scene::make(1500, 1, "") else {
        return;
    };
    let run = scene.send("3000 8 1450");
    assert!(
        run.mode.contains("native, copy, 32768 frames of 2048 B"),
        "{}",
        run.mode
    );
    run.is_whole(3000);
    assert_eq!((run.of("xdp"), run.of("mixed")), (3000, 0));
}

#[test]
fn several_queues_are_read_by_one_thread_or_by_several() {
    for words in ["one", ""] {
        let Some(scene) = Scene::make(1500, 3, words) else {
            return;
        };
        // queues, and the companion
        let threads = if words == "one" { "2:" } else { "4:" };
        assert!(scene.mode.starts_with(threads), "{}", scene.mode);
        let run = scene.send("3000 8 1450");
        run.is_whole(3000);
        assert_eq!(run.of("xdp"), 3000);
        let busy = run.of("busy");
        assert!(if words == "one" { busy == 1 } else { busy > 1 }, "{busy}");
    }
}

#[test]
fn jumbo_packets_in_several_frames_arrive_whole() {
    let Some(scene) = Scene::make(9001, 1, "") else {
        return;
    };
    let run = scene.send("3000 8 8950");
    assert!(run.mode.contains("several for a packet"), "{}", run.mode);
    run.is_whole(3000);
    assert_eq!((run.of("xdp"), run.of("mixed")), (3000, 0));
}

#[test]
fn behind_the_driver_it_works_too_and_says_so() {
    for mtu in [1500, 9001] {
        let Some(scene) = Scene::make(mtu, 1, "generic") else {
            return;
        };
        let run = scene.send("2000 8 1450");
        assert!(run.mode.contains("generic, copy"), "{}", run.mode);
        run.is_whole(2000);
        assert_eq!(run.of("xdp"), 2000);
    }
}

#[test]
fn fragments_come_through_the_companion() {
    let Some(scene) = Scene::make(1500, 1, "") else {
        return;
    };
    let run = scene.send("400 2000 6000");
    run.is_whole(400);
    assert_eq!(run.of("udp"), 400);
}

#[test]
fn an_mtu_beyond_a_frame_is_refused_where_packets_cannot_be_spread() {
    let Some(scene) = Scene::make(9001, 1, "whole") else {
        return;
    };
    let said = &scene.mode;
    assert!(said.starts_with("refused:"), "{said}");
    assert!(said.contains("9001") && said.contains("3818"), "{said}");
    // of veth too the program must be taken off again
    assert!(!scene.link().contains("xdp"), "{}", scene.link());
}

#[test]
fn other_traffic_on_the_interface_goes_on() {
    let Some(mut scene) = Scene::make(1500, 1, "") else {
        return;
    };
    let mut echo = scene.net.role("b", "echo");
    assert_eq!(echo.hear(), "ready");
    let ping = scene
        .net
        .run("a", &["ping", "-q", "-c", "20", "-i", "0.01", SENSOR]);
    let said = String::from_utf8_lossy(&ping.stdout).into_owned();
    assert!(said.contains(" 0% packet loss"), "{said}");
    let script = format!(
        "import socket\n\
         t = socket.create_connection(('{SENSOR}', 7000), 10)\n\
         data = bytes(i * 7 & 255 for i in range(300000))\n\
         import threading\n\
         threading.Thread(target=lambda: (t.sendall(data), t.shutdown(1))).start()\n\
         back = b''\n\
         while part := t.recv(65536): back += part\n\
         assert back == data\n\
         u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         u.settimeout(10)\n\
         u.sendto(b'x' * 1200, ('{SENSOR}', 7001))\n\
         assert len(u.recv(2000)) == 1200\n\
         print('same')"
    );
    let client = scene.net.run("a", &["python3", "-c", &script]);
    assert_eq!(String::from_utf8_lossy(&client.stdout).trim(), "same");
    scene.stop(0).is_whole(0);
}

#[test]
fn above_capacity_every_datagram_is_received_or_counted_as_lost() {
    let Some(scene) = Scene::make(1500, 1, "small slow") else {
        return;
    };
    let name = "/sys/class/net/mt0/statistics/tx_dropped";
    let before = Counters::read(&scene.net, name);
    let mut sender = scene.net.role("a", "sender");
    sender.tell("60000 64 64 0");
    sender.hear();
    std::thread::sleep(Duration::from_millis(500));
    // what the pair itself had no room for never reached the interface
    let (veth, mut scene) = (Counters::read(&scene.net, name) - before, scene);
    let run = scene.stop(0);
    assert!(
        run.of("lost") > 0,
        "nothing was lost: the test shows nothing"
    );
    let told = run.of("xdp") + run.of("udp") + run.of("lost");
    assert_eq!(told + veth, 60_000, "{:?}, veth {veth}", run.report);
    assert_eq!(run.of("twice") + run.of("wrong"), 0);
}

#[test]
fn a_queue_whose_frames_were_all_held_goes_on_when_they_come_back() {
    let Some(scene) = Scene::make(1500, 1, "small hoard") else {
        return;
    };
    let mut sender = scene.net.role("a", "sender");
    let mut scene = scene;
    // more than there are frames, then more after they came back
    for _ in 0..2 {
        sender.tell("4000 64 64");
        sender.hear();
        std::thread::sleep(Duration::from_millis(3500));
    }
    let run = scene.stop(0);
    assert!(run.of("lost") > 0, "not all were held: {:?}", run.report);
    assert!(run.of("xdp") > 2500, "it stopped: {:?}", run.report);
    assert_eq!(run.of("xdp") + run.of("lost"), 8000, "{:?}", run.report);
}

struct Counters;

impl Counters {
    fn read(net: &Net, path: &str) -> u64 {
        let out = net.run("a", &["cat", path]);
        String::from_utf8_lossy(&out.stdout).trim().parse().unwrap()
    }
}

#[test]
fn a_card_without_times_is_told_packet_by_packet() {
    let Some(scene) = Scene::make(1500, 1, "card") else {
        return;
    };
    let run = scene.send("500 8 1450");
    run.is_whole(500);
    assert_eq!((run.of("xdp"), run.of("mixed")), (500, 500));
}

#[test]
fn the_program_leaves_with_the_source_and_with_a_killed_process() {
    for kill in [false, true] {
        let Some(mut scene) = Scene::make(1500, 1, "") else {
            return;
        };
        assert!(scene.link().contains("xdp"), "{}", scene.link());
        if kill {
            let (sensor, net) = (scene.sensor, scene.net);
            sensor.kill();
            std::thread::sleep(Duration::from_millis(300));
            scene = Scene {
                sensor: net.role("b", "sensor"),
                net,
                mode: String::new(),
            };
            let mode = scene.sensor.hear();
            assert!(mode.contains("native"), "opened again at once: {mode}");
        }
        scene.stop(0);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!scene.link().contains("xdp"), "{}", scene.link());
    }
}

#[test]
fn a_second_program_on_the_interface_is_refused_and_the_first_goes_on() {
    for words in ["second", "second generic"] {
        let Some(scene) = Scene::make(1500, 1, "") else {
            return;
        };
        let mut second = scene.net.role("b", &format!("sensor {words}"));
        let said = second.hear();
        assert!(said.contains("another XDP program"), "{said}");
        let run = scene.send("500 8 1450");
        run.is_whole(500);
        assert_eq!(run.of("xdp"), 500);
    }
}

#[test]
fn what_had_arrived_before_the_stop_is_still_given() {
    let Some(mut scene) = Scene::make(1500, 1, "") else {
        return;
    };
    let mut sender = scene.net.role("a", "sender");
    sender.tell("2000 8 1450");
    let bytes = sender.hear().parse().unwrap();
    // at once: the rings and the companion are read to their end
    let run = scene.stop(bytes);
    run.is_whole(2000);
}

#[test]
fn an_interface_that_is_removed_ends_the_source_with_an_error() {
    let Some(mut scene) = Scene::make(1500, 1, "") else {
        return;
    };
    scene.net.run("a", &["ip", "link", "del", "mt0"]);
    assert_eq!(scene.sensor.hear(), "gone");
    scene.stop(0).is_whole(0);
}

#[test]
fn an_interface_that_goes_down_and_up_again_is_read_on() {
    let Some(scene) = Scene::make(1500, 1, "") else {
        return;
    };
    for way in ["down", "up"] {
        scene.net.run("b", &["ip", "link", "set", DEVICE, way]);
    }
    // the address of IPv6 went with the link
    let again = ["ip", "addr", "add", "fd77::2/64", "dev", DEVICE, "nodad"];
    scene.net.run("b", &again);
    scene
        .net
        .run("a", &["ping", "-q", "-c", "1", "-w", "10", "fd77::2"]);
    let run = scene.send("500 8 1450");
    run.is_whole(500);
    assert_eq!(run.of("xdp"), 500);
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let config = Config {
        interface: vec!["no-such-if0".to_owned()],
        ..Config::default()
    };
    let error = xdp::open(&config, 1, Allow::default());
    let said = error.unwrap_err().to_string();
    assert!(
        said.contains("no-such-if0") && said.contains("ip link"),
        "{said}"
    );
}
