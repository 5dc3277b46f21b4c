//! The way to the scribe.
//!
//! Takes: entries. Gives: [`Teller`], which any thread may have a copy of, and [`Receipt`], which says when a line is on
//! the disk. Holds: telling never waits for the disk; which files still wait for their line is known
//! before they have their name, so that nobody removes one of them.

use std::collections::HashSet;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::metrics::{Counter, Gauge};
use crate::spool::manifest::Entry;

/// How many entries may be on their way to the scribe.
const WAITING: usize = 4096;

/// What the scribe has done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Lines written.
    pub lines: Counter,
    /// Lines that wait because the manifest cannot be written.
    pub waiting: Gauge,
    /// Published files without a line: too many waited, or they could not be read in time.
    pub unlisted: Counter,
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its line is on the disk.
    Written,
    /// There is no manifest: it is turned off.
    Off,
    /// The manifest cannot be written now. The line of a file, and of the end, will be written when it can be; another
    /// entry is forgotten, and has to be told again.
    Failing,
    /// The manifest cannot be written now for want of room on the disk. The line waits, and is written when there is room: what it
    /// announces may be done, above all when that makes room.
    NoRoom,
    /// Too many wait already, or the program ends: there will be no line.
    Refused,
}

/// A file, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// By its numbers.
    pub const fn new(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }

    /// Device and inode.
    pub const fn numbers(self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

impl From<&Metadata> for FileId {
    fn from(facts: &Metadata) -> Self {
        Self::new(facts.dev(), facts.ino())
    }
}

/// An entry on its way, and who is to be told of it.
pub struct Letter {
    pub(super) entry: Entry,
    /// The file that waits for this line.
    pub(super) file: Option<FileId>,
    pub(super) then: Option<Then>,
}

/// Is told what became of an entry, with its line where that is on the disk.
type Then = Box<dyn FnOnce(Outcome, Option<&[u8]>) + Send>;

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.answer(Outcome::Refused);
    }
}

impl Letter {
    /// One whose answer nobody waits for.
    pub(super) fn to_nobody(entry: Entry) -> Self {
        Self {
            entry,
            file: None,
            then: None,
        }
    }

    /// Takes note that there will be no line, where it is about a published file.
    pub(super) fn count_unlisted(&self, counters: &Counters) {
        if matches!(
            self.entry,
            Entry::Published(_) | Entry::Recovered(_) | Entry::Found(_)
        ) {
            counters.unlisted.add(1);
        }
    }

    /// Tells what became of it, once.
    pub(super) fn answer(&mut self, outcome: Outcome) {
        self.answer_with(outcome, None);
    }

    /// As [`Self::answer`], with its line.
    pub(super) fn answer_with(&mut self, outcome: Outcome, line: Option<&[u8]>) {
        if let Some(then) = self.then.take() {
            then(outcome, line);
        }
    }
}

/// The files that wait for their line.
#[derive(Debug, Default)]
pub(super) struct Expected(Mutex<HashSet<FileId>>);

impl Expected {
    fn lock(&self) -> MutexGuard<'_, HashSet<FileId>> {
        // single steps: a panic can't have left it half
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, file: FileId) {
        self.lock().remove(&file);
    }

    pub(super) fn has(&self, file: FileId) -> bool {
        self.lock().contains(&file)
    }
}

/// Tells the scribe. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Teller {
    /// `None`: there is no manifest.
    sender: Option<Sender<Letter>>,
    expected: Arc<Expected>,
    counters: Arc<Counters>,
}

impl Teller {
    /// Where there is no manifest: everything is well at once.
    pub fn off() -> Self {
        Self {
            sender: None,
            expected: Arc::default(),
            counters: Arc::default(),
        }
    }

    /// A teller and the other end.
    pub(super) fn new(counters: Arc<Counters>) -> (Self, Receiver<Letter>, Arc<Expected>) {
        let (sender, letters) = bounded(WAITING);
        let teller = Self {
            sender: Some(sender),
            counters,
            ..Self::off()
        };
        let expected = Arc::clone(&teller.expected);
        (teller, letters, expected)
    }

    /// What the scribe has done.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether there is a manifest.
    pub fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Tells the scribe, and gives a receipt.
    pub fn tell(&self, entry: Entry) -> Receipt {
        let (answer, outcome) = bounded(1);
        self.tell_then(entry, None, move |outcome| {
            // nobody waits any more when the receipt was thrown away
            let _ = answer.try_send(outcome);
        });
        Receipt(outcome)
    }

    /// Tells the scribe, and has `then` called once: when the line is on the disk, or when it is known that it is not. Then `file`
    /// is no longer expected once the line is on the disk.
    pub fn tell_then(
        &self,
        entry: Entry,
        file: Option<FileId>,
        then: impl FnOnce(Outcome) + Send + 'static,
    ) {
        self.tell_with_line(entry, file, |outcome, _| then(outcome));
    }

    /// As [`Self::tell_then`]; `then` gets the line too, without its line break, where that is on the disk.
    pub fn tell_with_line(
        &self,
        entry: Entry,
        file: Option<FileId>,
        then: impl FnOnce(Outcome, Option<&[u8]>) + Send + 'static,
    ) {
        let then: Then = Box::new(then);
        let mut letter = Letter {
            entry,
            file,
            then: Some(then),
        };
        let Some(sender) = &self.sender else {
            return letter.answer(Outcome::Off);
        };
        if let Err(TrySendError::Full(mut letter) | TrySendError::Disconnected(mut letter)) =
            sender.try_send(letter)
        {
            if let Some(file) = letter.file {
                self.forget(file);
            }
            letter.count_unlisted(&self.counters);
            letter.answer(Outcome::Refused);
        }
    }

    /// Takes note of a file that will get a line, before it gets its name.
    pub fn will_tell(&self, file: FileId) {
        if self.is_on() {
            self.expected.lock().insert(file);
        }
    }

    /// A file that was expected will not get a line after all.
    pub fn forget(&self, file: FileId) {
        self.expected.forget(file);
    }

    /// A published file will not get a line in this run; the next one looks for it.
    pub fn leave_out(&self, file: FileId) {
        self.expected.forget(file);
        self.counters.unlisted.add(1);
    }

    /// Whether this file still waits for its line: it must not be removed.
    pub fn is_expected(&self, file: FileId) -> bool {
        self.expected.has(file)
    }
}

/// Says what became of an entry.
#[derive(Debug)]
pub struct Receipt(Receiver<Outcome>);

impl Receipt {
    /// Waits for the answer; `None` when there is none in this time.
    pub fn wait(&self, longest: Duration) -> Option<Outcome> {
        self.0.recv_timeout(longest).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::manifest::Deleted;

    fn entry() -> Entry {
        Entry::Deleted(Deleted::default())
    }

    #[test]
    fn without_a_manifest_everything_is_well_at_once_and_no_file_is_expected() {
        let teller = Teller::off();
        assert_eq!(
            teller.tell(entry()).wait(Duration::ZERO),
            Some(Outcome::Off)
        );
        let file = FileId {
            device: 1,
            inode: 2,
        };
        teller.will_tell(file);
        assert!(!teller.is_expected(file) && !teller.is_on());
    }

    #[test]
    fn a_file_that_the_scribe_has_no_room_for_is_counted_so_that_the_next_run_looks_for_it() {
        let (teller, letters, _) = Teller::new(Arc::default());
        let file = FileId::new(1, 2);
        for _ in 0..WAITING {
            teller.tell(entry());
        }
        teller.will_tell(file);
        teller.tell_then(Entry::Published(Box::default()), Some(file), |_| {});
        assert!(!teller.is_expected(file));
        assert_eq!(teller.counters().unlisted.value(), 1);
        drop(letters);
        teller.tell_then(Entry::Recovered(Box::default()), None, |_| {});
        teller.tell(entry());
        assert_eq!(
            teller.counters().unlisted.value(),
            2,
            "a deletion is no file"
        );
    }

    #[test]
    fn telling_never_waits_and_what_is_too_much_is_refused() {
        let (teller, letters, _) = Teller::new(Arc::default());
        let receipts: Vec<_> = (0..=WAITING).map(|_| teller.tell(entry())).collect();
        let (last, first) = receipts.split_last().unwrap();
        assert_eq!(last.wait(Duration::ZERO), Some(Outcome::Refused));
        assert!(first.iter().all(|r| r.wait(Duration::ZERO).is_none()));
        drop(letters);
        assert_eq!(
            teller.tell(entry()).wait(Duration::ZERO),
            Some(Outcome::Refused)
        );
    }
}
