//! Threads that panic or never end: the ledger closes, what they had is counted, and the stop is not held up.

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver as Told, Sender as Teller, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use mirrortap::config::Config;
use mirrortap::dispatch::{self, Dispatch, Parcel};
use mirrortap::packet::{Batch, Datagram, DropReason, Peer, Ports};
use mirrortap::pipeline::{self, Outlet, Pipeline};
use mirrortap::receiver::{Receiver, Way};
use mirrortap::session::{Keep, Seats, Table};
use mirrortap::sink::{Kept, Sink};
use mirrortap::source::{Received, Source};
use mirrortap::spool::Target;
use mirrortap::time::Timestamp;
use mirrortap::worker::{Work, Worker};

use crate::scene::{frame, vxlan, wait};

/// What a made-up source does once it has given its batches.
enum Then {
    Panic,
    /// Waits until it is told to go on.
    Hang(Told<()>),
    End,
}

struct Made {
    batches: u64,
    order: u64,
    then: Then,
}

const EACH: u64 = 10;

fn fill(batch: &mut Batch, order: &mut u64) {
    for _ in 0..EACH {
        *order += 1;
        let payload = vxlan(7, &frame(*order, 60));
        let start = batch.append(&payload).unwrap();
        batch.datagrams.push(Datagram {
            start,
            len: payload.len() as u32,
            cut: 0,
            source: IpAddr::from([10, 0, 0, 1]),
            port: Ports::default().vxlan,
            time: Timestamp::from_nanos(1_700_000_000_000_000_000 + *order),
            order: *order,
        });
    }
    batch.order = *order;
}

impl Source for Made {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        batch.order = self.order;
        if self.batches == 0 {
            match &self.then {
                Then::Panic => panic!("made to"),
                Then::Hang(go_on) => _ = go_on.recv(),
                Then::End => {}
            }
            return Ok(Received::End);
        }
        self.batches -= 1;
        fill(batch, &mut self.order);
        Ok(Received::Some)
    }

    fn under_pressure(&mut self) -> bool {
        false
    }

    fn runs_away(&self) -> bool {
        false
    }

    fn stop(&mut self) {}

    fn new_batch(&self, receiver: u16) -> Batch {
        Batch::new(receiver, 16, 16 * 80)
    }
}

fn start(folder: &Path, sources: Vec<Made>, workers: u16) -> Pipeline {
    let mut config = Config {
        output: folder.join("out"),
        ..Config::default()
    };
    config.threads.workers = workers;
    let sources = sources
        .into_iter()
        .map(|made| Box::new(made) as Box<dyn Source>);
    pipeline::over(&config, Path::new("."), sources.collect(), Outlet::Files).unwrap()
}

fn made(batches: u64, then: Then) -> Made {
    Made {
        batches,
        order: 0,
        then,
    }
}

#[test]
fn a_receiver_that_panics_is_told_at_once_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let sources = vec![made(5, Then::Panic), made(50, Then::End)];
    let pipeline = start(folder.path(), sources, 2);
    wait("it is told", || {
        pipeline
            .health()
            .is_err_and(|why| why.contains("receiver 0 has stopped: it panicked: made to"))
    });
    wait("the other is through", || pipeline.is_through());
    let report = pipeline.finish(Duration::from_secs(60));
    assert!(report.total.is_closed(), "{report:?}");
    assert_eq!((report.total.received, report.total.written), (550, 550));
}

#[test]
fn a_receiver_that_is_the_worker_too_and_panics_leaves_a_closed_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = start(folder.path(), vec![made(5, Then::Panic)], 1);
    wait("it is told", || pipeline.health().is_err());
    let report = pipeline.finish(Duration::from_secs(60));
    assert!(
        report.total.is_closed() && report.per_session["vni-7"].is_closed(),
        "{report:?}"
    );
    assert_eq!((report.total.received, report.total.written), (50, 50));
}

#[test]
fn a_receiver_that_never_ends_does_not_hold_up_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (go_on, told) = channel();
    let sources = vec![made(5, Then::Hang(told)), made(5, Then::End)];
    let pipeline = start(folder.path(), sources, 2);
    wait("all is received", || {
        pipeline
            .receivers
            .iter()
            .map(|r| r.counters.received.value())
            .sum::<u64>()
            == 100
    });
    // ten of them go by until nobody is waited for any more
    let report = pipeline.finish(Duration::from_secs(16));
    let left = &report.total;
    assert!(left.is_closed(), "{left:?}");
    assert_eq!(
        (left.received, left.written),
        (100, 100),
        "what was with the writers is not lost with it: {left:?}"
    );
    assert!(report.per_session.values().all(|tally| tally.is_closed()));
    go_on.send(()).unwrap();
}

/// A sink that panics, or hangs, at the packet with this order.
struct Faulty {
    at: u64,
    hang: Option<Mutex<Told<()>>>,
    kept: Teller<u64>,
    session: Option<Arc<Target>>,
}

impl Sink for Faulty {
    fn keep(
        &mut self,
        target: &Arc<Target>,
        peer: &Arc<Peer>,
        packet: Kept<'_>,
    ) -> Result<(), DropReason> {
        if packet.order == self.at {
            match &self.hang {
                Some(go_on) => _ = go_on.lock().unwrap().recv(),
                None => panic!("made to"),
            }
        }
        target.ledger.add_written(1, packet.frame.len() as u64);
        peer.ledger.add_written(1, packet.frame.len() as u64);
        self.session = Some(Arc::clone(target));
        let _ = self.kept.send(packet.order);
        Ok(())
    }

    fn progress(&mut self, _watermark: u64, _idle: bool) {}
}

#[test]
fn a_worker_that_panics_is_followed_by_one_that_counts_and_closes_the_ledger() {
    let mut keep = Keep::default();
    let snapshot = Config::default()
        .snapshot(Path::new("."), &mut keep)
        .unwrap();
    let table = Arc::new(Table::new(snapshot, keep));
    let (kept, _told) = channel();
    let sink = Faulty {
        at: 25,
        hang: None,
        kept,
        session: None,
    };
    let mut queues = dispatch::queues(1, 100);
    let work = Work::new(0, 1, Seats::new(Arc::clone(&table)), Box::new(sink), false);
    let worker = Worker::new(work, queues.receivers.remove(0));
    let counters = worker.counters();
    let thread = std::thread::spawn(|| worker.run());
    let mut dispatch = Dispatch::new(0, queues.senders);
    let mut order = 0;
    for _ in 0..10 {
        let mut batch = Batch::new(0, 16, 16 * 80);
        fill(&mut batch, &mut order);
        let (mut refused, counted) = (Default::default(), Default::default());
        mirrortap::decap::unwrap_batch(&mut batch, Ports::default(), &mut refused, &counted);
        dispatch.send(
            &Arc::new(batch),
            || false,
            |_, _| panic!("the queue has room"),
        );
    }
    wait("it is told", || counters.ended.get().is_some());
    assert_eq!(
        counters.ended.get().unwrap().as_deref(),
        Some("it panicked: made to")
    );
    dispatch.finish();
    thread.join().unwrap();
    table.give_up(100);
    let session = table.ledgers().remove(0).2;
    assert!(session.is_closed(), "{session:?}");
    let (lost, unknown) = (DropReason::ThreadLost.index(), table.unattributed.read());
    assert!(unknown.is_closed());
    assert_eq!(session.received + unknown.received, 100);
    // the first two batches and what came before the panic are written
    assert!((20..25).contains(&session.written), "{session:?}");
    assert_eq!(
        session.dropped[lost] + unknown.dropped[lost] + session.written,
        100
    );
    assert!(
        session.dropped[lost] >= 70,
        "those that came after it belong to their session: {session:?}"
    );
}

#[test]
fn a_worker_that_hangs_costs_its_own_packets_and_no_batch_of_the_others_for_ever() {
    let mut keep = Keep::default();
    let snapshot = Config::default()
        .snapshot(Path::new("."), &mut keep)
        .unwrap();
    let table = Arc::new(Table::new(snapshot, keep));
    let (kept, seen) = channel();
    let (go_on, told) = channel();
    let sink = Faulty {
        at: 5,
        hang: Some(Mutex::new(told)),
        kept,
        session: None,
    };
    let mut queues = dispatch::queues(1, 2);
    let work = Work::new(0, 1, Seats::new(Arc::clone(&table)), Box::new(sink), false);
    let worker = Worker::new(work, queues.receivers.remove(0));
    let thread = std::thread::spawn(|| worker.run());
    let mut dispatch = Dispatch::new(0, queues.senders);
    let (mut order, mut refused_packets) = (0, 0);
    for round in 0..20 {
        let mut batch = Batch::new(0, 16, 16 * 80);
        fill(&mut batch, &mut order);
        let (mut refused, counted) = (Default::default(), Default::default());
        mirrortap::decap::unwrap_batch(&mut batch, Ports::default(), &mut refused, &counted);
        let batch = Arc::new(batch);
        dispatch.send(
            &batch,
            || true,
            |_, reason| {
                assert_eq!(reason, DropReason::QueueFull);
                refused_packets += EACH;
            },
        );
        if round == 0 {
            // it hangs at the fifth
            assert_eq!((seen.recv().unwrap(), seen.recv().unwrap()), (1, 2));
        }
    }
    assert!(refused_packets >= 100, "{refused_packets}");
    go_on.send(()).unwrap();
    dispatch.finish();
    thread.join().unwrap();
    let session = table.ledgers().remove(0).2;
    assert_eq!(session.written + refused_packets, 200);
}

#[test]
fn a_worker_that_hangs_does_not_keep_the_others_from_ending() {
    let mut keep = Keep::default();
    let snapshot = Config::default()
        .snapshot(Path::new("."), &mut keep)
        .unwrap();
    let table = Arc::new(Table::new(snapshot, keep));
    let mut queues = dispatch::queues(2, 2);
    let (hung, well) = (queues.receivers.remove(0), queues.receivers.remove(0));
    let (receiver, order) = (0, 1);
    while queues.senders[0]
        .try_send(Parcel::Tick { receiver, order })
        .is_ok()
    {}
    let way = Way::Queues(Dispatch::new(0, queues.senders));
    let source = Box::new(made(0, Then::End));
    let (ports, seats) = (Ports::default(), Seats::new(table));
    let receiver = Receiver::new(0, source, ports, way, seats, Arc::default());
    let thread = std::thread::spawn(|| receiver.run());
    let next = || well.recv_timeout(Duration::from_secs(60));
    assert!(matches!(
        next(),
        Ok(Parcel::Tick {
            order: u64::MAX,
            ..
        })
    ));
    assert_eq!(
        next().unwrap_err(),
        RecvTimeoutError::Disconnected,
        "nobody else sends"
    );
    let last = hung.iter().last();
    assert!(matches!(
        last,
        Some(Parcel::Tick {
            order: u64::MAX,
            ..
        })
    ));
    thread.join().unwrap();
}

#[test]
fn a_parcel_says_who_sent_it() {
    // what the tests above rely on: a tick is no packet
    let queues = dispatch::queues(1, 2);
    let dispatch = Dispatch::new(3, queues.senders.clone());
    drop(queues.senders);
    dispatch.finish();
    let parcel = queues.receivers[0].recv().unwrap();
    assert!(matches!(
        parcel,
        Parcel::Tick {
            receiver: 3,
            order: u64::MAX
        }
    ));
}
