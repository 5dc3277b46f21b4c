//! Sockets on the loopback.

use std::net::UdpSocket;

use super::*;

fn buffer(bytes: u64) -> Config {
    Config {
        receive_buffer: crate::units::Size(bytes),
        ..Config::default()
    }
}

fn one(listen: &str) -> Udp {
    bind(listen.parse().unwrap(), 1, &buffer(1 << 20))
        .unwrap()
        .pop()
        .unwrap()
}

fn sender(to: &Udp) -> UdpSocket {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(("127.0.0.1", to.address.port())).unwrap();
    sender
}

#[test]
fn a_port_in_use_is_refused_also_with_several_sockets() {
    let first = one("127.0.0.1:0");
    for count in [1, 2] {
        let error = bind(first.address, count, &buffer(1 << 20)).unwrap_err();
        assert!(matches!(error, Error::InUse(_)), "{error}");
    }
}

#[test]
fn several_sockets_share_a_port() {
    let sockets = bind("127.0.0.1:0".parse().unwrap(), 3, &buffer(1 << 20)).unwrap();
    let port = sockets[0].address.port();
    assert!(port != 0 && sockets.iter().all(|s| s.address.port() == port));
}

#[test]
fn a_dual_stack_socket_gives_ipv4_sources_as_ipv4_and_ipv6_as_ipv6() {
    let mut udp = one("[::]:0");
    sender(&udp).send(b"four").unwrap();
    let six = UdpSocket::bind("[::1]:0").unwrap();
    six.send_to(b"six", ("::1", udp.address.port())).unwrap();
    let mut batch = udp.new_batch(0);
    assert_eq!(udp.receive(&mut batch).unwrap(), Received::Some);
    let sources: Vec<String> = batch
        .datagrams
        .iter()
        .map(|d| d.source.to_string())
        .collect();
    assert_eq!(sources, ["127.0.0.1", "::1"]);
}

#[test]
fn the_largest_datagram_arrives_whole() {
    let mut udp = one("127.0.0.1:0");
    sender(&udp).send(&[7; 65_507]).unwrap();
    let mut batch = udp.new_batch(0);
    assert_eq!(udp.receive(&mut batch).unwrap(), Received::Some);
    let d = batch.datagrams[0];
    assert_eq!(batch.bytes(d.start, d.len), [7; 65_507]);
}

#[test]
fn received_and_kernel_drops_make_up_all_that_was_sent() {
    let mut udp = bind("127.0.0.1:0".parse().unwrap(), 1, &buffer(8192))
        .unwrap()
        .pop()
        .unwrap();
    let sender = sender(&udp);
    let (mut sent, mut received) = (0, 0);
    let mut batch = udp.new_batch(0);
    for _ in 0..20 {
        for _ in 0..100 {
            sent += u64::from(sender.send(&[1; 300]).is_ok());
        }
        udp.receive(&mut batch).unwrap();
        received += batch.datagrams.len() as u64;
        batch.clear();
    }
    udp.stop();
    while udp.receive(&mut batch).unwrap() != Received::End {
        received += batch.datagrams.len() as u64;
        batch.clear();
    }
    assert!(
        udp.facts.lost_at(place::SOCKET) > 0,
        "nothing was dropped: the test shows nothing"
    );
    assert_eq!(received + udp.facts.lost_at(place::SOCKET), sent);
}

#[test]
fn what_had_arrived_before_the_stop_is_still_given_and_later_ones_are_counted() {
    let mut udp = one("127.0.0.1:0");
    let sender = sender(&udp);
    for _ in 0..300 {
        sender.send(b"before").unwrap();
    }
    udp.stop();
    for _ in 0..10 {
        sender.send(b"after").unwrap();
    }
    let (mut batch, mut received) = (udp.new_batch(0), 0);
    while udp.receive(&mut batch).unwrap() != Received::End {
        received += batch.datagrams.len();
        batch.clear();
    }
    assert_eq!((received, udp.facts.lost_at(place::AFTER_STOP)), (300, 10));
    assert_eq!(udp.facts.lost_at(place::SOCKET), 0);
}
