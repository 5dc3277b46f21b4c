//! The folder of pending files: the one memory of what still has to be shipped.
//!
//! Below its root, `pending/` holds a link to each file under the name that it will have, folders and all; `done/` holds those that have arrived until the
//! sensor has seen them; `state/` is the shipper's own. A link costs no room, and the file under its first name may go while it waits.
//! The sensor adds, gives up, and sees what is done; the shipper takes. Each step is one call to the file system, so there is no moment at which a file is in two
//! states, or in none.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// A folder of pending files.
#[derive(Clone, Debug)]
pub struct Pending {
    root: PathBuf,
}

/// A file that waits, or that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name below the folder, with `/` between the steps: the end of its key.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// When it was last written to, in nanoseconds since 1970: the oldest goes first.
    pub written: i128,
    /// Device and inode.
    pub identity: (u64, u64),
}

impl Pending {
    /// The folder at `root`, which need not be there yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes its folders.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(&self) -> io::Result<()> {
        [self.pending(), self.finished(), self.state()]
            .iter()
            .try_for_each(fs::create_dir_all)
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the shipper keeps what it needs to go on after a restart.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Adds a file that is whole and synced, under the name that it will have. One of that name that is there already is
    /// replaced if it is another file. Where the file system has no links the file is copied.
    ///
    /// # Errors
    /// What the system says; a name that leads out of the folder.
    pub fn offer(&self, file: &Path, name: &str) -> io::Result<()> {
        self.offer_unsynced(file, name)?;
        let to = self.path(name)?;
        fs::File::open(to.parent().unwrap_or(&self.root))?.sync_all()
    }

    /// As [`Self::offer`], by somebody who would notice if a power cut took it back.
    ///
    /// # Errors
    /// As for [`Self::offer`].
    pub fn offer_unsynced(&self, file: &Path, name: &str) -> io::Result<()> {
        let to = self.path(name)?;
        fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
        match fs::hard_link(file, &to) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if identity(&fs::metadata(file)?) == identity(&fs::metadata(&to)?) {
                    return Ok(());
                }
                self.replace(file, &to)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) => self.replace(file, &to),
        }
    }

    /// A link, or else a copy, whole before it has its name.
    fn replace(&self, file: &Path, to: &Path) -> io::Result<()> {
        let aside = self.state().join("copy.partial");
        fs::create_dir_all(self.state())?;
        // one that a crash left may be a link to another file: it is not written into
        let _ = fs::remove_file(&aside);
        if fs::hard_link(file, &aside).is_err() {
            // `fs::copy` sets rights, which the sensor's cage forbids
            let mut copy = fs::File::create_new(&aside)?;
            io::copy(&mut fs::File::open(file)?, &mut copy)?;
            copy.sync_all()?;
        }
        fs::rename(&aside, to)
    }

    /// All that wait, the oldest first.
    ///
    /// # Errors
    /// What the system says; a folder that is not there holds nothing.
    pub fn waiting(&self) -> io::Result<Vec<Entry>> {
        list(&self.pending())
    }

    /// All that have arrived and were not seen yet.
    ///
    /// # Errors
    /// As for [`Self::waiting`].
    pub fn done(&self) -> io::Result<Vec<Entry>> {
        list(&self.finished())
    }

    /// Where a waiting file is.
    ///
    /// # Errors
    /// A name that leads out of the folder.
    pub fn path(&self, name: &str) -> io::Result<PathBuf> {
        below(&self.pending(), name)
    }

    /// Where one that has arrived is, until it was seen.
    ///
    /// # Errors
    /// A name that leads out of the folder.
    pub fn path_done(&self, name: &str) -> io::Result<PathBuf> {
        below(&self.finished(), name)
    }

    /// It has arrived; the sensor has to be told.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(&self, name: &str) -> io::Result<()> {
        let (from, to) = (self.path(name)?, self.path_done(name)?);
        fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
        fs::rename(&from, &to)?;
        prune(&self.pending(), &from);
        Ok(())
    }

    /// It has arrived, or was given up, and nobody asks for it any more.
    ///
    /// # Errors
    /// What the system says. One that is gone already is no error.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        remove(&self.pending(), &self.path(name)?)
    }

    /// The sensor has seen that it has arrived.
    ///
    /// # Errors
    /// As for [`Self::forget`].
    pub fn seen(&self, name: &str) -> io::Result<()> {
        remove(&self.finished(), &self.path_done(name)?)
    }

    fn pending(&self) -> PathBuf {
        self.root.join("pending")
    }

    fn finished(&self) -> PathBuf {
        self.root.join("done")
    }
}

fn remove(top: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    prune(top, path);
    Ok(())
}

/// Removes the folders above `path` that are empty now. One that just got another file stays: the system sees to that.
fn prune(top: &Path, path: &Path) {
    let above = path.ancestors().skip(1);
    for folder in above.take_while(|folder| *folder != top) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

fn below(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let plain = |step: Component<'_>| matches!(step, Component::Normal(_));
    let relative = Path::new(name);
    if name.is_empty() || name.contains('\0') || !relative.components().all(plain) {
        let message = format!("the name {name:?} leads out of the folder");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(folder.join(relative))
}

fn identity(facts: &fs::Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

/// The files below a folder, the oldest first. Links to elsewhere are not followed, and what vanishes meanwhile is passed over.
fn list(top: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(facts) = entry.metadata() else {
                continue;
            };
            if facts.is_dir() {
                folders.push(entry.path());
            } else if facts.is_file() {
                found.extend(told(top, &entry.path(), &facts));
            }
        }
    }
    found.sort_by(|a, b| (a.written, &a.name).cmp(&(b.written, &b.name)));
    Ok(found)
}

/// Names that are no text are not ours.
fn told(top: &Path, path: &Path, facts: &fs::Metadata) -> Option<Entry> {
    Some(Entry {
        name: path.strip_prefix(top).ok()?.to_str()?.to_owned(),
        bytes: facts.len(),
        written: i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec()),
        identity: identity(facts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|e| e.name.as_str()).collect()
    }

    fn filled() -> (tempfile::TempDir, Pending) {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::at(folder.path().join("ship"));
        pending.make().unwrap();
        for (name, bytes) in [("one", "1"), ("two", "22")] {
            fs::write(folder.path().join(name), bytes).unwrap();
            let key = format!("day/{name}");
            pending.offer(&folder.path().join(name), &key).unwrap();
        }
        (folder, pending)
    }

    #[test]
    fn a_file_waits_under_its_name_until_it_has_arrived_and_was_seen() {
        let (folder, pending) = filled();
        fs::remove_file(folder.path().join("one")).unwrap();
        assert_eq!(names(&pending.waiting().unwrap()), ["day/one", "day/two"]);
        pending.finish("day/one").unwrap();
        assert_eq!(names(&pending.waiting().unwrap()), ["day/two"]);
        assert_eq!(names(&pending.done().unwrap()), ["day/one"]);
        pending.seen("day/one").unwrap();
        pending.forget("day/two").unwrap();
        pending.forget("day/two").unwrap();
        assert!(pending.waiting().unwrap().is_empty() && pending.done().unwrap().is_empty());
        assert!(!pending.pending().join("day").exists());
    }

    #[test]
    fn a_file_that_is_offered_twice_waits_once_and_another_of_its_name_replaces_it() {
        let (folder, pending) = filled();
        pending
            .offer(&folder.path().join("one"), "day/one")
            .unwrap();
        pending
            .offer(&folder.path().join("two"), "day/one")
            .unwrap();
        let text = fs::read_to_string(pending.path("day/one").unwrap()).unwrap();
        assert_eq!((text.as_str(), pending.waiting().unwrap().len()), ("22", 2));
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_refused() {
        let (folder, pending) = filled();
        for name in ["", "../x", "/x", "a/../../x", "a\0b"] {
            assert!(
                pending.offer(&folder.path().join("one"), name).is_err(),
                "{name:?}"
            );
        }
    }
}
