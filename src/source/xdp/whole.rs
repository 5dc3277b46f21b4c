//! Queues and the sockets beside them, on one thread.
//!
//! Takes: an [`Xdp`] source and its companions. Gives: one source, so that one receiver (which may then do the work itself) has all that is
//! ours on the interface. Holds: a companion's datagram waits no longer than a packet in a ring does; nothing is told to be over before
//! it is over for all of them.

use crate::packet::Batch;
use crate::source::udp::Udp;
use crate::source::xdp::Xdp;
use crate::source::{Received, Source};

/// An [`Xdp`] source with its companions.
#[derive(Debug)]
pub struct Whole {
    xdp: Xdp,
    companions: Vec<Companion>,
    /// Which companion is looked at next; as many as there are stands for the queues.
    turn: usize,
    /// The order that the queues last told.
    order: u64,
}

#[derive(Debug)]
struct Companion {
    udp: Udp,
    /// The order that it last told.
    order: u64,
    has_ended: bool,
}

impl Whole {
    /// Reads the queues, and between two looks at them the companions.
    ///
    /// # Errors
    /// A companion's socket can't be made ready for it.
    pub fn new(mut xdp: Xdp, companions: Vec<Udp>) -> std::io::Result<Self> {
        let join = |mut udp: Udp| {
            udp.never_wait()?;
            xdp.wake_for(udp.descriptor()?);
            Ok(Companion {
                udp,
                order: 0,
                has_ended: false,
            })
        };
        let companions = companions.into_iter().map(join);
        let companions = companions.collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self {
            xdp,
            companions,
            turn: 0,
            order: 0,
        })
    }

    /// Nothing below this will come from any of them.
    fn passed(&self) -> u64 {
        let running = self.companions.iter().filter(|c| !c.has_ended);
        running.map(|c| c.order).fold(self.order, u64::min)
    }

    /// What the next companion has, without waiting.
    fn look_beside(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        let Some(companion) = self.companions.get_mut(self.turn) else {
            self.turn = 0;
            return Ok(Received::Nothing);
        };
        self.turn += 1;
        let received = companion.udp.receive(batch)?;
        companion.order = batch.order;
        companion.has_ended |= received == Received::End;
        Ok(received)
    }
}

impl Source for Whole {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        let beside = self.look_beside(batch)?;
        if beside == Received::Some {
            batch.order = self.passed();
            return Ok(Received::Some);
        }
        let received = self.xdp.receive(batch)?;
        self.order = batch.order;
        batch.order = self.passed();
        let is_over = self.companions.iter().all(|c| c.has_ended);
        Ok(match received {
            Received::End if !is_over => Received::Nothing,
            received => received,
        })
    }

    fn under_pressure(&mut self) -> bool {
        let beside = self.companions.iter_mut().any(|c| c.udp.under_pressure());
        beside || self.xdp.under_pressure()
    }

    fn runs_away(&self) -> bool {
        true
    }

    fn stop(&mut self) {
        self.xdp.stop();
        self.companions.iter_mut().for_each(|c| c.udp.stop());
    }

    fn new_batch(&self, receiver: u16) -> Batch {
        self.xdp.new_batch(receiver)
    }

    fn reclaim(&mut self, batch: &mut Batch) {
        self.xdp.reclaim(batch);
    }
}
