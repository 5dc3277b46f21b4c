//! Telling of finished files: the manifest first, then everybody else.
//!
//! Takes: published files, with the ledger of their session. Gives: a line of the manifest, then a line of the log, an entry among the
//! finished files, and work for the hook. Holds: others are told when the line is on the disk, so that who takes a file finds it in
//! the manifest; only where lines cannot be written now, or not any more, they are told all the same.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::packet::Tally;
use crate::sink::capture::closed::Closed;
use crate::sink::capture::hook::HookQueue;
use crate::sink::capture::shipments::Shipments;
use crate::sink::capture::stats::{Place, Stats};
use crate::spool::manifest::{
    self, Aside, Deleted, Entry, FileId, Listed, Outcome, Prepared, Scribe, Teller,
};
use crate::spool::recover::Recovered;
use crate::spool::retain::Going;
use crate::time;

/// So long a deletion waits for its lines.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

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
        counters: Arc::clone(&stats.manifest),
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
    /// Where files are shipped.
    pub(super) shipments: Option<Arc<Shipments>>,
}

impl Announcer {
    /// Takes note that the file with this hidden name is about to get its name.
    pub(super) fn will_tell(&self, partial: &Path) -> Option<FileId> {
        let file = FileId::from(&fs::symlink_metadata(partial).ok()?);
        self.manifest.will_tell(file);
        // held from now on: nobody may delete it between its line and its offer
        if let Some(shipments) = &self.shipments {
            shipments.hold(file.numbers());
        }
        Some(file)
    }

    /// A file that was expected keeps its hidden name.
    pub(super) fn forget(&self, file: Option<FileId>) {
        if let Some(file) = file {
            self.manifest.forget(file);
        }
        if let (Some(file), Some(shipments)) = (file, &self.shipments) {
            shipments.forget(file.numbers());
        }
    }

    /// A file was published; `ledger` is its session's, when the file ended.
    pub(super) fn tell(&self, mut closed: Closed, ledger: Tally, file: Option<FileId>) {
        if !self.manifest.is_on() {
            return self.announce(Arc::new(closed), None);
        }
        let in_time = || !self.stats.left(time::monotonic()).is_zero();
        match manifest::digest_while(&closed.path, in_time) {
            Ok((digest, bytes)) => {
                closed.bytes = bytes;
                closed.sha256 = Some(digest);
            }
            Err(error) => {
                no_digest(&closed.path, &error);
                if error.kind() == ErrorKind::TimedOut {
                    // the next run will find it
                    file.into_iter().for_each(|f| self.manifest.leave_out(f));
                    return self.announce_here(Arc::new(closed));
                }
            }
        }
        let entry = Entry::Published(Box::new(listed(&closed, &self.output, ledger)));
        let (this, closed) = (self.clone(), Arc::new(closed));
        let then = move |_, line: Option<&[u8]>| this.announce(closed, line);
        self.manifest.tell_with_line(entry, file, then);
    }

    /// A file that an earlier run left was completed and published.
    pub(super) fn tell_recovered(
        &self,
        mut closed: Closed,
        recovered: &Recovered,
        file: Option<FileId>,
    ) {
        if recovered.was_published {
            return self.tell_published(closed, recovered, file);
        }
        if !self.manifest.is_on() {
            return self.announce(Arc::new(closed), None);
        }
        let listed = Listed::recovered(recovered, &self.output);
        (closed.sha256, closed.bytes) = (listed.sha256, listed.bytes);
        let entry = Entry::Recovered(Box::new(listed));
        let (this, closed) = (self.clone(), Arc::new(closed));
        let then = move |_, line: Option<&[u8]>| this.announce(closed, line);
        self.manifest.tell_with_line(entry, file, then);
    }

    /// A file that an earlier run left had its name already. That run may have listed it, and shipped it; otherwise it is found, by those who look for either.
    fn tell_published(&self, mut closed: Closed, recovered: &Recovered, file: Option<FileId>) {
        if self.manifest.is_on() {
            let listed = Listed::recovered(recovered, &self.output);
            (closed.sha256, closed.bytes) = (listed.sha256, listed.bytes);
        }
        self.forget(file);
        self.announce_here(Arc::new(closed));
    }

    /// A file that holds no capture was set aside.
    pub(super) fn tell_aside(&self, was: &Path, kept: &Path, reason: &str) {
        let aside = Aside::new(was, kept, reason, &self.output);
        self.manifest.tell_then(Entry::Aside(aside), None, |_| {});
    }

    /// `line` is the file's line of the manifest, where that is on the disk.
    fn announce(&self, closed: Arc<Closed>, line: Option<&[u8]>) {
        // before the keeper knows of it: from now on it is held
        if let Some(shipments) = &self.shipments {
            shipments.announce(&closed, line);
        }
        self.announce_here(closed);
    }

    /// To all but shipping.
    fn announce_here(&self, closed: Arc<Closed>) {
        closed.log();
        self.stats.hand_to_keeper(&closed);
        // What an earlier run took is not in this run's ledger.
        if !closed.recovered {
            self.stats.add_file(Arc::clone(&closed));
        }
        if let Some(hook) = &self.hook {
            hook.offer(closed);
        }
    }
}

fn no_digest(path: &Path, error: &io::Error) {
    let path = path.display();
    tracing::warn!(%path, "cannot take the SHA-256 of a capture file: {error}");
}

/// Tells of files that are about to go. False when that could not be written down, and is not going to be.
pub(super) fn tell_going(manifest: &Teller, going: &[Going]) -> bool {
    let tell = |going: &Going| {
        let kept = &going.kept;
        manifest.tell(Entry::Deleted(Deleted {
            name: format!("{}/{}", kept.session, kept.name),
            bytes: kept.bytes,
            cause: going.cause.name(),
        }))
    };
    let receipts: Vec<_> = going.iter().map(tell).collect();
    let end = time::monotonic().plus(LONGEST_WAIT);
    receipts.iter().all(|receipt| {
        let outcome = receipt.wait(end.since(time::monotonic()));
        matches!(
            outcome,
            Some(Outcome::Written | Outcome::NoRoom | Outcome::Off)
        )
    })
}

fn listed(closed: &Closed, output: &Path, ledger: Tally) -> Listed {
    let name = manifest::name(&closed.path, output);
    Listed {
        session: closed.session.to_string(),
        worker: closed.worker,
        format: closed.format,
        compression: manifest::compression_of(&name),
        name,
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
