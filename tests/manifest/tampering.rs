//! Whatever is changed, removed or added is found.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::{Strategy, any, prop, proptest};
use proptest::test_runner::Config;
use serde_json::Value;

use crate::support::{Place, check};

/// `line` with another value for `key`; the rest stays byte for byte.
fn forged(line: &str, key: &str, value: &Value) -> String {
    if value.is_object() {
        let (full, empty) = (format!("\"{key}\":{{\""), format!("\"{key}\":{{}}"));
        let other = line.replacen(&full, &format!("\"{key}\":{{\"forged\":1,\""), 1);
        return other.replacen(&empty, &format!("\"{key}\":{{\"forged\":1}}"), 1);
    }
    let old = format!("\"{key}\":{value}");
    assert!(line.contains(&old), "{old} in {line}");
    let new = match value {
        Value::Number(n) => (n.as_u64().unwrap() + 1).to_string(),
        Value::String(s) if s.ends_with('0') => format!("{:?}", format!("{}1", &s[..s.len() - 1])),
        Value::String(s) if s.is_empty() => "\"x\"".to_owned(),
        Value::String(s) => format!("{:?}", format!("{}0", &s[..s.len() - 1])),
        Value::Array(_) => "[1]".to_owned(),
        Value::Null | Value::Object(_) => "1".to_owned(),
        Value::Bool(b) => (!b).to_string(),
    };
    line.replacen(&old, &format!("\"{key}\":{new}"), 1)
}

#[test]
fn a_change_of_any_field_of_any_line_is_found() {
    let place = Place::new();
    let (key, public) = place.key("k.pem");
    place.replay(&format!(
        "[manifest]\nkey = '{key}'\n[capture]\nrotate_packets = 60"
    ));
    let head = place.head().parse().unwrap();
    let (text, keys) = (place.text(), ["--public-key", public.as_str()]);
    place.assert_good(&keys);
    let lines: Vec<&str> = text.lines().collect();
    let mut tried = 0;
    for (number, line) in lines.iter().enumerate() {
        let fields: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        for (key, value) in &fields {
            let mut changed: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
            changed[number] = forged(line, key, value);
            fs::write(place.manifest(), changed.join("\n") + "\n").unwrap();
            let (summary, findings) = check(&place.out(), Some(head));
            assert!(
                summary.damages > 0,
                "{key} of line {}: {findings:?}",
                number + 1
            );
            tried += 1;
        }
    }
    assert!(tried > 50);
    // a signature finds it without the head, and names the line
    let last = lines.len() - 1;
    let mut changed: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
    changed[last] = changed[last].replace("\"kind\":\"stopped\"", "\"kind\":\"stoppeD\"");
    fs::write(place.manifest(), changed.join("\n") + "\n").unwrap();
    let (code, report) = place.verify(&keys);
    assert_eq!(code, 65);
    let bad = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["what"] == "bad signature");
    assert_eq!(bad.unwrap()["line"].as_u64(), Some(lines.len() as u64));
}

#[test]
fn lines_that_are_removed_moved_added_or_cut_off_are_found() {
    let place = Place::filled();
    let (head, text) = (place.head(), place.text());
    let lines: Vec<&str> = text.lines().collect();
    let write = |lines: &[&str]| fs::write(place.manifest(), lines.join("\n") + "\n").unwrap();
    let mut without = lines.clone();
    without.remove(2);
    write(&without);
    assert_eq!(
        place.damages(&[]),
        ["out of sequence", "broken chain", "not listed"]
    );
    let mut moved = lines.clone();
    moved.swap(1, 2);
    write(&moved);
    assert!(place.damages(&[]).contains(&"broken chain".to_owned()));
    let mut twice = lines.clone();
    twice.insert(2, lines[1]);
    write(&twice);
    assert!(place.damages(&[]).contains(&"listed twice".to_owned()));
    write(&lines[1..]);
    assert!(place.damages(&[]).contains(&"broken chain".to_owned()));
    // what the chain alone cannot show
    write(&lines[..lines.len() - 1]);
    assert_eq!(place.damages(&[]), [""; 0]);
    assert_eq!(place.damages(&["--head", &head]), ["head missing"]);
    // a line that is none is told, and the rest is checked
    let mut odd = lines.clone();
    odd.insert(2, "what is this");
    write(&odd);
    let (_, report) = place.verify(&[]);
    assert_eq!(report["findings"][0]["what"], "damaged line");
    assert_eq!(report["findings"][0]["line"], 3);
    assert_eq!(report["files"].as_u64(), Some(place_files(&place)));
    write(&lines);
    place.assert_good(&["--head", &head]);
}

fn place_files(place: &Place) -> u64 {
    crate::common::files(&place.out()).len() as u64
}

#[test]
fn a_chain_that_somebody_made_anew_or_went_on_with_is_not_signed() {
    let (place, other) = (Place::new(), Place::filled());
    let (key, public) = place.key("k.pem");
    let keys = ["--public-key", public.as_str()];
    place.replay(&format!("[manifest]\nkey = '{key}'"));
    place.assert_good(&keys);
    place.replay("");
    assert_eq!(place.damages(&keys), ["unsigned"]);
    fs::write(place.manifest(), other.text()).unwrap();
    assert!(place.damages(&keys).contains(&"unsigned".to_owned()));
    let (_, wrong) = place.key("other.pem");
    let place = other;
    place.replay(&format!("[manifest]\nkey = '{key}'"));
    assert!(
        place
            .damages(&["--public-key", &wrong])
            .contains(&"bad signature".to_owned())
    );
}

#[test]
fn files_that_are_missing_changed_grown_replaced_or_not_listed_are_found_by_name() {
    let place = Place::filled();
    let names = place.names();
    let path = |n: usize| place.out().join(&names[n]);
    let saved: Vec<Vec<u8>> = (0..4).map(|n| fs::read(path(n)).unwrap()).collect();
    fs::remove_file(path(0)).unwrap();
    let mut changed = saved[1].clone();
    changed[30] ^= 1;
    fs::write(path(1), &changed).unwrap();
    fs::write(path(2), [saved[2].as_slice(), b"more"].concat()).unwrap();
    let elsewhere = place.path("elsewhere");
    fs::rename(path(3), &elsewhere).unwrap();
    symlink(&elsewhere, path(3)).unwrap();
    let new = place
        .out()
        .join("vni-5/vni-5-20260101T000000.000000Z-000001.pcap");
    fs::write(&new, b"x").unwrap();
    // what is not named as we do is nobody's business
    fs::write(place.out().join("vni-5/notes.txt"), b"x").unwrap();
    let (code, report) = place.verify(&[]);
    let found = |name: &str| {
        let mut all = report["findings"].as_array().unwrap().iter();
        all.find(|f| f["name"] == name)
            .map(|f| f["what"].as_str().unwrap().to_owned())
    };
    let expected = ["missing", "changed", "changed", "unreadable"];
    for (n, what) in expected.iter().enumerate() {
        assert_eq!(found(&names[n]).as_deref(), Some(*what), "{report:#}");
    }
    assert_eq!(
        found("vni-5/vni-5-20260101T000000.000000Z-000001.pcap").as_deref(),
        Some("not listed")
    );
    assert_eq!((code, report["damages"].as_u64()), (65, Some(5)));
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_not_followed() {
    let place = Place::filled();
    fs::write(place.path("secret"), b"x").unwrap();
    let name = &place.names()[0];
    for bad in [
        "../secret",
        "/etc/passwd",
        "vni-5/../../secret",
        "",
        "vni-5//x",
    ] {
        let text = place.text();
        fs::write(place.manifest(), text.replacen(name.as_str(), bad, 1)).unwrap();
        assert!(place.damages(&[]).contains(&"bad name".to_owned()), "{bad}");
        fs::write(place.manifest(), text).unwrap();
    }
}

static WHOLE: LazyLock<Place> = LazyLock::new(Place::filled);

/// A copy, so that tests may change it.
fn copy(to: &Path) {
    for entry in fs::read_dir(WHOLE.out()).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            for file in fs::read_dir(entry.path()).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), target.join(file.file_name())).unwrap();
            }
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn anywhere() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, u8)> {
    (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        1_u8..,
    )
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_single_byte_that_is_changed_anywhere_is_found(in_manifest in any::<bool>(), (which, at, flip) in anywhere()) {
        let folder = tempfile::tempdir().unwrap();
        copy(folder.path());
        let (summary, findings) = check(folder.path(), None);
        assert!(summary.damages == 0, "{findings:?}");
        let names = WHOLE.names();
        let path = match in_manifest {
            true => folder.path().join("manifest.jsonl"),
            false => folder.path().join(which.get(&names)),
        };
        let mut bytes = fs::read(&path).unwrap();
        *at.get_mut(&mut bytes) ^= flip;
        fs::write(&path, bytes).unwrap();
        let (changed, _) = check(folder.path(), Some(summary.head));
        assert!(changed.damages > 0, "{}", path.display());
    }

    #[test]
    fn any_bytes_are_a_manifest_that_is_checked_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.jsonl");
        fs::write(&path, &bytes).unwrap();
        check(folder.path(), None);
        let text = WHOLE.text();
        fs::write(&path, [&text.as_bytes()[..cut.index(text.len())], &bytes].concat()).unwrap();
        check(folder.path(), None);
    }
}
