//! What writing past the page cache needs: memory that lies right, and what the file system asks for.
//!
//! Takes: sizes, files. Gives: [`Aligned`], [`direct_alignment`], [`write_behind`], [`reserve`]. Holds: an [`Aligned`] is
//! always initialised, and starts at a multiple of [`ALIGNMENT`].

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::sys::check;

/// Where memory starts, and what lengths and offsets are multiples of: no disk in use asks for more.
pub const ALIGNMENT: usize = 4096;

/// The flag of open(2) for direct I/O.
pub const O_DIRECT: i32 = libc::O_DIRECT;

/// The flag of open(2) that refuses a symbolic link.
pub const O_NOFOLLOW: i32 = libc::O_NOFOLLOW;

/// The flag of open(2) that does not wait for somebody else, as a FIFO would.
pub const O_NONBLOCK: i32 = libc::O_NONBLOCK;

/// Bytes for direct I/O, zero at first. Never grows.
#[derive(Debug)]
pub struct Aligned {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its bytes alone, as a `Box<[u8]>` does.
unsafe impl Send for Aligned {}

impl Aligned {
    /// At least `len` bytes, rounded up to a multiple of [`ALIGNMENT`].
    pub fn new(len: usize) -> Self {
        let len = len.max(1).next_multiple_of(ALIGNMENT);
        let Ok(layout) = Layout::from_size_align(len, ALIGNMENT) else {
            handle_alloc_error(Layout::new::<u8>());
        };
        // SAFETY: the layout's size is not zero. std::alloc::GlobalAlloc::alloc_zeroed: "the contents are set to
        // zero before being returned"; it is unsafe "if the caller does not ensure that layout has non-zero size".
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        Self { start, layout }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is a live allocation of that size, initialised since it was made, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` by the same allocator with the same layout, and not freed before.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// What offsets and lengths of direct I/O on this file have to be multiples of, memory being aligned to as much; 0 when the
/// file system has no direct I/O. A kernel before 6.1 does not tell; [`ALIGNMENT`] is then the guess.
///
/// # Errors
/// Those of statx(2).
pub fn direct_alignment(file: &File) -> io::Result<usize> {
    // SAFETY: statx is made of integers, for which all-zero bytes are valid.
    let mut facts: libc::statx = unsafe { zeroed() };
    let (fd, path, flags) = (file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH);
    // SAFETY: `path` ends with a zero byte and `facts` is a live statx. statx(2): "If pathname is an empty string (or
    // NULL) and the AT_EMPTY_PATH flag is specified in flags, then the target file is the one referred to by the file
    // descriptor dirfd"; "information is returned in the buffer pointed to by statxbuf".
    check(unsafe { libc::statx(fd, path, flags, libc::STATX_DIOALIGN, &raw mut facts) })?;
    if facts.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok(ALIGNMENT);
    }
    Ok(facts.stx_dio_mem_align.max(facts.stx_dio_offset_align) as usize)
}

/// Has the kernel begin to write a range of the page cache to the disk, without waiting for it to end.
///
/// # Errors
/// Those of sync_file_range(2); a file system without a disk may refuse.
pub fn write_behind(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset as libc::off64_t, len as libc::off64_t);
    // SAFETY: sync_file_range(2) takes no pointers. "SYNC_FILE_RANGE_WRITE: Initiate write-out of all dirty pages in the
    // specified range which are not presently submitted write-out."
    check(unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    })?;
    Ok(())
}

/// Reserves room on the disk for a range of a file, which stays as long as it is.
///
/// # Errors
/// Those of fallocate(2); not every file system can.
pub fn reserve(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset as libc::off64_t, len as libc::off64_t);
    // SAFETY: fallocate(2) takes no pointers. "If the FALLOC_FL_KEEP_SIZE flag is specified in mode, the behavior of the
    // call is similar, but the file size will not be changed even if offset+size is greater than the file size."
    check(unsafe { libc::fallocate64(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, offset, len) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_memory_starts_where_direct_io_wants_it_and_is_zero() {
        for len in [0, 1, 4096, 5000, 1 << 20] {
            let mut memory = Aligned::new(len);
            assert_eq!(memory.as_ptr() as usize % ALIGNMENT, 0);
            assert!(memory.len() >= len && memory.len().is_multiple_of(ALIGNMENT));
            assert!(memory.iter().all(|&b| b == 0));
            memory.fill(7);
        }
    }

    #[test]
    fn a_plain_file_tells_an_alignment_or_that_it_has_no_direct_io() {
        let file = tempfile::tempfile().unwrap();
        let alignment = direct_alignment(&file).unwrap();
        assert!(alignment == 0 || alignment.is_power_of_two());
        write_behind(&file, 0, 4096).unwrap();
    }
}
