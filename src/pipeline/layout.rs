//! How many threads, and on which cores.
//!
//! Takes: the `[threads]` table, the kind of source, and the [`Machine`]. Gives: [`Layout`]. Holds: threads are pinned to cores that the
//! process may use, receivers first, on the cores nearest to the network card.
//!
//! Receiving costs far more than what a worker does with a packet (in the kernel 1 to 2 µs, against some 50 ns), so half of the cores
//! receive and a quarter work; the rest is for writers, which float, and the system. A source that reads an interface has no use for
//! more receivers than it has receive queues, save that a single queue may be spread by hash: half of the cores, then, too, but for AF_XDP,
//! where a queue has one socket. One receiver with one worker is one thread (see `worker`).

use std::fmt::Write;

use serde::Serialize;

use crate::config::Threads;
use crate::pipeline::machine::Machine;
use crate::source::Kind;

/// A writer for so many cores: it copies at memory speed, a core's worth of packets with a small part of a core.
const CORES_PER_WRITER: usize = 8;

/// Threads of the packet path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Layout {
    /// Receivers, for each listening address or interface.
    pub receivers: usize,
    /// Workers.
    pub workers: usize,
    /// Writers, where the configuration does not say how many.
    pub writers: usize,
    /// The core of each receiver of an address; empty when nothing is pinned.
    pub receiver_cores: Vec<usize>,
    /// The core of each worker; empty when nothing is pinned.
    pub worker_cores: Vec<usize>,
}

impl Layout {
    /// For a machine.
    pub fn new(threads: Threads, kind: Kind, machine: &Machine) -> Self {
        let n = machine.cores.len().max(1);
        let or = |asked: u16, default: usize| match asked {
            0 => default,
            asked => usize::from(asked),
        };
        let receivers = or(threads.receivers, receivers(n, kind, machine.queues()));
        let workers = or(threads.workers, (n / 4).max(1));
        // on a single core pinning says nothing
        let pinned = threads.pin && machine.cores.len() > 1;
        let core = |i: usize| machine.cores.get(i % n).filter(|_| pinned);
        let cores = |range: std::ops::Range<usize>| range.filter_map(core).map(|c| c.id).collect();
        Self {
            receivers,
            workers,
            writers: (n / CORES_PER_WRITER).max(1),
            receiver_cores: cores(0..receivers),
            worker_cores: cores(receivers..receivers + workers),
        }
    }

    /// The core of receiver `i`, counted over all addresses.
    pub fn receiver_core(&self, i: usize) -> Option<usize> {
        self.receiver_cores
            .get(i % self.receiver_cores.len().max(1))
            .copied()
    }

    /// The core of worker `i`.
    pub fn worker_core(&self, i: usize) -> Option<usize> {
        self.worker_cores.get(i).copied()
    }

    /// One line for each thread, for people.
    pub fn describe(&self, machine: &Machine) -> String {
        let mut out = String::new();
        for card in &machine.cards {
            let node = card
                .node
                .map_or_else(String::new, |n| format!(", NUMA node {n}"));
            let _ = writeln!(out, "{}: receive queues: {}{node}", card.name, card.queues);
        }
        let place = |core: Option<usize>| core.map_or("floats".to_owned(), |c| format!("core {c}"));
        let is_one = (self.receivers, self.workers) == (1, 1);
        for i in 0..self.receivers {
            let core = self.receiver_core(i);
            let queue = machine.queues().filter(|&n| self.receivers == n && n > 1);
            let note = match (is_one, queue) {
                (true, _) => "; does the work of worker-0 too, where it is the only one",
                (false, Some(_)) => "; best with the interrupt of its queue on the same core",
                (false, None) => "",
            };
            let _ = writeln!(out, "receiver-{i}: {}{note}", place(core));
        }
        for i in 0..self.workers {
            let _ = writeln!(out, "worker-{i}: {}", place(self.worker_core(i)));
        }
        let _ = writeln!(out, "writers: {}, float", self.writers);
        out
    }
}

fn receivers(cores: usize, kind: Kind, queues: Option<usize>) -> usize {
    let half = (cores / 2).max(1);
    match (kind, queues) {
        (Kind::Udp, _) | (_, None) => half,
        (Kind::Xdp, Some(queues)) => half.min(queues),
        // one queue says nothing of where packets are: the hash spreads them
        (Kind::Packet | Kind::Auto, Some(1)) => half,
        (Kind::Packet | Kind::Auto, Some(queues)) => half.min(queues),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::machine::{Card, Core};

    fn default_for(cores: usize) -> (usize, usize, Vec<usize>, Vec<usize>) {
        let l = Layout::new(Threads::default(), Kind::Udp, &Machine::of_cores(cores));
        (l.receivers, l.workers, l.receiver_cores, l.worker_cores)
    }

    #[test]
    fn the_defaults_fit_machines_of_1_to_32_cores() {
        assert_eq!(default_for(1), (1, 1, vec![], vec![]));
        assert_eq!(default_for(2), (1, 1, vec![0], vec![1]));
        assert_eq!(default_for(4), (2, 1, vec![0, 1], vec![2]));
        assert_eq!(default_for(8), (4, 2, vec![0, 1, 2, 3], vec![4, 5]));
        for (cores, receivers, workers, writers) in [(16, 8, 4, 2), (32, 16, 8, 4)] {
            let machine = Machine::of_cores(cores);
            let l = Layout::new(Threads::default(), Kind::Udp, &machine);
            assert_eq!(
                (l.receivers, l.workers, l.writers),
                (receivers, workers, writers)
            );
            let mut used = [l.receiver_cores, l.worker_cores].concat();
            used.dedup();
            assert_eq!(used.len(), receivers + workers, "no core has two of them");
        }
    }

    #[test]
    fn only_allowed_cores_are_used_and_more_threads_than_cores_share_them() {
        let threads = Threads {
            receivers: 2,
            workers: 3,
            pin: true,
        };
        let mut machine = Machine::of_cores(2);
        machine.cores = [5, 9]
            .map(|id| Core {
                id,
                ..Core::default()
            })
            .to_vec();
        let l = Layout::new(threads, Kind::Udp, &machine);
        assert_eq!(
            (l.receiver_cores, l.worker_cores),
            (vec![5, 9], vec![5, 9, 5])
        );
    }

    #[test]
    fn a_ring_for_each_queue_is_enough_and_one_queue_is_spread_by_hash() {
        let mut machine = Machine::of_cores(16);
        let card = |queues| Card {
            name: "eth0".to_owned(),
            queues,
            node: None,
        };
        for (kind, queues, expected) in [
            (Kind::Packet, 4, 4),
            (Kind::Packet, 32, 8),
            (Kind::Packet, 1, 8),
            (Kind::Xdp, 1, 1),
            (Kind::Xdp, 4, 4),
            (Kind::Udp, 4, 8),
        ] {
            machine.cards = vec![card(queues)];
            let l = Layout::new(Threads::default(), kind, &machine);
            assert_eq!(l.receivers, expected, "{kind:?} {queues}");
        }
    }

    #[test]
    fn a_layout_is_told_thread_by_thread() {
        let machine = Machine::of_cores(4);
        let told = Layout::new(Threads::default(), Kind::Udp, &machine).describe(&machine);
        let expected =
            "receiver-0: core 0\nreceiver-1: core 1\nworker-0: core 2\nwriters: 1, float\n";
        assert_eq!(told, expected);
    }
}
