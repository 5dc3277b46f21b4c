//! The sink that keeps nothing and counts everything: for measuring what lies before it.

use std::sync::Arc;

use crate::packet::{DropReason, Peer};
use crate::sink::{Kept, Sink};
use crate::spool::Target;

/// Counts each packet as written at once.
#[derive(Debug, Default)]
pub struct Null;

impl Sink for Null {
    fn keep(
        &mut self,
        target: &Arc<Target>,
        _: &Arc<Peer>,
        packet: Kept<'_>,
    ) -> Result<(), DropReason> {
        target.ledger.add_written(1, packet.frame.len() as u64);
        Ok(())
    }

    fn progress(&mut self, _: u64, _: bool) {}
}
