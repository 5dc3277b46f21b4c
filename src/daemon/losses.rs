//! Losses in the log: that packets are lost, where and how many, at most once a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::logging::Limited;
use crate::packet::DropReason;
use crate::pipeline::Report;
use crate::time;

const EVERY: Duration = Duration::from_secs(60);

/// What has been told so far.
#[derive(Debug)]
pub(super) struct Losses {
    limit: Limited,
    told: Mutex<BTreeMap<&'static str, u64>>,
}

impl Losses {
    pub(super) const fn new() -> Self {
        Self {
            limit: Limited::new(EVERY),
            told: Mutex::new(BTreeMap::new()),
        }
    }

    /// Warns of what was lost since the last warning, by reason.
    pub(super) fn tell(&self, report: &Report) {
        let dropped = DropReason::ALL
            .iter()
            .map(|r| r.name())
            .zip(report.total.dropped);
        let lost: BTreeMap<&'static str, u64> = dropped
            .chain(report.kernel_dropped.iter().map(|(k, n)| (*k, *n)))
            .collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let new = since(&lost, &told);
        if new.is_empty() || self.limit.pass(time::monotonic().nanos()).is_none() {
            return;
        }
        let reasons: Vec<String> = new
            .iter()
            .map(|(reason, n)| format!("{reason}: {n}"))
            .collect();
        tracing::warn!(
            packets = new.values().sum::<u64>(),
            reasons = reasons.join(", "),
            "Packets were lost or refused; docs/metrics.md has the causes and remedies."
        );
        *told = lost;
    }
}

/// What is in `now` beyond `before`.
fn since(
    now: &BTreeMap<&'static str, u64>,
    before: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    let more = |(reason, n): (&&'static str, &u64)| {
        let new = n.saturating_sub(before.get(reason).copied().unwrap_or(0));
        (new > 0).then_some((*reason, new))
    };
    now.iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let before = BTreeMap::from([("short", 5), ("socket", 1)]);
        let now = BTreeMap::from([("short", 5), ("socket", 4), ("queue_full", 2)]);
        assert_eq!(
            since(&now, &before),
            BTreeMap::from([("socket", 3), ("queue_full", 2)])
        );
    }
}
