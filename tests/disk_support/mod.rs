//! What tests of the disk share: a mount namespace of their own, traffic, and what a ledger says of files.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test support: each test uses a part of it, and failing is its purpose"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use mirrortap::generator::{Generator, Input, Options, Pace, Size};
use tempfile::TempDir;

use crate::common::{self, Ledger, PROGRAM, Sensor};

/// The longest that anything is waited for: a machine may be slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a deadline for a test")]
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Sends numbered packets of 1,000 bytes to a sensor.
pub fn send(port: u16, vnis: &str, count: u64) {
    let mut options = Options::new(SocketAddr::from(([127, 0, 0, 1], port)));
    options.vnis = vnis.parse().unwrap();
    options.count = Some(count);
    options.pace = Pace::Rate(8_000);
    options.input = Input::Synthetic {
        flows: 16,
        size: Size::Fixed(1000),
        seed: 1,
    };
    let mut generator = Generator::new(options).unwrap();
    generator.run(&AtomicBool::new(false)).unwrap();
}

/// A mount namespace and a folder in it. Its mounts end with it; nobody else sees them.
pub struct World {
    holder: Child,
    pub folder: TempDir,
}

impl World {
    /// `None` where that is not allowed; in CI it must be.
    pub fn new() -> Option<Self> {
        if !common::is_root() {
            return None;
        }
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("echo ready; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = holder.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "a mount namespace");
        let folder = tempfile::tempdir().unwrap();
        // for a sensor that is another user
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), all).unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        Some(Self { holder, folder })
    }

    /// With a small file system in memory as the output.
    pub fn small(size: &str) -> Option<Self> {
        let this = Self::new()?;
        this.sh(&format!("mount -t tmpfs -o size={size} tmpfs out"));
        Some(this)
    }

    /// With a file system in a file as the output, made by `mkfs` with these words.
    pub fn image(megabytes: u64, mkfs: &str, options: &str) -> Option<Self> {
        let this = Self::new()?;
        let options = if options.is_empty() {
            ""
        } else {
            &format!(",{options}")
        };
        this.sh(&format!(
            "truncate -s {megabytes}M disk.img && {mkfs} disk.img >/dev/null && mount -o loop{options} disk.img out"
        ));
        Some(this)
    }

    /// The output folder, as the sensor knows it.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// A path of the namespace, as this process sees it.
    pub fn see(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    /// Something in the output folder, as this process sees it.
    pub fn output(&self, below: &str) -> PathBuf {
        self.see(&self.out().join(below))
    }

    /// A program in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.id().to_string();
        command.args(["--mount", "--target", &pid, program]);
        command
    }

    /// Runs a line of shell in the world's folder.
    pub fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same where it may fail.
    pub fn try_sh(&self, line: &str) -> Output {
        let line = format!("cd '{}' && {line}", self.folder.path().display());
        let mut command = self.command("sh");
        command.args(["-c", &line]).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// A sensor in the namespace that writes into the output folder.
    pub fn sensor(&self, config: &str) -> Sensor {
        self.sensor_through(&[], config)
    }

    /// The same through another program, such as one that sets limits.
    pub fn sensor_through(&self, words: &[&str], config: &str) -> Sensor {
        // the control socket lives elsewhere: the disk is for captures
        self.sensor_with(words, &format!("[control]\nsocket = 'off'\n{config}"))
    }

    /// The same with another copy of the program.
    pub fn sensor_of(&self, program: &str, words: &[&str], config: &str) -> Sensor {
        let words: Vec<&str> = words.iter().copied().chain([program]).collect();
        self.start(&words, &format!("[control]\nsocket = 'off'\n{config}"))
    }

    /// The same with nothing else in its configuration.
    pub fn sensor_with(&self, words: &[&str], config: &str) -> Sensor {
        let words: Vec<&str> = words.iter().copied().chain([PROGRAM]).collect();
        self.start(&words, config)
    }

    fn start(&self, words: &[&str], config: &str) -> Sensor {
        let mut words = words.iter().copied();
        let mut command = self.command(words.next().unwrap());
        command.args(words);
        Sensor::start_with(command, self.folder.path(), config, &[])
    }

    /// Files with whole packets, each as told; all that was written is in files.
    pub fn check(&self, ledger: &Ledger) {
        check(ledger, &|path| self.see(path));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // what still runs in there keeps the mounts, and the folder could not be removed
        let _ = self.try_sh("umount -l out/* out 2>/dev/null");
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What a run says of its files is so: each that is still there has as many packets as were told, and all together as many as were
/// written.
pub fn check(ledger: &Ledger, see: &dyn Fn(&Path) -> PathBuf) {
    assert_eq!(
        check_each(ledger, see),
        ledger.number("written"),
        "{}",
        ledger.0
    );
}

/// The first half of that, for files that the disk may have refused in the end; gives how many packets were told.
pub fn check_each(ledger: &Ledger, see: &dyn Fn(&Path) -> PathBuf) -> u64 {
    let files = ledger.0["files"].as_array().unwrap();
    let mut told = 0;
    for file in files {
        let (path, packets) = (
            file["path"].as_str().unwrap(),
            file["packets"].as_u64().unwrap(),
        );
        let seen = see(Path::new(path));
        if seen.exists() {
            assert_eq!(common::packets(&seen).len() as u64, packets, "{path}");
        }
        told += packets;
    }
    told
}

/// Health becomes bad with a reason in which `words` are.
pub fn wait_sick(sensor: &Sensor, words: &str) -> String {
    let mut last = None;
    wait_until(&format!("bad health with {words:?}"), || {
        last = sensor.get("/healthz");
        matches!(&last, Some((503, reason)) if reason.contains(words))
    });
    last.unwrap().1
}

/// Health becomes good.
pub fn wait_well(sensor: &Sensor) {
    let mut last = None;
    wait_until("good health", || {
        last = sensor.get("/healthz");
        matches!(last, Some((200, _)))
    });
}

/// A number of `/status`.
pub fn number(sensor: &Sensor, path: &[&str]) -> u64 {
    let status = sensor.status();
    let value = path.iter().fold(&status, |value, key| &value[*key]);
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no {path:?} in {status}"))
}

/// Sends packets to a sensor, and waits until each of them has ended, in whatever way.
pub fn deliver(sensor: &Sensor, vnis: &str, count: u64) {
    let before = arrived(sensor);
    send(sensor.udp, vnis, count);
    wait_ended(sensor, before + count);
}

/// Waits until so many packets in all have arrived and ended.
pub fn wait_ended(sensor: &Sensor, count: u64) {
    wait_until("packets to end", || {
        arrived(sensor) >= count && sensor.status()["in_flight"].as_i64() == Some(0)
    });
}

/// What was received, and what the kernel could not hand over.
pub fn arrived(sensor: &Sensor) -> u64 {
    let status = sensor.status();
    let lost = status["kernel_dropped"].as_object().unwrap().values();
    let lost: u64 = lost.map(|n| n.as_u64().unwrap()).sum();
    status["ledger"]["received"].as_u64().unwrap() + lost
}

/// A file as an earlier run may have left it: `age` old, `bytes` long.
pub fn leave(output: &Path, session: &str, number: u32, bytes: usize, age: Duration) -> PathBuf {
    let folder = output.join(session);
    fs::create_dir_all(&folder).unwrap();
    let name = format!("{session}-20250101T000000.{:06}Z-{number:06}.pcap", number);
    let path = folder.join(name);
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&capture(bytes)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the age of a file in a test")]
    let now = std::time::SystemTime::now();
    file.set_modified(now - age).unwrap();
    path
}

/// A pcap file with one packet, `bytes` long in all.
pub fn capture(bytes: usize) -> Vec<u8> {
    let caplen = bytes.saturating_sub(40).max(14) as u32;
    let mut out = Vec::new();
    for word in [
        0xa1b2_3c4d_u32,
        0x0004_0002,
        0,
        0,
        262_144,
        1,
        1_735_689_600,
        0,
        caplen,
        caplen,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.resize(out.len() + caplen as usize, 0);
    out
}
