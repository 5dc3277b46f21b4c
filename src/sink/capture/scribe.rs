//! Telling of finished files: the manifest first, then everybody else.
//!
//! Takes: published files, with the ledger of their session. Gives: a line of the manifest, then a line of the log, an entry among the
//! finished files, and work for the hook. Holds: others are told when the line is on the disk, so that who takes a file finds it in
//! the manifest; only where lines cannot be written now, or not any more, they are told all the same.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::packet::Tally;
use crate::sink::capture::closed::Closed;
use crate::sink::capture::hook::HookQueue;
use crate::sink::capture::stats::{Place, Stats};
use crate::spool::manifest::{self, Entry, FileId, Listed, Outcome, Prepared, Scribe, Teller};
use crate::time;

/// What the manifest of a run needs from other rooms.
pub struct Manifest {
    /// The key, and the name of the run.
    pub prepared: Prepared,
    /// Names of the configured sessions.
    pub sessions: Vec<String>,
    /// What the kernel has lost so far, by place.
    pub kernel: Box<dyn Fn() -> BTreeMap<&'static str, u64> + Send>,
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Manifest").field(&self.prepared).finish()
    }
}

/// The thread that writes the manifest, and the way to it.
pub(super) fn scribe(manifest: Manifest, output: &Path, stats: &Arc<Stats>) -> (Scribe, Teller) {
    let stats = Arc::clone(stats);
    Scribe::new(manifest::Setup {
        output: output.to_owned(),
        prepared: manifest.prepared,
        sessions: manifest.sessions,
        kernel: manifest.kernel,
        notice: Box::new(move |trouble| match trouble {
            Some(reason) => stats.trouble(Place::Manifest, reason),
            None => stats.well(Place::Manifest),
        }),
    })
}

/// Whom to tell of a finished file. Each closer has a copy.
#[derive(Clone, Debug)]
pub(super) struct Announcer {
    pub(super) stats: Arc<Stats>,
    pub(super) hook: Option<HookQueue>,
    pub(super) manifest: Teller,
    pub(super) output: PathBuf,
}

impl Announcer {
    /// Takes note that the file with this hidden name is about to get its name.
    pub(super) fn expect(&self, partial: &Path) -> Option<FileId> {
        if !self.manifest.is_on() {
            return None;
        }
        let file = FileId::from(&fs::symlink_metadata(partial).ok()?);
        self.manifest.expect(file);
        Some(file)
    }

    /// A file that was expected keeps its hidden name.
    pub(super) fn forget(&self, file: Option<FileId>) {
        if let Some(file) = file {
            self.manifest.forget(file);
        }
    }

    /// A file was published; `ledger` is its session's, when the file ended.
    pub(super) fn tell(&self, mut closed: Closed, ledger: Tally, file: Option<FileId>) {
        if !self.manifest.is_on() {
            return self.announce(Arc::new(closed));
        }
        let in_time = || !self.stats.left(time::monotonic()).is_zero();
        match manifest::digest_while(&closed.path, in_time) {
            Ok((digest, bytes)) => {
                closed.bytes = bytes;
                closed.sha256 = Some(digest);
            }
            Err(error) => {
                let path = closed.path.display();
                tracing::warn!(%path, "cannot take the SHA-256 of a capture file: {error}");
                if error.kind() == ErrorKind::TimedOut {
                    // the next run will find it
                    file.into_iter().for_each(|f| self.manifest.leave_out(f));
                    return self.announce(Arc::new(closed));
                }
            }
        }
        let entry = Entry::Published(Box::new(listed(&closed, &self.output, ledger)));
        let (this, closed) = (self.clone(), Arc::new(closed));
        let then = move |_: Outcome| this.announce(closed);
        self.manifest.tell_then(entry, file, then);
    }

    fn announce(&self, closed: Arc<Closed>) {
        closed.log();
        self.stats.add_file(Arc::clone(&closed));
        if let Some(hook) = &self.hook {
            hook.offer(closed);
        }
    }
}

fn listed(closed: &Closed, output: &Path, ledger: Tally) -> Listed {
    Listed {
        name: name(&closed.path, output),
        session: closed.session.to_string(),
        worker: closed.worker,
        format: closed.format,
        compression: "none",
        cause: Some(closed.cause.name()),
        packets: closed.packets,
        bytes: closed.bytes,
        first: Some(closed.first),
        last: Some(closed.last),
        vnis: closed.vnis.clone(),
        sources: closed.sources.clone(),
        peers: closed.peers,
        ledger: Some(ledger),
        sha256: closed.sha256,
        ..Listed::default()
    }
}

/// The path below the output folder.
fn name(path: &Path, output: &Path) -> String {
    let below = path.strip_prefix(output).unwrap_or(path);
    below.to_string_lossy().into_owned()
}
