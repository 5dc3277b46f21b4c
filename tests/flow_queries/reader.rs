//! flowlogs-reader, which knows AWS's buckets, over files of ours; and AWS's own examples through `mirrortap flows`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::aws_support::{
    ACCESS_KEY, Client, Moto, REGION, SECRET_KEY, python, test_tools, without_aws,
};
use crate::common;
use crate::flow_support::{Source, Sums, sensor, tshark, wrap};

const BUCKET: &str = "example-flow-logs";

/// Files below a folder, with their paths from there on.
fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((key, path));
            }
        }
    }
    found
}

fn upload(client: &Client, folder: &Path) {
    client.make_bucket(BUCKET);
    for (key, path) in files(folder) {
        let bytes = fs::read(path).unwrap();
        client.put(BUCKET, &format!("mirror-flow-logs/{key}"), &bytes);
    }
}

/// What it makes of the bucket.
fn read(tools: &Path, moto: &Moto) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/reader.py");
    let mut command = python(tools);
    let output = without_aws(&mut command)
        .arg(script)
        .args([&moto.endpoint(), ACCESS_KEY, SECRET_KEY, REGION])
        .arg(format!("{BUCKET}/mirror-flow-logs"))
        .args(["2026-11-28", "2026-11-28"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same of tshark's sums.
fn flows(sums: &Sums, sources: &[Source]) -> BTreeSet<String> {
    let interface = |address: &str| {
        let is = |s: &&Source| s.address.to_string() == address;
        sources.iter().find(is).unwrap().interface()
    };
    sums.iter()
        .map(|((source, src, dst, proto, sport, dport), sum)| {
            let key = json!([interface(source), src, dst, proto, sport, dport]);
            format!("{key} {} {}", sum.packets, sum.bytes)
        })
        .collect()
}

#[test]
fn flowlogs_reader_finds_the_files_in_a_bucket_and_reads_every_record() {
    let (Some(tools), Some(corpus)) = (test_tools(), common::corpus()) else {
        return;
    };
    let moto = Moto::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("outer.pcap");
    let captures = ["ndpi-dns_doh.pcap", "mercury-top_100_fingerprints.pcap"]
        .map(|name| corpus.join("protocols").join(name));
    let sources = wrap(&captures, 600, &outer);
    let default = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status}";
    let out = sensor::flow_logs(&outer, &sources, default).text;
    upload(&moto.client(), &out);
    let report = read(&tools, &moto);
    let theirs: BTreeSet<String> = report["flows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let key = Value::from(row.as_array().unwrap()[..6].to_vec());
            format!("{key} {} {}", row[6], row[7])
        })
        .collect();
    assert_eq!(theirs, flows(&tshark::sums(&outer).0, &sources));
    assert!(theirs.len() > 100, "{}", theirs.len());
    assert_eq!(report["statuses"], json!({"OK": report["records"]}));
}

/// The documented examples: the default format, and two of their own with a header line.
const EXAMPLES: [&str; 3] = [
    "\
version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status
2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK
2 123456789010 eni-1235b8ca123456789 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 172.31.16.139 203.0.113.12 0 0 1 4 336 1432917094 1432917142 REJECT OK
2 123456789010 eni-1235b8ca123456789 2001:db8:1234:a100:8d6e:3477:df66:f105 2001:db8:1234:a102:3304:8879:34cf:4071 34892 22 6 54 8855 1477913708 1477913820 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA
2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA
",
    "\
version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr protocol bytes packets start end action tcp-flags log-status
3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 52.213.180.42 10.0.0.62 43416 5001 52.213.180.42 10.0.0.62 6 568 8 1566848875 1566848933 ACCEPT 2 OK
3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 10.0.0.62 52.213.180.42 5001 43416 10.0.0.62 52.213.180.42 6 376 7 1566848875 1566848933 ACCEPT 18 OK
",
    "\
version srcaddr dstaddr srcport dstport protocol start end type packets bytes account-id vpc-id subnet-id instance-id interface-id region az-id sublocation-type sublocation-id action tcp-flags pkt-srcaddr pkt-dstaddr pkt-src-aws-service pkt-dst-aws-service traffic-path flow-direction log-status
5 52.95.128.179 10.0.0.71 80 34210 6 1616729292 1616729349 IPv4 14 15044 123456789012 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-0c50d5961bcb2d47b eni-1235b8ca123456789 ap-southeast-2 apse2-az3 - - ACCEPT 19 52.95.128.179 10.0.0.71 S3 - - ingress OK
5 10.0.0.71 52.95.128.179 34210 80 6 1616729292 1616729349 IPv4 7 471 123456789012 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-0c50d5961bcb2d47b eni-1235b8ca123456789 ap-southeast-2 apse2-az3 - - ACCEPT 3 10.0.0.71 52.95.128.179 - S3 8 egress OK
",
];

#[test]
fn the_documented_examples_pass_through_flows_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("example.log");
    for example in EXAMPLES {
        fs::write(&file, example).unwrap();
        let mut command = Command::new(common::PROGRAM);
        let output = command.args(["flows", "--records"]).arg(&file).output();
        let output = output.unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert_eq!(String::from_utf8_lossy(&output.stdout), example);
    }
}
