//! Signals that a write may raise.

use std::io;

/// From now on a write beyond the limit on the size of files (`ulimit -f`) is an error and not the end of the process. Programs
/// started from here inherit that.
///
/// # Errors
/// Those of signal(2).
pub fn ignore_file_size() -> io::Result<()> {
    // SAFETY: signal(2): sets the disposition of a signal; SIG_IGN runs no code of ours. setrlimit(2), RLIMIT_FSIZE: "a process
    // can catch this signal instead, in which case the relevant system call fails with the error EFBIG".
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
