//! How the kernel's two calendars differ.

use std::io;

use crate::sys::check;

/// How far TAI, the clock without leap seconds, is ahead of UTC: seconds (adjtimex(2), `tai`). 0 on a machine where nobody
/// has told the kernel, whose TAI is UTC then.
///
/// # Errors
/// Those of adjtimex(2), or of a sandbox that forbids it.
pub fn tai_offset() -> io::Result<i32> {
    // SAFETY: `timex` is made of integers, for which zeros are a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex(2): "takes a pointer to a timex structure, updates kernel parameters from (selected) field values"; with
    // `modes` 0 none is selected, and it only "returns the same structure updated with the current kernel values".
    check(unsafe { libc::adjtimex(&raw mut state) })?;
    Ok(state.tai)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tai_is_ahead_of_utc_by_less_than_a_minute() {
        assert!((0..60).contains(&tai_offset().unwrap()));
    }
}
