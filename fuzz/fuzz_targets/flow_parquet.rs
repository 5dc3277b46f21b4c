//! Any bytes as Parquet, or a file of ours with bytes changed: an error in words, or records.
#![no_main]

use std::sync::OnceLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mirrortap::record::parquet::{Fault, Reader, from_lines};

const LINES: &str = "\
version srcaddr dstport protocol packets bytes start end log-status x-vni
2 10.0.0.1 443 6 10 1000 100 160 OK 7
2 2001:db8::1 53 17 5000000000 9000000000000 100 160 OK -
2 - - - - - 100 160 NODATA 7
";

fuzz_target!(|data: &[u8]| {
    let Some((kind, content)) = data.split_first() else {
        return;
    };
    let bytes = if kind % 2 == 0 { content.to_vec() } else { changed(content) };
    let Ok(mut reader) = Reader::open(Bytes::from(bytes)) else {
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

/// A whole file, with changes: two bytes are a place, one is what is put there.
fn changed(changes: &[u8]) -> Vec<u8> {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    let mut file = WHOLE.get_or_init(|| from_lines(LINES.as_bytes(), Vec::new()).unwrap()).clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % file.len();
        file[at] = change[2];
    }
    file
}
