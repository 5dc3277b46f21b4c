//! An output folder with a manifest, made by replays, and checks of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use mirrortap::spool::manifest::{Digest, Finding, Options, Summary, audit};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::PROGRAM;

/// A folder to work in.
pub(crate) struct Place {
    folder: TempDir,
}

pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{command:?}: {said}");
    String::from_utf8(out.stdout).unwrap()
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new(PROGRAM)
            .args([
                "send",
                "--to",
                "127.0.0.1:4789",
                "--vni",
                "5-7",
                "--count",
                "300",
            ])
            .args(["--source", "10.9.8.7", "--write"])
            .arg(folder.path().join("outer.pcap")));
        Self { folder }
    }

    /// With a manifest of one run and some files.
    pub(crate) fn filled() -> Self {
        let place = Self::new();
        place.replay("[capture]\nrotate_packets = 40");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    pub(crate) fn try_replay(&self, config: &str) -> Output {
        fs::write(self.path("m.toml"), config).unwrap();
        Command::new(PROGRAM)
            .args(["replay", "--json", "--config"])
            .arg(self.path("m.toml"))
            .arg("--output")
            .arg(self.out())
            .arg(self.path("outer.pcap"))
            .output()
            .unwrap()
    }

    /// A run; gives its ledger.
    pub(crate) fn replay(&self, config: &str) -> Value {
        let out = self.try_replay(config);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{said}");
        serde_json::from_slice(&out.stdout).unwrap()
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.out().join("manifest.jsonl")
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.manifest()).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        lines(&self.out())
    }

    /// Names of the files that are listed.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.lines();
        let published = lines.iter().filter(|l| l["kind"] == "published");
        published
            .map(|l| l["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Exit code and report of `mirrortap verify --json`.
    pub(crate) fn verify(&self, more: &[&str]) -> (i32, Value) {
        verify(&self.out(), more)
    }

    pub(crate) fn assert_good(&self, more: &[&str]) -> Value {
        let (code, report) = self.verify(more);
        assert!(code == 0 && report["good"] == true, "{report:#}");
        report
    }

    /// What is damaged, by kind.
    pub(crate) fn damages(&self, more: &[&str]) -> Vec<String> {
        let (code, report) = self.verify(more);
        let damages = damages(&report);
        assert_eq!(code, if damages.is_empty() { 0 } else { 65 }, "{report:#}");
        damages
    }

    pub(crate) fn head(&self) -> String {
        self.assert_good(&[])["head"].as_str().unwrap().to_owned()
    }

    /// A key, and the path of its public half.
    pub(crate) fn key(&self, name: &str) -> (String, String) {
        let (private, public) = (self.path(name), self.path(&format!("{name}.pub")));
        run(Command::new("openssl")
            .args(["genpkey", "-algorithm", "ed25519", "-out"])
            .arg(&private));
        run(Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public));
        run(Command::new("chmod").arg("600").arg(&private));
        (
            private.to_str().unwrap().to_owned(),
            public.to_str().unwrap().to_owned(),
        )
    }
}

pub(crate) fn lines(output: &Path) -> Vec<Value> {
    let text = fs::read_to_string(output.join("manifest.jsonl")).unwrap_or_default();
    // one that is being written is none yet
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

pub(crate) fn verify(output: &Path, more: &[&str]) -> (i32, Value) {
    let out = Command::new(PROGRAM)
        .args(["verify", "--json"])
        .args(more)
        .arg(output)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&out.stdout).unwrap_or_default();
    (out.status.code().unwrap(), report)
}

pub(crate) fn damages(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let bad = findings.filter(|f| f["damage"] == true);
    bad.map(|f| f["what"].as_str().unwrap().to_owned())
        .collect()
}

/// The check without a process of its own.
pub(crate) fn check(output: &Path, head: Option<Digest>) -> (Summary, Vec<Finding>) {
    let mut findings = Vec::new();
    let options = Options {
        head,
        ..Options::default()
    };
    let summary = audit(output, &options, &mut |f| findings.push(f)).unwrap();
    (summary, findings)
}

/// Waits for something, however slow the machine is.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited for a minute: {what}");
}
