//! The only door to the kernel, and the only `unsafe`.
//!
//! Takes: file descriptors, slices. Gives: safe functions, one per system call or socket option that neither
//! the standard library nor `socket2` has. Holds: each block says why it is sound and which sentence of the
//! manual it relies on; nothing here knows what a packet is.

pub mod affinity;
pub mod bpf;
pub mod disk;
pub mod folder;
pub mod interface;
pub mod leap;
pub mod lease;
pub mod passed;
pub mod privileges;
pub mod recv;
pub mod ring;
pub mod send;
pub mod signal;
pub mod sockopt;
pub mod usage;
pub mod xsk;

use std::io;

/// Turns the -1 of a system call into the error in `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
