//! What workers and the thread that writes share.
//!
//! Holds: nothing here is touched for every packet; locks are taken where a worker meets an interface for the first time, or loses
//! a record.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::flow::Closed;
use crate::flowlog::enis::Enis;
use crate::flowlog::{Setup, Stats};
use crate::time::{Monotonic, Timestamp};

/// From the first to the last packet that may be missing.
type Span = (Timestamp, Timestamp);

/// Closed flows on their way to the thread that writes.
#[derive(Debug)]
pub(super) struct Parcel {
    /// The number of the flow log.
    pub(super) log: usize,
    pub(super) flows: Vec<Closed>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) enis: Enis,
    pub(super) setup: ArcSwap<Setup>,
    /// Grows with every reload.
    generation: AtomicU64,
    /// By flow log.
    pub(super) stats: Vec<Arc<Stats>>,
    /// By flow log: interfaces whose records were lost, and when their packets came.
    lost: Vec<Mutex<HashMap<u32, Span>>>,
    /// Set when a worker ended otherwise than it should: what it had is in no record.
    cut: AtomicBool,
    /// Until when workers that end may wait for room, in nanoseconds; none yet if it is 0.
    stop_waiting: AtomicU64,
    /// Set when the time to write is nearly over, whether workers have ended or not.
    hurry: AtomicBool,
}

impl Shared {
    pub(super) fn new(setup: Setup) -> Self {
        let logs = setup.parts.len();
        let shared = Self {
            enis: Enis::default(),
            setup: ArcSwap::from_pointee(setup),
            generation: AtomicU64::new(1),
            stats: (0..logs).map(|_| Arc::default()).collect(),
            lost: (0..logs).map(|_| Mutex::default()).collect(),
            cut: AtomicBool::new(false),
            stop_waiting: AtomicU64::new(0),
            hurry: AtomicBool::new(false),
        };
        shared.tell_listed();
        shared
    }

    /// Puts another configuration of the same flow logs in force.
    pub(super) fn reload(&self, setup: Setup) {
        self.setup.store(Arc::new(setup));
        self.tell_listed();
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Grows with every reload.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Interfaces that were told of have a number before a packet comes, where their silence is of interest.
    fn tell_listed(&self) {
        let setup = self.setup.load();
        for (at, part) in setup.parts.iter().enumerate() {
            if part.config.nodata {
                let listed = part.listed().into_iter();
                listed.for_each(|eni| {
                    self.enis.tell(eni, 1 << at);
                });
            }
        }
    }

    /// A record could not be handed over.
    pub(super) fn lose(&self, log: usize, closed: &Closed) {
        if let Some(lost) = self.lost.get(log) {
            let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
            let span = lost
                .entry(closed.key.eni)
                .or_insert((closed.first, closed.last));
            *span = (span.0.min(closed.first), span.1.max(closed.last));
        }
    }

    /// The interfaces of a flow log whose records were lost since this was last asked.
    pub(super) fn take_lost(&self, log: usize) -> HashMap<u32, Span> {
        let lost = self.lost.get(log).map(Mutex::lock);
        lost.map(|lost| std::mem::take(&mut *lost.unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    /// Until when workers that end may wait for room, if that was said.
    pub(super) fn stop_waiting(&self) -> Option<Monotonic> {
        let at = self.stop_waiting.load(Ordering::Acquire);
        (at != 0).then_some(Monotonic::from_nanos(at))
    }

    /// Says it.
    pub(super) fn stop_waiting_at(&self, at: Monotonic) {
        self.stop_waiting
            .store(at.nanos().max(1), Ordering::Release);
    }

    /// Has the thread that writes close its files, whatever else may come.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
    }

    /// Whether it has to.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurry.load(Ordering::Acquire)
    }

    /// A worker ended with flows that it had open.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
    }

    /// Whether one did, since this was last asked.
    pub(super) fn take_cut(&self) -> bool {
        self.cut.swap(false, Ordering::AcqRel)
    }
}
