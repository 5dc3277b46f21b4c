//! Any bytes as a capture file: no panic, nothing out of nothing, and what is before the damage is whole.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use mirrortap::capfile::Reader;

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = Reader::from_read(Cursor::new(data.to_vec()), "fuzz") else {
        return;
    };
    let mut packets = 0usize;
    while let Ok(Some(record)) = reader.next() {
        assert!(record.origlen as usize >= record.data.len());
        packets += 1;
    }
    // Compressed captures say offsets of what they hold, so only plain ones can be cut here.
    let Some(damage) = reader.damage() else {
        return;
    };
    let packed = data.starts_with(&[0x1F, 0x8B]) || !is_capture(data);
    let Some(whole) = data.get(..damage.offset as usize).filter(|_| !packed) else {
        return;
    };
    let mut again = Reader::from_read(Cursor::new(whole.to_vec()), "whole part").unwrap();
    while let Ok(Some(_)) = again.next() {
        packets -= 1;
    }
    assert_eq!(packets, 0);
    assert!(again.damage().is_none());
});

/// Begins with the magic of a plain capture.
fn is_capture(data: &[u8]) -> bool {
    matches!(
        data,
        [0x0A, 0x0D, 0x0D, 0x0A, ..]
            | [0xA1, 0xB2, 0xC3, 0xD4, ..]
            | [0xA1, 0xB2, 0x3C, 0x4D, ..]
            | [0xA1, 0xB2, 0xCD, 0x34, ..]
            | [0xD4, 0xC3, 0xB2, 0xA1, ..]
            | [0x4D, 0x3C, 0xB2, 0xA1, ..]
            | [0x34, 0xCD, 0xB2, 0xA1, ..]
    )
}
