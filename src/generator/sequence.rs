//! The mark that synthetic packets carry, so that a receiver can tell which are missing.
//!
//! It lies at the start of the transport payload, 32 bytes, big-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | the letters `mtap` |
//! | 4 | 4 | VNI |
//! | 8 | 8 | sequence number in the run, from 0 |
//! | 16 | 8 | sequence number within the VNI, from 0 |
//! | 24 | 8 | wall-clock time of sending, nanoseconds since the Unix epoch |
//!
//! In the inner frame that is byte 42 (IPv4 and UDP), 54 (IPv4 and TCP), 62 (IPv6 and UDP) or 74 (IPv6
//! and TCP). The time is read once for each burst of packets.

use crate::packet::Vni;
use crate::time::Timestamp;

/// How many bytes a mark takes.
pub const LEN: usize = 32;

const MAGIC: [u8; 4] = *b"mtap";

/// What a synthetic packet says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sequence {
    /// The VNI that it was sent with.
    pub vni: Vni,
    /// Its number in the run, from 0.
    pub number: u64,
    /// Its number among those of its VNI, from 0.
    pub in_vni: u64,
    /// When it was sent.
    pub time: Timestamp,
}

impl Sequence {
    pub(crate) fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.vni.value().to_be_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.in_vni.to_be_bytes());
        bytes[24..].copy_from_slice(&self.time.nanos().to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; LEN]) -> Option<Self> {
        let long = |at: usize| {
            bytes
                .get(at..)?
                .first_chunk()
                .copied()
                .map(u64::from_be_bytes)
        };
        let vni = u32::from_be_bytes(*bytes[4..].first_chunk()?);
        (bytes[..4] == MAGIC).then_some(Self {
            vni: Vni::new(vni),
            number: long(8)?,
            in_vni: long(16)?,
            time: Timestamp::from_nanos(long(24)?),
        })
    }
}

/// The mark of an inner frame that a [`Generator`](crate::generator::Generator) made; `None` for
/// every other frame, and for one that was cut within its mark.
pub fn read(frame: &[u8]) -> Option<Sequence> {
    let ip = frame.get(14..)?;
    let (ip_len, proto) = match *frame.get(12..14)? {
        [0x08, 0x00] => (20, *ip.get(9)?),
        [0x86, 0xdd] => (40, *ip.get(6)?),
        _ => return None,
    };
    let transport_len = match proto {
        6 => 20,
        17 => 8,
        _ => return None,
    };
    let payload = ip.get(ip_len + transport_len..)?;
    Sequence::from_bytes(payload.first_chunk()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mark_reads_back_as_it_was_written(vni: u32, number: u64, in_vni: u64, nanos: u64) {
            let mark = Sequence {
                vni: Vni::new(vni), number, in_vni, time: Timestamp::from_nanos(nanos),
            };
            prop_assert_eq!(Sequence::from_bytes(&mark.to_bytes()), Some(mark));
        }

        #[test]
        fn foreign_frames_have_no_mark(frame: Vec<u8>) {
            prop_assert_eq!(read(&frame), None);
        }
    }
}
