//! Large files: parts, and what is left of them when something ends in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mirrortap::ship::Queue;

use crate::fake::{Act, Fake};
use crate::rig::{Rig, Running, bytes, kill, wait_for};

const PART: usize = 100_000;
/// Five parts, the last of them short.
const LEN: usize = 4 * PART + 1;

fn queue(rig: &Rig, fake: &Fake) -> Queue {
    Queue {
        part_size: PART as u64,
        ..rig.queue(&fake.endpoint())
    }
}

/// A server that does not answer when a part comes, until it is let go on.
fn stuck_at(part: u32) -> (Fake, Arc<AtomicBool>) {
    let go_on = Arc::new(AtomicBool::new(false));
    let free = go_on.clone();
    let fake = Fake::start(move |asked| match asked.part() {
        Some(n) if n == part && !free.load(Ordering::SeqCst) => Act::Hold,
        _ => Act::Serve,
    });
    (fake, go_on)
}

fn wait_for_part(fake: &Fake, part: u32) {
    let word = format!("part {part}");
    wait_for(&word, || (fake.times(&word) > 0).then_some(()));
}

#[test]
fn an_upload_goes_on_after_a_restart_of_everything_and_no_part_is_sent_that_was_taken() {
    let (fake, go_on) = stuck_at(3);
    let rig = Rig::new();
    rig.offer("large", &bytes(1, LEN));
    let running = Running::start(queue(&rig, &fake));
    wait_for_part(&fake, 3);
    // the sensor is gone at once, as when it is killed
    kill(running.worker());
    kill(running.shipper.id());
    drop(running);
    go_on.store(true, Ordering::SeqCst);
    let mut running = Running::start(queue(&rig, &fake));
    let row = running.until_shipped(1);
    assert_eq!((row.shipped_bytes, row.retries), (LEN as u64, 0));
    let expected = [
        "begin", "part 1", "part 2", "part 3", "part 3", "part 4", "part 5", "complete",
    ];
    assert_eq!(fake.words(), expected);
    assert_eq!(fake.object("large").unwrap(), bytes(1, LEN));
    assert_eq!(rig.done(), ["large"]);
}

#[test]
fn a_worker_that_dies_has_a_follower_that_goes_on_where_it_was() {
    let (fake, go_on) = stuck_at(3);
    let rig = Rig::new();
    rig.offer("first", b"1");
    rig.offer("large", &bytes(1, LEN));
    let mut running = Running::start(queue(&rig, &fake));
    running.until_shipped(1);
    wait_for_part(&fake, 3);
    let dead = running.worker();
    kill(dead);
    running.until_trouble("local");
    go_on.store(true, Ordering::SeqCst);
    let row = running.until_shipped(2);
    assert_eq!(row.trouble, None);
    assert_ne!(running.worker(), dead);
    assert_eq!((fake.times("begin"), fake.times("part 2")), (1, 1));
    assert_eq!(fake.object("large").unwrap(), bytes(1, LEN));
    assert_eq!(fake.objects().len(), 2);
}

#[test]
fn an_upload_that_the_bucket_has_forgotten_is_begun_anew() {
    let (fake, go_on) = stuck_at(3);
    let rig = Rig::new();
    rig.offer("large", &bytes(1, LEN));
    let running = Running::start(queue(&rig, &fake));
    wait_for_part(&fake, 3);
    drop(running);
    fake.forget_uploads();
    go_on.store(true, Ordering::SeqCst);
    let mut running = Running::start(queue(&rig, &fake));
    running.until_shipped(1);
    assert_eq!((fake.times("begin"), fake.times("part 1")), (2, 2));
    assert_eq!(fake.object("large").unwrap(), bytes(1, LEN));
}

#[test]
fn the_upload_of_a_file_that_was_given_up_is_broken_off_as_soon_as_the_bucket_can() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    let fake = Fake::start(move |asked| match asked.what().as_str() {
        _ if !down.load(Ordering::SeqCst) => Act::Serve,
        "part 3" => Act::Hold,
        "abort" => Act::Refuse(500, "InternalError", None),
        _ => Act::Serve,
    });
    let rig = Rig::new();
    rig.offer("large", &bytes(1, LEN));
    let running = Running::start(queue(&rig, &fake));
    wait_for_part(&fake, 3);
    drop(running);
    rig.pending.forget("large").unwrap();
    rig.offer("small", b"1");
    let mut running = Running::start(queue(&rig, &fake));
    running.until_shipped(1);
    assert_eq!(fake.open_uploads(), 1);
    assert!(fake.times("abort") > 0);
    drop(running);
    is_down.store(false, Ordering::SeqCst);
    let _running = Running::start(queue(&rig, &fake));
    wait_for("its end", || (fake.open_uploads() == 0).then_some(()));
    assert_eq!(fake.objects(), ["/evidence/sensor-1/small"]);
}
