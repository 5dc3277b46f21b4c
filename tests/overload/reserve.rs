//! What is read when every batch is with the workers: who finds a place for later.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use mirrortap::config::Config;
use mirrortap::dispatch::{self, Dispatch, Parcel};
use mirrortap::packet::{Batch, Datagram, DropReason, Ports};
use mirrortap::receiver::{BATCHES, Receiver, Way};
use mirrortap::session::{Keep, Seats, Table};
use mirrortap::source::{Received, Source};
use mirrortap::time::Timestamp;

const ELEPHANT: [u8; 4] = [10, 0, 0, 1];
const MICE: u8 = 10;
const TURNS: u64 = 40;

/// A source that presses from the beginning: in each batch 60 packets of an elephant and, now and then, one of a mouse.
struct Pressing {
    turn: u64,
    order: u64,
    /// Told when there is no more.
    told: mpsc::Sender<()>,
}

impl Pressing {
    fn put(&mut self, batch: &mut Batch, source: [u8; 4]) {
        let mut bytes = [0_u8; 8 + 60];
        bytes[0] = 0x08;
        bytes[6] = 7;
        self.order += 1;
        bytes[60..68].copy_from_slice(&self.order.to_be_bytes());
        let start = batch.append(&bytes).unwrap();
        batch.datagrams.push(Datagram {
            start,
            len: bytes.len() as u32,
            cut: 0,
            source: IpAddr::from(source),
            port: Ports::default().vxlan,
            time: Timestamp::from_nanos(self.order),
            order: self.order,
        });
    }
}

impl Source for Pressing {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        batch.order = self.order;
        if self.turn == TURNS {
            self.told.send(()).unwrap();
            return Ok(Received::End);
        }
        self.turn += 1;
        (0..60).for_each(|_| self.put(batch, ELEPHANT));
        let mouse = (self.turn % u64::from(MICE)) as u8;
        self.put(batch, [10, 0, 1, mouse]);
        batch.order = self.order;
        Ok(Received::Some)
    }

    fn under_pressure(&mut self) -> bool {
        true
    }

    fn runs_away(&self) -> bool {
        true
    }

    fn stop(&mut self) {}

    fn new_batch(&self, receiver: u16) -> Batch {
        Batch::new(receiver, 128, 128 * 70)
    }
}

fn table() -> Arc<Table> {
    let mut keep = Keep::default();
    let snapshot = Config::default()
        .snapshot(Path::new("."), &mut keep)
        .unwrap();
    Arc::new(Table::new(snapshot, keep))
}

/// Runs a receiver whose `workers` take nothing before the source has ended; what they got then, by source, and in which order.
fn run(workers: usize) -> (BTreeMap<IpAddr, u64>, Vec<Vec<u64>>, Arc<Table>) {
    let (told, over) = mpsc::channel();
    let source = Pressing {
        turn: 0,
        order: 0,
        told,
    };
    let table = table();
    let mut queues = dispatch::queues(workers, BATCHES);
    let way = Way::Queues(Dispatch::new(0, std::mem::take(&mut queues.senders)));
    let seats = Seats::new(Arc::clone(&table));
    let receiver = Receiver::new(
        0,
        Box::new(source),
        Ports::default(),
        way,
        seats,
        Arc::default(),
    );
    let thread = std::thread::spawn(|| receiver.run());
    over.recv().unwrap();
    let (mut got, mut orders) = (BTreeMap::new(), Vec::new());
    let takers = queues
        .receivers
        .into_iter()
        .enumerate()
        .map(|(worker, queue)| {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                for parcel in queue {
                    if let Parcel::Batch(batch) = parcel {
                        all.extend(batch.packets_of(worker).map(|p| (p.source, p.order)));
                    }
                }
                all
            })
        });
    for taker in takers.collect::<Vec<_>>() {
        let all = taker.join().unwrap();
        all.iter()
            .for_each(|(source, _)| *got.entry(*source).or_default() += 1);
        orders.push(all.into_iter().map(|(_, order)| order).collect());
    }
    thread.join().unwrap();
    (got, orders, table)
}

#[test]
fn with_every_batch_away_mice_are_kept_back_and_the_elephant_is_dropped_by_name() {
    let (got, orders, table) = run(1);
    let tally = table.ledgers().remove(0).2;
    let lost = tally.dropped[DropReason::PoolEmpty.index()];
    assert!(
        lost > 60 * (TURNS - BATCHES as u64) - 200,
        "an overload: {tally:?}"
    );
    // what was dropped was counted; the rest is with the worker
    let taken: u64 = got.values().sum();
    assert_eq!(taken + lost, 61 * TURNS);
    for mouse in 0..MICE {
        let source = IpAddr::from([10, 0, 1, mouse]);
        assert_eq!(
            got.get(&source),
            Some(&(TURNS / u64::from(MICE))),
            "mouse {mouse} lost something"
        );
    }
    assert!(orders.iter().all(|orders| orders.is_sorted()), "in order");
}

#[test]
fn with_a_queue_full_every_packet_is_with_a_worker_or_counted_and_order_holds() {
    let (got, orders, table) = run(2);
    let tally = table.ledgers().remove(0).2;
    let lost = tally.dropped_total();
    assert!(lost > 0, "an overload: {tally:?}");
    assert_eq!(got.values().sum::<u64>() + lost, 61 * TURNS);
    assert!(orders.iter().all(|orders| orders.is_sorted()), "in order");
}
