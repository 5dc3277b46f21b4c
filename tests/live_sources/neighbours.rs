//! What is not mirrored to us is not ours: it goes on as if nobody looked.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};

use crate::net_support::{DEVICE, SENSOR, listen, say, socket};
use crate::raw;
use crate::scene::{Scene, Watch, send, targets};

/// Another address of the sensor's host.
const OTHER: &str = "10.77.0.3";

pub fn another_address_on_the_same_port_is_left_to_its_owner(mut scene: Scene) {
    scene.listen = vec![format!("{SENSOR}:4789")];
    scene.named = false;
    let net = scene.net();
    net.run("b", &["ip", "addr", "add", "10.77.0.3/24", "dev", DEVICE]);
    let mut owner = net.role("b", "owner");
    assert_eq!(owner.hear(), "ready");
    let mut sensor = scene.start(&net);
    let sent = send(&net, SENSOR, "--vni 1 --count 100 --rate 1000 --size 300");
    send(&net, OTHER, "--vni 2 --count 100 --rate 1000 --size 300");
    sensor.wait_received(sent);
    owner.tell("count");
    assert_eq!(owner.hear(), "100");
    let outcome = sensor.stop();
    outcome.is_whole(sent);
    assert_eq!(outcome.packets(1).len() as u64, sent);
}

/// Listens on the other address, and tells how much came.
pub fn owner() {
    let socket = socket(&format!("{OTHER}:4789"));
    say("ready");
    while listen().is_some() {
        let mut count = 0;
        while socket.recv(&mut [0; 2000]).is_ok() {
            count += 1;
        }
        say(&count.to_string());
    }
}

/// Seen by the card, as behind a hub or in promiscuous mode, and for somebody else.
pub fn frames_for_another_host_are_not_ours(scene: Scene) {
    let net = scene.net();
    net.run("b", &["ip", "link", "set", DEVICE, "promisc", "on"]);
    let mut sensor = scene.start(&net);
    let ours = raw::ethernet(&net, 0x0800);
    let mut theirs = ours.clone();
    theirs[5] ^= 1;
    let frames = (0..100_u16).map(|i| {
        let ip = raw::ipv4(i, 0, false, &raw::vxlan(1, i.into(), 100));
        let header = if i % 2 == 0 { &ours } else { &theirs };
        [&header[..], &ip].concat()
    });
    raw::put(&net, &frames.collect::<Vec<_>>());
    sensor.wait_received(50);
    let outcome = sensor.stop();
    outcome.is_whole(50);
    assert_eq!(outcome.ledger.0["dropped"], serde_json::json!({}));
}

pub fn a_conversation_through_the_same_interface_goes_on(scene: Scene) {
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let mut echo = net.role("b", "echo");
    assert_eq!(echo.hear(), "ready");
    let mut client = net.role("a", "client");
    let sent = send(&net, SENSOR, "--vni 1 --count 2000 --rate 4000");
    assert_eq!(client.hear(), "tcp 500000 udp 50");
    sensor.wait_received(sent);
    // nothing of the conversation is in the ledger
    sensor.stop().is_whole(sent);
}

/// Gives back what it is given, over TCP and UDP.
pub fn echo() {
    let tcp = TcpListener::bind((SENSOR, 7000)).unwrap();
    let udp = UdpSocket::bind((SENSOR, 7001)).unwrap();
    say("ready");
    std::thread::spawn(move || {
        let mut buffer = [0; 8000];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&buffer[..n], from).unwrap();
        }
    });
    for stream in tcp.incoming() {
        let stream = stream.unwrap();
        std::io::copy(&mut &stream, &mut &stream).unwrap();
    }
}

/// Talks to the echo: half a megabyte over TCP, and datagrams small and in fragments.
pub fn client() {
    let data: Vec<u8> = (0..500_000_u32).map(|i| (i * 7) as u8).collect();
    let stream = TcpStream::connect((SENSOR, 7000)).unwrap();
    let (sent, mut writer) = (data.clone(), stream.try_clone().unwrap());
    std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    (&stream).read_to_end(&mut back).unwrap();
    let udp = socket("0.0.0.0:0");
    udp.connect((SENSOR, 7001)).unwrap();
    let answered = (0..50_usize).filter(|i| {
        let question = vec![*i as u8; 100 + 90 * i];
        udp.send(&question).unwrap();
        let mut answer = [0; 8000];
        udp.recv(&mut answer).is_ok_and(|n| answer[..n] == question)
    });
    let answered = answered.count();
    let same = if back == data { back.len() } else { 0 };
    say(&format!("tcp {same} udp {answered}"));
}

pub fn nobody_is_told_that_the_port_is_closed(scene: Scene) {
    let net = scene.net();
    // ICMP errors are rationed otherwise
    for rate in ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"] {
        net.run("b", &["sysctl", "-qw", rate]);
    }
    let errors = "(icmp and icmp[0] != 8 and icmp[0] != 0) or (icmp6 and ip6[40] < 128)";
    let watch = Watch::start(&net, "a", "mt0", errors);
    send(&net, SENSOR, "--vni 1 --count 20 --rate 500");
    assert!(
        !watch.stop().is_empty(),
        "without a sensor the kernel answers"
    );
    let mut sensor = scene.start(&net);
    let watch = Watch::start(&net, "a", "mt0", errors);
    let mut sent = 0;
    for target in targets() {
        sent += send(&net, &target, "--vni 1 --count 200 --rate 2000");
        sent += send(&net, &target, "--vni 1 --count 50 --rate 2000 --size 4000");
    }
    sensor.wait_received(sent);
    let told = watch.stop();
    assert!(told.is_empty(), "{} answers; {}", told.len(), sensor.log());
    sensor.stop().is_whole(sent);
}
