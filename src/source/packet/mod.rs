//! AF_PACKET rings: frames read where the kernel put them, at about twice the rate of a socket.
//!
//! Takes: interfaces, and the addresses and ports listened on. Gives: batches whose datagrams lie in a block of the ring, lent for
//! as long as a worker needs it. Holds: each packet that passed the ring's filter is a datagram, a part of one, refused by
//! name, counted by the kernel as lost, or not ours at all; after [`Source::stop`] what lies in the ring is still given.
//!
//! **Why it is fast.** The kernel copies a packet once, from the network card's memory into the ring, and hands over whole
//! blocks: no system call, no wake-up and no copy for each packet. A block that does not fill is handed over after
//! `latency`. What a packet costs beyond that is the kernel's own network stack, which would go on with it and in the end
//! find nobody to give it to; so it is ended behind the tap (see `guard`).
//!
//! **Several rings.** The rings of an interface form a fanout group: by core where the network card has a queue for each
//! receiver, else by hash; a full ring leaves packets to the next. Workers find flows by the inner packet, so which ring
//! a packet came through says nothing.
//!
//! **Fragments** of outer packets are put together here, as the kernel would for a socket.

mod block;
mod filter;
mod guard;
mod open;

pub use open::{Error, open};

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use crate::capfile::LinkType;
use crate::packet::{Batch, Datagram, DropReason, LENT};
use crate::source::fragments::{Fragments, Outcome};
use crate::source::interfaces::Interface;
use crate::source::outer::{self, Fragment, Outer, Udp};
use crate::source::watermark::Watermark;
use crate::source::{Clock, DRAIN, Facts, Received, Source, place};
use crate::sys::interface;
use crate::sys::lease::Lease;
use crate::sys::ring::Ring;
use crate::time::{self, Monotonic, Timestamp};
use block::{Frame, Frames};
use guard::Guard;

/// Bytes of a block, as a power of two: 256 KiB hold some 500 ordinary packets and any jumbo frame.
const BLOCK_SHIFT: u32 = 18;
/// Packets that a block holds, at most: the smallest that passes the filter takes more than 128 bytes with its header.
const BLOCK_PACKETS: usize = (1 << BLOCK_SHIFT) / 128;
/// Room in a batch for datagrams that came in fragments; it costs no memory until one comes.
const ARENA: usize = 1 << 20;
/// How long a call waits for a block.
const WAIT: Duration = Duration::from_millis(20);
/// Blocks between two readings of the statistics under load.
const LOOK_EVERY: u32 = 64;
/// How much longer than it should the kernel may take to hand over the last block.
const LAST_BLOCK: Duration = Duration::from_millis(10);
/// The same where its statistics tell of more frames than have been found.
const LATE_BLOCK: Duration = Duration::from_secs(1);

/// One ring of an interface.
#[derive(Debug)]
pub struct Packet {
    ring: Ring,
    interface: Interface,
    /// Whether the interface was told to be down, and nothing has come since.
    is_down: bool,
    /// The ports listened on.
    ports: Vec<u16>,
    facts: Arc<Facts>,
    fragments: Fragments,
    /// A datagram that was put together and found no room in its batch.
    kept_back: Option<KeptBack>,
    /// After which the kernel hands over a block that is not full.
    retire: Duration,
    watermark: Watermark,
    blocks: u32,
    /// Frames that the kernel says it put into the ring, and those that were found in it.
    told: u64,
    found: u64,
    /// When the stop was asked for.
    stopping: Option<Monotonic>,
    /// What keeps the kernel's stack away from our packets, for all rings together.
    _guard: Arc<Guard>,
}

/// A datagram put together from fragments.
#[derive(Debug)]
struct KeptBack {
    whole: crate::source::fragments::Whole,
    at: At,
}

impl Packet {
    /// What is known of the ring; stays readable while a receiver owns the source.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts)
    }

    /// Makes datagrams of the frames of a block.
    fn fill(&mut self, batch: &mut Batch, lease: Lease) {
        let block = lease.bytes(0, 1 << BLOCK_SHIFT);
        let (mut stray_times, mut tagged) = (0, 0);
        self.is_down = false;
        for frame in Frames::of(block) {
            self.found += 1;
            let order = self.watermark.see(frame.time, frame.is_card_time);
            stray_times += u64::from(frame.is_card_time != (self.facts.clock == Clock::Hardware));
            tagged += u64::from(frame.had_tag);
            self.sort(&frame, order, block, batch);
        }
        self.facts.count_stray_times(stray_times);
        self.facts.tagged.add(tagged);
        batch.order = self.watermark.after_some();
        batch.lend(lease);
    }

    /// A datagram, a part of one, or nothing of ours.
    fn sort(&mut self, frame: &Frame, order: u64, block: &[u8], batch: &mut Batch) {
        let end = frame.start + frame.caplen as usize;
        let bytes = block.get(frame.start..end).unwrap_or_default();
        match outer::find(LinkType::ETHERNET, bytes, frame.origlen) {
            Ok(Outer::Datagram(udp)) if self.is_ours(&udp) => {
                // the payload is a part of the block
                let start = udp.payload.as_ptr() as usize - block.as_ptr() as usize;
                let datagram = datagram(&udp, LENT + start as u32, (frame.time, order));
                batch.datagrams.push(datagram);
            }
            Ok(Outer::Fragment(fragment)) => self.gather(&fragment, frame, order, batch),
            Err(DropReason::OuterMalformed) => {
                batch.refuse(DropReason::OuterMalformed, bytes.len());
            }
            // the filter lets a little through that was never for us
            Ok(Outer::Datagram(_)) | Err(_) => {}
        }
    }

    fn is_ours(&self, udp: &Udp<'_>) -> bool {
        self.ports.contains(&udp.port)
    }

    fn gather(&mut self, fragment: &Fragment<'_>, frame: &Frame, order: u64, batch: &mut Batch) {
        let bytes = frame.caplen as usize;
        match self.fragments.add(fragment, frame.time, bytes) {
            Outcome::Held => {}
            Outcome::Refused(reason) => batch.refuse(reason, bytes),
            Outcome::Whole(whole) => {
                let at = (frame.time, order);
                self.deliver(KeptBack { whole, at }, batch);
            }
        }
        self.refuse_lost(batch);
    }

    /// Puts a whole datagram into the batch's own memory, or keeps it for the next one.
    fn deliver(&mut self, kept: KeptBack, batch: &mut Batch) {
        let Ok(udp) = outer::reassembled(kept.whole.key, &kept.whole.bytes) else {
            batch.refuse(DropReason::OuterMalformed, kept.whole.bytes.len());
            return self.fragments.recycle(kept.whole.bytes);
        };
        if !self.is_ours(&udp) {
            return self.fragments.recycle(kept.whole.bytes);
        }
        match batch.append(udp.payload) {
            Some(start) => {
                batch.datagrams.push(datagram(&udp, start, kept.at));
                self.fragments.recycle(kept.whole.bytes);
            }
            // so many at once are a flood
            None if self.kept_back.is_none() => self.kept_back = Some(kept),
            None => {
                batch.refuse(DropReason::PoolEmpty, udp.payload.len());
                self.fragments.recycle(kept.whole.bytes);
            }
        }
    }

    fn refuse_lost(&mut self, batch: &mut Batch) {
        let lost = self.fragments.take_lost();
        batch.refused.received += lost.records;
        batch.refused.bytes_received += lost.bytes;
        batch.refused.dropped[DropReason::FragmentIncomplete.index()] += lost.records;
    }

    /// Reads what the kernel has counted.
    fn look(&mut self) {
        if let Ok(counted) = self.ring.statistics() {
            self.facts.lose(place::RING, u64::from(counted.drops));
            self.told += u64::from(counted.packets.saturating_sub(counted.drops));
        }
        let waiting = self.ring.waiting() << BLOCK_SHIFT;
        self.facts.queued.set(waiting as u64);
    }

    /// Nothing came: time has passed all the same.
    fn nothing(&mut self, batch: &mut Batch) -> Received {
        self.look();
        batch.order = self.watermark.after_nothing();
        if self.is_drained() {
            return self.give_up_fragments(batch).unwrap_or(Received::End);
        }
        Received::Nothing
    }

    /// No more will come: counts the fragments whose siblings are missing, if there are any.
    fn give_up_fragments(&mut self, batch: &mut Batch) -> Option<Received> {
        self.fragments.close();
        self.refuse_lost(batch);
        (batch.refused.received > 0).then_some(Received::Some)
    }

    /// After a stop: whether the last block has had its time to be handed over. On a busy machine that may take longer, and the kernel
    /// says whether there is one.
    fn is_drained(&self) -> bool {
        let now = time::monotonic();
        let has_had = |at, time| now.since(at) > time;
        let (usual, longest) = (self.retire * 2 + LAST_BLOCK, self.retire * 2 + LATE_BLOCK);
        self.stopping
            .is_some_and(|at| has_had(at, longest) || has_had(at, usual) && self.found >= self.told)
    }

    /// Waits for a block. A ring whose interface went down goes on when it comes back; one whose interface was removed does
    /// not. The kernel tells of the first alone, which comes before the second.
    fn wait(&mut self) -> std::io::Result<()> {
        if let Err(error) = self.ring.wait(WAIT) {
            tracing::warn!(interface = self.interface.name, %error, "The interface tells of an error; the ring stays open.");
            self.is_down = true;
        }
        if self.is_down && !interface::is_there(self.interface.index) {
            let gone = format!("interface {} is gone", self.interface.name);
            return Err(std::io::Error::new(ErrorKind::NotFound, gone));
        }
        Ok(())
    }
}

/// A time, and its place in the order.
type At = (Timestamp, u64);

fn datagram(udp: &Udp<'_>, start: u32, (time, order): At) -> Datagram {
    Datagram {
        start,
        len: udp.payload.len() as u32,
        cut: udp.cut,
        source: udp.source,
        port: udp.port,
        time,
        order,
    }
}

impl Source for Packet {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        let is_late = |at| time::monotonic().since(at) > DRAIN;
        if let Some(kept) = self.kept_back.take() {
            self.deliver(kept, batch);
        }
        if self.stopping.is_some_and(is_late) && batch.datagrams.is_empty() {
            tracing::warn!(
                interface = self.interface.name,
                "The ring was still not empty; what is in it is lost."
            );
            return Ok(self.nothing(batch));
        }
        let mut block = self.ring.take();
        if block.is_none() && batch.datagrams.is_empty() {
            if let Err(error) = self.wait() {
                return self.give_up_fragments(batch).ok_or(error);
            }
            block = self.ring.take();
        }
        let Some(lease) = block else {
            let some = !batch.datagrams.is_empty();
            return Ok(if some {
                Received::Some
            } else {
                self.nothing(batch)
            });
        };
        self.fill(batch, lease);
        self.blocks = self.blocks.wrapping_add(1);
        if self.blocks.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        Ok(Received::Some)
    }

    fn under_pressure(&mut self) -> bool {
        self.ring.is_half_full()
    }

    fn runs_away(&self) -> bool {
        true
    }

    /// Lets nothing new into the ring, and reads what lies in it.
    fn stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(time::monotonic());
            if self.ring.refuse().is_err() {
                tracing::warn!(
                    interface = self.interface.name,
                    "Could not close the ring to new packets."
                );
            }
        }
    }

    fn new_batch(&self, receiver: u16) -> Batch {
        Batch::new(receiver, BLOCK_PACKETS, ARENA)
    }

    fn reclaim(&mut self, batch: &mut Batch) {
        if let Some(lease) = batch.take_lease() {
            self.ring.give(lease);
        }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        self.look();
    }
}
