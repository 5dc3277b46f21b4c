//! A snapshot as the metrics see it: bounded, and with what is read at scrape time beside it.
//!
//! Takes: a [`Snapshot`] and whether the program is healthy. Gives: [`View`], [`Sample`]. Holds: the number
//! of series is bounded whatever arrives on the wire: the first [`MAX_SESSION_SERIES`] sessions and
//! [`MAX_RULE_SERIES`] rules have series of their own, the rest are summed under `(other)`; no series appears twice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::control::{Snapshot, UdpErrors};
use crate::packet::Tally;

/// Sessions that have series of their own; the rest are summed as `(other)`.
pub const MAX_SESSION_SERIES: usize = 1_000;
/// Filter rules that have series of their own; the rest are summed as `(other)`.
pub const MAX_RULE_SERIES: usize = 1_000;
const OTHER: &str = "(other)";

/// A label and its value.
pub(crate) type Label<'a> = (&'static str, Cow<'a, str>);

/// One number with its labels.
#[derive(Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) labels: Vec<Label<'a>>,
    pub(crate) value: Value,
}

/// Counters are whole, gauges need not be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Whole(u64),
    Signed(i64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// What a session's series are made of.
#[derive(Debug, Default)]
pub(crate) struct SessionTotals {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) written: u64,
    pub(crate) written_bytes: u64,
    pub(crate) filtered: u64,
    pub(crate) dropped: u64,
}

impl SessionTotals {
    fn add(&mut self, tally: &Tally) {
        self.received += tally.received;
        self.received_bytes += tally.bytes_received;
        self.written += tally.written;
        self.written_bytes += tally.bytes_written;
        self.filtered += tally.filtered_total();
        self.dropped += tally.dropped_total();
    }
}

/// Session, rule number and direction of a rule's series.
type RuleKey<'a> = (&'a str, Cow<'a, str>, &'static str);

/// A snapshot, bounded.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) healthy: bool,
    pub(crate) udp: UdpErrors,
    sessions: BTreeMap<&'a str, SessionTotals>,
    rules: BTreeMap<RuleKey<'a>, u64>,
}

impl<'a> View<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, healthy: bool, udp: UdpErrors) -> Self {
        Self {
            snapshot,
            healthy,
            udp,
            sessions: bounded_sessions(snapshot),
            rules: bounded_rules(snapshot),
        }
    }

    /// One sample per session series.
    pub(crate) fn per_session(&'a self, number: fn(&SessionTotals) -> u64) -> Vec<Sample<'a>> {
        let sessions = self.sessions.iter();
        sessions
            .map(|(name, totals)| labelled([("session", (*name).into())], number(totals)))
            .collect()
    }

    /// One sample per rule series.
    pub(crate) fn per_rule(&'a self) -> Vec<Sample<'a>> {
        let rules = self.rules.iter();
        rules
            .map(|((session, rule, direction), hits)| {
                let labels = [
                    ("session", (*session).into()),
                    ("rule", rule.clone()),
                    ("direction", (*direction).into()),
                ];
                labelled(labels, *hits)
            })
            .collect()
    }
}

/// Sessions in the order in which they became known, so that a series never changes hands.
fn bounded_sessions(snapshot: &Snapshot) -> BTreeMap<&str, SessionTotals> {
    let mut known: Vec<_> = snapshot.sessions.iter().collect();
    known.sort_by_key(|(_, session)| session.order);
    let mut series: BTreeMap<&str, SessionTotals> = BTreeMap::new();
    for (place, (name, session)) in known.into_iter().enumerate() {
        let name = if place < MAX_SESSION_SERIES {
            name
        } else {
            OTHER
        };
        series.entry(name).or_default().add(&session.ledger);
    }
    series
}

fn bounded_rules(snapshot: &Snapshot) -> BTreeMap<RuleKey<'_>, u64> {
    let mut series: BTreeMap<RuleKey<'_>, u64> = BTreeMap::new();
    for (place, rule) in snapshot.rules.iter().enumerate() {
        let key = if place < MAX_RULE_SERIES {
            let number = Cow::Owned(rule.rule.to_string());
            (rule.session.as_str(), number, rule.direction)
        } else {
            (OTHER, OTHER.into(), rule.direction)
        };
        *series.entry(key).or_default() += rule.hits;
    }
    series
}

/// A number without labels.
pub(crate) fn one<'a>(value: impl Into<Value>) -> Vec<Sample<'a>> {
    vec![labelled([], value)]
}

/// A number with labels.
pub(crate) fn labelled<'a, const N: usize>(
    labels: [Label<'a>; N],
    value: impl Into<Value>,
) -> Sample<'a> {
    Sample {
        labels: labels.into(),
        value: value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Rule, Session};

    fn session(order: u64, received: u64) -> Session {
        let ledger = Tally {
            received,
            ..Tally::default()
        };
        Session {
            order,
            ledger,
            ..Session::default()
        }
    }

    fn received(snapshot: &Snapshot) -> BTreeMap<String, u64> {
        let series = bounded_sessions(snapshot);
        let pairs = series.iter().map(|(k, v)| ((*k).to_owned(), v.received));
        pairs.collect()
    }

    #[test]
    fn sessions_beyond_the_bound_are_summed_and_none_is_lost() {
        let sessions = (0..2_500).map(|i| (format!("vni-{i}"), session(i, i)));
        let snapshot = Snapshot {
            sessions: sessions.collect(),
            ..Snapshot::default()
        };
        let series = received(&snapshot);
        assert_eq!(series.len(), MAX_SESSION_SERIES + 1);
        assert_eq!(series.values().sum::<u64>(), (0..2_500).sum::<u64>());
        assert_eq!(series["(other)"], (1_000..2_500).sum::<u64>());
    }

    #[test]
    fn a_new_session_takes_no_series_from_an_old_one() {
        let sessions = (0..1_000).map(|i| (format!("m-{i}"), session(i, 1)));
        let mut snapshot = Snapshot {
            sessions: sessions.collect(),
            ..Snapshot::default()
        };
        let before = received(&snapshot);
        snapshot.sessions.insert("a".into(), session(1_000, 1));
        let mut after = received(&snapshot);
        assert_eq!(after.remove("(other)"), Some(1));
        assert_eq!(after, before);
    }

    #[test]
    fn a_session_that_is_called_like_the_rest_makes_no_second_series() {
        let sessions = (0..1_001).map(|i| (format!("m-{i}"), session(i + 1, 1)));
        let mut snapshot = Snapshot {
            sessions: sessions.collect(),
            ..Snapshot::default()
        };
        snapshot.sessions.insert(OTHER.into(), session(0, 5));
        assert_eq!(received(&snapshot)[OTHER], 7);
    }

    #[test]
    fn rules_beyond_the_bound_are_summed_by_direction() {
        let rules = (0..1_200).map(|i| Rule {
            session: "web".into(),
            rule: i / 2,
            direction: ["ingress", "egress"][i as usize % 2],
            action: "accept",
            hits: 1,
        });
        let snapshot = Snapshot {
            rules: rules.collect(),
            ..Snapshot::default()
        };
        let series = bounded_rules(&snapshot);
        assert_eq!(series.len(), MAX_RULE_SERIES + 2);
        assert_eq!(series[&(OTHER, OTHER.into(), "egress")], 100);
        assert_eq!(series.values().sum::<u64>(), 1_200);
    }
}
