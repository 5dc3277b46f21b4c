//! Any text as a configuration: no panic; what is wrong has its place, and what is right is shown as a text that says the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mirrortap::config::Config;

fuzz_target!(|text: &str| {
    // files that a configuration names would be read
    if text.contains("file") {
        return;
    }
    let file = Path::new("/nowhere/fuzz.toml");
    match Config::parse(file, text) {
        Ok(config) => {
            let shown = config.show().unwrap();
            let again = Config::parse(file, &shown).unwrap_or_else(|e| panic!("{e}\nof\n{shown}"));
            assert_eq!(again.show().unwrap(), shown);
        }
        Err(problems) => {
            assert!(!problems.list.is_empty());
            for problem in &problems.list {
                let span = problem.span.clone().unwrap_or_default();
                assert!(span.start <= span.end && span.end <= text.len(), "{problem:?}");
            }
            assert!(problems.to_string().starts_with("/nowhere/fuzz.toml:"));
        }
    }
});
