//! Disks that stand still.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use crate::QUICK;
use crate::common::{self, Ledger};
use crate::disk_support::{PATIENCE, World, arrived, deliver, send, wait_ended, wait_until};

/// A file system that takes nothing as long as this lives; a minute or two at most, whatever becomes of this process.
struct Frozen(Child);

impl Frozen {
    fn new(world: &World) -> Self {
        let line = format!(
            "cd '{}' && fsfreeze --freeze out && echo frozen; timeout 100 cat; fsfreeze --unfreeze out",
            world.folder.path().display()
        );
        let mut command = world.command("setsid");
        command.args(["sh", "-c", &line]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut said)
            .unwrap();
        assert_eq!(said, "frozen\n");
        Self(child)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_stands_still_for_a_while_costs_nothing() {
    let Some(world) = World::image(64, "mkfs.ext4 -q", "") else {
        return;
    };
    let sensor = world.sensor(QUICK);
    deliver(&sensor, "1", 200);
    let before = arrived(&sensor);
    let frozen = Frozen::new(&world);
    // two seconds and more at this rate
    send(sensor.udp, "1", 16_000);
    wait_until("packets to arrive", || arrived(&sensor) > before);
    drop(frozen);
    wait_ended(&sensor, before + 16_000);
    let ledger = sensor.stop();
    assert_eq!(ledger.sum("dropped"), 0, "{}", ledger.0);
    assert_eq!(ledger.number("written"), ledger.number("received"));
    world.check(&ledger);
    common::files(&world.output(""));
}

#[test]
fn a_disk_that_stands_still_at_the_stop_does_not_hold_up_the_ledger() {
    let Some(world) = World::image(64, "mkfs.ext4 -q", "") else {
        return;
    };
    let config = format!("shutdown_timeout = '2s'\n{QUICK}");
    let mut sensor = world.sensor_with(&[], &config);
    deliver(&sensor, "1", 500);
    let frozen = Frozen::new(&world);
    send(sensor.udp, "1", 2_000);
    sensor.signal("TERM");
    // what stands still in the kernel ends with the stillness: the process, not its ledger
    let (tell, told) = mpsc::channel();
    let mut stdout = BufReader::new(sensor.child.stdout.take().unwrap());
    std::thread::spawn(move || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let _ = tell.send(line);
    });
    let line = told.recv_timeout(PATIENCE);
    let log = sensor.log().to_vec();
    drop(frozen);
    let line = line.unwrap_or_else(|_| panic!("no ledger while the disk stands still: {log:#?}"));
    let ledger = Ledger(serde_json::from_str(&line).unwrap());
    ledger.assert_closed();
    assert!(ledger.sum("dropped") > 0, "{line}");
    wait_until("the process to end", || {
        sensor.child.try_wait().unwrap().is_some()
    });
}
