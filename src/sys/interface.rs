//! What the kernel says of a network interface (netdevice(7)).

use std::ffi::CString;
use std::io;

/// The number of an interface.
///
/// # Errors
/// ENODEV: there is no such interface.
pub fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: if_nametoindex(3): "returns the index of the network interface corresponding to the name ifname"; a live
    // string that ends in NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}
