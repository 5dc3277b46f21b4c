//! `mirrortap flows s3://…`: a bucket is read like a folder.
#![cfg(all(feature = "aws", feature = "parquet"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

mod aws_support;
mod common;
mod ship_support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use mirrortap::record::parquet;
use serde_json::Value;
use ship_support::{Asked, Reply, Scripted};

const HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status";
const DAY: &str = "AWSLogs/123456789012/vpcflowlogs/eu-central-1/2026/11/28";

/// A file's text, whose sums no other number has.
fn text(number: u64) -> String {
    let lines = (0..50).map(|i| {
        let start = 1_795_000_000 + i;
        format!("2 123456789012 eni-1 10.0.0.{i} 10.0.1.1 {i} 443 6 {number} {} {start} {start} ACCEPT OK\n", number * 100)
    });
    format!("{HEADER}\n{}", lines.collect::<String>())
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn flows(endpoint: &str, arguments: &[&str]) -> Output {
    flows_of(endpoint, arguments).output().unwrap()
}

fn flows_of(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(common::PROGRAM);
    aws_support::without_aws(&mut command)
        .args(["flows", "--endpoint", endpoint])
        .args(["--region", aws_support::REGION])
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", aws_support::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", aws_support::SECRET_KEY)
        .stdin(Stdio::null());
    command
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Text, Parquet, and what is no flow log, as keys and as files.
fn fill(folder: &Path, put: impl Fn(&str, &[u8])) {
    let parquet = parquet::from_lines(text(3).as_bytes(), Vec::new()).unwrap();
    for (name, bytes) in [
        (format!("{DAY}/a.log.gz"), gzip(&text(1))),
        (format!("{DAY}/07/b.log.gz"), gzip(&text(2))),
        (format!("{DAY}/c.log.parquet"), parquet),
        (format!("{DAY}/README.md"), b"none".to_vec()),
        ("other/d.log".to_owned(), text(4).into_bytes()),
        ("other.log".to_owned(), text(5).into_bytes()),
    ] {
        put(&name, &bytes);
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The same sums, from both places.
fn same(endpoint: &str, folder: &Path, prefix: &str) -> Value {
    let bucket = format!("s3://logs/{prefix}");
    let afar = flows(endpoint, &["--json", &bucket]);
    assert!(afar.status.success() && afar.stderr.is_empty(), "{afar:?}");
    let here = folder.join(prefix);
    let here = flows(endpoint, &["--json", here.to_str().unwrap()]);
    assert_eq!(object(&afar), object(&here), "{prefix}");
    object(&afar)
}

#[test]
fn text_and_parquet_of_a_bucket_are_summed_as_those_of_a_folder() {
    let Some(moto) = aws_support::Moto::start() else {
        return;
    };
    let client = moto.client();
    client.make_bucket("logs");
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), |key, bytes| client.put("logs", key, bytes));
    let endpoint = moto.endpoint();
    let all = same(&endpoint, folder.path(), "");
    assert_eq!(
        (&all["files"], &all["packets"]),
        (&5.into(), &(50 * 15).into())
    );
    let day = same(&endpoint, folder.path(), DAY);
    assert_eq!(day["files"], 3);
    assert_eq!(same(&endpoint, folder.path(), "other")["files"], 1);
    same(&endpoint, folder.path(), "other.log");
    same(&endpoint, folder.path(), &format!("{DAY}/c.log.parquet"));
    for (address, words) in [
        (
            "s3://logs/nothing/here",
            "s3://logs/nothing/here has no .log",
        ),
        ("s3://nobody/x", "cannot list s3://nobody/x"),
    ] {
        let out = flows(&endpoint, &[address]);
        assert_eq!(out.status.code(), Some(66), "{out:?}");
        assert!(said(&out).contains(words), "{out:?}");
    }
    let both = [
        "--compare",
        "--json",
        &format!("s3://logs/{DAY}"),
        folder.path().join(DAY).to_str().unwrap(),
    ]
    .map(str::to_owned);
    let both: Vec<&str> = both.iter().map(String::as_str).collect();
    let out = flows(&endpoint, &both);
    assert!(out.status.success(), "{out:?}");
}

/// A bucket of so many text files, five to a page.
fn paged(files: usize) -> Scripted {
    Scripted::start(move |asked| {
        let url: reqwest::Url = format!("http://bucket{}", asked.path).parse().unwrap();
        let pair = |name: &str| {
            let mut pairs = url.query_pairs();
            pairs
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        if url.path() != "/logs" && url.path() != "/logs/" {
            return part(asked, &text(1));
        }
        let first: usize = pair("continuation-token").map_or(0, |token| token.parse().unwrap());
        let last = (first + 5).min(files);
        let size = text(1).len();
        let objects = (first..last).map(|i| {
            format!("<Contents><Key>x/{i:03}.log</Key><LastModified>2026-11-28T00:00:00.000Z</LastModified><ETag>e</ETag><Size>{size}</Size></Contents>")
        });
        let objects: String = objects.collect();
        let more = match last < files {
            true => format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
            ),
            false => "<IsTruncated>false</IsTruncated>".to_owned(),
        };
        Reply::ok(format!(
            "<ListBucketResult>{more}{objects}</ListBucketResult>"
        ))
    })
}

/// The bytes that the range names.
fn part(asked: &Asked, whole: &str) -> Reply {
    let range = asked.header("range").strip_prefix("bytes=").unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    let total = whole.len();
    let body = &whole[from..=to.min(total - 1)];
    Reply::status(206, body)
        .with("content-range", format!("bytes {from}-{to}/{total}"))
        .with("last-modified", "Sat, 28 Nov 2026 00:00:00 GMT")
        .with("etag", "e")
}

#[test]
fn a_list_of_many_pages_is_read_to_its_end() {
    let server = paged(12);
    let out = flows(&server.address(), &["--json", "s3://logs/x"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(object(&out)["files"], 12);
    assert_eq!(object(&out)["packets"], 12 * 50);
}

#[test]
fn a_bucket_that_is_closed_or_has_no_credentials_says_so() {
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let server = Scripted::start(move |_| Reply::status(403, denied));
    let out = flows(&server.address(), &["s3://logs/x"]);
    assert_eq!(out.status.code(), Some(66), "{out:?}");
    assert!(said(&out).contains("AccessDenied"), "{out:?}");
    let mut command = Command::new(common::PROGRAM);
    aws_support::without_aws(&mut command)
        .args(["flows", "s3://logs/x", "--endpoint", &server.address()])
        .stdin(Stdio::null());
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(66), "{out:?}");
    assert!(said(&out).contains("found no credentials"), "{out:?}");
    command.env("AWS_ACCESS_KEY_ID", "x");
    let out = command.output().unwrap();
    assert!(
        said(&out).contains("AWS_SECRET_ACCESS_KEY is not"),
        "{out:?}"
    );
    command.env("AWS_CA_BUNDLE", "/nowhere/ca.pem");
    let out = command.output().unwrap();
    assert!(said(&out).contains("/nowhere/ca.pem"), "{out:?}");
}

#[test]
fn an_odd_key_is_passed_by_and_told_and_the_rest_is_read() {
    let server = Scripted::start(|asked| {
        if !asked.path.contains("list-type=2") {
            return part(asked, &text(1));
        }
        let size = text(1).len();
        let object = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-28T00:00:00.000Z</LastModified><ETag>e</ETag><Size>{size}</Size></Contents>"
            )
        };
        let objects = ["x//a.log", "x/b.log", "x/../c.log", "x//README", "x/d.log"];
        let objects = objects.map(object).concat();
        Reply::ok(format!("<ListBucketResult>{objects}</ListBucketResult>"))
    });
    let mut command = flows_of(&server.address(), &["--json", "s3://logs/x"]);
    // no proxy leads to this machine
    let out = command.env("http_proxy", "http://127.0.0.1:9").output();
    let out = out.unwrap();
    assert_eq!(out.status.code(), Some(66), "{out:?}");
    assert_eq!(object(&out)["files"], 2);
    assert_eq!(object(&out)["packets"], 2 * 50);
    let said = said(&out);
    assert_eq!(
        said.matches("such a key can't be asked for").count(),
        2,
        "{said}"
    );
    assert!(
        said.contains("s3://logs/x//a.log") && said.contains("s3://logs/x/../c.log"),
        "{said}"
    );
}

#[test]
fn an_object_that_is_overwritten_meanwhile_is_not_read_as_a_mixture() {
    let server = Scripted::start(|asked| match asked.header("if-match") {
        "" => Reply::ok(
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>x/a.log</Key><LastModified>2026-11-28T00:00:00.000Z</LastModified><ETag>\"old\"</ETag><Size>9</Size></Contents></ListBucketResult>",
        ),
        tag => {
            assert_eq!(tag, "\"old\"");
            Reply::status(412, "<Error><Code>PreconditionFailed</Code></Error>")
        }
    });
    let out = flows(&server.address(), &["s3://logs/x"]);
    assert!(!out.status.success(), "{out:?}");
    assert!(
        said(&out).contains("overwritten while it was read"),
        "{out:?}"
    );
}
