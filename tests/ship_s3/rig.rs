//! A folder of pending files, and the real process that ships them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use mirrortap::sandbox;
use mirrortap::ship::{
    After, Destination, Orders, Pending, Plan, Queue, QueueStatus, S3, Shipper, Status,
};
use tempfile::TempDir;

use crate::aws_support::{ACCESS_KEY, REGION, SECRET_KEY, without_aws};
use crate::common::PROGRAM;

/// The name of the queue.
pub const QUEUE: &str = "captures";
/// How often something is looked for, a twentieth of a second apart.
const LOOKS: u32 = 4800;

pub struct Rig {
    folder: TempDir,
    offered: Cell<u64>,
    pub pending: Pending,
}

impl Rig {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::at(folder.path().join("out/.ship/captures"));
        pending.make().unwrap();
        Self {
            folder,
            offered: Cell::new(0),
            pending,
        }
    }

    /// Offers a file, whose first name goes. Each is a second younger than the last.
    pub fn offer(&self, name: &str, bytes: &[u8]) {
        let file = self.folder.path().join("file");
        fs::write(&file, bytes).unwrap();
        self.offered.set(self.offered.get() + 1);
        let at = UNIX_EPOCH + Duration::from_secs(1_795_000_000 + self.offered.get());
        let opened = fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(at).unwrap();
        self.pending.offer(&file, name).unwrap();
        fs::remove_file(file).unwrap();
    }

    pub fn queue(&self, endpoint: &str) -> Queue {
        Queue {
            name: QUEUE.to_owned(),
            folder: self.pending.root().to_owned(),
            destination: Destination::S3(s3(endpoint)),
            after: After::Tell,
            bandwidth: None,
            part_size: 5 << 20,
        }
    }

    /// Names of the files that have arrived.
    pub fn done(&self) -> Vec<String> {
        let done = self.pending.done().unwrap();
        done.into_iter().map(|entry| entry.name).collect()
    }

    pub fn waiting(&self) -> usize {
        self.pending.waiting().unwrap().len()
    }
}

/// The bucket that tests ship to.
pub fn s3(endpoint: &str) -> S3 {
    S3 {
        bucket: "evidence".to_owned(),
        prefix: "sensor-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        ..S3::default()
    }
}

/// A file's bytes, which no other number has.
pub fn bytes(number: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The process, and all that it has told.
pub struct Running {
    pub shipper: Shipper,
    pub told: Vec<Status>,
}

impl Running {
    /// With the credentials that the servers take.
    pub fn start(queue: Queue) -> Self {
        Self::start_with(queue, &[])
    }

    /// With a changed environment.
    pub fn start_with(queue: Queue, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        without_aws(&mut command);
        command.envs([
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", REGION),
        ]);
        command.envs(variables.iter().copied());
        let orders = Orders {
            plan: Plan {
                queues: vec![queue],
            },
            sandbox: sandbox::Config::default(),
            ..Orders::default()
        };
        let mut shipper = Shipper::start_command(command, &orders).unwrap();
        shipper.go();
        Self {
            shipper,
            told: Vec::new(),
        }
    }

    /// Waits for a status in which something is so, of those that were not looked at yet.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&QueueStatus) -> bool) -> QueueStatus {
        for _ in 0..LOOKS {
            let more = self.shipper.statuses().unwrap();
            let rows: Vec<_> = more.iter().filter_map(|s| s.queues.get(QUEUE)).collect();
            let found = rows.into_iter().find(|row| is_so(row)).cloned();
            self.told.extend(more);
            if let Some(row) = found {
                return row;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not come; the last status: {:?}", self.row());
    }

    pub fn until_shipped(&mut self, files: u64) -> QueueStatus {
        self.until(&format!("the arrival of {files} files"), |row| {
            row.shipped_files >= files
        })
    }

    pub fn until_trouble(&mut self, kind: &str) -> String {
        let is_it = |row: &QueueStatus| row.trouble.as_ref().is_some_and(|t| t.kind == kind);
        let row = self.until(&format!("trouble of kind {kind}"), is_it);
        row.trouble.unwrap().reason
    }

    pub fn row(&self) -> Option<QueueStatus> {
        self.told.last()?.queues.get(QUEUE).cloned()
    }

    /// The kinds of trouble that were told so far.
    pub fn kinds(&self) -> BTreeSet<String> {
        let rows = self.told.iter().filter_map(|s| s.queues.get(QUEUE));
        let troubles = rows.filter_map(|row| row.trouble.as_ref());
        troubles.map(|trouble| trouble.kind.clone()).collect()
    }

    /// The process that ships, which the other looks after.
    pub fn worker(&self) -> u32 {
        wait_for("a worker", || children(self.shipper.id()).first().copied())
    }
}

pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .map(|p| p.parse().unwrap())
        .collect()
}

pub fn kill(pid: u32) {
    let pid = pid.to_string();
    let killed = Command::new("kill").args(["-KILL", &pid]).status();
    assert!(killed.unwrap().success());
}

/// Waits for something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come");
}
