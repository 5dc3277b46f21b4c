//! Capture files in an output folder, and those among them that no line tells of.
//!
//! Takes: an output folder. Gives: [`capture_files`], and [`Search`]: a thread that looks into files which an earlier run left without
//! a line. Holds: only files that carry our names, in the output's own session folders, are looked at; links are not followed;
//! another sensor's output inside this one is left alone.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::capfile::{Format, Reader};
use crate::spool::Name;
use crate::spool::lock;
use crate::spool::manifest::past::Names;
use crate::spool::manifest::{FILE, FileId, Listed, digest_while};
use crate::time::Timestamp;

/// What clocks may differ by.
const SLACK: Duration = Duration::from_secs(3600);

/// A capture file.
#[derive(Debug)]
pub(super) struct CaptureFile {
    /// Path below the output folder.
    pub(super) name: String,
    pub(super) facts: Metadata,
}

/// Every published capture file of an output: in it and in its session folders, by name.
pub(super) fn capture_files(output: &Path) -> io::Result<Vec<CaptureFile>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(output)? {
        let entry = entry?;
        let (name, facts) = (entry.file_name(), entry.metadata());
        // what is gone by now is not there
        let (Some(name), Ok(facts)) = (name.to_str(), facts) else {
            continue;
        };
        if facts.is_dir() {
            add_session(output, name, &mut all);
        } else if facts.is_file() && is_ours(name) {
            let name = name.to_owned();
            all.push(CaptureFile { name, facts });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn add_session(output: &Path, session: &str, all: &mut Vec<CaptureFile>) {
    let folder = output.join(session);
    if session.starts_with('.') || is_other_output(&folder) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, facts) = (entry.file_name(), entry.metadata());
        if let (Some(name), Ok(facts)) = (name.to_str(), facts)
            && facts.is_file()
            && is_ours(name)
        {
            let name = format!("{session}/{name}");
            all.push(CaptureFile { name, facts });
        }
    }
}

fn is_other_output(folder: &Path) -> bool {
    folder.join(FILE).exists() || lock::is_output(folder)
}

fn is_ours(name: &str) -> bool {
    Name::of_published(Path::new(name)).is_some()
}

/// A file without a line, with what its line says.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) listed: Listed,
    pub(super) file: FileId,
}

/// The thread that looks for them.
#[derive(Debug)]
pub(super) struct Search {
    found: Option<Receiver<Found>>,
    over: Arc<AtomicBool>,
}

impl Drop for Search {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Search {
    /// Nothing to look for.
    pub(super) fn none() -> Self {
        Self {
            found: None,
            over: Arc::default(),
        }
    }

    /// Looks for files that are not among `names` and were last written after `since`.
    pub(super) fn start(output: PathBuf, names: Names, since: String) -> io::Result<Self> {
        let (tell, found) = bounded(16);
        let over = Arc::<AtomicBool>::default();
        let looker = Looker {
            output,
            names,
            since,
            tell,
            over: Arc::clone(&over),
        };
        std::thread::Builder::new()
            .name("search".to_owned())
            .spawn(move || looker.run())?;
        let found = Some(found);
        Ok(Self { found, over })
    }

    /// Where the files come from.
    pub(super) fn found(&self) -> Option<Receiver<Found>> {
        self.found.clone()
    }

    pub(super) fn goes_on(&self) -> bool {
        self.found.is_some()
    }
}

struct Looker {
    output: PathBuf,
    names: Names,
    since: String,
    tell: Sender<Found>,
    over: Arc<AtomicBool>,
}

impl Looker {
    fn run(self) {
        let files = capture_files(&self.output).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for capture files that are not in the manifest");
            Vec::new()
        });
        let new = |f: &CaptureFile| !self.names.has(&f.name) && written(&f.facts) >= self.since;
        for file in files.into_iter().filter(new) {
            if self.over.load(Ordering::Relaxed) || !self.look_into(&file) {
                return;
            }
        }
    }

    /// False when nobody wants to know any more.
    fn look_into(&self, file: &CaptureFile) -> bool {
        let path = self.output.join(&file.name);
        let go_on = || !self.over.load(Ordering::Relaxed);
        match digest_while(&path, go_on) {
            Ok((digest, bytes)) => {
                let listed = Listed {
                    bytes,
                    sha256: Some(digest),
                    ..describe(&self.output, &file.name)
                };
                let file = FileId::from(&file.facts);
                self.tell.send(Found { listed, file }).is_ok()
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a capture file that is not in the manifest");
                go_on()
            }
        }
    }
}

/// When a file was last written or got its name, later by what clocks may differ by.
fn written(facts: &Metadata) -> String {
    let seconds = facts.mtime().max(facts.ctime());
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let time = Timestamp::default().saturating_add(since);
    time.saturating_add(SLACK).to_string()
}

/// How a file of this name is compressed.
pub fn compression_of(name: &str) -> &'static str {
    match name {
        name if name.ends_with(".zst") => "zstd",
        name if name.ends_with(".gz") => "gzip",
        _ => "none",
    }
}

/// What can be read from a file itself.
pub(super) fn describe(output: &Path, name: &str) -> Listed {
    let mut listed = Listed {
        name: name.to_owned(),
        session: name
            .split_once('/')
            .map_or("", |(session, _)| session)
            .to_owned(),
        compression: compression_of(name),
        ..Listed::default()
    };
    if name.contains(".pcapng") {
        listed.format = Format::Pcapng;
    }
    let Ok(mut reader) = Reader::open(&output.join(name)) else {
        return listed;
    };
    while let Ok(Some(record)) = reader.next() {
        listed.packets += 1;
        listed.first = Some(
            listed
                .first
                .map_or(record.time, |first| first.min(record.time)),
        );
        listed.last = listed.last.max(Some(record.time));
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_program_gives_are_taken_for_its_own() {
        let start = "20261124T230000.123456Z";
        for ours in [
            "web-S-000001.pcap",
            "a-b-w3-S-1234567.pcapng",
            "v-S-000001.pcap.zst",
            "v-S-000001.pcapng.gz",
        ] {
            assert!(is_ours(&ours.replace('S', start)), "{ours}");
        }
        for theirs in [
            "web.pcap",
            ".web-S-000001.pcap",
            ".web-S-000001.pcap.partial",
            "web-S-1.pcap",
            "web-S-000001.txt",
            "-S-000001.pcap",
            "web-20261124-000001.pcap",
            "S-000001.pcap",
        ] {
            assert!(!is_ours(&theirs.replace('S', start)), "{theirs}");
        }
    }

    #[test]
    fn another_output_inside_and_links_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let name = "web-20261124T230000.123456Z-000001.pcap";
        for session in ["web", "other", ".hidden", "web/deeper"] {
            fs::create_dir_all(folder.path().join(session)).unwrap();
            fs::write(folder.path().join(session).join(name), b"x").unwrap();
        }
        fs::write(folder.path().join("other").join(FILE), b"").unwrap();
        std::os::unix::fs::symlink(folder.path().join("web"), folder.path().join("link")).unwrap();
        let names: Vec<_> = capture_files(folder.path())
            .unwrap()
            .into_iter()
            .map(|f| f.name)
            .collect();
        assert_eq!(names, [format!("web/{name}")]);
    }
}
