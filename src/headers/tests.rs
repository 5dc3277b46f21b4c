//! The walk on frames made by hand, byte for byte.

use crate::headers::{Fragment, Headers, Icmp, Layer, Link, walk, walk_ip, walk_link};

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = MACS.to_vec();
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// An IPv4 header from 10.0.0.1 to 10.0.0.2.
fn v4(total: u16, flags: u16, proto: u8) -> [u8; 20] {
    let ([t0, t1], [f0, f1]) = (total.to_be_bytes(), flags.to_be_bytes());
    [
        0x45, 0, t0, t1, 0xab, 0xcd, f0, f1, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]
}

/// An IPv6 header from fd00::1 to fd00::2.
fn v6(payload: u16, next: u8) -> Vec<u8> {
    let [p0, p1] = payload.to_be_bytes();
    let mut head = vec![0x60, 0, 0, 0, p0, p1, next, 64];
    for last in [1, 2] {
        head.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    head
}

const IPV4: &[u8] = &[8, 0];
const IPV6: &[u8] = &[0x86, 0xdd];
const MPLS: &[u8] = &[0x88, 0x47];
const UDP: [u8; 8] = [0x30, 0x39, 0, 53, 0, 8, 0, 0];
const TCP: [u8; 20] = [
    0x30, 0x39, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0,
];

fn offsets(headers: &Headers) -> (Option<u16>, Option<u16>, Option<u16>) {
    (headers.network, headers.transport, headers.payload)
}

#[test]
fn a_tcp_packet_is_known_to_its_flags() {
    let headers = walk(&frame(&[IPV4, &v4(40, 0, 6), &TCP]));
    assert_eq!(headers.key.source(), Some([10, 0, 0, 1].into()));
    assert_eq!(headers.key.destination(), Some([10, 0, 0, 2].into()));
    assert_eq!(headers.ports(), Some((12345, 443)));
    assert_eq!(headers.tcp_flags, Some(0x012));
    assert_eq!(offsets(&headers), (Some(14), Some(34), Some(54)));
    assert_eq!((headers.wire_len, headers.truncated), (54, false));
    assert_eq!(headers.reached, Layer::Transport);
}

#[test]
fn no_ports_and_port_zero_are_told_apart() {
    let zero = walk(&frame(&[IPV4, &v4(28, 0, 17), &[0; 8]]));
    assert_eq!(zero.ports(), Some((0, 0)));
    let none = walk(&frame(&[IPV4, &v4(28, 0, 47), &[0; 8]]));
    assert_eq!(none.ports(), None);
    let cut = walk(&frame(&[IPV4, &v4(28, 0, 17), &UDP[..3]]));
    assert_eq!((cut.ports(), cut.truncated), (None, true));
}

#[test]
fn a_packet_cut_by_aws_keeps_its_wire_length() {
    let headers = walk(&frame(&[IPV4, &v4(1500, 0, 6), &TCP[..8]]));
    assert_eq!((headers.wire_len, headers.truncated), (1514, true));
    assert_eq!(
        (headers.ports(), headers.tcp_flags),
        (Some((12345, 443)), None)
    );
    let headers = walk(&frame(&[IPV6, &v6(1460, 17), &UDP]));
    assert_eq!((headers.wire_len, headers.truncated), (1514, true));
}

#[test]
fn ethernet_padding_is_no_loss_and_no_payload() {
    let headers = walk(&frame(&[IPV4, &v4(22, 0, 17), &UDP[..2], &[0; 24]]));
    assert_eq!((headers.wire_len, headers.truncated), (60, false));
    assert_eq!(headers.ports(), None, "padding is not read as ports");
}

#[test]
fn a_total_length_of_zero_means_what_is_present() {
    let headers = walk(&frame(&[IPV4, &v4(0, 0, 6), &TCP, &[0; 3000]]));
    assert_eq!((headers.wire_len, headers.truncated), (3054, false));
    assert_eq!(headers.ports(), Some((12345, 443)));
}

#[test]
fn first_fragments_keep_their_ports_and_later_ones_have_none() {
    let first = walk(&frame(&[IPV4, &v4(28, 0x2000, 17), &UDP]));
    assert_eq!(first.ports(), Some((12345, 53)));
    assert!(first.is_fragment());
    let later = walk(&frame(&[IPV4, &v4(28, 0x00b9, 17), &UDP]));
    let fragment = Fragment {
        id: 0xabcd,
        offset: 1480,
        more: false,
    };
    assert_eq!((later.fragment, later.ports()), (Some(fragment), None));
    assert_eq!(offsets(&later), (Some(14), None, Some(34)));
}

#[test]
fn an_ipv6_fragment_header_may_stand_before_a_whole_packet() {
    let header = [17, 0, 0, 0, 0, 0, 0, 7];
    let whole = walk(&frame(&[IPV6, &v6(16, 44), &header, &UDP]));
    assert_eq!(
        (whole.is_fragment(), whole.ports()),
        (false, Some((12345, 53)))
    );
    assert_eq!(whole.fragment.map(|f| f.id), Some(7));
    let later = walk(&frame(&[
        IPV6,
        &v6(16, 44),
        &[17, 0, 0, 9, 0, 0, 0, 7],
        &UDP,
    ]));
    let fragment = Fragment {
        id: 7,
        offset: 8,
        more: true,
    };
    assert_eq!((later.fragment, later.ports()), (Some(fragment), None));
    assert_eq!(later.key.proto, 17);
}

#[test]
fn extension_headers_are_followed_however_many() {
    let mut packet = v6(8 * 100 + 8, 60);
    (0..99).for_each(|_| packet.extend([60, 0, 1, 4, 0, 0, 0, 0]));
    packet.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend(UDP);
    let headers = walk_ip(&packet);
    assert_eq!(
        (headers.key.proto, headers.ports()),
        (17, Some((12345, 53)))
    );
    assert_eq!(offsets(&headers), (Some(0), Some(840), Some(848)));
}

#[test]
fn a_mobility_message_is_not_taken_for_nothing() {
    let message = [59, 0, 1, 0, 0, 0, 0, 0];
    let headers = walk_ip(&[v6(8, 135), message.to_vec()].concat());
    assert_eq!(
        (headers.key.proto, headers.reached),
        (135, Layer::Transport)
    );
}

#[test]
fn up_to_four_tags_are_walked_through() {
    let tags: [&[u8]; 3] = [
        &[0x88, 0xa8, 0xe0, 7],
        &[0x91, 0, 0, 8],
        &[0x81, 0, 0x1f, 0xff],
    ];
    let headers = walk(&frame(&[&tags.concat(), IPV4, &v4(28, 0, 17), &UDP]));
    assert_eq!(headers.vlans.ids(), [7, 8, 0xfff]);
    assert_eq!(
        (headers.eth_type, headers.network),
        (Some(0x0800), Some(26))
    );
    assert_eq!(headers.wire_len, 54);
    let five = [0x81, 0, 0, 1].repeat(5);
    let headers = walk(&frame(&[&five, IPV4, &v4(28, 0, 17), &UDP]));
    assert_eq!(headers.vlans.ids(), [1; 4]);
    assert_eq!((headers.eth_type, headers.network), (Some(0x8100), None));
}

#[test]
fn labels_lead_to_ip_or_to_an_ethernet_pseudo_wire() {
    let stack = [0, 0x01, 0x20, 64, 0, 0x01, 0x01, 64];
    let packet = [&v4(28, 0, 17)[..], &UDP].concat();
    let whole = frame(&[MPLS, &stack, &packet]);
    let headers = walk(&whole);
    assert!(headers.labels.of(&whole).eq([18, 16]));
    assert_eq!(
        (headers.network, headers.ports()),
        (Some(22), Some((12345, 53)))
    );
    for control_word in [&[0, 0, 0, 1][..], &[]] {
        let wire = [control_word, &frame(&[&[0x81, 0, 0, 5], IPV4, &packet])].concat();
        let headers = walk(&frame(&[MPLS, &stack, &wire]));
        assert_eq!(
            (headers.vlans.ids(), headers.ports()),
            (&[5][..], Some((12345, 53)))
        );
        assert_eq!(
            headers.eth_type,
            Some(0x8847),
            "of the outermost Ethernet header"
        );
    }
}

#[test]
fn icmp_sctp_dccp_gre_and_arp_are_known() {
    let of = |proto, bytes: &[u8]| walk(&frame(&[IPV4, &v4(20 + 12, 0, proto), bytes]));
    let icmp = of(1, &[3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(icmp.icmp, Some(Icmp { kind: 3, code: 1 }));
    assert_eq!((icmp.ports(), icmp.payload), (None, Some(42)));
    let dccp = of(33, &[0, 1, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((dccp.ports(), dccp.payload), (Some((1, 2)), Some(46)));
    let sctp = of(132, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((sctp.ports(), sctp.payload), (Some((1, 2)), Some(46)));
    let gre = of(47, &[0x20, 0, 8, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
    assert_eq!((gre.ports(), gre.payload), (None, Some(42)));
    let arp = walk(&frame(&[&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &[0; 20]]));
    assert_eq!(
        (arp.arp, arp.truncated, arp.key.version),
        (Some(2), false, 0)
    );
}

#[test]
fn nonsense_is_known_to_the_layer_before() {
    let wrong_version = walk(&frame(&[IPV6, &v4(28, 0, 17), &UDP, &[0; 40]]));
    assert_eq!(
        (wrong_version.reached, wrong_version.key.version),
        (Layer::Link, 0)
    );
    let mut head = v4(28, 0, 17);
    head[0] = 0x44;
    assert_eq!(walk(&frame(&[IPV4, &head, &UDP])).reached, Layer::Link);
    let short = walk(&frame(&[IPV4, &v4(12, 0, 17), &UDP]));
    assert_eq!((short.reached, short.ports()), (Layer::Network, None));
    assert_eq!(walk(&MACS).reached, Layer::Nothing);
}

#[test]
fn every_link_leads_to_the_same_packet() {
    let packet = [&v4(28, 0, 17)[..], &UDP].concat();
    let cooked2 = [&[8, 0][..], &[0; 18], &packet].concat();
    let cases = [
        (101, packet.clone(), 0),
        (0, [&[2, 0, 0, 0][..], &packet].concat(), 4),
        (108, [&[0, 0, 0, 2][..], &packet].concat(), 4),
        (9, [&[0x00, 0x21][..], &packet].concat(), 2),
        (50, [&[0xff, 0x03, 0x21][..], &packet].concat(), 3),
        (113, [&[0; 14][..], &[8, 0], &packet].concat(), 16),
        (276, cooked2, 20),
    ];
    for (number, bytes, network) in cases {
        let headers = walk_link(Link::from_number(number).unwrap(), &bytes);
        assert_eq!(headers.ports(), Some((12345, 53)), "link type {number}");
        assert_eq!(headers.network, Some(network), "link type {number}");
        assert_eq!(headers.wire_len as usize, bytes.len());
    }
    assert_eq!(Link::from_number(127), None);
}

#[test]
fn snap_and_pppoe_lead_to_ip() {
    let packet = [&v4(28, 0, 17)[..], &UDP].concat();
    let snap = [0, 36, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let headers = walk(&frame(&[&snap, &packet]));
    assert_eq!(
        (headers.eth_type, headers.network),
        (Some(0x0800), Some(22))
    );
    let pppoe = [0x88, 0x64, 0x11, 0, 0, 1, 0, 30, 0x00, 0x21];
    let headers = walk(&frame(&[&pppoe, &packet]));
    assert_eq!(
        (headers.eth_type, headers.network),
        (Some(0x8864), Some(22))
    );
    assert_eq!(headers.ports(), Some((12345, 53)));
}

#[test]
fn headers_stay_small() {
    assert!(size_of::<Headers>() <= 104, "{}", size_of::<Headers>());
}
