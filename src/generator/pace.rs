//! When the next packets are due.
//!
//! A rate is kept on average, counted from the start of the run, in bursts of at most 64 packets or a
//! millisecond's worth. After a delay it catches up at no more than twice the rate, so that a stall of
//! this machine does not become a flood at the other.

use std::time::Duration;

use crate::time::Monotonic;

const SECOND: u128 = 1_000_000_000;

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// This many packets may go.
    Send(u64),
    /// None is due for so long.
    Wait(Duration),
}

/// Keeps a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    start: Monotonic,
    per_second: u128,
    sent: u128,
    /// The burst that is worth waking up for, and the largest one.
    burst: (u128, u128),
    earliest: Monotonic,
}

impl Rate {
    pub(crate) fn new(start: Monotonic, per_second: u64) -> Self {
        let per_millisecond = u128::from(per_second / 1000);
        Self {
            start,
            per_second: u128::from(per_second.max(1)),
            sent: 0,
            burst: (
                per_millisecond.clamp(1, 64),
                per_millisecond.clamp(64, 1024),
            ),
            earliest: start,
        }
    }

    /// What is due at `now`. The packets of a [`Step::Send`] count as sent.
    pub(crate) fn step(&mut self, now: Monotonic) -> Step {
        let elapsed = u128::from(now.nanos().saturating_sub(self.start.nanos()));
        let due = (elapsed * self.per_second / SECOND + 1).saturating_sub(self.sent);
        let worthwhile = self
            .time_of(self.sent + self.burst.0 - 1)
            .max(self.earliest);
        if due == 0 || now < worthwhile {
            return Step::Wait(worthwhile.since(now));
        }
        let packets = due.min(self.burst.1);
        self.sent += packets;
        self.earliest = now.plus(duration(packets * SECOND / (2 * self.per_second)));
        Step::Send(packets as u64)
    }

    /// When the packet with this number is due.
    fn time_of(&self, number: u128) -> Monotonic {
        let after = (number * SECOND).div_ceil(self.per_second);
        self.start.plus(duration(after))
    }
}

fn duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Monotonic {
        Monotonic::from_nanos(nanos)
    }

    /// Runs for a second of imagined time in which every sleep takes `extra` longer than asked; returns
    /// packets sent and the largest burst.
    fn run(per_second: u64, extra: u64) -> (u64, u64) {
        let (mut rate, mut now) = (Rate::new(at(0), per_second), 0);
        let (mut sent, mut largest) = (0, 0);
        while now < 1_000_000_000 {
            match rate.step(at(now)) {
                Step::Send(n) => {
                    sent += n;
                    largest = largest.max(n);
                    now += 1000;
                }
                Step::Wait(wait) => now += wait.as_nanos() as u64 + extra,
            }
        }
        (sent, largest)
    }

    #[test]
    fn the_average_is_exact_and_bursts_are_bounded() {
        for rate in [1, 10, 999, 1000, 20_000, 250_000] {
            let (sent, largest) = run(rate, 60_000);
            assert!(sent <= rate && rate - sent <= 64, "{rate}: {sent} sent");
            assert!(largest <= 64.max(rate / 1000), "{rate}: burst of {largest}");
        }
    }

    #[test]
    fn the_first_packet_goes_at_once_and_a_slow_rate_sleeps_in_between() {
        let mut rate = Rate::new(at(0), 10);
        assert_eq!(rate.step(at(0)), Step::Send(1));
        assert_eq!(rate.step(at(0)), Step::Wait(Duration::from_millis(100)));
        assert_eq!(
            rate.step(at(99_000_000)),
            Step::Wait(Duration::from_millis(1))
        );
        assert_eq!(rate.step(at(100_000_000)), Step::Send(1));
    }

    #[test]
    fn a_stall_is_made_up_for_at_twice_the_rate() {
        let mut rate = Rate::new(at(0), 64_000);
        let mut now = 500_000_000;
        let mut sent = 0;
        while now < 600_000_000 {
            match rate.step(at(now)) {
                Step::Send(n) => sent += n,
                Step::Wait(wait) => now += wait.as_nanos() as u64,
            }
        }
        assert!((12_800..12_800 + 128).contains(&sent), "{sent}");
    }

    proptest! {
        #[test]
        fn no_time_makes_it_panic_or_wait_for_nothing(rate: u64, start: u32, times: Vec<u32>) {
            let mut pacer = Rate::new(at(u64::from(start)), rate);
            for time in times {
                let step = pacer.step(at(u64::from(time)));
                prop_assert_ne!(step, Step::Wait(Duration::ZERO));
            }
        }
    }
}
