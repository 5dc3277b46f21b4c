//! `mirrortap flows` as a shell sees it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mirrortap::capfile::Reader;
use mirrortap::filter::Direction;
use mirrortap::flow::{Closed, Seen, Table};
use mirrortap::flowlog::{Config, Interface, Log};
use mirrortap::headers;
use mirrortap::record::Field;
use mirrortap::time::Timestamp;
use serde_json::{Value, json};

/// The documented examples of version 2.
const V2: &str = "\
2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK
2 123456789010 eni-1235b8ca123456789 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 172.31.16.139 203.0.113.12 0 0 1 4 336 1432917094 1432917142 REJECT OK
2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA
2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA
";

/// A custom format, with its header line.
const V5: &str = "\
version srcaddr dstaddr srcport dstport protocol start end type packets bytes tcp-flags pkt-src-aws-service flow-direction log-status
5 52.95.128.179 10.0.0.71 80 34210 6 1616729292 1616729349 IPv4 14 15044 19 S3 ingress OK
5 10.0.0.71 52.95.128.179 34210 80 6 1616729292 1616729349 IPv4 7 471 3 - egress OK
";

fn flows(arguments: &[&str]) -> Output {
    let mut command = Command::new(common::PROGRAM);
    command.arg("flows").args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Packs a file with a real compressor.
fn packed(tool: &str, folder: &Path, name: &str, contents: &str) {
    let plain = folder.join(name);
    fs::create_dir_all(plain.parent().unwrap()).unwrap();
    fs::write(&plain, contents).unwrap();
    let done = common::tool(tool)
        .args(["-q", "-f"])
        .arg(&plain)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    // zstd keeps what it packs
    let _ = fs::remove_file(&plain);
}

#[test]
fn a_folder_of_packed_files_is_summed() {
    let folder = tempfile::tempdir().unwrap();
    packed("gzip", folder.path(), "AWSLogs/2015/12/a.log", V2);
    packed("zstd", folder.path(), "AWSLogs/2021/03/b.log", V5);
    fs::write(folder.path().join("c.log"), format!("{V2}{V2}")).unwrap();
    let parquet = mirrortap::record::parquet::from_lines(V5.as_bytes(), Vec::new()).unwrap();
    fs::write(folder.path().join("d.log.parquet"), parquet).unwrap();
    fs::write(folder.path().join("README.md"), "no flow log").unwrap();
    fs::create_dir(folder.path().join("folder.log")).unwrap();
    let pipe = folder.path().join("pipe.log");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let path = folder.path().to_str().unwrap();
    let out = flows(&["--json", path]);
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let report = object(&out);
    assert_eq!(report["files"], 4);
    assert_eq!(report["records"], 3 * 4 + 2 * 2);
    assert_eq!(report["packets"], 3 * 48 + 2 * 21);
    assert_eq!(report["bytes"], 3 * 9170 + 2 * 15_515);
    assert_eq!(
        (&report["no_data"], &report["skip_data"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(
        (&report["accepted"], &report["rejected"]),
        (&json!(6), &json!(6))
    );
    assert_eq!(report["start"], 1_418_530_010);
    assert_eq!(report["end"], 1_616_729_349);
    let first = &report["top"][0];
    assert_eq!(first["srcaddr"], "52.95.128.179");
    assert_eq!(first["bytes"], 2 * 15_044);
}

#[test]
fn damaged_parquet_is_told_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.log"), V2).unwrap();
    let whole = mirrortap::record::parquet::from_lines(V5.as_bytes(), Vec::new()).unwrap();
    fs::write(folder.path().join("cut.parquet"), &whole[..whole.len() - 9]).unwrap();
    let mut changed = whole.clone();
    changed[60..120].fill(0xFF);
    fs::write(folder.path().join("changed.parquet"), changed).unwrap();
    fs::write(folder.path().join("empty.parquet"), "PAR1").unwrap();
    fs::write(folder.path().join("whole.parquet"), whole).unwrap();
    let out = flows(&["--json", folder.path().to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(65), "{out:?}");
    let report = object(&out);
    assert_eq!(
        (&report["files"], &report["damaged_files"]),
        (&json!(5), &json!(3))
    );
    assert_eq!(report["records"], 4 + 2);
    let told = text(&out.stderr);
    for name in ["cut.parquet", "changed.parquet", "empty.parquet"] {
        assert!(told.contains(name), "{told}");
    }
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn parquet_from_a_pipe_is_refused_with_advice() {
    let whole = mirrortap::record::parquet::from_lines(V5.as_bytes(), Vec::new()).unwrap();
    let mut command = Command::new(common::PROGRAM);
    command
        .args(["flows", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // it may have seen enough before all is written
    let _ = child.stdin.take().unwrap().write_all(&whole);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(65));
    assert!(text(&out.stderr).contains("name the file"), "{out:?}");
}

#[test]
fn people_get_a_table_of_the_fields_they_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.log");
    fs::write(&file, V5).unwrap();
    let out = flows(&[
        "--by",
        "flow-direction,pkt-src-aws-service",
        file.to_str().unwrap(),
    ]);
    let shown = text(&out.stdout);
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .rev()
        .take(3)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[2],
        [
            "flow-direction",
            "pkt-src-aws-service",
            "packets",
            "bytes",
            "records"
        ]
    );
    assert_eq!(rows[1], ["ingress", "S3", "14", "15044", "1"]);
    assert_eq!(rows[0], ["egress", "-", "7", "471", "1"]);
    assert!(
        shown.contains("time        2021-03-26T03:28:12Z to 2021-03-26T03:29:09Z"),
        "{shown}"
    );
}

#[test]
fn records_come_out_as_they_went_in_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.log");
    fs::write(&file, V5).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(text(&flows(&["--records", path]).stdout), V5);
    let chosen = flows(&[
        "--records",
        "--json",
        "--where",
        "flow-direction=egress",
        path,
    ]);
    let record: Value = serde_json::from_slice(&chosen.stdout).unwrap();
    assert_eq!(record["bytes"], 471);
    assert_eq!(record["pkt-src-aws-service"], Value::Null);
}

#[test]
fn standard_input_and_a_told_format_are_read() {
    let mut command = Command::new(common::PROGRAM);
    command.args([
        "flows",
        "--json",
        "--format",
        "${srcaddr} ${dstaddr} ${packets} ${bytes}",
        "-",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(b"10.0.0.1 10.0.0.2 3 300\n10.0.0.1 10.0.0.2 4 400\n")
        .unwrap();
    drop(input);
    let report = object(&child.wait_with_output().unwrap());
    assert_eq!(
        (&report["packets"], &report["bytes"]),
        (&json!(7), &json!(700))
    );
}

#[test]
fn damage_is_told_with_file_and_line_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.log");
    fs::write(&file, V2.replacen("172.31.9.69", "172.31.9.690", 1)).unwrap();
    packed("gzip", folder.path(), "cut.log", &V2.repeat(2000));
    let cut = folder.path().join("cut.log.gz");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let out = flows(&["--json", folder.path().to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(65), "{out:?}");
    let told = text(&out.stderr);
    assert!(
        told.contains("a.log:2: damaged line: value 4 (srcaddr) is \"172.31.9.690\""),
        "{told}"
    );
    assert!(
        told.contains("cut.log.gz:") && told.contains("cannot read on"),
        "{told}"
    );
    let report = object(&out);
    assert_eq!(
        (&report["damaged_lines"], &report["damaged_files"]),
        (&json!(1), &json!(1))
    );
    assert!(report["records"].as_u64().unwrap() >= 3);
}

#[test]
fn what_cannot_be_read_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("x.parquet"), "PAR1 and so on").unwrap();
    fs::write(path("other.log"), "one two three\n").unwrap();
    fs::create_dir(path("empty")).unwrap();
    for (arguments, code, word) in [
        (vec![path("missing.log")], 66, "missing.log"),
        (vec![path("empty")], 66, "has no .log"),
        (vec![path("x.parquet")], 65, "Parquet"),
        (vec![path("other.log")], 65, "--format"),
        (
            vec!["--by".into(), "scraddr".into(), path("other.log")],
            64,
            "srcaddr",
        ),
        (
            vec!["--where".into(), "protocol=tcp".into(), path("other.log")],
            64,
            "protocol",
        ),
        (
            vec!["--format".into(), "${x}".into(), path("other.log")],
            64,
            "column 3",
        ),
        (
            vec!["--compare".into(), path("other.log")],
            64,
            "THEIRS and OURS",
        ),
        (vec![], 64, "FILE|DIR"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let out = flows(&arguments);
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(word), "{arguments:?}: {told}");
    }
}

#[test]
fn comparing_says_which_flows_the_second_set_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let record = |port: u16, packets: u32, bytes: u32| {
        format!(
            "2 123456789010 eni-1 10.0.0.1 10.0.0.2 {port} 443 6 {packets} {bytes} 1000 1059 ACCEPT OK\n"
        )
    };
    let refused = record(9, 1, 40).replace("ACCEPT", "REJECT");
    fs::write(
        path("theirs"),
        [record(1, 10, 1000), record(2, 5, 500), refused].concat(),
    )
    .unwrap();
    fs::write(
        path("ours"),
        [record(1, 4, 400), record(1, 6, 600), record(2, 3, 300)].concat(),
    )
    .unwrap();
    let out = flows(&["--compare", "--json", &path("theirs"), &path("ours")]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let report = object(&out);
    assert_eq!(
        report["lacking"],
        json!({"count": 1, "packets": 2, "bytes": 200})
    );
    assert_eq!(
        (&report["equal"], &report["theirs"]["rejected"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(report["top"][0]["srcport"], 2);
    let shown = text(&flows(&["--compare", &path("theirs"), &path("ours")]).stdout);
    assert!(
        shown.contains("1 stretch: 2 packets, 200 bytes lacking in ours"),
        "{shown}"
    );
    let same = flows(&["--compare", &path("ours"), &path("ours")]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
}

/// Packets into the table, records into files, files into sums: nothing is lost on the way, and `gzip` and `zcat` agree.
#[test]
fn every_packet_of_a_capture_is_in_the_sums_of_its_flow_logs() {
    let Some(corpus) = common::corpus() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        log_format: "${version} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} ${packets} ${bytes} ${start} ${end} ${tcp-flags} ${action} ${log-status}"
            .parse()
            .unwrap(),
        // small enough for flows to be closed early all the time
        max_flows: 20,
        ..Config::default()
    };
    let (mut table, mut interface) = (Table::new(config.limits()), Interface::default());
    interface.know(Field::InterfaceId, "eni-1");
    let mut log = Log::new(&config, folder.path(), Timestamp::from_nanos(1));
    let capture = corpus.join("protocols/mercury-top_100_fingerprints.pcap");
    let mut reader = Reader::open(&capture).unwrap();
    let (mut packets, mut bytes, mut failed) = (0, 0, 0);
    let mut out = |closed: &Closed| failed += u32::from(log.record(&interface, closed).is_err());
    while let Some(record) = reader.next().unwrap() {
        let headers = headers::walk(record.data);
        let seen = Seen::of(0, Direction::Unknown, &headers, record.data, record.time);
        if let Some(seen) = seen {
            (packets, bytes) = (packets + 1, bytes + u64::from(seen.bytes));
            table.expire(record.time, &mut out);
            table.add(&seen, &mut out);
        }
    }
    table.close(&mut out);
    log.finish().unwrap();
    assert_eq!((failed, log.counts().lost), (0, 0));
    assert!(packets > 100 && table.counts().early > 0, "{packets}");
    for file in log.take_published() {
        let test = common::tool("gzip").arg("-t").arg(&file).output().unwrap();
        assert!(test.status.success(), "{test:?}");
    }
    let path = folder.path().to_str().unwrap();
    let report = object(&flows(&["--json", path]));
    assert_eq!(
        (&report["packets"], &report["bytes"]),
        (&json!(packets), &json!(bytes))
    );
    assert_eq!(report["records"], log.counts().records);
    let same = flows(&["--compare", path, path]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.log");
    fs::write(&file, V2.repeat(20_000)).unwrap();
    let mut command = Command::new(common::PROGRAM);
    command.args(["flows", "--records"]).arg(&file);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
