//! Writing what is settled: from a queue into files.
//!
//! Takes: a series, and the watermark. Gives: its records in files, its finished files to a closer.
//! Holds: each record that leaves the queue is counted once, in the ledgers of its session and
//! its peer, as written (after the write succeeded) or as dropped (with the reason); a disk that refuses
//! is a state that is told and tried again, never a crash.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::packet::DropReason;
use crate::sink::capture::closed::Cause;
use crate::sink::capture::closer::Job;
use crate::sink::capture::handover::Handover;
use crate::sink::capture::peers::Peers;
use crate::sink::capture::plan::{Means, Outcome, Plan};
use crate::sink::capture::queue::{Heap, Stretch};
use crate::sink::capture::run::{Mark, Run};
use crate::sink::capture::series::{self, Current, More, Series};
use crate::sink::capture::shared::Shared;
use crate::sink::capture::stats::{Place, Stats};
use crate::spool::{Compression, Error, Format, Io, Partial, Staging, Target};
use crate::time;

/// After a file could not be opened, the next attempt is made so much later.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes that are worth a write into the page cache: what waits for more is memory.
const BUFFERED_WRITE: usize = 256 << 10;

/// What a writer needs to write.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) stats: Arc<Stats>,
    handover: Handover,
    /// Whether a record of lower order than the last is worth telling.
    ordered: bool,
    means: Means,
    staging: Staging,
    peers: Peers,
    plan: Plan,
    heap: Heap,
    block: Vec<u8>,
    /// Numbers of the targets whose last attempt to write failed.
    failing: BTreeSet<u32>,
}

impl Desk {
    pub(super) fn new(
        number: usize,
        shared: Arc<Shared>,
        stats: Arc<Stats>,
        closers: Vec<Sender<Job>>,
        ordered: bool,
        means: Means,
    ) -> Self {
        Self {
            number,
            handover: Handover::new(closers, Arc::clone(&stats)),
            shared,
            stats,
            ordered,
            staging: Staging::new(means.encoders),
            means,
            peers: Peers::default(),
            plan: Plan::default(),
            heap: Heap::new(),
            block: Vec::new(),
            failing: BTreeSet::new(),
        }
    }

    /// Bytes of a series that are worth a write. The page cache takes small ones as well as large ones; a device does not.
    pub(super) fn worth_a_write(&self) -> usize {
        match self.means.io {
            Io::Buffered => self.shared.chunk().min(BUFFERED_WRITE),
            Io::Direct => self.shared.chunk(),
        }
    }

    /// How large a write may be: one that is compressed first is lost as a whole when it fails.
    fn unit(&self, target: &Target) -> Io {
        match target.settings.compression {
            Compression::None => self.means.io,
            Compression::Zstd | Compression::Gzip => Io::Buffered,
        }
    }

    /// Writes what is settled of a series.
    pub(super) fn flush(&mut self, series: &mut Series, watermark: u64) {
        if !series.queue.has_settled(watermark) {
            return;
        }
        self.prepare(series);
        series.queue.begin(watermark, &mut self.heap);
        while let Some(stretch) = series.queue.next(watermark, &mut self.heap) {
            self.lay(series, stretch);
        }
        self.commit(series);
        series.queue.sweep(&self.shared.pool);
        if let Some(current) = &mut series.current {
            current.partial.write_behind();
        }
        series.weigh(&self.stats.weights);
    }

    /// Decides whether this flush can write at all, and opens the file again where it was closed.
    fn prepare(&mut self, series: &mut Series) {
        let now = time::monotonic();
        series.gave_up = None;
        if self.stats.must_stop(now) {
            series.gave_up = Some(DropReason::Shutdown);
        } else if now < series.retry_at {
            series.gave_up = Some(DropReason::WriteFailed);
        } else if series.current.as_ref().is_some_and(|c| c.partial.is_gone()) {
            self.forget(series);
        } else {
            self.wake(series);
        }
    }

    fn wake(&mut self, series: &mut Series) {
        let Some(current) = series.current.as_mut() else {
            return;
        };
        if current.partial.is_open() {
            return;
        }
        match current.partial.wake() {
            Ok(()) => {
                self.stats.open_files.add(1);
            }
            Err(error) => self.fail_to_open(series, &error),
        }
    }

    /// Somebody removed the file that was being written.
    fn forget(&mut self, series: &mut Series) {
        let Some(current) = series.current.take() else {
            return;
        };
        self.note_descriptor_gone(&current);
        tracing::error!(
            path = %current.partial.path().display(),
            packets = current.packets,
            "a capture file was removed while it was being written; its packets are gone, a new file is begun"
        );
        self.stats.lose_file(current.partial.path().clone());
    }

    fn note_descriptor_gone(&self, current: &Current) {
        if current.partial.is_open() {
            self.stats.open_files.sub(1);
        }
    }

    /// Plans records: all at once where one file takes them as they lie, else one by one.
    fn lay(&mut self, series: &mut Series, mut stretch: Stretch) {
        while stretch.from < stretch.to {
            if self.lay_together(series, stretch).is_some() {
                return;
            }
            // The first record makes the file.
            let alone = series.current.is_none() && series.gave_up.is_none();
            let end = if alone { stretch.from + 1 } else { stretch.to };
            for i in stretch.from..end {
                self.lay_one(series, stretch.run, i);
            }
            stretch.from = end;
        }
    }

    /// Plans records that lie together and go into the open file, if that is what they do.
    fn lay_together(&mut self, series: &mut Series, stretch: Stretch) -> Option<()> {
        let Stretch { run, from, to } = stretch;
        let current = series
            .current
            .as_mut()
            .filter(|_| series.gave_up.is_none())?;
        let laid = series.queue.run(run)?;
        let marks = laid.marks(from, to);
        let highest = marks.last()?.order;
        let place = laid.together(from, to)?;
        let more = More {
            packets: marks.len() as u64,
            bytes: u64::from(place.1),
            last: laid.times(from, to).last,
            slots: 0,
        };
        let settings = &series.target.settings;
        let early = marks.first()?.order < series.highest;
        if early || current.refuses(&more, &self.plan, settings).is_some() {
            return None;
        }
        let numbered = match settings.format {
            Format::Pcap => self.meet(current, laid, from, to),
            Format::Pcapng => current.slots.numbers(laid, from, to)?,
        };
        if numbered {
            series.number(stretch);
        }
        series.highest = highest;
        self.plan.add(stretch, place);
        if self.plan.is_full(self.unit(&series.target)) {
            self.commit(series);
        }
        Some(())
    }

    /// Sees to it that a pcap file, which says nothing of them, has met the peers of some records.
    fn meet(&mut self, current: &mut Current, run: &Run, from: usize, to: usize) -> bool {
        let mut meet = |id| {
            if current.slots.find(id).is_none() {
                self.plan.lead(&[], current.slots.len());
                let peer = self.peers.get(id, &self.shared.peers).cloned();
                current.slots.add(id, peer);
            }
        };
        match run.shares(from, to) {
            Some(shares) => shares.iter().for_each(|share| meet(share.peer)),
            None => run.marks(from, to).iter().for_each(|mark| meet(mark.peer)),
        }
        false
    }

    fn lay_one(&mut self, series: &mut Series, run: usize, at: usize) {
        let Some(laid) = series.queue.run(run) else {
            return;
        };
        let Some(mark) = laid.marks(at, at + 1).first().copied() else {
            return;
        };
        let len = laid.len_of(&mark);
        self.watch_order(series, &mark);
        if !self.place(series, run, at, &mark, len) {
            let reason = series.gave_up.unwrap_or(DropReason::WriteFailed);
            self.lose(series, &mark, reason);
        }
    }

    fn watch_order(&self, series: &mut Series, mark: &Mark) {
        if mark.order < series.highest && self.ordered {
            self.stats.late.add(1);
        }
        series.highest = series.highest.max(mark.order);
    }

    /// Plans a record, in the file that it belongs into. False when there is none.
    fn place(&mut self, series: &mut Series, run: usize, at: usize, mark: &Mark, len: u32) -> bool {
        self.turn_page(series, mark, len);
        if series.gave_up.is_some() || !self.has_file(series, mark) {
            return false;
        }
        let settings = &series.target.settings;
        let Some(current) = series.current.as_mut() else {
            return false;
        };
        let slot = current.slots.find(mark.peer).unwrap_or_else(|| {
            let peer = self.peers.get(mark.peer, &self.shared.peers).cloned();
            series::interface(&mut self.block, peer.as_ref(), settings);
            self.plan.lead(&self.block, current.slots.len());
            self.block.clear();
            current.slots.add(mark.peer, peer)
        });
        if let Some(run) = series.queue.run_mut(run) {
            run.set_interface(at, slot);
        }
        let (from, to) = (at, at + 1);
        self.plan.add(Stretch { run, from, to }, (mark.start, len));
        if self.plan.is_full(self.unit(&series.target)) {
            self.commit(series);
        }
        true
    }

    /// Finishes the file when the record belongs into the next one.
    fn turn_page(&mut self, series: &mut Series, mark: &Mark, len: u32) {
        let settings = &series.target.settings;
        let Some(current) = series.current.as_mut() else {
            return;
        };
        if current.slots.find(mark.peer).is_none() {
            let peer = self.peers.get(mark.peer, &self.shared.peers);
            series::interface(&mut self.block, peer, settings);
        }
        let lead = self.block.len();
        self.block.clear();
        let more = More {
            packets: 1,
            bytes: lead as u64 + u64::from(len),
            last: mark.time,
            slots: usize::from(lead > 0),
        };
        if let Some(cause) = current.refuses(&more, &self.plan, settings) {
            self.commit(series);
            self.seal(series, cause);
        }
    }

    fn has_file(&mut self, series: &mut Series, mark: &Mark) -> bool {
        if series.current.is_some() {
            return true;
        }
        match self.create(series, mark) {
            Ok(current) => {
                self.stats.open_files.add(1);
                series.current = Some(current);
                true
            }
            Err(error) => {
                self.fail_to_open(series, &error);
                false
            }
        }
    }

    fn create(&mut self, series: &mut Series, mark: &Mark) -> Result<Current, Error> {
        let mut partial = Partial::create(
            series.next_name(mark.time),
            self.means.io,
            series.target.settings.level,
            &self.means.ours,
        )?;
        let header = series.header();
        if let Err(short) = partial.append(&mut [IoSlice::new(&header)], &mut self.staging) {
            let path = partial.path().clone();
            partial.discard();
            let source = short.error;
            return Err(Error::Write { path, source });
        }
        series.seq = partial.seq();
        Ok(Current::new(partial, mark.time, &series.target.settings))
    }

    fn fail_to_open(&mut self, series: &mut Series, error: &Error) {
        series.retry_at = time::monotonic().plus(RETRY_AFTER);
        self.fail(series, error);
    }

    fn fail(&mut self, series: &mut Series, error: &Error) {
        series.gave_up = Some(DropReason::WriteFailed);
        self.failing.insert(series.target.id);
        self.stats
            .trouble(Place::Writer(self.number), error.to_string());
    }

    /// Takes note that a target can be written to.
    pub(super) fn well(&mut self, target: u32) {
        if self.failing.remove(&target) && self.failing.is_empty() {
            self.stats.well(Place::Writer(self.number));
        }
    }

    /// The targets whose last attempt to write failed.
    pub(super) fn failing(&self) -> &BTreeSet<u32> {
        &self.failing
    }

    /// Writes what is planned, and counts it.
    fn commit(&mut self, series: &mut Series) {
        if self.plan.records().is_empty() {
            return;
        }
        let Some(current) = series.current.as_mut() else {
            return;
        };
        let result = self
            .plan
            .write(&series.queue, &mut current.partial, &mut self.staging);
        let outcome = match &result {
            Ok(()) => self.plan.all(current.slots.len()),
            Err(short) => {
                let (queue, slots) = (&series.queue, &mut current.slots);
                let outcome = self.plan.whole(short.written, queue, slots);
                current.partial.keep(outcome.bytes);
                outcome
            }
        };
        self.count(series, &outcome);
        self.plan.clear();
        match result {
            Ok(()) => self.go_on(series),
            Err(short) => self.fail_to_write(series, short.error),
        }
        if std::mem::take(&mut series.is_hopeless) {
            self.seal(series, Cause::WriteFailed);
        }
        self.keep_going(series);
    }

    /// After a write that succeeded. A file that lost its compression to one that failed is done now.
    fn go_on(&mut self, series: &mut Series) {
        self.well(series.target.id);
        let current = series.current.as_ref();
        if current.is_some_and(|c| c.partial.is_stunted()) {
            self.seal(series, Cause::WriteFailed);
        }
    }

    fn fail_to_write(&mut self, series: &mut Series, source: std::io::Error) {
        let Some(current) = &series.current else {
            return;
        };
        let path = current.partial.path().clone();
        series.is_hopeless = series::is_hopeless(&source);
        self.fail(series, &Error::Write { path, source });
    }

    fn count(&mut self, series: &mut Series, outcome: &Outcome) {
        let Some(current) = series.current.as_mut() else {
            return;
        };
        current.slots.truncate(outcome.slots);
        let mut left = outcome.packets;
        for planned in self.plan.records() {
            let Some(run) = series.queue.run(planned.run) else {
                continue;
            };
            let end = planned.to.min(planned.from + left);
            left -= end - planned.from;
            if end > planned.from {
                current.count(run, planned.from, end);
            }
            for mark in run.marks(end, planned.to) {
                series.target.ledger.add_dropped(DropReason::WriteFailed, 1);
                self.shared.blame(mark, DropReason::WriteFailed);
            }
        }
        let (packets, bytes) = current.slots.settle();
        series.target.ledger.add_written(packets, bytes);
    }

    fn lose(&self, series: &Series, mark: &Mark, reason: DropReason) {
        series.target.ledger.add_dropped(reason, 1);
        self.shared.blame(mark, reason);
    }

    /// Between two writes: shows that the thread is alive, and stops when the time is up.
    fn keep_going(&self, series: &mut Series) {
        let now = time::monotonic();
        self.stats.beat(self.number, now);
        if self.stats.must_stop(now) {
            series.gave_up = Some(DropReason::Shutdown);
        }
    }

    /// Finishes the file of a series, and hands it to a closer.
    pub(super) fn seal(&mut self, series: &mut Series, cause: Cause) {
        let Some(mut current) = series.current.take() else {
            return;
        };
        self.note_descriptor_gone(&current);
        if current.packets == 0 {
            current.partial.discard();
            return;
        }
        let bytes = current.statistics(&mut self.peers, &series.target.settings);
        current.append_statistics(&bytes, &mut self.staging);
        series.let_go(&current, &self.stats.weights);
        let closed = current.describe(&series.target, series.worker, cause);
        let job = Job {
            sealed: current.partial.seal(),
            closed,
            ledger: series.target.ledger.read(),
            file: None,
        };
        self.handover.give(series.target.id, job, self.number);
    }
}
