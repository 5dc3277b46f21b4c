//! Opening and writing a hidden file through the page cache.
//!
//! Takes: records, and where they go. Gives: how far a write came, also when it failed. Holds: where there is no direct I/O
//! that is told, now and then, and not a reason to stop.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::logging::Limited;
use crate::spool::{Io, Short};
use crate::sys::disk;
use crate::time;

/// A file system that refuses direct I/O is told so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Appends `parts` through the page cache.
pub(super) fn write_all(mut file: &File, mut parts: &mut [IoSlice<'_>]) -> Result<u64, Short> {
    let mut written = 0;
    let result = loop {
        if parts.is_empty() {
            return Ok(written);
        }
        match file.write_vectored(parts) {
            Ok(0) => break io::ErrorKind::WriteZero.into(),
            Ok(n) => {
                written += n as u64;
                IoSlice::advance_slices(&mut parts, n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
    };
    Err(Short {
        written,
        error: result,
    })
}

/// Whether the file system cannot do direct I/O as it was asked to.
pub(super) fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

/// How it is opened. Blocks have their place; all else goes to the end, wherever that is.
pub(super) fn options(io: Io) -> OpenOptions {
    let mut options = OpenOptions::new();
    match io {
        Io::Buffered => options.append(true),
        Io::Direct => options.read(true).write(true),
    };
    options.custom_flags(disk::O_NOFOLLOW);
    options
}

/// Says, now and then, that there is no direct I/O where it was asked for.
pub(super) fn refused(path: &Path, error: &io::Error) {
    static LIMITED: Limited = Limited::new(TELL_EVERY);
    if let Some(more) = LIMITED.pass(time::monotonic().nanos()) {
        tracing::warn!(
            path = %path.display(),
            more,
            "the file system refuses direct I/O ({error}); the file is written through the page cache: \
             set io = \"buffered\", or an output folder on a disk"
        );
    }
}
