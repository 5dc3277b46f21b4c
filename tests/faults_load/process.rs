//! What happens to the process while packets come.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{PROGRAM, Sensor, is_root};
use crate::scene::{MOUSE, OTHER, Scene, frame, peak, sender, vxlan, wait};

#[test]
fn a_process_that_was_stopped_for_a_while_goes_on_where_it_was() {
    let mut scene = Scene::new("");
    for round in 0..5 {
        scene.flood(OTHER, (0..200).map(|n| vxlan(66, &frame(n, 100))));
        scene.settle();
        scene.sensor.signal("STOP");
        // less than a socket holds by default: it waits there
        let other = scene.sender(OTHER);
        for n in 0..50 {
            other.send(&vxlan(66, &frame(n, 100))).unwrap();
        }
        scene.sent += 50;
        scene.sensor.signal("CONT");
        scene.settle();
        wait("it answers", || {
            scene
                .sensor
                .get("/healthz")
                .is_some_and(|(code, _)| code == 200)
        });
        scene.squeak();
        assert!(round < 5);
    }
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.packets("vni-66"), 5 * 250);
}

#[test]
fn a_socket_that_holds_next_to_nothing_loses_by_count() {
    let folder = tempfile::tempdir().unwrap();
    let sensor = Sensor::start(folder.path(), "[source]\nreceive_buffer = '4KiB'\n", &[]);
    let socket = sender(OTHER, sensor.udp);
    for n in 0..20_000 {
        socket.send(&vxlan(66, &frame(n, 700))).unwrap();
    }
    let ledger = sensor.stop();
    assert_eq!(
        ledger.number("received") + ledger.sum("kernel_dropped"),
        20_000,
        "{}",
        ledger.0
    );
    assert_eq!(
        ledger.number("received"),
        ledger.number("written"),
        "{}",
        ledger.0
    );
}

#[test]
fn a_stop_in_the_middle_of_a_flood_counts_all_that_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    for threads in ["", "[threads]\nreceivers = 2\nworkers = 2\n"] {
        let mut sensor = Sensor::start(folder.path(), threads, &[]);
        let over = Arc::new(AtomicBool::new(false));
        let flood = std::thread::spawn({
            let (port, over) = (sensor.udp, Arc::clone(&over));
            move || {
                let socket = sender(OTHER, port);
                let mut n = 0;
                // until nobody listens there any more
                while !over.load(Ordering::Relaxed)
                    && socket.send(&vxlan(66, &frame(n, 100))).is_ok()
                {
                    n += 1;
                }
            }
        });
        wait("it is in the middle of it", || {
            let received = sensor.status()["ledger"]["received"].as_u64();
            received.is_some_and(|n| n > 500)
        });
        sensor.signal("TERM");
        let ledger = sensor.collect();
        over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        assert_eq!(
            ledger.number("received"),
            ledger.number("written") + ledger.sum("dropped")
        );
    }
}

#[test]
fn a_restart_in_the_middle_overwrites_nothing_and_each_run_counts_its_own() {
    let mut scene = Scene::new("");
    let mut written = Vec::new();
    for run in 0..3 {
        scene.flood(
            OTHER,
            (0..300).map(|n| vxlan(66, &frame(run * 300 + n, 100))),
        );
        scene.settle();
        let Scene {
            sensor,
            folder,
            mouse_sent,
            sent,
            ..
        } = scene;
        let ledger = sensor.stop();
        assert_eq!(ledger.number("received"), sent, "{}", ledger.0);
        assert_eq!(ledger.number("written"), sent, "{}", ledger.0);
        written.push((ledger.number("written"), mouse_sent));
        let socket = folder.path().join("control.sock");
        let text = format!(
            "[control]\nsocket = '{}'\n[[session]]\nname = 'mouse'\nvni = 7\nsource = ['{MOUSE}/32']\n",
            socket.display()
        );
        let sensor = Sensor::start(folder.path(), &text, &[]);
        scene = Scene::over(sensor, folder, "");
    }
    let Scene { sensor, folder, .. } = scene;
    sensor.stop();
    let all = crate::common::all_packets(&folder.path().join("out")).len() as u64;
    assert_eq!(all, written.iter().map(|(all, _)| all).sum::<u64>());
    assert_eq!(
        crate::common::files(&folder.path().join("out/mouse")).len(),
        3
    );
}

/// A memory cgroup, of whichever version is there, removed when dropped.
struct Group {
    folder: PathBuf,
}

impl Group {
    /// `None` where this machine lets nobody make one; then the test has said so.
    fn limited(bytes: u64) -> Option<Self> {
        let name = format!("mirrortap-test-{}-{bytes}", std::process::id());
        let one = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");
        let two = ("/sys/fs/cgroup", "memory.max");
        let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let (root, limit) = match unified.split_whitespace().any(|c| c == "memory") {
            true => two,
            false => one,
        };
        if root == two.0 {
            let _ = fs::write(Path::new(root).join("cgroup.subtree_control"), "+memory");
        }
        let folder = Path::new(root).join(name);
        let made = fs::create_dir(&folder).and_then(|()| {
            let group = Self {
                folder: folder.clone(),
            };
            fs::write(folder.join(limit), bytes.to_string())?;
            Ok(group)
        });
        match made {
            Ok(group) => Some(group),
            Err(error) => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "CI must be able to make a memory cgroup: {error}"
                );
                println!("no memory cgroup can be made here ({error}): nothing was checked");
                None
            }
        }
    }

    /// A command that runs in it.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        let join = format!(
            "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
            self.folder.display()
        );
        command.args(["-c", &join, PROGRAM]);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // a group that has just been left may be busy for a moment
        for _ in 0..1_000 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn in_a_small_memory_group_a_flood_is_counted_and_nobody_is_killed() {
    if !is_root() {
        return;
    }
    let Some(group) = Group::limited(160 << 20) else {
        return;
    };
    let config = "[writer]\nbuffer = '16MiB'\n[source]\nreceive_buffer = '4MiB'\n";
    let mut scene = Scene::with(group.command(), config, &[]);
    scene.flood(OTHER, (0..1_000_u32).map(|n| vxlan(100 + n, &frame(0, 60))));
    scene.flood(OTHER, (0..5_000).map(|n| vxlan(66, &frame(n, 1_400))));
    let used = peak(scene.sensor.child.id());
    assert!(used < 160 << 20, "{used} bytes");
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    drop(group);
}
