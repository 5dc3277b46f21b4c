//! The folder of pending files: the one memory of what still has to be shipped.
//!
//! Below its root, `pending/` holds a link to each file under the name that it will have, folders and all; `done/` holds those that have arrived until the
//! sensor has seen them; `state/` is the shipper's own. A link costs no room, and the file under its first name may go while it waits.
//! The sensor adds, gives up, and sees what is done; the shipper takes. Each step is one call to the file system, so there is no moment at which a file is in two
//! states, or in none.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::sys::folder::Folder;

/// A folder may be removed, because it was empty, between its making and its use: so often it is made anew.
const ATTEMPTS: usize = 100;

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

/// What ends the name of a description, behind that of its file.
pub(crate) const DESCRIPTION: &str = ".json";

impl Entry {
    /// The name of the file that it describes, where it is a description.
    pub fn described(&self) -> Option<&str> {
        self.name.strip_suffix(DESCRIPTION)
    }
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
        // where it will be put away: then that takes no room, which there may be none of by then
        let _ = fs::create_dir_all(parent(&self.path_done(name)?)?);
        while_folders_go(file, || {
            fs::create_dir_all(parent(&to)?)?;
            match fs::hard_link(file, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if identity(&fs::metadata(file)?) == identity(&fs::metadata(&to)?) {
                        return Ok(());
                    }
                    self.replace(file, &to)
                }
                Err(error) if has_no_links(&error) => self.replace(file, &to),
                other => other,
            }
        })
    }

    /// A link, or else a copy, whole before it has its name.
    fn replace(&self, file: &Path, to: &Path) -> io::Result<()> {
        let aside = self.state().join("copy.partial");
        fs::create_dir_all(self.state())?;
        // one that a crash left may be a link to another file: it is not written into
        let _ = fs::remove_file(&aside);
        let linked = match fs::hard_link(file, &aside) {
            Err(error) if has_no_links(&error) => copy(file, &aside),
            other => other,
        };
        let named = linked.and_then(|()| fs::rename(&aside, to));
        if named.is_err() {
            // half a copy would keep the room that is missing
            let _ = fs::remove_file(&aside);
        }
        named
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
        while_folders_go(&from, || {
            fs::create_dir_all(parent(&to)?)?;
            fs::rename(&from, &to)
        })?;
        prune(&self.pending(), &from);
        Ok(())
    }

    /// It has arrived, or was given up, and nobody asks for it any more.
    ///
    /// # Errors
    /// What the system says. One that is gone already is no error.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        remove_file(&self.path(name)?)?;
        self.tidy(name)
    }

    /// The sensor has seen that it has arrived.
    ///
    /// # Errors
    /// As for [`Self::forget`].
    pub fn seen(&self, name: &str) -> io::Result<()> {
        remove_file(&self.path_done(name)?)?;
        self.tidy(name)
    }

    /// Removes the folders that were a file's. Where another one of its folder waits the place to put it away stays, too.
    fn tidy(&self, name: &str) -> io::Result<()> {
        let (waits, arrived) = (self.path(name)?, self.path_done(name)?);
        prune(&self.pending(), &waits);
        if !parent(&waits)?.exists() {
            prune(&self.finished(), &arrived);
        }
        Ok(())
    }

    /// Lets go of all that waits or has arrived: nobody ships it. Files that have another name are not touched by it.
    ///
    /// # Errors
    /// As for [`Self::waiting`].
    pub fn release(&self) -> io::Result<Vec<Entry>> {
        let waiting = self.waiting()?;
        let done = self.done()?;
        for entry in &waiting {
            self.forget(&entry.name)?;
        }
        done.iter().try_for_each(|entry| self.seen(&entry.name))?;
        let _ = remove_file(&self.state().join("copy.partial"));
        Ok(waiting.into_iter().chain(done).collect())
    }

    fn pending(&self) -> PathBuf {
        self.root.join("pending")
    }

    fn finished(&self) -> PathBuf {
        self.root.join("done")
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or(io::ErrorKind::NotFound.into())
}

/// Does something to `file` that needs a folder which the other side may just have removed, because it was empty.
fn while_folders_go(file: &Path, mut step: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..ATTEMPTS {
        match step() {
            Err(error) if is_of_a_folder(&error) => {}
            other => return other,
        }
        file.symlink_metadata()?;
    }
    step()
}

/// The folder went between two steps, or while it was made.
fn is_of_a_folder(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, NotFound};
    matches!(error.kind(), NotFound | AlreadyExists)
}

/// Whether there is no link to be had, ever: another file system, or one that has none.
fn has_no_links(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [libc::EXDEV, libc::EPERM, libc::EOPNOTSUPP, libc::ENOSYS]
        .map(Some)
        .contains(&number)
}

/// Copies a file, where that leaves as much room again.
fn copy(file: &Path, to: &Path) -> io::Result<()> {
    let mut from = fs::File::open(file)?;
    let (bytes, space) = (from.metadata()?.len(), Folder::open(parent(to)?)?.space()?);
    if space.free < bytes.saturating_mul(2) {
        let message = "there are no links between the two folders, and no room for a copy";
        return Err(io::Error::new(io::ErrorKind::StorageFull, message));
    }
    // `fs::copy` sets rights, which the sensor's cage forbids
    let mut copy = fs::File::create_new(to)?;
    io::copy(&mut from, &mut copy)?;
    copy.sync_all()
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
    sort(&mut found);
    Ok(found)
}

/// The oldest first; what describes a file is as old as that, and goes just before it.
fn sort(found: &mut [Entry]) {
    let times = found.iter().map(|e| (e.name.clone(), e.written));
    let times: HashMap<String, i128> = times.collect();
    found.sort_by_cached_key(|entry| {
        let of = entry.described().filter(|of| times.contains_key(*of));
        let name = of.unwrap_or(&entry.name);
        let written = times.get(name).copied().unwrap_or(entry.written);
        (written, name.to_owned(), of.is_none())
    });
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
    fn a_description_goes_just_before_its_file_however_young_it_is() {
        let (folder, pending) = filled();
        for name in ["day/two.json", "day/one.json", "day/other.json"] {
            let file = folder.path().join("description");
            fs::write(&file, "{}").unwrap();
            pending.offer(&file, name).unwrap();
            fs::remove_file(file).unwrap();
        }
        let set = |name: &str, second| {
            let file = fs::File::options()
                .write(true)
                .open(folder.path().join(name));
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
            file.unwrap().set_modified(time).unwrap();
        };
        set("one", 2);
        set("two", 1);
        let expected = [
            "day/two.json",
            "day/two",
            "day/one.json",
            "day/one",
            "day/other.json",
        ];
        assert_eq!(names(&pending.waiting().unwrap()), expected);
    }

    #[test]
    fn what_nobody_ships_is_let_go_of_and_the_files_stay() {
        let (folder, pending) = filled();
        pending.finish("day/one").unwrap();
        let released = pending.release().unwrap();
        assert_eq!(names(&released), ["day/two", "day/one"]);
        assert!(pending.waiting().unwrap().is_empty() && pending.done().unwrap().is_empty());
        assert!(folder.path().join("one").exists() && folder.path().join("two").exists());
        assert!(pending.release().unwrap().is_empty());
        let none = Pending::at(folder.path().join("none"));
        assert!(none.release().unwrap().is_empty() && !none.root().exists());
    }

    #[test]
    fn only_where_there_are_no_links_a_file_is_copied_and_half_a_copy_does_not_stay() {
        let no = |number| has_no_links(&io::Error::from_raw_os_error(number));
        assert!(no(libc::EXDEV) && no(libc::EPERM) && !no(libc::ENOSPC) && !no(libc::EACCES));
        let (folder, pending) = filled();
        // a folder in the place of the name: the link is made, and can't get it
        fs::create_dir_all(pending.path("day/new").unwrap()).unwrap();
        assert!(
            pending
                .offer(&folder.path().join("one"), "day/new")
                .is_err()
        );
        assert!(!pending.state().join("copy.partial").exists());
    }

    #[test]
    fn folders_that_come_and_go_keep_no_file_from_waiting_or_arriving() {
        let (folder, pending) = filled();
        let file = folder.path().join("one");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                for _ in 0..300 {
                    pending.forget("day/x").unwrap();
                    pending.seen("day/x").unwrap();
                }
            });
            pending.forget("day/one").unwrap();
            pending.forget("day/two").unwrap();
            for _ in 0..300 {
                pending.offer(&file, "day/one").unwrap();
                pending.finish("day/one").unwrap();
                pending.seen("day/one").unwrap();
            }
            other.join().unwrap();
        });
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
