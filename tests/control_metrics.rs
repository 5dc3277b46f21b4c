//! docs/metrics.md and what `/metrics` prints are the same list, read both ways; the drop and filter
//! reasons in it are the program's, each with cause and remedy; and `promtool`-style rules of the format hold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what went wrong by failing"
)]

use std::collections::{BTreeMap, BTreeSet};

use mirrortap::control::{
    Receiver, Rule, Sandbox, Session, Snapshot, Style, UdpErrors, Worker, Writer, metrics,
};
use mirrortap::flowlog::Summary;
use mirrortap::packet::{DropReason, FilterReason, Tally};
use mirrortap::ship::{QueueStanding, Standing};

/// Type and label names of a metric.
type Shape = (String, BTreeSet<String>);

/// A snapshot in which every family has at least one sample.
fn everything() -> Snapshot {
    let ledger = Tally {
        received: 3,
        ..Tally::default()
    };
    let session = Session {
        ledger: ledger.clone(),
        ..Session::default()
    };
    let rule = Rule {
        session: "web".into(),
        rule: 100,
        direction: "ingress",
        action: "accept",
        hits: 2,
    };
    Snapshot {
        version: "0.0.0",
        ledger,
        in_flight: 3,
        kernel_dropped: [("socket", 4)].into(),
        sessions: [("web".to_owned(), session)].into(),
        rules: vec![rule],
        receivers: vec![Receiver::default()],
        workers: vec![Worker::default()],
        writers: vec![Writer::default()],
        flow_logs: [("default".to_owned(), Summary::default())].into(),
        ship: shipping(),
        sandbox: Sandbox {
            parts: [("files", true)].into(),
            ..Sandbox::default()
        },
        ..Snapshot::default()
    }
}

fn shipping() -> Standing {
    let mut queue = QueueStanding::default();
    let refused = [("too_old".to_owned(), 1)];
    queue.status.refused_events.extend(refused);
    Standing {
        queues: [("captures".to_owned(), queue)].into(),
        ended: None,
    }
}

fn printed(style: Style) -> String {
    metrics(everything(), true, UdpErrors::default(), style).unwrap()
}

/// Name, type and label names of every sample in the text.
fn shapes(text: &str) -> BTreeMap<String, Shape> {
    let mut kind = String::new();
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.split(' ').nth(1).unwrap().to_owned();
        } else if !line.starts_with('#') {
            let (series, _value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let pairs = labels.trim_end_matches('}').split(',');
            let names = pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            let shape = (kind.clone(), names.collect());
            shapes.insert(name.to_owned(), shape);
        }
    }
    shapes
}

/// Rows of the page's tables whose first cell is a code word: the cells, without the backticks.
fn rows() -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    })
    .collect()
}

fn documented() -> BTreeMap<String, Shape> {
    let metrics = rows()
        .into_iter()
        .filter(|row| row[0].starts_with("mirrortap_"));
    metrics
        .map(|row| {
            assert_eq!(row.len(), 4, "metric, type, labels, meaning: {row:?}");
            assert!(row[3].len() > 15, "{} has no meaning", row[0]);
            let labels = row[2].split_whitespace().filter(|label| *label != "–");
            (
                row[0].clone(),
                (row[1].clone(), labels.map(str::to_owned).collect()),
            )
        })
        .collect()
}

#[test]
fn the_page_lists_what_metrics_prints_and_nothing_else() {
    assert_eq!(documented(), shapes(&printed(Style::Prometheus)));
}

#[test]
fn an_empty_program_prints_every_family() {
    let empty = metrics(
        Snapshot::default(),
        false,
        UdpErrors::default(),
        Style::Prometheus,
    );
    let headings = |text: &str| -> BTreeSet<String> {
        let types = text.lines().filter(|line| line.starts_with("# TYPE "));
        types.map(str::to_owned).collect()
    };
    assert_eq!(
        headings(&empty.unwrap()),
        headings(&printed(Style::Prometheus))
    );
}

#[test]
fn both_styles_print_the_same_samples() {
    let samples = |style| -> BTreeSet<String> {
        let text = printed(style);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.replace(".0", "")).collect()
    };
    assert_eq!(samples(Style::Prometheus), samples(Style::OpenMetrics));
}

#[test]
fn every_series_appears_once_and_counters_end_in_total() {
    let text = printed(Style::Prometheus);
    let samples: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let series: BTreeSet<&str> = samples
        .iter()
        .map(|l| l.rsplit_once(' ').unwrap().0)
        .collect();
    assert_eq!(series.len(), samples.len());
    for (name, (kind, _)) in shapes(&text) {
        assert_eq!(
            name.ends_with("_total"),
            kind == "counter",
            "{name} is a {kind}"
        );
    }
}

#[test]
fn every_reason_is_explained_with_its_cause_and_what_to_do() {
    let reasons = |count| -> BTreeMap<String, Vec<String>> {
        let rows = rows().into_iter().filter(|row| row.len() == count);
        let rows = rows.filter(|row| !row[0].starts_with("mirrortap_"));
        rows.map(|row| (row[0].clone(), row)).collect()
    };
    let drops = reasons(3);
    let expected = DropReason::ALL.iter().map(|r| r.name().to_owned());
    assert_eq!(
        drops.keys().cloned().collect::<BTreeSet<_>>(),
        expected.collect()
    );
    for row in drops.values() {
        assert!(row[1].len() > 20 && row[2].len() > 10, "{row:?}");
    }
    let filters = reasons(2);
    let expected = FilterReason::ALL.iter().map(|r| r.name().to_owned());
    assert_eq!(
        filters.keys().cloned().collect::<BTreeSet<_>>(),
        expected.collect()
    );
}

#[test]
fn a_healthy_program_says_so_in_numbers() {
    let ill = metrics(everything(), false, UdpErrors::default(), Style::Prometheus).unwrap();
    assert!(printed(Style::Prometheus).contains("\nmirrortap_daemon_healthy 1\n"));
    assert!(ill.contains("\nmirrortap_daemon_healthy 0\n"));
}
