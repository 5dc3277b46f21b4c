//! Files that somebody else wants deleted: those that were shipped.

use std::sync::Arc;

use crate::sink::capture::keeper::{Keeper, TOGETHER, log};
use crate::sink::capture::stats::Errand;
use crate::spool::retain::{self, Cause, Going, Removed};
use crate::sys::folder::Folder;
use crate::time::Monotonic;

impl Keeper {
    /// Deletes what was shipped, whatever the bounds. What cannot be deleted now is asked for again.
    pub(super) fn run_errands(&mut self, now: Monotonic) {
        let errands = self.stats.take_errands();
        if errands.is_empty() || now < self.paused_until {
            return;
        }
        self.refused.retain(|_, (until, _)| now < *until);
        let base = match Folder::open(&self.output) {
            Ok(base) => base,
            Err(error) => {
                let problem = format!("cannot read {}: {error}", self.output.display());
                return self.pause(now, &problem);
            }
        };
        let going = errands.into_iter().filter_map(|errand| find(&base, errand));
        let going: Vec<_> = going
            .filter(|going| !self.refused.contains_key(&going.kept.identity))
            .collect();
        for together in going.chunks(TOGETHER) {
            if !(self.keeping.tell)(together) {
                return self.pause(now, "the manifest cannot be written, so no file is deleted");
            }
            for going in together {
                self.delete_shipped(&base, going, now);
            }
        }
    }

    fn delete_shipped(&mut self, base: &Folder, going: &Going, now: Monotonic) {
        match retain::remove(base, &going.kept) {
            Ok(removed) => {
                if let Some(view) = &mut self.view {
                    view.forget(&going.kept);
                }
                if removed == Removed::Now {
                    log(&self.output, going);
                    self.stats.deleted.count(going);
                }
            }
            Err(error) => {
                self.refuse(going, &error, now);
            }
        }
    }
}

/// The file, if it is still the one that was shipped.
fn find(base: &Folder, errand: Errand) -> Option<Going> {
    let session: Arc<str> = errand.session;
    let folder = base.folder((*session).as_ref()).ok()?;
    let kept = retain::kept(&folder, &session, &errand.name)?;
    (kept.identity == errand.identity).then_some(Going {
        kept,
        cause: Cause::Shipped,
    })
}
