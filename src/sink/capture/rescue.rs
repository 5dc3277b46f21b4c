//! Recovering what an earlier run left, beside the work.
//!
//! Takes: the output folder, which is locked. Gives: files made whole and published, told to the log and the hook as any
//! other. Holds: nothing waits for this; a file of this run is never touched; when the program ends, what is not
//! done is left as it is, for the next start.

use std::io;
use std::path::{Path, PathBuf};

use crate::sink::capture::closed::{Cause, Closed};
use crate::sink::capture::scribe::Announcer;
use crate::spool::Ours;
use crate::spool::manifest::FileId;
use crate::spool::recover::{self, Error, Outcome, Recovered};

/// Looks after the files of earlier runs, once.
#[derive(Debug)]
pub(super) struct Rescue {
    pub(super) ours: Ours,
    pub(super) announcer: Announcer,
}

impl Rescue {
    pub(super) fn run(self) {
        let found = |path: PathBuf| {
            self.see_to(&path);
            !self.announcer.stats.is_stopping()
        };
        recover::of_output(&self.announcer.output, &self.ours, found, unreadable);
    }

    fn see_to(&self, path: &Path) {
        let (announcer, stats) = (&self.announcer, &self.announcer.stats);
        let file = announcer.will_tell(path);
        match recover::recover(path, &|| stats.is_stopping()) {
            Ok(Outcome::Recovered(recovered)) => return self.tell(&recovered, file),
            Ok(Outcome::Aside { partial, path, why }) => {
                stats.files_aside.add(1);
                announcer.tell_aside(&partial, &path, &why);
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
        announcer.forget(file);
    }

    fn tell(&self, file: &Recovered, id: Option<FileId>) {
        self.announcer.stats.files_recovered.add(1);
        if let Some(kept) = &file.kept {
            let why = file.damage.as_deref().unwrap_or("no reason is known");
            tracing::warn!(
                path = %file.path.display(),
                kept = %kept.display(),
                cut = file.cut,
                "an earlier run left a damaged file ({why}); what was behind the last whole record is kept beside it"
            );
        }
        self.announcer.tell_recovered(described(file), file, id);
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
        sha256: None,
    }
}

fn unreadable(folder: PathBuf, error: io::Error) {
    tracing::warn!(
        "cannot look for files that an earlier run left in {}: {error}; see to its permissions, then run `mirrortap recover`",
        folder.display()
    );
}
