//! Who holds how much of the memory for packets that wait for the disk, and who may have more of it.
//!
//! Takes: holders as they ask for a buffer. Gives: whether it would be fair. Holds: up to three quarters of the budget nobody is refused; above,
//! a holder may have three times what is free, which is the same for all: large holders end up with equal parts, and whoever
//! holds less than that is never refused while there is memory; a holder that asks alone may have all but a sixteenth. One addition for each buffer,
//! nothing for a packet; memory is fixed. `docs/overload.md` has the argument.
//!
//! A holder is a configured session; a source of one that has its part may have a little more, for those that send little beside one that sends
//! much. What no session claims is one more, and within it each outer source is one, so that
//! a source that makes up VNIs is no more than a source. Places are found by number and by hash: those that meet in one share a part.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::metrics::Gauge;
use crate::packet::DropReason;

/// Places of sessions, of outer sources that no session claims, and of those that one does.
const SESSIONS: u32 = 4_096;
const SOURCES: u32 = 4_096;
const MEMBERS: u32 = 4_096;

/// What a source of a session that has its part may have beside it: so much of that part.
const MEMBER_PART: u64 = 8;

/// Who asks above the mark: nobody, or several. Below that: one, by its number and one more.
const NOBODY: u32 = 0;
const SEVERAL: u32 = u32::MAX;

/// Somebody whose packets wait, by the number of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// A configured session.
    Session {
        /// The session.
        place: u32,
        /// The source in it that asks; it is alone only as long as no other does.
        asker: u32,
    },
    /// An outer source that no session claims.
    Source(u32),
    /// An outer source of a session that has its part.
    Member {
        /// The session.
        session: u32,
        /// The source in it.
        place: u32,
    },
}

impl Holder {
    /// A configured session, by the number of its target.
    pub(super) const fn session(target: u32) -> Self {
        let place = target % SESSIONS;
        Self::Session {
            place,
            asker: place % MEMBERS,
        }
    }

    const fn place(self) -> usize {
        let place = match self {
            Self::Session { place, .. } => place,
            Self::Source(place) => SESSIONS + place,
            Self::Member { place, .. } => SESSIONS + SOURCES + place,
        };
        place as usize
    }

    /// Who it is that asks.
    const fn asker(self) -> u32 {
        match self {
            Self::Session { asker, .. } => SOURCES + asker,
            Self::Source(place) => place,
            Self::Member { place, .. } => SOURCES + place,
        }
    }

    const fn is_unclaimed(self) -> bool {
        matches!(self, Self::Source(_))
    }
}

/// What each holder has.
#[derive(Debug)]
pub(super) struct Shares {
    limit: u64,
    hasher: foldhash::fast::RandomState,
    held: Box<[Gauge]>,
    /// All outer sources together that no session claims, and how many of them hold anything.
    unclaimed: Gauge,
    sources: Gauge,
    /// What the members of each session have together.
    members: Box<[Gauge]>,
    /// Who has asked since the budget was last below the mark.
    asking: AtomicU32,
    /// Whether a configured session is among them.
    claimed_ask: AtomicBool,
}

impl Shares {
    /// Nobody holds anything of `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        let gauges = |count| (0..count).map(|_| Gauge::new()).collect();
        Self {
            limit,
            hasher: foldhash::fast::RandomState::default(),
            held: gauges(SESSIONS + SOURCES + MEMBERS),
            members: gauges(SESSIONS),
            unclaimed: Gauge::new(),
            sources: Gauge::new(),
            asking: AtomicU32::new(NOBODY),
            claimed_ask: AtomicBool::new(false),
        }
    }

    /// An outer source that no session claims.
    pub(super) fn source(&self, source: IpAddr) -> Holder {
        let hash = self.hasher.hash_one(source) as u32;
        Holder::Source(hash % SOURCES)
    }

    /// A session, for packets of one of its sources.
    pub(super) fn session(&self, target: u32, source: IpAddr) -> Holder {
        Holder::Session {
            place: target % SESSIONS,
            asker: self.place_in(target, source),
        }
    }

    /// An outer source of a session, for when the session has its part.
    pub(super) fn member(&self, target: u32, source: IpAddr) -> Holder {
        Holder::Member {
            session: target % SESSIONS,
            place: self.place_in(target, source),
        }
    }

    fn place_in(&self, target: u32, source: IpAddr) -> u32 {
        self.hasher.hash_one((target, source)) as u32 % MEMBERS
    }

    /// The mark, above which memory is dealt out: three quarters.
    pub(super) fn mark(limit: u64) -> u64 {
        limit / 4 * 3
    }

    /// Whether `holder` may have `bytes` more while `used` bytes are out; why not.
    pub(super) fn admits(&self, holder: Holder, bytes: u64, used: u64) -> Result<(), DropReason> {
        if used <= Self::mark(self.limit) {
            self.relax();
            return Ok(());
        }
        if self.asks_alone(holder) {
            // whoever comes next finds something
            let fits = used + bytes <= self.limit - self.limit / 16;
            return fits.then_some(()).ok_or(DropReason::BufferFull);
        }
        let is_fair = self.is_fair(holder, bytes, used);
        is_fair.then_some(()).ok_or(DropReason::OverShare)
    }

    /// Whether `holder` has less than what is free allows.
    fn is_fair(&self, holder: Holder, bytes: u64, used: u64) -> bool {
        let most = self.limit.saturating_sub(used).saturating_mul(3);
        let held = self.held.get(holder.place()).map_or(0, Gauge::value);
        let fits = held == 0 || held + bytes <= most;
        match holder {
            Holder::Session { .. } => fits,
            Holder::Source(_) => fits && self.admits_unclaimed(held, bytes, most),
            Holder::Member { session, .. } => {
                let all = self.members.get(session as usize).map_or(0, Gauge::value);
                all + bytes <= most && (held == 0 || held + bytes <= most / MEMBER_PART)
            }
        }
    }

    /// What nobody configured is one holder against those who were: beside them all its sources together may have `most`, and each
    /// an equal part of that in any case.
    fn admits_unclaimed(&self, held: u64, bytes: u64, most: u64) -> bool {
        let alone = !self.claimed_ask.load(Ordering::Relaxed);
        let part = most / self.sources.value().max(1);
        alone || self.unclaimed.value() + bytes <= most || held + bytes <= part
    }

    /// There is room again: who was pressed is forgotten.
    fn relax(&self) {
        if self.asking.load(Ordering::Relaxed) != NOBODY {
            self.asking.store(NOBODY, Ordering::Relaxed);
            self.claimed_ask.store(false, Ordering::Relaxed);
        }
    }

    /// Takes note of who asks above the mark; whether nobody else does.
    fn asks_alone(&self, holder: Holder) -> bool {
        if !holder.is_unclaimed() {
            self.claimed_ask.store(true, Ordering::Relaxed);
        }
        let own = holder.asker() + 1;
        let now = self.asking.load(Ordering::Relaxed);
        if now == own || now == NOBODY {
            self.asking.store(own, Ordering::Relaxed);
            return true;
        }
        self.asking.store(SEVERAL, Ordering::Relaxed);
        false
    }

    /// A holder has got a buffer.
    pub(super) fn add(&self, holder: Holder, bytes: u64) {
        let held = self.held.get(holder.place());
        let is_first = held.is_some_and(|held| held.add(bytes) == bytes);
        match holder {
            Holder::Session { .. } => {}
            Holder::Source(_) => {
                self.unclaimed.add(bytes);
                self.sources.add(u64::from(is_first));
            }
            Holder::Member { session, .. } => {
                let all = self.members.get(session as usize);
                all.into_iter().for_each(|all| _ = all.add(bytes));
            }
        }
    }

    /// A holder's buffer has come back.
    pub(super) fn sub(&self, holder: Holder, bytes: u64) {
        let held = self.held.get(holder.place());
        let was_last = held.is_some_and(|held| held.sub(bytes) == 0);
        match holder {
            Holder::Session { .. } => {}
            Holder::Source(_) => {
                self.unclaimed.sub(bytes);
                self.sources.sub(u64::from(was_last));
            }
            Holder::Member { session, .. } => {
                let all = self.members.get(session as usize);
                all.into_iter().for_each(|all| _ = all.sub(bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const LIMIT: u64 = 4_000_000;
    const PIECE: u64 = 1_000;

    /// A buffer that a disk empties in the order in which it was filled. Time goes in steps; in each, holders ask for so many
    /// pieces, spread over the step, and the disk takes `drain`.
    struct Model {
        shares: Shares,
        queue: VecDeque<Holder>,
        used: u64,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Fate {
        asked: u64,
        refused: u64,
    }

    impl Model {
        fn new() -> Self {
            Self {
                shares: Shares::new(LIMIT),
                queue: VecDeque::new(),
                used: 0,
            }
        }

        fn ask(&mut self, holder: Holder) -> bool {
            let admitted = self.shares.admits(holder, PIECE, self.used).is_ok();
            let fits = self.used + PIECE <= LIMIT;
            if admitted && fits {
                self.used += PIECE;
                self.shares.add(holder, PIECE);
                self.queue.push_back(holder);
            }
            admitted && fits
        }

        fn drain(&mut self, pieces: u64) {
            for _ in 0..pieces {
                if let Some(holder) = self.queue.pop_front() {
                    self.shares.sub(holder, PIECE);
                    self.used -= PIECE;
                }
            }
        }

        /// `steps` steps in which each of `loads` asks for its number of pieces; who fared how.
        fn run(&mut self, loads: &[(Holder, u64)], drain: u64, steps: u64) -> Vec<Fate> {
            let mut fates = vec![Fate::default(); loads.len()];
            let most = loads.iter().map(|(_, n)| *n).max().unwrap_or(0);
            for _ in 0..steps {
                for round in 0..most {
                    for (fate, (holder, n)) in fates.iter_mut().zip(loads) {
                        // evenly over the step
                        if (round + 1) * n / most > round * n / most {
                            fate.asked += 1;
                            fate.refused += u64::from(!self.ask(*holder));
                        }
                    }
                }
                self.drain(drain);
            }
            fates
        }
    }

    fn session(n: u32) -> Holder {
        Holder::session(n)
    }

    #[test]
    fn mice_lose_nothing_beside_an_elephant_that_the_disk_cannot_follow() {
        let mut model = Model::new();
        let mut loads = vec![(session(0), 300)];
        loads.extend((1..10).map(|n| (session(n), 5)));
        let fates = model.run(&loads, 100, 200);
        assert!(fates[0].refused > 30_000, "an overload: {:?}", fates[0]);
        let lost: u64 = fates[1..].iter().map(|f| f.refused).sum();
        assert_eq!(lost, 0, "{fates:?}");
    }

    #[test]
    fn elephants_of_different_size_get_equal_parts() {
        let mut model = Model::new();
        let loads = [
            (session(0), 400),
            (session(1), 200),
            (session(2), 100),
            (session(3), 1),
        ];
        model.run(&loads, 60, 200);
        let fates = model.run(&loads, 60, 400);
        let kept: Vec<u64> = fates.iter().map(|f| f.asked - f.refused).collect();
        let part = (kept[0] + kept[1] + kept[2]) / 3;
        for n in &kept[..3] {
            assert!(n.abs_diff(part) * 5 < part, "{kept:?}");
        }
        assert_eq!(fates[3].refused, 0, "{fates:?}");
    }

    #[test]
    fn a_holder_that_asks_alone_may_have_all_but_a_sixteenth_which_is_for_who_comes_next() {
        let mut model = Model::new();
        let all = LIMIT / 16 * 15;
        let fates = model.run(&[(session(7), all / PIECE)], 0, 1);
        assert_eq!((fates[0].refused, model.used), (0, all));
        assert!(!model.ask(session(7)) && model.ask(session(8)));
        model.drain(10);
        assert!(!model.ask(session(7)) && model.ask(session(8)));
    }

    #[test]
    fn a_lone_source_after_a_flood_is_not_shed() {
        let mut model = Model::new();
        let flood: Vec<_> = (0..50_u8)
            .map(|n| (model.shares.source([10, 0, 1, n].into()), 100))
            .collect();
        model.run(&flood, 500, 20);
        assert!(model.used > Shares::mark(LIMIT));
        // while what the flood left is in the way, a part like the others' is the lone one's
        let lone = model.shares.source([10, 0, 0, 1].into());
        let fates = model.run(&[(lone, 60)], 500, 3);
        assert_eq!(
            (fates[0].refused, model.used < Shares::mark(LIMIT)),
            (0, true)
        );
        let fates = model.run(&[(lone, 450)], 500, 100);
        assert_eq!(fates[0].refused, 0, "{fates:?}");
        // and where the disk stops, all that one alone may have
        let all = LIMIT / 16 * 15;
        let fates = model.run(&[(lone, (all - model.used) / PIECE)], 0, 1);
        assert_eq!((fates[0].refused, model.used), (0, all));
    }

    #[test]
    fn a_flood_of_sources_that_nobody_claims_is_one_beside_a_session() {
        let mut model = Model::new();
        let mut loads: Vec<_> = (0..200_u8)
            .map(|n| (model.shares.source([192, 0, 2, n].into()), 10))
            .collect();
        loads.push((session(0), 100));
        model.run(&loads, 300, 100);
        let fates = model.run(&loads, 300, 100);
        let session = fates[200];
        assert!(
            session.asked - session.refused > session.asked * 9 / 10,
            "{session:?}"
        );
        let flood: u64 = fates[..200].iter().map(|f| f.refused).sum();
        assert!(flood > 100_000, "{flood}");
    }

    #[test]
    fn below_three_quarters_nobody_is_refused() {
        let mut model = Model::new();
        for n in 0..LIMIT / PIECE / 4 * 3 {
            assert!(model.ask(session((n % 3) as u32)), "{n}");
        }
    }
}
