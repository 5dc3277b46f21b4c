//! A disk that stands still: an ext4 image, in a mount namespace of its own, that is frozen and thawed. What is written to
//! it meanwhile waits in the kernel, and can't be interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Sensor, is_root, tool};
use crate::scene::{MOUSE, OTHER, Scene, frame, vxlan, wait};

/// The file system, and the process that holds its namespace.
struct Disk {
    holder: Child,
    folder: PathBuf,
    /// Thaws it when this test did not live to do so.
    thawer: Option<Child>,
}

impl Disk {
    /// `None` where no image can be mounted; then it has been said.
    fn mount(folder: &Path) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let image = folder.join("image");
        let file = fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        let made = tool("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .status()
            .unwrap();
        assert!(made.success(), "{made}");
        let out = folder.join("out");
        fs::create_dir(&out).unwrap();
        // the image goes with the namespace, which goes with its last process
        let script = "mount -o loop \"$0\" \"$1\" && echo mounted && exec sleep 600";
        let mut holder = tool("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .args([&image, &out])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line);
        if said.unwrap() == 0 {
            let _ = holder.wait();
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must be able to mount a loop device"
            );
            println!("no loop device can be mounted here: nothing was checked");
            return None;
        }
        Some(Self {
            holder,
            folder: out,
            thawer: None,
        })
    }

    /// A command in the namespace.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = tool("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string()]);
        command.args(words);
        command
    }

    fn freezer(&self, way: &str) -> Command {
        self.command(&["fsfreeze", way, self.folder.to_str().unwrap()])
    }

    /// Nothing is written from here on. It thaws by itself, should this test not live to do it.
    fn freeze(&mut self) {
        let folder = self.folder.to_str().unwrap();
        // `cat` ends with this process, or with what it holds of it
        let script = format!("timeout 120 cat; fsfreeze --unfreeze '{folder}'");
        let mut thawer = self.command(&["setsid", "sh", "-c", &script]);
        let thawer = thawer
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.thawer = Some(thawer.spawn().unwrap());
        assert!(self.freezer("--freeze").status().unwrap().success());
    }

    fn thaw(&self) {
        assert!(self.freezer("--unfreeze").status().unwrap().success());
    }

    /// A copy of what is in it, for those outside of the namespace.
    fn copy(&self, to: &Path) {
        fs::create_dir_all(to).unwrap();
        let from = format!("{}/.", self.folder.display());
        let out = self
            .command(&["cp", "-r", &from, to.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.freezer("--unfreeze").stderr(Stdio::null()).status();
        if let Some(mut thawer) = self.thawer.take() {
            drop(thawer.stdin.take());
            let _ = thawer.wait();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn start(disk: &Disk, folder: tempfile::TempDir, more: &str) -> Scene {
    let socket = folder.path().join("control.sock");
    let text = format!(
        "{more}\n[control]\nsocket = '{}'\n[[session]]\nname = 'mouse'\nvni = 7\nsource = ['{MOUSE}/32']\n",
        socket.display()
    );
    let command = disk.command(&[crate::common::PROGRAM]);
    let sensor = Sensor::start_with(command, folder.path(), &text, &[]);
    Scene::over(sensor, folder, more)
}

#[test]
fn what_comes_while_the_disk_stands_still_waits_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::mount(folder.path()) else {
        return;
    };
    let copy = tempfile::tempdir().unwrap();
    let mut scene = start(&disk, folder, "[writer]\nflush_interval = '50ms'");
    scene.flood(OTHER, (0..500).map(|n| vxlan(66, &frame(n, 700))));
    disk.freeze();
    scene.flood(OTHER, (500..20_000).map(|n| vxlan(66, &frame(n, 700))));
    scene.settle();
    let (sensor, sent) = (&scene.sensor, scene.sent);
    wait("all is received", || {
        sensor.status()["ledger"]["received"] == sent
    });
    let status = scene.sensor.status();
    assert!(
        status["in_flight"].as_u64().unwrap() > 15_000,
        "it stood still: {}",
        status["ledger"]
    );
    disk.thaw();
    let Scene {
        sensor,
        folder,
        mouse_sent,
        sent,
        ..
    } = scene;
    let ledger = sensor.stop();
    assert_eq!(
        (ledger.number("received"), ledger.number("written")),
        (sent, sent),
        "{}",
        ledger.0
    );
    disk.copy(copy.path());
    crate::scene::assert_mouse(copy.path(), mouse_sent);
    drop(disk);
    drop(folder);
}

#[test]
fn a_disk_that_stands_still_does_not_hold_up_the_ledger_at_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = Disk::mount(folder.path()) else {
        return;
    };
    let more = "shutdown_timeout = '4s'\n[writer]\nflush_interval = '50ms'";
    let mut scene = start(&disk, folder, more);
    scene.flood(OTHER, (0..500).map(|n| vxlan(66, &frame(n, 700))));
    disk.freeze();
    scene.flood(OTHER, (500..5_000).map(|n| vxlan(66, &frame(n, 700))));
    scene.settle();
    let Scene {
        mut sensor,
        folder,
        sent,
        ..
    } = scene;
    sensor.signal("TERM");
    // the ledger is there although a thread still waits for the disk; the process itself ends only with that
    let mut lines = BufReader::new(sensor.child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let ledger = crate::common::Ledger(serde_json::from_str(&line).unwrap());
    disk.thaw();
    ledger.assert_closed();
    assert_eq!(ledger.number("received"), sent, "{}", ledger.0);
    let lost = ledger.dropped("shutdown") + ledger.dropped("thread_lost");
    assert!(
        lost > 0 && ledger.number("written") + lost == sent,
        "{}",
        ledger.0
    );
    sensor.child.wait().unwrap();
    drop(disk);
    drop(folder);
}
