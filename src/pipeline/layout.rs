//! How many threads, and on which cores.
//!
//! Receiving costs far more than what a worker does with a packet (about 2 µs in the kernel against some 50 ns), so
//! half of the cores receive and a quarter work; the rest is for writers and the system. Threads are pinned to the
//! cores that the process may use, receivers first. Writers and control float.

use serde::Serialize;

use crate::config::Threads;

/// Threads of the packet path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Layout {
    /// Receivers, for each listening address.
    pub receivers: usize,
    /// Workers.
    pub workers: usize,
    /// The core of each receiver of an address; empty when nothing is pinned.
    pub receiver_cores: Vec<usize>,
    /// The core of each worker; empty when nothing is pinned.
    pub worker_cores: Vec<usize>,
}

impl Layout {
    /// For the cores that the process may use.
    pub fn new(threads: Threads, cores: &[usize]) -> Self {
        let n = cores.len().max(1);
        let or = |asked: u16, default: usize| {
            if asked == 0 {
                default
            } else {
                usize::from(asked)
            }
        };
        let receivers = or(threads.receivers, (n / 2).max(1));
        let workers = or(threads.workers, (n / 4).max(1));
        // on a single core pinning says nothing
        let pinned = threads.pin && cores.len() > 1;
        let core = |i: usize| cores.get(i % n).copied().filter(|_| pinned);
        Self {
            receivers,
            workers,
            receiver_cores: (0..receivers).filter_map(core).collect(),
            worker_cores: (receivers..receivers + workers).filter_map(core).collect(),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_for(cores: usize) -> (usize, usize, Vec<usize>, Vec<usize>) {
        let cores: Vec<usize> = (0..cores).collect();
        let l = Layout::new(Threads::default(), &cores);
        (l.receivers, l.workers, l.receiver_cores, l.worker_cores)
    }

    #[test]
    fn the_defaults_fit_machines_of_1_to_16_cores() {
        assert_eq!(default_for(1), (1, 1, vec![], vec![]));
        assert_eq!(default_for(2), (1, 1, vec![0], vec![1]));
        assert_eq!(default_for(4), (2, 1, vec![0, 1], vec![2]));
        assert_eq!(default_for(8), (4, 2, vec![0, 1, 2, 3], vec![4, 5]));
        let (receivers, workers, ..) = default_for(16);
        assert_eq!((receivers, workers), (8, 4));
    }

    #[test]
    fn only_allowed_cores_are_used_and_more_threads_than_cores_share_them() {
        let threads = Threads {
            receivers: 2,
            workers: 3,
            pin: true,
        };
        let l = Layout::new(threads, &[5, 9]);
        assert_eq!(
            (l.receiver_cores, l.worker_cores),
            (vec![5, 9], vec![5, 9, 5])
        );
    }
}
