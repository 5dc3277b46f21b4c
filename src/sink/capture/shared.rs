//! What all workers and writers share.
//!
//! Takes: the memory budget and the number of workers. Gives: [`Shared`]: the pool, the register of peers, the
//! watermarks. Holds: nothing here is touched for every packet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::packet::DropReason;
use crate::sink::capture::peers::Register;
use crate::sink::capture::pool::Pool;
use crate::sink::capture::run::Mark;

/// Bytes that are worth a bundle, or a write to a device, where the budget is not small.
const CHUNK: usize = 1 << 20;

/// Bytes that are worth a bundle while the writers can't follow: the cache does not matter then, and full buffers hold the most.
const LARGE_CHUNK: usize = 8 * CHUNK;

/// What all workers and writers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) peers: Register,
    /// By worker: no record below this order is still to be sent.
    watermarks: Vec<CachePadded<AtomicU64>>,
    chunk: usize,
    large_chunk: usize,
    /// Set when a writer has panicked.
    writer_lost: AtomicBool,
    /// Set when workers are not waited for any more.
    workers_lost: AtomicBool,
}

impl Shared {
    /// `live` packets run away: short memory is dealt out fairly.
    pub(super) fn new(buffer: u64, workers: usize, live: bool) -> Self {
        let share = usize::try_from(buffer).unwrap_or(usize::MAX) / (8 * workers.max(1));
        Self {
            pool: if live {
                Pool::new(buffer)
            } else {
                Pool::unshared(buffer)
            },
            peers: Register::default(),
            watermarks: (0..workers).map(|_| CachePadded::default()).collect(),
            chunk: CHUNK.min(share),
            large_chunk: LARGE_CHUNK.min(share),
            writer_lost: AtomicBool::new(false),
            workers_lost: AtomicBool::new(false),
        }
    }

    /// No worker will send a record below this.
    pub(super) fn watermark(&self) -> u64 {
        let told = self.watermarks.iter().map(|w| w.load(Ordering::Acquire));
        told.min().unwrap_or(u64::MAX)
    }

    /// A worker tells that it will send no record below `order` any more; it has sent those that
    /// it had.
    pub(super) fn tell(&self, worker: u16, order: u64) {
        if let Some(watermark) = self.watermarks.get(usize::from(worker)) {
            watermark.store(order, Ordering::Release);
        }
    }

    /// Counts a packet as dropped in its peer's ledger.
    pub(super) fn blame(&self, mark: &Mark, reason: DropReason) {
        if let Some(peer) = self.peers.get(mark.peer) {
            peer.ledger.add_dropped(reason, 1);
        }
    }

    /// Workers that have not ended will not be waited for: nothing that has come from others waits for them.
    pub(super) fn lose_workers(&self) {
        self.workers_lost.store(true, Ordering::Release);
    }

    /// Whether workers are not waited for any more.
    pub(super) fn has_lost_workers(&self) -> bool {
        self.workers_lost.load(Ordering::Acquire)
    }

    /// A writer has panicked.
    pub(super) fn lose_writer(&self) {
        self.writer_lost.store(true, Ordering::Release);
    }

    /// Why a bundle that no writer took is lost: the time was up, or a writer is no more.
    pub(super) fn why_lost(&self) -> DropReason {
        match self.writer_lost.load(Ordering::Acquire) || std::thread::panicking() {
            true => DropReason::ThreadLost,
            false => DropReason::Shutdown,
        }
    }

    /// Bytes that are worth a bundle now.
    pub(super) fn bundle(&self) -> usize {
        match self.pool.is_filling() {
            true => self.large_chunk,
            false => self.chunk,
        }
    }

    /// Bytes that are worth a write.
    pub(super) fn chunk(&self) -> usize {
        self.chunk
    }
}
