//! The manifest: a chain that shows every change, over runs, crashes and a disk that refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what went wrong by failing"
)]

#[path = "../common/mod.rs"]
mod common;

mod live;
mod page;
mod scribe;
mod support;
mod tampering;

use std::fs;
use std::process::Command;

use common::PROGRAM;
use serde_json::Value;
use support::{Place, run};

fn numbers(tally: &Value) -> u64 {
    tally["written"].as_u64().unwrap()
}

#[test]
fn three_runs_make_one_chain_and_a_key_may_come_later() {
    let place = Place::filled();
    let (key, public) = place.key("k.pem");
    let config = format!("[manifest]\nkey = '{key}'");
    for _ in 0..2 {
        place.replay(&config);
    }
    let report = place.assert_good(&["--public-key", &public]);
    let lines = place.lines();
    let runs: Vec<_> = lines.iter().filter(|l| l["kind"] == "run").collect();
    assert_eq!((runs.len(), report["runs"].as_u64()), (3, Some(3)));
    assert!(runs[0]["run"] != runs[1]["run"] && runs[1]["key"] == runs[2]["key"]);
    let sequence: Vec<_> = lines
        .iter()
        .map(|l| l["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequence, (1..=lines.len() as u64).collect::<Vec<_>>());
    let signed = lines.iter().filter(|l| l["signature"].is_string()).count();
    assert_eq!(report["signed"].as_u64().unwrap(), signed as u64);
    // the fingerprint is what openssl and sha256sum say
    let told = run(Command::new("sh").args([
        "-c",
        "openssl pkey -pubin -in \"$1\" -outform DER | sha256sum",
        "sh",
        &public,
    ]));
    assert_eq!(runs[1]["key"].as_str(), told.split_whitespace().next());
}

#[test]
fn the_lines_of_a_run_add_up_to_its_ledger() {
    let place = Place::new();
    let config = "unknown = 'drop'\n[capture]\nrotate_packets = 7\n\
                  [[session]]\nname = 'some'\nvni = 5\nfilter = { expression = 'greater 300' }\n\
                  [[session]]\nname = 'all'\nvni = 6";
    let printed = place.replay(config);
    let lines = place.lines();
    let [run, files @ .., end] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(run["sessions"], serde_json::json!(["some", "all"]));
    assert_eq!(end["kind"], "stopped");
    assert_eq!(files.len() as u64, printed["files_total"].as_u64().unwrap());
    for key in [
        "received",
        "written",
        "filtered",
        "dropped",
        "bytes_received",
        "bytes_written",
    ] {
        assert_eq!(end["ledger"][key], printed[key], "{key}");
    }
    let told = files.iter().map(|l| &l["ledger"]);
    let all: Vec<&Value> = told
        .chain(end["unfiled"].as_object().unwrap().values())
        .chain([&end["unattributed"]])
        .collect();
    for key in ["received", "written", "bytes_received", "bytes_written"] {
        let sum: u64 = all.iter().map(|l| l[key].as_u64().unwrap()).sum();
        assert_eq!(Some(sum), end["ledger"][key].as_u64(), "{key}");
    }
    for (of, reason) in [("filtered", "expression"), ("filtered", "unknown_session")] {
        let sum: u64 = all.iter().filter_map(|l| l[of][reason].as_u64()).sum();
        assert!(
            sum > 0 && Some(sum) == end["ledger"][of][reason].as_u64(),
            "{reason}: {end}"
        );
    }
    for file in files {
        assert_eq!(
            file["packets"].as_u64(),
            Some(numbers(&file["ledger"])),
            "{file}"
        );
    }
}

#[test]
fn a_line_says_of_its_file_what_other_readers_say() {
    let place = Place::filled();
    for line in place.lines().iter().filter(|l| l["kind"] == "published") {
        let path = place.out().join(line["name"].as_str().unwrap());
        let hash = run(common::tool("sha256sum").arg(&path));
        assert_eq!(line["sha256"].as_str(), hash.split_whitespace().next());
        assert_eq!(
            line["bytes"].as_u64(),
            Some(fs::metadata(&path).unwrap().len())
        );
        let packets = common::packets(&path);
        assert_eq!(line["packets"].as_u64(), Some(packets.len() as u64));
        assert_eq!(line["sources"], serde_json::json!(["10.9.8.7"]));
        assert_eq!(line["kernel_dropped"], serde_json::json!({}));
    }
}

#[test]
fn a_manifest_that_is_turned_off_is_not_there() {
    let place = Place::new();
    let printed = place.replay("[manifest]\nenabled = false");
    assert!(!place.manifest().exists());
    assert!(printed["files"][0].get("sha256").is_none());
    let (code, _) = place.verify(&[]);
    assert_eq!(code, 66);
}

#[test]
fn a_key_that_cannot_be_used_ends_the_start_and_says_what_to_do() {
    let place = Place::new();
    fs::write(place.path("no.pem"), "nothing").unwrap();
    for (key, said) in [
        ("./no.pem", "openssl genpkey"),
        ("/no/such", "cannot read the key"),
        ("cred", "LoadCredential=cred"),
    ] {
        let out = place.try_replay(&format!("[manifest]\nkey = '{key}'"));
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
        assert!(!place.manifest().exists());
    }
}

#[test]
fn a_key_may_be_a_systemd_credential_and_one_that_others_can_read_is_warned_of() {
    let place = Place::new();
    let (key, public) = place.key("manifest-key");
    fs::write(place.path("m.toml"), "[manifest]\nkey = 'manifest-key'").unwrap();
    let folder = std::path::Path::new(&key).parent().unwrap();
    run(Command::new(PROGRAM)
        .env("CREDENTIALS_DIRECTORY", folder)
        .args(["replay", "--config"])
        .arg(place.path("m.toml"))
        .arg("--output")
        .arg(place.out())
        .arg(place.path("outer.pcap")));
    place.assert_good(&["--public-key", &public]);
    run(Command::new("chmod").args(["644", &key]));
    let out = place.try_replay(&format!("[manifest]\nkey = '{key}'"));
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() && stderr.contains("chmod 600"),
        "{stderr}"
    );
}

#[test]
fn a_torn_last_line_is_kept_beside_and_the_chain_goes_on() {
    let place = Place::filled();
    let text = place.text();
    fs::write(place.manifest(), &text[..text.len() - 40]).unwrap();
    assert_eq!(place.damages(&[]), ["torn end"]);
    place.replay("");
    let report = place.assert_good(&[]);
    assert_eq!(report["runs_not_stopped"], 1, "{report}");
    let run = place
        .lines()
        .into_iter()
        .filter(|l| l["kind"] == "run")
        .nth(1)
        .unwrap();
    let kept = fs::read_to_string(place.out().join(run["torn"]["kept"].as_str().unwrap())).unwrap();
    assert!(text.contains(&kept) && run["torn"]["bytes"].as_u64() == Some(kept.len() as u64));
    // only the line break is missing
    let text = place.text();
    fs::write(place.manifest(), text.trim_end()).unwrap();
    place.replay("");
    assert!(place.text().starts_with(&text));
    place.assert_good(&[]);
}

#[test]
fn a_file_that_a_killed_run_published_and_did_not_tell_of_is_found_by_the_next() {
    let place = Place::filled();
    // as if killed before its last two lines
    let text = place.text();
    let lines: Vec<&str> = text.lines().collect();
    let cut = lines[..lines.len() - 2].join("\n") + "\n";
    fs::write(place.manifest(), cut).unwrap();
    assert_eq!(place.damages(&[]), ["not listed"]);
    let lost: Value = serde_json::from_str(lines[lines.len() - 2]).unwrap();
    let sensor = common::Sensor::start(place.out().parent().unwrap(), "", &[]);
    support::wait_until("the file to be found", || {
        place.lines().iter().any(|l| l["kind"] == "found")
    });
    sensor.stop();
    place.assert_good(&[]);
    let found = place
        .lines()
        .into_iter()
        .find(|l| l["kind"] == "found")
        .unwrap();
    for key in [
        "name", "session", "packets", "bytes", "first", "last", "sha256", "format",
    ] {
        assert_eq!(found[key], lost[key], "{key}");
    }
    assert_eq!(place.lines().last().unwrap()["unlisted"], 0);
}

#[test]
fn a_file_of_a_run_that_was_killed_before_its_first_line_is_found_too() {
    let place = Place::filled();
    // as if a run had published it and was killed while it still read the manifest
    let name = place.names().pop().unwrap();
    let (from, to) = (
        place.out().join(&name),
        place.out().join(name.replace("-00000", "-90000")),
    );
    assert!(!to.exists());
    fs::copy(from, &to).unwrap();
    assert_eq!(place.damages(&[]), ["not listed"]);
    place.replay("");
    place.assert_good(&[]);
    let kinds: Vec<_> = place.lines().iter().map(|l| l["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|k| *k == "found").count(), 1);
    assert_eq!(place.lines().last().unwrap()["unlisted"], 0);
}
