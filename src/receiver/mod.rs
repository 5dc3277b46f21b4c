//! The receiver: source → decap → dispatch, one thread for each source.
//!
//! Takes: a [`Source`] and the [`Way`] to the workers. Gives: nothing back but counters. Holds: each datagram that
//! the source gave is with a worker or in a ledger; no waiting on anybody while the source presses.
//!
//! Where one worker serves one receiver, the receiver does the work itself ([`Way::Here`]) and is never short of a batch.
//!
//! Batches belong to the receiver: it keeps a handle of each, shares one with the workers, and may fill it again
//! when it is the only holder. When none is free it rests as long as the source can wait, then reads into a spare
//! batch. Of that a little is kept for the next free batch, fairly by source (`Reserve`); the rest is counted as
//! `pool_empty`: that is overload with a name, where leaving the packets in the kernel would be loss without one.
//!
//! Who may send is asked here, once for each datagram and before anything of it is looked at.

mod reserve;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::decap;
use crate::dispatch::{Dispatch, count_drop};
use crate::logging::said;
use crate::metrics::{Counter, Gauge, Heartbeat};
use crate::packet::{Batch, DropReason, Ports, Tally};
use crate::receiver::reserve::Reserve;
use crate::session::Seats;
use crate::source::{Allowed, Received, Source, Strangers};
use crate::time::{self, Monotonic};
use crate::worker::Work;

/// Batches of a receiver.
pub const BATCHES: usize = 8;
/// How long a receiver rests before it looks for a free batch again.
const REST: Duration = Duration::from_micros(100);
/// How long ticks are sent after the last packet anywhere, so that every writer sees time pass beyond it: longer than any source's
/// order may stay behind the clock, which is the longest `latency` and some disorder.
const TICK_FOR: Duration = Duration::from_millis(1_500);
/// How often a receiver that ends looks for a batch to carry what it has kept back: a second.
const LAST_LOOKS: u32 = 10_000;

/// What a receiver has done, for status and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams (and refused records) that the source gave.
    pub received: Counter,
    /// Calls that brought something.
    pub batches: Counter,
    /// The most datagrams that one call brought.
    pub largest_batch: Gauge,
    /// What decapsulation noticed.
    pub decap: decap::Counters,
    /// When the receiver was last seen alive.
    pub heartbeat: Heartbeat,
    /// Whether it has ended; with the error, if that was why.
    pub ended: std::sync::OnceLock<Option<String>>,
}

/// What all receivers share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Asks the receivers to stop taking new datagrams.
    pub stop: AtomicBool,
    /// Grows with every batch of every receiver: whoever is idle ticks while it moves.
    pub activity: AtomicU64,
    /// Who may send; a reload swaps it.
    pub allowed: ArcSwap<Allowed>,
    /// Who was refused.
    pub strangers: Strangers,
    /// Set when a receiver ended that nobody had asked to: what comes for it is counted nowhere.
    pub deserted: AtomicBool,
}

/// Where a receiver's batches go.
#[derive(Debug)]
pub enum Way {
    /// Over queues, to workers with threads of their own.
    Queues(Dispatch),
    /// Nowhere: the work is done at once, by the receiver's thread.
    Here(Box<Work>),
}

/// One receiver.
pub struct Receiver {
    id: u16,
    source: Box<dyn Source>,
    ports: Ports,
    way: Way,
    seats: Seats,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    pool: Vec<Arc<Batch>>,
    spare: Batch,
    reserve: Reserve,
    seen_activity: u64,
    /// When it will have ticked long enough.
    quiet_from: Monotonic,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Receiver {
    /// Receiver number `id` over `source`.
    pub fn new(
        id: u16,
        source: Box<dyn Source>,
        ports: Ports,
        way: Way,
        seats: Seats,
        shared: Arc<Shared>,
    ) -> Self {
        let batches = match way {
            Way::Queues(_) => BATCHES,
            Way::Here(_) => 1,
        };
        let pool = (0..batches)
            .map(|_| Arc::new(source.new_batch(id)))
            .collect();
        let spare = source.new_batch(id);
        let reserve = Reserve::new(&*source, id);
        let counters = Arc::default();
        Self {
            id,
            source,
            ports,
            way,
            seats,
            counters,
            shared,
            pool,
            spare,
            reserve,
            seen_activity: 0,
            quiet_from: Monotonic::default(),
        }
    }

    /// What it has done; readable while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Receives until the source ends. A panic ends it too: it is told at once, and workers are told that nothing follows.
    pub fn run(mut self) {
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve()));
        let panicked = served.is_err();
        if panicked || matches!(served, Ok(Some(_))) {
            self.shared.deserted.store(true, Ordering::Release);
        }
        let ended = served.unwrap_or_else(|panic| {
            let reason = format!("it panicked: {}", said(&*panic));
            tracing::error!(
                reason,
                "A receiver has ended; nothing is received there any more. Please report this."
            );
            // before anything that may wait
            let _ = self.counters.ended.set(Some(reason));
            self.seats.publish();
            None
        });
        // no packet of this receiver will follow: the highest order there is
        match self.way {
            Way::Queues(dispatch) => dispatch.finish(),
            // what it had at hand is told when it is dropped
            Way::Here(work) if panicked => drop(work),
            Way::Here(work) => work.finish(),
        }
        let _ = self.counters.ended.set(ended);
    }

    /// Receives until the source ends; with the error, if that was why.
    fn serve(&mut self) -> Option<String> {
        let mut ended = None;
        loop {
            if self.shared.stop.load(Ordering::Acquire) {
                self.source.stop();
            }
            self.beat();
            match self.turn() {
                Ok(Received::End) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "Receiving failed; this receiver has ended.");
                    ended = Some(error.to_string());
                    break;
                }
            }
        }
        self.empty_reserve();
        self.seats.publish();
        self.reclaim();
        ended
    }

    /// At the end: sends what was kept back, or counts it.
    fn empty_reserve(&mut self) {
        for _ in 0..LAST_LOOKS {
            if self.reserve.is_empty() {
                return;
            }
            let free = self.pool.iter_mut().position(|b| Arc::get_mut(b).is_some());
            match free {
                Some(place) => {
                    self.reclaim();
                    self.send_reserve(place);
                }
                None => std::thread::sleep(REST),
            }
        }
        let seats = &mut self.seats;
        self.reserve
            .give_up(|packet| count_drop(seats, packet, DropReason::PoolEmpty));
    }

    fn beat(&self) {
        let now = time::monotonic().nanos();
        self.counters.heartbeat.beat(now);
        if let Way::Here(work) = &self.way {
            work.beat(now);
        }
    }

    /// Gives the source back what it lent to batches that nobody holds any more.
    fn reclaim(&mut self) {
        for batch in self.pool.iter_mut().filter_map(Arc::get_mut) {
            self.source.reclaim(batch);
        }
        self.source.reclaim(&mut self.spare);
    }

    fn turn(&mut self) -> std::io::Result<Received> {
        self.seats.refresh();
        let Some(place) = self.free_place() else {
            return self.receive_to_drop();
        };
        self.reclaim();
        if !self.reserve.is_empty() {
            self.send_reserve(place);
            return Ok(Received::Some);
        }
        let Some(batch) = self.pool.get_mut(place).and_then(Arc::get_mut) else {
            return Ok(Received::Nothing);
        };
        batch.clear();
        let received = self.source.receive(batch)?;
        let order = batch.order;
        if received != Received::Some {
            self.idle(order);
            return Ok(received);
        }
        unwrap(batch, self.ports, &self.seats, &self.counters, &self.shared);
        match &mut self.way {
            Way::Here(work) => {
                work.take(batch);
                work.progress(!batch.is_crowded());
            }
            Way::Queues(dispatch) => {
                dispatch.deal(batch);
                self.send(place, true);
            }
        }
        Ok(Received::Some)
    }

    /// Sends a dealt batch to the workers. What finds no room is kept back, as far as there is room for that, if it is for the
    /// first time.
    fn send(&mut self, place: usize, first_time: bool) {
        self.shared.activity.fetch_add(1, Ordering::Relaxed);
        if let (Some(batch), Way::Queues(dispatch)) = (self.pool.get(place), &mut self.way) {
            let (source, heartbeat) = (&mut self.source, &self.counters.heartbeat);
            let pressed = || {
                heartbeat.beat(time::monotonic().nanos());
                source.under_pressure()
            };
            let (seats, reserve) = (&mut self.seats, &mut self.reserve);
            dispatch.send(batch, pressed, |worker, reason| {
                for packet in batch.packets_of(worker) {
                    if !(first_time && reserve.save(batch, packet)) {
                        count_drop(seats, packet, reason);
                    }
                }
            });
        }
        self.seats.publish();
    }

    /// Sends what was kept back, in the free batch at `place`. It goes before anything that came later.
    fn send_reserve(&mut self, place: usize) {
        let Some(batch) = self.pool.get_mut(place).and_then(Arc::get_mut) else {
            return;
        };
        batch.clear();
        self.reserve.trade(batch);
        if let Way::Queues(dispatch) = &mut self.way {
            dispatch.deal(batch);
        }
        self.send(place, false);
    }

    /// A batch that nobody else holds; rests for one while the source can wait. Low places first: they are warm.
    fn free_place(&mut self) -> Option<usize> {
        loop {
            let free = self.pool.iter_mut().position(|b| Arc::get_mut(b).is_some());
            if free.is_some() || self.source.under_pressure() {
                return free;
            }
            self.beat();
            std::thread::sleep(REST);
        }
    }

    /// Overload: reads what there is, keeps a little of it back, and drops the rest by name, for its sessions.
    fn receive_to_drop(&mut self) -> std::io::Result<Received> {
        self.reclaim();
        self.spare.clear();
        let received = self.source.receive(&mut self.spare)?;
        if received != Received::Some {
            return Ok(received);
        }
        let spare = &mut self.spare;
        unwrap(spare, self.ports, &self.seats, &self.counters, &self.shared);
        for packet in &spare.packets {
            if !self.reserve.save(spare, packet) {
                count_drop(&mut self.seats, packet, DropReason::PoolEmpty);
            }
        }
        self.seats.publish();
        Ok(received)
    }

    fn idle(&mut self, order: u64) {
        let (activity, now) = (
            self.shared.activity.load(Ordering::Relaxed),
            time::monotonic(),
        );
        if activity != self.seen_activity {
            self.seen_activity = activity;
            self.quiet_from = now.plus(TICK_FOR);
        }
        let is_quiet = now >= self.quiet_from;
        match &mut self.way {
            Way::Here(work) => {
                work.pass(self.id, order);
                work.progress(true);
            }
            Way::Queues(dispatch) if !is_quiet => dispatch.tick(order),
            Way::Queues(_) => {}
        }
    }
}

/// Takes the wrapping off a whole batch; refusals belong to no session.
fn unwrap(batch: &mut Batch, ports: Ports, seats: &Seats, counters: &Counters, shared: &Shared) {
    let mut refused = std::mem::take(&mut batch.refused);
    let total = batch.datagrams.len() as u64 + refused.received;
    counters.received.add(total);
    counters.batches.add(1);
    counters.largest_batch.raise(total);
    screen(batch, &mut refused, shared);
    decap::unwrap_batch(batch, ports, &mut refused, &counters.decap);
    if refused.received > 0 {
        seats.table().unattributed.add(&refused);
    }
}

/// Refuses what comes from elsewhere than allowed. Datagrams of a source come in trains: the answer for the one before often holds.
fn screen(batch: &mut Batch, refused: &mut Tally, shared: &Shared) {
    let allowed = shared.allowed.load();
    if allowed.is_everybody() {
        return;
    }
    let (mut strangers, mut last) = (Vec::new(), None);
    batch.datagrams.retain(|datagram| {
        let known = last.filter(|(source, _)| *source == datagram.source);
        let (_, admitted) =
            known.unwrap_or_else(|| (datagram.source, allowed.admits(datagram.source)));
        last = Some((datagram.source, admitted));
        if !admitted {
            refused.receive(datagram.len as usize);
            refused.drop(DropReason::SourceNotAllowed);
            strangers.push(datagram.source);
        }
        admitted
    });
    if !strangers.is_empty() {
        shared.strangers.note(&strangers, time::monotonic());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crossbeam_channel::Receiver as Queue;

    use super::*;
    use crate::config::Config;
    use crate::dispatch::{self, Parcel};
    use crate::session::{Keep, Table};

    /// Gives one datagram, then only time, which it knows as late as the slowest of rings.
    struct Late {
        given: Option<u64>,
    }

    const LAG: Duration = Duration::from_secs(1);

    impl Source for Late {
        fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
            let now = time::now();
            batch.order = now.saturating_sub(LAG).nanos();
            if self.given.is_some() {
                std::thread::sleep(Duration::from_millis(20));
                return Ok(Received::Nothing);
            }
            self.given = Some(now.nanos());
            batch.refuse(DropReason::OuterMalformed, 60);
            Ok(Received::Some)
        }

        fn under_pressure(&mut self) -> bool {
            false
        }

        fn runs_away(&self) -> bool {
            true
        }

        fn stop(&mut self) {}

        fn new_batch(&self, receiver: u16) -> Batch {
            Batch::new(receiver, 4, 0)
        }
    }

    fn over_a_queue(source: Late) -> (Receiver, Queue<Parcel>) {
        let mut keep = Keep::default();
        let config = Config::default();
        let snapshot = config.snapshot(Path::new("."), &mut keep).unwrap();
        let seats = Seats::new(Arc::new(Table::new(snapshot, keep)));
        let mut queues = dispatch::queues(1, 1_000);
        let way = Way::Queues(Dispatch::new(0, queues.senders));
        let shared = Arc::default();
        let receiver = Receiver::new(0, Box::new(source), Ports::default(), way, seats, shared);
        (receiver, queues.receivers.remove(0))
    }

    #[test]
    fn ticks_go_on_until_the_order_has_passed_the_last_packet() {
        let (mut receiver, queue) = over_a_queue(Late { given: None });
        let begin = time::now();
        receiver.turn().unwrap();
        while time::now().since(begin) < Duration::from_secs(3) {
            receiver.turn().unwrap();
            let passed = queue.try_iter().any(|parcel| match parcel {
                Parcel::Tick { order, .. } => order > begin.nanos(),
                Parcel::Batch(_) => false,
            });
            if passed {
                return;
            }
        }
        panic!("the last packet is held back");
    }
}
