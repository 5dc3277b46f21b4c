//! The sink that keeps nothing and counts everything: for measuring what lies before it.

use std::sync::Arc;

use crate::packet::{DropReason, Peer};
use crate::sink::{Kept, Sink};
use crate::spool::Target;

/// Counts each packet as written when its batch is through.
#[derive(Debug, Default)]
pub struct Null {
    /// Packets and bytes by [`Target::id`], and whose they are.
    kept: Vec<(u64, u64)>,
    targets: Vec<Arc<Target>>,
}

impl Sink for Null {
    fn keep(
        &mut self,
        target: &Arc<Target>,
        _: &Arc<Peer>,
        packet: Kept<'_>,
    ) -> Result<(), DropReason> {
        let index = target.id as usize;
        if index >= self.kept.len() {
            self.kept.resize(index + 1, (0, 0));
        }
        if let Some((packets, bytes)) = self.kept.get_mut(index) {
            if *packets == 0 {
                self.targets.push(Arc::clone(target));
            }
            *packets += 1;
            *bytes += packet.frame.len() as u64;
        }
        Ok(())
    }

    fn progress(&mut self, _: u64, _: bool) {
        for target in self.targets.drain(..) {
            if let Some(kept) = self.kept.get_mut(target.id as usize) {
                let (packets, bytes) = std::mem::take(kept);
                target.ledger.add_written(packets, bytes);
            }
        }
    }
}
