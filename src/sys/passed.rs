//! Descriptors that the service manager has passed.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::check;

/// The first of them: sd_listen_fds(3), `SD_LISTEN_FDS_START`.
const FIRST: libc::c_int = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the first `count` descriptors after the standard ones, which the service manager says it has passed. Once only: a second call
/// gets none. No program that is started later inherits them.
///
/// # Errors
/// One of them is not open.
pub fn take(count: usize) -> io::Result<Vec<OwnedFd>> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    (FIRST..).take(count).map(own).collect()
}

fn own(fd: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2), F_SETFD: takes integers; EBADF where the descriptor is not open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and nobody else has it: sd_listen_fds(3) hands descriptors from 3 on to the program, which calls this before
    // it opens anything that it does not keep, and `take` gives each away once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
