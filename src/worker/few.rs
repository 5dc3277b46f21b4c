//! Packets of one peer that are to be kept, on their way to the sink.
//!
//! Takes: kept packets, one after the other. Gives: all of them at once, so that the sink is asked once for many.

use crate::sink::Kept;
use crate::time::Timestamp;

/// The most that go at once: enough that the call costs nothing, few enough for the innermost cache.
const MOST: usize = 64;

/// A few packets from one place.
#[derive(Debug)]
pub(super) struct Few<'a> {
    /// Where their peer sits.
    pub(super) place: u32,
    count: usize,
    packets: [Kept<'a>; MOST],
}

impl<'a> Few<'a> {
    /// None yet, from nowhere.
    pub(super) fn new() -> Self {
        let nothing = Kept {
            frame: &[],
            origlen: 0,
            time: Timestamp::from_nanos(0),
            order: 0,
        };
        Self {
            place: u32::MAX,
            count: 0,
            packets: [nothing; MOST],
        }
    }

    /// Forgets all; those to come are of the peer at `place`.
    pub(super) fn begin(&mut self, place: u32) {
        (self.place, self.count) = (place, 0);
    }

    /// Whether there is room for none.
    pub(super) fn is_full(&self) -> bool {
        self.count == MOST
    }

    /// Takes a packet; the caller has made sure that there is room.
    #[inline(always)]
    pub(super) fn push(&mut self, packet: Kept<'a>) {
        if let Some(place) = self.packets.get_mut(self.count) {
            *place = packet;
            self.count += 1;
        }
    }

    /// Those taken, in their order.
    pub(super) fn packets(&self) -> &[Kept<'a>] {
        self.packets.get(..self.count).unwrap_or_default()
    }
}
