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
use crate::headers::{self, Headers};
use crate::metrics::{Counter, Heartbeat};
use crate::packet::{Batch, DropReason, FilterReason, Packet};
use crate::session::{Seat, Seats};
use crate::sink::{Kept, Sink};
use crate::time;

/// How long a worker sleeps before it looks after its sink again.
const SLEEP: Duration = Duration::from_millis(50);

/// How often a patient worker looks for room for a packet, and how many times: half a minute.
const RETRY: Duration = Duration::from_millis(2);
const RETRIES: u32 = 15_000;

/// How long a busy worker naps when its queue is empty, and how many packets in a batch make it busy.
const NAP: Duration = Duration::from_micros(500);
const CROWD: usize = 8;

/// What a worker has done, for status and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets dealt to it.
    pub packets: Counter,
    /// Batches with packets for it.
    pub batches: Counter,
    /// Packets that were longer on the wire than what came.
    pub truncated: Counter,
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
    /// Where the packets of the batch at hand sit.
    places: Vec<u32>,
    sink: Box<dyn Sink>,
    counters: Arc<Counters>,
    /// The order of each receiver, as last told.
    orders: Vec<u64>,
    /// Whether to wait for room in the sink's buffer: for sources that do not run away.
    patient: bool,
    /// Whether the last batch was worth a nap.
    busy: bool,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Worker number `id` of the pipeline, fed by `receivers` receivers. A `patient` one waits for the disk
    /// rather than drop.
    pub fn new(
        id: usize,
        queue: Receiver<Parcel>,
        receivers: usize,
        seats: Seats,
        sink: Box<dyn Sink>,
        patient: bool,
    ) -> Self {
        let counters = Arc::default();
        Self {
            id,
            queue,
            seats,
            places: Vec::new(),
            sink,
            counters,
            orders: vec![0; receivers],
            patient,
            busy: false,
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
            match self.next() {
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
        self.seats.refresh();
        match parcel {
            Parcel::Batch(batch) => self.work(batch),
            Parcel::Tick { receiver, order } => self.pass(*receiver, *order),
        }
    }

    /// Time has passed up to `order` at a receiver.
    fn pass(&mut self, receiver: u16, order: u64) {
        if let Some(known) = self.orders.get_mut(usize::from(receiver)) {
            *known = order.max(*known);
        }
        self.progress(self.queue.is_empty());
    }

    /// Does its share of a batch. [`Self::run`] does so with each that comes; by itself it is for measuring.
    pub fn work(&mut self, batch: &Batch) {
        self.judge(batch);
        self.pass(batch.receiver, batch.order);
    }

    fn judge(&mut self, batch: &Batch) {
        let watermark = self.watermark();
        let mut truncated = 0;
        self.places.clear();
        let packets = batch.packets_of(self.id);
        self.places.extend(packets.map(|p| self.seats.place(p)));
        self.seats.look();
        for (packet, place) in batch.packets_of(self.id).zip(&self.places) {
            let Some(seat) = self.seats.at(*place) else {
                continue;
            };
            let frame = batch.frame(packet);
            let Some(origlen) = judge(seat, frame, packet) else {
                continue;
            };
            truncated += u64::from(origlen as usize > frame.len());
            let sink = self.sink.as_mut();
            let mut kept = keep(seat, frame, origlen, packet, sink);
            for _ in 0..if self.patient { RETRIES } else { 0 } {
                if kept.is_ok() {
                    break;
                }
                // replay is in no hurry: the writers get time before a packet is given up
                sink.progress(watermark, true);
                self.counters.heartbeat.beat(time::monotonic().nanos());
                std::thread::sleep(RETRY);
                kept = keep(seat, frame, origlen, packet, sink);
            }
            if let Err(reason) = kept {
                seat.drop(reason);
            }
        }
        self.counters.packets.add(batch.lot_len(self.id) as u64);
        self.counters.batches.add(1);
        self.busy = batch.lot_len(self.id) >= CROWD;
        self.counters.truncated.add(truncated);
        self.seats.publish();
    }

    /// Nothing below this order will come any more, from whichever receiver.
    fn watermark(&self) -> u64 {
        self.orders.iter().copied().min().unwrap_or(0)
    }

    fn progress(&mut self, idle: bool) {
        self.sink.progress(self.watermark(), idle);
    }
}

/// Counts a packet and judges it; gives the length it had on the wire if it is to be kept.
fn judge(seat: &mut Seat, frame: &[u8], packet: &Packet) -> Option<u32> {
    seat.receive(packet.datagram_len);
    let headers = headers::walk(frame);
    let origlen = headers.wire_len.max(packet.len.saturating_add(packet.cut));
    let rejected = reject(seat, frame, &headers, origlen);
    if let Some(reason) = rejected {
        seat.filter(reason);
    }
    rejected.is_none().then_some(origlen)
}

/// Why a packet is left out on purpose, if it is.
fn reject(seat: &mut Seat, frame: &[u8], headers: &Headers, wire_len: u32) -> Option<FilterReason> {
    let session = &seat.session;
    if session.target.is_none() {
        return Some(FilterReason::UnknownSession);
    }
    if session.filter.keeps_everything() {
        return None;
    }
    let direction = if session.filter.needs_direction() {
        session.learner.direction(&seat.peer, frame, headers)
    } else {
        Direction::Unknown
    };
    let verdict = session.filter.judge(frame, headers, wire_len, direction);
    if let Some(rule) = verdict.rule {
        seat.hit(rule);
    }
    verdict.reject
}

fn keep(
    seat: &Seat,
    frame: &[u8],
    origlen: u32,
    packet: &Packet,
    sink: &mut dyn Sink,
) -> Result<(), DropReason> {
    let Some(target) = &seat.session.target else {
        return Ok(());
    };
    let caplen = seat
        .session
        .packet_length
        .map_or(frame.len(), |l| frame.len().min(l as usize));
    let frame = frame.get(..caplen).unwrap_or(frame);
    sink.keep(
        target,
        &seat.peer,
        Kept {
            frame,
            origlen,
            time: packet.time,
            order: packet.order,
        },
    )
}
