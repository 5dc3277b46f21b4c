//! Reading the queues of an interface: from frames in rings to datagrams in a batch.
//!
//! Takes: AF_XDP sockets that a program redirects to. Gives: batches, each with a lease on frames of one socket. Holds: every
//! frame goes back to its socket: at once when its packet was copied or refused, with the lease when it was lent.
//!
//! **Waking.** As for UDP: while packets come in numbers the thread naps between looks at the rings, at most half as long as a
//! packet may wait, and a full batch is followed by the next at once. Under load that is no system call at all but the nap;
//! idle, it sleeps in poll(2).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::capfile::LinkType;
use crate::packet::{Batch, Datagram, DropReason, LENT};
use crate::source::naps::Naps;
use crate::source::outer::{self, Outer};
use crate::source::watermark::DISORDER;
use crate::source::xdp::program::Steering;
use crate::source::xdp::times::{Arrival, Times};
use crate::source::xdp::{Opened, Reason};
use crate::source::{Clock, Config, DRAIN, Facts, Kind, Received, Source, place};
use crate::sys::lease::Lease;
use crate::sys::xsk::{self, METADATA, Poll, Statistics, Waiting, Xsk};
use crate::time::{self, Monotonic, Timestamp};

/// Packets a batch, at most.
const SLOTS: usize = 128;
/// Room for packets that lie in several frames.
const ARENA: usize = 4 << 20;
/// How long a call waits for the first packet, in milliseconds.
const WAIT: i32 = 20;
/// The longest rest between looks while packets come in numbers.
const NAP: Duration = Duration::from_micros(500);
/// After the stop a driver may still show what it had redirected before.
const GRACE: Duration = Duration::from_millis(20);
/// Calls between two readings of the statistics under load.
const STATISTICS_EVERY: u32 = 64;

/// Some receive queues of an interface, for one thread.
#[derive(Debug)]
pub struct Xdp {
    sockets: Vec<Xsk>,
    queues: Vec<Queue>,
    /// The socket to begin with.
    next: usize,
    steering: Arc<Steering>,
    times: Times,
    facts: Arc<Facts>,
    poll: Poll,
    /// Others to be woken for.
    others: Vec<OwnedFd>,
    last_len: usize,
    naps: Naps,
    /// Whether every ring was empty when last looked at.
    drained: bool,
    calls: u32,
    stopping: Option<Monotonic>,
}

/// What is kept for a socket.
#[derive(Debug)]
struct Queue {
    number: u32,
    /// All that was stamped before has been read.
    seen: Timestamp,
    losses: Losses,
}

impl Xdp {
    /// Over sockets that are open and served, with the numbers of their queues.
    pub(super) fn new(
        interface: &str,
        config: &Config,
        clock: Clock,
        hand: Vec<(u32, Opened)>,
        steering: Arc<Steering>,
    ) -> Result<Self, Reason> {
        let mode = hand.first().map(|(_, (_, mode))| mode.clone());
        let numbers: Vec<String> = hand.iter().map(|(n, _)| n.to_string()).collect();
        let memory = hand.iter().map(|(_, (socket, _))| socket.memory()).sum();
        let name = format!("{interface} queue {}", numbers.join(", "));
        let places = [place::XDP_RX_FULL, place::XDP_FILL_EMPTY, place::XDP_OTHER];
        let facts = Facts {
            listen: config.listen.clone(),
            interface: Some(interface.to_owned()),
            mode: mode.unwrap_or_default(),
            clock,
            buffer_asked: memory,
            buffer_granted: memory,
            ..Facts::new(Kind::Xdp, name, &places)
        };
        let queues = hand.iter().map(|(number, _)| Queue {
            number: *number,
            seen: Timestamp::default(),
            losses: Losses::default(),
        });
        Ok(Self {
            queues: queues.collect(),
            sockets: hand.into_iter().map(|(_, (socket, _))| socket).collect(),
            next: 0,
            steering,
            times: Times::new(clock).map_err(Reason::Clock)?,
            facts: Arc::new(facts),
            poll: Poll::default(),
            others: Vec::new(),
            last_len: 0,
            naps: Naps::of(NAP.min(config.latency.0 / 2)),
            drained: true,
            calls: 0,
            stopping: None,
        })
    }

    /// What is known of the queues; stays readable while a receiver owns the source.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts)
    }

    /// A call that waits for packets ends early when `other` has something to read.
    pub(super) fn wake_for(&mut self, other: OwnedFd) {
        self.others.push(other);
    }

    fn rest(&mut self) {
        let is_free = self.drained && self.stopping.is_none();
        self.naps.rest(self.last_len, is_free);
    }

    /// Fills the batch from the first socket that has something, beginning with another one each time.
    fn take(&mut self, batch: &mut Batch) -> bool {
        let now = time::now();
        self.times.batch();
        self.last_len = 0;
        let count = self.sockets.len();
        for i in (self.next..count).chain(0..self.next) {
            let (Some(socket), Some(queue)) = (self.sockets.get_mut(i), self.queues.get_mut(i))
            else {
                continue;
            };
            if socket.next_packet().is_none() {
                continue;
            }
            let mut load = Load::new(socket, batch, &self.times, now);
            load.run();
            self.last_len = load.packets;
            self.facts.count_stray_times(load.other_clock);
            queue.seen = queue.seen.max(load.newest);
            self.next = (i + 1) % count;
            break;
        }
        batch.order = self.order(now).nanos();
        self.last_len > 0
    }

    /// Nothing will come any more that was stamped before this, give or take the disorder: the program stamps a packet, and the driver
    /// shows it only when it has been through all that had come by then. A ring that is empty has given all
    /// that was stamped before `now`, which was read before looking.
    fn order(&mut self, now: Timestamp) -> Timestamp {
        self.drained = true;
        for (socket, queue) in self.sockets.iter_mut().zip(&mut self.queues) {
            if socket.waiting() == 0 {
                queue.seen = queue.seen.max(now);
            } else {
                self.drained = false;
            }
        }
        let seen = self.queues.iter().map(|queue| queue.seen).min();
        seen.unwrap_or(now).saturating_sub(DISORDER)
    }

    /// An interface that goes down may come back; one that was removed does not.
    fn is_well(&self, socket: &Xsk) -> std::io::Result<()> {
        socket.is_well().map_err(|error| {
            let gone = format!("{} is gone: {error}", self.facts.name);
            std::io::Error::new(error.kind(), gone)
        })
    }

    fn look_at_losses(&mut self) {
        let mut queued = 0;
        for (socket, queue) in self.sockets.iter_mut().zip(&mut self.queues) {
            queued += u64::from(socket.waiting()) * u64::from(socket.frame_size());
            if let Ok(statistics) = socket.statistics() {
                queue.losses.follow(statistics, &self.facts);
            }
        }
        self.facts.queued.set(queued);
    }
}

impl Source for Xdp {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        let is_late = |at| time::monotonic().since(at) > DRAIN;
        if self.stopping.is_some_and(is_late) {
            tracing::warn!(
                queues = self.facts.name,
                "The queues were still not empty; what is in them is lost."
            );
            self.look_at_losses();
            batch.order = self.order(time::now()).nanos();
            return Ok(Received::End);
        }
        self.rest();
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(STATISTICS_EVERY) {
            self.look_at_losses();
        }
        if self.take(batch) {
            return Ok(Received::Some);
        }
        let wait = if self.stopping.is_some() { 1 } else { WAIT };
        xsk::wait(&self.sockets, &self.others, &mut self.poll, wait)?;
        if self.take(batch) {
            return Ok(Received::Some);
        }
        self.look_at_losses();
        self.sockets.iter().try_for_each(|s| self.is_well(s))?;
        match self.stopping {
            Some(since) if time::monotonic().since(since) > GRACE => Ok(Received::End),
            _ => Ok(Received::Nothing),
        }
    }

    /// As many frames wait to be read as are left to receive into: time to read and throw away by name.
    fn under_pressure(&mut self) -> bool {
        self.sockets.iter_mut().any(|socket| {
            let waiting = socket.waiting();
            waiting > 0 && waiting >= socket.free()
        })
    }

    fn runs_away(&self) -> bool {
        true
    }

    fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        for queue in &self.queues {
            if let Err(error) = self.steering.leave(queue.number) {
                tracing::warn!(%error, queue = queue.number, "Could not give a queue back to the network stack.");
            }
        }
        self.stopping = Some(time::monotonic());
    }

    fn new_batch(&self, receiver: u16) -> Batch {
        Batch::new(receiver, SLOTS, ARENA)
    }

    fn reclaim(&mut self, batch: &mut Batch) {
        let mut lease = batch.take_lease();
        for socket in &mut self.sockets {
            let Some(lent) = lease.take() else { return };
            lease = socket.take_back(lent);
        }
    }
}

/// One batch being filled from one socket.
struct Load<'a> {
    socket: &'a mut Xsk,
    batch: &'a mut Batch,
    times: &'a Times,
    now: Timestamp,
    /// Packets that were taken out of the ring.
    packets: usize,
    newest: Timestamp,
    other_clock: u64,
}

/// Where a datagram lies in a frame.
struct Found {
    source: std::net::IpAddr,
    port: u16,
    offset: u32,
    len: u32,
    cut: u32,
}

impl<'a> Load<'a> {
    fn new(socket: &'a mut Xsk, batch: &'a mut Batch, times: &'a Times, now: Timestamp) -> Self {
        Self {
            socket,
            batch,
            times,
            now,
            packets: 0,
            newest: Timestamp::default(),
            other_clock: 0,
        }
    }

    fn run(&mut self) {
        let mut lease = self.socket.lease(SLOTS);
        while self.packets < self.batch.capacity() {
            let Some(waiting) = self.socket.next_packet() else {
                break;
            };
            if waiting.frames == 1 {
                self.lend(waiting, &mut lease);
            } else if waiting.len as usize <= self.batch.room() {
                self.gather(waiting);
            } else if self.packets == 0 {
                self.discard(waiting);
            } else {
                break;
            }
            self.packets += 1;
        }
        self.batch.lend(lease);
        self.socket.submit();
    }

    /// A packet in one frame is read where it lies.
    fn lend(&mut self, waiting: Waiting, lease: &mut Lease) {
        let Some(frame) = self.socket.take() else {
            return self.refuse(DropReason::OuterMalformed, waiting);
        };
        match find(self.socket.bytes(&frame)) {
            Ok(found) => {
                let metadata = frame.metadata;
                match self.socket.lend(frame, lease) {
                    Some(address) => self.put(found, LENT + address, metadata),
                    None => self.refuse(DropReason::DatagramTruncated, waiting),
                }
            }
            Err(reason) => {
                self.socket.give(frame);
                self.refuse(reason, waiting);
            }
        }
    }

    /// A packet in several frames is copied together: the one copy.
    fn gather(&mut self, waiting: Waiting) {
        let (mut start, mut len) = (None, 0);
        let mut metadata = [0; METADATA];
        for _ in 0..waiting.frames {
            let Some(frame) = self.socket.take() else {
                continue;
            };
            let at = self.batch.append(self.socket.bytes(&frame));
            len += frame.len;
            if start.is_none() {
                (start, metadata) = (at, frame.metadata);
            }
            self.socket.give(frame);
        }
        if len != waiting.len {
            // a broken entry: what is here is no packet
            return self.refuse(DropReason::OuterMalformed, waiting);
        }
        let start = start.unwrap_or_default();
        match find(self.batch.bytes(start, len)) {
            Ok(found) => self.put(found, start, metadata),
            Err(reason) => self.refuse(reason, waiting),
        }
    }

    /// A packet that no batch has room for.
    fn discard(&mut self, waiting: Waiting) {
        for _ in 0..waiting.frames {
            if let Some(frame) = self.socket.take() {
                self.socket.give(frame);
            }
        }
        self.refuse(DropReason::DatagramTruncated, waiting);
    }

    fn put(&mut self, found: Found, start: u32, metadata: [u8; METADATA]) {
        let Arrival {
            time,
            order,
            other_clock,
        } = self.times.of(metadata, self.now);
        self.newest = self.newest.max(order);
        self.other_clock += u64::from(other_clock);
        self.batch.datagrams.push(Datagram {
            start: start + found.offset,
            len: found.len,
            cut: found.cut,
            source: found.source,
            port: found.port,
            time,
            order: order.nanos(),
        });
    }

    fn refuse(&mut self, reason: DropReason, waiting: Waiting) {
        self.batch.refuse(reason, waiting.len as usize);
    }
}

/// The datagram in a frame. The program lets nothing through that is none, but for lengths that contradict each other.
fn find(frame: &[u8]) -> Result<Found, DropReason> {
    match outer::find(LinkType::ETHERNET, frame, frame.len() as u32)? {
        Outer::Datagram(udp) => Ok(Found {
            source: udp.source,
            port: udp.port,
            // the payload is a part of the frame
            offset: (udp.payload.as_ptr().addr() - frame.as_ptr().addr()) as u32,
            len: udp.payload.len() as u32,
            cut: udp.cut,
        }),
        Outer::Fragment(_) => Err(DropReason::FragmentIncomplete),
    }
}

/// What a socket has lost, as far as it was told by place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Losses(Statistics);

impl Losses {
    /// Tells what is new. In copy mode a packet for which no frame was free counts in two of the kernel's numbers. Without copying,
    /// the number of empty fills is one of tries and not of packets; so it only says of what kind the dropped ones are, and
    /// what the card dropped for it is in the card's own statistics.
    fn follow(&mut self, now: Statistics, facts: &Facts) {
        let before = std::mem::replace(&mut self.0, now);
        let dropped = now.dropped.saturating_sub(before.dropped);
        let fill_empty = now.fill_empty.saturating_sub(before.fill_empty);
        let fill_empty = fill_empty.min(dropped);
        let ring_full = now.ring_full.saturating_sub(before.ring_full);
        facts.lose(place::XDP_RX_FULL, ring_full);
        facts.lose(place::XDP_FILL_EMPTY, fill_empty);
        facts.lose(place::XDP_OTHER, dropped - fill_empty);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of readings of (dropped, ring full, fill empty): ring full, fill empty, other.
    fn told(readings: &[(u64, u64, u64)]) -> [u64; 3] {
        let places = [place::XDP_RX_FULL, place::XDP_FILL_EMPTY, place::XDP_OTHER];
        let facts = Facts::new(Kind::Xdp, String::new(), &places);
        let mut losses = Losses::default();
        for &(dropped, ring_full, fill_empty) in readings {
            let statistics = Statistics {
                dropped,
                ring_full,
                fill_empty,
            };
            losses.follow(statistics, &facts);
        }
        places.map(|p| facts.lost_at(p))
    }

    #[test]
    fn a_packet_without_a_frame_is_lost_once() {
        assert_eq!(
            told(&[(0, 0, 0), (7, 2, 5), (7, 2, 5), (9, 2, 6)]),
            [2, 6, 3]
        );
    }

    #[test]
    fn tries_to_find_a_frame_are_no_packets_that_were_lost() {
        assert_eq!(told(&[(5, 0, 0), (5, 0, 900), (6, 0, 901)]), [0, 1, 5]);
    }

    #[test]
    fn a_frame_gives_its_datagram_where_it_lies() {
        let mut frame = vec![2; 12];
        frame.extend([
            0x08, 0x00, 0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([0, 9, 0x12, 0xb5, 0, 11, 0, 0, 1, 2, 3, 0, 0, 0, 0]);
        let found = find(&frame).unwrap();
        assert_eq!((found.offset, found.len, found.port), (42, 3, 4789));
        assert_eq!(found.source.to_string(), "10.0.0.1");
    }
}
