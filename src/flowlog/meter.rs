//! The worker's side of flow logs: packets into tables, closed flows out.
//!
//! Takes: for each packet that a worker judges what its headers say, and whether the session's filter keeps it. Gives: closed flows to the
//! thread that writes. Holds: a packet costs a look-up in the table of each flow log that it belongs to, no allocation, lock or
//! clock; numbers are published once per batch; each packet ends in a record, or in one of the counters of [`Stats`].

use std::sync::Arc;
use std::time::Duration;

use crate::filter::Direction;
use crate::flow::{Counts, Limits, Seen, Table};
use crate::flowlog::outbox::{Door, Outbox, Patience};
use crate::flowlog::setup::Part;
use crate::flowlog::shared::Shared;
use crate::flowlog::{Eni, Setup, Stats};
use crate::headers::Outline;
use crate::packet::{Peer, Vni};
use crate::time::{self, Monotonic, Timestamp};

/// Flows that are closed with a batch at least, so that few large batches do not fall behind.
const LEAST_DUE: usize = 256;
/// Flows that are closed at once when there is nothing more to do: some milliseconds.
const IDLE_DUE: usize = 16_384;
/// How long the last flows may wait for room, all together, where nobody has said until when.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Where the packets of a place count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The number of the interface.
    pub eni: u32,
    /// The flow logs, one bit each.
    pub logs: u32,
}

/// A packet as a meter sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// What its headers say.
    pub outline: &'a Outline,
    /// Its bytes.
    pub frame: &'a [u8],
    /// Bytes that it had on the wire.
    pub wire_len: u32,
    /// Which way it went.
    pub direction: Direction,
    /// Whether the session's filter keeps it.
    pub kept: bool,
    /// When it arrived.
    pub time: Timestamp,
}

/// All flow logs, for one worker.
#[derive(Debug)]
pub struct Meter {
    shared: Arc<Shared>,
    setup: Arc<Setup>,
    generation: u64,
    scales: Vec<Scale>,
    /// Whether the packets' own times are the clock.
    by_packets: bool,
    /// Packets since the clock was last set.
    packets: usize,
    /// By number of the interface: what tells its direction apart from what the session knows.
    told: Vec<Told>,
}

/// What tells the direction of an interface's packets, in flow logs only: captures go by what their session knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    /// Its MAC address, by the flow log's `interfaces`.
    Mac([u8; 6]),
    /// It stands for many that are not told apart.
    Many,
}

impl Told {
    #[inline]
    fn direction(self, sight: &Sight<'_>) -> Direction {
        let is_at = |at: usize, mac: &[u8; 6]| sight.frame.get(at..at + 6) == Some(mac);
        match self {
            Self::Nothing => sight.direction,
            Self::Many => Direction::Unknown,
            Self::Mac(mac) => match (is_at(6, &mac), is_at(0, &mac)) {
                (true, false) => Direction::Egress,
                (false, true) => Direction::Ingress,
                _ => sight.direction,
            },
        }
    }
}

impl Meter {
    /// The meter of one of `workers` workers, which share the room of each table.
    pub(super) fn new(shared: Arc<Shared>, door: &Door, patience: Patience, workers: u32) -> Self {
        let setup = shared.setup.load_full();
        let scale = |(log, part): (usize, &Part)| {
            let outbox = Outbox::new(log, door.clone(), Arc::clone(&shared), patience);
            let stats = shared.stats.get(log).map(Arc::clone).unwrap_or_default();
            Scale::new(limits(part, workers), outbox, stats)
        };
        let mut scales: Vec<Scale> = setup.parts.iter().enumerate().map(scale).collect();
        let by_packets = patience != Patience::None;
        if !by_packets {
            let now = time::now();
            scales.iter_mut().for_each(|scale| scale.table.tick(now));
        }
        Self {
            by_packets,
            generation: shared.generation(),
            scales,
            setup,
            shared,
            packets: 0,
            told: Vec::new(),
        }
    }

    /// Follows a reload: to be called between batches.
    pub fn refresh(&mut self) {
        let generation = self.shared.generation();
        if generation != self.generation {
            self.generation = generation;
            self.setup = self.shared.setup.load_full();
        }
    }

    /// Where the packets of a peer and session count. Slow: for places that a worker meets for the first time.
    #[cold]
    pub fn place(&mut self, peer: &Peer, session: &Arc<str>) -> Counted {
        let eni = Eni {
            source: peer.source,
            endpoint: peer.endpoint,
        };
        let logs = self.setup.logs_of(&eni, session);
        if logs == 0 {
            return Counted { eni: 0, logs };
        }
        let told = match self.setup.mac_of(&eni) {
            _ if eni.source.is_unspecified() => Told::Many,
            Some(mac) => Told::Mac(mac),
            None => Told::Nothing,
        };
        let vni: Vni = peer.vni;
        let eni = self.shared.enis.meet(eni, vni, session, logs);
        if self.told.len() <= eni as usize {
            self.told.resize(eni as usize + 1, Told::Nothing);
        }
        if let Some(place) = self.told.get_mut(eni as usize) {
            *place = told;
        }
        Counted { eni, logs }
    }

    /// Counts a packet of a place.
    #[inline]
    pub fn add(&mut self, counted: Counted, sight: &Sight<'_>) {
        self.packets += 1;
        let told = self.told.get(counted.eni as usize);
        let direction = told.map_or(sight.direction, |told| told.direction(sight));
        let sight = &Sight {
            direction,
            ..*sight
        };
        let outline = *sight.outline;
        let seen = Seen::of(counted.eni, direction, outline, sight.frame, sight.time);
        let mut logs = counted.logs;
        while logs != 0 {
            let log = logs.trailing_zeros() as usize;
            logs &= logs - 1;
            if let (Some(scale), Some(part)) = (self.scales.get_mut(log), self.setup.parts.get(log))
            {
                if self.by_packets {
                    scale.table.tick(sight.time);
                }
                scale.add(part, sight, seen.as_ref());
            }
        }
    }

    /// Sets the clock and closes flows whose time is over, as far as there is room for them: once per batch, and when there is nothing to do.
    pub fn tick(&mut self, now: Timestamp, idle: bool) {
        let packets = std::mem::take(&mut self.packets);
        let most = match idle {
            true => IDLE_DUE,
            false => LEAST_DUE.max(2 * packets),
        };
        for scale in &mut self.scales {
            if !self.by_packets {
                scale.table.follow_back(now);
            }
            scale.tick(now, most);
        }
    }

    /// Closes all flows: nothing more will come. Waits a little where there is no room for them.
    pub fn finish(mut self) {
        let end = self.shared.stop_waiting();
        let end = end.unwrap_or_else(|| time::monotonic().plus(LAST_WAIT));
        for scale in std::mem::take(&mut self.scales) {
            scale.finish(end);
        }
    }
}

/// A meter that was not finished belonged to a thread that panicked: what it had is lost.
impl Drop for Meter {
    fn drop(&mut self) {
        if !self.scales.is_empty() {
            self.scales.iter_mut().for_each(Scale::give_up);
            self.shared.cut();
        }
    }
}

/// Its part of the room of a flow log.
fn limits(part: &Part, workers: u32) -> Limits {
    let limits = part.config.limits();
    Limits {
        flows: limits.flows.div_ceil(workers),
        per_eni: limits.per_eni.div_ceil(workers),
        ..limits
    }
}

/// One flow log of one worker.
#[derive(Debug)]
struct Scale {
    table: Table,
    outbox: Outbox,
    stats: Arc<Stats>,
    /// Counted since the last publication.
    left_out: u64,
    not_ip: u64,
    /// What the table had done then, and how many flows were open.
    told: Counts,
    open: u64,
}

impl Scale {
    fn new(limits: Limits, outbox: Outbox, stats: Arc<Stats>) -> Self {
        Self {
            table: Table::new(limits),
            outbox,
            stats,
            left_out: 0,
            not_ip: 0,
            told: Counts::default(),
            open: 0,
        }
    }

    #[inline]
    fn add(&mut self, part: &Part, sight: &Sight<'_>, seen: Option<&Seen>) {
        if !sight.kept && part.only_kept() {
            return;
        }
        let Some(seen) = seen else {
            self.not_ip += 1;
            return;
        };
        if part.leaves_out(sight) {
            self.left_out += 1;
            return;
        }
        let outbox = &mut self.outbox;
        self.table.add(seen, &mut |closed| outbox.push(closed));
    }

    fn tick(&mut self, now: Timestamp, most: usize) {
        self.table.tick(now);
        let outbox = &mut self.outbox;
        for _ in 0..most {
            if !outbox.has_room() || !self.table.close_due(&mut |closed| outbox.push(closed)) {
                break;
            }
        }
        outbox.tend(now);
        self.publish();
    }

    fn publish(&mut self) {
        let (now, told) = (self.table.counts(), self.told);
        let (left_out, not_ip) = (
            std::mem::take(&mut self.left_out),
            std::mem::take(&mut self.not_ip),
        );
        let stats = &self.stats;
        if stats.is_over() {
            return;
        }
        stats
            .packets
            .add(now.packets - told.packets + left_out + not_ip);
        stats.left_out.add(left_out);
        stats.not_ip.add(not_ip);
        stats.early.add(now.early - told.early);
        stats
            .early_of_interface
            .add(now.early_of_eni - told.early_of_eni);
        stats
            .fragments_charged
            .add(now.fragments_charged - told.fragments_charged);
        stats
            .fragments_without_first
            .add(now.fragments_without_first - told.fragments_without_first);
        self.told = now;
        self.publish_open(self.table.len() as u64);
    }

    fn publish_open(&mut self, open: u64) {
        match open.checked_sub(self.open) {
            Some(0) => {}
            Some(more) => {
                self.stats.open.add(more);
            }
            None => {
                self.stats.open.sub(self.open - open);
            }
        }
        self.open = open;
    }

    /// Closes what is open; where packets run away it waits for room until `end`.
    fn finish(mut self, end: Monotonic) {
        let outbox = &mut self.outbox;
        if outbox.patience == Patience::None {
            outbox.patience = Patience::Until(end);
        }
        self.table.close(&mut |closed| outbox.push_last(closed));
        outbox.finish();
        self.publish();
    }

    /// Counts what is open and on its way as lost.
    fn give_up(&mut self) {
        if self.stats.is_over() {
            return;
        }
        let open = self.table.counts().packets - self.outbox.packets;
        self.stats.packets_lost.add(open);
        self.stats.records_lost.add(self.table.len() as u64);
        self.outbox.give_up();
        self.publish();
        self.publish_open(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_that_is_told_decides_and_one_that_fits_nothing_leaves_it_to_the_session() {
        let (eni, router) = ([2, 1, 1, 1, 1, 1], [2, 9, 9, 9, 9, 9]);
        let direction = |told: Told, dst: [u8; 6], src: [u8; 6]| {
            told.direction(&Sight {
                outline: &Outline::default(),
                frame: &[dst, src].concat(),
                wire_len: 12,
                direction: Direction::Egress,
                kept: true,
                time: Timestamp::default(),
            })
        };
        let told = Told::Mac(eni);
        assert_eq!(direction(told, eni, router), Direction::Ingress);
        assert_eq!(direction(told, router, eni), Direction::Egress);
        assert_eq!(direction(told, router, router), Direction::Egress);
        assert_eq!(direction(Told::Nothing, eni, router), Direction::Egress);
        assert_eq!(direction(Told::Many, router, eni), Direction::Unknown);
    }
}
