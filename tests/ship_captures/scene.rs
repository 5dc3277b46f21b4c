//! A sensor that ships its captures, and what can be seen of that.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mirrortap::ship::{Entry, Pending};
use serde_json::Value;
use tempfile::TempDir;

use crate::aws_support::{ACCESS_KEY, REGION, SECRET_KEY, without_aws};
use crate::common::{self, PROGRAM, Sensor};

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(180);

/// Files of 64 KiB, so that a few packets make many.
pub(crate) const SMALL: &str =
    "[capture]\nrotate_size = '64KiB'\n[writer]\nflush_interval = '50ms'\n";

/// What the sensor is told of shipping, with more lines for the table.
pub(crate) fn ship(endpoint: &str, more: &str) -> String {
    format!("[ship]\nbucket = 'evidence'\nprefix = 'sensor-1'\nendpoint = '{endpoint}'\n{more}\n")
}

/// An address of this machine that refuses connections: its port is taken, so that nobody else gets it, and not listened on.
pub(crate) struct Nobody(socket2::Socket);

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    pub(crate) fn endpoint(&self) -> String {
        let address = self.0.local_addr().unwrap().as_socket().unwrap();
        format!("http://{address}")
    }
}

/// A folder with an output, and the sensors that run there one after the other.
pub(crate) struct Scene {
    pub(crate) folder: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub(crate) fn start(&self, config: &str) -> Sensor {
        let mut command = Command::new(PROGRAM);
        without_aws(&mut command);
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_REGION", REGION);
        Sensor::start_with(command, self.folder.path(), config, &[])
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending::at(self.out().join(".ship/captures"))
    }

    /// What waits, but descriptions.
    pub(crate) fn waiting(&self) -> BTreeSet<String> {
        captures(&self.pending().waiting().unwrap())
    }

    pub(crate) fn done(&self) -> BTreeSet<String> {
        captures(&self.pending().done().unwrap())
    }

    /// Plays the shipper: all that waits arrives.
    pub(crate) fn take_all(&self) -> BTreeSet<String> {
        let pending = self.pending();
        let waiting = pending.waiting().unwrap();
        for entry in &waiting {
            pending.finish(&entry.name).unwrap();
        }
        captures(&waiting)
    }

    /// Published files, by their path below the output.
    pub(crate) fn published(&self) -> BTreeSet<String> {
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap());
            let names = entries.map(|e| e.file_name().into_string().unwrap());
            names.filter(|name| !name.starts_with('.')).collect()
        };
        let out = self.out();
        let sessions = names(&out).into_iter().filter(|s| out.join(s).is_dir());
        let below = |s: String| {
            names(&out.join(&s))
                .into_iter()
                .map(move |n| format!("{s}/{n}"))
        };
        sessions.flat_map(below).collect()
    }

    /// Lines of the manifest of one kind.
    pub(crate) fn lines(&self, kind: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.out().join("manifest.jsonl")).unwrap_or_default();
        let lines = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        lines.filter(|l: &Value| l["kind"] == kind).collect()
    }

    pub(crate) fn names(&self, kind: &str) -> BTreeSet<String> {
        let lines = self.lines(kind);
        let name = |line: &Value| line["name"].as_str().unwrap().to_owned();
        lines.iter().map(name).collect()
    }

    pub(crate) fn verify(&self) {
        let verified = common::mirrortap(&["verify", self.out().to_str().unwrap()]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "{said}");
    }
}

fn captures(entries: &[Entry]) -> BTreeSet<String> {
    let names = entries.iter().map(|e| e.name.clone());
    names.filter(|name| !name.ends_with(".json")).collect()
}

/// Waits until something holds: longer than others do, for servers and restarts are waited for too.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a deadline for a test")]
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
    println!("{what}: {:?}", start.elapsed());
}

/// A number of the queue of captures.
pub(crate) fn number(sensor: &Sensor, key: &str) -> u64 {
    let status = sensor.status();
    let queue = &status["ship"]["queues"]["captures"];
    queue[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {queue}"))
}

/// The sensor's shipping processes: the one that it has started, and the one which that has.
pub(crate) fn shippers(sensor: &Sensor) -> Vec<u32> {
    let children = |pid: u32| -> Vec<u32> {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(Path::new(&path)).unwrap_or_default();
        text.split_whitespace()
            .map(|p| p.parse().unwrap())
            .collect()
    };
    let first = children(sensor.child.id());
    let second: Vec<u32> = first.iter().flat_map(|pid| children(*pid)).collect();
    [first, second].concat()
}

pub(crate) fn kill(pid: u32) {
    let sent = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}
