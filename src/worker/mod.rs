//! The worker: headers → session → filter → trim → sink, for its share of the flows.
//!
//! Takes: batches from all receivers. Gives: kept packets to its [`Sink`](crate::sink::Sink). Holds: each packet dealt to it is counted
//! as received, and as filtered or dropped here or by the sink; its progress (the order below which nothing
//! more will come) is told to the sink after every parcel, kept packets or not.
//!
//! A worker that panics is told at once, and its thread goes on as the one that counts what is dealt to it (`thread_lost`): nothing else is held up,
//! and no packet is without a counter.
//!
//! [`Work`] is what is done with a batch. It runs on a thread of its own, behind a queue ([`Worker`]), or, where one worker
//! serves one receiver, on the receiver's thread, run to completion: what a worker does to a packet costs a tenth
//! of what the kernel spends on receiving it, so a second thread would cost more in hand-overs than it takes off the first.

mod few;
mod work;

pub use work::{Counters, Work};

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::dispatch::{Parcel, count_drop};
use crate::logging::said;
use crate::packet::DropReason;
use crate::session::Seats;
use crate::time;

/// How long a worker sleeps before it looks after its sink again.
const SLEEP: Duration = Duration::from_millis(50);

/// How long a busy worker naps when its queue is empty, and how many packets in a batch make it busy.
const NAP: Duration = Duration::from_micros(500);
const CROWD: usize = 8;

/// A worker with a thread of its own.
#[derive(Debug)]
pub struct Worker {
    work: Work,
    queue: Receiver<Parcel>,
    /// Whether the last batch was worth a nap.
    busy: bool,
}

impl Worker {
    /// Does `work` for what comes through `queue`.
    pub fn new(work: Work, queue: Receiver<Parcel>) -> Self {
        Self {
            work,
            queue,
            busy: false,
        }
    }

    /// What it has done; readable while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        self.work.counters()
    }

    /// Works until every receiver has ended and the queue is empty.
    pub fn run(self) {
        let (id, counters) = (self.work.id(), self.counters());
        let (queue, seats) = (self.queue.clone(), self.work.seats_beside());
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve()));
        if let Err(panic) = served {
            let reason = format!("it panicked: {}", said(&*panic));
            tracing::error!(
                worker = id,
                reason,
                "A worker has ended; its packets are counted as thread_lost. Please report this."
            );
            let _ = counters.ended.set(Some(reason));
            count_lost(id, &queue, seats);
        }
    }

    fn serve(mut self) {
        loop {
            self.work.beat(time::monotonic().nanos());
            match self.next() {
                Ok(parcel) => self.take(&parcel),
                Err(RecvTimeoutError::Timeout) => self.work.progress(true),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.work.finish();
    }

    /// The next parcel. While batches come full enough the worker naps and looks again, rather than have itself woken
    /// for each: a receiver that finds it asleep has to wake it, which costs both more than the batch does.
    fn next(&mut self) -> Result<Parcel, RecvTimeoutError> {
        if let Ok(parcel) = self.queue.try_recv() {
            return Ok(parcel);
        }
        if std::mem::take(&mut self.busy) {
            std::thread::sleep(NAP);
        }
        self.queue.recv_timeout(SLEEP)
    }

    fn take(&mut self, parcel: &Parcel) {
        match parcel {
            Parcel::Batch(batch) => self.busy = self.work.take(batch) >= CROWD,
            Parcel::Tick { receiver, order } => self.work.pass(*receiver, *order),
        }
        self.work.progress(self.queue.is_empty());
    }
}

/// Counts every packet that comes for worker number `id`, until every receiver has ended.
fn count_lost(id: usize, queue: &Receiver<Parcel>, mut seats: Seats) {
    for parcel in queue {
        seats.refresh();
        if let Parcel::Batch(batch) = parcel {
            for packet in batch.packets_of(id) {
                count_drop(&mut seats, packet, DropReason::ThreadLost);
            }
        }
        seats.publish();
    }
}
