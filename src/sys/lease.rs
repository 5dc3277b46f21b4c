//! Memory that the kernel receives into: the mapping, and the pieces of it that are ours for a while.
//!
//! A ring or a umem is one mapping that lives as long as anybody holds a piece of it. A [`Lease`] is a set of equal
//! pieces ("chunks") that the kernel has handed over and will not touch until they are given back: a block of
//! a packet ring, frames of an AF_XDP umem. Its bytes are addressed by `chunk number × chunk size + offset`, so that a
//! batch can point into it with 32 bits, and no address outside the leased chunks can be expressed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// A shared mapping, unmapped when its last holder is gone.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; it is read and written only through the
// unsafe functions of the modules in `sys`, each of which says what keeps it from racing.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a socket's ring at `offset` (mmap(2), packet(7), Documentation/networking/af_xdp.rst).
    pub(super) fn of_socket(
        socket: BorrowedFd<'_>,
        len: usize,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len, flags, socket.as_raw_fd(), offset)
    }

    /// Maps `len` bytes of zeroed memory of our own, page-aligned.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::map(len, flags, -1, 0)
    }

    fn map(
        len: usize,
        flags: libc::c_int,
        fd: libc::c_int,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: mmap(2): "If addr is NULL, then the kernel chooses the (page-aligned) address at which to create
        // the mapping": no memory that is in use is replaced.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { base, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where it starts.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: munmap(2): "deletes the mappings for the specified address range"; the range is this
        // mapping's own, and whoever could read it holds an `Arc` of it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Chunks of a mapping that the kernel has handed over.
///
/// It is not given back by being dropped: the ring that made it takes it back (the kernel would otherwise
/// be told of it by a thread that does not own the ring).
#[derive(Debug)]
pub struct Lease {
    mapping: Arc<Mapping>,
    /// Offsets of the chunks in the mapping.
    chunks: Vec<usize>,
    /// Chunk size as a power of two.
    shift: u32,
}

impl Lease {
    /// No chunks yet, of `1 << shift` bytes each, in `mapping`.
    pub(super) fn new(mapping: Arc<Mapping>, shift: u32, capacity: usize) -> Self {
        Self {
            mapping,
            chunks: Vec::with_capacity(capacity),
            shift,
        }
    }

    /// Adds the chunk at `offset`, and gives the address of its first byte in the lease. `None` when it does not lie in
    /// the mapping, or when the lease is larger than 32 bits can say.
    ///
    /// # Safety
    /// The kernel must have handed the chunk over and must not write to it until the lease has been given back.
    pub(super) unsafe fn push(&mut self, offset: usize) -> Option<u32> {
        let end = offset.checked_add(1 << self.shift)?;
        let address = u32::try_from(self.chunks.len() << self.shift).ok()?;
        if end > self.mapping.len() || address.checked_add(1 << self.shift)? > Self::LARGEST {
            return None;
        }
        self.chunks.push(offset);
        Some(address)
    }

    /// Addresses in a lease are below this, so that a batch has a bit to tell them from its own.
    pub const LARGEST: u32 = 1 << 31;

    /// The offsets of its chunks.
    pub(super) fn chunks(&self) -> &[usize] {
        &self.chunks
    }

    /// Forgets its chunks, keeping the memory of the list: they have been given back.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Whether it is of this mapping.
    pub(super) fn is_of(&self, mapping: &Arc<Mapping>) -> bool {
        Arc::ptr_eq(&self.mapping, mapping)
    }

    /// `len` bytes at `address`; empty when they do not lie within one chunk of the lease.
    #[inline]
    pub fn bytes(&self, address: u32, len: u32) -> &[u8] {
        let size = 1_usize << self.shift;
        let (number, start) = (
            address as usize >> self.shift,
            address as usize & (size - 1),
        );
        let Some(offset) = self.chunks.get(number) else {
            return &[];
        };
        if start + len as usize > size {
            return &[];
        }
        // SAFETY: `push` has checked that the whole chunk lies in the mapping, which lives as long as this lease, and
        // the range lies in the chunk. Whoever pushed it vouches that nobody writes to it while the lease lasts.
        unsafe {
            std::slice::from_raw_parts(
                self.mapping.base().add(offset + start).cast_const(),
                len as usize,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        let mapping = Arc::new(Mapping::anonymous(4 * 4096).unwrap());
        for (i, byte) in [1_u8, 2, 3, 4].into_iter().enumerate() {
            // SAFETY: within the mapping, which nobody else has.
            unsafe { ptr::write_bytes(mapping.base().add(i * 4096), byte, 4096) };
        }
        Lease::new(mapping, 12, 4)
    }

    #[test]
    fn a_lease_reads_its_own_chunks_in_the_order_they_came() {
        let mut lease = lease();
        // SAFETY: nobody writes to the mapping.
        let places = unsafe { [lease.push(2 * 4096), lease.push(0)] };
        assert_eq!(places, [Some(0), Some(4096)]);
        assert_eq!(lease.bytes(10, 3), [3; 3]);
        assert_eq!(lease.bytes(4096, 4096), [1; 4096]);
    }

    #[test]
    fn nothing_outside_the_leased_chunks_can_be_read() {
        let mut lease = lease();
        // SAFETY: nobody writes to the mapping.
        let outside = unsafe {
            (
                lease.push(0),
                lease.push(3 * 4096 + 1),
                lease.push(usize::MAX),
            )
        };
        assert_eq!(outside, (Some(0), None, None));
        for (address, len) in [
            (4096, 1),
            (4095, 2),
            (0, 4097),
            (u32::MAX, 1),
            (1, u32::MAX),
        ] {
            assert!(lease.bytes(address, len).is_empty(), "{address} {len}");
        }
        lease.clear();
        assert!(lease.bytes(0, 1).is_empty());
    }
}
