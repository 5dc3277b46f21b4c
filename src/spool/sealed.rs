//! A capture file that is complete and gets its name.
//!
//! Takes: a hidden file that nobody writes to any more. Gives: the published file's path. Holds: bytes
//! are on the disk before the name is; an existing file is never overwritten, whoever made it and
//! however close the race; the name itself is on the disk when `publish` returns.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::spool::{Error, Name, Ours};
use crate::sys::folder::rename_to_free;

/// How many numbers are tried to find a free name.
const TRIES: u32 = 100_000;

/// A hidden file that waits for its publication.
#[derive(Debug)]
pub struct Sealed {
    /// The name that it is to get; its number may rise.
    name: Name,
    /// The hidden name that it has: made from `name` when the file was, and not changed since.
    partial: PathBuf,
    len: u64,
    /// What it needs behind that.
    ending: &'static [u8],
    ours: Ours,
    /// The name that it got, by an attempt that failed later on.
    claimed: Option<PathBuf>,
}

impl Sealed {
    pub(super) fn new(name: Name, partial: PathBuf, len: u64, ending: &'static [u8]) -> Self {
        Self {
            name,
            partial,
            len,
            ending,
            ours: Ours::default(),
            claimed: None,
        }
    }

    /// A file that has got its final name, but still has the hidden one too.
    pub(super) fn claimed(name: Name, path: PathBuf, len: u64) -> Self {
        let mut sealed = Self::new(name.clone(), name.partial(), len, &[]);
        sealed.claimed = Some(path);
        sealed
    }

    /// It is one of these until it is published.
    pub(super) fn among(mut self, ours: Ours) -> Self {
        self.ours = ours;
        self
    }

    /// Where the hidden file is.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Where it is going to be, if that name stays free.
    pub fn published(&self) -> PathBuf {
        self.name.published()
    }

    /// Syncs the file, gives it its name (with a higher number when the name is taken), syncs the folder.
    /// May be tried again after an error.
    ///
    /// # Errors
    /// [`Error::Sync`] when the bytes may not be on the disk, [`Error::Publish`] when the name
    /// could not be given.
    pub fn publish(&mut self) -> Result<PathBuf, Error> {
        let path = match self.claimed.take() {
            Some(path) => path,
            None => self.sync_and_claim()?,
        };
        self.claimed = Some(path.clone());
        remove_if_there(&self.partial).map_err(|source| self.failed(source))?;
        sync_directory(self.name.directory()).map_err(|source| Error::Sync {
            path: self.name.directory().to_owned(),
            source,
        })?;
        self.ours.remove(&self.partial);
        Ok(path)
    }

    fn sync_and_claim(&mut self) -> Result<PathBuf, Error> {
        self.end().map_err(|source| self.failed(source))?;
        self.sync(&self.partial).map_err(|source| Error::Sync {
            path: self.partial.clone(),
            source,
        })?;
        self.claim().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Publish {
            path: self.partial.clone(),
            source,
        }
    }

    /// Writes what it has to end with. Without a file there is nothing to end: that is found by the sync.
    fn end(&self) -> io::Result<()> {
        if self.ending.is_empty() {
            return Ok(());
        }
        match OpenOptions::new().write(true).open(&self.partial) {
            Ok(file) => file.write_all_at(self.ending, self.len),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Cuts off what a failed write may have left, and waits until the rest is on the disk.
    fn sync(&self, partial: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(partial)?;
        let len = self.len + self.ending.len() as u64;
        if file.metadata()?.len() > len {
            file.set_len(len)?;
        }
        file.sync_all()
    }

    fn claim(&mut self) -> io::Result<PathBuf> {
        for _ in 0..TRIES {
            let path = self.name.published();
            match give_name(&self.partial, &path) {
                Ok(()) => return Ok(path),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.name.bump(),
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// `rename` would overwrite; a hard link refuses to. Where the file system has no hard links, a rename may refuse as well
/// (`RENAME_NOREPLACE`). Where it has neither, the name is reserved by an empty file of our own, made with `O_EXCL`, which the
/// rename then replaces.
fn give_name(partial: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(partial, path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(e),
        Err(_) => rename(partial, path),
    }
}

/// Gives a file a name that is free, where the file system has no hard links.
pub(super) fn rename(partial: &Path, path: &Path) -> io::Result<()> {
    match rename_to_free(partial, path) {
        Err(e)
            if !matches!(
                e.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
            ) =>
        {
            reserve_and_rename(partial, path)
        }
        result => result,
    }
}

fn reserve_and_rename(partial: &Path, path: &Path) -> io::Result<()> {
    File::create_new(path)?;
    fs::rename(partial, path).inspect_err(|_| {
        // The reservation is ours and empty.
        let _ = fs::remove_file(path);
    })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{Compression, Format, Io, Partial, Staging};
    use crate::time::Timestamp;

    fn sealed(folder: &Path, bytes: &[u8]) -> Sealed {
        let kind = (Format::Pcap, Compression::None);
        let name = Name::new(folder, "web", Timestamp::default(), kind, 1);
        let mut partial =
            Partial::create(name, Io::Buffered, 0, &Ours::default()).expect("created");
        partial
            .append(&mut [io::IoSlice::new(bytes)], &mut Staging::default())
            .expect("written");
        partial.seal()
    }

    #[test]
    fn a_taken_name_is_left_alone_and_the_next_number_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = sealed(folder.path(), b"ours");
        fs::write(first.published(), b"theirs").expect("written");
        let path = first.publish().expect("published");
        assert_eq!(fs::read(&path).expect("readable"), b"ours");
        assert!(path.to_string_lossy().ends_with("-000002.pcap"));
        let theirs = path.with_file_name("web-19700101T000000.000000Z-000001.pcap");
        assert_eq!(fs::read(theirs).expect("readable"), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 2);
    }

    #[test]
    fn without_hard_links_a_name_is_still_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let (partial, path) = (folder.path().join("p"), folder.path().join("f"));
        for give in [rename_to_free, rename, reserve_and_rename] {
            fs::write(&partial, b"ours").expect("written");
            fs::write(&path, b"theirs").expect("written");
            let refused = give(&partial, &path).expect_err("the name is taken");
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&path).expect("readable"), b"theirs");
            fs::remove_file(&path).expect("removed");
            give(&partial, &path).expect("the name is free");
            assert_eq!(fs::read(&path).expect("readable"), b"ours");
            assert!(!partial.exists());
        }
    }

    #[test]
    fn a_publication_that_failed_can_be_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = sealed(folder.path(), b"ours");
        let aside = folder.path().join("aside");
        fs::rename(file.partial(), &aside).expect("moved");
        assert!(matches!(file.publish(), Err(Error::Sync { .. })));
        fs::rename(&aside, file.partial()).expect("moved back");
        assert!(file.publish().is_ok());
    }
}
