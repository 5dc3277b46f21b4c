//! A file that waits, and a service that it is shipped to.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::aws_support;
use crate::ship_support::{Asked, Reply, Scripted, block_on};
use flate2::Compression;
use flate2::write::GzEncoder;
use mirrortap::ship::aws::{Environment, Failure, Settings};
use mirrortap::ship::logs::{Logs, Tally};
use mirrortap::ship::{CloudWatch, Entry, Pending};
use mirrortap::time;
use serde_json::Value;
use tempfile::TempDir;

pub const HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status";
pub const STREAM: &str = "fl-0123456789abcdef0";

pub fn settings() -> Settings {
    Settings {
        region: Some(aws_support::REGION.into()),
        profile: None,
        environment: Environment::with([
            ("AWS_ACCESS_KEY_ID", aws_support::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", aws_support::SECRET_KEY),
            ("AWS_SESSION_TOKEN", "token/of+tests=="),
        ]),
    }
}

pub fn group(endpoint: String) -> CloudWatch {
    CloudWatch {
        log_group: "/mirror/flows".into(),
        endpoint: Some(endpoint),
        ..CloudWatch::default()
    }
}

/// Now, in seconds.
pub fn now() -> u64 {
    time::now().secs()
}

pub fn line(interface: &str, start: u64, note: &str) -> String {
    let end = start + 60;
    format!(
        "2 123456789012 {interface} 10.0.0.1 10.0.0.2 1 443 6 7 420 {start} {end} ACCEPT OK{note}"
    )
}

/// A folder in which one file waits.
pub struct Waiting {
    folder: TempDir,
    pub pending: Pending,
}

impl Waiting {
    pub fn with(name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::at(folder.path().join("ship"));
        pending.make().unwrap();
        let waiting = Self { folder, pending };
        waiting.offer(name, &packed(text));
        waiting
    }

    pub fn offer(&self, name: &str, bytes: &[u8]) {
        let file = self.folder.path().join("file");
        let _ = fs::remove_file(&file);
        fs::write(&file, bytes).unwrap();
        self.pending.offer(&file, name).unwrap();
    }

    pub fn entry(&self) -> Entry {
        self.pending.waiting().unwrap().remove(0)
    }

    /// Ships it; what was taken, and how it ended.
    pub fn ship(&self, group: &CloudWatch) -> (Tally, Result<(), Failure>) {
        let mut sum = Tally::default();
        let done = block_on(async {
            let logs = Logs::open(group, STREAM, &settings()).await?;
            let taken = |tally: Tally| add(&mut sum, &tally);
            logs.ship(&self.pending, &self.entry(), async |_| {}, taken)
                .await
        });
        (sum, done)
    }

    pub fn progress(&self) -> Vec<std::path::PathBuf> {
        let folder = self.pending.state().join("logs");
        fs::read_dir(folder).map_or(Vec::new(), |entries| {
            entries.map(|entry| entry.unwrap().path()).collect()
        })
    }
}

pub fn add(sum: &mut Tally, tally: &Tally) {
    sum.events += tally.events;
    sum.bytes += tally.bytes;
    for (reason, events) in &tally.refused {
        *sum.refused.entry(reason).or_default() += events;
    }
}

pub fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A service that has the group, and remembers what was put. The answer to the n-th batch is made here.
pub fn service(answer: impl Fn(usize, &[Value]) -> Reply + Send + Sync + 'static) -> Scripted {
    let puts = AtomicUsize::new(0);
    Scripted::start(move |asked| match asked.target() {
        "PutLogEvents" => {
            let events = put(asked);
            answer(puts.fetch_add(1, Ordering::SeqCst), &events)
        }
        _ => Reply::ok("{}"),
    })
}

pub fn put(asked: &Asked) -> Vec<Value> {
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    body["logEvents"].as_array().unwrap().clone()
}

/// How often each message was put by requests that were taken: those of these numbers.
pub fn counted(server: &Scripted, taken: &[usize]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    let puts = server.asked();
    let puts: Vec<_> = puts
        .iter()
        .filter(|a| a.target() == "PutLogEvents")
        .collect();
    for event in taken.iter().flat_map(|i| put(puts[*i])) {
        *all.entry(event["message"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    all
}

/// Lines of two interfaces on three days, which make six batches: none is of more than a day.
pub fn long_file() -> (String, Vec<String>) {
    let start = now() - 5 * 86_400;
    let lines: Vec<String> = (0..90)
        .map(|i| {
            let interface = ["eni-1", "eni-2"][usize::from(i % 3 == 0)];
            line(interface, start + i / 30 * 86_400 + i % 7, &format!(" {i}"))
        })
        .collect();
    (format!("{HEADER}\n{}\n", lines.join("\n")), lines)
}
