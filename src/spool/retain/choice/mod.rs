//! Which files go.
//!
//! Takes: the files, the bounds, and how things stand. Gives: the files that have to go, each with its cause. Holds: the oldest
//! go first, none that may not, and none after the bound is kept; the same input gives the same answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::spool::retain::{Bounds, Cause, Kept, Shelf};
use crate::sys::folder::Space;
use crate::time::Timestamp;

/// The smallest margin, as a part of a bound.
const LEAST: u64 = 64;

/// The largest: a burst does not empty the disk.
const MOST: u64 = 4;

/// What files that are not finished take, and how fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    /// Bytes of files that are not published.
    pub unfinished: u64,
    /// Bytes written since the last look.
    pub growth: u64,
}

/// How things stand.
#[derive(Debug)]
pub struct Now<'a> {
    /// The time; `None` when no file is to go for its age.
    pub wall: Option<Timestamp>,
    /// The file system of the output and its device, where `min_free` counts.
    pub space: Option<(Space, u64)>,
    /// All sessions together.
    pub all: Pressure,
    /// One session; none where nothing is being written.
    pub of: &'a HashMap<Arc<str>, Pressure>,
}

/// A file that has to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Going {
    /// The file.
    pub kept: Kept,
    /// Why.
    pub cause: Cause,
}

/// The files that have to go, and by how much `min_free` is still missed when they have.
pub fn choose(
    shelf: &Shelf,
    bounds: &Bounds,
    now: &Now<'_>,
    may_go: &dyn Fn(&Kept) -> bool,
) -> (Vec<Going>, u64) {
    let mut choice = Choice {
        shelf,
        may_go,
        chosen: HashSet::new(),
        going: Vec::new(),
    };
    choice.by_age(bounds, now.wall);
    choice.by_size(bounds, now);
    let missing = choice.by_space(bounds, now);
    (choice.going, missing)
}

/// Room for what is written until the next look.
fn margin(bound: u64, growth: u64) -> u64 {
    growth
        .saturating_mul(2)
        .max(bound / LEAST)
        .min(bound / MOST)
}

struct Choice<'a> {
    shelf: &'a Shelf,
    may_go: &'a dyn Fn(&Kept) -> bool,
    chosen: HashSet<(u64, u64)>,
    going: Vec<Going>,
}

impl<'a> Choice<'a> {
    /// Chooses a file, if it may go and does not already.
    fn take(&mut self, kept: &Kept, cause: Cause) -> bool {
        let may = !self.chosen.contains(&kept.identity) && (self.may_go)(kept);
        if may {
            self.chosen.insert(kept.identity);
            let kept = kept.clone();
            self.going.push(Going { kept, cause });
        }
        may
    }

    fn by_age(&mut self, bounds: &Bounds, wall: Option<Timestamp>) {
        let Some(wall) = wall.filter(|_| bounds.has_age()) else {
            return;
        };
        let is_old =
            |kept: &Kept, most: Duration| wall.since(Timestamp::from_nanos(kept.modified)) > most;
        for kept in self.shelf.oldest() {
            if bounds
                .max_age(&kept.session)
                .is_some_and(|m| is_old(kept, m))
            {
                self.take(kept, Cause::Age);
            }
        }
    }

    fn by_size(&mut self, bounds: &Bounds, now: &Now<'_>) {
        for (session, limits) in &bounds.sessions {
            let Some(most) = limits.max_size else {
                continue;
            };
            let pressure = now.of.get(session).copied().unwrap_or_default();
            let total = self.shelf.bytes_of(session) - self.chosen_bytes(Some(session));
            let over = excess(total, most, pressure);
            self.take_bytes(self.shelf.oldest_of(session), over, Cause::Size);
        }
        if let Some(most) = bounds.output.max_size {
            let total = self.shelf.bytes() - self.chosen_bytes(None);
            let over = excess(total, most, now.all);
            self.take_bytes(self.shelf.oldest(), over, Cause::Size);
        }
    }

    /// By how much `min_free` is missed in the end.
    fn by_space(&mut self, bounds: &Bounds, now: &Now<'_>) -> u64 {
        let (Some(share), Some((space, device))) = (bounds.min_free, now.space) else {
            return 0;
        };
        let wanted = share.of(space.size);
        let goal = wanted.saturating_add(margin(wanted, now.all.growth));
        let here = |kept: &&Kept| kept.identity.0 == device;
        let before: u64 = self
            .going
            .iter()
            .filter(|g| here(&&g.kept))
            .map(|g| g.kept.bytes)
            .sum();
        let free = space.free.saturating_add(before);
        let files = self.shelf.oldest().filter(here);
        let freed = self.take_bytes(files, goal.saturating_sub(free), Cause::Free);
        wanted.saturating_sub(free.saturating_add(freed))
    }

    /// Chooses files until they make up `bytes`; gives how much they do.
    fn take_bytes(
        &mut self,
        files: impl Iterator<Item = &'a Kept>,
        bytes: u64,
        cause: Cause,
    ) -> u64 {
        let mut taken = 0;
        if bytes == 0 {
            return taken;
        }
        for kept in files {
            if taken >= bytes {
                break;
            }
            if self.take(kept, cause) {
                taken += kept.bytes;
            }
        }
        taken
    }

    fn chosen_bytes(&self, session: Option<&str>) -> u64 {
        let of_session = |g: &&Going| session.is_none_or(|s| &*g.kept.session == s);
        let going = self.going.iter().filter(of_session);
        going.map(|g| g.kept.bytes).sum()
    }
}

/// How much there is too much.
fn excess(published: u64, most: u64, pressure: Pressure) -> u64 {
    let goal = most - margin(most, pressure.growth);
    published
        .saturating_add(pressure.unfinished)
        .saturating_sub(goal)
}

#[cfg(test)]
mod tests;
