//! The thread that keeps the disk from filling up.
//!
//! Takes: bounds, and each file that was published and told. Gives: room, by deleting the oldest files. Holds: no writer waits
//! for it; a file goes only when it was told before and nobody keeps it; that it goes is told before it is gone.

mod errands;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::logging::Limited;
use crate::sink::capture::closed::Closed;
use crate::sink::capture::scribe::tell_going;
use crate::sink::capture::stats::{Place, Stats};
use crate::sink::capture::view::{View, find};
use crate::spool::manifest::{FileId, Teller};
use crate::spool::retain::{self, Bounds, Cause, Going, Kept, Leaps, Now, Removed};
use crate::sys::folder::Space;
use crate::time::{self, Monotonic};

/// How often things are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// After this nothing is tried for so long: many files in a row could not be deleted, or the folder could not be read.
const PAUSE: Duration = Duration::from_secs(10);

/// How many files in a row are many.
const MANY: usize = 8;

/// A file that could not be deleted is left alone for so long.
const LEAVE: Duration = Duration::from_secs(60);

/// Space that was freed has so long to show.
const SETTLE: Duration = Duration::from_secs(2);

/// Of what was freed, all but this part has to show: others may have written meanwhile.
const LEAST_SHOWN: u64 = 16;

/// Files that are told together before they go.
const TOGETHER: usize = 32;

/// A warning that repeats is told so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Whether a file may go: the place for whoever still needs it.
pub type MayGo = Box<dyn Fn(&Kept) -> bool + Send>;

/// Is told at each look how many bytes are missing because files may not go: zero when none are.
pub type Ask = Box<dyn Fn(u64) + Send>;

/// Tells the manifest of files that are about to go; false when it could not be written, and then they stay.
pub type Tell = Box<dyn Fn(&[Going]) -> bool + Send>;

/// What stands between a file and its deletion.
pub struct Keeping {
    /// Asked for each file.
    pub may_go: MayGo,
    /// Told before files go.
    pub tell: Tell,
    /// Told what is missing.
    pub ask: Ask,
}

impl Keeping {
    /// A file that waits for its line in the manifest may not go, and no file goes before a line says so.
    pub(super) fn after(self, manifest: &Teller) -> Self {
        let (lines, deletions) = (manifest.clone(), manifest.clone());
        let waits = move |kept: &Kept| {
            let (device, inode) = kept.identity;
            lines.is_expected(FileId::new(device, inode))
        };
        Self {
            may_go: Box::new(move |kept| !waits(kept) && (self.may_go)(kept)),
            tell: Box::new(move |going| (self.tell)(going) && tell_going(&deletions, going)),
            ask: self.ask,
        }
    }
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            may_go: Box::new(|_| true),
            tell: Box::new(|_| true),
            ask: Box::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeping")
    }
}

/// The keeper's own.
#[derive(Debug)]
pub(super) struct Keeper {
    output: PathBuf,
    stats: Arc<Stats>,
    told: Receiver<Arc<Closed>>,
    keeping: Keeping,
    /// What is there; `None` while nothing is bounded, or it could not be read.
    view: Option<View>,
    leaps: Leaps,
    /// Files that could not be deleted, until when they are left alone, and their bytes.
    refused: HashMap<(u64, u64), (Monotonic, u64)>,
    /// How many could not be deleted since the last that could.
    in_a_row: usize,
    /// Nothing is read or deleted before this, because it failed.
    paused_until: Monotonic,
    /// Nothing is deleted for want of space before this.
    settled_at: Monotonic,
    ages_at: Monotonic,
    failed: Limited,
    outgrown: Limited,
}

impl Keeper {
    pub(super) fn new(
        output: PathBuf,
        stats: Arc<Stats>,
        told: Receiver<Arc<Closed>>,
        keeping: Keeping,
    ) -> Self {
        Self {
            output,
            stats,
            told,
            keeping,
            view: None,
            leaps: Leaps::default(),
            refused: HashMap::new(),
            in_a_row: 0,
            paused_until: Monotonic::default(),
            settled_at: Monotonic::default(),
            ages_at: Monotonic::default(),
            failed: Limited::new(TELL_EVERY),
            outgrown: Limited::new(TELL_EVERY),
        }
    }

    /// Works until nobody publishes any more; looks once more at the end.
    pub(super) fn run(mut self) {
        let mut look_at = time::monotonic();
        loop {
            let nap = look_at.since(time::monotonic());
            match self.told.recv_timeout(nap) {
                Ok(closed) => self.take(&closed),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    look_at = time::monotonic().plus(LOOK_EVERY);
                }
                Err(RecvTimeoutError::Disconnected) => return self.look(),
            }
        }
    }

    /// A file was published and told.
    fn take(&mut self, closed: &Closed) {
        let kept = find(&self.output, self.view.as_ref(), &closed.path);
        let Some(kept) = kept else { return };
        self.stats.weights.told(kept.identity);
        if let Some(view) = &mut self.view {
            view.put(kept);
        }
    }

    fn look(&mut self) {
        let (now, wall) = (time::monotonic(), time::now());
        if let Some(ahead) = self.leaps.note(wall, now) {
            tracing::warn!(
                seconds = ahead.as_secs(),
                "the clock was set forward; no file is deleted for its age during the next hour"
            );
        }
        self.run_errands(now);
        let bounds = self.stats.bounds();
        if bounds.is_empty() {
            self.view = None;
            (self.keeping.ask)(0);
            self.stats.weights.look();
            self.stats.well(Place::Keeper);
            return;
        }
        self.leave_replaced();
        if self.view.is_some() || now >= self.paused_until && self.read(now) {
            self.refused.retain(|_, (until, _)| now < *until);
            self.keep(&bounds, now);
        }
    }

    /// Reads the folder anew when it is another one.
    fn leave_replaced(&mut self) {
        let facts = self.output.metadata().map(|f| (f.dev(), f.ino()));
        if self
            .view
            .as_ref()
            .is_some_and(|v| facts.is_ok_and(|f| f != v.identity))
        {
            self.view = None;
        }
    }

    /// Reads what earlier runs have left. False when that is not possible.
    fn read(&mut self, now: Monotonic) -> bool {
        match View::read(&self.output, &self.stats.weights) {
            Ok(view) => {
                self.view = Some(view);
                true
            }
            Err(error) => {
                self.pause(
                    now,
                    &format!("cannot read {}: {error}", self.output.display()),
                );
                false
            }
        }
    }

    fn keep(&mut self, bounds: &Bounds, now: Monotonic) {
        let Some(view) = &mut self.view else { return };
        let (all, of) = view.pressure(&self.stats.weights);
        let space = match bounds.min_free.map(|_| view.base.space()).transpose() {
            Ok(space) => space,
            Err(error) => {
                return self.pause(now, &format!("cannot ask for the free space: {error}"));
            }
        };
        let files = view.shelf.len();
        let is_aged = self.leaps.trusts(now) && now >= self.ages_at;
        if is_aged {
            // a long list is gone through less often
            self.ages_at = now.plus(Duration::from_micros(files as u64 * 10));
        }
        let state = Now {
            wall: is_aged.then(time::now),
            space: space
                .filter(|_| now >= self.settled_at)
                .map(|s| (s, view.identity.0)),
            all,
            of: &of,
        };
        let (keeping, refused) = (&self.keeping, &self.refused);
        let is_paused = now < self.paused_until;
        let may_go = |kept: &Kept| {
            !is_paused && !refused.contains_key(&kept.identity) && (keeping.may_go)(kept)
        };
        let (going, missing) = retain::choose(&view.shelf, bounds, &state, &may_go);
        let is_told = state.space.is_some();
        if !is_paused {
            let chosen: u64 = going.iter().map(|g| g.kept.bytes).sum();
            let left = (view.shelf.bytes() + all.unfinished).saturating_sub(chosen);
            let over = bounds
                .output
                .max_size
                .map_or(0, |most| left.saturating_sub(most));
            // what may go and cannot be deleted is not wanting in others' being held
            let stuck: u64 = refused.values().map(|(_, bytes)| bytes).sum();
            (self.keeping.ask)(missing.max(over).saturating_sub(stuck));
        }
        let is_whole = self.delete(&going, now);
        self.tell_outgrown(bounds, all.unfinished);
        self.note(space);
        if is_told && is_whole {
            self.tell_missing(bounds, space.unwrap_or_default(), missing);
        }
    }

    /// Deletes files. False when not all of them could be.
    fn delete(&mut self, going: &[Going], now: Monotonic) -> bool {
        let mut is_whole = true;
        let before = self.view.as_ref().and_then(|v| v.base.space().ok());
        for together in going.chunks(TOGETHER) {
            if now < self.paused_until || self.stats.is_over(time::monotonic()) {
                return false;
            }
            is_whole &= self.delete_together(together, now);
        }
        if going.iter().any(|g| g.cause == Cause::Free) {
            self.settle(before, going);
        }
        is_whole
    }

    /// Space that does not show at once has some time for it. Where it does, nothing is waited for: meanwhile others write.
    fn settle(&mut self, before: Option<Space>, going: &[Going]) {
        let Some(view) = &self.view else { return };
        let freed: u64 = going.iter().map(|g| g.kept.bytes).sum();
        let shown = before.zip(view.base.space().ok());
        let shown = shown.map_or(0, |(before, now)| now.free.saturating_sub(before.free));
        if shown < freed - freed / LEAST_SHOWN {
            // what cannot be written down is told by whoever writes
            let _ = view.base.sync_file_system();
            self.settled_at = time::monotonic().plus(SETTLE);
        }
    }

    fn delete_together(&mut self, going: &[Going], now: Monotonic) -> bool {
        let there: Vec<_> = going
            .iter()
            .filter(|g| self.is_there(g, now))
            .cloned()
            .collect();
        if there.is_empty() {
            return going.is_empty();
        }
        if !(self.keeping.tell)(&there) {
            self.pause(now, "the manifest cannot be written, so no file is deleted");
            return false;
        }
        let gone = there.iter().filter(|g| self.delete_one(g, now)).count();
        gone == going.len()
    }

    /// Whether a file is still the one that was chosen.
    fn is_there(&mut self, going: &Going, now: Monotonic) -> bool {
        let Some(view) = &mut self.view else {
            return false;
        };
        match retain::still_there(&view.base, &going.kept) {
            Ok((Removed::Now, _)) => true,
            Ok(_) => {
                view.forget(&going.kept);
                false
            }
            Err(error) => self.refuse(going, &error, now),
        }
    }

    fn delete_one(&mut self, going: &Going, now: Monotonic) -> bool {
        let Some(view) = &mut self.view else {
            return false;
        };
        match retain::remove(&view.base, &going.kept) {
            Ok(removed) => {
                self.in_a_row = 0;
                view.forget(&going.kept);
                if removed == Removed::Now {
                    log(&self.output, going);
                    self.stats.deleted.count(going);
                }
                true
            }
            Err(error) => self.refuse(going, &error, now),
        }
    }

    /// A file cannot be deleted. False, for whoever asked.
    fn refuse(&mut self, going: &Going, error: &io::Error, now: Monotonic) -> bool {
        let kept = &going.kept;
        let path = self.output.join(&*kept.session).join(&*kept.name);
        self.refused
            .insert(kept.identity, (now.plus(LEAVE), kept.bytes));
        self.in_a_row += 1;
        if self.in_a_row >= MANY {
            self.in_a_row = 0;
            self.paused_until = now.plus(PAUSE);
        }
        self.warn(now, &format!("cannot delete {}: {error}", path.display()));
        false
    }

    /// Nothing can be done now; that is tried again later.
    fn pause(&mut self, now: Monotonic, problem: &str) {
        self.paused_until = now.plus(PAUSE);
        self.warn(now, problem);
    }

    fn warn(&self, now: Monotonic, problem: &str) {
        if let Some(more) = self.failed.pass(now.nanos()) {
            tracing::warn!(more, "retention: {problem}");
        }
    }

    fn tell_missing(&self, bounds: &Bounds, space: Space, missing: u64) {
        let wanted = bounds.min_free.map_or(0, |share| share.of(space.size));
        if missing == 0 {
            return self.stats.well(Place::Keeper);
        }
        let reason = format!(
            "retention: {} has {} bytes free, min_free wants {wanted}, and no capture file may be deleted any more; \
             free some space, or lower min_free",
            self.output.display(),
            space.free
        );
        self.stats.trouble(Place::Keeper, reason);
    }

    /// Files being written can outgrow what all files may take: many sessions, a small bound.
    fn tell_outgrown(&self, bounds: &Bounds, unfinished: u64) {
        let Some(most) = bounds.output.max_size.filter(|most| unfinished > *most) else {
            return;
        };
        if let Some(more) = self.outgrown.pass(time::monotonic().nanos()) {
            tracing::warn!(
                unfinished,
                max_size = most,
                more,
                "retention: the files being written are larger than max_size; raise it, or lower rotate_size"
            );
        }
    }

    fn note(&self, space: Option<Space>) {
        let Some(view) = &self.view else { return };
        self.stats.kept_files.set(view.shelf.len() as u64);
        self.stats.kept_bytes.set(view.shelf.bytes());
        if let Some(space) = space {
            self.stats.free_bytes.set(space.free);
        }
    }
}

fn log(output: &Path, going: &Going) {
    let Going { kept, cause } = going;
    tracing::info!(
        target: "mirrortap::deleted",
        path = %output.join(&*kept.session).join(&*kept.name).display(),
        session = %kept.session,
        bytes = kept.bytes,
        cause = cause.name(),
        "deleted a capture file"
    );
}
