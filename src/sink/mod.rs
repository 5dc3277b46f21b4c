//! Where kept packets go.
//!
//! Takes: packets that passed their session's filter, from one worker. Gives: capture files
//! ([`capture`]) or nothing ([`null`], for measurements). Holds: every packet taken is later counted in
//! its target's ledger as written or dropped, by the sink, exactly once.

pub mod capture;
pub mod null;

use std::sync::Arc;

use crate::packet::{DropReason, Peer};
use crate::spool::Target;
use crate::time::Timestamp;

/// A packet to be kept: what the file will say of it.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Bytes to store (already trimmed to the session's packet length): caplen is its length.
    pub frame: &'a [u8],
    /// Bytes that the packet had on the wire.
    pub origlen: u32,
    /// When it arrived.
    pub time: Timestamp,
    /// Its place in the order of its receiver, for merging.
    pub order: u64,
}

/// One worker's side of an output. Never blocks.
pub trait Sink: Send {
    /// Takes a packet, or says why it can't; a refused packet is counted by the caller.
    ///
    /// # Errors
    /// [`DropReason::BufferFull`] when the memory budget is used up.
    fn keep(
        &mut self,
        target: &Arc<Target>,
        peer: &Arc<Peer>,
        packet: Kept<'_>,
    ) -> Result<(), DropReason>;

    /// Takes packets of one peer, in their order: what is done for each [`keep`](Self::keep) is done once for all of them.
    ///
    /// # Errors
    /// How many were taken before the first that can't be, and why that is.
    fn keep_all(
        &mut self,
        target: &Arc<Target>,
        peer: &Arc<Peer>,
        packets: &[Kept<'_>],
    ) -> Result<(), (usize, DropReason)> {
        for (taken, packet) in packets.iter().enumerate() {
            self.keep(target, peer, *packet)
                .map_err(|why| (taken, why))?;
        }
        Ok(())
    }

    /// Tells that no packet with a smaller order than `watermark` will be given any more, after
    /// each batch; the sink passes on what is due. `idle` says that the worker has nothing more to do
    /// for now and is about to sleep.
    fn progress(&mut self, watermark: u64, idle: bool);
}
