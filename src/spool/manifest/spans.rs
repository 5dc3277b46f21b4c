//! From ledgers that grow to what came in between.
//!
//! Takes: readings, each from the start of the run. Gives: what came since the last line that told of it. Holds: all that was given for
//! a session adds up to its highest reading, whatever the order that readings come in.

use std::collections::{BTreeMap, HashMap};

use crate::packet::Tally;

/// Losses by place.
pub(super) type Losses = BTreeMap<&'static str, u64>;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Spans {
    sessions: HashMap<String, Tally>,
    kernel: Losses,
}

impl Spans {
    /// What came to a session since it was last asked.
    pub(super) fn session(&mut self, name: &str, reading: &Tally) -> Tally {
        let Some(told) = self.sessions.get_mut(name) else {
            self.sessions.insert(name.to_owned(), reading.clone());
            return reading.clone();
        };
        let span = reading.since(told);
        told.merge(&span);
        span
    }

    /// What the kernel lost since it was last asked; places that lost nothing are left out.
    pub(super) fn kernel(&mut self, reading: Losses) -> Losses {
        let mut span = Losses::new();
        for (place, lost) in reading {
            let told = self.kernel.entry(place).or_default();
            let new = lost.saturating_sub(*told);
            *told += new;
            if new > 0 {
                span.insert(place, new);
            }
        }
        span
    }

    /// What is left of each session; those with nothing left are left out.
    pub(super) fn rest(&mut self, readings: BTreeMap<String, Tally>) -> BTreeMap<String, Tally> {
        let rest = readings.into_iter().map(|(name, reading)| {
            let span = self.session(&name, &reading);
            (name, span)
        });
        rest.filter(|(_, span)| *span != Tally::default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::packet::DropReason;

    fn reading(received: u64, dropped: u64) -> Tally {
        let mut tally = Tally {
            received,
            ..Tally::default()
        };
        tally.dropped[DropReason::WriteFailed.index()] = dropped;
        tally
    }

    proptest! {
        #[test]
        fn spans_add_up_to_the_highest_reading_in_any_order(readings in proptest::collection::vec(any::<(u32, u32)>(), 1..20)) {
            let (mut spans, mut sum) = (Spans::default(), Tally::default());
            for (received, dropped) in &readings {
                sum.merge(&spans.session("web", &reading((*received).into(), (*dropped).into())));
            }
            let highest = |of: fn(&(u32, u32)) -> u32| readings.iter().map(of).max().unwrap_or(0).into();
            assert_eq!(sum, reading(highest(|r| r.0), highest(|r| r.1)));
        }
    }

    #[test]
    fn only_what_is_new_is_told_and_nothing_that_is_nothing() {
        let mut spans = Spans::default();
        spans.session("a", &reading(5, 1));
        let rest = spans.rest([("a".into(), reading(5, 1)), ("b".into(), reading(2, 0))].into());
        assert_eq!(rest, BTreeMap::from([("b".to_owned(), reading(2, 0))]));
        assert_eq!(
            spans.kernel([("ring", 3), ("socket", 0)].into()),
            Losses::from([("ring", 3)])
        );
        assert_eq!(
            spans.kernel([("ring", 4)].into()),
            Losses::from([("ring", 1)])
        );
    }
}
