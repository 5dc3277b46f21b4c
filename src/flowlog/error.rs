//! What goes wrong with a file of a flow log.

use std::io;
use std::path::PathBuf;

/// A file that could not be written: its records are lost, and counted.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {doing} the flow log {}: {source}; {}make room, or check that the folder may be written to",
    file.display(), lost(*records)
)]
pub struct Error {
    /// What was being done.
    pub doing: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Records that were in it.
    pub records: u64,
    /// What the system said.
    pub source: io::Error,
}

fn lost(records: u64) -> String {
    match records {
        0 => String::new(),
        1 => "1 record is lost; ".to_owned(),
        many => format!("{many} records are lost; "),
    }
}
