//! Every file under config/ is good, and shows every key with its default.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mirrortap::config::Config;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(!files.is_empty());
    files
}

/// The text with every commented-out setting in force.
fn uncommented(text: &str) -> String {
    let setting = |line: &str| {
        let rest = line.strip_prefix('#')?;
        let first = rest.chars().next()?;
        let is_setting = first.is_ascii_lowercase() && rest.contains(" = ")
            || first == '['
            || "]{} ".contains(first) && rest.trim_start().starts_with(['{', ']']);
        is_setting.then(|| rest.to_owned())
    };
    text.lines()
        .map(|l| setting(l).unwrap_or_else(|| l.to_owned()) + "\n")
        .collect()
}

fn keys(text: &str) -> BTreeSet<String> {
    fn walk(prefix: &str, value: &toml::Value, keys: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    walk(&format!("{prefix}.{key}"), value, keys);
                }
            }
            toml::Value::Array(array) if prefix == ".session" || prefix == ".flow_log" => {
                array.iter().for_each(|v| walk(prefix, v, keys));
            }
            _ => {
                keys.insert(prefix.to_owned());
            }
        }
    }
    let mut all = BTreeSet::new();
    walk("", &toml::from_str(text).unwrap(), &mut all);
    all
}

#[test]
fn every_configuration_is_good() {
    for file in files() {
        Config::load(&file).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn the_packaged_configuration_changes_nothing_and_its_comments_are_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mirrortap.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(Config::load(&file).unwrap(), Config::default());
    // up to the sessions, which have no defaults, and without the hook, which is an example
    let general = text
        .split("# Mirror sessions")
        .next()
        .unwrap()
        .replace("#on_close", "# on_close");
    let said = Config::parse(&file, &uncommented(&general)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(said.show().unwrap(), Config::default().show().unwrap());
}

#[test]
fn the_packaged_configuration_names_every_key() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mirrortap.toml");
    let text = uncommented(&std::fs::read_to_string(file).unwrap());
    let there = keys(&text);
    let mut config = Config::default();
    config.writer.on_close = Some(Vec::new());
    config.flow_log = vec![mirrortap::flowlog::Config::default()];
    let known = keys(&config.show().unwrap());
    let missing: Vec<_> = known
        .difference(&there)
        .filter(|k| *k != ".session")
        .collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
    for key in [
        "name",
        "vni",
        "source",
        "eni_mac",
        "eni_address",
        "packet_length",
        "filter.expression",
        "filter.file",
        "filter.id",
        "filter.rules",
        "capture.format",
    ] {
        assert!(
            there.contains(&format!(".session.{key}")),
            "not shown: {key} of {there:?}"
        );
    }
}
