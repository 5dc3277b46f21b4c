//! What a user gets wrong: each with its message and exit code, and nothing else lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{PROGRAM, mirrortap};

struct Case {
    what: &'static str,
    args: Vec<String>,
    code: i32,
    says: &'static str,
}

fn case(what: &'static str, args: &[&str], code: i32, says: &'static str) -> Case {
    Case {
        what,
        args: args.iter().map(ToString::to_string).collect(),
        code,
        says,
    }
}

fn check(case: &Case) {
    let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
    let out = mirrortap(&args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(case.code), "{}: {said}", case.what);
    assert!(
        said.contains(case.says),
        "{}: expected {:?} in: {said}",
        case.what,
        case.says
    );
}

fn written<'a>(folder: &Path, name: &'a str, text: &str) -> (&'a str, String) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    (name, path.to_str().unwrap().to_owned())
}

#[test]
fn each_mistake_in_a_configuration_has_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let table = [
        (
            "unknown key",
            "outptu = 'x'",
            "1:1: unknown key \"outptu\"; did you mean \"output\"?",
        ),
        (
            "wrong type",
            "[threads]\nworkers = 'two'",
            "2:11: invalid type",
        ),
        ("bad size", "[writer]\nbuffer = '5 elephants'", "64MiB"),
        ("bad duration", "shutdown_timeout = 5", "30s"),
        (
            "overlapping sessions",
            "[[session]]\nname = 'a'\nvni = 1\n[[session]]\nname = 'b'\nvni = '1-2'",
            "6:7: session \"b\": overlaps session \"a\"",
        ),
        (
            "bad CIDR",
            "[[session]]\nname = 'a'\nsource = ['10.0.0.0/99']",
            "3:11:",
        ),
        (
            "bad VNI",
            "[[session]]\nname = 'a'\nvni = 99999999",
            "16777215",
        ),
        (
            "bad session name",
            "[[session]]\nname = '../etc'",
            "letters, digits",
        ),
        (
            "bad expression",
            "[[session]]\nname = 'a'\nfilter = { expression = 'tcp prot 80' }",
            "prot",
        ),
        ("no address", "[source]\nlisten = []", "2:10:"),
    ];
    for (what, text, says) in table {
        let (_, file) = written(folder.path(), "m.toml", text);
        check(&case(what, &["check", &file], 78, says));
        check(&case(what, &["run", "--config", &file], 78, says));
    }
}

#[test]
fn each_bad_file_has_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").to_str().unwrap().to_owned();
    let (_, text) = written(
        folder.path(),
        "notes.txt",
        "this is no capture, it is a letter to a friend",
    );
    let (_, empty) = written(folder.path(), "empty.pcap", "");
    let missing = folder
        .path()
        .join("missing.pcap")
        .to_str()
        .unwrap()
        .to_owned();
    for verb in [&["replay", "--output", &out][..], &["inspect"][..]] {
        let with = |file: &str| {
            [verb, &[file]]
                .concat()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let cases = [
            Case {
                what: "not a capture",
                args: with(&text),
                code: 65,
                says: "notes.txt",
            },
            Case {
                what: "empty",
                args: with(&empty),
                code: 65,
                says: "empty.pcap",
            },
            Case {
                what: "missing",
                args: with(&missing),
                code: 66,
                says: "missing.pcap",
            },
        ];
        cases.iter().for_each(check);
    }
    check(&case(
        "missing configuration",
        &["check", &missing],
        78,
        "cannot read the configuration",
    ));
}

#[test]
fn a_truncated_capture_is_replayed_to_its_last_whole_record_and_told() {
    let Some(corpus) = common::corpus() else {
        return;
    };
    let whole = fs::read(corpus.join("vxlan/suricata-vxlan-decoder-03.pcap")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.pcap");
    fs::write(&cut, &whole[..whole.len() - 10]).unwrap();
    let out = folder.path().join("out");
    let run = mirrortap(&[
        "replay",
        cut.to_str().unwrap(),
        "--output",
        out.to_str().unwrap(),
        "--json",
    ]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(65), "{said}");
    assert!(said.contains("cut.pcap"), "{said}");
    assert_eq!(common::ledger(&run).number("written"), 99);
    assert_eq!(common::all_packets(&out).len(), 99);
}

#[test]
fn a_port_in_use_and_an_output_that_cannot_be_written_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let out = folder.path().join("out").to_str().unwrap().to_owned();
    let off = ["--control", "off"];
    let run = |more: &[&str]| {
        [&["run"][..], more, &off[..]]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    check(&Case {
        what: "port in use",
        args: run(&["--listen", &address, "--output", &out]),
        code: 69,
        says: "the port is in use",
    });
    let (_, file) = written(folder.path(), "a-file", "");
    let below = format!("{file}/out");
    check(&Case {
        what: "output below a file",
        args: run(&["--listen", "127.0.0.1:0", "--output", &below]),
        code: 73,
        says: "a-file/out",
    });
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = http.local_addr().unwrap().to_string();
    check(&case(
        "control port in use",
        &[
            "run",
            "--listen",
            "127.0.0.1:0",
            "--output",
            &out,
            "--control",
            &http,
        ],
        69,
        "127.0.0.1",
    ));
}

#[test]
fn addresses_on_the_command_line_that_take_the_same_datagrams_are_told() {
    let listen = ["--listen", "[::]:4789", "--listen", "0.0.0.0:4789"];
    let out = mirrortap(&[&["run"][..], &listen].concat());
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(78), "{said}");
    assert!(
        said.contains("listen: \"[::]:4789\" and \"0.0.0.0:4789\" take the same"),
        "{said}"
    );
}

#[test]
fn bad_use_of_the_command_line_is_told_with_the_usual_code() {
    for args in [
        &["fly"][..],
        &["replay"],
        &["run", "--listen", "nowhere"],
        &["send", "--vni", "1"],
    ] {
        let out = mirrortap(args);
        assert_eq!(out.status.code(), Some(64), "{args:?}");
        assert!(
            String::from_utf8_lossy(&out.stderr).contains("--help"),
            "{args:?}"
        );
    }
    assert_eq!(mirrortap(&["--help"]).status.code(), Some(0));
    let version = mirrortap(&["--version"]);
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    assert!(Path::new(PROGRAM).exists());
}
