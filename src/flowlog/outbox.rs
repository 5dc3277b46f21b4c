//! A worker's closed flows on their way to the thread that writes.
//!
//! Takes: closed flows, one at a time. Gives: parcels of many, over a bounded channel. Holds: who works on live packets never waits, and
//! what finds no room then is counted as lost, with its packets; emptied parcels come back, so that nothing is allocated in the long run.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};

use crate::flow::Closed;
use crate::flowlog::Stats;
use crate::flowlog::shared::{Parcel, Shared};
use crate::time::{self, Monotonic, Timestamp};

/// Flows of a parcel.
const PARCEL: usize = 256;
/// How long a flow waits for others before it is sent.
const LINGER: Duration = Duration::from_millis(100);

/// How long a worker may wait for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// Not at all: packets run away.
    None,
    /// So long, each time: files don't.
    For(Duration),
    /// Until then, however many parcels there are: at the end.
    Until(Monotonic),
}

/// Both ends of the way.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) parcels: Sender<Parcel>,
    pub(super) emptied: Receiver<Vec<Closed>>,
}

/// The flows of one flow log.
#[derive(Debug)]
pub(super) struct Outbox {
    log: usize,
    flows: Vec<Closed>,
    /// For when these are sent.
    next: Vec<Closed>,
    door: Door,
    shared: Arc<Shared>,
    pub(super) patience: Patience,
    /// Packets in all flows that were put in.
    pub(super) packets: u64,
    /// When the first of those at hand was put in, by the clock of the table.
    since: Timestamp,
}

impl Outbox {
    pub(super) fn new(log: usize, door: Door, shared: Arc<Shared>, patience: Patience) -> Self {
        Self {
            log,
            flows: Vec::with_capacity(PARCEL),
            next: Vec::with_capacity(PARCEL),
            door,
            shared,
            patience,
            packets: 0,
            since: Timestamp::default(),
        }
    }

    /// Takes a flow.
    pub(super) fn push(&mut self, closed: &Closed) {
        self.packets += closed.packets;
        if self.has_room() {
            self.flows.push(*closed);
        } else {
            self.lose(&[*closed]);
        }
    }

    /// Takes one of the last flows. After the first wait that was in vain there is no other.
    pub(super) fn push_last(&mut self, closed: &Closed) {
        self.push(closed);
        if self.flows.len() >= PARCEL && !self.send() {
            self.patience = Patience::None;
        }
    }

    /// Whether another flow can be taken; sends what is there if need be.
    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        self.flows.len() < PARCEL || self.send()
    }

    /// Sends what has waited long enough at `now`: a parcel for each flow would cost more than the flow.
    pub(super) fn tend(&mut self, now: Timestamp) {
        if self.flows.is_empty() {
            self.since = now;
        } else if now.since(self.since) >= LINGER {
            self.since = now;
            self.send();
        }
    }

    /// Sends what is there; false if there is no room for it.
    pub(super) fn send(&mut self) -> bool {
        if self.flows.is_empty() {
            return true;
        }
        let next = std::mem::take(&mut self.next);
        let flows = std::mem::replace(&mut self.flows, next);
        let (packets, records) = (sum(&flows), flows.len() as u64);
        let parcel = Parcel {
            log: self.log,
            flows,
        };
        let sent = match self.patience {
            Patience::None => self.door.parcels.try_send(parcel).map_err(|e| match e {
                TrySendError::Full(parcel) => SendTimeoutError::Timeout(parcel),
                TrySendError::Disconnected(parcel) => SendTimeoutError::Disconnected(parcel),
            }),
            Patience::For(time) => self.door.parcels.send_timeout(parcel, time),
            Patience::Until(end) => {
                let left = end.since(time::monotonic());
                self.door.parcels.send_timeout(parcel, left)
            }
        };
        match sent {
            Ok(()) => {
                self.count(records, packets);
                let fresh = || Vec::with_capacity(PARCEL);
                self.next = self.door.emptied.try_recv().unwrap_or_else(|_| fresh());
                true
            }
            Err(SendTimeoutError::Timeout(parcel)) => {
                self.next = std::mem::replace(&mut self.flows, parcel.flows);
                false
            }
            Err(SendTimeoutError::Disconnected(mut parcel)) => {
                self.lose(&parcel.flows);
                parcel.flows.clear();
                self.next = parcel.flows;
                true
            }
        }
    }

    /// Sends what is there for the last time.
    pub(super) fn finish(&mut self) {
        if !self.send() {
            self.give_up();
        }
    }

    /// Counts what is there as lost.
    pub(super) fn give_up(&mut self) {
        let flows = std::mem::take(&mut self.flows);
        self.lose(&flows);
    }

    /// Where it counts.
    fn stats(&self) -> Option<&Stats> {
        let stats = self.shared.stats.get(self.log)?;
        (!stats.is_over()).then_some(&**stats)
    }

    fn count(&self, records: u64, packets: u64) {
        if let Some(stats) = self.stats() {
            stats.records.add(records);
            stats.recorded.add(packets);
        }
    }

    fn lose(&self, flows: &[Closed]) {
        if let Some(stats) = self.stats() {
            stats.records_lost.add(flows.len() as u64);
            stats.packets_lost.add(sum(flows));
        }
        flows
            .iter()
            .for_each(|closed| self.shared.lose(self.log, closed));
    }
}

fn sum(flows: &[Closed]) -> u64 {
    flows.iter().map(|closed| closed.packets).sum()
}
