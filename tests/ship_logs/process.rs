//! The process that ships, with a log group as its destination.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mirrortap::sandbox;
use mirrortap::ship::{After, Destination, Orders, Plan, Queue, QueueStatus, Shipper};
use serde_json::json;

use crate::aws_support::{ACCESS_KEY, REGION, SECRET_KEY, without_aws};
use crate::common::PROGRAM;
use crate::ship_support::{Reply, Scripted};
use crate::waiting::{STREAM, Waiting, counted, group, long_file, service};

const QUEUE: &str = "flows";
/// How often something is looked for, a twentieth of a second apart.
const LOOKS: u32 = 1800;

fn start(waiting: &Waiting, server: &Scripted) -> Shipper {
    let mut command = Command::new(PROGRAM);
    without_aws(&mut command).envs([
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_REGION", REGION),
    ]);
    let queue = Queue {
        name: QUEUE.to_owned(),
        folder: waiting.pending.root().to_owned(),
        destination: Destination::CloudWatch {
            group: group(server.address()),
            stream: STREAM.to_owned(),
        },
        after: After::Forget,
        bandwidth: None,
        part_size: 5 << 20,
    };
    let orders = Orders {
        plan: Plan {
            queues: vec![queue],
        },
        sandbox: sandbox::Config::default(),
        ..Orders::default()
    };
    let mut shipper = Shipper::start_command(command, &orders).unwrap();
    shipper.go();
    shipper
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come");
}

/// The first status of the queue in which something is so.
fn status(shipper: &mut Shipper, is_so: impl Fn(&QueueStatus) -> bool) -> QueueStatus {
    until("a status", || {
        let all = shipper.statuses().unwrap();
        let mut rows = all.iter().filter_map(|status| status.queues.get(QUEUE));
        rows.find(|row| is_so(row)).cloned()
    })
}

#[test]
fn the_process_ships_a_file_over_a_throttled_request_and_tells_what_came_of_its_events() {
    let (text, lines) = long_file();
    let waiting = Waiting::with("f.log.gz", &text);
    let server = service(|number, _| match number {
        1 => Reply::error("ThrottlingException"),
        // the last of the batch
        3 => {
            Reply::ok(json!({"rejectedLogEventsInfo": {"tooNewLogEventStartIndex": 9}}).to_string())
        }
        _ => Reply::ok("{}"),
    });
    let mut shipper = start(&waiting, &server);
    let row = status(&mut shipper, |row| {
        row.trouble.is_some() || row.shipped_files > 0
    });
    let trouble = row.trouble.map(|trouble| trouble.kind);
    assert_eq!(trouble.as_deref().unwrap_or("throttled"), "throttled");
    let row = status(&mut shipper, |row| row.shipped_files == 1);
    let too_new = row.refused_events["too_new"];
    assert!(too_new > 0);
    assert_eq!(row.events + too_new, lines.len() as u64);
    assert_eq!((row.trouble, row.retries), (None, 1));
    until("an empty folder", || {
        waiting.pending.waiting().unwrap().is_empty().then_some(())
    });
    let counted = counted(&server, &[0, 2, 3, 4, 5, 6]);
    assert!(counted.values().all(|times| *times == 1));
    assert_eq!(counted.len(), lines.len());
}

#[test]
fn a_process_that_is_killed_within_a_file_goes_on_behind_what_was_taken() {
    let (text, lines) = long_file();
    let waiting = Waiting::with("f.log.gz", &text);
    let well = Arc::new(AtomicBool::new(false));
    let answers = well.clone();
    let server = service(move |number, _| match answers.load(Ordering::SeqCst) {
        false if number >= 2 => Reply::status(500, ""),
        _ => Reply::ok("{}"),
    });
    let mut shipper = start(&waiting, &server);
    status(&mut shipper, |row| row.trouble.is_some());
    // the worker; who looks after it starts another
    let path = format!("/proc/{0}/task/{0}/children", shipper.id());
    let worker = fs::read_to_string(path).unwrap().trim().to_owned();
    let killed = Command::new("kill").args(["-KILL", &worker]).status();
    assert!(killed.unwrap().success());
    well.store(true, Ordering::SeqCst);
    let row = status(&mut shipper, |row| row.shipped_files == 1);
    assert_eq!(row.events, lines.len() as u64);
    drop(shipper);
    let asked = server.asked().len();
    let taken: Vec<usize> = [0, 1].into_iter().chain(asked - 4..asked).collect();
    let counted = counted(&server, &taken);
    assert!(counted.values().all(|times| *times == 1));
    assert_eq!(counted.len(), lines.len());
}
