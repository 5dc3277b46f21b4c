//! From receivers to workers: whole batches over bounded channels.
//!
//! Takes: an unwrapped batch. Gives: the same batch, shared, to every worker that has a packet in it. Holds: a
//! worker that does not keep up holds a receiver up only as long as the source can wait (a file always, a socket until
//! its buffer is half full); then the receiver is told which worker has no room, and what becomes of its packets is the receiver's affair; both
//! directions of a flow, and all fragments of a datagram, meet the same worker.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::flow;
use crate::headers;
use crate::metrics::Counter;
use crate::packet::{Batch, DropReason, Packet};
use crate::session::Seats;

/// What travels to a worker.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// A batch with packets for this worker, and perhaps for others.
    Batch(Arc<Batch>),
    /// No packets, but time has passed: nothing of this receiver will have a smaller order.
    Tick {
        /// The receiver.
        receiver: u16,
        /// Its order.
        order: u64,
    },
}

/// How far apart, in order, two ticks to a worker without packets are: 5 ms of live time.
const TICK_EVERY: u64 = Duration::from_millis(5).as_nanos() as u64;

/// How long a receiver rests before it tries a full queue again.
const REST: Duration = Duration::from_micros(100);

/// The queues between receivers and workers.
#[derive(Debug)]
pub struct Queues {
    /// For the receivers; each makes a [`Dispatch`] of a clone.
    pub senders: Vec<Sender<Parcel>>,
    /// For the workers, one each.
    pub receivers: Vec<Receiver<Parcel>>,
}

/// Queues for `workers` workers that may wait for `batches` batches of all receivers together. One worker may
/// have them all; of several none may hold more than half, so that a stalled one can't starve the others.
pub fn queues(workers: usize, batches: usize) -> Queues {
    let depth = if workers == 1 {
        batches + 4
    } else {
        (batches / 2).max(2)
    };
    let (senders, receivers) = (0..workers).map(|_| bounded(depth)).unzip();
    Queues { senders, receivers }
}

/// One receiver's way to the workers.
#[derive(Clone, Debug)]
pub struct Dispatch {
    receiver: u16,
    workers: Vec<Sender<Parcel>>,
    /// The order up to which each worker has been told.
    told: Vec<u64>,
    /// Parcels that were refused by a full queue.
    pub refused: Arc<Counter>,
}

impl Dispatch {
    /// The way of receiver number `receiver`.
    pub fn new(receiver: u16, workers: Vec<Sender<Parcel>>) -> Self {
        let told = vec![0; workers.len()];
        Self {
            receiver,
            workers,
            told,
            refused: Arc::default(),
        }
    }

    /// Deals the packets of a batch to the workers. With one worker there is nothing to deal.
    pub fn deal(&self, batch: &mut Batch) {
        let workers = self.workers.len() as u16;
        if workers > 1 {
            batch.deal(usize::from(workers), |batch, packet| {
                let place = flow::place_hash(packet.source, packet.vni);
                let headers = headers::walk(batch.frame(packet));
                flow::worker_of(flow::symmetric_hash(place, &headers), workers)
            });
        }
    }

    /// Sends a dealt batch to the workers concerned. A full queue is waited for as long as `pressed` says that the
    /// source can wait; then `refused` gets the number of its worker.
    pub fn send(
        &mut self,
        batch: &Arc<Batch>,
        mut pressed: impl FnMut() -> bool,
        mut refused: impl FnMut(usize, DropReason),
    ) {
        for worker in 0..self.workers.len() {
            if batch.lot_len(worker) == 0 {
                self.tick_worker(worker, batch.order, TICK_EVERY);
            } else if let Some(reason) = self.offer_batch(worker, batch, &mut pressed) {
                self.refused.add(1);
                refused(worker, reason);
            }
        }
    }

    /// Why the worker has not got the batch, if it has not.
    fn offer_batch(
        &mut self,
        worker: usize,
        batch: &Arc<Batch>,
        pressed: &mut dyn FnMut() -> bool,
    ) -> Option<DropReason> {
        loop {
            match self.offer(worker, Parcel::Batch(Arc::clone(batch)), batch.order) {
                Offer::Taken => return None,
                Offer::Gone => return Some(DropReason::ThreadLost),
                Offer::Full if pressed() => return Some(DropReason::QueueFull),
                Offer::Full => std::thread::sleep(REST),
            }
        }
    }

    /// Tells every worker that time has passed.
    pub fn tick(&mut self, order: u64) {
        for worker in 0..self.workers.len() {
            self.tick_worker(worker, order, 1);
        }
    }

    /// Tells every worker, waiting for room, that nothing of this receiver will follow. Those that have room do not wait for one that has none.
    pub fn finish(self) {
        let (receiver, order) = (self.receiver, u64::MAX);
        let last = || Parcel::Tick { receiver, order };
        let is_full = |worker: &Sender<Parcel>| {
            let told = worker.try_send(last());
            matches!(told, Err(TrySendError::Full(_)))
        };
        let full: Vec<_> = self.workers.into_iter().filter(is_full).collect();
        for worker in full {
            // a worker that is gone needs no telling
            let _ = worker.send(last());
        }
    }

    fn tick_worker(&mut self, worker: usize, order: u64, every: u64) {
        let told = self.told.get(worker).copied().unwrap_or(order);
        if order >= told.saturating_add(every) {
            let receiver = self.receiver;
            // a tick that finds no room is no loss: the next one says more
            self.offer(worker, Parcel::Tick { receiver, order }, order);
        }
    }

    fn offer(&mut self, worker: usize, parcel: Parcel, order: u64) -> Offer {
        let Some(sender) = self.workers.get(worker) else {
            return Offer::Gone;
        };
        match sender.try_send(parcel) {
            Ok(()) => {
                if let Some(told) = self.told.get_mut(worker) {
                    *told = order;
                }
                Offer::Taken
            }
            Err(TrySendError::Full(_)) => Offer::Full,
            Err(TrySendError::Disconnected(_)) => Offer::Gone,
        }
    }
}

/// What became of a parcel.
enum Offer {
    Taken,
    Full,
    /// The worker has ended.
    Gone,
}

/// Counts a packet as received and dropped, for its session.
pub fn count_drop(seats: &mut Seats, packet: &Packet, reason: DropReason) {
    if let Some(seat) = seats.seat(packet) {
        seat.receive(packet.datagram_len);
        seat.drop(reason);
    }
}
