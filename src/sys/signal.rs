//! Signals that would end the program where an error says it better.

use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;

use crate::sys::check;

extern "C" fn nothing(_: libc::c_int) {}

/// Has a write beyond the limit on file sizes fail with `EFBIG`, instead of ending the program. Programs that this one starts have
/// the usual: a handler does not outlive exec(2), as an ignored signal would.
///
/// # Errors
/// Those of sigaction(2); none on Linux.
pub fn survive_file_limit() -> io::Result<()> {
    // SAFETY: sigaction is made of integers, a set of bits and an optional function, for which all-zero bytes are valid.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is live, and its handler does nothing, which is safe at any moment (signal-safety(7)). sigaction(2): "If
    // act is non-NULL, the new action for signal signum is installed from act. If oldact is non-NULL, the previous action is
    // saved". setrlimit(2) of RLIMIT_FSIZE: "a process can catch this signal instead, in which case the relevant system call
    // fails with the error EFBIG".
    check(unsafe { libc::sigaction(libc::SIGXFSZ, &raw const action, null_mut()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_signal_can_be_survived() {
        super::survive_file_limit().unwrap();
        // SAFETY: raise(3) takes no pointer; the handler was set just now.
        assert_eq!(unsafe { libc::raise(libc::SIGXFSZ) }, 0);
    }
}
