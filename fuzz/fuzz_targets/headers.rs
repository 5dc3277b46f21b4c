//! Any bytes, as any kind of link, are walked over without a panic, and what the walk says of them
//! lies within them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirrortap::headers::{Link, walk_link};

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, frame) = input;
    let numbers = [1, 1, 1, 101, 0, 9, 113, 276];
    let number = numbers[usize::from(choice) % numbers.len()];
    let headers = walk_link(Link::from_number(number).unwrap_or_default(), frame);
    assert!(headers.wire_len as usize >= frame.len());
    for offset in [headers.network, headers.transport, headers.payload] {
        assert!(offset.is_none_or(|at| usize::from(at) <= frame.len()));
    }
    assert_eq!(headers.labels.of(frame).count(), headers.labels.count());
});
