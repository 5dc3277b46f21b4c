//! Any text as what `aws ec2 describe-traffic-mirror-filters` prints: refused with advice, or rules that compile or say why not.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mirrortap::filter::{Config, Direction, Filter, import_text};
use mirrortap::headers::walk;

fuzz_target!(|text: &str| {
    let path = Path::new("filters.json");
    let import = match import_text(path, text, None) {
        Ok(import) => import,
        Err(error) => return assert!(error.to_string().contains("filters.json"), "{error}"),
    };
    // the same one by its id
    let by_id = import_text(path, text, Some(&import.id));
    assert!(by_id.is_ok_and(|again| again.rules == import.rules));
    let count = import.rules.len();
    let config = Config {
        rules: import.rules,
        ..Config::default()
    };
    if let Ok(filter) = Filter::compile(&config, Path::new("/")) {
        assert_eq!(filter.rules().len(), count);
        let frame = [0_u8; 60];
        filter.judge(&frame, &walk(&frame), 60, Direction::Ingress);
    }
});
