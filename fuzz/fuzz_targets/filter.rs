//! Any numbers are a program that ends, or refused; any text is an expression that compiles, or is marked; any JSON is
//! an import, or refused; and any rules judge any frame.
#![no_main]

use std::io::Write;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mirrortap::filter::{Config, Direction, Filter, Numbers, import};
use mirrortap::headers::walk;

fn judge(config: &Config, frame: &[u8], wire_len: u32) {
    let Ok(filter) = Filter::compile(config, Path::new("/")) else {
        return;
    };
    let headers = walk(frame);
    let judge = |direction| filter.judge(frame, &headers, wire_len, direction);
    let [ingress, egress, unknown] =
        [Direction::Ingress, Direction::Egress, Direction::Unknown].map(judge);
    // what is kept in either direction is kept when the direction is unknown
    let kept = ingress.reject.is_none() || egress.reject.is_none();
    assert_eq!(unknown.reject.is_none(), kept);
    for verdict in [ingress, egress, unknown] {
        assert!(
            verdict
                .rule
                .is_none_or(|rule| (rule as usize) < filter.rules().len())
        );
    }
}

/// The rules of a file with these bytes.
fn imported(json: &str) -> Config {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(json.as_bytes()).unwrap();
    let rules = import(file.path(), None).map(|import| import.rules);
    Config {
        rules: rules.unwrap_or_default(),
        ..Config::default()
    }
}

fuzz_target!(|input: (u8, Vec<u32>, &str, u32, &[u8])| {
    let (kind, numbers, text, wire_len, frame) = input;
    let config = match kind % 4 {
        0 => Config {
            bpf: Some(Numbers::List(numbers)),
            ..Config::default()
        },
        1 => Config {
            bpf: Some(Numbers::Text(text.to_owned())),
            ..Config::default()
        },
        2 => Config {
            expression: Some(text.to_owned()),
            ..Config::default()
        },
        _ => imported(text),
    };
    judge(&config, frame, wire_len);
});
