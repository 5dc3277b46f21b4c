//! The workers' side: packets in, bundles of serialised runs out.
//!
//! Takes: kept packets of one worker, through [`Sink`]. Gives: bundles to the writers, and the
//! worker's watermark. Holds: never blocks while packets run away (of files it waits for the writer), never
//! allocates for a packet once buffers are in circulation, reads no clock in `keep` and at most one in `progress`; the
//! watermark that writers see never passes a packet that is still here.
//!
//! The watermark is a number that writers read, not a message: it is stored after what it speaks of
//! was sent, and a writer reads it before it empties its channel. A worker that keeps nothing sends nothing.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::packet::{DropReason, Peer};
use crate::sink::capture::pool::{LARGEST, class_for};
use crate::sink::capture::run::{Bundle, RECORD_ROOM, Run};
use crate::sink::capture::share::Holder;
use crate::sink::capture::shared::Shared;
use crate::sink::{Kept, Sink};
use crate::spool::Target;
use crate::time::{self, Monotonic};

/// The longest that a packet waits here while the worker goes on.
const SEND_AFTER: Duration = Duration::from_millis(100);

/// The same when the worker is about to sleep. Each bundle wakes a writer, which at a thousand packets a second costs as much as they do:
/// long enough to gather a good few.
const SEND_AFTER_IDLE: Duration = Duration::from_millis(50);

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
    /// Runs that are as large as can be and go with the next bundle.
    full: Vec<Run>,
    /// By [`Target::id`]: the class of buffer that its last run needed.
    hints: Vec<u8>,
    /// By [`Peer::id`]: whether it is in the register.
    met: Vec<bool>,
    /// Bytes in open and full runs, and how many are worth a bundle.
    held: usize,
    chunk: usize,
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
        let chunk = shared.bundle();
        Self {
            worker,
            shared,
            chunk,
            writers,
            runs: Vec::new(),
            open: Vec::new(),
            full: Vec::new(),
            hints: Vec::new(),
            met: Vec::new(),
            held: 0,
            oldest: u64::MAX,
            since: None,
            told: 0,
            refused: false,
        }
    }

    /// The open run of a target, with room for a record of `bytes` bytes of `peer`.
    fn run(
        &mut self,
        target: &Arc<Target>,
        peer: &Peer,
        bytes: usize,
    ) -> Result<&mut Run, DropReason> {
        let index = target.id as usize;
        let at_hand = self.runs.get(index).and_then(Option::as_ref);
        let is_good = |run: &Run| run.buffer.has_room(bytes, 1) && self.may_share(run, peer);
        if !at_hand.is_some_and(is_good) {
            self.make_room(target, peer, bytes)?;
        }
        let run = self.runs.get_mut(index).and_then(Option::as_mut);
        run.ok_or(DropReason::BufferFull)
    }

    /// Whether packets of `peer` may be in the buffer of a run. While memory is short, one that a source holds is for that source.
    fn may_share(&self, run: &Run, peer: &Peer) -> bool {
        let (holder, pool) = (run.buffer.holder(), &self.shared.pool);
        let own = match holder {
            Holder::Session { .. } => return true,
            _ if !pool.is_tight() => return true,
            Holder::Source(_) => pool.source(peer.source),
            Holder::Member { .. } => pool.member(run.target.id, peer.source),
        };
        own == holder
    }

    /// Sees to it that a target has an open run, with room for a record of `bytes` bytes of `peer`.
    fn make_room(
        &mut self,
        target: &Arc<Target>,
        peer: &Peer,
        bytes: usize,
    ) -> Result<(), DropReason> {
        let index = target.id as usize;
        if index >= self.runs.len() {
            self.runs.resize_with(index + 1, || None);
            self.hints.resize(index + 1, 0);
        }
        let at_hand = self.runs.get(index).and_then(Option::as_ref);
        let grows =
            at_hand.is_some_and(|run| run.buffer.class() < LARGEST && self.may_share(run, peer));
        match grows && self.grow(target, bytes) {
            true => Ok(()),
            false => self.open(target, peer, bytes),
        }
    }

    /// Opens a run of the size that the last one had, or of the smallest that will do. One that is open is laid aside.
    fn open(&mut self, target: &Arc<Target>, peer: &Peer, bytes: usize) -> Result<(), DropReason> {
        let index = target.id as usize;
        let least = class_for(bytes, 1).ok_or(DropReason::BufferFull)?;
        let hint = self.hints.get(index).copied().unwrap_or(0).max(least);
        let place = self.runs.get_mut(index).ok_or(DropReason::BufferFull)?;
        // behind one that is as large as can be comes another
        let is_full = place
            .as_ref()
            .is_some_and(|run| run.buffer.class() == LARGEST);
        let wanted = if is_full { LARGEST } else { hint };
        let pool = &self.shared.pool;
        let holder = match target.is_unclaimed() {
            true => pool.source(peer.source),
            false => pool.session(target.id, peer.source),
        };
        let buffer = pool.take(wanted, holder);
        let buffer = buffer.or_else(|_| pool.take(least, holder));
        // a session that has its part leaves a little to those of its sources that send little
        let buffer = buffer.or_else(|reason| match (holder, reason) {
            (Holder::Session { .. }, DropReason::OverShare) => {
                let member = pool.member(target.id, peer.source);
                pool.take(least, member).map_err(|_| reason)
            }
            _ => Err(reason),
        })?;
        match place.replace(Run::new(Arc::clone(target), buffer)) {
            Some(full) => self.full.push(full),
            None => self.open.push(target.id),
        }
        Ok(())
    }

    /// Moves a full run into a larger buffer; false where that can't be had or would not do.
    fn grow(&mut self, target: &Arc<Target>, bytes: usize) -> bool {
        let place = self.runs.get_mut(target.id as usize);
        let Some(run) = place.and_then(Option::as_mut) else {
            return false;
        };
        let need = class_for(run.buffer.bytes.len() + bytes, 1).unwrap_or(LARGEST);
        let class = need.max(run.buffer.class() + 1);
        let Ok(larger) = self.shared.pool.take(class, run.buffer.holder()) else {
            return false;
        };
        let smaller = std::mem::replace(run, Run::new(Arc::clone(target), larger));
        run.append(&smaller, 0);
        run.sorted = smaller.sorted;
        self.shared.pool.give(smaller.buffer);
        run.buffer.has_room(bytes, 1)
    }

    /// Sees to it that writers find `peer`.
    fn meet(&mut self, peer: &Arc<Peer>) {
        let index = peer.id as usize;
        if index >= self.met.len() {
            self.met.resize(index + 1, false);
        }
        if let Some(met) = self.met.get_mut(index).filter(|met| !**met) {
            *met = true;
            self.shared.peers.meet(peer);
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
        self.chunk = self.shared.bundle();
    }

    fn collect(&mut self, writer: usize, writers: usize) -> Vec<Run> {
        let mine = |id: &&u32| **id as usize % writers == writer;
        let open = self.open.iter().filter(mine).count();
        let mut collected = Vec::with_capacity(self.full.len() + open);
        let full = |run: &mut Run| mine(&&run.target.id);
        collected.extend(self.full.extract_if(.., full));
        for &id in self.open.iter().filter(mine) {
            let run = self.runs.get_mut(id as usize).and_then(Option::take);
            let Some(run) = run else { continue };
            let class = class_for(run.buffer.bytes.len(), run.buffer.marks.len());
            let filled = collected.iter().any(|r: &Run| r.target.id == id);
            if let Some(hint) = self.hints.get_mut(id as usize) {
                *hint = class.filter(|_| !filled).unwrap_or(LARGEST);
            }
            collected.push(run);
        }
        collected
    }

    fn send_to(&self, writer: usize, runs: Vec<Run>) {
        let bundle = Bundle {
            worker: self.worker,
            runs,
            shared: Arc::clone(&self.shared),
        };
        if let Some(sender) = self.writers.get(writer) {
            // A writer that has gone leaves the bundle to count itself.
            let _ = sender.send(bundle);
        }
    }

    fn tell(&mut self, watermark: u64) {
        if watermark > self.told {
            self.told = watermark;
            self.shared.tell(self.worker, watermark);
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
        self.keep_all(target, peer, &[packet])
            .map_err(|(_, why)| why)
    }

    fn keep_all(
        &mut self,
        target: &Arc<Target>,
        peer: &Arc<Peer>,
        packets: &[Kept<'_>],
    ) -> Result<(), (usize, DropReason)> {
        let mut rest = packets;
        while let Some(first) = rest.first() {
            let enough = self.chunk.saturating_sub(self.held);
            let room = first.frame.len() + RECORD_ROOM;
            let run = match self.run(target, peer, room) {
                Ok(run) => run,
                Err(reason) => {
                    self.refused = true;
                    return Err((packets.len() - rest.len(), reason));
                }
            };
            let is_other = run.peer() != peer.id;
            let pushed = run.push(peer.id, rest, enough);
            self.held += pushed.bytes;
            self.oldest = self.oldest.min(pushed.oldest);
            if is_other {
                self.meet(peer);
            }
            if self.held >= self.chunk {
                self.send();
            }
            rest = rest.get(pushed.packets..).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, unbounded};

    use super::*;
    use crate::sink::capture::tests::{peer, target};
    use crate::time::Timestamp;

    fn capture(buffer: u64) -> (Capture, Receiver<Bundle>, Arc<Shared>) {
        let shared = Arc::new(Shared::new(buffer, 1, true));
        let (sender, receiver) = unbounded();
        (
            Capture::new(0, Arc::clone(&shared), vec![sender]),
            receiver,
            shared,
        )
    }

    fn kept(frame: &[u8], order: u64) -> Kept<'_> {
        Kept {
            frame,
            origlen: frame.len() as u32,
            time: Timestamp::from_nanos(order),
            order,
        }
    }

    fn give_back(mut bundle: Bundle, pool: &crate::sink::capture::pool::Pool) -> usize {
        let runs = std::mem::take(&mut bundle.runs);
        let bytes = runs.iter().map(|r| r.buffer.bytes.len()).sum();
        runs.into_iter().for_each(|run| pool.give(run.buffer));
        bytes
    }

    #[test]
    fn a_steady_flow_sends_large_bundles_and_allocates_no_more_buffers() {
        let (mut capture, bundles, shared) = capture(64 << 20);
        let (targets, peer, frame) = ([target(0), target(1)], peer(0), [7; 700]);
        let (mut made, mut sent, mut bytes) = (0, 0, 0);
        for n in 0..40_000 {
            let to = &targets[usize::from(n % 10 == 0)];
            capture
                .keep(to, &peer, kept(&frame, n))
                .expect("there is room");
            capture.progress(n + 1, false);
            for bundle in bundles.try_iter() {
                (sent, bytes) = (sent + 1, bytes + give_back(bundle, &shared.pool));
            }
            if n == 10_000 {
                made = shared.pool.made();
            }
        }
        assert!((2..20).contains(&made), "{made} buffers");
        assert_eq!(shared.pool.made(), made);
        assert!(bytes / sent > 64 << 10, "{bytes} bytes in {sent} bundles");
    }

    #[test]
    fn what_does_not_fit_is_told_with_how_many_were_taken_before_it() {
        let (mut capture, bundles, _shared) = capture(1 << 20);
        let (target, peer, frame) = (target(0), peer(0), [7; 9_000]);
        let many: Vec<_> = (0..64).map(|n| kept(&frame, n)).collect();
        let mut taken = 0;
        let (last, reason) = loop {
            match capture.keep_all(&target, &peer, &many) {
                Ok(()) => taken += many.len(),
                Err(told) => break told,
            }
        };
        drop(capture);
        let runs = bundles.iter().flat_map(|mut b| std::mem::take(&mut b.runs));
        let sent: usize = runs.map(|run| run.buffer.marks.len()).sum();
        assert!((20..120).contains(&sent), "{sent}");
        assert_eq!((sent, reason), (taken + last, DropReason::BufferFull));
    }

    #[test]
    fn a_watermark_never_passes_a_packet_that_was_not_sent() {
        let (mut capture, bundles, shared) = capture(64 << 20);
        capture.progress(5, false);
        assert_eq!(
            shared.watermark(),
            5,
            "without packets it is passed on as it is"
        );
        capture
            .keep(&target(0), &peer(0), kept(&[0; 60], 8))
            .expect("there is room");
        capture.progress(100, false);
        assert_eq!((shared.watermark(), bundles.len()), (8, 0));
        std::thread::sleep(SEND_AFTER_IDLE);
        capture.progress(100, true);
        assert_eq!((shared.watermark(), bundles.len()), (100, 1));
        drop(capture);
        assert_eq!((shared.watermark(), bundles.len()), (u64::MAX, 1));
    }

    #[test]
    fn a_packet_of_a_busy_worker_is_sent_in_time() {
        let (mut capture, bundles, _) = capture(64 << 20);
        capture
            .keep(&target(0), &peer(0), kept(&[0; 60], 8))
            .expect("there is room");
        capture.progress(9, false);
        std::thread::sleep(SEND_AFTER);
        capture.progress(10, false);
        assert_eq!(bundles.len(), 1);
    }
}
