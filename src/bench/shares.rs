//! CPU time by kind of thread, and what it says about the limit.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::bench::Error;
use crate::sys::usage;

/// The name of the generator's thread.
pub(super) const SENDER: &str = "sender";

/// Kinds of threads in the order of the path, by how their names begin.
const KINDS: [&str; 5] = [SENDER, "receiver", "worker", "writer", "closer"];

/// A kind of thread that is busy for more than this part of the time is a limit.
const BUSY: f64 = 0.85;

/// What one kind of thread has cost.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// `sender`, `receiver`, `worker`, `writer`, `closer`.
    pub stage: &'static str,
    /// How many threads.
    pub threads: usize,
    /// CPU time of all of them for each packet.
    pub ns_per_packet: f64,
    /// The part of the time that the busiest was on a core.
    pub busy: f64,
}

/// CPU times of threads at one moment, by id.
#[derive(Debug)]
pub(super) struct Reading(BTreeMap<u32, usage::Used>);

impl Reading {
    pub(super) fn now() -> Result<Self, Error> {
        let threads = usage::threads().map_err(Error::Usage)?;
        Ok(Self(threads.into_iter().map(|t| (t.id, t)).collect()))
    }

    /// What each kind has cost since `before`, for `packets` packets in `wall`.
    pub(super) fn shares(&self, before: &Self, packets: u64, wall: Duration) -> Vec<Share> {
        let share = |stage| {
            let spent: Vec<Duration> = self.of(stage).map(|t| t.cpu - before.cpu(t)).collect();
            let total: Duration = spent.iter().sum();
            let most = spent.iter().max().copied().unwrap_or_default();
            Share {
                stage,
                threads: spent.len(),
                ns_per_packet: total.as_nanos() as f64 / packets.max(1) as f64,
                busy: most.as_secs_f64() / wall.as_secs_f64().max(1e-9),
            }
        };
        let all = KINDS.into_iter().map(share);
        all.filter(|s| s.threads > 0).collect()
    }

    fn of(&self, kind: &'static str) -> impl Iterator<Item = &usage::Used> {
        self.0.values().filter(move |t| t.name.starts_with(kind))
    }

    fn cpu(&self, thread: &usage::Used) -> Duration {
        let before = self.0.get(&thread.id).map(|t| t.cpu);
        before.unwrap_or_default().min(thread.cpu)
    }
}

/// Which stage is the limit, in words.
pub(super) fn limit(shares: &[Share]) -> String {
    let busiest = shares.iter().max_by(|a, b| a.busy.total_cmp(&b.busy));
    match busiest {
        Some(s) if s.busy >= BUSY => format!("{} ({:.0} % of a core)", s.stage, s.busy * 100.0),
        Some(s) => format!(
            "none busy all the time: the disk, or too few cores ({} {:.0} %)",
            s.stage,
            s.busy * 100.0
        ),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(worker: u64, writer: u64) -> Reading {
        let used = |id, name: &str, ms| usage::Used {
            id,
            name: name.into(),
            cpu: Duration::from_millis(ms),
        };
        let all = [
            used(1, "worker-0", worker),
            used(2, "worker-1", 2 * worker),
            used(3, "writer-0", writer),
        ];
        Reading(all.into_iter().map(|t| (t.id, t)).collect())
    }

    #[test]
    fn the_busiest_kind_is_the_limit_and_idle_ones_are_not() {
        let wall = Duration::from_millis(500);
        let shares = reading(300, 80).shares(&reading(60, 60), 1000, wall);
        let told: Vec<_> = shares
            .iter()
            .map(|s| (s.stage, s.threads, s.ns_per_packet))
            .collect();
        assert_eq!(told, [("worker", 2, 720_000.0), ("writer", 1, 20_000.0)]);
        assert_eq!(limit(&shares), "worker (96 % of a core)");
        let idle = reading(70, 80).shares(&reading(60, 60), 1000, wall);
        assert!(limit(&idle).starts_with("none busy"), "{idle:?}");
    }
}
