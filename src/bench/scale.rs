//! Workers alone, 1 to 8 of them: what a packet costs as their number grows.
//!
//! The batches are received, unwrapped and dealt beforehand, and every worker does its share of each again and again, on
//! a thread of its own, over the same sessions and ledgers. So there is no receiver that could be the limit,
//! and more workers than cores only take turns: what counts is the CPU time for a packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bench::shares::{self, Share};
use crate::bench::{Error, Mode, Options, Outcome, plan};
use crate::config::Config;
use crate::decap;
use crate::dispatch::{self, Dispatch};
use crate::packet::{Batch, Ports, Tally};
use crate::pipeline::{self, Layout, Machine};
use crate::session::{Keep, Seats, Table};
use crate::sink::null::Null;
use crate::source::Source;
use crate::source::synthetic::Synthetic;
use crate::sys::{affinity, usage};
use crate::time;
use crate::worker::Work;

/// Batches that every worker goes through.
const BATCHES: usize = 8;
/// Rounds through them between two looks at the clock.
const ROUNDS: u32 = 16;

/// Runs `workers` workers for as long as the options say.
pub(super) fn run(options: &Options, workers: u16, stop: &AtomicBool) -> Result<Outcome, Error> {
    let (config, table) = sessions(options)?;
    let batches = Arc::new(batches(options, workers)?);
    let machine = Machine::read(&config.source);
    let mut threads = config.threads;
    threads.workers = workers;
    let layout = Layout::new(threads, config.source.kind, &machine);
    let done = Arc::new(AtomicBool::new(false));
    let begun = time::monotonic();
    let started = (0..usize::from(workers)).map(|id| {
        let work = counting(id, &table);
        let (batches, done) = (Arc::clone(&batches), Arc::clone(&done));
        start(id, layout.worker_core(id), move || {
            toil(work, &batches, &done)
        })
    });
    let started: Result<Vec<Toiler>, Error> = started.collect();
    while time::monotonic().since(begun) < options.duration && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
    }
    done.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for thread in started? {
        all.push(
            thread
                .join()
                .map_err(|_| Error::Panicked)?
                .map_err(Error::Usage)?,
        );
    }
    Ok(outcome(&all, time::monotonic().since(begun), &table))
}

/// One worker that keeps nothing.
pub(super) fn work(options: &Options) -> Result<Work, Error> {
    Ok(counting(0, &sessions(options)?.1))
}

fn counting(id: usize, table: &Arc<Table>) -> Work {
    let seats = Seats::new(Arc::clone(table));
    Work::new(id, 1, seats, Box::new(Null::default()), false)
}

fn sessions(options: &Options) -> Result<(Config, Arc<Table>), Error> {
    let config = plan::config(options, &options.output)?;
    let mut keep = Keep::default();
    let snapshot = config
        .snapshot(std::path::Path::new("."), &mut keep)
        .map_err(pipeline::Error::Sessions)?;
    Ok((config, Arc::new(Table::new(snapshot, keep))))
}

/// What one worker did: CPU time and packets.
type Toil = (Duration, u64);
type Toiler = JoinHandle<std::io::Result<Toil>>;

fn start(
    id: usize,
    core: Option<usize>,
    run: impl FnOnce() -> std::io::Result<Toil> + Send + 'static,
) -> Result<Toiler, Error> {
    let name = format!("worker-{id}");
    let body = move || {
        if let Some(core) = core {
            // a thread that floats costs a little more
            let _ = affinity::pin(core);
        }
        run()
    };
    let thread = std::thread::Builder::new().name(name.clone()).spawn(body);
    thread.map_err(|error| pipeline::Error::Thread { name, error }.into())
}

/// Works until it is done; the first turn only warms up.
fn toil(mut work: Work, batches: &[Batch], done: &AtomicBool) -> std::io::Result<Toil> {
    turn(&mut work, batches);
    let begun = usage::this_thread()?;
    let mut packets = 0;
    while packets == 0 || !done.load(Ordering::Relaxed) {
        packets += turn(&mut work, batches);
    }
    let spent = usage::this_thread()? - begun;
    work.finish();
    Ok((spent, packets))
}

fn turn(work: &mut Work, batches: &[Batch]) -> u64 {
    let mut packets = 0;
    for batch in (0..ROUNDS).flat_map(|_| batches) {
        packets += work.take(batch) as u64;
        work.progress(false);
    }
    packets
}

/// Batches with something in them, dealt to the workers.
fn batches(options: &Options, workers: u16) -> Result<Vec<Batch>, Error> {
    let mut source = Synthetic::new(plan::set(options)?, 0);
    let queues = dispatch::queues(usize::from(workers), BATCHES);
    let dispatch = Dispatch::new(0, queues.senders);
    let counters = decap::Counters::default();
    let count = (options.sessions as usize).div_ceil(crate::source::synthetic::BATCH);
    let filled = (0..count.max(BATCHES)).map(|_| {
        let mut batch = source.new_batch(0);
        // a source in memory has no errors
        let _ = source.receive(&mut batch);
        let mut refused = Tally::default();
        decap::unwrap_batch(&mut batch, Ports::default(), &mut refused, &counters);
        dispatch.deal(&mut batch);
        batch
    });
    Ok(filled.collect())
}

fn outcome(all: &[Toil], wall: Duration, table: &Table) -> Outcome {
    let (spent, packets) = all
        .iter()
        .fold((Duration::ZERO, 0), |(s, p), (t, n)| (s + *t, p + n));
    let ledger = plan::total(table);
    let share = Share {
        stage: "worker",
        threads: all.len(),
        ns_per_packet: spent.as_nanos() as f64 / packets.max(1) as f64,
        busy: spent.as_secs_f64() / wall.as_secs_f64() / all.len().max(1) as f64,
    };
    let threads = vec![share];
    Outcome {
        mode: Mode::Workers,
        source: None,
        receivers: 0,
        workers: all.len(),
        seconds: wall.as_secs_f64(),
        packets,
        pps: packets as f64 / wall.as_secs_f64(),
        bytes_per_second: ledger.bytes_written as f64 / wall.as_secs_f64(),
        limit: shares::limit(&threads),
        threads,
        closed: ledger.is_closed(),
        ledger,
        sent: None,
        kernel_dropped: std::collections::BTreeMap::default(),
    }
}
