//! What is offered for shipping, and how long files stay.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use mirrortap::flowlog::{Layout, Log};
use mirrortap::ship::Pending;
use mirrortap::time;

use crate::{config, flow, interface, published};

#[test]
fn a_file_waits_for_shipping_under_its_key_from_the_moment_it_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["text", "parquet"] {
        let config = config(&format!(
            "name = '{format}'\nfile_format = '{format}'\nhive = true\nhourly = true"
        ));
        let pending = Pending::at(folder.path().join(format));
        let mut log = Log::new(&config, folder.path(), time::now()).with_pending(pending.clone());
        log.record(&interface(), &flow(1)).unwrap();
        assert!(
            pending.waiting().unwrap().is_empty(),
            "not before it is whole"
        );
        log.finish().unwrap();
        let path = log.take_published().remove(0);
        let waiting = pending.waiting().unwrap();
        assert_eq!(
            Path::new(&waiting[0].name),
            path.strip_prefix(folder.path()).unwrap()
        );
        assert!(
            waiting[0]
                .name
                .starts_with("AWSLogs/aws-account-id=000000000000/")
        );
        fs::remove_file(&path).unwrap();
        let copy = pending.path(&waiting[0].name).unwrap();
        assert!(copy.exists(), "it waits although its name is gone");
    }
}

#[test]
fn what_cannot_be_offered_is_published_and_offered_later() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("ship");
    fs::write(&root, "a file in the way").unwrap();
    let pending = Pending::at(&root);
    let mut log = Log::new(&config(""), folder.path(), time::now()).with_pending(pending.clone());
    log.record(&interface(), &flow(1)).unwrap();
    log.finish().unwrap_err();
    assert_eq!(
        (published(folder.path()).len(), log.counts().not_offered),
        (1, 1)
    );
    let error = log.advance(time::now()).unwrap_err();
    assert!(
        error.to_string().contains("cannot offer for shipping"),
        "{error}"
    );
    fs::remove_file(&root).unwrap();
    log.advance(time::now()).unwrap();
    assert_eq!(
        (pending.waiting().unwrap().len(), log.counts().not_offered),
        (1, 0)
    );
}

/// A file with a name of the flow log, so old and so large.
fn old(folder: &Path, layout: &Layout, number: u64, age: u64, bytes: usize) -> std::path::PathBuf {
    let bucket = 600 + number * 300;
    let path = folder
        .join(layout.folder(bucket))
        .join(layout.file(bucket, &format!("{number:08x}")));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![7; bytes]).unwrap();
    let at = UNIX_EPOCH + Duration::from_nanos(time::now().nanos()) - Duration::from_secs(age);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(at)
        .unwrap();
    path
}

#[test]
fn the_oldest_files_of_the_flow_log_go_when_they_are_too_old_or_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("hourly = true\nkeep = { max_size = '2000B', max_age = '1h' }");
    let layout = Layout::of(&config);
    let too_old = old(folder.path(), &layout, 0, 4000, 10);
    let first = old(folder.path(), &layout, 20, 300, 1000);
    let second = old(folder.path(), &layout, 21, 200, 1000);
    let third = old(folder.path(), &layout, 22, 100, 500);
    let mut theirs = layout.clone();
    theirs.id = "fl-0123456789abcdef0".to_owned();
    let other = old(folder.path(), &theirs, 1, 9999, 5000);
    let mut log = Log::new(&config, folder.path(), time::now());
    log.advance(time::now()).unwrap();
    assert!(!too_old.exists() && !first.exists());
    assert!(second.exists() && third.exists() && other.exists());
    let counts = log.counts();
    assert_eq!((counts.deleted_files, counts.deleted_bytes), (2, 1010));
    assert!(
        !first.parent().unwrap().exists() || second.parent() == first.parent(),
        "empty folders go too"
    );
}

#[test]
fn queries_to_the_resolver_are_left_out_where_they_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut interface = interface();
    interface.vpc_ranges = vec!["10.0.0.0/16".parse().unwrap()];
    let mut query = flow(1);
    query.key.flow.proto = 17;
    query.key.flow.dport = 53;
    query.key.flow.dst[..4].copy_from_slice(&[10, 0, 0, 2]);
    query.packets = 3;
    for (text, records, left_out) in [("", 2, (0, 0)), ("resolver_dns = false", 1, (1, 3))] {
        let mut log = Log::new(&config(text), folder.path(), time::now());
        log.record(&interface, &query).unwrap();
        log.record(&interface, &flow(2)).unwrap();
        log.finish().unwrap();
        let counts = log.counts();
        assert_eq!(counts.published, records, "{text}");
        assert_eq!(
            (counts.resolver_records, counts.resolver_packets),
            left_out,
            "{text}"
        );
    }
}
