//! `mirrortap send` as a shell sees it: exit codes, messages, the report.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

use std::net::UdpSocket;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;

fn send(line: &str) -> Output {
    let mut command = Command::cargo_bin("mirrortap").unwrap();
    command.arg("send").args(line.split_whitespace());
    command.timeout(Duration::from_secs(30)).output().unwrap()
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
}

#[test]
fn the_json_report_says_what_arrived() {
    let socket = UdpSocket::bind("127.0.2.1:0").unwrap();
    let to = socket.local_addr().unwrap();
    let out = send(&format!(
        "--to {to} --source 127.0.2.1 --vni 7,9 --count 20 --json"
    ));
    assert!(out.status.success(), "{out:?}");
    assert!(out.stderr.is_empty(), "{out:?}");
    let report = json(&out.stdout);
    assert_eq!(report["sent"], 20);
    assert_eq!(report["per_vni"], serde_json::json!({"7": 10, "9": 10}));
    assert_eq!(report["errors"], serde_json::json!({}));
    socket.set_nonblocking(true).unwrap();
    let mut lengths = Vec::new();
    let mut buffer = [0; 2000];
    while let Ok(len) = socket.recv(&mut buffer) {
        lengths.push(len as u64);
    }
    assert_eq!(lengths.len(), 20);
    assert_eq!(report["bytes"], lengths.iter().sum::<u64>());
}

#[test]
fn people_get_lines_and_a_warning_when_ports_are_taken() {
    let taken = UdpSocket::bind("127.0.2.2:65408").unwrap();
    let to = taken.local_addr().unwrap();
    let out = send(&format!("--to {to} --source 127.0.2.2 --vni 7 --count 3"));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with("sent 3 packets, "), "{text}");
    assert!(text.contains("3 with VNI 7"), "{text}");
    let warning = String::from_utf8(out.stderr).unwrap();
    assert!(warning.contains("1 of the source ports"), "{warning}");
}

#[test]
fn outer_packets_can_go_to_standard_output() {
    let out = send("--to 10.0.2.20 --vni 7 --count 4 --size 200 --write - --json");
    assert!(out.status.success(), "{out:?}");
    // file header, and four times record header, Ethernet, IPv4, UDP, VXLAN and the frame
    assert_eq!(out.stdout.len(), 24 + 4 * (16 + 14 + 20 + 8 + 8 + 200));
    assert_eq!(json(&out.stderr)["sent"], 4);
}

#[test]
fn failures_have_their_exit_codes_and_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("text"), "this is no capture").unwrap();
    let empty = [
        0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
    ];
    std::fs::write(path("empty"), empty).unwrap();
    let cut = [
        &empty[..],
        &[0; 8],
        &[4, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4],
        &[0; 9],
    ]
    .concat();
    std::fs::write(path("cut"), cut).unwrap();
    let to = "--to 127.0.0.1:9 --vni 7";
    let cases = [
        ("--vni 7".to_owned(), 64, "--to"),
        ("--to 127.0.0.1".to_owned(), 64, "--vni"),
        (format!("{to} --source ::1 --count 1"), 64, "--source"),
        (format!("{} {to}", path("text")), 65, "not a capture"),
        (format!("{} {to}", path("empty")), 65, "no packet"),
        (
            format!("{} {to} --source 127.0.2.3", path("cut")),
            65,
            "damaged",
        ),
        (format!("{} {to}", path("missing")), 66, "missing"),
        (
            format!("{to} --source 192.0.2.1 --count 1"),
            69,
            "192.0.2.1",
        ),
        (
            format!("{to} --count 1 --write {}", path("no/where")),
            73,
            "no/where",
        ),
    ];
    for (line, code, word) in cases {
        let out = send(&line);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{line}: {text}");
        assert!(text.contains(word), "{line}: {text}");
    }
}

#[test]
fn help_shows_examples() {
    let out = send("--help");
    assert!(out.status.success());
    assert!(String::from_utf8(out.stdout).unwrap().contains("Examples:"));
}
