//! The ingress drop between a packet tap and the network stack: what is mirrored is seen by the tap and by nobody behind,
//! everything else goes on. Needs root, iproute2, and Linux 6.6 or newer; makes its own network namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod net_support;

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use mirrortap::source::ingress::IngressDrop;
use mirrortap::sys::interface;
use net_support::{DEVICE, Net, SENSOR, SENSOR6, listen, my_role, say, socket};
use socket2::{Domain, Protocol, Socket, Type};

const LARGE: usize = 3000;

/// What is sent: to which port, and how many bytes.
const SENT: [(&str, u16, usize); 6] = [
    (SENSOR, 4789, 100),
    (SENSOR6, 4789, 101),
    (SENSOR, 4789, LARGE),
    (SENSOR, 4790, 102),
    (SENSOR6, 4790, 103),
    (SENSOR, 6081, 104),
];

#[test]
fn role() {
    let Some(role) = my_role() else { return };
    match role.as_str() {
        "sender" => sender(),
        "holder" => {
            let held = IngressDrop::install(interface::index(DEVICE).unwrap(), &addresses());
            say(&held
                .as_ref()
                .map_or_else(ToString::to_string, |_| "held".into()));
            while listen().is_some() {}
            drop(held);
        }
        "stack" => stack(),
        _ => panic!("{role}"),
    }
}

fn addresses() -> Vec<SocketAddr> {
    vec![
        format!("{SENSOR}:4789").parse().unwrap(),
        format!("[{SENSOR6}]:4789").parse().unwrap(),
    ]
}

/// Sends everything once for each line, and says how many were answered by ICMP.
fn sender() {
    while listen().is_some() {
        let mut refused = 0;
        for (host, port, len) in SENT {
            let any = if host == SENSOR {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = socket(any);
            socket.connect((host, port)).unwrap();
            socket.send(&vec![len as u8; len]).unwrap();
            let answer = socket.recv(&mut [0; 1]).unwrap_err();
            refused += u32::from(answer.kind() == std::io::ErrorKind::ConnectionRefused);
        }
        say(&refused.to_string());
    }
}

/// A tap, and sockets of the stack: says what each saw since the last line.
fn stack() {
    // all protocols: ETH_P_ALL in the order of the wire
    let everything = Protocol::from(i32::from(3_u16.to_be()));
    let mut tap = Socket::new(Domain::PACKET, Type::RAW, Some(everything)).unwrap();
    tap.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut sockets = Vec::new();
    say("ready");
    while let Some(order) = listen() {
        match order.as_str() {
            "bind" => {
                sockets = [4789, 4790, 6081]
                    .map(|p| socket(&format!("[::]:{p}")))
                    .into()
            }
            _ => say(&format!("{}; {}", tapped(&mut tap), received(&sockets))),
        }
        if order == "bind" {
            say("bound");
        }
    }
}

/// Lengths of UDP payloads in whole datagrams to the tunnel port.
fn tapped(tap: &mut Socket) -> String {
    let mut lengths = Vec::new();
    let mut frame = [0; 4096];
    while let Ok(n) = tap.read(&mut frame) {
        let frame = &frame[..n];
        let udp = match frame[12..14] {
            [0x08, 0x00] if frame[23] == 17 && frame[20] & 0x3f == 0 => &frame[34..],
            [0x86, 0xdd] if frame[20] == 17 => &frame[54..],
            _ => continue,
        };
        if udp[2..4] == 4789_u16.to_be_bytes() {
            lengths.push(usize::from(u16::from_be_bytes([udp[4], udp[5]])) - 8);
        }
    }
    lengths.sort_unstable();
    format!("{lengths:?}")
}

fn received(sockets: &[UdpSocket]) -> String {
    let mut lengths = Vec::new();
    for socket in sockets {
        while let Ok(n) = socket.recv(&mut [0; 4096]) {
            lengths.push(n);
        }
    }
    lengths.sort_unstable();
    format!("{lengths:?}")
}

/// Two hosts with a sender and an observer.
struct Scene {
    net: Net,
    sender: net_support::Role,
    stack: net_support::Role,
}

impl Scene {
    fn make() -> Option<Self> {
        if !common::is_root() {
            return None;
        }
        let net = Net::make(1500, 1);
        let (sender, mut stack) = (net.role("a", "sender"), net.role("b", "stack"));
        assert_eq!(stack.hear(), "ready");
        Some(Self { net, sender, stack })
    }

    /// Sends everything: how many were refused by ICMP, and what tap and stack saw.
    fn send(&mut self) -> (String, String) {
        self.sender.tell("send");
        let refused = self.sender.hear();
        self.stack.tell("look");
        (refused, self.stack.hear())
    }

    fn bind(&mut self) {
        self.stack.tell("bind");
        assert_eq!(self.stack.hear(), "bound");
    }

    fn hold(&self) -> net_support::Role {
        let mut holder = self.net.role("b", "holder");
        assert_eq!(holder.hear(), "held");
        holder
    }
}

#[test]
fn a_tap_sees_mirrored_datagrams_that_the_stack_does_not() {
    let Some(mut scene) = Scene::make() else {
        return;
    };
    scene.bind();
    let all = "[100, 101]; [100, 101, 102, 103, 104, 3000]";
    assert_eq!(scene.send().1, all, "without a drop");
    let holder = scene.hold();
    // fragments and other ports go on
    let kept = (
        "0".to_owned(),
        "[100, 101]; [102, 103, 104, 3000]".to_owned(),
    );
    assert_eq!(scene.send(), kept);
    holder.end();
    assert_eq!(scene.send().1, all, "after the drop was dropped");
}

#[test]
fn nobody_is_told_that_the_mirror_port_is_closed() {
    let Some(mut scene) = Scene::make() else {
        return;
    };
    // ICMP errors are rationed otherwise
    let free = [
        "sysctl",
        "-qw",
        "net.ipv4.icmp_ratelimit=0",
        "net.ipv6.icmp.ratelimit=0",
    ];
    scene.net.run("b", &free);
    assert_eq!(scene.send().0, "6", "without a drop, every port is closed");
    let _holder = scene.hold();
    assert_eq!(
        scene.send().0,
        "4",
        "a fragmented one and three other ports"
    );
}

#[test]
fn a_process_that_is_killed_leaves_no_drop_behind() {
    let Some(mut scene) = Scene::make() else {
        return;
    };
    scene.bind();
    let holder = scene.hold();
    assert_eq!(scene.send().1, "[100, 101]; [102, 103, 104, 3000]");
    holder.kill();
    // the kernel takes the link down a moment after the process
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(
        scene.send().1,
        "[100, 101]; [100, 101, 102, 103, 104, 3000]"
    );
}

#[test]
fn what_was_dropped_is_counted() {
    if !common::is_root() {
        return;
    }
    // the loopback of the machine, on a port of our own: nobody else's traffic is touched
    let receiver = socket("127.0.0.1:0");
    let port = receiver.local_addr().unwrap();
    let sender = socket("127.0.0.1:0");
    let drop = IngressDrop::install(interface::index("lo").unwrap(), &[port]).unwrap();
    for _ in 0..37 {
        sender.send_to(&[1; 200], port).unwrap();
    }
    assert!(receiver.recv(&mut [0; 300]).is_err());
    assert_eq!(drop.dropped().unwrap(), 37);
    std::mem::drop(drop);
    sender.send_to(&[1; 200], port).unwrap();
    assert_eq!(receiver.recv(&mut [0; 300]).unwrap(), 200);
}

#[test]
fn without_privileges_the_refusal_says_what_is_missing() {
    let error = IngressDrop::install(0, &addresses())
        .unwrap_err()
        .to_string();
    if common::is_root() {
        assert!(error.contains("attach"), "no such interface: {error}");
    } else {
        assert!(error.contains("CAP_BPF"), "{error}");
    }
}
