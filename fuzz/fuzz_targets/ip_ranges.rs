//! Any text as `ip-ranges.json`: refused with a place, or every address has a service that the file names, or none.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use mirrortap::flowlog::Services;

fuzz_target!(|data: &[u8]| {
    let (address, text) = data.split_at(data.len().min(16));
    let Ok(text) = str::from_utf8(text) else {
        return;
    };
    let Ok(services) = Services::from_json(text) else {
        return;
    };
    let mut bytes = [0; 16];
    bytes[..address.len()].copy_from_slice(address);
    let [a, b, c, d, ..] = bytes;
    for address in [IpAddr::from(bytes), IpAddr::from([a, b, c, d])] {
        let _ = services.of(address);
    }
});
