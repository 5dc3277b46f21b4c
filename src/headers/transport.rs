//! What IP carries: ports, flags, types.

use crate::headers::facts::{Headers, Icmp, Layer};
use crate::headers::{be16, field, proto};

/// Reads the transport header at `at`, which is not outside the packet.
#[inline]
pub(super) fn read(headers: &mut Headers, packet: &[u8], at: usize) {
    headers.transport = Some(at as u16);
    match headers.key.proto {
        proto::TCP => tcp(headers, packet, at),
        proto::UDP | proto::UDP_LITE => {
            ports(headers, packet, at);
            headers.behind(packet, at + 8);
        }
        other => rarer(headers, packet, at, other),
    }
}

#[inline]
fn tcp(headers: &mut Headers, packet: &[u8], at: usize) {
    ports(headers, packet, at);
    let Some(word) = be16(packet, at + 12) else {
        return;
    };
    headers.tcp_flags = Some(word & 0x0fff);
    let head_len = usize::from(word >> 12) * 4;
    if head_len >= 20 {
        headers.behind(packet, at + head_len);
    }
}

#[inline]
fn ports(headers: &mut Headers, packet: &[u8], at: usize) {
    if let Some([a, b, c, d]) = field(packet, at) {
        headers.reached = Layer::Transport;
        headers.has_ports = true;
        headers.key.sport = u16::from_be_bytes([*a, *b]);
        headers.key.dport = u16::from_be_bytes([*c, *d]);
    }
}

fn rarer(headers: &mut Headers, packet: &[u8], at: usize, protocol: u8) {
    match protocol {
        proto::ICMP | proto::ICMPV6 => {
            if let Some([kind, code]) = field(packet, at) {
                headers.reached = Layer::Transport;
                headers.icmp = Some(Icmp {
                    kind: *kind,
                    code: *code,
                });
            }
            headers.behind(packet, at + 8);
        }
        proto::SCTP => {
            ports(headers, packet, at);
            headers.behind(packet, at + 12);
        }
        proto::DCCP => dccp(headers, packet, at),
        proto::GRE => gre(headers, packet, at),
        proto::ESP => {
            headers.behind(packet, at + 8);
            headers.reached_if_whole();
        }
        _ => headers.payload = Some(at as u16),
    }
}

/// DCCP (RFC 4340): the byte behind the ports is the length of the header in words.
fn dccp(headers: &mut Headers, packet: &[u8], at: usize) {
    ports(headers, packet, at);
    if let Some(words) = packet.get(at + 4) {
        headers.behind(packet, at + usize::from(*words) * 4);
    }
}

/// GRE: four bytes, and four more for each of checksum or routing, key, sequence number, and (in
/// version 1, PPTP) acknowledgement.
fn gre(headers: &mut Headers, packet: &[u8], at: usize) {
    let Some(flags) = be16(packet, at) else {
        return;
    };
    let optional = [
        flags & 0xc000,
        flags & 0x2000,
        flags & 0x1000,
        flags & 0x0080,
    ];
    let words = 1 + optional.iter().filter(|bit| **bit != 0).count();
    headers.behind(packet, at + words * 4);
    headers.reached_if_whole();
}

impl Headers {
    /// Notes that the payload begins at `at`, if the header before it is whole.
    #[inline]
    fn behind(&mut self, packet: &[u8], at: usize) {
        if at <= packet.len() {
            self.payload = Some(at as u16);
        }
    }

    fn reached_if_whole(&mut self) {
        if self.payload.is_some() {
            self.reached = Layer::Transport;
        }
    }
}
