//! What IP carries: ports, flags, types.

use crate::headers::facts::{Icmp, Layer};
use crate::headers::{be16, field, proto};

/// What an IP header carries; the fields are those of [`crate::headers::Headers`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    pub(super) reached: Layer,
    pub(super) transport: Option<u16>,
    pub(super) payload: Option<u16>,
    pub(super) has_ports: bool,
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) tcp_flags: Option<u16>,
    pub(super) icmp: Option<Icmp>,
}

impl Carried {
    /// Where nothing of it is there.
    pub(super) const NOTHING: Self = Self {
        reached: Layer::Network,
        transport: None,
        payload: None,
        has_ports: false,
        sport: 0,
        dport: 0,
        tcp_flags: None,
        icmp: None,
    };

    /// A message of a protocol of which no more is known than that it begins at `at`.
    pub(super) fn message(at: usize) -> Self {
        Self {
            reached: Layer::Transport,
            payload: Some(at as u16),
            ..Self::begun(at)
        }
    }

    #[inline(always)]
    fn begun(at: usize) -> Self {
        Self {
            transport: Some(at as u16),
            ..Self::NOTHING
        }
    }

    /// A header with ports at `at`, `size` bytes long if its size can be told.
    #[inline(always)]
    fn with_ports(packet: &[u8], at: usize, size: Option<usize>) -> Self {
        let Some([a, b, c, d]) = field(packet, at) else {
            return Self::begun(at);
        };
        Self {
            reached: Layer::Transport,
            has_ports: true,
            sport: u16::from_be_bytes([*a, *b]),
            dport: u16::from_be_bytes([*c, *d]),
            payload: behind(packet, at, size),
            ..Self::begun(at)
        }
    }

    /// A header without ports, known if it is whole.
    fn without_ports(packet: &[u8], at: usize, size: Option<usize>) -> Self {
        let payload = behind(packet, at, size);
        Self {
            reached: payload.map_or(Layer::Network, |_| Layer::Transport),
            payload,
            ..Self::begun(at)
        }
    }
}

/// Where the payload begins, if the header before it is whole.
#[inline(always)]
fn behind(packet: &[u8], at: usize, size: Option<usize>) -> Option<u16> {
    size.map(|size| at + size)
        .filter(|end| *end <= packet.len())
        .map(|end| end as u16)
}

/// Reads the transport header at `at`, which is not outside the packet.
pub(super) fn read(protocol: u8, packet: &[u8], at: usize) -> Carried {
    match protocol {
        proto::TCP => tcp(packet, at),
        proto::UDP => udp(packet, at),
        other => rarer(other, packet, at),
    }
}

/// What TCP and UDP have in common, read without asking which it is: the two come mixed, and a jump that is guessed
/// wrong costs as much as half a walk. `None` for other protocols, and within 20 bytes of the end.
#[inline(always)]
pub(super) fn common(protocol: u8, packet: &[u8], at: usize) -> Option<Carried> {
    let is_tcp = protocol == proto::TCP;
    let head = field::<20>(packet, at)?;
    // one question for both: a jump for each would be guessed wrong as often as they take turns
    const PLAIN: u64 = 1 << proto::TCP | 1 << proto::UDP;
    if protocol >= 64 || PLAIN >> protocol & 1 == 0 {
        return None;
    }
    let word = u16::from_be_bytes([head[12], head[13]]);
    let size = if is_tcp {
        usize::from(word >> 12) * 4
    } else {
        8
    };
    let known = size >= if is_tcp { 20 } else { 8 };
    Some(Carried {
        reached: Layer::Transport,
        transport: Some(at as u16),
        payload: (known & (at + size <= packet.len())).then_some((at + size) as u16),
        has_ports: true,
        sport: u16::from_be_bytes([head[0], head[1]]),
        dport: u16::from_be_bytes([head[2], head[3]]),
        tcp_flags: is_tcp.then_some(word & 0x0fff),
        icmp: None,
    })
}

fn udp(packet: &[u8], at: usize) -> Carried {
    Carried::with_ports(packet, at, Some(8))
}

fn tcp(packet: &[u8], at: usize) -> Carried {
    let word = be16(packet, at + 12);
    let size = word.map(|word| usize::from(word >> 12) * 4);
    Carried {
        tcp_flags: word.map(|word| word & 0x0fff),
        ..Carried::with_ports(packet, at, size.filter(|size| *size >= 20))
    }
}

fn rarer(protocol: u8, packet: &[u8], at: usize) -> Carried {
    match protocol {
        proto::UDP_LITE => Carried::with_ports(packet, at, Some(8)),
        proto::SCTP => Carried::with_ports(packet, at, Some(12)),
        // RFC 4340: the byte behind the ports is the length of the header in words.
        proto::DCCP => {
            let words = packet.get(at + 4).copied();
            Carried::with_ports(packet, at, words.map(|words| usize::from(words) * 4))
        }
        proto::ICMP | proto::ICMPV6 => icmp(packet, at),
        proto::GRE => Carried::without_ports(packet, at, gre(packet, at)),
        proto::ESP => Carried::without_ports(packet, at, Some(8)),
        _ => Carried {
            payload: Some(at as u16),
            ..Carried::begun(at)
        },
    }
}

fn icmp(packet: &[u8], at: usize) -> Carried {
    let Some([kind, code]) = field(packet, at) else {
        return Carried::begun(at);
    };
    Carried {
        reached: Layer::Transport,
        icmp: Some(Icmp {
            kind: *kind,
            code: *code,
        }),
        payload: behind(packet, at, Some(8)),
        ..Carried::begun(at)
    }
}

/// Size of a GRE header: four bytes, and four more for each of checksum or routing, key, sequence number,
/// and (in version 1, PPTP) acknowledgement.
fn gre(packet: &[u8], at: usize) -> Option<usize> {
    let flags = be16(packet, at)?;
    let optional = [
        flags & 0xc000,
        flags & 0x2000,
        flags & 0x1000,
        flags & 0x0080,
    ];
    let words = 1 + optional.iter().filter(|bit| **bit != 0).count();
    Some(words * 4)
}
