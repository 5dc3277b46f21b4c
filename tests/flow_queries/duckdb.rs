//! The page's tables and queries in DuckDB, over files of ours.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::aws_support::{python, test_tools};
use crate::flow_support::{Source, sensor, tshark, wrap};
use crate::{answers, common, page};

/// What DuckDB gave for one question.
struct Answer {
    columns: Vec<String>,
    rows: Vec<Value>,
}

fn duckdb(tools: &Path, first: &[String], ask: &[String]) -> Vec<Answer> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/duck.py");
    let mut child = python(tools)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = json!({"first": first, "ask": ask}).to_string();
    let mut input = child.stdin.take().unwrap();
    input.write_all(request.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let texts = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    let answer = |a: &Value| Answer {
        columns: texts(&a["columns"]),
        rows: a["rows"].as_array().unwrap().clone(),
    };
    answers.iter().map(answer).collect()
}

/// Real traffic for the questions: a port scan, bulk transfers, many services, names.
fn captures() -> Option<Vec<PathBuf>> {
    let corpus = common::corpus()?;
    let names = [
        "ndpi-synscan.pcap",
        "pcapplusplus-example.pcap",
        "mercury-top_100_fingerprints.pcap",
        "ndpi-dns_doh.pcap",
        "ndpi-rsync.pcap",
    ];
    Some(names.map(|n| corpus.join("protocols").join(n)).into())
}

/// A file as AWS writes it, with a gap.
fn a_gap(format: &str, folder: &Path) {
    let names = format.replace("${", "").replace('}', "");
    let value = |name: &str| match name {
        "version" => "5",
        "interface-id" => "eni-11111111aaaaaaaaa",
        "start" => "1431280876",
        "end" => "1431280934",
        "log-status" => "SKIPDATA",
        _ => "-",
    };
    let line: Vec<_> = names.split(' ').map(value).collect();
    let file = fs::File::create(folder.join("gap.log.gz")).unwrap();
    let mut packer = GzEncoder::new(file, Compression::fast());
    writeln!(packer, "{names}\n{}", line.join(" ")).unwrap();
    packer.finish().unwrap();
}

/// The page's view of the files of one kind, below a folder of ours.
fn view(kind: &str, folder: &Path) -> String {
    let blocks = page::sql("DuckDB");
    let block = blocks.iter().find(|b| b.contains(kind)).unwrap();
    let place = format!("'{}/AWSLogs", folder.display());
    block.replace("'flow-logs/AWSLogs", &place)
}

fn macros() -> String {
    let blocks = page::sql("DuckDB");
    blocks.into_iter().find(|b| b.contains("MACRO")).unwrap()
}

/// An outer capture, its sources, and a folder for what becomes of it.
fn mirrored(captures: &[PathBuf]) -> (TempDir, PathBuf, Vec<Source>) {
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("outer.pcap");
    // within one interval, so that each flow has one record
    let sources = wrap(captures, 50, &outer);
    (folder, outer, sources)
}

#[test]
fn the_queries_of_the_page_give_what_tshark_sums() {
    let (Some(tools), Some(captures)) = (test_tools(), captures()) else {
        return;
    };
    let (_folder, outer, sources) = mirrored(&captures);
    let format = page::log_format();
    let out = sensor::flow_logs(&outer, &sources, &format).text;
    a_gap(&format, &out.join("AWSLogs"));
    let (sums, _) = tshark::sums(&outer);
    let queries: Vec<_> = page::sql("Queries")
        .into_iter()
        // little is much here
        .map(|query| query.replace("100000000", "50000"))
        .collect();
    let answers = duckdb(&tools, &[macros(), view("log.gz", &out)], &queries);
    let expected = [
        ("total_bytes", answers::top_talkers(&sums)),
        ("action", answers::actions(&sums)),
        ("ports", answers::port_scans(&sums)),
        ("attempts", answers::without_answer(&sums)),
        ("sent_bytes", answers::exfiltration(&sums)),
        ("server", answers::services(&sums)),
        ("resolver", answers::resolvers(&sums)),
        (
            "interface_id",
            vec![json!([
                "eni-11111111aaaaaaaaa",
                1,
                1_431_280_876,
                1_431_280_934
            ])],
        ),
    ];
    assert_eq!(answers.len(), expected.len());
    for (answer, (column, rows)) in answers.iter().zip(expected) {
        assert!(answer.columns.iter().any(|c| c == column), "{column}");
        assert!(!rows.is_empty(), "{column}: nothing to find");
        assert_eq!(answer.rows, rows, "{column}");
    }
}

/// As DuckDB calls the types of Athena.
fn duckdb_type(athena: &str) -> &'static str {
    match athena {
        "int" => "INTEGER",
        "bigint" => "BIGINT",
        _ => "VARCHAR",
    }
}

#[test]
fn parquet_holds_what_text_holds_with_the_types_of_the_table() {
    let (Some(tools), Some(captures)) = (test_tools(), captures()) else {
        return;
    };
    let (_folder, outer, sources) = mirrored(&captures[..1]);
    let run = sensor::flow_logs(&outer, &sources, &page::log_format());
    let first = [
        view("parquet", &run.parquet),
        view("log.gz", &run.text).replace("VIEW flow_logs", "VIEW as_text"),
    ];
    let ask = [
        "SELECT count(*), sum(packets) FROM flow_logs",
        "FROM flow_logs EXCEPT ALL FROM as_text",
        "FROM as_text EXCEPT ALL FROM flow_logs",
        "DESCRIBE flow_logs",
    ];
    let [sums, more, less, columns] = duckdb(&tools, &first, &ask.map(str::to_owned))
        .try_into()
        .unwrap_or_else(|_| panic!("four answers"));
    assert!(sums.rows[0][0].as_u64() > Some(1000), "{:?}", sums.rows);
    assert_eq!(sums.rows[0][1], run.recorded());
    assert_eq!((more.rows, less.rows), (vec![], vec![]));
    let columns: Vec<_> = columns.rows.iter().map(|r| (&r[0], &r[1])).collect();
    let table = page::columns(&page::sql("Athena, Parquet")[0]);
    let wanted: Vec<_> = table
        .iter()
        .map(|(name, kind)| (json!(name), json!(duckdb_type(kind))))
        .collect();
    assert_eq!(
        columns,
        wanted.iter().map(|(n, k)| (n, k)).collect::<Vec<_>>()
    );
    // and the folders are where the tables of the page look for them
    for (heading, folder) in [
        ("Athena, text", &run.text),
        ("Athena, Parquet", &run.parquet),
    ] {
        let place = page::location(heading)
            .replace(
                "${day}",
                if folder == &run.text {
                    "2026/11/28"
                } else {
                    "28"
                },
            )
            .replace("${year}", "2026")
            .replace("${month}", "11");
        assert!(folder.join(&place).is_dir(), "{place}");
    }
}
