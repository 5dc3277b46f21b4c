//! What a worker does with a batch, whichever thread it runs on.
//!
//! Takes: batches, and the passing of time. Gives: kept packets to its [`Sink`], counts to ledgers and [`Counters`]. Holds: each packet
//! is counted as received, and as filtered or dropped here or by the sink; ledgers are touched once per batch.

use std::sync::Arc;
use std::time::Duration;

use crate::filter::Direction;
use crate::flowlog::{Counted, Meter, Sight};
use crate::headers::{self, Gist};
use crate::metrics::{Counter, Delays, Heartbeat};
use crate::packet::{Batch, FilterReason, Packet};
use crate::session::{Seat, Seats};
use crate::sink::{Kept, Sink};
use crate::time::{self, Timestamp};
use crate::worker::few::Few;

/// How often patient work looks for room in the sink, and how many times: half a minute.
const RETRY: Duration = Duration::from_millis(2);
const RETRIES: u32 = 15_000;

/// What a worker has done, for status and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets dealt to it.
    pub packets: Counter,
    /// Batches with packets for it.
    pub batches: Counter,
    /// Packets that were longer on the wire than what came.
    pub truncated: Counter,
    /// From the arrival of a batch's first packet until all of it was with the sink; for packets that arrive now.
    pub delays: Delays,
    /// When it was last seen alive.
    pub heartbeat: Heartbeat,
    /// Set when it has ended; with the reason, if that was a panic.
    pub ended: std::sync::OnceLock<Option<String>>,
}

/// The work of one worker.
pub struct Work {
    id: usize,
    seats: Seats,
    /// Where the packets of the batch at hand sit.
    places: Vec<u32>,
    sink: Box<dyn Sink>,
    counters: Arc<Counters>,
    /// The order of each receiver, as last told.
    orders: Vec<u64>,
    /// Whether to wait for room in the sink's buffer: for sources that do not run away.
    patient: bool,
    /// Of the flow logs, where there are any.
    meter: Option<Box<Meter>>,
    /// Whether the batch at hand has told it the time.
    ticked: bool,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Work {
    /// The work of worker number `id`, fed by `receivers` receivers. A `patient` one waits for the disk
    /// rather than drop.
    pub fn new(
        id: usize,
        receivers: usize,
        seats: Seats,
        sink: Box<dyn Sink>,
        patient: bool,
    ) -> Self {
        Self {
            id,
            seats,
            places: Vec::new(),
            sink,
            counters: Arc::default(),
            orders: vec![0; receivers],
            patient,
            meter: None,
            ticked: false,
        }
    }

    /// The same, and packets count in flow logs too.
    #[must_use]
    pub fn with_meter(mut self, meter: Option<Meter>) -> Self {
        self.meter = meter.map(Box::new);
        self
    }

    /// Its number.
    pub(super) fn id(&self) -> usize {
        self.id
    }

    /// Seats of the same table for somebody else.
    pub(super) fn seats_beside(&self) -> Seats {
        self.seats.beside()
    }

    /// What was done; readable meanwhile.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Shows that its thread is alive at `now`.
    pub fn beat(&self, now: u64) {
        self.counters.heartbeat.beat(now);
    }

    /// Does what is to be done with the packets that were dealt to it, and gives their number.
    pub fn take(&mut self, batch: &Batch) -> usize {
        self.refresh();
        let watermark = self.watermark();
        let mut truncated = 0;
        // all are placed before the first is looked at: their look-ups do not wait for each other
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        places.reserve(batch.capacity());
        let mut last: Option<(&Packet, u32)> = None;
        batch.packets_of(self.id).for_each(|p| {
            let same = last.filter(|(before, _)| is_of_one_peer(before, p));
            let place = same.map_or_else(|| self.seats.place(p), |(_, place)| place);
            last = Some((p, place));
            places.push(place);
        });
        self.seats.look();
        let mut few = Few::new();
        let mut place = places.iter().copied();
        batch.packets_of(self.id).for_each(|packet| {
            let place = place.next().unwrap_or(u32::MAX);
            if few.place != place || few.is_full() {
                self.give(&few, watermark);
                few.begin(place);
            }
            truncated += u64::from(self.one(batch, packet, &mut few));
        });
        self.give(&few, watermark);
        self.places = places;
        let packets = batch.lot_len(self.id);
        self.counters.packets.add(packets as u64);
        self.counters.batches.add(1);
        self.counters.truncated.add(truncated);
        self.seats.publish();
        self.note_time(batch);
        self.pass(batch.receiver, batch.order);
        packets
    }

    /// One reading of the clock for a batch. A card's clock may differ from the system's by as much as nobody has set it. Where packets are
    /// files their own times are the clock.
    fn note_time(&mut self, batch: &Batch) {
        let times = || batch.packets_of(self.id).map(|packet| packet.time);
        let Some(first) = times().next() else {
            return;
        };
        if !self.patient {
            let now = time::now();
            self.counters.delays.note(now.since(first));
            self.tick(now, false);
        } else if self.meter.is_some() {
            self.tick(times().max().unwrap_or(first), false);
        }
    }

    fn tick(&mut self, now: Timestamp, idle: bool) {
        if let Some(meter) = &mut self.meter {
            meter.tick(now, idle);
            self.ticked = !idle;
        }
    }

    fn refresh(&mut self) {
        // in this order: a meter is never older than the seats, which keep what it says
        self.seats.refresh();
        if let Some(meter) = &mut self.meter {
            meter.refresh();
        }
    }

    /// One packet, from its headers to those that are to be kept; whether it was longer on the wire than what came.
    #[inline(always)]
    fn one<'a>(&mut self, batch: &'a Batch, packet: &Packet, few: &mut Few<'a>) -> bool {
        let Some(seat) = self.seats.at(few.place) else {
            return false;
        };
        let frame = batch.frame(packet);
        let judged = match &mut self.meter {
            None => judge(seat, frame, packet),
            Some(meter) => count_and_judge(meter, seat, frame, packet),
        };
        let Some(origlen) = judged else {
            return false;
        };
        let most = seat
            .session
            .packet_length
            .map_or(usize::MAX, |l| l as usize);
        few.push(Kept {
            frame: frame.get(..most).unwrap_or(frame),
            origlen,
            time: packet.time,
            order: packet.order,
        });
        origlen as usize > frame.len()
    }

    /// Gives packets to the sink. Where there is no room for one, patient work looks again for a while: files are in
    /// no hurry, and the writers get time.
    fn give(&mut self, few: &Few<'_>, watermark: u64) {
        let (mut rest, mut retries) = (few.packets(), 0);
        while let Some(seat) = self.seats.at(few.place).filter(|_| !rest.is_empty()) {
            let Some(target) = &seat.session.target else {
                return;
            };
            let Err((taken, reason)) = self.sink.keep_all(target, &seat.peer, rest) else {
                return;
            };
            rest = rest.get(taken..).unwrap_or_default();
            if self.patient && (taken > 0 || retries < RETRIES) {
                retries = if taken > 0 { 0 } else { retries + 1 };
                self.sink.progress(watermark, true);
                self.counters.heartbeat.beat(time::monotonic().nanos());
                std::thread::sleep(RETRY);
            } else {
                seat.drop(reason);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }

    /// Nothing of a receiver below this order will come any more.
    pub fn pass(&mut self, receiver: u16, order: u64) {
        if let Some(known) = self.orders.get_mut(usize::from(receiver)) {
            *known = order.max(*known);
        }
    }

    /// Looks after the sink. `idle` says that there is nothing more to do for now.
    pub fn progress(&mut self, idle: bool) {
        self.refresh();
        if idle {
            self.seats.publish_hits();
            let ticked = std::mem::take(&mut self.ticked);
            if self.meter.is_some() && !self.patient && !ticked {
                self.tick(time::now(), true);
            }
        }
        self.sink.progress(self.watermark(), idle);
    }

    /// Nothing more will come from anywhere. What was kept is with the writers before flow logs are waited for.
    pub fn finish(mut self) {
        self.seats.publish();
        let (meter, counters) = (self.meter.take(), self.counters());
        self.orders.fill(u64::MAX);
        self.progress(true);
        drop(self);
        if let Some(meter) = meter {
            meter.finish();
        }
        let _ = counters.ended.set(None);
    }

    /// Nothing below this order will come any more, from whichever receiver.
    fn watermark(&self) -> u64 {
        self.orders.iter().copied().min().unwrap_or(0)
    }
}

/// What was counted is told, also when a panic ends the work.
impl Drop for Work {
    fn drop(&mut self) {
        self.seats.publish();
        self.seats.publish_hits();
    }
}

/// Whether two packets sit in the same place.
#[inline(always)]
fn is_of_one_peer(a: &Packet, b: &Packet) -> bool {
    a.vni == b.vni && a.source == b.source && a.endpoint == b.endpoint
}

/// Counts a packet and judges it; gives the length it had on the wire if it is to be kept.
fn judge(seat: &mut Seat, frame: &[u8], packet: &Packet) -> Option<u32> {
    seat.receive(packet.datagram_len);
    let least = packet.len.saturating_add(packet.cut);
    if seat.session.target.is_some() && seat.session.filter.keeps_everything() {
        // nobody asks for more of the headers
        return Some(headers::wire_len(frame).max(least));
    }
    let gist = headers::gist(frame);
    let origlen = gist.wire_len.max(least);
    let direction = |seat: &Seat| seat.session.learner.direction(&seat.peer, frame, &gist);
    let rejected = reject(seat, frame, &gist, origlen, direction);
    if let Some(reason) = rejected {
        seat.filter(reason);
    }
    rejected.is_none().then_some(origlen)
}

/// The same for a packet that counts in flow logs: its headers are walked over once, for a little more.
#[inline(never)]
fn count_and_judge(
    meter: &mut Meter,
    seat: &mut Seat,
    frame: &[u8],
    packet: &Packet,
) -> Option<u32> {
    let (eni, logs) = match seat.counted {
        Some(counted) => counted,
        None => {
            let Counted { eni, logs } = meter.place(&seat.peer, &seat.session.name);
            *seat.counted.insert((eni, logs))
        }
    };
    if logs == 0 {
        return judge(seat, frame, packet);
    }
    seat.receive(packet.datagram_len);
    let outline = headers::outline(frame);
    let gist = &outline.gist;
    let wire_len = gist.wire_len.max(packet.len.saturating_add(packet.cut));
    let direction = seat.session.learner.direction(&seat.peer, frame, gist);
    let rejected = reject(seat, frame, gist, wire_len, |_| direction);
    let sight = Sight {
        outline: &outline,
        frame,
        wire_len,
        direction,
        kept: rejected.is_none(),
        time: packet.time,
    };
    meter.add(Counted { eni, logs }, &sight);
    if let Some(reason) = rejected {
        seat.filter(reason);
    }
    rejected.is_none().then_some(wire_len)
}

/// Why a packet is left out on purpose, if it is.
#[inline(always)]
fn reject(
    seat: &mut Seat,
    frame: &[u8],
    gist: &Gist,
    wire_len: u32,
    direction: impl Fn(&Seat) -> Direction,
) -> Option<FilterReason> {
    let session = &seat.session;
    if session.target.is_none() {
        return Some(FilterReason::UnknownSession);
    }
    if session.filter.keeps_everything() {
        return None;
    }
    let direction = if session.filter.needs_direction() {
        direction(seat)
    } else {
        Direction::Unknown
    };
    let verdict = session.filter.judge_gist(frame, gist, wire_len, direction);
    if let Some(rule) = verdict.rule {
        seat.hit(rule);
    }
    verdict.reject
}
