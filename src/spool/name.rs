//! The name of a capture file, and of the hidden file that it is written as.
//!
//! Takes: folder, session name, time of the first packet, sequence number; or a path. Gives: the two paths; or, of a
//! path that this program made, what it was made of. Holds: whatever a session is called, both names lie in the given
//! folder and are short enough for every file system; a name that is read is one that would be written so.

use std::path::{Path, PathBuf};

use crate::spool::{Compression, Format};
use crate::time::Timestamp;

/// Longest part of a session's name that goes into a file name: with time, number, extension and
/// `.partial` around it, the whole stays well below the usual 255 bytes.
const LONGEST_STEM: usize = 160;

/// `{directory}/{stem}-{start}-{seq}.{extension}`, and its hidden twin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    directory: PathBuf,
    stem: String,
    /// As it is written in the name.
    start: String,
    format: Format,
    compression: Compression,
    seq: u32,
}

/// How a name says what state a file is in, behind a dot in front.
const PARTIAL: &str = ".partial";

impl Name {
    /// The name of a file in `directory` whose first packet came at `start`.
    pub fn new(
        directory: &Path,
        stem: &str,
        start: Timestamp,
        kind: (Format, Compression),
        seq: u32,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            stem: harmless(stem),
            start: start.file_name(),
            format: kind.0,
            compression: kind.1,
            seq,
        }
    }

    /// What the path of a hidden file was made of; `None` for a file that is not ours.
    pub fn of_partial(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let file = file.strip_prefix('.')?.strip_suffix(PARTIAL)?;
        Self::of_file(path.parent()?, file)
    }

    /// What the path of a published file was made of; `None` for a file that is not ours.
    pub fn of_published(path: &Path) -> Option<Self> {
        Self::of_file(path.parent()?, path.file_name()?.to_str()?)
    }

    fn of_file(directory: &Path, file: &str) -> Option<Self> {
        let (rest, compression) = strip(file, [Compression::Zstd, Compression::Gzip])?;
        let (rest, format) = match rest.strip_suffix(".pcapng") {
            Some(rest) => (rest, Format::Pcapng),
            None => (rest.strip_suffix(".pcap")?, Format::Pcap),
        };
        let (rest, seq) = rest.rsplit_once('-')?;
        let (stem, start) = rest.rsplit_once('-')?;
        let name = Self {
            directory: directory.to_owned(),
            stem: harmless(stem),
            start: start.to_owned(),
            format,
            compression,
            seq: seq.parse().ok()?,
        };
        (is_time(start) && !stem.is_empty() && name.file() == file).then_some(name)
    }

    /// pcap or pcapng.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How it is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The session, and the worker where each has files of its own. A session may be called as if it were the file
    /// of a worker of another: the folder, which is called like the session, tells.
    pub fn session(&self) -> (&str, Option<u16>) {
        let folder = self.directory.file_name().and_then(|f| f.to_str());
        let split = || self.stem.rsplit_once("-w");
        match split() {
            Some((session, worker)) if folder != Some(&self.stem) => match worker.parse() {
                Ok(worker) => (session, Some(worker)),
                Err(_) => (&self.stem, None),
            },
            _ => (&self.stem, None),
        }
    }

    /// The folder that both names lie in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The number at its end.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// The same name with the next number, for when this one is taken.
    pub fn bump(&mut self) {
        self.seq = self.seq.wrapping_add(1);
    }

    /// Where the finished file will be.
    pub fn published(&self) -> PathBuf {
        self.directory.join(self.file())
    }

    /// Where it is while it is written: readers that take `*.pcap` do not see it.
    pub fn partial(&self) -> PathBuf {
        self.hidden(PARTIAL)
    }

    /// Another hidden name beside it, such as that of bytes which were set aside.
    pub(super) fn hidden(&self, ending: &str) -> PathBuf {
        self.directory.join(format!(".{}{ending}", self.file()))
    }

    fn file(&self) -> String {
        let format = match self.format {
            Format::Pcap => "pcap",
            Format::Pcapng => "pcapng",
        };
        let (stem, start, seq) = (&self.stem, &self.start, self.seq);
        let compression = self.compression.extension();
        format!("{stem}-{start}-{seq:06}.{format}{compression}")
    }
}

/// Takes the ending of a compression off a file's name.
fn strip(file: &str, known: [Compression; 2]) -> Option<(&str, Compression)> {
    let compressed = known
        .into_iter()
        .find_map(|c| Some((file.strip_suffix(c.extension())?, c)));
    Some(compressed.unwrap_or((file, Compression::None)))
}

/// Whether it is a time as it is written in names: `20261124T230000.123456Z`; years may have more digits.
fn is_time(text: &str) -> bool {
    let digits =
        |text: &str, least: usize| text.len() >= least && text.bytes().all(|b| b.is_ascii_digit());
    let parts = || {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let (time, fraction) = time.split_once('.')?;
        Some(
            digits(date, 8)
                && time.len() == 6
                && digits(time, 6)
                && fraction.len() == 6
                && digits(fraction, 6),
        )
    };
    parts().unwrap_or(false)
}

/// `name` without what a path would take as its own, not hidden, and not too long.
fn harmless(name: &str) -> String {
    let safe = |c: char| {
        if c.is_control() || c == '/' || c == '\\' {
            '_'
        } else {
            c
        }
    };
    let mut stem: String = name.chars().map(safe).collect();
    stem.truncate(stem.floor_char_boundary(LONGEST_STEM));
    if stem.starts_with('.') {
        stem.replace_range(..1, "_");
    }
    stem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    fn name(stem: &str) -> Name {
        let start = Timestamp::from_parts(1_795_561_200, 123_456_789);
        Name::new(Path::new("out"), stem, start, KIND, 7)
    }

    const KIND: (Format, Compression) = (Format::Pcap, Compression::None);

    #[test]
    fn a_file_is_named_by_session_start_and_number() {
        let mut name = name("web");
        let published = "out/web-20261124T230000.123456Z-000007.pcap";
        assert_eq!(name.published(), Path::new(published));
        let partial = "out/.web-20261124T230000.123456Z-000007.pcap.partial";
        assert_eq!(name.partial(), Path::new(partial));
        name.bump();
        assert!(name.published().to_string_lossy().ends_with("-000008.pcap"));
    }

    proptest! {
        #[test]
        fn no_session_name_leaves_its_folder_or_hides_its_file(stem in ".{0,300}") {
            for (path, hidden) in [(name(&stem).published(), false), (name(&stem).partial(), true)] {
                assert_eq!(path.parent(), Some(Path::new("out")));
                let file = path.file_name().expect("a file name").to_string_lossy().into_owned();
                assert_eq!(file.starts_with('.'), hidden);
                assert!(file.len() < 255 && !file.contains('\0'));
            }
        }

        #[test]
        fn a_name_that_was_written_is_read_back_and_no_other_passes(
            stem in "[a-zA-Z0-9._-]{1,200}", seq in 0_u32.., secs in 0_u64..10_000_000_000, other in ".{0,60}",
        ) {
            let start = Timestamp::from_parts(secs, 5_000);
            for format in [Format::Pcap, Format::Pcapng] {
                for compression in [Compression::None, Compression::Zstd, Compression::Gzip] {
                    let name = Name::new(Path::new("out"), &stem, start, (format, compression), seq);
                    assert_eq!(Name::of_partial(&name.partial()).as_ref(), Some(&name));
                    assert_eq!(Name::of_published(&name.published()).as_ref(), Some(&name));
                    assert!(Name::of_published(&name.partial()).is_none());
                }
            }
            if let Some(name) = Name::of_published(&Path::new("out").join(&other)) {
                assert_eq!(name.published(), Path::new("out").join(&other));
            }
        }
    }

    #[test]
    fn names_that_are_nearly_ours_are_not_taken_for_ours() {
        for file in [
            ".web-20261124T230000.123456Z-7.pcap.partial",
            ".web-20261124T230000.123456Z-0000007.pcap.partial",
            ".web-20261124T230000.12345Z-000007.pcap.partial",
            ".web-20261124T230000.123456Z-000007.pcap.gz",
            ".web-20261124T230000.123456Z-000007.pcap.partial.gz",
            ".-20261124T230000.123456Z-000007.pcap.partial",
            "web-20261124T230000.123456Z-000007.pcap.partial",
            ".20261124T230000.123456Z-000007.pcap.partial",
            "..a-20261124T230000.123456Z-000007.pcap.partial",
        ] {
            assert!(
                Name::of_partial(&Path::new("out").join(file)).is_none(),
                "{file}"
            );
        }
    }

    #[test]
    fn a_name_tells_its_session_and_worker() {
        let of = |folder: &str, stem: &str| {
            let name = Name::new(Path::new(folder), stem, Timestamp::default(), KIND, 1);
            let (session, worker) = name.session();
            (session.to_owned(), worker)
        };
        assert_eq!(of("out/web", "web"), ("web".to_owned(), None));
        assert_eq!(of("out/web", "web-w3"), ("web".to_owned(), Some(3)));
        assert_eq!(of("out/web-w3", "web-w3"), ("web-w3".to_owned(), None));
        assert_eq!(of("out/web", "web-west"), ("web-west".to_owned(), None));
    }
}
