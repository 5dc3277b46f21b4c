//! The scribe alone, told by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use mirrortap::packet::Tally;
use mirrortap::spool::manifest::{
    Config, Deleted, Entry, FileId, Listed, Outcome, Receipt, Scribe, Setup, Stopped, Teller,
};
use serde_json::{Value, json};

use crate::support::{check, lines, wait_until};

struct Rig {
    teller: Teller,
    thread: JoinHandle<()>,
    lost: Arc<AtomicU64>,
    troubles: Arc<Mutex<Vec<Option<String>>>>,
}

impl Rig {
    fn new(output: &Path) -> Self {
        let (lost, troubles) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (lost_there, troubles_there) = (Arc::clone(&lost), Arc::clone(&troubles));
        let (scribe, teller) = Scribe::new(Setup {
            output: output.to_owned(),
            prepared: Config::default().prepare(output).unwrap().unwrap(),
            counters: Arc::default(),
            sessions: vec!["web".to_owned()],
            kernel: Box::new(move || {
                BTreeMap::from([("ring", lost_there.load(Ordering::Relaxed))])
            }),
            notice: Box::new(move |trouble| troubles_there.lock().unwrap().push(trouble)),
        });
        let thread = std::thread::spawn(move || scribe.run());
        Self {
            teller,
            thread,
            lost,
            troubles,
        }
    }

    fn publish(&self, name: &str, received: u64) -> Receipt {
        let ledger = Some(Tally {
            received,
            written: received,
            ..Tally::default()
        });
        self.teller.tell(Entry::Published(Box::new(Listed {
            name: name.to_owned(),
            session: "web".to_owned(),
            ledger,
            ..Listed::default()
        })))
    }

    fn delete(&self, name: &str) -> Receipt {
        let name = name.to_owned();
        self.teller.tell(Entry::Deleted(Deleted {
            name,
            bytes: 1,
            cause: "age",
        }))
    }

    fn stop(self, received: u64, kernel: u64) {
        let all = Tally {
            received,
            written: received,
            ..Tally::default()
        };
        let stopped = Stopped {
            ledger: all.clone(),
            kernel_dropped: BTreeMap::from([("ring", kernel)]),
            unfiled: BTreeMap::from([("web".to_owned(), all)]),
            ..Stopped::default()
        };
        self.teller.tell(Entry::Stopped(Box::new(stopped)));
        self.thread.join().unwrap();
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_the_kernel_lost_is_in_the_lines_and_adds_up_to_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path());
    for (lost, received) in [(3, 10), (3, 25), (9, 30)] {
        rig.lost.store(lost, Ordering::Relaxed);
        let receipt = rig.publish(&format!("web/{received}"), received);
        assert_eq!(receipt.wait(LONG), Some(Outcome::Written));
    }
    rig.stop(34, 11);
    let lines = lines(folder.path());
    let kernel: Vec<&Value> = lines[1..4].iter().map(|l| &l["kernel_dropped"]).collect();
    assert_eq!(
        kernel,
        [&json!({"ring": 3}), &json!({}), &json!({"ring": 6})]
    );
    let received: Vec<_> = lines[1..4]
        .iter()
        .map(|l| l["ledger"]["received"].as_u64().unwrap())
        .collect();
    assert_eq!(received, [10, 15, 5]);
    assert_eq!(lines[4]["kernel_unfiled"], json!({"ring": 2}));
    assert_eq!(lines[4]["unfiled"]["web"]["received"], 4);
    assert_eq!(lines[4]["kernel_dropped"], json!({"ring": 11}));
}

#[test]
fn a_receipt_says_written_only_when_the_line_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path());
    for n in 0..20 {
        let name = format!("web/{n}");
        assert_eq!(rig.delete(&name).wait(LONG), Some(Outcome::Written));
        assert!(lines(folder.path()).iter().any(|l| l["name"] == name));
    }
    rig.stop(0, 0);
}

#[test]
fn while_the_manifest_cannot_be_written_files_wait_for_their_line_and_deletions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("manifest.jsonl");
    std::fs::create_dir(&manifest).unwrap();
    let rig = Rig::new(folder.path());
    let file = FileId::new(1, 2);
    rig.teller.will_tell(file);
    let (tell, told) = std::sync::mpsc::channel();
    let listed = Listed {
        name: "web/x".to_owned(),
        ..Listed::default()
    };
    let entry = Entry::Published(Box::new(listed));
    rig.teller.tell_then(entry, Some(file), move |outcome| {
        tell.send(outcome).unwrap()
    });
    assert_eq!(told.recv_timeout(LONG), Ok(Outcome::Failing));
    assert_eq!(rig.delete("web/y").wait(LONG), Some(Outcome::Failing));
    assert!(rig.teller.is_expected(file));
    std::fs::remove_dir(&manifest).unwrap();
    wait_until("the line", || !rig.teller.is_expected(file));
    let troubles = rig.troubles.lock().unwrap().clone();
    assert!(
        troubles[0].as_ref().unwrap().contains("manifest.jsonl")
            && troubles.last().unwrap().is_none()
    );
    assert_eq!(rig.delete("web/z").wait(LONG), Some(Outcome::Written));
    rig.stop(0, 0);
    let names: Vec<Value> = lines(folder.path())
        .iter()
        .map(|l| l["name"].clone())
        .collect();
    assert!(names.contains(&json!("web/x")) && !names.contains(&json!("web/y")));
}

#[test]
fn a_manifest_that_is_removed_meanwhile_goes_on_and_shows_the_gap() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path());
    assert_eq!(rig.delete("web/a").wait(LONG), Some(Outcome::Written));
    std::fs::remove_file(folder.path().join("manifest.jsonl")).unwrap();
    assert_eq!(rig.publish("web/b", 1).wait(LONG), Some(Outcome::Failing));
    wait_until("the line", || {
        lines(folder.path()).iter().any(|l| l["name"] == "web/b")
    });
    rig.stop(1, 0);
    let (_, findings) = check(folder.path(), None);
    let what: Vec<_> = findings.iter().map(|f| f.what).collect();
    assert!(
        what.contains(&"broken chain") && what.contains(&"out of sequence"),
        "{findings:?}"
    );
}

#[test]
fn what_nobody_wrote_at_the_end_is_answered_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("manifest.jsonl")).unwrap();
    let rig = Rig::new(folder.path());
    let teller = rig.teller.clone();
    rig.stop(0, 0);
    let receipt = teller.tell(Entry::Deleted(Deleted::default()));
    assert_eq!(receipt.wait(LONG), Some(Outcome::Refused));
}
