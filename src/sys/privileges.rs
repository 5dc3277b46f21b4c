//! Giving up privileges, for good.

use std::io;

use crate::sys::check;

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: sets of 64 bits, in two halves.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct` of linux/capability.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// From now on no program that this thread starts, nor those that they start, can gain a privilege.
///
/// # Errors
/// Those of prctl(2).
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: prctl(2), PR_SET_NO_NEW_PRIVS: takes integers; "set the calling thread's no_new_privs attribute to the value in arg2"
    // and "arg3, arg4, and arg5 must be specified as 0".
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    Ok(())
}

/// Gives up every capability of the calling thread: ambient, bounding (as far as it may), inheritable, permitted, effective.
///
/// # Errors
/// Those of capset(2), or a set that is not empty afterwards.
pub fn drop_capabilities() -> io::Result<()> {
    // SAFETY: prctl(2), PR_CAP_AMBIENT_CLEAR_ALL: "All capabilities will be removed from the ambient set. This operation requires
    // setting arg3 to zero"; it takes integers. A kernel without ambient sets has nothing to clear.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    for capability in 0..64 {
        // SAFETY: prctl(2), PR_CAPBSET_DROP: takes integers; "EINVAL if arg2 does not represent a valid capability", EPERM without
        // CAP_SETPCAP. The bounding set matters at execve(2) only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            break;
        }
    }
    // a service manager that gave none may forbid the call too
    let given_up = set([Half::default(); 2]);
    match capabilities()? {
        0 => Ok(()),
        _ => given_up.and(Err(io::Error::other("the system kept some of them"))),
    }
}

/// The calling thread's permitted capabilities, a bit for each.
///
/// # Errors
/// Those of capget(2).
pub fn capabilities() -> io::Result<u64> {
    let mut header = header();
    let mut halves = [Half::default(); 2];
    // SAFETY: capget(2): with version 3 "datap" points to two structures, which are live and writable here; the header is live.
    check_long(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
    let [low, high] = halves.map(|half| u64::from(half.permitted));
    Ok(low | high << 32)
}

fn set(halves: [Half; 2]) -> io::Result<()> {
    let mut header = header();
    // SAFETY: capset(2): with version 3 "datap" points to two structures, which are live and only read; the header is live.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) })
}

fn header() -> Header {
    Header {
        version: VERSION,
        pid: 0,
    }
}

fn check_long(result: libc::c_long) -> io::Result<()> {
    check(if result < 0 { -1 } else { 0 }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gave_everything_up_has_nothing_and_the_others_keep_theirs() {
        let before = capabilities().unwrap();
        let left = std::thread::spawn(|| {
            no_new_privileges().unwrap();
            drop_capabilities().unwrap();
            capabilities().unwrap()
        });
        assert_eq!(left.join().unwrap(), 0);
        assert_eq!(capabilities().unwrap(), before);
    }
}
