//! One ring of an AF_XDP socket: an array of entries, and two positions that the kernel and this program share.
//!
//! Documentation/networking/af_xdp.rst: "The rings are single-producer/single-consumer". So a ring has one owner here, who
//! works on positions of its own and publishes them when a batch is done: that is one store with release order for many
//! packets, and one load with acquire order to see as many.

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::lease::Mapping;

/// A ring of entries `T`, of which this program is one end.
#[derive(Debug)]
pub(super) struct Ring<T> {
    mapping: Mapping,
    offsets: libc::xdp_ring_offset,
    /// Number of entries less one; the number is a power of two.
    mask: u32,
    /// The next entry that is ours to read or to write.
    at: u32,
    /// Where the kernel's end was when last looked at.
    seen: u32,
    entries: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    /// Maps the ring of `entries` entries (a power of two) at `offset` of a socket.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        offset: libc::off_t,
        offsets: libc::xdp_ring_offset,
        entries: u32,
    ) -> io::Result<Self> {
        let bytes = offsets.desc as usize + entries as usize * size_of::<T>();
        let mapping = Mapping::of_socket(socket, bytes, offset)?;
        let words = [offsets.producer, offsets.consumer, offsets.flags];
        if !entries.is_power_of_two() || words.iter().any(|w| *w as usize + 4 > bytes) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mask = entries - 1;
        Ok(Self {
            mapping,
            offsets,
            mask,
            at: 0,
            seen: 0,
            entries: PhantomData,
        })
    }

    /// A word that is shared with the kernel.
    fn word(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: `map` has checked that the word lies in the mapping, which lives as long as `self`; the kernel gives
        // offsets of aligned 32-bit words (af_xdp.rst, XDP_MMAP_OFFSETS), and both sides use them atomically.
        unsafe { AtomicU32::from_ptr(self.mapping.base().add(offset as usize).cast()) }
    }

    fn entry(&self, position: u32) -> *mut T {
        let start = self.mapping.base().wrapping_add(self.offsets.desc as usize);
        // within the array: the mask is one less than its length
        start
            .cast::<T>()
            .wrapping_add((position & self.mask) as usize)
    }

    /// As consumer: looks at the kernel's position, and gives how many entries wait.
    pub(super) fn look(&mut self) -> u32 {
        self.seen = self.word(self.offsets.producer).load(Ordering::Acquire);
        self.seen.wrapping_sub(self.at)
    }

    /// As consumer: the entry that is `ahead` of the next one, if it is known to be there.
    pub(super) fn peek(&self, ahead: u32) -> Option<T> {
        if ahead >= self.seen.wrapping_sub(self.at) {
            return None;
        }
        let entry = self.entry(self.at.wrapping_add(ahead));
        // SAFETY: the kernel wrote the entry before it moved its position beyond it (seen with acquire order), and does
        // not write to it again before ours is published beyond it. It lies in the mapping, as `entry` says.
        Some(unsafe { entry.read() })
    }

    /// As consumer: goes on to the next entry.
    pub(super) fn advance(&mut self) {
        self.at = self.at.wrapping_add(1);
    }

    /// As consumer: gives the entries that were passed back to the kernel.
    pub(super) fn release(&self) {
        let consumer = self.word(self.offsets.consumer);
        consumer.store(self.at, Ordering::Release);
    }

    /// As producer: writes an entry. The caller holds that no more are written than the ring has room for: the fill ring
    /// has room for every frame that there is.
    pub(super) fn push(&mut self, value: T) {
        let entry = self.entry(self.at);
        // SAFETY: the entry is behind the published position, so the kernel does not read it yet, and in the mapping.
        unsafe { entry.write(value) };
        self.at = self.at.wrapping_add(1);
    }

    /// As producer: hands what was written to the kernel.
    pub(super) fn submit(&self) {
        let producer = self.word(self.offsets.producer);
        producer.store(self.at, Ordering::Release);
    }

    /// As producer: how many entries the kernel has not taken yet.
    pub(super) fn left(&self) -> u32 {
        let consumer = self.word(self.offsets.consumer);
        self.at.wrapping_sub(consumer.load(Ordering::Relaxed))
    }

    /// Whether the kernel asks to be woken (XDP_RING_NEED_WAKEUP).
    pub(super) fn needs_wakeup(&self) -> bool {
        let flags = self.word(self.offsets.flags).load(Ordering::Relaxed);
        flags & libc::XDP_RING_NEED_WAKEUP != 0
    }
}
