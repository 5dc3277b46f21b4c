//! DuckDB reads what we write, and we read what it writes; Community IDs are those of others.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mirrortap::flowlog::{Log, Metadata, community_id};
use mirrortap::headers::FlowKey;
use mirrortap::packet::Vni;
use mirrortap::record::Status;
use mirrortap::time::Timestamp;
use serde_json::{Value, json};

use crate::aws_support::{python, test_tools};
use crate::{config, flow, published, records};

const FORMAT: &str = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status} ${tcp-flags} ${traffic-path} ${pkt-src-aws-service} ${interface-tag} ${encryption-status}";

const INTERFACES: &str = r#"{"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1235b8ca123456789", "OwnerId": "012345678901",
    "PrivateIpAddress": "10.0.0.62", "VpcId": "vpc-1", "SubnetId": "subnet-1", "TagSet": [{"Key": "Name", "Value": "a server"}]}]}"#;

const RANGES: &str = r#"{"prefixes": [{"ip_prefix": "52.92.0.0/16", "service": "AMAZON"}, {"ip_prefix": "52.92.0.0/17", "service": "S3"}]}"#;

/// A flow log with all kinds of values, of so many records: its file.
fn written(folder: &Path, file_format: &str, count: u64) -> PathBuf {
    let (interfaces, ranges) = (
        folder.join("interfaces.json"),
        folder.join("ip-ranges.json"),
    );
    fs::write(&interfaces, INTERFACES).unwrap();
    fs::write(&ranges, RANGES).unwrap();
    let config = config(&format!(
        "log_format = '{FORMAT}'\nfile_format = '{file_format}'\nextra = ['x-vni', 'x-session', 'x-start-ns']\ninterface_tags = ['Name']\n\
         interfaces = '{}'\nip_ranges = '{}'\nvpc_ranges = ['10.0.0.0/16']",
        interfaces.display(),
        ranges.display(),
    ));
    let metadata = Metadata::load(&config).unwrap();
    let mut interface = metadata.interface([10, 0, 0, 62].into(), None);
    interface.met(&"web".into(), Vni::new(7));
    let directory = folder.join(file_format);
    let mut log = Log::new(&config, &directory, Timestamp::from_nanos(1));
    log = log.with_services(metadata.services().cloned());
    for number in 0..count {
        let mut flow = flow(number);
        flow.key.flow.src[..4].copy_from_slice(&[52, 92, 1, (number % 250) as u8]);
        log.record(&interface, &flow).unwrap();
    }
    let at = |secs| Timestamp::from_parts(secs, 0);
    log.without_flow(&interface, Status::SkipData, at(700), at(760))
        .unwrap();
    log.finish().unwrap();
    published(&directory).remove(0)
}

fn said(arguments: &[&str], input: &str) -> Option<String> {
    let tools = test_tools()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flow_files/readers.py");
    let mut command = python(&tools);
    command.arg(script).args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(String::from_utf8(out.stdout).unwrap())
}

/// What DuckDB says of a Parquet file of three flows and a line without one.
fn described() -> Option<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "parquet", 3);
    let told = said(&["describe", file.to_str().unwrap()], "")?;
    Some(serde_json::from_str(&told).unwrap())
}

#[test]
fn duckdb_reads_the_types_of_our_parquet() {
    let Some(told) = described() else { return };
    let columns: Vec<_> = told["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", c[0].as_str().unwrap(), c[1].as_str().unwrap()))
        .collect();
    assert_eq!(
        columns.join(", "),
        "version INTEGER, account_id VARCHAR, interface_id VARCHAR, srcaddr VARCHAR, dstaddr VARCHAR, srcport INTEGER, dstport INTEGER, \
         protocol INTEGER, packets BIGINT, bytes BIGINT, start BIGINT, end BIGINT, action VARCHAR, log_status VARCHAR, tcp_flags INTEGER, \
         traffic_path INTEGER, pkt_src_aws_service VARCHAR, interface_tag VARCHAR, encryption_status VARCHAR, x_vni INTEGER, \
         x_session VARCHAR, x_start_ns BIGINT"
    );
    for column in told["schema"].as_array().unwrap() {
        let kind = column[1].as_str().unwrap();
        assert!(matches!(kind, "INT32" | "INT64" | "BYTE_ARRAY"), "{column}");
        assert_eq!(column[2], "OPTIONAL", "{column}");
        assert_eq!(
            kind == "BYTE_ARRAY",
            column[3].as_str().is_some_and(|l| l.contains("String")),
            "{column}"
        );
    }
    assert_eq!(told["compression"], json!(["GZIP"]));
}

#[test]
fn duckdb_reads_the_values_of_our_parquet_and_dashes_as_null() {
    let Some(told) = described() else { return };
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(
        rows[2],
        json!([
            11,
            "012345678901",
            "eni-1235b8ca123456789",
            "52.92.1.2",
            "10.0.0.62",
            2,
            443,
            6,
            1,
            2,
            602,
            662,
            "ACCEPT",
            "OK",
            2,
            null,
            "S3",
            "a%20server",
            null,
            7,
            "web",
            602_000_000_005_u64
        ])
    );
    assert_eq!(
        rows[3],
        json!([
            11,
            "012345678901",
            "eni-1235b8ca123456789",
            null,
            null,
            null,
            null,
            null,
            null,
            null,
            700,
            760,
            null,
            "SKIPDATA",
            null,
            null,
            null,
            "a%20server",
            null,
            7,
            "web",
            null
        ])
    );
}

#[test]
fn text_and_parquet_of_the_same_records_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let text = records(&[&written(folder.path(), "text", 3000)]);
    let parquet = records(&[&written(folder.path(), "parquet", 3000)]);
    assert_eq!(text.len(), 3002);
    assert!(text == parquet);
}

#[test]
fn what_duckdb_writes_in_any_compression_and_width_is_read_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "parquet", 5000);
    let rewritten = folder.path().join("rewritten");
    fs::create_dir(&rewritten).unwrap();
    let told = said(
        &[
            "rewrite",
            file.to_str().unwrap(),
            rewritten.to_str().unwrap(),
        ],
        "",
    );
    if told.is_none() {
        return;
    }
    let ours = records(&[&file]);
    let mut kinds = Vec::new();
    for entry in fs::read_dir(&rewritten).unwrap() {
        let path = entry.unwrap().path();
        assert!(records(&[&path]) == ours, "{}", path.display());
        kinds.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "bigint",
            "gzip",
            "snappy",
            "ubigint",
            "uncompressed",
            "usmallint",
            "varchar",
            "zstd"
        ]
    );
}

#[test]
fn community_ids_are_those_of_another_implementation() {
    let mut flows = Vec::new();
    let ends: [(IpAddr, IpAddr); 4] = [
        (
            "128.232.110.120".parse().unwrap(),
            "66.35.250.204".parse().unwrap(),
        ),
        ("10.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()),
        ("2001:db8::1".parse().unwrap(), "fe80::2".parse().unwrap()),
        ("::1".parse().unwrap(), "ff02::1".parse().unwrap()),
    ];
    for (proto, (src, dst)) in [6_u8, 17, 132, 47, 50, 136]
        .into_iter()
        .flat_map(|p| ends.map(|e| (p, e)))
    {
        for (sport, dport) in [(34_855, 80), (80, 34_855), (0, 9), (7, 7)] {
            flows.push((proto, src, dst, sport, dport));
        }
    }
    let key = |(proto, src, dst, sport, dport): &(u8, IpAddr, IpAddr, u16, u16)| {
        let bytes = |address: &IpAddr| match address {
            IpAddr::V4(v4) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&v4.octets());
                bytes
            }
            IpAddr::V6(v6) => v6.octets(),
        };
        let version = if src.is_ipv4() { 4 } else { 6 };
        FlowKey {
            src: bytes(src),
            dst: bytes(dst),
            version,
            proto: *proto,
            sport: *sport,
            dport: *dport,
        }
    };
    let id = |flow: &FlowKey| {
        let mut text = String::new();
        community_id(flow, &mut text).then_some(text)
    };
    let lines = flows
        .iter()
        .map(|f| json!([f.0, f.1, f.2, f.3, f.4]).to_string() + "\n");
    if let Some(theirs) = said(&["community"], &lines.collect::<String>()) {
        let ours: Vec<_> = flows.iter().map(|f| id(&key(f)).unwrap()).collect();
        assert_eq!(ours, theirs.lines().collect::<Vec<_>>());
    }
    // the example of the specification
    assert_eq!(
        id(&key(&flows[0])).unwrap(),
        "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    );
    let unknown = |proto, sport| id(&key(&(proto, ends[0].0, ends[0].1, sport, 0)));
    assert_eq!(
        (unknown(1, 0), unknown(58, 0), unknown(6, 0)),
        (None, None, None),
        "not guessed"
    );
}
