//! Whether a folder can be written to, found out by writing.
//!
//! Takes: a folder. Gives: yes, or what the system said; of the output also whether it is still the one it was. Holds: leaves
//! nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::spool::Error;
use crate::sys::disk;

/// As much as a full disk would refuse and a working one takes at once.
static SAMPLE: [u8; 65_536] = [0; 65_536];

/// The output folder, and which one it was at the start.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Output {
    /// As it is now.
    pub(super) fn new(path: PathBuf) -> Self {
        let identity = identity(&path);
        Self { path, identity }
    }

    /// Whether it can be written to.
    ///
    /// # Errors
    /// What the system said, and what to do.
    pub(super) fn probe(&self, writer: usize) -> Result<(), String> {
        probe(&self.path, writer).map_err(|error| {
            let denied = error.source_error().kind() == ErrorKind::PermissionDenied;
            let same = identity(&self.path) == self.identity;
            match denied && !same {
                true => format!(
                    "{error}. The output folder is not the one that it was at the start, and the sandbox knows no other: \
                     restart the sensor, and give it the folder above in [sandbox] write where this may happen again"
                ),
                false => error.to_string(),
            }
        })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|facts| (facts.dev(), facts.ino()))
}

/// Makes the folder where it is missing, and writes and removes a file in it.
///
/// # Errors
/// [`Error::Create`] and [`Error::Write`], as a capture file would meet them.
pub(super) fn probe(directory: &Path, writer: usize) -> Result<(), Error> {
    attempt(directory, &writer.to_string(), File::flush)
}

/// The same, and waits until the sample is on the disk.
///
/// # Errors
/// As for [`probe`], and [`Error::Sync`].
pub(super) fn probe_to_the_disk(directory: &Path, closer: usize) -> Result<(), Error> {
    attempt(directory, &format!("closer-{closer}"), |file| {
        file.sync_all()
    })
}

type Sync = fn(&mut File) -> std::io::Result<()>;

fn attempt(directory: &Path, who: &str, sync: Sync) -> Result<(), Error> {
    let path = directory.join(format!(".mirrortap-probe-{}-{who}", std::process::id()));
    let mut options = OpenOptions::new();
    // never through a link that somebody put there
    options.write(true).create(true).truncate(true);
    options.custom_flags(disk::O_NOFOLLOW | disk::O_NONBLOCK);
    let created = fs::create_dir_all(directory).and_then(|()| options.open(&path));
    let mut file = created.map_err(|source| Error::Create {
        path: path.clone(),
        source,
    })?;
    let written = file.write_all(&SAMPLE);
    let synced = written.as_ref().map_or(Ok(()), |()| sync(&mut file));
    // A probe that stays behind is overwritten by the next one.
    let _ = fs::remove_file(&path);
    written.map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })?;
    synced.map_err(|source| Error::Sync { path, source })
}
