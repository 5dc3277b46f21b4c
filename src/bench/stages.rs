//! What each stage costs for a packet.
//!
//! Source, unwrapping, dealing and a worker's work are measured alone, in a loop on this thread. The rest shows as a
//! difference between runs of the pipeline: with a sink that keeps nothing, receivers and workers cost what comes before the
//! sink; with capture files they cost the copy into runs too, and the writers the rest. All is CPU time.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use crate::bench::{Error, Mode, Options, Outcome, plan, runs, scale};
use crate::decap;
use crate::dispatch::{self, Dispatch};
use crate::packet::{Batch, Ports, Tally};
use crate::pipeline::Outlet;
use crate::source::Source;
use crate::source::synthetic::Synthetic;
use crate::sys::usage;

/// Rounds between two looks at the clock.
const TURNS: u32 = 32;
/// Batches that take turns, as those of a receiver do.
const BATCHES: usize = 8;

/// The cost of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The stage.
    pub stage: &'static str,
    /// CPU time for each packet.
    pub ns_per_packet: f64,
    /// What is in it.
    pub what: &'static str,
}

/// Measures them all.
pub(super) fn run(options: &Options, stop: &AtomicBool) -> Result<Vec<Cost>, Error> {
    let work = runs::memory(Mode::Work, options, Outlet::Nowhere, stop)?;
    let sink = runs::memory(Mode::Sink, options, Outlet::Files, stop)?;
    let front = front(options)?;
    let path = |o: &Outcome| o.cost("receiver") + o.cost("worker");
    let before: f64 = front.iter().map(|c| c.ns_per_packet).sum();
    let cost = |stage, ns: f64, what| Cost {
        stage,
        ns_per_packet: ns.max(0.0),
        what,
    };
    let behind = [
        cost(
            "join",
            path(&work) - before,
            "hand-over, clocks, waiting for batches",
        ),
        cost(
            "append",
            path(&sink) - path(&work),
            "the copy of a kept packet into a run",
        ),
        cost("write", sink.cost("writer"), "merging runs, write(2)"),
        cost("publish", sink.cost("closer"), "syncing and naming files"),
    ];
    Ok(front.into_iter().chain(behind).collect())
}

/// The stages before the hand-over, alone.
fn front(options: &Options) -> Result<Vec<Cost>, Error> {
    let mut source = Synthetic::new(plan::set(options)?, 0);
    let mut batches: Vec<Batch> = (0..BATCHES).map(|_| source.new_batch(0)).collect();
    let time = options.duration / 8;
    let filling = spin(&mut batches, time, |batch| {
        batch.clear();
        // a source in memory has no errors
        let _ = source.receive(batch);
    })?;
    let counters = decap::Counters::default();
    let unwrapping = spin(&mut batches, time, |batch| {
        batch.packets.clear();
        let mut refused = Tally::default();
        decap::unwrap_batch(batch, Ports::default(), &mut refused, &counters);
    })?;
    // before the batches are dealt: all packets are one worker's
    let mut work = scale::work(options)?;
    let working = spin(&mut batches, time, |batch| {
        work.take(batch);
        work.progress(false);
    })?;
    let workers = usize::from(options.workers.max(1));
    let queues = dispatch::queues(workers, BATCHES);
    let dispatch = Dispatch::new(0, queues.senders);
    let dealing = spin(&mut batches, time, |batch| dispatch.deal(batch))?;
    let cost = |stage, ns_per_packet, what| Cost {
        stage,
        ns_per_packet,
        what,
    };
    Ok(vec![
        cost(
            "source",
            filling,
            "filling batches from memory: descriptors, no bytes",
        ),
        cost("decap", unwrapping, "VXLAN off"),
        cost("work", working, "headers, session, filter, ledger"),
        cost(
            "deal",
            dealing,
            "headers and hash of the flow, with more than one worker",
        ),
    ])
}

/// Does `turn` to the batches in turn for about `time`; gives nanoseconds of CPU for each packet.
fn spin(
    batches: &mut [Batch],
    time: Duration,
    mut turn: impl FnMut(&mut Batch),
) -> Result<f64, Error> {
    let clock = || usage::this_thread().map_err(Error::Usage);
    let begun = clock()?;
    let mut packets = 0;
    loop {
        for _ in 0..TURNS {
            for batch in &mut *batches {
                turn(batch);
                packets += batch.datagrams.len() as u64;
            }
        }
        let spent = clock()? - begun;
        if spent >= time {
            return Ok(spent.as_nanos() as f64 / packets.max(1) as f64);
        }
    }
}
