//! What stands in the way, and that files arrive all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mirrortap::ship::{Acl, Destination, S3, Sse};

use crate::fake::{Act, Fake};
use crate::rig::{Rig, Running, bytes, s3, wait_for};

#[test]
fn files_arrive_under_their_keys_the_oldest_first_and_the_sensor_is_told() {
    let fake = Fake::start(|_| Act::Serve);
    let rig = Rig::new();
    let names = ["b/2.pcap", "a/1.pcap", "c d/3+ü=.json", "empty"];
    for (n, name) in names.iter().enumerate() {
        rig.offer(
            name,
            &bytes(n as u32, if *name == "empty" { 0 } else { 1000 }),
        );
    }
    let mut running = Running::start(rig.queue(&fake.endpoint()));
    let row = running.until_shipped(4);
    assert_eq!(
        (row.shipped_bytes, row.retries, row.trouble),
        (3000, 0, None)
    );
    assert_eq!(rig.waiting(), 0);
    let asked = fake.asked();
    let paths: Vec<_> = asked.iter().map(|a| a.path.as_str()).collect();
    let expected: Vec<_> = names
        .iter()
        .map(|n| format!("/evidence/sensor-1/{n}"))
        .collect();
    assert_eq!(paths, expected);
    for (n, name) in names.iter().enumerate() {
        let len = if *name == "empty" { 0 } else { 1000 };
        assert_eq!(fake.object(name).unwrap(), bytes(n as u32, len));
        // the server checks what it got, and keeps this beside it
        let checked = asked[n].header("x-amz-checksum-sha256");
        let signed = asked[n].header("authorization");
        assert!(checked.len() == 44 && signed.contains("x-amz-checksum-sha256"));
    }
    let mut done = rig.done();
    done.sort_unstable();
    assert_eq!(done, ["a/1.pcap", "b/2.pcap", "c d/3+ü=.json", "empty"]);
}

#[test]
fn owner_encryption_and_class_are_said_and_signed_where_an_object_is_made_and_nowhere_else() {
    let fake = Fake::start(|_| Act::Serve);
    let rig = Rig::new();
    rig.offer("small", b"1");
    rig.offer("large", &bytes(1, 250_000));
    let mut queue = rig.queue(&fake.endpoint());
    queue.part_size = 100_000;
    queue.destination = Destination::S3(S3 {
        sse: Sse::Kms,
        kms_key: Some("arn:aws:kms:eu-central-1:1:key/a".to_owned()),
        acl: Acl::BucketOwnerFullControl,
        storage_class: Some("STANDARD_IA".to_owned()),
        ..s3(&fake.endpoint())
    });
    let mut running = Running::start(queue);
    running.until_shipped(2);
    for asked in fake.asked() {
        let makes = matches!(asked.what().as_str(), "put" | "begin");
        let signed = asked.header("authorization").to_owned();
        for (name, value) in [
            ("x-amz-acl", "bucket-owner-full-control"),
            ("x-amz-server-side-encryption", "aws:kms"),
            (
                "x-amz-server-side-encryption-aws-kms-key-id",
                "arn:aws:kms:eu-central-1:1:key/a",
            ),
            ("x-amz-storage-class", "STANDARD_IA"),
        ] {
            let told = if makes { value } else { "" };
            assert_eq!(asked.header(name), told, "{name} of {}", asked.what());
            assert_eq!(signed.contains(name), makes, "{signed}");
        }
    }
    assert_eq!(fake.object("large").unwrap(), bytes(1, 250_000));
}

#[test]
fn throttling_errors_and_broken_connections_are_told_and_tried_again_until_the_file_arrives() {
    let fake = Fake::start(|asked| match asked.number {
        0 => Act::Refuse(503, "SlowDown", Some(1)),
        1 => Act::Reset,
        2 => Act::Refuse(500, "InternalError", None),
        3 => Act::Late(Duration::from_millis(1500)),
        _ => Act::Serve,
    });
    let rig = Rig::new();
    rig.offer("one", &bytes(1, 2_000_000));
    rig.offer("two", &bytes(2, 10));
    let mut running = Running::start(rig.queue(&fake.endpoint()));
    let row = running.until_shipped(2);
    assert_eq!((row.retries, row.trouble), (3, None));
    let kinds: Vec<_> = running.kinds().into_iter().collect();
    assert_eq!(kinds, ["server", "throttled", "unreachable"]);
    assert_eq!(fake.object("one").unwrap(), bytes(1, 2_000_000));
    assert_eq!(fake.times("put"), 5, "nothing is sent that has arrived");
}

#[test]
fn a_file_that_can_never_arrive_is_set_aside_and_the_others_go_on() {
    let fake = Fake::start(|asked| match asked.path.ends_with("bad") {
        true => Act::Refuse(400, "KeyTooLongError", None),
        false => Act::Serve,
    });
    let rig = Rig::new();
    for name in ["1", "a/bad", "2"] {
        rig.offer(name, name.as_bytes());
    }
    let mut running = Running::start(rig.queue(&fake.endpoint()));
    let row = running.until("two files and one refused", |row| {
        (row.shipped_files, row.refused_files) == (2, 1)
    });
    assert_eq!((row.retries, rig.waiting()), (0, 0));
    let aside = rig.pending.state().join("refused/a_bad");
    assert_eq!(std::fs::read(aside).unwrap(), b"a/bad");
}

#[test]
fn a_limited_queue_sends_no_faster_than_it_may() {
    let fake = Fake::start(|_| Act::Serve);
    let rig = Rig::new();
    let size = 48 * 1024;
    for n in 0..4 {
        rig.offer(&n.to_string(), &bytes(n, size));
    }
    let mut queue = rig.queue(&fake.endpoint());
    queue.bandwidth = Some(64 * 1024);
    let began = mirrortap::time::monotonic();
    let mut running = Running::start(queue);
    running.until_shipped(4);
    let took = mirrortap::time::monotonic().since(began);
    // 192 KiB at 64 KiB a second, but for the last piece
    assert!(took >= Duration::from_millis(2500), "{took:?}");
    let arrived: Vec<u64> = running
        .told
        .iter()
        .map(|status| status.queues["captures"].shipped_bytes)
        .collect();
    for n in 1..4 {
        assert!(
            arrived.contains(&(n * size as u64)),
            "one after the other: {arrived:?}"
        );
    }
}

/// Requests that are answered when they are let.
#[derive(Default)]
struct Gate {
    come: AtomicUsize,
    free: AtomicUsize,
}

impl Gate {
    fn pass(&self) -> Act {
        let number = self.come.fetch_add(1, Ordering::SeqCst) + 1;
        // a test that has failed lets nobody through
        for _ in 0..12_000 {
            if self.free.load(Ordering::SeqCst) >= number {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Act::Serve
    }

    fn has_come(&self, count: usize) -> Option<()> {
        (self.come.load(Ordering::SeqCst) >= count).then_some(())
    }

    fn free(&self, count: usize) {
        self.free.store(count, Ordering::SeqCst);
    }
}

#[test]
fn a_file_that_is_refused_again_and_again_does_not_hold_up_the_others() {
    let fake = Fake::start(|asked| match asked.path.ends_with("bad") {
        true => Act::Refuse(400, "BadDigest", None),
        false => Act::Serve,
    });
    let rig = Rig::new();
    for name in ["bad", "1", "2"] {
        rig.offer(name, name.as_bytes());
    }
    let mut running = Running::start(rig.queue(&fake.endpoint()));
    let row = running.until_shipped(2);
    assert!(row.trouble.unwrap().reason.contains("BadDigest"));
    wait_for("the others' marks", || {
        (rig.done().len() == 2).then_some(())
    });
    assert_eq!(rig.waiting(), 1);
}

#[test]
fn what_is_sent_and_cannot_be_put_away_is_neither_sent_again_nor_counted_twice() {
    let fake = Fake::start(|_| Act::Serve);
    let rig = Rig::new();
    rig.offer("one", b"1");
    let blocked = rig.pending.path_done("one").unwrap();
    std::fs::create_dir_all(blocked.join("in the way")).unwrap();
    let mut running = Running::start(rig.queue(&fake.endpoint()));
    let row = running.until("two attempts", |row| row.trouble.is_some());
    assert_eq!((row.shipped_files, rig.waiting()), (0, 1));
    rig.offer("two", b"2");
    running.until_shipped(1);
    wait_for("the other file", || (rig.done() == ["two"]).then_some(()));
    std::fs::remove_dir_all(&blocked).unwrap();
    let row = running.until_shipped(2);
    assert_eq!((row.shipped_files, row.shipped_bytes), (2, 2));
    assert_eq!(fake.times("put"), 2);
}

#[test]
fn what_the_sensor_gives_up_meanwhile_is_no_trouble_and_what_it_replaces_is_sent_again() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let fake = Fake::start(move |_| held.pass());
    let rig = Rig::new();
    rig.offer("given", b"up");
    rig.offer("replaced", b"old");
    let mut running = Running::start(rig.queue(&fake.endpoint()));
    wait_for("the first request", || gate.has_come(1));
    rig.pending.forget("given").unwrap();
    gate.free(1);
    wait_for("the second request", || gate.has_come(2));
    rig.offer("replaced", b"new!");
    gate.free(usize::MAX);
    running.until("the new file", |_| {
        fake.object("replaced").is_some_and(|b| b == b"new!")
    });
    wait_for("its mark", || {
        (rig.done() == ["replaced"] && rig.waiting() == 0).then_some(())
    });
    assert!(running.kinds().is_empty(), "{:?}", running.kinds());
}
