//! Outer packets taken apart once more, by the plainest means: what should have come out of the sensor.

use std::collections::BTreeMap;

use crate::common::Packet;

/// A mirrored frame as tcpdump saw it go by.
#[derive(Clone, Debug)]
pub struct Seen {
    pub vni: u32,
    pub frame: Vec<u8>,
    /// When its last part went by.
    pub nanos: u64,
}

/// The mirrored frames in packets that tcpdump saw.
pub fn unwrap(packets: &[Packet]) -> Vec<Seen> {
    let mut parts = Parts::default();
    let datagrams = packets
        .iter()
        .filter_map(|p| Some((parts.add(&p.data)?, p)));
    let seen = datagrams.filter_map(|(udp, packet)| {
        let vxlan = match u16_at(&udp, 2) {
            4789 => udp[8..].to_vec(),
            6081 => inside_geneve(&udp[8..]),
            _ => return None,
        };
        Some(Seen {
            vni: u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]),
            frame: vxlan[8..].to_vec(),
            nanos: packet.nanos,
        })
    });
    seen.collect()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// GENEVE with options, around an IPv4 packet with UDP in it.
fn inside_geneve(geneve: &[u8]) -> Vec<u8> {
    let options = usize::from(geneve[0] & 0x3f) * 4;
    let ip = &geneve[8 + options..];
    ip[usize::from(ip[0] & 15) * 4 + 8..].to_vec()
}

/// Datagrams in parts, by addresses and identification.
#[derive(Default)]
struct Parts {
    known: BTreeMap<Vec<u8>, Of>,
}

/// Parts of one datagram by where they belong: bytes, and whether more follow.
type Of = BTreeMap<usize, (Vec<u8>, bool)>;

impl Parts {
    /// The UDP header and payload of a datagram, once they are all there.
    fn add(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut at = 12;
        while matches!(u16_at(frame, at), 0x8100 | 0x88a8) {
            at += 4;
        }
        let ip = &frame[at + 2..];
        let (key, offset, more, bytes) = match u16_at(frame, at) {
            0x0800 if ip[9] == 17 => {
                let field = u16_at(ip, 6);
                let end = usize::from(u16_at(ip, 2));
                let bytes = &ip[usize::from(ip[0] & 15) * 4..end];
                let key = [&ip[4..6], &ip[12..20]].concat();
                (
                    key,
                    usize::from(field & 0x1fff) * 8,
                    field & 0x2000 != 0,
                    bytes,
                )
            }
            0x86dd if ip[6] == 17 => return Some(ip[40..].to_vec()),
            0x86dd if ip[6] == 44 && ip[40] == 17 => {
                let field = u16_at(ip, 42);
                let key = [&ip[44..48], &ip[8..40]].concat();
                (key, usize::from(field & !7), field & 1 != 0, &ip[48..])
            }
            _ => return None,
        };
        if offset == 0 && !more {
            return Some(bytes.to_vec());
        }
        let parts = self.known.entry(key.clone()).or_default();
        parts.insert(offset, (bytes.to_vec(), more));
        let whole = joined(parts)?;
        self.known.remove(&key);
        Some(whole)
    }
}

fn joined(parts: &Of) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    for (offset, (bytes, more)) in parts {
        if *offset != whole.len() {
            return None;
        }
        whole.extend(bytes);
        if !more {
            return Some(whole);
        }
    }
    None
}
