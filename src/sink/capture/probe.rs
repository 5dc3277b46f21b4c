//! Whether a folder can be written to, found out by writing.
//!
//! Takes: a folder. Gives: yes, or what the system said. Holds: leaves nothing behind.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::spool::Error;

/// As much as a full disk would refuse and a working one takes at once.
static SAMPLE: [u8; 65_536] = [0; 65_536];

/// Makes the folder where it is missing, and writes and removes a file in it.
///
/// # Errors
/// [`Error::Create`] and [`Error::Write`], as a capture file would meet them.
pub(super) fn probe(directory: &Path, writer: usize) -> Result<(), Error> {
    let name = format!(".mirrortap-probe-{}-{writer}", std::process::id());
    let path = directory.join(name);
    let created = fs::create_dir_all(directory).and_then(|()| File::create(&path));
    let mut file = created.map_err(|source| Error::Create {
        path: path.clone(),
        source,
    })?;
    let written = file.write_all(&SAMPLE);
    // A probe that stays behind is overwritten by the next one.
    let _ = fs::remove_file(&path);
    written.map_err(|source| Error::Write { path, source })
}
