//! What the keeper knows of an output.
//!
//! Takes: the folder, once, and files as they are published and removed. Gives: [`View`]: the published files, and what all others take.
//! Holds: a file is counted once, hidden or published; one of this run when it was told, and not before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::sink::capture::weights::Weights;
use crate::spool::retain::{self, Hidden, Kept, Pressure, Shelf};
use crate::sys::folder::Folder;
use crate::time::{self, Monotonic};

/// How often hidden files of earlier runs are looked for.
const LEFT_EVERY: Duration = Duration::from_secs(5);

/// The files of the output.
#[derive(Debug)]
pub(super) struct View {
    output: PathBuf,
    pub(super) base: Folder,
    /// Device and inode of the output.
    pub(super) identity: (u64, u64),
    pub(super) shelf: Shelf,
    /// Hidden files of earlier runs, and when they are looked for again.
    left: Vec<Hidden>,
    /// Sessions some of whose hidden files were recovered or set aside.
    stale: BTreeSet<Arc<str>>,
    left_at: Monotonic,
}

impl View {
    /// Reads what earlier runs have left.
    pub(super) fn read(output: &Path, weights: &Weights) -> io::Result<Self> {
        let found = retain::scan(output)?;
        for link in &found.links {
            tracing::warn!(
                session = link,
                "retention: the session's folder is a symbolic link; its files are neither counted nor deleted"
            );
        }
        for unread in &found.unread {
            tracing::warn!("retention: a folder cannot be read, its files are left out: {unread}");
        }
        let mut shelf = Shelf::default();
        // a file of this run counts when it is told
        let files = found.files.into_iter();
        files
            .filter(|f| !weights.is_ours(f.identity))
            .for_each(|f| shelf.put(f));
        let hidden = found.hidden.into_iter();
        let left = hidden.filter(|h| !weights.is_ours(h.identity)).collect();
        let base = Folder::open(output)?;
        let facts = base.facts(".".as_ref())?;
        Ok(Self {
            output: output.to_owned(),
            base,
            identity: (facts.device, facts.inode),
            shelf,
            left,
            stale: BTreeSet::new(),
            left_at: Monotonic::default(),
        })
    }

    /// A file was published and told. One that was recovered is counted once.
    pub(super) fn put(&mut self, kept: Kept) {
        let is_other = |hidden: &Hidden| hidden.identity != kept.identity;
        if !self.left.iter().all(is_other) {
            self.left.retain(is_other);
            self.stale.insert(Arc::clone(&kept.session));
        }
        self.shelf.put(kept);
    }

    /// A file is gone, or no longer the one that it was.
    pub(super) fn forget(&mut self, kept: &Kept) {
        self.shelf.take(&kept.session, kept.mark, &kept.name);
    }

    /// Hidden files that are gone were recovered, or set aside; what that left beside them takes space too.
    fn look_for_left(&mut self, weights: &Weights) {
        let (there, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.left)
            .into_iter()
            .partition(|hidden| hidden.is_there(&self.base));
        self.left = there;
        self.stale.extend(gone.into_iter().map(|h| h.session));
        for session in std::mem::take(&mut self.stale) {
            // a folder that cannot be read now is one that was removed: it takes nothing
            let hidden = retain::hidden(&self.output, &self.base, &session).unwrap_or_default();
            let known: HashSet<_> = self.left.iter().map(|h| h.identity).collect();
            let new = hidden.into_iter().filter(|h| !known.contains(&h.identity));
            self.left
                .extend(new.filter(|h| !weights.is_ours(h.identity)));
        }
    }

    /// What is not published: of this run, and what earlier ones left.
    pub(super) fn pressure(
        &mut self,
        weights: &Weights,
    ) -> (Pressure, HashMap<Arc<str>, Pressure>) {
        let now = time::monotonic();
        if now >= self.left_at {
            // some are recovered meanwhile
            self.look_for_left(weights);
            self.left_at = now.plus(LEFT_EVERY);
        }
        let (mut all, mut of) = weights.look();
        for Hidden { session, bytes, .. } in &self.left {
            all.unfinished += bytes;
            of.entry(Arc::clone(session)).or_default().unfinished += bytes;
        }
        (all, of)
    }
}

/// A published file by its path, where it is one that is looked after.
pub(super) fn find(output: &Path, view: Option<&View>, path: &Path) -> Option<Kept> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let session: Arc<str> = folder.file_name()?.to_str()?.into();
    if folder.parent() != Some(output) {
        return None;
    }
    match view {
        Some(view) => retain::kept(&view.base.folder((*session).as_ref()).ok()?, &session, name),
        None => retain::kept(&Folder::open(folder).ok()?, &session, name),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_recovery_leaves_is_counted_and_nothing_twice() {
        let output = tempfile::tempdir().unwrap();
        let folder = output.path().join("web");
        let name = |number: u32| format!("web-20261124T230000.000001Z-{number:06}.pcap");
        let hidden = |number, ending: &str| folder.join(format!(".{}.{ending}", name(number)));
        fs::create_dir(&folder).unwrap();
        for number in [1, 2] {
            fs::write(hidden(number, "partial"), [0; 100]).unwrap();
        }
        let weights = Weights::default();
        let mut view = View::read(output.path(), &weights).unwrap();
        let all = |view: &mut View| view.pressure(&weights).0.unfinished + view.shelf.bytes();
        assert_eq!(all(&mut view), 200);
        // the one is damaged, the other holds no capture
        fs::write(hidden(2, "damaged"), [0; 30]).unwrap();
        let published = folder.join(name(2));
        fs::rename(hidden(2, "partial"), &published).unwrap();
        view.put(find(output.path(), Some(&view), &published).unwrap());
        assert_eq!(view.shelf.bytes(), 100);
        view.left_at = Monotonic::default();
        assert_eq!(all(&mut view), 230);
        fs::rename(hidden(1, "partial"), hidden(1, "aside-2")).unwrap();
        view.left_at = Monotonic::default();
        assert_eq!(all(&mut view), 230);
    }
}
