//! Other link types than Ethernet get a made-up Ethernet header, because a mirrored packet always has one.

use crate::capfile::LinkType;

/// Destination and source of a made-up header: locally administered addresses.
const MADE_UP: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// What stands before the payload of a frame: nothing when it was Ethernet, a header otherwise.
pub(crate) type Header = Option<[u8; 14]>;

/// `data` as an Ethernet frame: a header to put before it, and what follows. `None` when its link type
/// has no Ethernet form, or its protocol no EtherType.
pub(crate) fn to_ethernet(link: LinkType, data: &[u8]) -> Option<(Header, &[u8])> {
    let (ether_type, packet) = match link {
        LinkType::ETHERNET => return Some((None, data)),
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD => (version(data)?, data),
        LinkType::IPV4 => (IPV4, data),
        LinkType::IPV6 => (IPV6, data),
        LinkType::NULL | LinkType::LOOP => {
            let packet = data.get(4..)?;
            (version(packet)?, packet)
        }
        LinkType::LINUX_SLL => (word(data, 14)?, data.get(16..)?),
        LinkType::LINUX_SLL2 => (word(data, 0)?, data.get(20..)?),
        LinkType::PPP | LinkType::PPP_HDLC => ppp(data)?,
        _ => return None,
    };
    // Below 0x0600 SLL tells kinds of frames (802.2, CAN ...), which Ethernet would take for a length.
    (ether_type >= 0x0600).then(|| (Some(header(ether_type)), packet))
}

fn header(ether_type: u16) -> [u8; 14] {
    let mut header = [0; 14];
    header[..12].copy_from_slice(&MADE_UP);
    header[12..].copy_from_slice(&ether_type.to_be_bytes());
    header
}

fn version(packet: &[u8]) -> Option<u16> {
    match packet.first()? >> 4 {
        4 => Some(IPV4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// PPP, with or without its HDLC address and control bytes.
fn ppp(data: &[u8]) -> Option<(u16, &[u8])> {
    let data = data.strip_prefix(&[0xff, 0x03]).unwrap_or(data);
    let ether_type = match word(data, 0)? {
        0x0021 => IPV4,
        0x0057 => IPV6,
        _ => return None,
    };
    Some((ether_type, data.get(2..)?))
}

fn word(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_holds_ip_gets_a_header_that_says_so() {
        let ip4 = [0x45, 1, 2, 3];
        let ip6 = [0x60, 1, 2, 3];
        let sll = [&[0; 14][..], &[0x86, 0xdd], &ip6].concat();
        let sll2 = [&[0x08, 0][..], &[0; 18], &ip4].concat();
        let null = [&[2, 0, 0, 0][..], &ip4].concat();
        let cases = [
            (LinkType::RAW, &ip4[..], IPV4, &ip4),
            (LinkType::RAW, &ip6, IPV6, &ip6),
            (LinkType::NULL, &null, IPV4, &ip4),
            (LinkType::LINUX_SLL, &sll, IPV6, &ip6),
            (LinkType::LINUX_SLL2, &sll2, IPV4, &ip4),
            (
                LinkType::PPP,
                &[0xff, 3, 0, 0x21, 0x45, 1, 2, 3],
                IPV4,
                &ip4,
            ),
            (LinkType::PPP, &[0, 0x57, 0x60, 1, 2, 3], IPV6, &ip6),
        ];
        for (link, data, ether_type, packet) in cases {
            let (header, rest) = to_ethernet(link, data).unwrap();
            assert_eq!(header.unwrap()[12..], ether_type.to_be_bytes(), "{link}");
            assert_eq!(rest, packet, "{link}");
        }
    }

    #[test]
    fn ethernet_stays_as_it_is_however_short() {
        assert_eq!(to_ethernet(LinkType::ETHERNET, &[]), Some((None, &[][..])));
        assert_eq!(
            to_ethernet(LinkType::ETHERNET, &[1]),
            Some((None, &[1][..]))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_of_any_link_type_end_with_what_follows(link in 0_u16..300, data: Vec<u8>) {
            if let Some((_, rest)) = to_ethernet(LinkType(link), &data) {
                prop_assert!(data.ends_with(rest));
            }
        }
    }
}
