//! Late records, lines that do not fit, and files that wait for their turn.

use std::fs;

use super::*;
use crate::flowlog::tests::{closed, config, interface, published};

fn at(secs: u64) -> Timestamp {
    Timestamp::from_parts(secs, 0)
}

#[test]
fn an_interval_of_an_hour_has_one_file_for_each_five_minutes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        interval: "1h".parse().unwrap(),
        ..config()
    };
    let mut log = Log::new(&config, folder.path(), at(1));
    for _ in 0..3 {
        for five in 0..13 {
            log.record(&interface(), &closed(0, five * BUCKET, 1))
                .unwrap();
        }
    }
    log.finish().unwrap();
    assert_eq!((log.counts().files, log.counts().published), (13, 39));
}

#[test]
fn a_line_never_ends_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(&config(), folder.path(), at(1));
    log.without_flow(&interface(), Status::SkipData, at(900), at(600))
        .unwrap();
    log.finish().unwrap();
    let (_, text) = published(folder.path()).remove(0);
    assert!(text.ends_with(" 600 600 - SKIPDATA\n"), "{text}");
}

#[cfg(feature = "parquet")]
#[test]
fn a_line_that_is_no_record_does_not_cost_the_others_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        file_format: FileFormat::Parquet,
        ..config()
    };
    let mut log = Log::new(&config, folder.path(), at(1));
    log.record(&interface(), &closed(600, 700, 1)).unwrap();
    log.record(&interface(), &closed(700, 600, 1)).unwrap();
    log.record(&interface(), &closed(600, 701, 1)).unwrap();
    let error = log.finish().unwrap_err();
    assert_eq!(error.records, 1, "{error}");
    let counts = log.counts();
    assert_eq!((counts.published, counts.lost, counts.files), (2, 1, 1));
}

#[test]
fn what_could_not_be_offered_is_offered_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("ship");
    fs::write(&root, "a file in the way").unwrap();
    let pending = Pending::at(&root);
    let begin = |now| Log::new(&config(), folder.path(), at(now)).with_pending(pending.clone());
    let mut log = begin(1);
    log.record(&interface(), &closed(600, 700, 1)).unwrap();
    let error = log.finish().unwrap_err();
    assert!(
        error.to_string().contains("cannot offer for shipping"),
        "{error}"
    );
    let file = log.take_published().remove(0);
    drop(log);
    fs::remove_file(&root).unwrap();
    let recovered = begin(2).recover();
    assert!(recovered.errors.is_empty(), "{recovered:?}");
    assert_eq!(recovered.files, 1);
    let waiting = pending.waiting().unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(folder.path().join(&waiting[0].name), file);
    assert!(!folder.path().join(".growing").exists());
    assert_eq!(begin(3).recover().files, 0);
}

#[test]
fn what_is_deleted_before_it_was_offered_does_not_wait_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("ship");
    fs::write(&root, "a file in the way").unwrap();
    let mut log = Log::new(&config(), folder.path(), at(1)).with_pending(Pending::at(&root));
    log.record(&interface(), &closed(600, 700, 1)).unwrap();
    log.advance(at(2000)).unwrap_err();
    fs::remove_file(log.take_published().remove(0)).unwrap();
    log.advance(at(2001)).unwrap();
    assert_eq!(log.counts().not_offered, 1, "it never was");
    log.finish().unwrap();
    assert!(!folder.path().join(".growing").exists());
}

#[test]
fn what_was_left_under_another_id_of_the_flow_log_is_published_under_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut killed = Log::new(&config(), folder.path(), at(1));
    killed.record(&interface(), &closed(600, 700, 1)).unwrap();
    killed.flush(at(9)).unwrap();
    let layout = killed.publisher.layout.clone();
    // its lock goes as with a kill; its files stay
    killed.open.clear();
    drop(killed);
    let edited = Config {
        log_format: "${version} ${srcaddr}".parse().unwrap(),
        account: "999999999999".into(),
        ..config()
    };
    let other = Config {
        name: "other".into(),
        ..edited.clone()
    };
    assert_eq!(Log::new(&other, folder.path(), at(2)).recover().files, 0);
    let recovered = Log::new(&edited, folder.path(), at(2)).recover();
    assert!(recovered.errors.is_empty(), "{recovered:?}");
    assert_eq!((recovered.files, recovered.records), (1, 1));
    let (name, text) = published(folder.path()).remove(0);
    assert!(name.starts_with(&layout.folder(600)), "{name}");
    assert!(name.contains(&layout.id), "{name}");
    assert!(text.starts_with(&config().log_format.header()), "{text}");
}
