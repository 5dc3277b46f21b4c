//! The name of a capture file, and of the hidden file that it is written as.
//!
//! Takes: folder, session name, time of the first packet, sequence number. Gives: the two paths.
//! Holds: whatever a session is called, both names lie in the given folder and are short enough for
//! every file system.

use std::path::{Path, PathBuf};

use crate::spool::Format;
use crate::time::Timestamp;

/// Longest part of a session's name that goes into a file name: with time, number, extension and
/// `.partial` around it, the whole stays well below the usual 255 bytes.
const LONGEST_STEM: usize = 160;

/// `{directory}/{stem}-{start}-{seq}.{extension}`, and its hidden twin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    directory: PathBuf,
    stem: String,
    start: Timestamp,
    extension: &'static str,
    seq: u32,
}

impl Name {
    /// The name of a file in `directory` whose first packet came at `start`.
    pub fn new(directory: &Path, stem: &str, start: Timestamp, format: Format, seq: u32) -> Self {
        let extension = match format {
            Format::Pcap => "pcap",
            Format::Pcapng => "pcapng",
        };
        Self {
            directory: directory.to_owned(),
            stem: harmless(stem),
            start,
            extension,
            seq,
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
        self.directory.join(format!(".{}.partial", self.file()))
    }

    fn file(&self) -> String {
        let start = self.start.file_name();
        format!("{}-{start}-{:06}.{}", self.stem, self.seq, self.extension)
    }
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
        Name::new(Path::new("out"), stem, start, Format::Pcap, 7)
    }

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
    }
}
