//! The sink that keeps nothing and counts everything: for measuring what lies before it.
//!
//! Counts are added to the sessions' ledgers when the worker has nothing more to do, or has done some batches: workers that
//! met in the same ledger for each packet would measure that.

use std::sync::Arc;

use crate::packet::{DropReason, Peer};
use crate::sink::{Kept, Sink};
use crate::spool::Target;

/// Batches after which the ledgers are told at the latest.
const BATCHES: u32 = 64;

/// Counts each packet as written.
#[derive(Debug, Default)]
pub struct Null {
    /// By the number of the target: packets and bytes that its ledger has not been told.
    untold: Vec<Option<Untold>>,
    /// Targets that have something untold.
    touched: Vec<u32>,
    batches: u32,
}

#[derive(Debug)]
struct Untold {
    target: Arc<Target>,
    packets: u64,
    bytes: u64,
}

impl Null {
    fn tell(&mut self) {
        for id in self.touched.drain(..) {
            if let Some(Some(untold)) = self.untold.get_mut(id as usize) {
                let packets = std::mem::take(&mut untold.packets);
                let bytes = std::mem::take(&mut untold.bytes);
                untold.target.ledger.add_written(packets, bytes);
            }
        }
        self.batches = 0;
    }
}

impl Sink for Null {
    fn keep(
        &mut self,
        target: &Arc<Target>,
        _: &Arc<Peer>,
        packet: Kept<'_>,
    ) -> Result<(), DropReason> {
        let place = target.id as usize;
        if place >= self.untold.len() {
            self.untold.resize_with(place + 1, || None);
        }
        let Some(entry) = self.untold.get_mut(place) else {
            return Ok(());
        };
        let untold = entry.get_or_insert_with(|| Untold {
            target: Arc::clone(target),
            packets: 0,
            bytes: 0,
        });
        if untold.packets == 0 {
            self.touched.push(target.id);
        }
        untold.packets += 1;
        untold.bytes += packet.frame.len() as u64;
        Ok(())
    }

    fn progress(&mut self, _: u64, idle: bool) {
        self.batches += 1;
        if idle || self.batches >= BATCHES {
            self.tell();
        }
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        self.tell();
    }
}
