//! Which cores this thread may run on.

use std::io;
use std::mem::size_of;

use crate::sys::check;

/// The cores that this thread may run on, ascending. Read it before pinning anything: a container or
/// `taskset` may allow fewer than the machine has.
///
/// # Errors
/// Those of sched_getaffinity(2).
pub fn allowed() -> io::Result<Vec<usize>> {
    let mut set = empty();
    // SAFETY: `set` is a live cpu_set_t of the size that is passed. sched_getaffinity(2): "writes the
    // affinity mask of the thread whose ID is pid into the cpu_set_t structure pointed to by mask";
    // "If pid is zero, then the mask of the calling thread is returned".
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let max = size_of::<libc::cpu_set_t>() * 8;
    // SAFETY: CPU_SET(3): CPU_ISSET tests whether `cpu` is in `set`; every index is below the set's size.
    Ok((0..max)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Pins the calling thread to one core.
///
/// # Errors
/// Those of sched_setaffinity(2): the core is not allowed or does not exist.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = empty();
    if core >= size_of::<libc::cpu_set_t>() * 8 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: CPU_SET(3): adds `cpu` to `set`; `core` was checked to be within the set's size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is a live cpu_set_t of the size that is passed. sched_setaffinity(2): "If pid is
    // zero, then the calling thread is used."
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is an array of integers (CPU_SET(3): "data structure treated as opaque"), for
    // which all-zero bytes are the empty set, as CPU_ZERO makes it.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_that_core_only() {
        std::thread::spawn(|| {
            let first = allowed().unwrap()[0];
            pin(first).unwrap();
            assert_eq!(allowed().unwrap(), [first]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error() {
        assert!(pin(100_000).is_err());
        assert!(pin(1023).is_err());
    }
}
