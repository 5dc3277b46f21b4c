//! From the two numbers in front of a packet to its time.

use crate::source::Clock;
use crate::sys::leap;
use crate::sys::xsk::METADATA;
use crate::time::Timestamp;

/// How often the difference of the calendars is looked up, in batches. It changes when a time server first tells the
/// kernel of it, and with a leap second.
const LOOK_EVERY: u32 = 64;
const SECOND: i64 = 1_000_000_000;

/// When a packet arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    /// Its time.
    pub(super) time: Timestamp,
    /// The kernel's time, by which packets of a queue follow each other.
    pub(super) order: Timestamp,
    /// Whether `time` is of another clock than was asked for, or no packet's own.
    pub(super) other_clock: bool,
}

/// Turns metadata into times.
#[derive(Debug)]
pub(super) struct Times {
    clock: Clock,
    /// Nanoseconds that TAI is ahead of UTC.
    ahead: i64,
    batches: u32,
}

impl Times {
    /// For a clock.
    pub(super) fn new(clock: Clock) -> std::io::Result<Self> {
        Ok(Self {
            clock,
            ahead: i64::from(leap::tai_offset()?) * SECOND,
            batches: 0,
        })
    }

    /// A batch begins.
    pub(super) fn batch(&mut self) {
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(LOOK_EVERY)
            && let Ok(ahead) = leap::tai_offset()
        {
            self.ahead = i64::from(ahead) * SECOND;
        }
    }

    /// The time of a packet, or `now` where the driver had no room for it.
    pub(super) fn of(&self, metadata: [u8; METADATA], now: Timestamp) -> Arrival {
        let (kernel, card) = numbers(metadata);
        if kernel == 0 {
            return Arrival {
                time: now,
                order: now,
                other_clock: true,
            };
        }
        let order = Timestamp::from_nanos(kernel.saturating_add_signed(-self.ahead));
        let (time, other_clock) = match self.clock {
            Clock::Kernel => (order, false),
            Clock::Hardware if card == 0 => (order, true),
            Clock::Hardware => (Timestamp::from_nanos(card), false),
        };
        Arrival {
            time,
            order,
            other_clock,
        }
    }
}

/// The kernel's time and the card's, as the program left them.
fn numbers(metadata: [u8; METADATA]) -> (u64, u64) {
    match metadata.as_chunks::<8>().0 {
        [kernel, card] => (u64::from_ne_bytes(*kernel), u64::from_ne_bytes(*card)),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(clock: Clock, kernel: u64, card: u64) -> (u64, u64, bool) {
        let times = Times {
            clock,
            ahead: 37 * SECOND,
            batches: 0,
        };
        let mut metadata = [0; METADATA];
        metadata[..8].copy_from_slice(&kernel.to_ne_bytes());
        metadata[8..].copy_from_slice(&card.to_ne_bytes());
        let arrival = times.of(metadata, Timestamp::from_nanos(7));
        (
            arrival.time.nanos(),
            arrival.order.nanos(),
            arrival.other_clock,
        )
    }

    #[test]
    fn the_kernels_time_is_taken_from_tai_to_utc() {
        let tai = 1_800_000_037_000_000_005;
        let utc = 1_800_000_000_000_000_005;
        assert_eq!(of(Clock::Kernel, tai, 99), (utc, utc, false));
    }

    #[test]
    fn a_card_without_a_time_is_told_and_the_kernels_is_taken() {
        let tai = 1_800_000_037_000_000_005;
        let utc = 1_800_000_000_000_000_005;
        assert_eq!(of(Clock::Hardware, tai, 99), (99, utc, false));
        assert_eq!(of(Clock::Hardware, tai, 0), (utc, utc, true));
    }

    #[test]
    fn a_packet_without_any_time_has_that_of_its_reading_and_it_is_told() {
        assert_eq!(of(Clock::Kernel, 0, 0), (7, 7, true));
    }
}
