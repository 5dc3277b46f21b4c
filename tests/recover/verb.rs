//! `mirrortap recover` and `mirrortap inspect` from the outside, and a sensor that finds what another left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use mirrortap::sink::capture::{self, Config, Extras, Setup};
use mirrortap::spool::lock::OutputLock;
use mirrortap::spool::{Compression, Format, Io};
use serde_json::Value;

use crate::spool_support::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mirrortap");

/// Hidden files of all kinds, torn, each with three whole packets; and one without a header.
fn left_by_a_crash(output: &Path) -> Vec<PathBuf> {
    let directory = output.join("web");
    let mut left = Vec::new();
    for (seq, (format, compression)) in (1..).zip(kinds()) {
        let mut making = Making::new(name(&directory, format, compression, seq), Io::Buffered);
        making.append(&header(format)).expect("written");
        for number in 0..4 {
            making.append(&record(format, number, 80)).expect("written");
        }
        let path = making.partial.path().clone();
        let torn = bytes(&path);
        // gzip: within the trailer of the last member, so that all of it can still be unpacked
        fs::write(&path, &torn[..torn.len() - 5]).unwrap();
        left.push(path);
    }
    let empty = name(&directory, Format::Pcap, Compression::None, 99).partial();
    fs::write(&empty, "x").unwrap();
    left.push(empty);
    left
}

fn kinds() -> impl Iterator<Item = (Format, Compression)> {
    FORMATS
        .into_iter()
        .flat_map(|f| COMPRESSIONS.map(|c| (f, c)))
}

fn mirrortap(arguments: &[&str], path: &Path) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg(path).output().expect("it runs")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn count(report: &Value, key: &str) -> usize {
    report[key].as_array().expect("a list").len()
}

#[test]
fn the_verb_recovers_everything_below_a_folder_and_says_what_it_did() {
    let out = folder();
    left_by_a_crash(out.path());
    let looked = mirrortap(&["recover", "--dry-run", "--json"], out.path());
    assert!(looked.status.success());
    let would = json(&looked);
    assert_eq!((count(&would, "recovered"), count(&would, "aside")), (6, 1));
    assert_eq!(
        files(out.path(), false),
        Vec::<PathBuf>::new(),
        "nothing was done"
    );
    assert!(!out.path().join(".mirrortap.lock").exists());

    let done = mirrortap(&["recover", "--json"], out.path());
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let report = json(&done);
    assert_eq!(
        (count(&report, "recovered"), count(&report, "left")),
        (6, 0)
    );
    let published = files(out.path(), false);
    assert_eq!(published.len(), 6);
    assert_unpacks(&published);
    for file in report["recovered"].as_array().unwrap() {
        let path = PathBuf::from(file["path"].as_str().unwrap());
        let packets = file["packets"].as_u64().unwrap();
        assert!(
            published.contains(&path) && (3..=4).contains(&packets),
            "{file}"
        );
        assert_eq!(capinfos(&[path]), [packets]);
        assert_eq!(file["session"], "web");
    }
    let again = mirrortap(&["recover"], out.path());
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        again.status.success() && text.contains("0 recovered"),
        "{text}"
    );
}

#[test]
fn the_verb_refuses_while_a_sensor_has_the_folder_or_the_one_above() {
    let out = folder();
    let left = left_by_a_crash(out.path());
    let lock = OutputLock::take(out.path()).expect("free");
    for folder in [out.path(), &out.path().join("web")] {
        for arguments in [&["recover"][..], &["recover", "--dry-run"]] {
            let refused = mirrortap(arguments, folder);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(75), "{said}");
            assert!(said.contains("running"), "{said}");
        }
    }
    // From above, it is passed by.
    let above = folder();
    std::os::unix::fs::symlink(out.path(), above.path().join("link")).unwrap();
    assert!(mirrortap(&["recover"], above.path()).status.success());
    assert!(left.iter().all(|path| path.exists()), "nothing was touched");
    drop(lock);
    assert!(
        mirrortap(&["recover"], &out.path().join("web"))
            .status
            .success()
    );
    assert!(left.iter().all(|path| !path.exists()));
}

#[test]
fn an_output_below_that_belongs_to_a_sensor_is_passed_by_and_told() {
    let out = folder();
    let theirs = left_by_a_crash(&out.path().join("theirs"));
    let mine = left_by_a_crash(&out.path().join("mine"));
    let _lock = OutputLock::take(&out.path().join("theirs")).expect("free");
    let done = mirrortap(&["recover", "--json"], out.path());
    assert_eq!(done.status.code(), Some(75));
    let report = json(&done);
    assert_eq!(
        (count(&report, "recovered"), count(&report, "skipped")),
        (6, 1)
    );
    assert!(theirs.iter().all(|path| path.exists()));
    assert!(mine.iter().all(|path| !path.exists()));
}

#[test]
fn a_folder_that_is_not_there_is_a_mistake() {
    let out = folder();
    let refused = mirrortap(&["recover"], &out.path().join("nowhere"));
    assert_eq!(refused.status.code(), Some(66));
    assert!(!out.path().join("nowhere").exists());
}

#[test]
fn inspect_shows_a_partial_file_to_its_last_whole_record_and_says_that_it_is_one() {
    let out = folder();
    for path in left_by_a_crash(out.path()) {
        let shown = mirrortap(&["inspect", "--packets"], &path);
        let said = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert_eq!(shown.status.code(), Some(65), "{said}");
        if path.to_string_lossy().contains("-000099.") {
            assert!(said.contains("not a capture"), "{said}");
            continue;
        }
        let packets = String::from_utf8_lossy(&shown.stdout).lines().count();
        assert!((3..=4).contains(&packets), "{}: {packets}", path.display());
        assert!(
            said.contains("all whole records before are shown"),
            "{said}"
        );
    }
}

#[test]
fn a_sensor_recovers_what_an_earlier_one_left_beside_its_work() {
    let out = folder();
    let left = left_by_a_crash(out.path());
    let lock = OutputLock::take(out.path()).expect("free");
    let setup = Setup {
        output: out.path().to_owned(),
        workers: 1,
        live: true,
    };
    let extras = Extras {
        lock: Some(lock),
        ..Extras::default()
    };
    let (captures, writers) =
        capture::start_with(&Config::default(), &setup, extras).expect("started");
    let stats = writers.stats();
    let begun = mirrortap::time::monotonic();
    while stats.files_recovered.value() < 6 || stats.files_aside.value() < 1 {
        let waited = mirrortap::time::monotonic().since(begun);
        assert!(waited < Duration::from_secs(60), "{stats:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(left.iter().all(|path| !path.exists()));
    assert!(OutputLock::take(out.path()).is_err(), "it is the sensor's");
    drop(captures);
    let report = writers.finish(Duration::from_secs(30));
    assert_eq!(report.stuck, Vec::<String>::new());
    assert_eq!(report.files.total, 0, "they are files of an earlier run");
    assert!(OutputLock::take(out.path()).is_ok());
    assert_eq!(files(out.path(), false).len(), 6);
}
