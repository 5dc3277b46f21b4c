//! How far time has passed for a live source.
//!
//! Takes: the times of packets as they are read, and calls that brought none. Gives: the place of each packet in the order, and the
//! order below which nothing more will come. Holds: a packet that was stamped earlier and read later than another, by no more than
//! the slack, is never behind it.
//!
//! While packets come, their own times tell. While none come, the clock that stamps them does: the system's, read again; a network
//! card's, which cannot be read here, as far ahead of the system's as packets have told. It may be far from it (nobody set the card's, or
//! it is TAI), so all who read packets of one card share a [`Card`]: a receiver that gets none must neither hold the others back nor
//! run ahead of them. Where a packet has both times, the order is better made of the kernel's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::source::Clock;
use crate::time::{self, Timestamp};

/// How far back in time a packet may stand behind one that was read earlier: the kernel stamps a packet before it queues it, on
/// whichever core the interrupt ran.
pub(super) const DISORDER: Duration = Duration::from_millis(10);

/// How far a network card's clock is ahead of the system's, in nanoseconds, as far as packets have told; 0 until then.
#[derive(Debug, Default)]
pub(super) struct Card(AtomicI64);

impl Card {
    fn ahead(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The watermark of one source.
#[derive(Debug)]
pub(super) struct Watermark {
    clock: Clock,
    /// The newest of all orders.
    newest: Timestamp,
    /// The newest time of the card in this call.
    newest_of_card: Option<Timestamp>,
    card: Arc<Card>,
    /// As the card was when last looked at.
    ahead: i64,
    /// How long a packet may lie in the kernel before a call can bring it.
    delay: Duration,
}

impl Watermark {
    /// For times of `clock`, of packets that may lie in the kernel for `delay` before a call can bring them.
    pub(super) fn new(clock: Clock, delay: Duration, card: &Arc<Card>) -> Self {
        Self {
            clock,
            newest: Timestamp::default(),
            newest_of_card: None,
            card: Arc::clone(card),
            ahead: 0,
            delay,
        }
    }

    /// A packet has this time, of a card or of the kernel: its place in the order. Where cards tell the time, one that has
    /// the kernel's stands where it would if the card had told.
    pub(super) fn see(&mut self, time: Timestamp, is_of_card: bool) -> u64 {
        let order = match (self.clock, is_of_card) {
            (Clock::Kernel, _) => time,
            (Clock::Hardware, true) => {
                self.newest_of_card = self.newest_of_card.max(Some(time));
                time
            }
            (Clock::Hardware, false) => shifted(time, self.ahead),
        };
        self.newest = self.newest.max(order);
        order.nanos()
    }

    /// The order after a call that brought packets.
    pub(super) fn after_some(&mut self) -> u64 {
        if self.clock == Clock::Hardware {
            self.compare();
        }
        self.newest.saturating_sub(DISORDER).nanos()
    }

    /// Two clock readings for a batch at most, and only where cards tell the time.
    fn compare(&mut self) {
        if let Some(time) = self.newest_of_card.take() {
            let ahead = time.nanos().cast_signed() - time::now().nanos().cast_signed();
            self.card.0.store(ahead, Ordering::Relaxed);
        }
        self.ahead = self.card.ahead();
    }

    /// The order after a call that brought nothing: all that was stamped before it has been read.
    pub(super) fn after_nothing(&mut self) -> u64 {
        let now = match self.clock {
            Clock::Kernel => time::now(),
            Clock::Hardware => shifted(time::now(), self.card.ahead()),
        };
        let read = now.saturating_sub(self.delay);
        // a clock that was set back may take days to come where it was; nothing that was read before has to wait for that
        if self.newest.since(read) > self.delay + DISORDER {
            return self.newest.nanos().saturating_add(1);
        }
        self.newest.max(read).saturating_sub(DISORDER).nanos()
    }
}

fn shifted(time: Timestamp, ahead: i64) -> Timestamp {
    Timestamp::from_nanos(time.nanos().saturating_add_signed(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Duration = Duration::from_secs(37);

    fn watermark(clock: Clock, card: &Arc<Card>) -> Watermark {
        Watermark::new(clock, Duration::ZERO, card)
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let mut mark = watermark(Clock::Kernel, &Arc::default());
        let before = time::now().saturating_add(Duration::from_secs(86_400));
        let order = mark.see(before, false);
        assert!(mark.after_some() <= order);
        assert!(mark.after_nothing() > order);
        let after = mark.see(time::now(), false);
        assert!(
            after < mark.after_some(),
            "what comes now is late, and written at once"
        );
    }

    #[test]
    fn time_passes_with_packets_and_without_them() {
        for clock in [Clock::Kernel, Clock::Hardware] {
            let mut watermark = watermark(clock, &Arc::default());
            let later = time::now().saturating_add(Duration::from_secs(1));
            assert_eq!(
                watermark.see(later, clock == Clock::Hardware),
                later.nanos()
            );
            let after = later.saturating_sub(DISORDER).nanos();
            assert_eq!(watermark.after_some(), after);
            assert!(watermark.after_nothing() >= after, "it never goes back");
        }
    }

    #[test]
    fn what_may_still_lie_in_the_kernel_is_waited_for() {
        let delay = Duration::from_secs(5);
        let mut watermark = Watermark::new(Clock::Kernel, delay, &Arc::default());
        let passed = Timestamp::from_nanos(watermark.after_nothing());
        assert!(time::now().since(passed) >= delay);
    }

    #[test]
    fn a_quiet_receiver_follows_the_card_that_its_neighbours_heard() {
        let card = Arc::default();
        let mut busy = watermark(Clock::Hardware, &card);
        let mut quiet = watermark(Clock::Hardware, &card);
        let first = time::now().saturating_add(AHEAD);
        busy.see(first, true);
        busy.after_some();
        let passed = quiet.after_nothing();
        assert!(passed >= first.saturating_sub(DISORDER).nanos());
        let now = time::now().saturating_add(AHEAD).nanos();
        assert!(passed <= now, "and does not run ahead");
    }

    #[test]
    fn a_card_that_nobody_set_makes_no_packet_late() {
        let mut watermark = watermark(Clock::Hardware, &Arc::default());
        for secs in 1..4 {
            let time = Timestamp::from_parts(secs, 0);
            assert!(watermark.see(time, true) >= watermark.after_some());
        }
        let passed = Timestamp::from_nanos(watermark.after_nothing());
        assert!(
            passed.secs() < 60,
            "the system's clock is another: {passed}"
        );
    }

    #[test]
    fn a_packet_with_the_kernels_time_stands_among_those_with_the_cards() {
        let mut watermark = watermark(Clock::Hardware, &Arc::default());
        let card = time::now().saturating_sub(AHEAD);
        watermark.see(card, true);
        watermark.after_some();
        let order = Timestamp::from_nanos(watermark.see(time::now(), false));
        assert!(order >= card && order.since(card) < Duration::from_secs(5));
    }
}
