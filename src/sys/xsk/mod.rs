//! AF_XDP: frames straight from a queue of the driver, in memory of our own.
//!
//! Takes: an interface and a queue. Gives: a [`Xsk`], which hands out [`Frame`]s in the order they came, and takes them back
//! one by one or as a [`Lease`]. Holds: a frame is the kernel's, or one [`Frame`], or part of one lease; it goes back by being
//! given, so bytes never change while somebody can read them.
//!
//! The crate `xdp` (0.8) was read for this and left out: it does not ask for `XDP_USE_SG`, so a packet larger than a frame can't
//! come; its packets own their memory until they are sent or freed, where a batch here lends frames to other threads and
//! gives them back as a whole; and it wants the umem to be handled by unsafe code outside of `sys`. What is left
//! of a socket that only receives is two rings and six socket options.

mod ring;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::check;
use crate::sys::lease::{Lease, Mapping};
use ring::Ring;

/// What the kernel keeps free in front of every packet (XDP_PACKET_HEADROOM of linux/bpf.h).
pub const HEADROOM: u32 = 256;
/// What a program may write in front of a packet, for [`Frame::metadata`].
pub const METADATA: usize = 16;

/// Tells sockets apart, so that a frame can't be taken for one of another.
static SOCKETS: AtomicU64 = AtomicU64::new(0);

/// What a socket is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The interface.
    pub interface: u32,
    /// Its receive queue.
    pub queue: u32,
    /// Frames; a power of two.
    pub frames: u32,
    /// Bytes of a frame as a power of two: 2048 or 4096.
    pub shift: u32,
    /// Whether the driver writes into our memory, or the kernel copies into it.
    pub zero_copy: bool,
    /// Whether packets may lie in several frames (Linux 6.6).
    pub frags: bool,
}

/// A frame that the kernel has handed over, with (a part of) a packet in it.
#[derive(Debug)]
pub struct Frame {
    /// The socket that it is of.
    socket: u64,
    address: usize,
    /// Bytes of the packet in it.
    pub len: u32,
    /// What a program wrote in front of it; zeros if none did.
    pub metadata: [u8; METADATA],
}

/// What is known of a packet before it is taken: its bytes, and in how many frames they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Bytes of the packet.
    pub len: u32,
    /// Frames that it is in.
    pub frames: u32,
}

/// Losses since the socket was made (af_xdp.rst, XDP_STATISTICS).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Packets dropped for want of a frame, or because they were larger than one.
    pub dropped: u64,
    /// Packets dropped because the receive ring was full.
    pub ring_full: u64,
    /// Times that no frame was there to receive into; in copy mode each is a packet that `dropped` counts too.
    pub fill_empty: u64,
}

/// A socket on one queue. It only receives.
#[derive(Debug)]
pub struct Xsk {
    /// Of all sockets that this process ever had.
    number: u64,
    umem: Arc<Mapping>,
    shift: u32,
    received: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    /// Kept because the kernel wants it to be there.
    _completion: Ring<u64>,
    /// Emptied leases, to be used again.
    spare: Vec<Lease>,
    // the last to go: the kernel lets go of the umem with the socket
    socket: OwnedFd,
}

/// A step of opening a socket that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {error}")]
pub struct Error {
    /// What was being done.
    pub step: &'static str,
    /// What the system said.
    pub error: io::Error,
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error { step, error }
}

impl Xsk {
    /// Opens a socket, hands all frames to the kernel, and binds it to its queue. Packets come when a program redirects
    /// them to it.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; ENOBUFS where the memory must not be locked; EOPNOTSUPP where the driver or kernel does not
    /// have what is asked for; EBUSY where another socket has the queue.
    pub fn open(options: Options) -> Result<Self, Error> {
        let socket = socket().map_err(failed("socket(AF_XDP)"))?;
        let fd = socket.as_fd();
        let bytes = (options.frames as usize) << options.shift;
        let umem = Mapping::anonymous(bytes).map_err(failed("mmap"))?;
        register(fd, &umem, options.shift).map_err(failed("XDP_UMEM_REG"))?;
        // as many entries as frames: neither ring can be full before there is no frame left
        for (option, entries, step) in [
            (
                libc::XDP_UMEM_FILL_RING,
                options.frames,
                "XDP_UMEM_FILL_RING",
            ),
            (
                libc::XDP_UMEM_COMPLETION_RING,
                2,
                "XDP_UMEM_COMPLETION_RING",
            ),
            (libc::XDP_RX_RING, options.frames, "XDP_RX_RING"),
        ] {
            set(fd, option, &entries).map_err(failed(step))?;
        }
        let offsets = offsets(fd).map_err(failed("XDP_MMAP_OFFSETS"))?;
        let mapped = failed("mmap of a ring");
        let map = |offset: u64, of| Ring::map(fd, offset as libc::off_t, of, options.frames);
        let received = Ring::map(fd, libc::XDP_PGOFF_RX_RING, offsets.rx, options.frames);
        let fill = map(libc::XDP_UMEM_PGOFF_FILL_RING, offsets.fr);
        let completion = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        let mut this = Self {
            number: SOCKETS.fetch_add(1, Ordering::Relaxed),
            umem: Arc::new(umem),
            shift: options.shift,
            received: received.map_err(&mapped)?,
            fill: fill.map_err(&mapped)?,
            _completion: Ring::map(fd, completion, offsets.cr, 2).map_err(&mapped)?,
            spare: Vec::new(),
            socket,
        };
        for frame in 0..u64::from(options.frames) {
            this.fill.push(frame << options.shift);
        }
        this.fill.submit();
        bind(this.as_fd(), options).map_err(failed("bind"))?;
        Ok(this)
    }

    /// Frames in the receive ring.
    pub fn waiting(&mut self) -> u32 {
        self.received.look()
    }

    /// The next packet, if it is there with all its frames.
    pub fn next_packet(&mut self) -> Option<Waiting> {
        self.packet().or_else(|| {
            self.received.look();
            self.packet()
        })
    }

    fn packet(&self) -> Option<Waiting> {
        let mut packet = Waiting { len: 0, frames: 0 };
        loop {
            let part = self.received.peek(packet.frames)?;
            packet.frames += 1;
            packet.len = packet.len.saturating_add(part.len);
            if part.options & libc::XDP_PKT_CONTD == 0 {
                return Some(packet);
            }
        }
    }

    /// Takes the next frame.
    pub fn take(&mut self) -> Option<Frame> {
        let entry = self.received.peek(0)?;
        self.received.advance();
        let mut frame = Frame {
            socket: self.number,
            address: usize::try_from(entry.addr).ok()?,
            len: entry.len,
            metadata: [0; METADATA],
        };
        // a broken entry costs its frame, nothing else
        if !lies_in_a_frame(frame.address, frame.len, self.shift, self.umem.len()) {
            return None;
        }
        if frame.address & ((1 << self.shift) - 1) >= METADATA {
            frame.metadata = self.take_metadata(frame.address);
        }
        Some(frame)
    }

    /// Reads what stands in front of a packet, and wipes it, so that it isn't read again where nobody writes it.
    fn take_metadata(&self, address: usize) -> [u8; METADATA] {
        let place = self
            .umem
            .base()
            .wrapping_add(address - METADATA)
            .cast::<[u8; METADATA]>();
        // SAFETY: the caller has checked that the bytes lie in a chunk of the umem, and the kernel has handed the chunk over;
        // nobody else has it until it is lent or given back. An array of bytes has no alignment.
        unsafe { place.replace([0; METADATA]) }
    }

    /// The bytes in a frame.
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        if frame.socket != self.number {
            return &[];
        }
        let start = self.umem.base().wrapping_add(frame.address);
        // SAFETY: `take` has checked that the range lies in the umem. af_xdp.rst: a frame in the receive ring is owned by user
        // space until it is put into the fill ring, which takes the `Frame`, and that is borrowed here.
        unsafe { std::slice::from_raw_parts(start, frame.len as usize) }
    }

    /// Puts a frame into a lease of this socket: the address of its packet there. `None`, and the frame goes back,
    /// when the lease is full.
    pub fn lend(&mut self, frame: Frame, lease: &mut Lease) -> Option<u32> {
        if frame.socket != self.number || !lease.is_of(&self.umem) {
            return None;
        }
        let mask = (1 << self.shift) - 1;
        // SAFETY: a `Frame` is made from an entry of the receive ring, so it is ours until it goes into the fill ring, and it ends
        // here: the lease alone has it. It goes back by `take_back`.
        let address = unsafe { lease.push(frame.address & !mask) };
        match address {
            Some(address) => Some(address + (frame.address & mask) as u32),
            None => {
                self.give(frame);
                None
            }
        }
    }

    /// An empty lease for at most `frames` frames.
    pub fn lease(&mut self, frames: usize) -> Lease {
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| Lease::new(Arc::clone(&self.umem), self.shift, frames))
    }

    /// Gives one frame back to the kernel, at the next [`submit`](Self::submit).
    pub fn give(&mut self, frame: Frame) {
        if frame.socket == self.number {
            let chunk = frame.address & !((1 << self.shift) - 1);
            self.fill.push(chunk as u64);
        }
    }

    /// Gives the frames of a lease back to the kernel, at once: it may have no other. A lease of another socket is returned.
    pub fn take_back(&mut self, mut lease: Lease) -> Option<Lease> {
        if !lease.is_of(&self.umem) {
            return Some(lease);
        }
        for chunk in lease.chunks() {
            self.fill.push(*chunk as u64);
        }
        lease.clear();
        self.spare.push(lease);
        self.submit();
        None
    }

    /// Publishes what was taken and given back, and wakes the driver where it waits for that.
    pub fn submit(&mut self) {
        self.received.release();
        self.fill.submit();
        if self.fill.needs_wakeup() {
            let _ = ready(&mut [to_read(self.as_fd())], 0);
        }
    }

    /// Frames that the kernel can still receive into.
    pub fn free(&self) -> u32 {
        self.fill.left()
    }

    /// Bytes of a frame.
    pub fn frame_size(&self) -> u32 {
        1 << self.shift
    }

    /// Bytes of the frames.
    pub fn memory(&self) -> u64 {
        self.umem.len() as u64
    }

    /// Whether the socket still has its interface.
    ///
    /// # Errors
    /// ENETDOWN: the interface was removed (af_xdp.rst says nothing of it; the kernel sets the socket's error).
    pub fn is_well(&self) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.socket);
        match socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// What was lost.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn statistics(&self) -> io::Result<Statistics> {
        let s: libc::xdp_statistics = get(self.as_fd(), libc::XDP_STATISTICS)?;
        Ok(Statistics {
            dropped: s.rx_dropped,
            ring_full: s.rx_ring_full,
            fill_empty: s.rx_fill_ring_empty_descs,
        })
    }
}

/// Whether `len` bytes at `address` lie in one frame of `1 << shift` bytes, and the frame in the `umem` bytes of all frames.
fn lies_in_a_frame(address: usize, len: u32, shift: u32, umem: usize) -> bool {
    let in_frame = address & ((1 << shift) - 1);
    address < umem && in_frame + len as usize <= 1 << shift
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of the sockets has a packet, or one of the `others` something to read, at most as many milliseconds. A signal
/// ends it early.
///
/// # Errors
/// Those of poll(2), but for EINTR.
pub fn wait(
    sockets: &[Xsk],
    others: &[OwnedFd],
    fds: &mut Poll,
    milliseconds: i32,
) -> io::Result<()> {
    fds.0.clear();
    fds.0.extend(sockets.iter().map(|s| to_read(s.as_fd())));
    fds.0
        .extend(others.iter().map(|other| to_read(other.as_fd())));
    match ready(&mut fds.0, milliseconds) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// Memory for [`wait`], kept from call to call.
#[derive(Default)]
pub struct Poll(Vec<libc::pollfd>);

impl std::fmt::Debug for Poll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Poll").field(&self.0.len()).finish()
    }
}

fn to_read(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }
}

fn ready(fds: &mut [libc::pollfd], milliseconds: i32) -> io::Result<()> {
    // SAFETY: poll(2): "an array of structures" of `nfds` elements; the slice is live and as long as is said.
    check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) })?;
    Ok(())
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes integers.
    let fd = check(unsafe { libc::socket(libc::AF_XDP, kind, 0) })?;
    // SAFETY: socket(2): "On success, a file descriptor for the new socket is returned", which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Tells the kernel where the frames are. It pins the pages, and keeps them until the socket is gone.
fn register(socket: BorrowedFd<'_>, umem: &Mapping, shift: u32) -> io::Result<()> {
    let registration = libc::xdp_umem_reg {
        addr: umem.base() as u64,
        len: umem.len() as u64,
        chunk_size: 1 << shift,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(socket, libc::XDP_UMEM_REG, &registration)
}

fn bind(socket: BorrowedFd<'_>, options: Options) -> io::Result<()> {
    let copying = if options.zero_copy {
        libc::XDP_ZEROCOPY
    } else {
        libc::XDP_COPY
    };
    let frags = if options.frags { libc::XDP_USE_SG } else { 0 };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: copying | frags | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: options.interface,
        sxdp_queue_id: options.queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: bind(2): "addrlen specifies the size, in bytes, of the address structure pointed to by addr": a live one.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

fn set<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the descriptor is borrowed, so open; the value is live, of the length that is passed, and only read. The memory
    // that XDP_UMEM_REG names is a mapping, which the socket's owner keeps until after the socket.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, len) })?;
    Ok(())
}

fn offsets(socket: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    get(socket, libc::XDP_MMAP_OFFSETS)
}

/// Reads an option that is a structure of integers.
fn get<T: Integers>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    // SAFETY: `Integers` are structures for which all-zero bytes are a value.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt(2): "optlen is a value-result argument, initially containing the size of the buffer pointed to by
    // optval"; the buffer is live and writable, and any bytes are a value of it.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    })?;
    Ok(value)
}

/// Structures made of integers only, so that any bytes are a value.
trait Integers {}
impl Integers for libc::xdp_statistics {}
impl Integers for libc::xdp_mmap_offsets {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_points_outside_the_frames_is_refused() {
        let umem = 4 << 11;
        for (address, len) in [(0, 0), (256, 1792), (3 << 11, 2048), ((4 << 11) - 1, 1)] {
            assert!(lies_in_a_frame(address, len, 11, umem), "{address} {len}");
        }
        let wraps = usize::MAX - 2047;
        for (address, len) in [
            (umem, 1),
            (257, 1792),
            (0, u32::MAX),
            (wraps, 2048),
            (usize::MAX, 1),
        ] {
            assert!(!lies_in_a_frame(address, len, 11, umem), "{address} {len}");
        }
    }
}
