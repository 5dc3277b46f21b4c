//! A capture file while it is written.
//!
//! Takes: a [`Name`] and serialised records. Gives: [`Partial`], which grows by whole records, and
//! [`Sealed`], which waits for its publication. Holds: a partial file is made by us alone (`O_EXCL`);
//! its length as told here ends at a record's end, and what a failed write left behind that is
//! cut off before anything else is written. The descriptor may be closed and opened again at any time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::spool::{Error, Name, Sealed};

/// How many numbers are tried to find a free name.
const TRIES: u32 = 100_000;

/// A hidden file that is being written.
#[derive(Debug)]
pub struct Partial {
    name: Name,
    path: PathBuf,
    /// `None` while the descriptor is lent to another file.
    file: Option<File>,
    len: u64,
    /// A failed write left bytes behind `len` that could not be cut off yet.
    torn: bool,
}

/// A write that failed, and how far it had come.
#[derive(Debug)]
pub struct Short {
    /// Bytes that were written before it failed; they are not part of the file until
    /// [`Partial::keep`] says so.
    pub written: u64,
    /// What the system said.
    pub error: io::Error,
}

impl Partial {
    /// Makes the folder and the file. Where the name, hidden or not, is taken, the number is
    /// counted up until it is free.
    ///
    /// # Errors
    /// [`Error::Create`] when folder or file cannot be made.
    pub fn create(mut name: Name) -> Result<Self, Error> {
        let failed = |name: &Name, source| Error::Create {
            path: name.partial(),
            source,
        };
        fs::create_dir_all(name.directory()).map_err(|e| failed(&name, e))?;
        for _ in 0..TRIES {
            match Self::try_create(&name) {
                Ok(Some((path, file))) => return Ok(Self::of(name, path, file)),
                Ok(None) => name.bump(),
                Err(e) => return Err(failed(&name, e)),
            }
        }
        let taken = io::Error::new(io::ErrorKind::AlreadyExists, "every number is taken");
        Err(failed(&name, taken))
    }

    fn try_create(name: &Name) -> io::Result<Option<(PathBuf, File)>> {
        if fs::symlink_metadata(name.published()).is_ok() {
            return Ok(None);
        }
        let path = name.partial();
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        match file {
            Ok(file) => Ok(Some((path, file))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn of(name: Name, path: PathBuf, file: File) -> Self {
        Self {
            name,
            path,
            file: Some(file),
            len: 0,
            torn: false,
        }
    }

    /// The number that the name ended up with.
    pub fn seq(&self) -> u32 {
        self.name.seq()
    }

    /// Where it is now.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Bytes of whole records (and headers).
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it holds a descriptor.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Gives its descriptor back. Nothing is lost: no bytes are kept back in this process.
    pub fn rest(&mut self) {
        self.file = None;
    }

    /// Opens it again where it had been closed.
    ///
    /// # Errors
    /// [`Error::Reopen`] when that is not possible, with `NotFound` when somebody removed the file.
    pub fn wake(&mut self) -> Result<(), Error> {
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).open(&self.path);
            self.file = Some(file.map_err(|source| Error::Reopen {
                path: self.path.clone(),
                source,
            })?);
        }
        Ok(())
    }

    /// Whether somebody removed the file, so that what is written to it goes nowhere.
    pub fn is_gone(&self) -> bool {
        match &self.file {
            Some(file) => file.metadata().is_ok_and(|m| m.nlink() == 0),
            None => {
                fs::symlink_metadata(&self.path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
            }
        }
    }

    /// Appends all of `parts`.
    ///
    /// # Errors
    /// [`Short`] when the system refuses; the file then still ends where it ended before.
    pub fn append(&mut self, mut parts: &mut [IoSlice<'_>]) -> Result<(), Short> {
        let mut written = 0;
        let result = self.ready().and_then(|mut file| {
            while !parts.is_empty() {
                match file.write_vectored(parts) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        written += n as u64;
                        IoSlice::advance_slices(&mut parts, n);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        });
        match result {
            Ok(()) => self.len += written,
            Err(error) => {
                self.torn |= written > 0;
                return Err(Short { written, error });
            }
        }
        Ok(())
    }

    /// The descriptor, with nothing behind the last whole record.
    fn ready(&mut self) -> io::Result<&File> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if self.torn {
            file.set_len(self.len)?;
            self.torn = false;
        }
        Ok(file)
    }

    /// After a failed [`append`](Self::append): keeps `bytes` of what it had written, and cuts off the
    /// rest (at the next write, when that is not possible now).
    pub fn keep(&mut self, bytes: u64) {
        self.len += bytes;
        // A failure leaves `torn` set, so that the next write tries again.
        let _ = self.ready();
    }

    /// Removes it: nothing in it is worth keeping.
    pub fn discard(self) {
        // A file that cannot be removed stays hidden: nobody takes it for a capture.
        let _ = fs::remove_file(&self.path);
    }

    /// Ends the writing. The descriptor is closed; the file is to be published.
    pub fn seal(self) -> Sealed {
        Sealed::new(self.name, self.path, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Format;
    use crate::time::Timestamp;

    fn name(directory: &std::path::Path) -> Name {
        let start = Timestamp::from_parts(1_795_561_200, 0);
        Name::new(directory, "web", start, Format::Pcap, 1)
    }

    #[test]
    fn a_file_lent_out_and_opened_again_goes_on_where_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut partial = Partial::create(name(&folder.path().join("new"))).expect("created");
        partial
            .append(&mut [IoSlice::new(b"one"), IoSlice::new(b"two")])
            .expect("written");
        partial.rest();
        assert!(!partial.is_open() && !partial.is_gone());
        partial.wake().expect("opened again");
        partial
            .append(&mut [IoSlice::new(b"three")])
            .expect("written");
        assert_eq!(partial.len(), 11);
        let path = partial.seal().publish().expect("published");
        assert_eq!(fs::read(path).expect("readable"), b"onetwothree");
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut partial = Partial::create(name(folder.path())).expect("created");
        partial
            .append(&mut [IoSlice::new(b"whole|half")])
            .expect("written");
        (partial.len, partial.torn) = (0, true);
        partial.keep(6);
        partial
            .append(&mut [IoSlice::new(b"next")])
            .expect("written");
        let path = partial.seal().publish().expect("published");
        assert_eq!(fs::read(path).expect("readable"), b"whole|next");
    }

    #[test]
    fn a_removed_file_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut partial = Partial::create(name(folder.path())).expect("created");
        fs::remove_file(partial.path()).expect("removed");
        assert!(partial.is_gone());
        partial.rest();
        assert!(partial.is_gone());
        assert!(partial.wake().is_err());
    }
}
