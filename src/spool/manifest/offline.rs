//! Lines that are written while no sensor runs: `mirrortap recover`.
//!
//! Takes: what was recovered or set aside, anywhere below a folder. Gives: lines in the manifests of the outputs that it belongs to. Holds: an
//! output without a manifest gets none; a file that is listed already is not listed again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::spool::manifest::{
    Aside, Config, Entry, FILE, KeyError, Listed, Writer, compression_of, digest_file,
};
use crate::spool::recover::Recovered;

/// Why lines could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The manifest.
    #[error("{0}; the next start of the sensor lists what was recovered")]
    Write(#[from] super::Error),
}

/// What is to be told.
#[derive(Debug, Default)]
pub struct Offline(BTreeMap<PathBuf, Vec<Entry>>);

impl Offline {
    /// A file was completed and published.
    pub fn recovered(&mut self, recovered: &Recovered) {
        if let Some(output) = output_of(&recovered.path) {
            let listed = Listed::recovered(recovered, output);
            self.add(output, Entry::Recovered(Box::new(listed)));
        }
    }

    /// A file that holds no capture was set aside.
    pub fn aside(&mut self, was: &Path, kept: &Path, reason: &str) {
        if let Some(output) = output_of(was) {
            let aside = Aside::new(was, kept, reason, output);
            self.add(output, Entry::Aside(aside));
        }
    }

    fn add(&mut self, output: &Path, entry: Entry) {
        self.0.entry(output.to_owned()).or_default().push(entry);
    }

    /// Writes the lines, signed with `key` where there is one. Gives how many.
    ///
    /// # Errors
    /// [`OfflineError`]; other outputs may have their lines by then.
    pub fn write(self, key: Option<&Path>) -> Result<usize, OfflineError> {
        let config = Config {
            enabled: true,
            // a name without a slash would be a credential's
            key: key.map(|key| std::path::absolute(key).unwrap_or_else(|_| key.to_owned())),
        };
        let mut lines = 0;
        for (output, entries) in self.0 {
            let Some(prepared) = config.prepare(Path::new("."))? else {
                continue;
            };
            let mut opened = Writer::open(&output, prepared)?;
            let known = |entry: &&Entry| match entry {
                Entry::Recovered(listed) => !opened.past.names.has(&listed.name),
                _ => true,
            };
            let new: Vec<&Entry> = entries.iter().filter(known).collect();
            lines += new.len();
            opened.writer.write(new.into_iter())?;
        }
        Ok(lines)
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
