//! The worker: headers → session → filter → trim → sink, one thread for its share of the flows.
//!
//! Takes: batches from all receivers. Gives: kept packets to its [`Sink`]. Holds: each packet dealt to it is counted
//! as received, and as filtered or dropped here or by the sink; its progress (the order below which nothing
//! more will come) is told to the sink after every parcel, kept packets or not.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::dispatch::Parcel;
use crate::filter::Direction;
use crate::headers;
use crate::metrics::{Counter, Heartbeat};
use crate::packet::{Batch, FilterReason, Packet};
use crate::session::{Seat, Seats};
use crate::sink::{Kept, Sink};
use crate::time;

/// How long a worker sleeps before it looks after its sink again.
const SLEEP: Duration = Duration::from_millis(50);

/// What a worker has done, for status and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets dealt to it.
    pub packets: Counter,
    /// When it was last seen alive.
    pub heartbeat: Heartbeat,
    /// Set when it has ended.
    pub ended: std::sync::OnceLock<()>,
}

/// One worker.
pub struct Worker {
    id: usize,
    queue: Receiver<Parcel>,
    seats: Seats,
    sink: Box<dyn Sink>,
    counters: Arc<Counters>,
    /// The order of each receiver, as last told.
    orders: Vec<u64>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Worker number `id` of the pipeline, fed by `receivers` receivers.
    pub fn new(
        id: usize,
        queue: Receiver<Parcel>,
        receivers: usize,
        seats: Seats,
        sink: Box<dyn Sink>,
    ) -> Self {
        let counters = Arc::default();
        Self {
            id,
            queue,
            seats,
            sink,
            counters,
            orders: vec![0; receivers],
        }
    }

    /// What it has done; readable while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Works until every receiver has ended and the queue is empty.
    pub fn run(mut self) {
        loop {
            self.counters.heartbeat.beat(time::monotonic().nanos());
            match self.queue.recv_timeout(SLEEP) {
                Ok(parcel) => self.take(&parcel),
                Err(RecvTimeoutError::Timeout) => self.progress(true),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.seats.publish();
        self.orders.fill(u64::MAX);
        self.progress(true);
        let _ = self.counters.ended.set(());
    }

    fn take(&mut self, parcel: &Parcel) {
        self.seats.refresh();
        let (receiver, order) = match parcel {
            Parcel::Batch(batch) => {
                self.work(batch);
                (batch.receiver, batch.order)
            }
            Parcel::Tick { receiver, order } => (*receiver, *order),
        };
        if let Some(known) = self.orders.get_mut(usize::from(receiver)) {
            *known = order.max(*known);
        }
        self.progress(self.queue.is_empty());
    }

    fn work(&mut self, batch: &Batch) {
        for packet in batch.packets_of(self.id) {
            if let Some(seat) = self.seats.seat(packet) {
                judge(seat, batch.frame(packet), packet, self.sink.as_mut());
            }
        }
        self.counters.packets.add(batch.lot_len(self.id) as u64);
        self.seats.publish();
    }

    fn progress(&mut self, idle: bool) {
        let watermark = self.orders.iter().copied().min().unwrap_or(0);
        self.sink.progress(watermark, idle);
    }
}

/// One packet, from its frame to its counter.
fn judge(seat: &mut Seat, frame: &[u8], packet: &Packet, sink: &mut dyn Sink) {
    seat.tally.receive(packet.datagram_len as usize);
    let Some(target) = &seat.session.target else {
        seat.tally.filter(FilterReason::UnknownSession);
        return;
    };
    let headers = headers::walk(frame);
    let wire_len = headers.wire_len.max(packet.len.saturating_add(packet.cut));
    if !seat.session.filter.keeps_everything() {
        let direction = if seat.session.filter.needs_direction() {
            seat.session.learner.direction(&seat.peer, frame, &headers)
        } else {
            Direction::Unknown
        };
        let verdict = seat
            .session
            .filter
            .judge(frame, &headers, wire_len, direction);
        if let Some(hits) = verdict
            .rule
            .and_then(|r| seat.rule_hits.get_mut(r as usize))
        {
            *hits += 1;
        }
        if let Some(reason) = verdict.reject {
            seat.tally.filter(reason);
            return;
        }
    }
    let keep = seat
        .session
        .packet_length
        .map_or(frame.len(), |l| frame.len().min(l as usize));
    let frame = frame.get(..keep).unwrap_or(frame);
    let kept = Kept {
        frame,
        origlen: wire_len,
        time: packet.time,
        order: packet.order,
    };
    if let Err(reason) = sink.keep(target, &seat.peer, kept) {
        seat.tally.drop(reason);
    }
}
