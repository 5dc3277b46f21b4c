//! Lines that are written while no sensor runs: `mirrortap recover`.
//!
//! Takes: what is recovered or set aside, anywhere below a folder. Gives: lines in the manifests of the outputs that it belongs to. Holds: an
//! output without a manifest gets none; a file that is listed already is not listed again; a line says that files are recovered
//! before the first one is, so that the next start of a sensor looks for those that got no line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::spool::manifest::past::Past;
use crate::spool::manifest::writer::Torn;
use crate::spool::manifest::{
    Aside, Config, Entry, FILE, KeyError, Listed, Run, Stopped, Writer, compression_of, digest_file,
};
use crate::spool::recover::Recovered;

/// Why lines could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The manifest.
    #[error("{0}; what has no line yet is listed by the next start of the sensor")]
    Write(#[from] super::Error),
}

/// The manifests of the outputs that were met.
#[derive(Debug)]
pub struct Offline {
    config: Config,
    books: BTreeMap<PathBuf, Book>,
}

/// The manifest of an output.
#[derive(Debug)]
struct Book {
    writer: Writer,
    past: Past,
    /// Files without a line.
    unlisted: u64,
}

impl Offline {
    /// Lines are signed with `key`, where there is one.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(key: Option<&Path>) -> Result<Self, OfflineError> {
        let config = Config {
            enabled: true,
            // a name without a slash would be a credential's
            key: key.map(|key| std::path::absolute(key).unwrap_or_else(|_| key.to_owned())),
        };
        config.prepare(Path::new("."))?;
        let books = BTreeMap::new();
        Ok(Self { config, books })
    }

    /// To be called before a hidden file is touched.
    ///
    /// # Errors
    /// When the manifest that it belongs to cannot be written: then it had better stay as it is.
    pub fn begin(&mut self, partial: &Path) -> Result<(), OfflineError> {
        let Some(output) = output_of(partial).filter(|o| !self.books.contains_key(*o)) else {
            return Ok(());
        };
        if let Some(prepared) = self.config.prepare(Path::new("."))? {
            let opened = Writer::open(output, prepared)?;
            let mut book = Book {
                writer: opened.writer,
                past: opened.past,
                unlisted: 0,
            };
            let torn = match opened.torn {
                Some(Torn::Cut(mend)) => Some(mend),
                _ => None,
            };
            book.write(&Entry::Run(Box::new(Run {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                key: book.writer.fingerprint(),
                torn,
                ..Run::default()
            })))?;
            self.books.insert(output.to_owned(), book);
        }
        Ok(())
    }

    /// A file was completed and published.
    ///
    /// # Errors
    /// When its line could not be written.
    pub fn recovered(&mut self, recovered: &Recovered) -> Result<(), OfflineError> {
        let Some((output, book)) = self.book(&recovered.path) else {
            return Ok(());
        };
        let listed = Listed::recovered(recovered, output);
        if book.past.names.has(&listed.name) {
            return Ok(());
        }
        let written = book.write(&Entry::Recovered(Box::new(listed)));
        book.unlisted += u64::from(written.is_err());
        written
    }

    /// A file that holds no capture was set aside.
    ///
    /// # Errors
    /// When its line could not be written.
    pub fn aside(&mut self, was: &Path, kept: &Path, reason: &str) -> Result<(), OfflineError> {
        let Some((output, book)) = self.book(was) else {
            return Ok(());
        };
        book.write(&Entry::Aside(Aside::new(was, kept, reason, output)))
    }

    /// All was done.
    ///
    /// # Errors
    /// When that could not be written; other manifests may have their line.
    pub fn end(self) -> Result<(), OfflineError> {
        let end = |mut book: Book| {
            // files that an earlier run left are the next sensor's to find
            let unlisted = book.past.open_since.is_none().then_some(book.unlisted);
            book.write(&Entry::Stopped(Box::new(Stopped {
                unlisted,
                ..Stopped::default()
            })))
        };
        let ended: Vec<_> = self.books.into_values().map(end).collect();
        ended.into_iter().collect()
    }

    fn book<'a>(&mut self, path: &'a Path) -> Option<(&'a Path, &mut Book)> {
        let output = output_of(path)?;
        Some((output, self.books.get_mut(output)?))
    }
}

impl Book {
    fn write(&mut self, entry: &Entry) -> Result<(), OfflineError> {
        Ok(self.writer.write([entry].into_iter())?)
    }
}

/// The output with a manifest that a file belongs to: its session's folder lies in it, or the file itself does.
fn output_of(path: &Path) -> Option<&Path> {
    let mut folders = path.ancestors().skip(1).take(2);
    folders.find(|folder| folder.join(FILE).is_file())
}

impl Listed {
    /// What a line says of a recovered file; takes its hash.
    pub fn recovered(recovered: &Recovered, output: &Path) -> Self {
        let digest = digest_file(&recovered.path).inspect_err(|error| {
            let path = recovered.path.display();
            tracing::warn!(%path, "cannot take the SHA-256 of a capture file: {error}");
        });
        let digest = digest.ok();
        let name = name(&recovered.path, output);
        Self {
            session: recovered.session.clone(),
            worker: recovered.worker,
            format: recovered.format,
            compression: compression_of(&name),
            packets: recovered.packets,
            bytes: digest.map_or(recovered.bytes, |(_, bytes)| bytes),
            first: recovered.first,
            last: recovered.last,
            peers: recovered.interfaces,
            cut: Some(recovered.cut),
            kept: recovered.kept.as_ref().map(|kept| self::name(kept, output)),
            sha256: digest.map(|(digest, _)| digest),
            name,
            ..Self::default()
        }
    }
}

impl Aside {
    /// What a line says of a file that was set aside.
    pub fn new(was: &Path, kept: &Path, reason: &str, output: &Path) -> Self {
        Self {
            name: name(was, output),
            kept: name(kept, output),
            bytes: kept.metadata().map_or(0, |facts| facts.len()),
            reason: reason.to_owned(),
        }
    }
}

/// The path below the output folder.
pub fn name(path: &Path, output: &Path) -> String {
    let below = path.strip_prefix(output).unwrap_or(path);
    below.to_string_lossy().into_owned()
}
