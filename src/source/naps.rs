//! Resting between calls while packets come in numbers.
//!
//! Takes: how many packets a call brought. Gives: a rest before the next, where it is worth one. Holds: a crowd is worth a few naps
//! after it, single packets none, so that whoever gets them waits plainly for the next; nobody naps while stopping.
//!
//! A reader that blocks is woken for every one to three packets and pays more for scheduling than for receiving.

use std::time::Duration;

/// A shorter nap saves nothing.
const SHORTEST: Duration = Duration::from_micros(50);
/// As many packets in a call are a crowd, and worth that many naps.
const CROWD: usize = 4;
const NAPS: u32 = 4;

/// The naps of one reader.
#[derive(Debug)]
pub(super) struct Naps {
    length: Duration,
    /// Naps that the last crowd is still worth.
    left: u32,
}

impl Naps {
    /// Naps of this length; none where that is too short to save anything.
    pub(super) fn of(length: Duration) -> Self {
        Self { length, left: 0 }
    }

    /// Rests after a call that brought so many packets, unless there is more to read at once or a stop to come to.
    pub(super) fn rest(&mut self, packets: usize, is_free: bool) {
        if self.are_worth_it(packets) && is_free {
            std::thread::sleep(self.length);
        }
    }

    fn are_worth_it(&mut self, packets: usize) -> bool {
        self.left = if packets >= CROWD {
            NAPS
        } else {
            self.left.saturating_sub(1)
        };
        self.left > 0 && self.length >= SHORTEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worth(length: Duration, calls: &[usize]) -> Vec<bool> {
        let mut naps = Naps::of(length);
        calls.iter().map(|n| naps.are_worth_it(*n)).collect()
    }

    #[test]
    fn a_crowd_is_worth_a_few_naps_and_single_packets_none() {
        let calls = [CROWD - 1, CROWD, 1, 0, 1, 1, 1];
        let expected = [false, true, true, true, true, false, false];
        assert_eq!(worth(SHORTEST, &calls), expected);
        assert_eq!(worth(SHORTEST / 2, &[CROWD, 1]), [false; 2]);
    }
}
