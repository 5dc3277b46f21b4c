//! What waits to be written for one session, and the order in which it goes.
//!
//! Takes: runs as they come from the workers. Gives: [`Stretch`]es, neighbouring records of one run,
//! in order over all runs, as far as the watermark has settled them. Holds: records of equal order stay
//! as they came; no record's bytes are moved, save that very small runs are copied together, so that a
//! session that sends a packet now and then holds one buffer and not one for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::sink::capture::pool::{Pool, class_for};
use crate::sink::capture::run::{Mark, Run};

/// Runs up to this size are copied behind the one before them.
const SMALL: usize = 4 << 10;

/// Copies are gathered in buffers up to this size.
const GATHERED: usize = 16 << 10;

/// The next order of each run with settled records, and the run; the smallest on top.
pub(super) type Heap = BinaryHeap<Reverse<(u64, usize)>>;

/// A run, and how far it has been written.
#[derive(Debug)]
struct Pending {
    run: Run,
    next: usize,
}

impl Pending {
    fn rest(&self) -> &[Mark] {
        self.run.buffer.marks.get(self.next..).unwrap_or_default()
    }

    /// Bytes of records `from..to`.
    fn bytes(&self, from: usize, to: usize) -> usize {
        if let Some((_, len)) = self.run.together(from, to) {
            return len as usize;
        }
        let marks = self.run.marks(from, to).iter();
        marks.map(|mark| self.run.len_of(mark) as usize).sum()
    }
}

/// Records `from..to` of the run number `run`, which come next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) run: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The runs of one session.
#[derive(Debug, Default)]
pub(super) struct Queue {
    runs: Vec<Pending>,
    bytes: usize,
}

impl Queue {
    /// Bytes of records that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes a run.
    pub(super) fn push(&mut self, mut run: Run, pool: &Pool) {
        run.share_out();
        self.bytes += run.buffer.bytes.len();
        let small = run.buffer.bytes.len() <= SMALL;
        let last = self.runs.last_mut().filter(|_| small);
        if last.is_some_and(|last| absorb(last, &run, pool)) {
            pool.give(run.buffer);
        } else {
            self.runs.push(Pending { run, next: 0 });
        }
    }

    /// About how many bytes are settled: exact for runs that are settled as a whole.
    pub(super) fn settled(&mut self, watermark: u64) -> usize {
        self.runs.iter_mut().map(|p| settled(p, watermark)).sum()
    }

    /// Whether any record is settled.
    pub(super) fn has_settled(&self, watermark: u64) -> bool {
        let lowest = |p: &Pending| match p.run.sorted {
            true => p.rest().first().map(|m| m.order),
            false => p.rest().iter().map(|m| m.order).min(),
        };
        self.runs.iter().filter_map(lowest).any(|o| o < watermark)
    }

    /// Begins to hand out what is settled.
    pub(super) fn begin(&mut self, watermark: u64, heap: &mut Heap) {
        heap.clear();
        for (i, pending) in self.runs.iter_mut().enumerate() {
            pending.run.sort(pending.next);
            let first = pending.rest().first().filter(|m| m.order < watermark);
            heap.extend(first.map(|m| Reverse((m.order, i))));
        }
    }

    /// The next records in order: as many of one run as come before any other run's.
    pub(super) fn next(&mut self, watermark: u64, heap: &mut Heap) -> Option<Stretch> {
        let Reverse((_, i)) = heap.pop()?;
        let rival = heap.peek().map_or((u64::MAX, usize::MAX), |Reverse(r)| *r);
        let pending = self.runs.get_mut(i)?;
        let first = |m: &Mark| m.order < watermark && (m.order, i) < rival;
        let rest = pending.rest();
        let count = match rest.last() {
            Some(last) if first(last) => rest.len(),
            _ => rest.partition_point(first),
        };
        let from = pending.next;
        pending.next += count;
        self.bytes -= pending.bytes(from, pending.next);
        let next = pending.rest().first().filter(|m| m.order < watermark);
        heap.extend(next.map(|m| Reverse((m.order, i))));
        Some(Stretch {
            run: i,
            from,
            to: from + count,
        })
    }

    /// Run number `run`.
    pub(super) fn run(&self, run: usize) -> Option<&Run> {
        self.runs.get(run).map(|p| &p.run)
    }

    /// Bytes of a run.
    pub(super) fn bytes_of(&self, run: usize, start: usize, len: usize) -> &[u8] {
        let bytes = self.runs.get(run).map(|p| &p.run.buffer.bytes);
        bytes
            .and_then(|b| b.get(start..start + len))
            .unwrap_or_default()
    }

    /// The run itself, for filling in numbers.
    pub(super) fn run_mut(&mut self, run: usize) -> Option<&mut Run> {
        self.runs.get_mut(run).map(|p| &mut p.run)
    }

    /// Gives the buffers of runs that were handed out whole back.
    pub(super) fn sweep(&mut self, pool: &Pool) {
        let done = |p: &mut Pending| p.rest().is_empty();
        for pending in self.runs.extract_if(.., done) {
            pool.give(pending.run.buffer);
        }
    }
}

/// Copies a small run behind the last one, where there is room or a somewhat larger buffer to be had.
fn absorb(last: &mut Pending, run: &Run, pool: &Pool) -> bool {
    if !last.run.has_room_for(run) && !enlarge(last, run, pool) {
        return false;
    }
    last.run.append(run, 0);
    true
}

fn enlarge(last: &mut Pending, run: &Run, pool: &Pool) -> bool {
    let bytes = last.run.buffer.bytes.len() + run.buffer.bytes.len();
    let marks = last.rest().len() + run.buffer.marks.len();
    if bytes > GATHERED / 2 {
        return false;
    }
    let class = class_for(bytes * 2, marks * 2);
    let holder = last.run.buffer.holder();
    let Some(Ok(buffer)) = class.map(|class| pool.take(class, holder)) else {
        return false;
    };
    let mut larger = Run::new(last.run.target.clone(), buffer);
    larger.append(&last.run, last.next);
    let smaller = std::mem::replace(&mut last.run, larger);
    last.next = 0;
    pool.give(smaller.buffer);
    true
}

fn settled(pending: &mut Pending, watermark: u64) -> usize {
    pending.run.sort(pending.next);
    let rest = pending.rest();
    match (rest.first(), rest.last()) {
        (Some(first), _) if first.order >= watermark => 0,
        (_, Some(last)) if last.order < watermark && pending.next == 0 => {
            pending.run.buffer.bytes.len()
        }
        _ => {
            let count = rest.partition_point(|m| m.order < watermark);
            let mean = pending.run.buffer.bytes.len() / pending.run.buffer.marks.len().max(1);
            count * mean
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::*;
    use crate::sink::Kept;
    use crate::sink::capture::share::Holder;
    use crate::sink::capture::tests::target;
    use crate::time::Timestamp;

    const ONE: Holder = Holder::session(1);

    fn run(pool: &Pool, orders: &[u64]) -> Run {
        let class = class_for(orders.len() * 80, orders.len()).expect("a class");
        let mut run = Run::new(target(0), pool.take(class, ONE).expect("there is room"));
        for &order in orders {
            let kept = Kept {
                frame: &order.to_be_bytes(),
                origlen: 8,
                time: Timestamp::from_nanos(order),
                order,
            };
            run.push(0, &[kept], usize::MAX);
        }
        run
    }

    fn drain(queue: &mut Queue, watermark: u64) -> Vec<u64> {
        let (mut heap, mut out) = (Heap::new(), Vec::new());
        queue.begin(watermark, &mut heap);
        while let Some(s) = queue.next(watermark, &mut heap) {
            assert!(s.to > s.from, "a stretch is never empty");
            for i in s.from..s.to {
                let run = queue.run(s.run).expect("a run");
                let mark = run.marks(i, i + 1)[0];
                let len = run.len_of(&mark) as usize;
                let bytes = queue.bytes_of(s.run, mark.start as usize, len);
                assert_eq!(
                    &bytes[16..],
                    mark.order.to_be_bytes(),
                    "marks point at their record"
                );
                out.push(mark.order);
            }
        }
        out
    }

    #[test]
    fn what_the_watermark_has_not_passed_stays() {
        let pool = Pool::new(4 << 20);
        let mut queue = Queue::default();
        queue.push(run(&pool, &[1, 4, 9]), &pool);
        assert!(!queue.has_settled(1));
        assert_eq!(drain(&mut queue, 5), [1, 4]);
        queue.sweep(&pool);
        assert!(!queue.is_empty() && queue.bytes() == 24);
        assert_eq!(drain(&mut queue, u64::MAX), [9]);
        queue.sweep(&pool);
        assert!(queue.is_empty() && queue.bytes() == 0);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn many_small_runs_share_a_buffer() {
        let pool = Pool::new(4 << 20);
        let mut queue = Queue::default();
        (0..100).for_each(|n| queue.push(run(&pool, &[n]), &pool));
        assert!(queue.runs.len() < 4, "{} runs", queue.runs.len());
        assert_eq!(drain(&mut queue, u64::MAX), Vec::from_iter(0..100));
    }

    proptest! {
        #[test]
        fn records_come_out_in_order_whatever_runs_they_came_in(
            runs in prop::collection::vec(prop::collection::vec(0..1000u64, 1..80), 1..12),
            steps in prop::collection::vec(0..1000u64, 0..4),
        ) {
            let pool = Pool::new(16 << 20);
            let mut queue = Queue::default();
            runs.iter().for_each(|orders| queue.push(run(&pool, orders), &pool));
            let mut steps = steps;
            steps.sort_unstable();
            let mut out = Vec::new();
            for watermark in steps.into_iter().chain([u64::MAX]) {
                out.extend(drain(&mut queue, watermark));
                queue.sweep(&pool);
            }
            let mut expected = runs.concat();
            expected.sort_unstable();
            assert_eq!(out, expected);
            assert!(queue.is_empty() && queue.bytes() == 0 && pool.used() == 0);
        }
    }
}
