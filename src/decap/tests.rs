//! Claims about what is unwrapped, and what is refused by which name.

use proptest::prelude::*;

use super::*;

const PORTS: Ports = Ports {
    vxlan: 4789,
    geneve: 6081,
};

fn vxlan_header(flags: u8, vni: u32) -> Vec<u8> {
    let v = vni.to_be_bytes();
    vec![flags, 0, 0, 0, v[1], v[2], v[3], 0]
}

/// GENEVE with the three AWS options, as a Gateway Load Balancer sends it.
fn gwlb(middle_proto: u8, middle_port: u16, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![8, 0, 0x08, 0, 0, 0, 0, 0];
    out.extend([1, 8, 1, 2, 0x2b, 0x8e, 0xe1, 0xd4, 0xdb, 0x0c, 0x51, 0xc4]);
    out.extend([1, 8, 2, 2, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
    out.extend([1, 8, 3, 1, 0xde, 0xad, 0xbe, 0xef]);
    let total = (20 + 8 + inner.len()) as u16;
    let [t1, t2] = total.to_be_bytes();
    out.extend([
        0x45,
        0,
        t1,
        t2,
        0,
        0,
        0,
        0,
        255,
        middle_proto,
        0,
        0,
        10,
        0,
        1,
        10,
        10,
        0,
        3,
        30,
    ]);
    let [p1, p2] = middle_port.to_be_bytes();
    let [l1, l2] = (total - 20).to_be_bytes();
    out.extend([0xff, 0xc2, p1, p2, l1, l2, 0, 0]);
    out.extend(inner);
    out
}

fn vxlan_payload(vni: u32, inner: &[u8]) -> Vec<u8> {
    [vxlan_header(8, vni).as_slice(), inner].concat()
}

#[test]
fn a_vxlan_payload_gives_its_frame_and_vni() {
    let payload = vxlan_payload(5_569_041, b"frame");
    let inner = unwrap(&payload, 0, 4789, PORTS).unwrap();
    assert_eq!((inner.start, inner.len, inner.cut), (8, 5, 0));
    assert_eq!(inner.vni, Vni::new(5_569_041));
    assert!(!inner.reserved_bits);
}

#[test]
fn reserved_bits_are_ignored_and_told() {
    for at in [1, 2, 3, 7] {
        let mut payload = vxlan_payload(7, b"frame");
        payload[at] = 1;
        assert!(unwrap(&payload, 0, 4789, PORTS).unwrap().reserved_bits);
    }
    let payload = [vxlan_header(0x88, 7).as_slice(), b"frame"].concat();
    assert!(unwrap(&payload, 0, 4789, PORTS).unwrap().reserved_bits);
}

#[test]
fn what_is_not_vxlan_is_refused_by_name() {
    let cases: [(&[u8], DropReason); 4] = [
        (b"", DropReason::Short),
        (&[8, 0, 0, 0, 0, 0, 1], DropReason::Short),
        (&[0, 0, 0, 0, 0, 0, 1, 0, 1], DropReason::NoVniFlag),
        (&[8, 0, 0, 0, 0, 0, 1, 0], DropReason::EmptyInner),
    ];
    for (payload, reason) in cases {
        assert_eq!(unwrap(payload, 0, 4789, PORTS), Err(reason), "{payload:?}");
    }
}

#[test]
fn gwlb_wrapping_gives_the_mirrored_eni_and_the_endpoint() {
    let payload = gwlb(17, 4789, &vxlan_payload(1234, b"frame"));
    let inner = unwrap(&payload, 0, 6081, PORTS).unwrap();
    assert_eq!(&payload[inner.start..inner.start + inner.len], b"frame");
    assert_eq!(inner.vni, Vni::new(1234));
    assert_eq!(inner.source, Some("10.0.1.10".parse().unwrap()));
    assert_eq!(inner.endpoint.unwrap().to_string(), "2b8ee1d4db0c51c4");
}

#[test]
fn bytes_behind_the_middle_length_are_not_the_frame_and_missing_ones_are_cut() {
    let whole = gwlb(17, 4789, &vxlan_payload(1, b"frame"));
    let padded = [whole.as_slice(), &[0; 9]].concat();
    assert_eq!(unwrap(&padded, 0, 6081, PORTS).unwrap().len, 5);
    let short = &whole[..whole.len() - 2];
    let inner = unwrap(short, 2, 6081, PORTS).unwrap();
    assert_eq!((inner.len, inner.cut), (3, 2));
}

#[test]
fn geneve_that_is_no_mirror_is_refused_by_name() {
    let vxlan = vxlan_payload(1, b"frame");
    let mut fragment = gwlb(17, 4789, &vxlan);
    fragment[40 + 6] = 0x20;
    let mut version = gwlb(17, 4789, &vxlan);
    version[0] |= 0x40;
    let mut overrun = gwlb(17, 4789, &vxlan);
    overrun[11] = 0x1f;
    let mut mpls = gwlb(17, 4789, &vxlan);
    (mpls[2], mpls[3]) = (0x88, 0x47);
    let cases = [
        (gwlb(47, 4789, &vxlan), DropReason::GeneveNotVxlan),
        (gwlb(17, 53, &vxlan), DropReason::GeneveNotVxlan),
        (gwlb(17, 6081, &vxlan), DropReason::NestedTooDeep),
        (gwlb(17, 4789, &[8, 0, 0]), DropReason::Short),
        (gwlb(17, 4789, &vxlan_header(0, 5)), DropReason::NoVniFlag),
        (fragment, DropReason::GeneveFragment),
        (version, DropReason::BadGeneve),
        (overrun, DropReason::BadGeneve),
        (mpls, DropReason::GeneveProtocol),
        (vec![8, 0, 8, 0, 0, 0, 0, 0, 1], DropReason::Short),
    ];
    for (payload, reason) in cases {
        assert_eq!(
            unwrap(&payload, 0, 6081, PORTS),
            Err(reason),
            "{payload:02x?}"
        );
    }
}

#[test]
fn geneve_with_ethernet_keeps_the_geneve_vni() {
    let payload = [&[0, 0, 0x65, 0x58, 0, 0, 11, 0][..], b"frame"].concat();
    let inner = unwrap(&payload, 0, 6081, PORTS).unwrap();
    assert_eq!(
        (inner.vni, inner.len, inner.source),
        (Vni::new(11), 5, None)
    );
}

#[test]
fn a_port_that_is_neither_is_told_by_shape() {
    let vxlan = vxlan_payload(1, b"frame");
    assert_eq!(unwrap(&vxlan, 0, 14789, PORTS).unwrap().source, None);
    assert!(
        unwrap(&gwlb(17, 4789, &vxlan), 0, 14789, PORTS)
            .unwrap()
            .source
            .is_some()
    );
}

#[test]
fn a_vxlan_inside_the_mirrored_packet_stays() {
    let nested = vxlan_payload(1, &vxlan_payload(2, b"frame"));
    let inner = unwrap(&nested, 0, 4789, PORTS).unwrap();
    assert_eq!((inner.vni, inner.len), (Vni::new(1), 13));
}

proptest! {
    #[test]
    fn the_frame_always_lies_inside_the_payload(
        payload in proptest::collection::vec(any::<u8>(), 0..200), geneve: bool, cut in 0usize..2000,
    ) {
        let port = if geneve { 6081 } else { 4789 };
        if let Ok(inner) = unwrap(&payload, cut, port, PORTS) {
            prop_assert!(inner.len > 0);
            prop_assert!(inner.start + inner.len <= payload.len());
        }
    }

    #[test]
    fn every_prefix_of_a_gwlb_packet_is_refused_or_shorter(len in 0usize..120) {
        let whole = gwlb(17, 4789, &vxlan_payload(1, &[7; 40]));
        let len = len.min(whole.len());
        if let Ok(inner) = unwrap(&whole[..len], whole.len() - len, 6081, PORTS) {
            prop_assert_eq!(inner.len + inner.cut, 40);
        }
    }
}
