//! Socket options that `socket2` does not have.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::sys::check;

/// `UDP_NO_CHECK6_RX` of linux/udp.h, which the libc crate does not name.
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// Asks for a receive buffer beyond `net.core.rmem_max` (socket(7), SO_RCVBUFFORCE: "a privileged
/// (CAP_NET_ADMIN) process can perform the same task as SO_RCVBUF, but the rmem_max limit can be overridden").
///
/// # Errors
/// EPERM without the capability.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
}

/// Asks for a kernel receive time with every datagram (socket(7), SO_TIMESTAMPNS).
///
/// # Errors
/// Those of setsockopt(2).
pub fn receive_times(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

/// Asks for the network card's receive time too with every datagram that has one (Documentation/networking/timestamping.rst,
/// SO_TIMESTAMPING; the software times that this option could give as well must not be mixed with those of SO_TIMESTAMPNS).
///
/// # Errors
/// Those of setsockopt(2).
pub fn receive_card_times(socket: BorrowedFd<'_>) -> io::Result<()> {
    let wanted = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
    receive_times(socket)?;
    set(
        socket,
        libc::SOL_SOCKET,
        libc::SO_TIMESTAMPING,
        wanted as libc::c_int,
    )
}

/// Asks for the drop count with every datagram (socket(7), SO_RXQ_OVFL: "an unsigned 32-bit value ...
/// indicating the number of packets dropped by the socket since its creation").
///
/// # Errors
/// Those of setsockopt(2).
pub fn receive_drop_counts(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// Accepts IPv6 datagrams without a UDP checksum, as tunnels may send them (RFC 6935).
///
/// # Errors
/// Those of setsockopt(2).
pub fn accept_zero_checksum6(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
}

/// Makes the kernel drop, and count, every datagram that arrives from now on; what is queued stays readable.
/// Done by a classic BPF program (socket(7), SO_ATTACH_FILTER) whose one instruction returns 0 bytes to keep.
///
/// # Errors
/// Those of setsockopt(2).
pub fn refuse_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    const RETURN: u16 = 0x06;
    let nothing = Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        k: 0,
    };
    attach_filter(socket, &[nothing])
}

/// An instruction of a classic BPF program (linux/filter.h, `struct sock_filter`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip when its condition holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Its operand.
    pub k: u32,
}

/// Puts a classic BPF program in front of a socket, in the place of the one that is there (socket(7), SO_ATTACH_FILTER).
///
/// # Errors
/// EINVAL for a program that the kernel does not take.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let each = program.iter().map(|i| libc::sock_filter {
        code: i.code,
        jt: i.jump_true,
        jf: i.jump_false,
        k: i.k,
    });
    let mut code: Vec<_> = each.collect();
    let program = libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: `program` points to as many live instructions as `len` says, and both outlive the call.
    // socket(7): "The filter is passed as a struct sock_fprog", which the kernel copies.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Reads an option whose value is a c_int.
pub(super) fn get(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is live and writable for `len` bytes. getsockopt(2): "optlen is a value-result argument, initially
    // containing the size of the buffer pointed to by optval".
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    })?;
    Ok(value)
}

/// Waits until there is something to read (or an error to tell), at most `timeout`; the events, 0 when none.
///
/// # Errors
/// Those of poll(2); EINTR is no event.
pub fn poll_in(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<libc::c_short> {
    let mut asked = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // SAFETY: ppoll(2): "fds ... is an array of structures"; `asked` is one such structure, as the length says, live and
    // writable during the call; `timeout` is live and only read; a null signal mask leaves the mask alone.
    let polled =
        check(unsafe { libc::ppoll(&raw mut asked, 1, &raw const timeout, std::ptr::null()) });
    match polled {
        Ok(_) => Ok(asked.revents),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(e) => Err(e),
    }
}

/// Sets an option whose value is a c_int.
pub(super) fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed, so open; `value` is a live c_int of the length that is passed, and is only
    // read. setsockopt(2): "Most socket-level options utilize an int argument for optval".
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// What the kernel says of a socket's memory (linux/sock_diag.h, `SK_MEMINFO_*`).
#[derive(Clone, Copy, Debug, Default)]
pub struct MemInfo {
    /// Bytes that waiting datagrams occupy.
    pub queued: u32,
    /// Bytes that may wait.
    pub limit: u32,
    /// Datagrams dropped since the socket was made.
    pub drops: u32,
}

/// Reads a socket's memory use and drop count at any time, with or without traffic (socket(7), SO_MEMINFO).
///
/// # Errors
/// Those of getsockopt(2).
pub fn mem_info(socket: BorrowedFd<'_>) -> io::Result<MemInfo> {
    const SO_MEMINFO: libc::c_int = 55;
    const RMEM_ALLOC: usize = 0;
    const RCVBUF: usize = 1;
    const DROPS: usize = 8;
    let mut info = [0_u32; 9];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is live and writable for `len` bytes. getsockopt(2): "optlen is a value-result
    // argument, initially containing the size of the buffer pointed to by optval".
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(MemInfo {
        queued: info[RMEM_ALLOC],
        limit: info[RCVBUF],
        drops: info[DROPS],
    })
}
