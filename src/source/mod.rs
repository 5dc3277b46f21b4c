//! Where datagrams come from.
//!
//! Takes: sockets or capture files. Gives: batches of [`Datagram`](crate::packet::Datagram)s: the UDP
//! payloads with outer source, port, time and order. Holds: everything that a source was given is either a
//! datagram in the batch or counted in `Batch::refused`; what the kernel lost before is in
//! [`udp::Facts`], never guessed.

pub mod replay;
pub mod udp;

use crate::packet::Batch;

/// What one call of [`Source::receive`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// The batch holds something (datagrams or refusals).
    Some,
    /// Nothing came within the source's waiting time; `Batch::order` is still set.
    Nothing,
    /// Nothing will ever come again (end of a replay).
    End,
}

/// A receiver's supply of datagrams. Two kinds live behind it: sockets and capture files.
pub trait Source: Send {
    /// Fills `batch`, which is empty, and sets its `order`. Waits a bounded time (some tens of
    /// milliseconds at most) for the first datagram.
    ///
    /// # Errors
    /// When the source can't be read any more (socket error, damaged file); what was read before is
    /// in earlier batches.
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received>;

    /// Whether packets will soon be lost unless the source is read: asked while every batch is still
    /// with the workers. Files never press.
    fn under_pressure(&mut self) -> bool;

    /// Whether what is not read in time is lost: true for sockets, false for files.
    fn runs_away(&self) -> bool;

    /// Ends the intake: nothing new is taken, what has already arrived is still given, then
    /// [`Received::End`].
    fn stop(&mut self);

    /// A batch of the right shape for this source.
    fn new_batch(&self, receiver: u16) -> Batch;
}
