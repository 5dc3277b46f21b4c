//! What an earlier run left in the manifest.
//!
//! Takes: the file as it is. Gives: [`Past`]: where the chain goes on, and whether files may be there that nobody told of. Holds: memory
//! is bounded by the number of files that are still there, at 8 bytes each.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, Seek};

use crate::spool::manifest::line::{self, Raw, Told};
use crate::spool::manifest::{Digest, NOTHING};

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// Names, by their hash.
#[derive(Debug, Default)]
pub(super) struct Names {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl Names {
    pub(super) fn add(&mut self, name: &str) {
        self.hashes.insert(self.hasher.hash_one(name));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.hashes.remove(&self.hasher.hash_one(name));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(name))
    }
}

/// The manifest up to now.
#[derive(Debug)]
pub(super) struct Past {
    /// Number of the last line.
    pub(super) sequence: u64,
    /// Its hash.
    pub(super) head: Digest,
    /// Bytes of whole lines.
    pub(super) len: u64,
    /// What follows them without a line break.
    pub(super) torn: Option<Raw>,
    /// From when on there may be files without a line: since the last run that said it left none had ended, or since the first began.
    /// A run that was killed before it had written anything leaves no other trace.
    pub(super) open_since: Option<String>,
    /// Whether every run has said at its end that it left none.
    pub(super) is_closed: bool,
    /// The files that were listed and not removed.
    pub(super) names: Names,
}

impl Past {
    /// Nothing yet.
    fn none() -> Self {
        Self {
            sequence: 0,
            head: NOTHING,
            len: 0,
            torn: None,
            open_since: None,
            is_closed: true,
            names: Names::default(),
        }
    }

    /// Reads the whole file.
    pub(super) fn read(file: &mut File) -> io::Result<Self> {
        file.rewind()?;
        let mut from = BufReader::with_capacity(PIECE, file);
        let mut past = Self::none();
        while let Some(raw) = line::next(&mut from)? {
            if raw.whole {
                past.add(&raw);
            } else {
                past.torn = Some(raw);
            }
        }
        Ok(past)
    }

    /// Whether a last line without a line break is whole but for that.
    pub(super) fn only_lacks_its_end(&self) -> bool {
        let told = self
            .torn
            .as_ref()
            .and_then(|raw| Told::read(&raw.bytes).ok());
        told.is_some_and(|told| {
            told.previous == self.head && told.sequence == self.sequence.wrapping_add(1)
        })
    }

    /// A whole line. One that cannot be read has its number and its hash all the same.
    pub(super) fn add(&mut self, raw: &Raw) {
        self.sequence = self.sequence.wrapping_add(1);
        self.head = raw.digest;
        self.len += raw.len + 1;
        let Ok(told) = Told::read(&raw.bytes) else {
            return;
        };
        self.sequence = told.sequence;
        match (told.kind.as_str(), told.lists(), told.name.as_deref()) {
            ("run", ..) => {
                self.is_closed = false;
                self.open_since.get_or_insert(told.time);
            }
            ("stopped", ..) if told.unlisted == Some(0) => {
                self.is_closed = true;
                self.open_since = Some(told.time);
            }
            ("deleted" | "aside", _, Some(name)) => self.names.remove(name),
            (_, Some(name), _) => self.names.add(name),
            _ => {}
        }
    }
}
