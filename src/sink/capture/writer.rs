//! The writer thread: bundles in, files out.
//!
//! Takes: bundles from all workers, for the sessions that are its own. Gives: capture files, through its
//! [`Desk`]. Holds: the watermark is read before the channel is emptied, so that every record below it is here;
//! a record waits at most `flush_interval` once it is settled; not more than `max_open_files`
//! descriptors are held, the longest unused being given back first.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::sink::capture::agenda::Agenda;
use crate::sink::capture::closed::Cause;
use crate::sink::capture::desk::Desk;
use crate::sink::capture::probe::{Output, probe};
use crate::sink::capture::run::{Bundle, Run};
use crate::sink::capture::series::Series;
use crate::sink::capture::stats::Place;
use crate::time::{self, Monotonic, Timestamp};

/// The longest sleep: heartbeats have to come twice as often as they are asked for.
const NAP: Duration = Duration::from_millis(250);

/// The longest sleep while something large waits for the watermark, which comes without a message.
const SHORT_NAP: Duration = Duration::from_millis(20);

/// After its interval is over, a file waits so long for packets that are still on their way.
const GRACE: Duration = Duration::from_millis(500);

/// Then it is looked at so often until nothing waits for it,
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// but not longer than this.
const LONGEST_GRACE: Duration = Duration::from_secs(5);

/// Once workers are not waited for, a writer ends when nothing has come for so long: those of them that are well send more often.
const QUIET: Duration = Duration::from_millis(500);

/// How often folders are probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// How many folders of failing sessions are probed at a time.
const PROBED: usize = 8;

/// How a writer goes about it.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// Whether packets arrive now, and clocks mean anything to their files.
    pub(super) live: bool,
    /// Files for each session: one, or one for each worker.
    pub(super) lanes: usize,
    /// Whether records wait for the watermark.
    pub(super) ordered: bool,
    pub(super) flush_interval: Duration,
    /// Descriptors that this writer may hold.
    pub(super) files: usize,
    /// The folder to probe.
    pub(super) output: Option<Output>,
}

/// A writer thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    manner: Manner,
    bundles: Receiver<Bundle>,
    /// Targets that no more packets are expected for.
    retired: Receiver<u32>,
    desk: Desk,
    /// By target and lane; `None` where nothing has come.
    series: Vec<Option<Box<Series>>>,
    agenda: Agenda,
    /// Series with a descriptor, the longest unused first.
    open: BTreeMap<u64, usize>,
    tickets: u64,
    /// The watermark at the last flush for want of memory.
    pressed_at: u64,
    probe_at: Monotonic,
}

/// What comes for a writer that panics is lost with it from before anybody can find its channel closed.
impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.desk.shared.lose_writer();
        }
    }
}

impl Writer {
    pub(super) fn new(
        manner: Manner,
        bundles: Receiver<Bundle>,
        retired: Receiver<u32>,
        desk: Desk,
    ) -> Self {
        Self {
            manner,
            bundles,
            retired,
            desk,
            series: Vec::new(),
            agenda: Agenda::default(),
            open: BTreeMap::new(),
            tickets: 0,
            pressed_at: 0,
            probe_at: time::monotonic().plus(PROBE_EVERY),
        }
    }

    /// Works until all workers are gone, or the time is up.
    pub(super) fn run(mut self) {
        while self.turn() {}
        self.finish();
    }

    fn turn(&mut self) -> bool {
        let now = time::monotonic();
        self.desk.stats.beat(self.desk.number, now);
        let alone = self.desk.shared.has_lost_workers();
        let nap = if alone { QUIET } else { self.nap(now) };
        let received = self.bundles.recv_timeout(nap);
        let is_over = match received {
            Ok(_) => false,
            Err(RecvTimeoutError::Timeout) => alone,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if is_over || self.desk.stats.must_stop(now) {
            received.into_iter().for_each(|bundle| self.accept(bundle));
            return false;
        }
        let watermark = self.watermark();
        received.into_iter().for_each(|bundle| self.accept(bundle));
        for _ in 0..self.bundles.len() {
            if let Ok(bundle) = self.bundles.try_recv() {
                self.accept(bundle);
            }
        }
        self.service(watermark);
        if alone {
            // there is little time, and nothing to wait for
            self.flush_all(watermark, |_| false);
        }
        true
    }

    fn watermark(&self) -> u64 {
        match self.manner.ordered && !self.desk.shared.has_lost_workers() {
            true => self.desk.shared.watermark(),
            false => u64::MAX,
        }
    }

    fn nap(&self, now: Monotonic) -> Duration {
        let longest = match self.agenda.full.is_empty() {
            true => NAP,
            false => SHORT_NAP,
        };
        let wall = match self.manner.live {
            true => time::now(),
            false => Timestamp::default(),
        };
        self.agenda.nap(now, wall, longest)
    }

    fn accept(&mut self, mut bundle: Bundle) {
        let deadline = time::monotonic().plus(self.manner.flush_interval);
        for run in std::mem::take(&mut bundle.runs) {
            self.enqueue(run, bundle.worker, deadline);
        }
    }

    fn enqueue(&mut self, run: Run, worker: u16, deadline: Monotonic) {
        let split = self.manner.lanes > 1;
        let lane = if split { usize::from(worker) } else { 0 };
        let index = run.target.id as usize * self.manner.lanes + lane;
        if index >= self.series.len() {
            self.series.resize_with(index + 1, || None);
        }
        let Some(place) = self.series.get_mut(index) else {
            return;
        };
        let series = place.get_or_insert_with(|| {
            let worker = (!self.manner.ordered).then_some(worker);
            Box::new(Series::new(run.target.clone(), worker))
        });
        series.queue.push(run, &self.desk.shared.pool);
        if series.deadline.is_none() {
            series.deadline = Some(deadline);
            self.agenda.flush_by(deadline, index);
        }
        if !series.is_listed && series.queue.bytes() >= self.desk.worth_a_write() {
            series.is_listed = true;
            self.agenda.full.push(index);
        }
    }

    fn service(&mut self, watermark: u64) {
        self.flush_full(watermark);
        self.flush_due(watermark);
        if watermark > self.pressed_at && self.desk.shared.pool.is_tight() {
            self.pressed_at = watermark.min(u64::MAX - 1);
            self.flush_all(watermark, |writer| !writer.desk.shared.pool.is_tight());
        }
        while let Ok(target) = self.retired.try_recv() {
            self.retire(target, watermark);
        }
        if self.manner.live {
            self.rotate_due(watermark);
        }
        self.probe_due();
    }

    /// Writes the series that have a good deal settled.
    fn flush_full(&mut self, watermark: u64) {
        let chunk = self.desk.worth_a_write();
        for index in std::mem::take(&mut self.agenda.full) {
            let place = self.series.get_mut(index).and_then(Option::as_mut);
            let Some(series) = place else { continue };
            series.is_listed = false;
            if series.queue.settled(watermark) >= chunk {
                // More is on its way: the filler of the last block is overwritten soon, or trimmed when it is due.
                self.write(index, watermark, false);
            }
            let place = self.series.get_mut(index).and_then(Option::as_mut);
            if let Some(series) = place.filter(|s| s.queue.bytes() >= chunk) {
                series.is_listed = true;
                self.agenda.full.push(index);
            }
        }
    }

    /// Writes the series whose records have waited long enough.
    fn flush_due(&mut self, watermark: u64) {
        let now = time::monotonic();
        while let Some((deadline, index)) = self.agenda.due_flush(now) {
            self.flush_waiting(index, deadline, watermark);
        }
    }

    /// Writes all series that wait, the longest waiting first, until `enough`.
    fn flush_all(&mut self, watermark: u64, enough: impl Fn(&Self) -> bool) {
        for _ in 0..self.agenda.flushes() {
            if enough(self) {
                return;
            }
            if let Some((deadline, index)) = self.agenda.any_flush() {
                self.flush_waiting(index, deadline, watermark);
            }
        }
    }

    fn flush_waiting(&mut self, index: usize, deadline: Monotonic, watermark: u64) {
        let series = self.series.get(index).and_then(Option::as_ref);
        if series.is_some_and(|s| s.deadline == Some(deadline)) {
            self.flush(index, watermark);
        }
    }

    /// Writes what is settled, and leaves the file at the end of a record.
    fn flush(&mut self, index: usize, watermark: u64) {
        self.write(index, watermark, true);
    }

    fn write(&mut self, index: usize, watermark: u64, trim: bool) {
        let Some(mut series) = self.series.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.make_room(&series);
        self.desk.flush(&mut series, watermark);
        if let Some(current) = series.current.as_mut().filter(|_| trim) {
            current.partial.trim();
        }
        if series.is_retired && series.queue.is_empty() {
            self.desk.seal(&mut series, Cause::Retired);
        }
        self.note(index, &mut series);
        let over = series.is_retired && series.queue.is_empty();
        if let Some(place) = self.series.get_mut(index).filter(|_| !over) {
            *place = Some(series);
        }
    }

    /// Gives descriptors back until there is one for this series.
    fn make_room(&mut self, series: &Series) {
        while series.ticket.is_none() && self.open.len() >= self.manner.files {
            let Some((_, index)) = self.open.pop_first() else {
                return;
            };
            if let Some(Some(other)) = self.series.get_mut(index) {
                other.ticket = None;
                if let Some(current) = other.current.as_mut().filter(|c| c.partial.is_open()) {
                    current.partial.rest();
                    self.desk.stats.open_files.sub(1);
                }
            }
        }
    }

    /// Writes down what is to be done about a series after it was written.
    fn note(&mut self, index: usize, series: &mut Series) {
        if let Some(ticket) = series.ticket.take() {
            self.open.remove(&ticket);
        }
        if series.is_open() {
            self.tickets += 1;
            series.ticket = Some(self.tickets);
            self.open.insert(self.tickets, index);
        }
        let filled = series
            .current
            .as_ref()
            .is_some_and(|c| c.partial.is_filled());
        let waits = filled || !series.queue.is_empty();
        series.deadline = waits.then(|| time::monotonic().plus(self.manner.flush_interval));
        if let Some(deadline) = series.deadline {
            self.agenda.flush_by(deadline, index);
        }
        let boundary = series.current.as_ref().map(|c| c.boundary);
        let boundary = boundary.filter(|b| self.manner.live && b.nanos() < u64::MAX);
        if let Some(boundary) = boundary.filter(|_| !series.is_timed) {
            series.is_timed = true;
            self.agenda.rotate_at(boundary.saturating_add(GRACE), index);
        }
    }

    /// Closes the files whose interval is over, traffic or not.
    fn rotate_due(&mut self, watermark: u64) {
        let now = time::now();
        while let Some(index) = self.agenda.due_rotation(now) {
            self.rotate(index, now, watermark);
        }
    }

    fn rotate(&mut self, index: usize, now: Timestamp, watermark: u64) {
        if let Some(Some(series)) = self.series.get_mut(index) {
            series.is_timed = false;
        }
        self.flush(index, watermark);
        let Some(Some(series)) = self.series.get_mut(index) else {
            return;
        };
        let Some(boundary) = series.current.as_ref().map(|c| c.boundary) else {
            return;
        };
        if now < boundary.saturating_add(GRACE) {
            return;
        }
        if !series.queue.is_empty() && now < boundary.saturating_add(LONGEST_GRACE) {
            series.is_timed = true;
            return self.agenda.rotate_at(now.saturating_add(LOOK_AGAIN), index);
        }
        self.seal(index, Cause::Interval);
    }

    fn seal(&mut self, index: usize, cause: Cause) {
        let Some(mut series) = self.series.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.desk.seal(&mut series, cause);
        if let Some(ticket) = series.ticket.take() {
            self.open.remove(&ticket);
        }
        if let Some(place) = self.series.get_mut(index) {
            *place = Some(series);
        }
    }

    fn retire(&mut self, target: u32, watermark: u64) {
        for lane in 0..self.manner.lanes {
            let index = target as usize * self.manner.lanes + lane;
            if let Some(Some(series)) = self.series.get_mut(index) {
                series.is_retired = true;
                self.flush(index, watermark);
            }
        }
    }

    /// Finds out whether folders can be written to, before a packet does.
    fn probe_due(&mut self) {
        let now = time::monotonic();
        if !self.manner.live || now < self.probe_at {
            return;
        }
        self.probe_at = now.plus(PROBE_EVERY);
        if let Some(output) = &self.manner.output {
            match output.probe(self.desk.number) {
                Ok(()) => self.desk.stats.well(Place::Probe),
                Err(reason) => self.desk.stats.trouble(Place::Probe, reason),
            }
        }
        self.probe_failing();
    }

    fn probe_failing(&mut self) {
        let failing: Vec<u32> = self.desk.failing().iter().copied().take(PROBED).collect();
        for target in failing {
            let first = target as usize * self.manner.lanes;
            let lanes = self.series.iter().skip(first).take(self.manner.lanes);
            let directory = lanes.flatten().map(|s| s.directory()).next();
            if directory.is_none_or(|d| probe(d, self.desk.number).is_ok()) {
                self.desk.well(target);
            }
        }
    }

    /// Everything is settled now.
    fn finish(mut self) {
        self.listen();
        for index in 0..self.series.len() {
            self.flush(index, u64::MAX);
            self.seal(index, Cause::Shutdown);
        }
        self.desk.stats.beat(self.desk.number, time::monotonic());
    }

    /// Takes what is still in the channel. What workers that outlive the deadline send later counts
    /// itself, see [`Bundle`].
    fn listen(&mut self) {
        while let Ok(bundle) = self.bundles.try_recv() {
            self.accept(bundle);
        }
    }
}
