//! A replay that waits for its files can be stopped: SIGTERM gives it `shutdown_timeout`, a second one no time at all.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test is the purpose"
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use common::wait_until;

/// A replay whose hook hangs, so that its end waits.
struct Replay(Child);

impl Replay {
    fn start(folder: &Path, shutdown_timeout: &str) -> Self {
        let mark = folder.join("hook");
        // `exec`, so that nothing outlives the hook for long
        let hook = format!("touch {}; exec sleep 150", mark.display());
        let config = format!(
            "shutdown_timeout = '{shutdown_timeout}'\n[writer]\non_close = ['/bin/sh', '-c', '{hook}']\nhook_timeout = '300s'\n"
        );
        fs::write(folder.join("c.toml"), config).unwrap();
        fs::write(folder.join("mirror.pcap"), mirrored()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mirrortap"))
            .arg("replay")
            .arg(folder.join("mirror.pcap"))
            .arg("--config")
            .arg(folder.join("c.toml"))
            .arg("--output")
            .arg(folder.join("out"))
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.join("ledger")).unwrap())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let this = Self(child);
        wait_until("the hook", || mark.exists());
        this
    }

    fn terminate(&self) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A capture with one mirrored packet.
fn mirrored() -> Vec<u8> {
    let mut inner = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1, 2)
        .write(&mut inner, b"hello")
        .unwrap();
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat();
    let mut outer = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64)
        .udp(50_000, 4789)
        .write(&mut outer, &vxlan)
        .unwrap();
    let length = u32::try_from(outer.len()).unwrap();
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(65_535_u32.to_le_bytes());
    for word in [1, 1_795_561_200, 0, length, length] {
        file.extend(u32::to_le_bytes(word));
    }
    file.extend(outer);
    file
}

#[test]
fn a_replay_that_is_finishing_ends_within_the_shutdown_timeout_of_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let mut replay = Replay::start(folder.path(), "2s");
    assert!(replay.ended().is_none());
    replay.terminate();
    wait_until("the end", || replay.ended().is_some());
    let ledger = fs::read_to_string(folder.path().join("ledger")).unwrap();
    assert!(ledger.contains("\"received\""), "{ledger}");
    assert_eq!(common::files(&folder.path().join("out")).len(), 1);
}

#[test]
fn a_second_signal_ends_a_replay_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut replay = Replay::start(folder.path(), "1h");
    wait_until("the end", || {
        // two that come at the same time count as one
        replay.ended().is_some() || {
            replay.terminate();
            false
        }
    });
    assert_eq!(replay.ended().unwrap().code(), Some(130));
}
