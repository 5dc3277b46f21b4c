//! The workers' side: packets in, bundles of serialised runs out.
//!
//! Takes: kept packets of one worker, through [`Sink`]. Gives: bundles to the writers, and the
//! worker's watermark. Holds: never blocks, never allocates for a packet once buffers are in
//! circulation, reads no clock in `keep` and at most one in `progress`; the watermark that writers see
//! never passes a packet that is still here.
//!
//! The watermark is a number that writers read, not a message: it is stored after what it speaks of
//! was sent, and a writer reads it before it empties its channel. A worker that keeps nothing sends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use crossbeam_utils::CachePadded;

use crate::packet::{DropReason, Peer};
use crate::sink::capture::pool::{LARGEST, Pool, class_for};
use crate::sink::capture::run::{Bundle, RECORD_ROOM, Run};
use crate::sink::{Kept, Sink};
use crate::spool::Target;
use crate::time::{self, Monotonic};

/// A bundle is sent when so many bytes are open (less when the budget is small).
const SEND_AT: usize = 256 << 10;

/// The longest that a packet waits here while the worker goes on.
const SEND_AFTER: Duration = Duration::from_millis(50);

/// The same when the worker is about to sleep: long enough to gather a few packets of a slow flow.
const SEND_AFTER_IDLE: Duration = Duration::from_millis(10);

/// What all workers and writers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool: Pool,
    /// By worker: no record below this order is still to be sent.
    watermarks: Vec<CachePadded<AtomicU64>>,
    send_at: usize,
}

impl Shared {
    pub(super) fn new(buffer: u64, workers: usize) -> Self {
        let share = usize::try_from(buffer).unwrap_or(usize::MAX) / (8 * workers.max(1));
        Self {
            pool: Pool::new(buffer),
            watermarks: (0..workers).map(|_| CachePadded::default()).collect(),
            send_at: SEND_AT.min(share),
        }
    }

    /// No worker will send a record below this.
    pub(super) fn watermark(&self) -> u64 {
        let told = self.watermarks.iter().map(|w| w.load(Ordering::Acquire));
        told.min().unwrap_or(u64::MAX)
    }

    /// Bytes that are worth a write.
    pub(super) fn chunk(&self) -> usize {
        self.send_at
    }
}

/// A peer, and which writers know it.
#[derive(Debug)]
struct Acquaintance {
    peer: Arc<Peer>,
    writers: u64,
}

/// One worker's side of the capture sink. When it is dropped, what it holds is sent.
#[derive(Debug)]
pub struct Capture {
    worker: u16,
    shared: Arc<Shared>,
    writers: Vec<Sender<Bundle>>,
    /// Open runs by [`Target::id`].
    runs: Vec<Option<Run>>,
    /// Which of them are open.
    open: Vec<u32>,
    /// By [`Target::id`]: the class of buffer that its last run needed.
    hints: Vec<u8>,
    /// By [`Peer::id`].
    peers: Vec<Option<Acquaintance>>,
    /// By writer: peers to introduce with the next bundle.
    introduce: Vec<Vec<Arc<Peer>>>,
    /// Bytes in open runs.
    held: usize,
    /// Lowest order in open runs.
    oldest: u64,
    /// When `progress` first saw what is now open.
    since: Option<Monotonic>,
    /// What was last stored as the watermark.
    told: u64,
    /// A packet was refused: what is open must go, so that memory comes back.
    refused: bool,
}

impl Capture {
    pub(super) fn new(worker: u16, shared: Arc<Shared>, writers: Vec<Sender<Bundle>>) -> Self {
        Self {
            worker,
            introduce: vec![Vec::new(); writers.len()],
            shared,
            writers,
            runs: Vec::new(),
            open: Vec::new(),
            hints: Vec::new(),
            peers: Vec::new(),
            held: 0,
            oldest: u64::MAX,
            since: None,
            told: 0,
            refused: false,
        }
    }

    /// The open run of a target, with room for a record of `bytes` bytes.
    fn run(&mut self, target: &Arc<Target>, bytes: usize) -> Option<&mut Run> {
        let index = target.id as usize;
        if index >= self.runs.len() {
            self.runs.resize_with(index + 1, || None);
            self.hints.resize(index + 1, 0);
        }
        let fits = |run: &Run| run.buffer.has_room(bytes, 1);
        match self.runs.get(index)?.as_ref().map(fits) {
            Some(true) => {}
            Some(false) => self.grow(target, bytes)?,
            None => self.open(target, bytes)?,
        }
        self.runs.get_mut(index)?.as_mut()
    }

    /// Opens a run of the size that the last one had, or of the smallest that will do.
    fn open(&mut self, target: &Arc<Target>, bytes: usize) -> Option<()> {
        let index = target.id as usize;
        let least = class_for(bytes, 1)?;
        let hint = self.hints.get(index).copied().unwrap_or(0).max(least);
        let pool = &self.shared.pool;
        let buffer = pool.take(hint).or_else(|| pool.take(least))?;
        *self.runs.get_mut(index)? = Some(Run::new(Arc::clone(target), buffer));
        self.open.push(target.id);
        Some(())
    }

    /// Moves a full run into the next larger buffer; one that is as large as can be is sent.
    fn grow(&mut self, target: &Arc<Target>, bytes: usize) -> Option<()> {
        let run = self.runs.get_mut(target.id as usize)?.as_mut()?;
        if run.buffer.class() == LARGEST {
            self.send();
            return self.open(target, bytes);
        }
        let need = class_for(run.buffer.bytes.len() + bytes, 1).unwrap_or(LARGEST);
        let class = need.max(run.buffer.class() + 1);
        let larger = Run::new(Arc::clone(target), self.shared.pool.take(class)?);
        let smaller = std::mem::replace(run, larger);
        run.append(&smaller, 0);
        run.sorted = smaller.sorted;
        self.shared.pool.give(smaller.buffer);
        if run.buffer.has_room(bytes, 1) {
            return Some(());
        }
        self.send();
        self.open(target, bytes)
    }

    /// Sees to it that the writer of `target` knows `peer`.
    fn introduce(&mut self, target: &Target, peer: &Arc<Peer>) {
        let (index, writer) = (peer.id as usize, target.id as usize % self.writers.len());
        if index >= self.peers.len() {
            self.peers.resize_with(index + 1, || None);
        }
        let Some(slot) = self.peers.get_mut(index) else {
            return;
        };
        let known = slot.get_or_insert_with(|| Acquaintance {
            peer: Arc::clone(peer),
            writers: 0,
        });
        if known.writers & 1 << writer == 0 {
            known.writers |= 1 << writer;
            if let Some(list) = self.introduce.get_mut(writer) {
                list.push(Arc::clone(peer));
            }
        }
    }

    /// Sends all open runs.
    fn send(&mut self) {
        let count = self.writers.len();
        for writer in 0..count {
            let runs = self.collect(writer, count);
            if !runs.is_empty() {
                self.send_to(writer, runs);
            }
        }
        self.open.clear();
        (self.held, self.oldest, self.since) = (0, u64::MAX, None);
        self.refused = false;
    }

    fn collect(&mut self, writer: usize, writers: usize) -> Vec<Run> {
        let mine = |id: &&u32| **id as usize % writers == writer;
        let mut collected = Vec::with_capacity(self.open.iter().filter(mine).count());
        for &id in self.open.iter().filter(mine) {
            let run = self.runs.get_mut(id as usize).and_then(Option::take);
            let Some(run) = run else { continue };
            let class = class_for(run.buffer.bytes.len(), run.buffer.marks.len());
            if let Some(hint) = self.hints.get_mut(id as usize) {
                *hint = class.unwrap_or(LARGEST);
            }
            collected.push(run);
        }
        collected
    }

    fn send_to(&mut self, writer: usize, runs: Vec<Run>) {
        let peers = self.introduce.get_mut(writer).map(std::mem::take);
        let bundle = Bundle {
            worker: self.worker,
            runs,
            peers: peers.unwrap_or_default(),
        };
        let Some(sender) = self.writers.get(writer) else {
            return;
        };
        if let Err(refused) = sender.send(bundle) {
            self.lose(refused.into_inner().runs);
        }
    }

    /// The writer has gone: the shutdown deadline has passed.
    fn lose(&self, runs: Vec<Run>) {
        for run in runs {
            let marks = &run.buffer.marks;
            run.target
                .ledger
                .add_dropped(DropReason::Shutdown, marks.len() as u64);
            for mark in marks {
                if let Some(Some(known)) = self.peers.get(mark.peer as usize) {
                    known.peer.ledger.add_dropped(DropReason::Shutdown, 1);
                }
            }
            self.shared.pool.give(run.buffer);
        }
    }

    fn tell(&mut self, watermark: u64) {
        if watermark > self.told {
            self.told = watermark;
            if let Some(mine) = self.shared.watermarks.get(usize::from(self.worker)) {
                mine.store(watermark, Ordering::Release);
            }
        }
    }

    fn is_due(&mut self, idle: bool) -> bool {
        let now = time::monotonic();
        let waited = now.since(*self.since.get_or_insert(now));
        let longest = if idle { SEND_AFTER_IDLE } else { SEND_AFTER };
        self.refused || waited >= longest
    }
}

impl Sink for Capture {
    fn keep(
        &mut self,
        target: &Arc<Target>,
        peer: &Arc<Peer>,
        packet: Kept<'_>,
    ) -> Result<(), DropReason> {
        let Some(run) = self.run(target, packet.frame.len() + RECORD_ROOM) else {
            self.refused = true;
            return Err(DropReason::BufferFull);
        };
        let len = run.push(peer.id, &packet);
        self.held += len;
        self.oldest = self.oldest.min(packet.order);
        self.introduce(target, peer);
        if self.held >= self.shared.send_at {
            self.send();
        }
        Ok(())
    }

    fn progress(&mut self, watermark: u64, idle: bool) {
        if !self.open.is_empty() && self.is_due(idle) {
            self.send();
        }
        self.tell(watermark.min(self.oldest));
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.send();
        self.tell(u64::MAX);
    }
}
