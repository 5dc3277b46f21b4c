//! Recovering what an earlier run left, beside the work.
//!
//! Takes: the output folder, which is locked. Gives: files made whole and published, told to the log and the hook as any
//! other. Holds: nothing waits for this; a file of this run is never touched; when the program ends, what is not
//! done is left as it is, for the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sink::capture::closed::{Cause, Closed};
use crate::sink::capture::hook::HookQueue;
use crate::sink::capture::stats::Stats;
use crate::spool::Ours;
use crate::spool::recover::{self, Error, Outcome, Recovered};

/// Looks after the files of earlier runs, once.
#[derive(Debug)]
pub(super) struct Rescue {
    pub(super) output: PathBuf,
    pub(super) ours: Ours,
    pub(super) stats: Arc<Stats>,
    pub(super) hook: Option<HookQueue>,
}

impl Rescue {
    pub(super) fn run(self) {
        let found = |path: PathBuf| {
            self.see_to(&path);
            !self.stats.is_stopping()
        };
        recover::of_output(&self.output, &self.ours, found, unreadable);
    }

    fn see_to(&self, path: &Path) {
        match recover::recover(path, &|| self.stats.is_stopping()) {
            Ok(Outcome::Recovered(file)) => self.tell(&file),
            Ok(Outcome::Aside { partial, path, why }) => {
                self.stats.files_aside.add(1);
                tracing::warn!(
                    was = %partial.display(),
                    path = %path.display(),
                    "set a file aside that an earlier run left: there is no capture in it ({why}); remove it when you do \
                     not need it"
                );
            }
            // Published while the folder was being read.
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(Error::Stopped) => tracing::info!(
                path = %path.display(),
                "a file that an earlier run left is recovered at the next start"
            ),
            Err(error) => tracing::error!("a file that an earlier run left stays hidden: {error}"),
        }
    }

    fn tell(&self, file: &Recovered) {
        self.stats.files_recovered.add(1);
        if let Some(kept) = &file.kept {
            tracing::warn!(
                path = %file.path.display(),
                kept = %kept.display(),
                cut = file.cut,
                "an earlier run left a damaged file ({}); what was behind the last whole record is kept beside it",
                file.damage.as_deref().unwrap_or("it does not end with a whole record")
            );
        }
        let closed = described(file);
        closed.log();
        if let Some(hook) = &self.hook {
            hook.offer(Arc::new(closed));
        }
    }
}

fn described(file: &Recovered) -> Closed {
    Closed {
        path: file.path.clone(),
        session: file.session.as_str().into(),
        worker: file.worker,
        format: file.format,
        packets: file.packets,
        bytes: file.bytes,
        first: file.first.unwrap_or_default(),
        last: file.last.unwrap_or_default(),
        vnis: Vec::new(),
        sources: Vec::new(),
        peers: file.interfaces,
        cause: Cause::Crash,
        recovered: true,
    }
}

fn unreadable(folder: PathBuf, error: io::Error) {
    tracing::warn!(
        "cannot look for files that an earlier run left in {}: {error}; see to its permissions, then run `mirrortap recover`",
        folder.display()
    );
}
