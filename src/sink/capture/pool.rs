//! The memory budget for packets that wait for the disk, and the buffers that it is spent on.
//!
//! Takes: the budget. Gives: [`Buffer`]s of a few fixed sizes, or why there is none: the budget is used up, or what is left
//! of it is for those who hold less ([`Shares`]).
//! Holds: the memory of all buffers that are out (bytes and marks, by capacity and not by what is in
//! them) never exceeds the budget; buffers that come back are kept for the next taker, up to an
//! eighth of the budget, so that a steady flow of packets allocates nothing. The one that came back last is
//! the first to go out again: while the disk keeps up, few are in circulation and the cache holds them. Number
//! and locks are touched once per buffer, not per packet.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::metrics::{Counter, Gauge};
use crate::packet::DropReason;
use crate::sink::capture::run::{MOST_SHARES, Mark, Share};
use crate::sink::capture::share::{Holder, Shares};

/// Sizes of buffers, by class. A session that sends little holds little.
const CLASSES: [usize; 9] = [
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
];

/// One mark fits for so many bytes: smaller records fill the marks first.
const BYTES_PER_MARK: usize = 64;

/// The largest class.
pub(super) const LARGEST: u8 = (CLASSES.len() - 1) as u8;

/// Room for serialised records, their marks and the shares of their peers. No vector ever grows.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) marks: Vec<Mark>,
    pub(super) shares: Vec<Share>,
    class: u8,
    most: usize,
    most_marks: usize,
    /// Whose packets it is for.
    holder: Holder,
}

impl Buffer {
    fn new(class: u8, holder: Holder) -> Self {
        let bytes = size(class);
        Self {
            bytes: Vec::with_capacity(bytes),
            marks: Vec::with_capacity(bytes / BYTES_PER_MARK),
            shares: Vec::with_capacity(MOST_SHARES),
            class,
            most: bytes,
            most_marks: bytes / BYTES_PER_MARK,
            holder,
        }
    }

    /// Whose packets it is for.
    pub(super) fn holder(&self) -> Holder {
        self.holder
    }

    /// Its class.
    pub(super) fn class(&self) -> u8 {
        self.class
    }

    /// Whether `records` records of `bytes` bytes together fit.
    pub(super) fn has_room(&self, bytes: usize, records: usize) -> bool {
        self.bytes.len() + bytes <= self.most && self.marks.len() + records <= self.most_marks
    }
}

fn size(class: u8) -> usize {
    CLASSES.get(usize::from(class)).copied().unwrap_or(0)
}

/// What a buffer of a class counts for in the budget.
fn cost(class: u8) -> u64 {
    let bytes = size(class);
    let rest = bytes / BYTES_PER_MARK * size_of::<Mark>() + MOST_SHARES * size_of::<Share>();
    (bytes + rest) as u64
}

/// The smallest class that holds so much, if any does.
pub(super) fn class_for(bytes: usize, marks: usize) -> Option<u8> {
    let need = bytes.max(marks.saturating_mul(BYTES_PER_MARK));
    let class = CLASSES.iter().position(|&size| need <= size)?;
    Some(class as u8)
}

/// The budget and the buffers that wait to be used again.
#[derive(Debug)]
pub(super) struct Pool {
    limit: u64,
    /// Who holds how much; none where nothing runs away, and everybody waits.
    shares: Option<Shares>,
    used: Gauge,
    high: Gauge,
    /// Buffers that had to be allocated.
    made: Counter,
    shelves: Vec<Shelf>,
}

/// Buffers of one class that wait to be used again, and how many may.
#[derive(Debug)]
struct Shelf {
    buffers: Mutex<Vec<Buffer>>,
    most: usize,
}

impl Shelf {
    /// A thread that panicked while it held the lock leaves a list that is still good.
    fn lock(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// A pool whose buffers together take at most `limit` bytes, dealt out fairly when they are short.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            shares: Some(Shares::new(limit)),
            ..Self::unshared(limit)
        }
    }

    /// A pool that whoever comes first may use up: for packets that can wait outside.
    pub(super) fn unshared(limit: u64) -> Self {
        let shelf = |class| {
            // Most of it is for the largest, which cost the most to make anew: a tenth and eight times a 320th are an eighth.
            let part = if class == LARGEST { 10 } else { 320 };
            let share = limit / part / cost(class);
            let most = usize::try_from(share).unwrap_or(1).clamp(1, 4096);
            Shelf {
                buffers: Mutex::default(),
                most,
            }
        };
        Self {
            limit,
            shares: None,
            used: Gauge::new(),
            high: Gauge::new(),
            made: Counter::new(),
            shelves: (0..=LARGEST).map(shelf).collect(),
        }
    }

    /// The holder that an outer source is which no session claims.
    pub(super) fn source(&self, source: IpAddr) -> Holder {
        let shares = self.shares.as_ref();
        shares.map_or(Holder::session(0), |shares| shares.source(source))
    }

    /// The holder that a session is, for packets of one of its sources.
    pub(super) fn session(&self, target: u32, source: IpAddr) -> Holder {
        let shares = self.shares.as_ref();
        shares.map_or(Holder::session(0), |shares| shares.session(target, source))
    }

    /// The holder that an outer source is within a session that has its part.
    pub(super) fn member(&self, target: u32, source: IpAddr) -> Holder {
        let shares = self.shares.as_ref();
        shares.map_or(Holder::session(0), |shares| shares.member(target, source))
    }

    /// An empty buffer of a class, for packets of `holder`.
    ///
    /// # Errors
    /// The budget does not allow it, or others have a better claim to what is left.
    pub(super) fn take(&self, class: u8, holder: Holder) -> Result<Buffer, DropReason> {
        let cost = cost(class);
        let used = self.used.add(cost);
        let shares = self.shares.as_ref();
        let fair = shares.map_or(Ok(()), |shares| shares.admits(holder, cost, used - cost));
        let fits = (used <= self.limit).then_some(());
        if let Err(reason) = fair.and_then(|()| fits.ok_or(DropReason::BufferFull)) {
            self.used.sub(cost);
            return Err(reason);
        }
        self.high.raise(used);
        if let Some(shares) = &self.shares {
            shares.add(holder, cost);
        }
        let shelf = self.shelves.get(usize::from(class));
        let shelved = shelf.and_then(|shelf| shelf.lock().pop());
        Ok(match shelved {
            Some(buffer) => Buffer { holder, ..buffer },
            None => {
                self.made.add(1);
                Buffer::new(class, holder)
            }
        })
    }

    /// Takes a buffer back and gives what it counted for to the next taker.
    pub(super) fn give(&self, mut buffer: Buffer) {
        self.used.sub(cost(buffer.class));
        if let Some(shares) = &self.shares {
            shares.sub(buffer.holder, cost(buffer.class));
        }
        buffer.bytes.clear();
        buffer.marks.clear();
        buffer.shares.clear();
        if let Some(shelf) = self.shelves.get(usize::from(buffer.class)) {
            let mut buffers = shelf.lock();
            // A full shelf lets the buffer go.
            if buffers.len() < shelf.most {
                buffers.push(buffer);
            }
        }
    }

    /// Memory of the buffers that are out.
    pub(super) fn used(&self) -> u64 {
        self.used.value()
    }

    /// The most that was ever out.
    pub(super) fn high(&self) -> u64 {
        self.high.value()
    }

    /// How many buffers were ever allocated: it stands still once enough are in circulation.
    pub(super) fn made(&self) -> u64 {
        self.made.value()
    }

    /// The budget.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether more than a quarter of the budget is out: packets are coming faster than they go.
    pub(super) fn is_filling(&self) -> bool {
        self.used() > self.limit / 4
    }

    /// Whether more than three quarters of the budget are out.
    pub(super) fn is_tight(&self) -> bool {
        self.used() > Shares::mark(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Holder = Holder::session(1);

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let pool = Pool::unshared(1 << 20);
        let taken: Vec<Buffer> = std::iter::from_fn(|| pool.take(LARGEST, ONE).ok()).collect();
        assert_eq!(taken.len(), 2, "352 KiB each");
        let rest: Vec<Buffer> = std::iter::from_fn(|| pool.take(0, ONE).ok()).collect();
        assert!(pool.used() <= pool.limit() && pool.limit() - pool.used() < cost(0));
        taken.into_iter().chain(rest).for_each(|b| pool.give(b));
        assert_eq!(pool.used(), 0);
        assert!(pool.high() <= pool.limit() && pool.high() > pool.limit() / 4 * 3);
    }

    #[test]
    fn a_buffer_that_came_back_is_used_again_and_empty() {
        let pool = Pool::new(64 << 20);
        let mut buffer = pool.take(2, ONE).expect("there is room");
        buffer.bytes.extend_from_slice(b"old");
        let place = buffer.bytes.as_ptr();
        pool.give(buffer);
        let again = pool.take(2, ONE).expect("there is room");
        assert_eq!(again.bytes.as_ptr(), place);
        assert!(again.bytes.is_empty());
    }

    #[test]
    fn every_record_has_a_class() {
        assert_eq!(class_for(0, 0), Some(0));
        assert_eq!(class_for(1025, 1), Some(1));
        assert_eq!(class_for(100, 17), Some(1));
        assert_eq!(class_for(65_535 + 64, 1), Some(LARGEST - 1));
        assert_eq!(class_for(200_000, 1), Some(LARGEST));
        assert_eq!(class_for(1 << 30, 1), None);
    }

    #[test]
    fn what_is_left_of_a_short_budget_is_for_those_who_hold_less() {
        let (pool, two) = (Pool::new(4 << 20), Holder::session(2));
        let mut out: Vec<Buffer> = std::iter::from_fn(|| pool.take(6, ONE).ok()).collect();
        assert_eq!(pool.take(6, ONE).err(), Some(DropReason::BufferFull));
        out.push(pool.take(6, two).expect("a sixteenth is for others"));
        out.drain(..4).for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.take(6, ONE).err(), Some(DropReason::OverShare));
        out.push(pool.take(6, two).expect("its first"));
        out.into_iter().for_each(|buffer| pool.give(buffer));
        assert!(pool.take(6, ONE).is_ok(), "no pressure, no shedding");
    }

    #[test]
    fn where_nothing_runs_away_nobody_is_over_a_share() {
        let (pool, two) = (Pool::unshared(4 << 20), Holder::session(2));
        let mut out: Vec<Buffer> = std::iter::from_fn(|| pool.take(6, ONE).ok()).collect();
        assert_eq!(pool.take(6, two).err(), Some(DropReason::BufferFull));
        pool.give(out.remove(0));
        assert!(pool.take(6, ONE).is_ok());
    }
}
