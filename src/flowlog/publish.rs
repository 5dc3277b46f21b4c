//! The last step of a file: it is offered for shipping, and then gets its name.
//!
//! Holds: one that could not be offered has its name all the same, and is remembered on the disk until it was.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::flowlog::Layout;
use crate::flowlog::file::Whole;
use crate::flowlog::key::hash;
use crate::ship::Pending;

/// Files that could not be offered and are remembered. Beyond that the oldest is forgotten, and counted all the same.
const MOST_REMEMBERED: usize = 4096;

/// Gives files their names.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) directory: PathBuf,
    pub(super) layout: Layout,
    pub(super) pending: Option<Pending>,
    run: String,
    number: u64,
    not_offered: VecDeque<Waiting>,
    forgotten: u64,
}

/// A file that has its name.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) path: PathBuf,
    /// What went wrong behind that.
    pub(super) settled: io::Result<()>,
}

/// A file that has its name and could not be offered. It keeps its hidden name too, so that the next start knows of it.
#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    hidden: PathBuf,
    key: String,
}

impl Waiting {
    /// Nobody has to know of it any more.
    fn end(&self) {
        let _ = remove(&self.hidden);
    }
}

impl Publisher {
    pub(super) fn new(directory: &Path, layout: Layout, run: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            layout,
            pending: None,
            run: format!("{run} again"),
            number: 0,
            not_offered: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// Offers a file and gives it its name. If that is taken by another file, another name is found: nothing is overwritten.
    pub(super) fn publish(&mut self, whole: &Whole) -> io::Result<Published> {
        let mut name = whole.name.clone();
        loop {
            let key = self.layout.key(&name);
            let key = key.or_else(|| self.layout.key_of_left(&name));
            let key = key.ok_or(io::ErrorKind::InvalidInput)?;
            let path = self.directory.join(&key);
            match fs::symlink_metadata(&path) {
                // it had its name when the run was killed, or was not offered
                Ok(there) if identity(&there) == identity(&fs::metadata(&whole.path)?) => {
                    let offered = self.offer(&whole.path, &key);
                    return Ok(self.settle(whole, path, key, offered));
                }
                Ok(_) => {
                    name = self.another(&name);
                    continue;
                }
                Err(_) => {}
            }
            let offered = self.offer(&whole.path, &key);
            match whole.publish(&path) {
                Ok(()) => return Ok(self.settle(whole, path, key, offered)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let _ = self.pending.as_ref().map(|pending| pending.forget(&key));
                    name = self.another(&name);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What comes behind the name. The hidden one goes when the file is safe and was offered: where it stays, the next start goes on from
    /// there.
    fn settle(
        &mut self,
        whole: &Whole,
        path: PathBuf,
        key: String,
        offered: io::Result<()>,
    ) -> Published {
        let folder = path.parent().unwrap_or(&path);
        let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
        let settled = match offered {
            Ok(()) => synced.and_then(|()| remove(&whole.path)),
            Err(_) => {
                self.remember(Waiting {
                    path: path.clone(),
                    hidden: whole.path.clone(),
                    key,
                });
                synced
            }
        };
        Published { path, settled }
    }

    fn offer(&self, file: &Path, key: &str) -> io::Result<()> {
        self.pending
            .as_ref()
            .map_or(Ok(()), |pending| pending.offer(file, key))
    }

    fn remember(&mut self, waiting: Waiting) {
        self.not_offered.push_back(waiting);
        if self.not_offered.len() > MOST_REMEMBERED {
            self.not_offered.pop_front().iter().for_each(Waiting::end);
            self.forgotten += 1;
        }
    }

    /// Offers again what could not be offered, the oldest first, up to the first that still can't be.
    pub(super) fn offer_again(&mut self) -> Result<(), (PathBuf, io::Error)> {
        while let Some(waiting) = self.not_offered.pop_front() {
            match self.offer(&waiting.path, &waiting.key) {
                Ok(()) => waiting.end(),
                // it was deleted meanwhile
                Err(_) if is_missing(&waiting.path) => {
                    waiting.end();
                    self.forgotten += 1;
                }
                Err(error) => {
                    let path = waiting.path.clone();
                    self.not_offered.push_front(waiting);
                    return Err((path, error));
                }
            }
        }
        Ok(())
    }

    /// Files that were not offered so far.
    pub(super) fn not_offered(&self) -> u64 {
        self.not_offered.len() as u64 + self.forgotten
    }

    /// A name of the same five minutes that nobody had yet.
    fn another(&mut self, name: &str) -> String {
        self.number += 1;
        let hash = hash(&self.run, 0, self.number);
        self.layout.renamed(name, &hash)
    }
}

/// One that is gone already is no error: where the file system has no links the hidden name became the name.
fn remove(hidden: &Path) -> io::Result<()> {
    match fs::remove_file(hidden) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn identity(facts: &fs::Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}
