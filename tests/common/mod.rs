//! What several tests need: the corpus, the program, its ledger, and the packets of a file.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test support: each test uses a part of it, and failing is its purpose"
)]

mod net;
mod wrapped;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use mirrortap::capfile::Reader;
pub use net::{free_tcp_port, free_udp_port, http_get, waiting};
use serde_json::Value;
pub use wrapped::assert_wrapped_round_trip;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mirrortap");

/// The corpus, or `None` on a machine that has none; in CI it must be there.
pub fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let path = std::env::var_os("MIRRORTAP_CORPUS").map_or(beside, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI needs the corpus: set MIRRORTAP_CORPUS"
    );
    println!("no corpus here (MIRRORTAP_CORPUS): nothing was checked");
    None
}

/// Captures of a corpus folder, sorted.
pub fn captures(folder: &str) -> Vec<PathBuf> {
    let Some(corpus) = corpus() else {
        return Vec::new();
    };
    let mut all: Vec<PathBuf> = fs::read_dir(corpus.join(folder))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "pcap" || e == "pcapng"))
        .collect();
    assert!(!all.is_empty(), "no captures in {folder}");
    all.sort();
    all
}

pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Whether this test may make namespaces and mounts. Not being root is a failure in CI.
pub fn is_root() -> bool {
    let uid = Command::new("id").arg("-u").output().unwrap();
    let root = uid.stdout == b"0\n";
    assert!(
        root || std::env::var_os("CI").is_none(),
        "CI must run this test as root"
    );
    if !root {
        println!("needs root: nothing was checked");
    }
    root
}

/// A copy of the program where every user can start it, whoever may look into the folder that it was built in.
pub fn program_for_all(folder: &Path) -> PathBuf {
    let everybody = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    let copy = folder.join("mirrortap");
    fs::copy(PROGRAM, &copy).unwrap();
    fs::set_permissions(&copy, everybody(0o755)).unwrap();
    fs::set_permissions(folder, everybody(0o755)).unwrap();
    copy
}

/// A tool that the set-up script installs.
pub fn tool(name: &str) -> Command {
    let found = Command::new("which")
        .arg(name)
        .output()
        .unwrap()
        .status
        .success();
    assert!(found, "{name} is not installed: run `make setup`");
    Command::new(name)
}

/// One packet of a capture file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    pub nanos: u64,
    pub origlen: u32,
    pub data: Vec<u8>,
}

/// Every packet of a file; a damaged file is a failure.
pub fn packets(file: &Path) -> Vec<Packet> {
    let (packets, damage) = readable_packets(file);
    assert_eq!(damage, None, "{}", file.display());
    packets
}

/// The packets of a file as far as it can be read, and the damage.
pub fn readable_packets(file: &Path) -> (Vec<Packet>, Option<String>) {
    let mut reader = Reader::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut all = Vec::new();
    while let Some(r) = reader.next().unwrap() {
        all.push(Packet {
            nanos: r.time.nanos(),
            origlen: r.origlen,
            data: r.data.to_vec(),
        });
    }
    (all, reader.damage().map(ToString::to_string))
}

/// Capture files below a folder, by path. Partial files are a failure.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(
                !name.ends_with(".partial"),
                "left behind: {}",
                path.display()
            );
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".pcap") || name.ends_with(".pcapng") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

/// How many capture files there are below the session folders of an output, while more are being written.
pub fn files_so_far(output: &Path) -> usize {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let inside = entries(output).flat_map(|e| entries(&e.path()).collect::<Vec<_>>());
    let names = inside.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.ends_with(".pcap")).count()
}

/// Capture files below a folder that is being written to.
pub fn files_with_hidden(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let extension = path
            .extension()
            .is_some_and(|e| e == "pcap" || e == "pcapng");
        if path.is_dir() {
            all.extend(files_with_hidden(&path));
        } else if extension {
            all.push(path);
        }
    }
    all
}

/// Files below a folder that have their hidden name still.
pub fn partials(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(partials(&path));
        } else if path.extension().is_some_and(|e| e == "partial") {
            all.push(path);
        }
    }
    all
}

/// All packets below a folder, file after file.
pub fn all_packets(folder: &Path) -> Vec<Packet> {
    files(folder).iter().flat_map(|f| packets(f)).collect()
}

/// Runs the program to its end.
pub fn mirrortap(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

/// A run's ledger, from the last line of its output; checks that it is closed.
pub fn ledger(output: &Output) -> Ledger {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| {
        panic!(
            "no ledger; it said: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let ledger = Ledger(serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}")));
    ledger.assert_closed();
    ledger
}

/// Replays captures and gives the ledger.
pub fn replay(captures: &[&Path], output: &Path, more: &[&str]) -> Ledger {
    let mut command = Command::new(PROGRAM);
    command
        .arg("replay")
        .args(captures)
        .arg("--output")
        .arg(output)
        .arg("--json")
        .args(more);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{captures:?}: {said}");
    ledger(&out)
}

/// A ledger as printed.
#[derive(Clone, Debug)]
pub struct Ledger(pub Value);

impl Ledger {
    pub fn number(&self, key: &str) -> u64 {
        self.0[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no {key} in {}", self.0))
    }

    pub fn sum(&self, key: &str) -> u64 {
        sum(&self.0[key])
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        self.0["dropped"][reason].as_u64().unwrap_or(0)
    }

    pub fn filtered(&self, reason: &str) -> u64 {
        self.0["filtered"][reason].as_u64().unwrap_or(0)
    }

    pub fn sessions(&self) -> BTreeMap<String, Value> {
        serde_json::from_value(self.0["per_session"].clone()).unwrap()
    }

    /// received = written + filtered + dropped, in total and for each session.
    pub fn assert_closed(&self) {
        let closed = |v: &Value| {
            let ended = v["written"].as_u64().unwrap() + sum(&v["filtered"]) + sum(&v["dropped"]);
            assert_eq!(v["received"].as_u64().unwrap(), ended, "not closed: {v}");
        };
        closed(&self.0);
        self.sessions().values().for_each(closed);
    }
}

fn sum(map: &Value) -> u64 {
    map.as_object()
        .into_iter()
        .flatten()
        .map(|(_, n)| n.as_u64().unwrap())
        .sum()
}

/// A sensor that runs until it is told to stop.
pub struct Sensor {
    pub child: Child,
    pub udp: u16,
    pub http: u16,
    said: std::sync::mpsc::Receiver<String>,
    log: Vec<String>,
}

impl Sensor {
    /// Starts `mirrortap run` on ports that the system chooses, with JSON logs, and waits until it is healthy.
    pub fn start(folder: &Path, config: &str, more: &[&str]) -> Self {
        Self::start_with(Command::new(PROGRAM), folder, config, more)
    }

    /// The same through another command line, such as one that limits it.
    pub fn start_with(command: Command, folder: &Path, config: &str, more: &[&str]) -> Self {
        Self::start_on(command, folder, config, more, free_udp_port())
    }

    /// The same on a port that the caller has chosen.
    pub fn start_on(
        command: Command,
        folder: &Path,
        config: &str,
        more: &[&str],
        udp: u16,
    ) -> Self {
        let mut this = Self::begin(command, folder, config, more, udp);
        this.wait_for(|code| code == 200);
        this
    }

    /// One that need not be healthy: waits until it says how it is.
    pub fn start_ill(folder: &Path, config: &str) -> Self {
        let mut this = Self::begin(Command::new(PROGRAM), folder, config, &[], free_udp_port());
        this.wait_for(|_| true);
        this
    }

    fn begin(mut command: Command, folder: &Path, config: &str, more: &[&str], udp: u16) -> Self {
        let http = free_tcp_port();
        let file = folder.join("mirrortap.toml");
        fs::write(&file, config).unwrap();
        let child = command
            .arg("run")
            .arg("--config")
            .arg(&file)
            .args([
                "--listen",
                &format!("127.0.0.1:{udp}"),
                "--control",
                &format!("127.0.0.1:{http}"),
            ])
            .arg("--output")
            .arg(folder.join("out"))
            .arg("--json")
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self::over(child, udp, http)
    }

    fn over(mut child: Child, udp: u16, http: u16) -> Self {
        let (tell, said) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self {
            child,
            udp,
            http,
            said,
            log: Vec::new(),
        }
    }

    fn wait_for(&mut self, good: impl Fn(u16) -> bool) {
        for _ in 0..1200 {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the sensor ended with {status}: {:#?}", self.log());
            }
            if self.get("/healthz").is_some_and(|(code, _)| good(code)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the sensor did not become healthy: {:#?}", self.log());
    }

    /// What it has logged so far.
    pub fn log(&mut self) -> &[String] {
        self.log.extend(self.said.try_iter());
        &self.log
    }

    /// Waits until the log has a line with these words.
    pub fn wait_logged(&mut self, words: &str) {
        wait_until(words, || self.log().iter().any(|l| l.contains(words)));
    }

    /// Status code and body of an HTTP request.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http_get(self.http, path)
    }

    pub fn status(&self) -> Value {
        let (code, body) = self.get("/status").expect("/status answers");
        assert_eq!(code, 200);
        serde_json::from_str(&body).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    /// Stops it with SIGTERM and gives the ledger that it prints.
    pub fn stop(mut self) -> Ledger {
        self.signal("TERM");
        self.collect()
    }

    /// Waits for its end, which something else has asked for.
    pub fn collect(&mut self) -> Ledger {
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        std::io::Read::read_to_string(stdout, &mut text).unwrap();
        let status = self.child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(status.success(), "{status}: {:#?}", self.log());
        let output = Output {
            status,
            stdout: text.into_bytes(),
            stderr: Vec::new(),
        };
        ledger(&output)
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Until `holds`, or the test fails: for what comes about in its own time.
#[allow(clippy::disallowed_methods, reason = "the deadline of a test")]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < end, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}
