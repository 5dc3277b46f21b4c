//! The frames of a block of a packet ring.
//!
//! Takes: the bytes of a block that the kernel has handed over. Gives: its [`Frame`]s, in order. Holds: nothing outside the block
//! is ever told, whatever its headers say. Layout: linux/if_packet.h, `tpacket_block_desc` and `tpacket3_hdr`.

use crate::time::Timestamp;

/// The time is the kernel's own, or the network card's (linux/if_packet.h, `TP_STATUS_TS_*`).
const FROM_CARD: u32 = 1 << 31;
/// The network card took a VLAN tag off and told it beside the frame.
const TAG_TAKEN: u32 = 1 << 4;

/// One frame of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    /// Where it starts in the block.
    pub(super) start: usize,
    /// Bytes that are there.
    pub(super) caplen: u32,
    /// Bytes that it had on the wire.
    pub(super) origlen: u32,
    /// When it was received.
    pub(super) time: Timestamp,
    /// Whether the network card said when.
    pub(super) is_card_time: bool,
    /// Whether it had an outer VLAN tag, which is no longer in it.
    pub(super) had_tag: bool,
}

/// The frames of a block, in the order in which they came.
pub(super) struct Frames<'a> {
    block: &'a [u8],
    left: u32,
    at: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn of(block: &'a [u8]) -> Self {
        Self {
            block,
            left: word(block, 12).unwrap_or(0),
            at: word(block, 16).unwrap_or(0) as usize,
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        self.left = self.left.checked_sub(1)?;
        let header = self.block.get(self.at..)?.first_chunk::<28>()?;
        let at = |i: usize| word(header, i).unwrap_or(0);
        let status = at(20);
        let mac = u16::from_ne_bytes([header[24], header[25]]);
        let start = self.at + usize::from(mac);
        let caplen = at(12);
        self.block.get(start..start + caplen as usize)?;
        self.at += at(0) as usize;
        Some(Frame {
            start,
            caplen,
            origlen: at(16),
            time: Timestamp::from_parts(u64::from(at(4)), at(8)),
            is_card_time: status & FROM_CARD != 0,
            had_tag: status & TAG_TAKEN != 0,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(frames: &[&[u8]]) -> Vec<u8> {
        let mut block = vec![0; 48];
        block[12..16].copy_from_slice(&(frames.len() as u32).to_ne_bytes());
        block[16..20].copy_from_slice(&48_u32.to_ne_bytes());
        for (i, frame) in frames.iter().enumerate() {
            let size = (68 + frame.len()).next_multiple_of(16);
            let mut header = vec![0; size];
            header[68..68 + frame.len()].copy_from_slice(frame);
            let next = if i + 1 < frames.len() { size as u32 } else { 0 };
            for (at, value) in [
                (0, next),
                (4, 1_000 + i as u32),
                (8, 5),
                (12, frame.len() as u32),
                (16, 2 * frame.len() as u32),
                (20, [FROM_CARD, TAG_TAKEN][i % 2]),
                (24, 68),
            ] {
                header[at..at + 4].copy_from_slice(&u32::to_ne_bytes(value));
            }
            block.extend(header);
        }
        block
    }

    #[test]
    fn the_frames_of_a_block_come_in_order_with_times_and_both_lengths() {
        let block = block(&[b"one", b"three"]);
        let frames: Vec<Frame> = Frames::of(&block).collect();
        let bytes = |f: &Frame| block[f.start..f.start + f.caplen as usize].to_vec();
        assert_eq!(
            frames.iter().map(bytes).collect::<Vec<_>>(),
            [&b"one"[..], b"three"]
        );
        assert_eq!(frames[1].origlen, 10);
        assert_eq!(frames[1].time, Timestamp::from_parts(1_001, 5));
        assert_eq!(
            frames.iter().map(|f| f.is_card_time).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(
            frames.iter().map(|f| f.had_tag).collect::<Vec<_>>(),
            [false, true]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_frame_that_lies_outside_its_block(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            count in 0_u32..20,
            first in 0_u32..100,
        ) {
            for (at, value) in [(12, count), (16, first)] {
                if let Some(place) = bytes.get_mut(at..at + 4) { place.copy_from_slice(&value.to_ne_bytes()); }
            }
            for frame in Frames::of(&bytes) {
                prop_assert!(frame.start + frame.caplen as usize <= bytes.len());
            }
        }
    }
}
