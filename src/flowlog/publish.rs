//! The last step of a file: it is offered for shipping, and then gets its name.

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
    /// By path and key.
    not_offered: VecDeque<(PathBuf, String)>,
    forgotten: u64,
}

/// A file that has its name.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) path: PathBuf,
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
            let key = self.layout.key(&name).ok_or(io::ErrorKind::InvalidInput)?;
            let path = self.directory.join(&key);
            match fs::symlink_metadata(&path) {
                // it had its name when the run was killed
                Ok(there) if identity(&there) == identity(&fs::metadata(&whole.path)?) => {
                    fs::remove_file(&whole.path)?;
                    return Ok(Published { path });
                }
                Ok(_) => {
                    name = self.another(&name);
                    continue;
                }
                Err(_) => {}
            }
            let offered = self.offer(&whole.path, &key);
            match whole.publish(&path) {
                Ok(()) => {
                    if offered.is_err() {
                        self.remember(path.clone(), key);
                    }
                    return Ok(Published { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let _ = self.pending.as_ref().map(|pending| pending.forget(&key));
                    name = self.another(&name);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn offer(&self, file: &Path, key: &str) -> io::Result<()> {
        self.pending
            .as_ref()
            .map_or(Ok(()), |pending| pending.offer(file, key))
    }

    fn remember(&mut self, path: PathBuf, key: String) {
        self.not_offered.push_back((path, key));
        if self.not_offered.len() > MOST_REMEMBERED {
            self.not_offered.pop_front();
            self.forgotten += 1;
        }
    }

    /// Offers again what could not be offered, the oldest first, up to the first that still can't be.
    pub(super) fn offer_again(&mut self) -> Result<(), (PathBuf, io::Error)> {
        while let Some((path, key)) = self.not_offered.pop_front() {
            match self.offer(&path, &key) {
                Ok(()) => {}
                // it was deleted meanwhile
                Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => {
                    self.forgotten += 1;
                }
                Err(error) => {
                    self.not_offered.push_front((path.clone(), key));
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

fn identity(facts: &fs::Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}
