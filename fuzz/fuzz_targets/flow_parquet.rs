//! Any bytes as Parquet: an error in words, or records that print as lines which read back.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mirrortap::record::parquet::{Fault, Reader};

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = Reader::open(Bytes::copy_from_slice(data)) else {
        return;
    };
    // a small file may claim any number of rows
    for _ in 0..10_000 {
        match reader.next_record() {
            Ok(Some(record)) => drop(record.to_string()),
            Ok(None) | Err(Fault::File(_)) => return,
            Err(_) => {}
        }
    }
});
