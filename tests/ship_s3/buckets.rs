//! Real servers: what they take, what they hold afterwards, and that they may go and come back.

use std::fs;

use mirrortap::ship::{Acl, Destination, Queue, S3, Sse};
use sha2::{Digest, Sha256};

use crate::aws_support::{ACCESS_KEY, Client, Moto, SECRET_KEY, Seaweed};
use crate::rig::{Rig, Running, bytes, s3, wait_for};

const MIB: usize = 1 << 20;

/// With all that can be said of an object.
fn queue(rig: &Rig, endpoint: &str) -> Queue {
    Queue {
        destination: Destination::S3(S3 {
            sse: Sse::Aes256,
            acl: Acl::BucketOwnerFullControl,
            ..s3(endpoint)
        }),
        ..rig.queue(endpoint)
    }
}

fn same(client: &Client, name: &str, bytes: &[u8]) {
    let held = client.get("evidence", &format!("sensor-1/{name}"));
    let digest = |bytes: &[u8]| Sha256::digest(bytes);
    assert_eq!(digest(&held), digest(bytes), "{name}");
}

#[test]
fn a_bucket_that_is_made_later_gets_all_with_its_encryption_and_class() {
    let Some(moto) = Moto::start() else {
        return;
    };
    let client = moto.client();
    // its first call takes seconds, for which the bucket would be missing
    client.make_bucket("another");
    let rig = Rig::new();
    let large = bytes(1, 6 * MIB);
    rig.offer("day/small.log.gz", b"small");
    rig.offer("day/large.pcap", &large);
    let mut queue = queue(&rig, &moto.endpoint());
    if let Destination::S3(s3) = &mut queue.destination {
        s3.storage_class = Some("STANDARD_IA".to_owned());
    }
    let mut running = Running::start(queue);
    let reason = running.until_trouble("missing");
    assert!(
        reason.contains("s3://evidence/sensor-1/day/small.log.gz")
            && reason.contains("NoSuchBucket")
    );
    client.make_bucket("evidence");
    running.until_shipped(2);
    same(&client, "day/small.log.gz", b"small");
    same(&client, "day/large.pcap", &large);
    assert_eq!(client.keys("evidence").len(), 2);
    for name in ["day/small.log.gz", "day/large.pcap"] {
        let head = client.head("evidence", &format!("sensor-1/{name}"));
        assert_eq!(head["ServerSideEncryption"], "AES256", "{head}");
        assert_eq!(head["StorageClass"], "STANDARD_IA", "{head}");
    }
}

/// Waits until a part was taken. A test that was held up may come too late for that: then all of them were.
fn wait_for_a_part_of(rig: &Rig, name: &str) {
    let uploads = rig.pending.state().join("uploads");
    let has_parts = || {
        let file = fs::read_dir(&uploads).ok()?.next()?.ok()?.path();
        let text = fs::read_to_string(file).ok()?;
        let upload: serde_json::Value = serde_json::from_str(&text).ok()?;
        (!upload["parts"].as_array()?.is_empty()).then_some(())
    };
    let is_done = || rig.done().iter().any(|done| done == name).then_some(());
    wait_for("a part", || has_parts().or_else(is_done));
}

#[test]
fn a_server_that_checks_signatures_is_killed_between_parts_and_nothing_is_missing_or_doubled() {
    let Some(mut server) = Seaweed::start() else {
        return;
    };
    let client = server.client();
    client.make_bucket("evidence");
    let rig = Rig::new();
    let keys = rig.pending.root().join("credentials");
    let keep = |secret: &str| {
        let text = format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n"
        );
        fs::write(&keys, text).unwrap();
    };
    keep("wrong");
    let large = bytes(1, 11 * MIB);
    rig.offer("first", b"1");
    rig.offer("large", &large);
    let mut queue = queue(&rig, &server.endpoint());
    queue.bandwidth = Some(3 * MIB as u64);
    let file = [
        ("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().unwrap()),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
    ];
    let mut running = Running::start_with(queue, &file);
    let reason = running.until_trouble("credentials");
    assert!(
        reason.contains("SignatureDoesNotMatch") && reason.contains("credentials of"),
        "{reason}"
    );
    // somebody mends them, and nobody restarts anything
    keep(SECRET_KEY);
    running.until_shipped(1);
    wait_for_a_part_of(&rig, "large");
    server.kill();
    rig.offer("last", b"2");
    running.until_trouble("unreachable");
    assert!(server.start_again(), "{}", server.log());
    let row = running.until_shipped(3);
    assert_eq!((row.shipped_files, row.trouble), (3, None));
    same(&client, "first", b"1");
    same(&client, "large", &large);
    same(&client, "last", b"2");
    let ours = |name: &String| name.starts_with("sensor-1/");
    assert_eq!(
        client.keys("evidence").keys().filter(|k| ours(k)).count(),
        3
    );
    assert_eq!(client.keys("evidence").len(), 3);
    assert_eq!(
        (
            rig.waiting(),
            rig.done().len(),
            client.open_uploads("evidence")
        ),
        (0, 3, 0)
    );
}
