//! Any bytes as a capture of outer packets: every record ends as a datagram, a refusal, or merged.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use mirrortap::packet::Ports;
use mirrortap::source::replay::Replay;
use mirrortap::source::{Received, Source};

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    let Ok(mut source) = Replay::open(vec![file.path().to_owned()], Ports::default()) else {
        return;
    };
    let mut batch = source.new_batch(0);
    let (mut ended, mut order) = (0, 0);
    loop {
        batch.clear();
        let received = source.receive(&mut batch).unwrap();
        for datagram in &batch.datagrams {
            assert!(datagram.order >= order && datagram.order < batch.order);
            assert_eq!(
                batch.bytes(datagram.start, datagram.len).len(),
                datagram.len as usize
            );
            order = datagram.order + 1;
        }
        ended += batch.datagrams.len() as u64 + batch.refused.received;
        if received == Received::End {
            break;
        }
    }
    let progress = source.progress();
    assert_eq!(
        progress.records.value(),
        ended + progress.fragments_merged.value()
    );
});
