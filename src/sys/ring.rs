//! A packet ring: blocks of frames that the kernel fills in shared memory (TPACKET_V3, packet(7),
//! Documentation/networking/packet_mmap.rst).
//!
//! The kernel and the process own each block in turn; a status word in the block says whose turn it is. A block that is the
//! process' is lent out as a [`Lease`] and read where it lies; giving the lease back gives the block back. The one
//! unsafe thing is to look at the status words; what is in a block is read as plain bytes.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::sys::check;
use crate::sys::lease::{Lease, Mapping};
use crate::sys::sockopt::{self, Instruction};

/// Where the status word lies in a block: behind version and offset of private data.
const STATUS: usize = 8;
const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;
/// The kernel wants to know of a frame size; in version 3 frames have none, and it must only divide the block.
const FRAME: u32 = 2048;

/// What a ring is to be.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Index of the interface.
    pub interface: u32,
    /// How many blocks.
    pub blocks: usize,
    /// Bytes of a block, as a power of two; at least a page.
    pub block_shift: u32,
    /// A block that is not full is handed over after so many milliseconds.
    pub retire: u32,
}

/// A step of opening a ring, for telling which one failed.
pub type Step = &'static str;

/// Packets that passed the filter since the last reading.
#[derive(Clone, Copy, Default, Debug)]
pub struct Statistics {
    /// All of them, those that were dropped included.
    pub packets: u32,
    /// Those that found every block full.
    pub drops: u32,
}

/// How packets are spread over the rings of a group (packet(7), PACKET_FANOUT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fanout {
    /// By a hash of addresses and ports.
    Hash,
    /// By the core that received the packet.
    Cpu,
}

/// One packet socket with its ring.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    mapping: Arc<Mapping>,
    shift: u32,
    /// Which blocks are lent out.
    lent: Vec<bool>,
    /// The block that the kernel hands over next.
    next: usize,
    /// Leases that were given back, for their memory.
    spare: Vec<Lease>,
}

impl Ring {
    /// Opens a ring that receives nothing yet: what comes before [`Self::accept`] is refused.
    ///
    /// # Errors
    /// The step that failed, with EPERM where CAP_NET_RAW is missing.
    pub fn open(setup: &Setup) -> Result<Self, (Step, io::Error)> {
        let socket = socket().map_err(|e| ("socket", e))?;
        let fd = socket.as_fd();
        let option = |name, value| sockopt::set(fd, libc::SOL_PACKET, name, value);
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        option(libc::PACKET_VERSION, version).map_err(|e| ("PACKET_VERSION", e))?;
        sockopt::refuse_all(fd).map_err(|e| ("SO_ATTACH_FILTER", e))?;
        option(PACKET_IGNORE_OUTGOING, 1).map_err(|e| ("PACKET_IGNORE_OUTGOING", e))?;
        make_ring(fd, setup).map_err(|e| ("PACKET_RX_RING", e))?;
        let len = setup.blocks << setup.block_shift;
        let mapping = Mapping::of_socket(fd, len, 0).map_err(|e| ("mmap", e))?;
        bind(fd, setup.interface).map_err(|e| ("bind", e))?;
        Ok(Self {
            socket,
            mapping: Arc::new(mapping),
            shift: setup.block_shift,
            lent: vec![false; setup.blocks],
            next: 0,
            spare: Vec::new(),
        })
    }

    /// Joins a group of rings; the first one makes it and gets its number, the others name it.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn join(&self, group: Option<u16>, fanout: Fanout) -> io::Result<u16> {
        let mode = match fanout {
            Fanout::Hash => libc::PACKET_FANOUT_HASH,
            Fanout::Cpu => libc::PACKET_FANOUT_CPU,
        };
        let unique = if group.is_none() { FANOUT_UNIQUE } else { 0 };
        let kind = mode | libc::PACKET_FANOUT_FLAG_ROLLOVER | unique;
        let word = u32::from(group.unwrap_or(0)) | (kind << 16);
        let fd = self.socket.as_fd();
        sockopt::set(
            fd,
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            word as libc::c_int,
        )?;
        let told = sockopt::get(fd, libc::SOL_PACKET, libc::PACKET_FANOUT)?;
        Ok(told as u16)
    }

    /// Asks for the network card's receive times (packet(7), PACKET_TIMESTAMP); a packet without one gets the kernel's.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn hardware_times(&self) -> io::Result<()> {
        let wanted = libc::SOF_TIMESTAMPING_RAW_HARDWARE as libc::c_int;
        sockopt::set(
            self.socket.as_fd(),
            libc::SOL_PACKET,
            libc::PACKET_TIMESTAMP,
            wanted,
        )
    }

    /// Takes from now on what `filter` accepts.
    ///
    /// # Errors
    /// EINVAL for a program that the kernel does not take.
    pub fn accept(&self, filter: &[Instruction]) -> io::Result<()> {
        sockopt::attach_filter(self.socket.as_fd(), filter)
    }

    /// Takes nothing from now on; what lies in the ring stays.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn refuse(&self) -> io::Result<()> {
        sockopt::refuse_all(self.socket.as_fd())
    }

    /// The next block, if the kernel has handed it over.
    pub fn take(&mut self) -> Option<Lease> {
        let place = self.next;
        if !self.is_ready(place) {
            return None;
        }
        let (mapping, shift) = (&self.mapping, self.shift);
        let mut lease = self.spare.pop();
        let lease_mut = lease.get_or_insert_with(|| Lease::new(Arc::clone(mapping), shift, 1));
        // SAFETY: packet_mmap.rst: a block with TP_STATUS_USER belongs to user space "until it is released by setting
        // TP_STATUS_KERNEL"; `is_ready` saw that status, and `lent` keeps the block from being lent twice.
        unsafe { lease_mut.push(place << shift) }?;
        if let Some(lent) = self.lent.get_mut(place) {
            *lent = true;
        }
        self.next = (place + 1) % self.lent.len();
        lease
    }

    /// Gives a block back to the kernel.
    pub fn give(&mut self, mut lease: Lease) {
        if !lease.is_of(&self.mapping) {
            return;
        }
        for &offset in lease.chunks() {
            if let Some(lent) = self.lent.get_mut(offset >> self.shift) {
                *lent = false;
            }
            self.status(offset).store(STATUS_KERNEL, Ordering::Release);
        }
        lease.clear();
        self.spare.push(lease);
    }

    /// Whether at least half of the blocks wait to be taken.
    pub fn is_half_full(&self) -> bool {
        let blocks = self.lent.len();
        self.is_ready((self.next + (blocks / 2).saturating_sub(1)) % blocks)
    }

    /// Blocks that wait to be taken.
    pub fn waiting(&self) -> usize {
        let blocks = self.lent.len();
        let ahead = (0..blocks).map(|i| (self.next + i) % blocks);
        ahead.take_while(|&place| self.is_ready(place)).count()
    }

    fn is_ready(&self, place: usize) -> bool {
        let lent = self.lent.get(place).copied().unwrap_or(true);
        !lent && self.status(place << self.shift).load(Ordering::Acquire) & STATUS_USER != 0
    }

    /// The status word of the block at `offset`.
    fn status(&self, offset: usize) -> &AtomicU32 {
        let offset = offset.min(self.mapping.len() - (1 << self.shift));
        // SAFETY: the word lies in the mapping (blocks are larger than their headers, and `offset` is that of a block),
        // is aligned (blocks start on pages) and lives as long as `self`. packet_mmap.rst: both sides communicate by
        // this word, so it is only ever touched as an atomic.
        unsafe { AtomicU32::from_ptr(self.mapping.base().add(offset + STATUS).cast()) }
    }

    /// Waits until a block is handed over, at most `timeout`; false when none was. An error that the socket has to tell
    /// (the interface went down, say) is told here, once.
    ///
    /// # Errors
    /// That error, or those of poll(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let events = sockopt::poll_in(self.socket.as_fd(), timeout)?;
        if events & libc::POLLERR != 0 {
            let error = sockopt::get(self.socket.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR)?;
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
        }
        Ok(events != 0)
    }

    /// What was counted since the last call (packet(7), PACKET_STATISTICS: "Receiving statistics resets the internal
    /// counters").
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut told = [0_u32; 3];
        let mut len = size_of_val(&told) as libc::socklen_t;
        // SAFETY: `told` is live and writable for `len` bytes, the size of a tpacket_stats_v3: three u32.
        check(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                told.as_mut_ptr().cast(),
                &raw mut len,
            )
        })?;
        let [packets, drops, _] = told;
        Ok(Statistics { packets, drops })
    }
}

/// linux/if_packet.h; not in the libc crate.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const FANOUT_UNIQUE: u32 = 0x2000;

/// A packet socket that is bound to nothing: protocol 0 receives no packets (packet(7)).
fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers and returns a new descriptor or -1.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the descriptor was made just now and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn make_ring(socket: BorrowedFd<'_>, setup: &Setup) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let block = 1_u32 << setup.block_shift.min(30);
    let blocks = u32::try_from(setup.blocks).map_err(invalid)?;
    let request = libc::tpacket_req3 {
        tp_block_size: block,
        tp_block_nr: blocks,
        tp_frame_size: FRAME,
        tp_frame_nr: (block / FRAME).saturating_mul(blocks),
        tp_retire_blk_tov: setup.retire,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    // SAFETY: `request` is a live tpacket_req3 of the length that is passed, and only read (packet(7), PACKET_RX_RING).
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_RX_RING,
            (&raw const request).cast(),
            size_of::<libc::tpacket_req3>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

fn bind(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll holds integers, for which zero bytes are valid values.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface as libc::c_int;
    // SAFETY: `address` is a live sockaddr_ll of the length that is passed, and only read. packet(7): "only the
    // sll_protocol and the sll_ifindex address fields are used for purposes of binding".
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })?;
    Ok(())
}
