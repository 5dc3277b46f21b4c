//! Which packets of a batch go to which worker: a counting sort of packet numbers.

/// The numbers of worker 0's packets, then worker 1's, and so on. Memory is kept from deal to deal.
#[derive(Debug, Default)]
pub(super) struct Lots {
    /// The worker of each packet.
    owners: Vec<u16>,
    /// Packet numbers, grouped.
    index: Vec<u16>,
    /// Where each worker's numbers end.
    ends: Vec<u32>,
}

impl Lots {
    pub(super) fn clear(&mut self) {
        self.ends.clear();
    }

    /// Nothing was dealt.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn deal(&mut self, workers: usize, owners: impl Iterator<Item = u16>) {
        self.owners.clear();
        self.owners.extend(owners);
        self.count(workers);
        self.place();
    }

    /// How many each worker gets, then where each one's numbers start.
    fn count(&mut self, workers: usize) {
        self.ends.clear();
        self.ends.resize(workers, 0);
        for &worker in &self.owners {
            if let Some(n) = self.ends.get_mut(usize::from(worker)) {
                *n += 1;
            }
        }
        let mut start = 0;
        for n in &mut self.ends {
            start += std::mem::replace(n, start);
        }
    }

    /// Places each number and moves its worker's start on, so that starts become ends.
    fn place(&mut self) {
        self.index.clear();
        self.index.resize(self.owners.len(), 0);
        for (i, &worker) in (0_u16..).zip(&self.owners) {
            let Some(at) = self.ends.get_mut(usize::from(worker)) else {
                continue;
            };
            if let Some(slot) = self.index.get_mut(*at as usize) {
                *slot = i;
            }
            *at += 1;
        }
    }

    pub(super) fn of(&self, worker: usize) -> &[u16] {
        let end = |w: usize| self.ends.get(w).map_or(0, |&n| n as usize);
        let start = worker.checked_sub(1).map_or(0, end);
        self.index.get(start..end(worker)).unwrap_or_default()
    }
}
