//! Budgets, owners, and the words of AWS, over a real folder.

use std::cell::RefCell;
use std::fs;
use std::sync::{Arc, Mutex};

use super::*;
use crate::ship::{S3, Trouble};

fn destination() -> Destination {
    Destination::S3(S3 {
        bucket: "evidence".to_owned(),
        prefix: "a/b".to_owned(),
        ..S3::default()
    })
}

/// A folder with files of 100 bytes each, offered in their order.
fn filled(files: usize) -> (tempfile::TempDir, Pending) {
    let folder = tempfile::tempdir().unwrap();
    let pending = Pending::at(folder.path().join("ship"));
    pending.make().unwrap();
    for number in 0..files {
        let file = folder.path().join(format!("{number}"));
        fs::write(&file, [0; 100]).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000 + number as u64);
        fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|f| f.set_modified(time))
            .unwrap();
        pending.offer(&file, &format!("s/{number}")).unwrap();
    }
    (folder, pending)
}

fn lane(pending: &Pending, budget: u64, care: Care) -> Lane {
    Lane::new("captures", pending.clone(), &destination(), budget, care)
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|e| e.name.clone()).collect()
}

#[test]
fn the_oldest_are_given_up_for_the_budget_and_counted() {
    let (_folder, pending) = filled(5);
    let mut lane = lane(&pending, 250, Care::default());
    lane.tend();
    assert_eq!(names(&pending.waiting().unwrap()), ["s/3", "s/4"]);
    let told = lane.standing();
    assert_eq!((told.given_up_files, told.given_up_bytes), (3, 300));
    assert_eq!((told.pending_files, told.pending_bytes), (2, 200));
    assert!(told.oldest_pending_seconds > 1e6);
    assert_eq!(told.destination, "s3://evidence/a/b/");
}

#[test]
fn a_budget_of_zero_is_none_and_the_disk_may_want_room_all_the_same() {
    let (_folder, pending) = filled(5);
    let wanted = Arc::new(Mutex::new(0));
    let asked = Arc::clone(&wanted);
    let care = Care {
        wanted: Box::new(move || std::mem::take(&mut *asked.lock().unwrap())),
        ..Care::default()
    };
    let mut lane = lane(&pending, 0, care);
    lane.tend();
    assert_eq!(lane.standing().given_up_files, 0);
    *wanted.lock().unwrap() = 101;
    lane.tend();
    lane.tend();
    assert_eq!(lane.standing().given_up_files, 2);
    assert_eq!(names(&pending.waiting().unwrap()), ["s/2", "s/3", "s/4"]);
}

#[test]
fn what_could_not_be_offered_counts_and_goes_last() {
    let (_folder, pending) = filled(2);
    let care = Care {
        before: Box::new(|_| (3, 300)),
        drop_unoffered: Box::new(|bytes| (bytes.div_ceil(100), bytes.div_ceil(100) * 100)),
        ..Care::default()
    };
    let mut lane = lane(&pending, 200, care);
    lane.tend();
    let told = lane.standing();
    assert_eq!((told.given_up_files, told.given_up_bytes), (3, 300));
    assert_eq!((told.pending_files, told.pending_bytes), (2, 200));
}

#[test]
fn an_owner_hears_of_what_arrived_until_it_is_done_with() {
    let (_folder, pending) = filled(3);
    let (heard, there) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(Mutex::new(Vec::new())),
    );
    let (hears, sees) = (Arc::clone(&heard), Arc::clone(&there));
    let first = RefCell::new(true);
    let care = Care {
        arrived: Box::new(move |entries| {
            *hears.lock().unwrap() = names(entries);
            match first.replace(false) {
                true => Vec::new(),
                false => entries.to_vec(),
            }
        }),
        there: Box::new(move |entries| *sees.lock().unwrap() = names(entries)),
        ..Care::default()
    };
    let mut lane = lane(&pending, 0, care);
    pending.finish("s/1").unwrap();
    lane.tend();
    assert_eq!(*heard.lock().unwrap(), ["s/1"]);
    assert_eq!(*there.lock().unwrap(), ["s/0", "s/2", "s/1"]);
    assert_eq!(names(&pending.done().unwrap()), ["s/1"]);
    lane.tend();
    assert_eq!(*there.lock().unwrap(), ["s/0", "s/2"]);
    assert!(pending.done().unwrap().is_empty());
}

#[test]
fn a_trouble_is_shown_until_the_process_says_otherwise() {
    let (_folder, pending) = filled(1);
    let mut lane = lane(&pending, 0, Care::default());
    let status = QueueStatus {
        trouble: Some(Trouble {
            kind: "throttled".to_owned(),
            reason: "503".to_owned(),
            since: 1,
        }),
        ..QueueStatus::default()
    };
    lane.note(Some(status), false);
    lane.note(None, false);
    assert_eq!(lane.standing().deliver_logs_status, "FAILED");
    lane.note(Some(QueueStatus::default()), false);
    assert_eq!(lane.standing().deliver_logs_status, "SUCCESS");
}

#[test]
fn a_file_is_given_up_with_its_description_and_what_was_left_out_is_counted() {
    let (folder, pending) = filled(3);
    for number in 0..3 {
        let file = folder.path().join("description");
        fs::write(&file, [b'x'; 10]).unwrap();
        pending.offer(&file, &format!("s/{number}.json")).unwrap();
        fs::remove_file(file).unwrap();
    }
    let mut left_out = (7, 700);
    let care = Care {
        left_out: Box::new(move || std::mem::take(&mut left_out)),
        ..Care::default()
    };
    let mut lane = lane(&pending, 320, care);
    lane.tend();
    lane.tend();
    let there = ["s/1.json", "s/1", "s/2.json", "s/2"];
    assert_eq!(names(&pending.waiting().unwrap()), there);
    let told = lane.standing();
    assert_eq!((told.given_up_files, told.given_up_bytes), (9, 810));
}

#[test]
fn where_what_waits_cannot_be_seen_the_disk_gets_its_room_from_what_was_not_offered() {
    let folder = tempfile::tempdir().unwrap();
    let pending = Pending::at(folder.path().join("ship"));
    fs::create_dir(pending.root()).unwrap();
    // no folder
    fs::write(pending.root().join("pending"), "").unwrap();
    let care = Care {
        before: Box::new(|_| (3, 300)),
        drop_unoffered: Box::new(|bytes| (bytes.div_ceil(100), bytes)),
        wanted: Box::new(|| 100),
        ..Care::default()
    };
    let mut lane = lane(&pending, 0, care);
    lane.tend();
    assert_eq!(lane.standing().given_up_files, 1);
}
