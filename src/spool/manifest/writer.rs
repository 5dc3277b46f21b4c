//! Writing lines.
//!
//! Takes: entries. Gives: lines at the end of the manifest, synced. Holds: after an error the file counts as it was before, whatever
//! of the lines got there; a torn end that a crash left is kept beside the manifest, never thrown away; a few KiB ahead of the end are
//! reserved, so that deletions can be told on a full disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::spool::manifest::line::{self, Place};
use crate::spool::manifest::past::Past;
use crate::spool::manifest::{Digest, Entry, FILE, FileId, Mend, Prepared, Signer};
use crate::sys::disk;
use crate::time;

/// What is reserved ahead of the end, and when it is reserved anew.
const RESERVE: u64 = 64 << 10;
const LEAST_RESERVE: u64 = 16 << 10;

/// Names that are tried for a torn end.
const TRIES: u32 = 1000;

/// Why a line could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot {what} {}: {source}; check the output folder, its free space and its rights", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another mirrortap writes {}: give each its own output folder", .0.display())]
    Busy(PathBuf),
    /// It was removed or another file has its name.
    #[error("somebody removed or replaced {}", .0.display())]
    Gone(PathBuf),
}

impl Error {
    /// Whether it is only room that is missing.
    pub(super) fn is_no_room(&self) -> bool {
        let full = |kind| {
            matches!(
                kind,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        matches!(self, Self::Io { source, .. } if full(source.kind()))
    }

    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// What was done about a torn end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Torn {
    /// The last line lacked nothing but its line break.
    Completed,
    /// It was cut off and is kept.
    Cut(Mend),
}

/// A manifest that was opened.
#[derive(Debug)]
pub struct Opened {
    /// To write with.
    pub writer: Writer,
    /// What was done about a torn end.
    pub torn: Option<Torn>,
    pub(super) past: Past,
}

/// Writes the manifest of one output folder.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    id: FileId,
    /// Bytes of lines that are on the disk.
    len: u64,
    last: Place,
    run: String,
    signer: Option<Box<Signer>>,
    /// Whether there may be something behind `len`.
    dirty: bool,
    reserved: u64,
}

impl Writer {
    /// Opens the manifest in `output`, or begins one.
    ///
    /// # Errors
    /// [`Error`]; `prepared` is lost with it only when the key is not needed any more.
    pub fn open(output: &Path, prepared: Prepared) -> Result<Opened, Error> {
        Self::open_again(output, prepared).map_err(|(error, _)| error)
    }

    /// As [`Self::open`], giving back what it was given when it fails.
    pub(super) fn open_again(
        output: &Path,
        prepared: Prepared,
    ) -> Result<Opened, (Error, Prepared)> {
        match Disk::open(output) {
            Ok((disk, past, torn)) => {
                let mut writer = Self {
                    path: disk.path,
                    file: disk.file,
                    id: disk.id,
                    len: past.len,
                    last: Place {
                        sequence: past.sequence,
                        previous: past.head,
                    },
                    run: prepared.run,
                    signer: prepared.signer,
                    dirty: false,
                    reserved: past.len,
                };
                writer.reserve();
                Ok(Opened { writer, torn, past })
            }
            Err(error) => Err((error, prepared)),
        }
    }

    /// Lets go of the file.
    pub(super) fn close(self) -> Prepared {
        Prepared {
            run: self.run,
            signer: self.signer,
        }
    }

    /// Writes a line for each entry and syncs them; all of them or, after an error, none.
    ///
    /// # Errors
    /// [`Error`]. The next attempt begins anew.
    pub fn write<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> Result<(), Error> {
        self.write_lines(entries).map(drop)
    }

    /// As [`Self::write`]; gives the lines, each with its line break.
    pub(super) fn write_lines<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<Vec<u8>, Error> {
        self.still_there()?;
        let now = time::now().to_string();
        let (mut lines, mut last) = (Vec::new(), self.last);
        for entry in entries {
            last.sequence = last.sequence.wrapping_add(1);
            let line = line::compose(entry, last, &now, &self.run, self.signer.as_deref());
            let line = line.map_err(|e| Error::io("make a line for", &self.path)(e.into()))?;
            last.previous = super::digest_bytes(&line);
            lines.extend_from_slice(&line);
            lines.push(b'\n');
        }
        self.put(&lines).map_err(Error::io("write", &self.path))?;
        self.len += lines.len() as u64;
        self.last = last;
        self.reserve();
        Ok(lines)
    }

    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.len)?;
            self.reserved = self.len;
        }
        self.dirty = true;
        self.file.write_all_at(lines, self.len)?;
        self.file.sync_data()?;
        self.dirty = false;
        Ok(())
    }

    fn still_there(&self) -> Result<(), Error> {
        let same = fs::symlink_metadata(&self.path).is_ok_and(|f| FileId::from(&f) == self.id);
        same.then_some(())
            .ok_or_else(|| Error::Gone(self.path.clone()))
    }

    /// A file system that cannot reserve does without.
    fn reserve(&mut self) {
        if self.reserved >= self.len + LEAST_RESERVE {
            return;
        }
        if disk::reserve(&self.file, self.len, RESERVE).is_ok() {
            self.reserved = self.len + RESERVE;
        }
    }

    /// Number and hash of the last line.
    pub(super) fn last(&self) -> Place {
        self.last
    }

    /// Goes on behind a line that is no longer in the file: the gap shows.
    pub(super) fn go_on_from(&mut self, last: Place) {
        if last.sequence > self.last.sequence {
            self.last = last;
        }
    }

    /// The hash of the last line.
    pub fn head(&self) -> Digest {
        self.last.previous
    }

    /// The key's fingerprint.
    pub fn fingerprint(&self) -> Option<Digest> {
        self.signer.as_deref().map(Signer::fingerprint)
    }
}

/// The file itself.
struct Disk {
    path: PathBuf,
    file: File,
    id: FileId,
}

impl Disk {
    fn open(output: &Path) -> Result<(Self, Past, Option<Torn>), Error> {
        let path = output.join(FILE);
        fs::create_dir_all(output).map_err(Error::io("make", output))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(disk::O_NOFOLLOW | disk::O_NONBLOCK)
            .open(&path);
        let mut file = file.map_err(Error::io("open", &path))?;
        // a file system without locks does without
        if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
            return Err(Error::Busy(path));
        }
        let facts = file.metadata().map_err(Error::io("look at", &path))?;
        if !facts.is_file() {
            let source = io::Error::other("it is no plain file");
            return Err(Error::io("open", &path)(source));
        }
        let mut past = Past::read(&mut file).map_err(Error::io("read", &path))?;
        let id = FileId::from(&facts);
        let mut disk = Self { path, file, id };
        let torn = disk.mend(output, &mut past)?;
        let synced = File::open(output).and_then(|folder| folder.sync_all());
        synced.map_err(Error::io("sync", output))?;
        Ok((disk, past, torn))
    }

    /// Completes a last line without a line break, or cuts it off and keeps it.
    fn mend(&mut self, output: &Path, past: &mut Past) -> Result<Option<Torn>, Error> {
        let failed = || Error::io("mend the torn end of", &self.path);
        if past.torn.is_none() {
            return Ok(None);
        }
        if past.only_lacks_its_end() {
            let Some(mut raw) = past.torn.take() else {
                return Ok(None);
            };
            let end = past.len + raw.len;
            let put = self.file.write_all_at(b"\n", end);
            put.and_then(|()| self.file.sync_data()).map_err(failed())?;
            raw.whole = true;
            past.add(&raw);
            return Ok(Some(Torn::Completed));
        }
        let mend = keep(&mut self.file, past.len, output).map_err(failed())?;
        self.file.set_len(past.len).map_err(failed())?;
        past.torn = None;
        Ok(Some(Torn::Cut(mend)))
    }
}

/// Copies what is behind `from` into a file of its own.
fn keep(file: &mut File, from: u64, output: &Path) -> io::Result<Mend> {
    let now = time::now().file_name();
    for number in 1..=TRIES {
        let kept = format!("manifest.torn-{now}-{number}");
        let mut copy = match File::create_new(output.join(&kept)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other?,
        };
        file.seek(SeekFrom::Start(from))?;
        let bytes = io::copy(file, &mut copy)?;
        copy.sync_all()?;
        File::open(output)?.sync_all()?;
        return Ok(Mend { bytes, kept });
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::manifest::{Deleted, Run};

    fn open(output: &Path) -> Opened {
        Writer::open(output, Prepared::unsigned()).expect("opened")
    }

    fn deleted(name: &str) -> Entry {
        let name = name.to_owned();
        Entry::Deleted(Deleted {
            name,
            ..Deleted::default()
        })
    }

    fn manifest(folder: &Path) -> String {
        fs::read_to_string(folder.join(FILE)).unwrap()
    }

    #[test]
    fn the_chain_goes_on_over_runs() {
        let folder = tempfile::tempdir().unwrap();
        let mut heads = Vec::new();
        for _ in 0..3 {
            let mut opened = open(folder.path());
            assert_eq!(opened.torn, None);
            let run = Entry::Run(Box::default());
            opened
                .writer
                .write([&run, &deleted("a")].into_iter())
                .unwrap();
            heads.push(opened.writer.head());
        }
        let opened = open(folder.path());
        assert_eq!((opened.past.sequence, opened.past.head), (6, heads[2]));
        assert!(opened.past.open_since.is_some());
    }

    #[test]
    fn a_torn_last_line_is_kept_beside_and_one_that_only_lacks_its_end_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        open(folder.path())
            .writer
            .write([&deleted("a"), &deleted("b")].into_iter())
            .unwrap();
        let whole = manifest(folder.path());
        fs::write(&path, whole.trim_end()).unwrap();
        assert_eq!(open(folder.path()).torn, Some(Torn::Completed));
        assert_eq!(manifest(folder.path()), whole);
        for cut in [2, 50] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let opened = open(folder.path());
            let Some(Torn::Cut(mend)) = opened.torn else {
                panic!("{:?}", opened.torn)
            };
            let kept = fs::read_to_string(folder.path().join(&mend.kept)).unwrap();
            assert_eq!(
                (mend.bytes, manifest(folder.path()) + &kept),
                (kept.len() as u64, whole[..whole.len() - cut].to_owned())
            );
            assert_eq!(opened.past.sequence, 1);
        }
    }

    #[test]
    fn nobody_else_writes_a_manifest_that_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path());
        let second = Writer::open(folder.path(), Prepared::unsigned());
        assert!(matches!(second, Err(Error::Busy(_))));
        drop(first);
        open(folder.path());
    }

    #[test]
    fn a_manifest_that_was_removed_is_noticed_and_its_chain_is_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path()).writer;
        first.write([&deleted("a")].into_iter()).unwrap();
        fs::remove_file(folder.path().join(FILE)).unwrap();
        let run = Entry::Run(Box::<Run>::default());
        assert!(matches!(
            first.write([&run].into_iter()),
            Err(Error::Gone(_))
        ));
        let last = first.last();
        let mut second = Writer::open(folder.path(), first.close()).unwrap().writer;
        second.go_on_from(last);
        second.write([&run].into_iter()).unwrap();
        let line = manifest(folder.path());
        assert!(
            line.contains(&format!("\"previous\":\"{}\"", last.previous))
                && line.contains("\"sequence\":2")
        );
    }

    #[test]
    fn what_a_failed_write_left_behind_the_end_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(folder.path()).writer;
        writer.write([&deleted("a")].into_iter()).unwrap();
        let before = manifest(folder.path());
        writer.file.write_all_at(&[b'x'; 5000], writer.len).unwrap();
        writer.dirty = true;
        writer.write([&deleted("b")].into_iter()).unwrap();
        let text = manifest(folder.path());
        assert!(text.starts_with(&before) && text.ends_with("}\n") && text.lines().count() == 2);
    }
}
