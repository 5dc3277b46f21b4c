//! Any text as a pcap-filter expression: refused with a mark below the place, or a filter that judges any frame the same twice.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mirrortap::filter::{Config, Direction, Filter};
use mirrortap::headers::walk;

fuzz_target!(|input: (u8, &str, &[u8])| {
    let (length, text, frame) = input;
    let config = Config {
        expression: Some(text.to_owned()),
        ..Config::default()
    };
    match Filter::compile(&config, Path::new("/")) {
        Ok(filter) => {
            let wire_len = frame.len() as u32 + u32::from(length);
            let headers = walk(frame);
            let [one, two] = [(); 2].map(|()| filter.judge(frame, &headers, wire_len, Direction::Unknown));
            assert_eq!(one.reject, two.reject);
            assert!(one.rule.is_none());
        }
        Err(errors) => assert!(errors.iter().all(|e| !e.to_string().is_empty()) && !errors.is_empty()),
    }
});
