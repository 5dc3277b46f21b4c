//! A capture file while it is written.
//!
//! Takes: a [`Name`] and serialised records. Gives: [`Partial`], which grows by whole records, and
//! [`Sealed`], which waits for its publication. Holds: a partial file is made by us alone (`O_EXCL`);
//! its length as told here ends at a record's end, and what a failed write left behind that is
//! cut off before anything else is written. The descriptor may be closed and opened again at any time. With direct
//! I/O the file may be longer than that by the filler of its last block, until it is trimmed, rests or is published. A
//! compressed file grows by whole units: what can be unpacked without what comes after it.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::spool::compress::Packer;
use crate::spool::direct::Tail;
use crate::spool::plain::{is_refused, options, refused, write_all};
use crate::spool::{Error, Io, Name, Ours, Sealed, Staging};
use crate::sys::disk;

/// So many bytes are worth asking the kernel to begin with them.
const BEHIND: u64 = 16 << 20;

/// How many numbers are tried to find a free name.
const TRIES: u32 = 100_000;

/// A hidden file that is being written.
#[derive(Debug)]
pub struct Partial {
    name: Name,
    path: PathBuf,
    /// `None` while the descriptor is lent to another file.
    file: Option<File>,
    /// Bytes in the file.
    len: u64,
    /// Bytes that they stand for, where the file is compressed.
    content: u64,
    packer: Option<Packer>,
    ours: Ours,
    /// A failed write left bytes behind `len` that could not be cut off yet.
    torn: bool,
    /// Its last block, when it is written past the page cache.
    tail: Option<Tail>,
    /// Whether the filler of its last block is in the file.
    filled: bool,
    /// How much of it the kernel was asked to write to the disk.
    behind: u64,
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
    /// Makes the folder and the file, which is one of `ours` from then on. Where the name, hidden or not, is taken, the
    /// number is counted up until it is free.
    ///
    /// # Errors
    /// [`Error::Create`] when folder or file cannot be made.
    pub fn create(mut name: Name, io: Io, level: u32, ours: &Ours) -> Result<Self, Error> {
        let failed = |name: &Name, source| Error::Create {
            path: name.partial(),
            source,
        };
        fs::create_dir_all(name.directory()).map_err(|e| failed(&name, e))?;
        for _ in 0..TRIES {
            // Known before it is there: whoever looks for what a crash left must not find it in between.
            ours.add(&name.partial());
            match Self::try_create(&name, io) {
                Ok(Some(made)) => return Ok(Self::of(name, made, io, level, ours)),
                Ok(None) => {
                    ours.remove(&name.partial());
                    name.bump();
                }
                Err(e) => {
                    ours.remove(&name.partial());
                    return Err(failed(&name, e));
                }
            }
        }
        let taken = io::Error::new(io::ErrorKind::AlreadyExists, "every number is taken");
        Err(failed(&name, taken))
    }

    fn try_create(name: &Name, io: Io) -> io::Result<Option<(PathBuf, File)>> {
        if fs::symlink_metadata(name.published()).is_ok() {
            return Ok(None);
        }
        let path = name.partial();
        let file = options(io).create_new(true).open(&path);
        match file {
            Ok(file) => Ok(Some((path, file))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn of(name: Name, made: (PathBuf, File), io: Io, level: u32, ours: &Ours) -> Self {
        let (path, file) = made;
        let mut partial = Self {
            packer: Packer::new(name.compression(), level),
            ours: ours.clone(),
            name,
            path,
            file: Some(file),
            len: 0,
            content: 0,
            torn: false,
            tail: None,
            filled: false,
            behind: 0,
        };
        if io == Io::Direct {
            partial.tail = Some(Tail::default());
            partial.go_direct();
        }
        partial
    }

    /// Opens it past the page cache. Where that is refused, blocks are written through it; that is told.
    fn go_direct(&mut self) {
        let aligned = self.file.as_ref().map(disk::direct_alignment);
        let opened = match aligned {
            Some(Ok(1..=disk::ALIGNMENT)) => options(Io::Direct)
                .custom_flags(disk::O_DIRECT)
                .open(&self.path),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        match opened {
            Ok(file) => self.file = Some(file),
            Err(error) => refused(&self.path, &error),
        }
    }

    /// Whether its blocks go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.tail.is_some()
    }

    /// The number that the name ended up with.
    pub fn seq(&self) -> u32 {
        self.name.seq()
    }

    /// Where it is now.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Bytes of whole records (and headers), before compression.
    pub fn len(&self) -> u64 {
        match self.packer {
            Some(_) => self.content,
            None => self.len,
        }
    }

    /// Bytes that the finished file takes.
    pub fn stored(&self) -> u64 {
        let ending = self.packer.as_ref().map_or(0, |p| p.ending().len());
        self.len + ending as u64
    }

    /// Whether a failed write has put an end to its compression.
    pub fn is_stunted(&self) -> bool {
        self.packer.as_ref().is_some_and(Packer::is_lost)
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
        self.trim();
        self.file = None;
    }

    /// Whether it ends with the filler of its last block.
    pub fn is_filled(&self) -> bool {
        self.filled
    }

    /// Cuts off the filler of the last block, so that the file ends where its last record does.
    pub fn trim(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.filled) {
            // It is no record, so a failure can wait for the next time.
            self.filled = file.set_len(self.len).is_err();
        }
    }

    /// Has the kernel begin to write to the disk what it holds of the file, where that is much: then a
    /// later sync finds little to do, and writes are not stopped for want of clean memory.
    pub fn write_behind(&mut self) {
        let more = self.len.saturating_sub(self.behind);
        if let Some(file) = self
            .file
            .as_ref()
            .filter(|_| more >= BEHIND && self.tail.is_none())
        {
            // A file system without a disk refuses, and loses nothing.
            let _ = disk::write_behind(file, self.behind, more);
            self.behind = self.len;
        }
    }

    /// Opens it again where it had been closed.
    ///
    /// # Errors
    /// [`Error::Reopen`] when that is not possible, with `NotFound` when somebody removed the file.
    pub fn wake(&mut self) -> Result<(), Error> {
        if self.file.is_some() {
            return Ok(());
        }
        let failed = |source| Error::Reopen {
            path: self.path.clone(),
            source,
        };
        let io = if self.is_direct() {
            Io::Direct
        } else {
            Io::Buffered
        };
        self.file = Some(options(io).open(&self.path).map_err(failed)?);
        if self.is_direct() {
            // What is behind `len` is cut off, and the last block read, before the next write.
            self.torn = true;
            self.go_direct();
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

    /// Appends all of `parts`: compressed, where the file is, as one unit.
    ///
    /// # Errors
    /// [`Short`] when the system refuses; the file then still ends where it ended before.
    pub fn append(
        &mut self,
        parts: &mut [IoSlice<'_>],
        staging: &mut Staging,
    ) -> Result<(), Short> {
        self.ready().map_err(nothing)?;
        let Some(mut packer) = self.packer.take() else {
            return self.put(parts, staging);
        };
        let packed = packer.pack(parts, &mut staging.press).map_err(nothing);
        // Lent for a moment, since the staging is lent too.
        let unit = std::mem::take(&mut staging.press.unit);
        let result = packed.and_then(|()| self.put(&mut [IoSlice::new(&unit)], staging));
        staging.press.unit = unit;
        packer.settle(result.is_ok());
        self.packer = Some(packer);
        // A part of a unit is worth nothing.
        result.map_err(|short| nothing(short.error))?;
        self.content += parts.iter().map(|p| p.len() as u64).sum::<u64>();
        Ok(())
    }

    fn put(&mut self, parts: &mut [IoSlice<'_>], staging: &mut Staging) -> Result<(), Short> {
        let mut file = self
            .file
            .as_ref()
            .ok_or_else(|| nothing(io::ErrorKind::NotConnected.into()))?;
        let result = match &mut self.tail {
            Some(tail) => {
                let result = tail.write(file, self.len, parts, staging);
                match result {
                    Err(short) if short.written == 0 && is_refused(&short.error) => {
                        refused(&self.path, &short.error);
                        file = self
                            .file
                            .insert(options(Io::Direct).open(&self.path).map_err(nothing)?);
                        tail.write(file, self.len, parts, staging)
                    }
                    result => result,
                }
            }
            None => write_all(file, parts),
        };
        match result {
            Ok(written) => {
                self.len += written;
                self.filled = self.tail.is_some();
                Ok(())
            }
            Err(short) => {
                self.torn |= short.written > 0 || self.tail.is_some();
                Err(short)
            }
        }
    }

    /// Sees to it that nothing is behind the last whole record, after a write that failed.
    fn ready(&mut self) -> io::Result<()> {
        if !self.torn {
            return Ok(());
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        file.set_len(self.len)?;
        if let Some(tail) = &mut self.tail {
            *tail = Tail::read(file, self.len)?;
        }
        (self.torn, self.filled) = (false, false);
        Ok(())
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
        self.ours.remove(&self.path);
    }

    /// Ends the writing. The descriptor is closed; the file is to be published.
    pub fn seal(self) -> Sealed {
        let ending = self.packer.as_ref().map_or(&[][..], |p| p.ending());
        Sealed::new(self.name, self.path, self.len, ending).among(self.ours)
    }
}

fn nothing(error: io::Error) -> Short {
    Short { written: 0, error }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spool::{Compression, Format};
    use crate::time::Timestamp;

    fn name(directory: &Path) -> Name {
        let start = Timestamp::from_parts(1_795_561_200, 0);
        let kind = (Format::Pcap, Compression::None);
        Name::new(directory, "web", start, kind, 1)
    }

    fn create(directory: &Path, io: Io) -> Partial {
        Partial::create(name(directory), io, 0, &Ours::default()).expect("created")
    }

    fn append(partial: &mut Partial, bytes: &[u8]) {
        let (mut parts, mut staging) = ([IoSlice::new(bytes)], Staging::default());
        partial.append(&mut parts, &mut staging).expect("written");
    }

    fn goes_on_where_it_was(io: Io) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut partial = create(&folder.path().join("new"), io);
        let mut parts = [IoSlice::new(b"one"), IoSlice::new(b"two")];
        partial
            .append(&mut parts, &mut Staging::default())
            .expect("written");
        partial.rest();
        assert!(!partial.is_open() && !partial.is_gone());
        assert_eq!(fs::read(partial.path()).expect("readable"), b"onetwo");
        partial.wake().expect("opened again");
        append(&mut partial, b"three");
        assert_eq!(partial.len(), 11);
        let path = partial.seal().publish().expect("published");
        assert_eq!(fs::read(path).expect("readable"), b"onetwothree");
    }

    #[test]
    fn a_file_lent_out_and_opened_again_goes_on_where_it_was() {
        goes_on_where_it_was(Io::Buffered);
        goes_on_where_it_was(Io::Direct);
    }

    fn is_cut_off(io: Io) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut partial = create(folder.path(), io);
        append(&mut partial, b"whole|half");
        (partial.len, partial.torn) = (0, true);
        partial.keep(6);
        append(&mut partial, b"next");
        let path = partial.seal().publish().expect("published");
        assert_eq!(fs::read(path).expect("readable"), b"whole|next");
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off() {
        is_cut_off(Io::Buffered);
        is_cut_off(Io::Direct);
    }

    #[test]
    fn blocks_written_past_the_page_cache_make_the_same_file() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let mut partial = create(folder.path(), Io::Direct);
        let (mut all, mut staging) = (Vec::new(), Staging::default());
        for n in [10, 4086, 4096, 100, 5000, (4 << 20) - 9196, 1, 9 << 20, 7] {
            let bytes: Vec<u8> = (0..n).map(|i| (i * 31 + all.len()) as u8).collect();
            let (head, rest) = bytes.split_at(n / 3);
            let mut parts = [IoSlice::new(head), IoSlice::new(rest)];
            partial.append(&mut parts, &mut staging).expect("written");
            all.extend_from_slice(&bytes);
            let stored = fs::read(partial.path()).expect("readable");
            assert!(stored.starts_with(&all), "all is there after each write");
            assert!(stored[all.len()..].iter().all(|&b| b == 0xFF));
            if n == 100 {
                partial.trim();
                assert_eq!(fs::read(partial.path()).expect("readable"), all);
            }
        }
        let path = partial.seal().publish().expect("published");
        assert!(fs::read(path).expect("readable") == all);
    }

    #[test]
    fn a_removed_file_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut partial = create(folder.path(), Io::Buffered);
        fs::remove_file(partial.path()).expect("removed");
        assert!(partial.is_gone());
        partial.rest();
        assert!(partial.is_gone());
        assert!(partial.wake().is_err());
    }
}
