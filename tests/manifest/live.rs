//! A sensor that writes a manifest while it is killed, checked, and kept from writing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mirrortap::spool::manifest::Offline;
use mirrortap::spool::recover::recover;
use serde_json::Value;

use crate::common::{self, Sensor};
use crate::support::{self, lines, verify, wait_until};

fn send(sensor: &Sensor, count: u32) {
    let to = format!("127.0.0.1:{}", sensor.udp);
    let count = count.to_string();
    support::run(
        Command::new(common::PROGRAM)
            .args(["send", "--vni", "5-8", "--to", &to, "--count", &count]),
    );
}

fn written(sensor: &Sensor) -> u64 {
    sensor.status()["ledger"]["written"].as_u64().unwrap_or(0)
}

#[test]
fn a_sensor_that_is_killed_again_and_again_leaves_a_chain_that_holds() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let config = "[writer]\nflush_interval = '10ms'\n[capture]\nrotate_packets = 2";
    for round in 0..8_u64 {
        let sensor = Sensor::start(folder.path(), config, &[]);
        send(&sensor, 100);
        let lines_then = fs::metadata(out.join("manifest.jsonl")).map_or(0, |m| m.len());
        if round % 2 == 0 {
            wait_until("a line", || {
                fs::metadata(out.join("manifest.jsonl")).is_ok_and(|m| m.len() > lines_then)
            });
        }
        sensor.signal("KILL");
        drop(sensor);
        // torn or not, what can be read is a chain; files may lack their line until the next start
        let (_, report) = verify(&out, &[]);
        let odd: Vec<_> = support::damages(&report)
            .into_iter()
            .filter(|d| d != "torn end" && d != "not listed")
            .collect();
        assert!(odd.is_empty(), "{report:#}");
    }
    let sensor = Sensor::start(folder.path(), config, &[]);
    wait_until("the last run to be cleared up", || verify(&out, &[]).0 == 0);
    sensor.stop();
    let (code, report) = verify(&out, &[]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(
        (report["runs"].as_u64(), report["runs_not_stopped"].as_u64()),
        (Some(9), Some(8))
    );
    assert_eq!(
        common::files(&out).len() as u64,
        report["files"].as_u64().unwrap()
    );
}

#[test]
fn a_check_beside_a_running_sensor_finds_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let config = "[writer]\nflush_interval = '10ms'\n[capture]\nrotate_packets = 3\n[retention]\nmax_size = '100KiB'";
    let config = config.replace(
        "rotate_packets = 3",
        "rotate_packets = 3\nrotate_size = '8KiB'",
    );
    let sensor = Sensor::start(folder.path(), &config, &[]);
    for _ in 0..6 {
        send(&sensor, 200);
        let (code, report) = verify(&out, &[]);
        assert_eq!(code, 0, "{report:#}");
    }
    wait_until("a deletion", || {
        lines(&out).iter().any(|l| l["kind"] == "deleted")
    });
    let ledger = sensor.stop();
    let (code, report) = verify(&out, &[]);
    assert!(
        code == 0 && report["deleted"].as_u64() > Some(0),
        "{report:#}"
    );
    let lines = lines(&out);
    let end = lines.last().unwrap();
    assert_eq!(
        end["ledger"]["written"].as_u64(),
        Some(ledger.number("written"))
    );
    let all: u64 = lines
        .iter()
        .filter_map(|l| {
            l["ledger"]["received"]
                .as_u64()
                .filter(|_| l["kind"] == "published")
        })
        .sum();
    let unfiled: u64 = end["unfiled"]
        .as_object()
        .unwrap()
        .values()
        .map(|l| l["received"].as_u64().unwrap())
        .sum();
    let rest = end["unattributed"]["received"].as_u64().unwrap();
    assert_eq!(
        end["ledger"]["received"].as_u64(),
        Some(all + unfiled + rest)
    );
}

#[test]
fn a_manifest_that_cannot_be_written_is_told_by_health_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir_all(out.join("manifest.jsonl")).unwrap();
    fs::write(folder.path().join("mirrortap.toml"), "").unwrap();
    let config = "[writer]\nflush_interval = '10ms'\n[capture]\nrotate_packets = 2\n[manifest]\nenabled = true";
    // healthy it is not, so it is not waited for
    let sensor = Sensor::start_ill(folder.path(), config);
    wait_until("health to say so", || {
        sensor
            .get("/healthz")
            .is_some_and(|(code, body)| code == 503 && body.contains("manifest.jsonl"))
    });
    send(&sensor, 40);
    wait_until("packets", || written(&sensor) == 40);
    wait_until("files", || common::files_so_far(&out) >= 8);
    fs::remove_dir(out.join("manifest.jsonl")).unwrap();
    wait_until("good health", || {
        sensor.get("/healthz").is_some_and(|(code, _)| code == 200)
    });
    let ledger = sensor.stop();
    assert_eq!(ledger.number("written"), 40);
    let (code, report) = verify(&out, &[]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(
        report["files"].as_u64(),
        Some(common::files(&out).len() as u64)
    );
}

#[test]
fn the_hook_gets_the_hash_and_finds_the_line_in_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let (out, script, told) = (
        folder.path().join("out"),
        folder.path().join("hook.sh"),
        folder.path().join("told"),
    );
    let text = format!(
        "#!/bin/sh\ncat > '{told}.json'\ngrep -c \"$(basename \"$1\")\" '{out}/manifest.jsonl' > '{told}.new'\nmv '{told}.new' '{told}'\n",
        told = told.display(),
        out = out.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!("[writer]\non_close = ['{}']", script.display());
    let sensor = Sensor::start(folder.path(), &config, &[]);
    let to = format!("127.0.0.1:{}", sensor.udp);
    support::run(
        Command::new(common::PROGRAM).args(["send", "--vni", "5", "--to", &to, "--count", "10"]),
    );
    wait_until("packets", || written(&sensor) == 10);
    sensor.stop();
    assert_eq!(fs::read_to_string(&told).unwrap().trim(), "1");
    let json: Value =
        serde_json::from_str(&fs::read_to_string(format!("{}.json", told.display())).unwrap())
            .unwrap();
    let line = lines(&out)
        .into_iter()
        .find(|l| l["kind"] == "published")
        .unwrap();
    assert_eq!(json["sha256"], line["sha256"]);
}

/// A sensor with a key, killed with four files unfinished; the arguments that check its lines.
fn crash(folder: &Path) -> (String, [String; 2]) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (key, public) = (path("k.pem"), path("k.pub"));
    if !folder.join("k.pem").exists() {
        support::run(Command::new("openssl").args([
            "genpkey",
            "-algorithm",
            "ed25519",
            "-out",
            &key,
        ]));
        support::run(
            Command::new("openssl").args(["pkey", "-pubout", "-in", &key, "-out", &public]),
        );
    }
    let config = format!("[writer]\nflush_interval = '10ms'\n[manifest]\nkey = '{key}'");
    let sensor = Sensor::start(folder, &config, &[]);
    send(&sensor, 40);
    wait_until("packets", || written(&sensor) == 40);
    sensor.signal("KILL");
    (config, ["--public-key".to_owned(), public])
}

fn assert_recovered(output: &Path, keys: &[String; 2]) {
    let keys = [keys[0].as_str(), keys[1].as_str()];
    let (code, report) = verify(output, &keys);
    assert!(code == 0 && report["files"] == 4, "{report:#}");
    let recovered = |l: &Value| l["kind"] == "recovered";
    let line = lines(output).into_iter().find(recovered).unwrap();
    assert_eq!(
        (&line["packets"], line.get("ledger")),
        (&serde_json::json!(10), None),
        "{line}"
    );
}

fn count(output: &Path, kind: &str) -> usize {
    lines(output).iter().filter(|l| l["kind"] == kind).count()
}

#[test]
fn files_that_are_recovered_by_hand_are_listed_and_signed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (_, keys) = crash(folder.path());
    let torn = out.join("vni-5/.vni-5-20260101T000000.000000Z-000001.pcap.partial");
    fs::write(torn, "x").unwrap();
    let mut recover = Command::new(common::PROGRAM);
    support::run(
        recover
            .args(["recover", "--key"])
            .arg(folder.path().join("k.pem"))
            .arg(&out),
    );
    assert_eq!((count(&out, "recovered"), count(&out, "aside")), (4, 1));
    assert_recovered(&out, &keys);
}

/// A run that ended well, and a hidden file that is older than that.
fn left_behind(folder: &Path) -> (PathBuf, PathBuf) {
    let out = folder.join("out");
    let sensor = Sensor::start(folder, "", &[]);
    send(&sensor, 10);
    wait_until("packets", || written(&sensor) == 10);
    sensor.stop();
    let files = common::files(&out);
    let whole = files
        .iter()
        .find(|f| f.starts_with(out.join("vni-5")))
        .unwrap();
    let partial = whole.with_file_name(".vni-5-20260101T000000.000000Z-000001.pcap.partial");
    fs::copy(whole, &partial).unwrap();
    let file = fs::File::options().write(true).open(&partial).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    (out, partial)
}

#[test]
fn a_recovery_by_hand_that_is_killed_before_its_line_is_found_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (out, partial) = left_behind(folder.path());
    let mut lines = Offline::new(None).unwrap();
    lines.begin(&partial).unwrap();
    recover(&partial, &|| false).unwrap();
    drop(lines);
    assert_eq!(verify(&out, &[]).0, 65, "it is not listed yet");
    let sensor = Sensor::start(folder.path(), "", &[]);
    wait_until("the line", || count(&out, "found") == 1);
    sensor.stop();
    let (code, report) = verify(&out, &[]);
    assert_eq!(code, 0, "{report:#}");
}

#[test]
fn a_recovery_by_hand_whose_key_cannot_be_used_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (out, partial) = left_behind(folder.path());
    let before = fs::read(out.join("manifest.jsonl")).unwrap();
    let mut recover = Command::new(common::PROGRAM);
    let refused = recover
        .args(["recover", "--key", "/nowhere/key.pem"])
        .arg(&out);
    assert!(!refused.status().unwrap().success());
    assert!(partial.exists());
    assert_eq!(fs::read(out.join("manifest.jsonl")).unwrap(), before);
    support::run(Command::new(common::PROGRAM).arg("recover").arg(&out));
    assert_eq!((count(&out, "run"), count(&out, "stopped")), (2, 2));
    let (code, report) = verify(&out, &[]);
    assert_eq!(code, 0, "{report:#}");
}

#[test]
fn files_that_are_recovered_at_the_start_are_listed_and_signed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (config, keys) = crash(folder.path());
    let sensor = Sensor::start(folder.path(), &config, &[]);
    wait_until("the start to recover", || count(&out, "recovered") == 4);
    sensor.stop();
    assert_recovered(&out, &keys);
}
