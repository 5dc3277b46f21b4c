//! What can go wrong with a capture file: it can't be read at all ([`Error`]), or not to its end
//! ([`Damage`]).

use std::fmt;
use std::io;

/// Why a capture can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened.
    #[error("cannot open capture {name}: {source}; check that it exists and may be read")]
    Open {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read capture {name} at byte {offset}: {source}")]
    Read {
        /// The file.
        name: String,
        /// How far reading had got.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It begins like no capture.
    #[error(
        "{name} is not a capture: it {found}; expected pcap or pcapng, plain or compressed with gzip or zstd"
    )]
    NotACapture {
        /// The file.
        name: String,
        /// What its beginning looks like.
        found: String,
    },
    /// A capture of a kind that is not read.
    #[error("cannot read capture {name}: {what}; convert it with `editcap -F pcap`")]
    Unsupported {
        /// The file.
        name: String,
        /// What is not supported.
        what: String,
    },
}

/// Where a capture stops making sense. Everything before was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Byte offset of the first record that is not whole (of the decompressed data, where the file is
    /// compressed): where to cut, to have a file of whole records.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// Whether nothing is wrong but that it ends there, within a record.
    pub is_cut: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged at byte {}: {}", self.offset, self.what)
    }
}
