//! What a writer has to do when.
//!
//! Takes: when records began to wait, and when files are over. Gives: the series that are due. Holds: no
//! look at all series is ever needed, and there is at most one live entry of a kind for each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::time::{Monotonic, Timestamp};

/// Deadlines of waiting records, timers of files, and the series with much to write.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// In order, because all records wait equally long.
    flushes: VecDeque<(Monotonic, usize)>,
    rotations: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Series with enough waiting to be worth a write as soon as it is settled.
    pub(super) full: Vec<usize>,
}

impl Agenda {
    /// Records of a series are to be written by `deadline`, which is never before an earlier one.
    pub(super) fn flush_by(&mut self, deadline: Monotonic, series: usize) {
        self.flushes.push_back((deadline, series));
    }

    /// How many deadlines there are.
    pub(super) fn flushes(&self) -> usize {
        self.flushes.len()
    }

    /// The first deadline, if it is not later than `now`.
    pub(super) fn due_flush(&mut self, now: Monotonic) -> Option<(Monotonic, usize)> {
        self.flushes.pop_front_if(|(deadline, _)| *deadline <= now)
    }

    /// The first deadline, whenever it is.
    pub(super) fn any_flush(&mut self) -> Option<(Monotonic, usize)> {
        self.flushes.pop_front()
    }

    /// A series' file is to be looked after at `time`.
    pub(super) fn rotate_at(&mut self, time: Timestamp, series: usize) {
        self.rotations.push(Reverse((time, series)));
    }

    /// The first series whose file is due.
    pub(super) fn due_rotation(&mut self, now: Timestamp) -> Option<usize> {
        let Reverse((time, series)) = *self.rotations.peek()?;
        (time <= now).then(|| {
            self.rotations.pop();
            series
        })
    }

    /// How long there is nothing to do, at most `longest`.
    pub(super) fn nap(&self, now: Monotonic, wall: Timestamp, longest: Duration) -> Duration {
        let flush = self
            .flushes
            .front()
            .map(|(deadline, _)| deadline.since(now));
        let rotation = self
            .rotations
            .peek()
            .map(|Reverse((time, _))| time.since(wall));
        let soon = flush.into_iter().chain(rotation).min();
        soon.map_or(longest, |soon| soon.min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_its_order_and_not_before_its_time() {
        let mut agenda = Agenda::default();
        let (at, wall) = (Monotonic::from_nanos, Timestamp::from_nanos);
        agenda.flush_by(at(10), 1);
        agenda.flush_by(at(20), 2);
        agenda.rotate_at(wall(500), 3);
        agenda.rotate_at(wall(400), 4);
        let second = Duration::from_secs(1);
        assert_eq!(agenda.nap(at(4), wall(0), second), Duration::from_nanos(6));
        assert_eq!(agenda.due_flush(at(9)), None);
        assert_eq!(agenda.due_flush(at(10)), Some((at(10), 1)));
        assert_eq!(agenda.due_flush(at(10)), None);
        assert_eq!(agenda.any_flush(), Some((at(20), 2)));
        assert_eq!(agenda.due_rotation(wall(399)), None);
        assert_eq!(agenda.due_rotation(wall(900)), Some(4));
        assert_eq!(agenda.due_rotation(wall(900)), Some(3));
        assert_eq!(agenda.nap(at(0), wall(0), second), second);
    }
}
