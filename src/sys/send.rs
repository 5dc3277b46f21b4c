//! Sending many UDP datagrams with one system call, from sockets that look like AWS's sender.
//!
//! Takes: addresses, and datagrams lying in one buffer. Gives: a connected [`Socket`] (TTL 255, no UDP
//! checksum, DF clear: what was measured on mirrored traffic) and [`Socket::send`]. Holds: the kernel reads
//! only inside the buffer it was lent, and only during the call; the number returned is exactly how
//! many datagrams, from the first on, the kernel took.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use crate::sys::{check, sockopt};

/// How many datagrams one call takes at most.
pub const BATCH: usize = 64;

/// The send buffer that is asked for; the kernel grants at most `net.core.wmem_max`.
const SEND_BUFFER: usize = 4 << 20;

/// A sender that is stuck looks up this often, so that it can be stopped.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where a datagram lies in the buffer that is sent from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Place {
    /// The bytes of `buffer` that this place names; `None` when it reaches outside.
    pub fn of(self, buffer: &[u8]) -> Option<&[u8]> {
        let start = self.start as usize;
        buffer.get(start..start.checked_add(self.len as usize)?)
    }
}

/// A UDP socket bound to one source port and connected to the target.
#[derive(Debug)]
pub struct Socket(socket2::Socket);

impl Socket {
    /// Binds to `from` and connects to `to`. UDP checksums are left out unless `checksum` asks for
    /// them or the kernel insists on them.
    ///
    /// # Errors
    /// When the socket can't be made, bound or connected.
    pub fn open(from: SocketAddr, to: SocketAddr, checksum: bool) -> io::Result<Self> {
        let domain = Domain::for_address(to);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        if to.is_ipv4() {
            socket.set_ttl_v4(255)?;
        } else {
            socket.set_unicast_hops_v6(255)?;
        }
        let fd = socket.as_fd();
        leave_fragmenting_to_the_network(fd, to.is_ipv4())?;
        if !checksum {
            // A kernel that insists on checksums sends what any receiver takes, so this may fail.
            let _ = leave_checksum_out(fd, to.is_ipv4());
        }
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        Ok(Self(socket))
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| io::Error::other("the socket has no IP address"))
    }

    /// Sends the datagrams that `places` name in `buffer`, at most [`BATCH`] of them, and returns how many
    /// were taken, counted from the first. Fewer than given means that the next one met an error, which the
    /// kernel does not tell: sendmmsg(2): "The error code is lost." It shows at the next try, unless it
    /// has passed by then; that of a closed receiver always has.
    ///
    /// # Errors
    /// What kept the first datagram from being sent; none was. A place outside the buffer is
    /// [`io::ErrorKind::InvalidInput`].
    pub fn send(&self, buffer: &[u8], places: &[Place]) -> io::Result<usize> {
        const NOTHING: libc::iovec = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let mut vectors = [NOTHING; BATCH];
        // SAFETY: `mmsghdr` is made of integers and raw pointers, for which all zeros is a valid value.
        // sendmsg(2): a null `msg_name` is right "on a connected socket", and a null `msg_control` with
        // zero `msg_controllen` means no control data.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let count = places.len().min(BATCH);
        for ((place, vector), message) in places.iter().zip(&mut vectors).zip(&mut messages) {
            let bytes = place.of(buffer).ok_or(io::ErrorKind::InvalidInput)?;
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        send_messages(self.0.as_fd(), &mut messages[..count])
    }
}

/// The call itself. Every message must point to one vector inside a live buffer, as those that
/// [`Socket::send`] builds do; it is private for that reason.
fn send_messages(fd: BorrowedFd<'_>, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
    // SAFETY: sendmmsg(2): "The msgvec argument is a pointer to an array of mmsghdr structures. The size
    // of this array is specified in vlen." Both come from one slice of at most BATCH elements. The vectors
    // and the bytes behind them outlive the call, and the kernel only reads them: the only thing that
    // "On return from sendmmsg()" is updated are "the msg_len fields of successive elements".
    let sent = check(unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as u32,
            0,
        )
    })?;
    Ok(sent as usize)
}

/// AWS leaves DF clear. Linux sets it by default, to discover the path's MTU.
fn leave_fragmenting_to_the_network(fd: BorrowedFd<'_>, ipv4: bool) -> io::Result<()> {
    if ipv4 {
        let never = libc::IP_PMTUDISC_DONT;
        sockopt::set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, never)
    } else {
        let never = libc::IPV6_PMTUDISC_DONT;
        sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, never)
    }
}

fn leave_checksum_out(fd: BorrowedFd<'_>, ipv4: bool) -> io::Result<()> {
    if ipv4 {
        sockopt::set(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
    } else {
        sockopt::set(fd, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn pair() -> (UdpSocket, Socket) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let from = "127.0.0.1:0".parse().unwrap();
        let sender = Socket::open(from, receiver.local_addr().unwrap(), false).unwrap();
        (receiver, sender)
    }

    #[test]
    fn a_batch_arrives_whole_and_in_order_from_the_bound_port() {
        let (receiver, sender) = pair();
        let places: Vec<_> = (0..80).map(|i| Place { start: i, len: 3 }).collect();
        let buffer: Vec<u8> = (0..100).collect();
        assert_eq!(sender.send(&buffer, &places).unwrap(), BATCH);
        for i in 0..BATCH {
            let mut got = [0; 16];
            let (len, from) = receiver.recv_from(&mut got).unwrap();
            assert_eq!(&got[..len], &buffer[i..i + 3]);
            assert_eq!(from, sender.local_addr().unwrap());
        }
    }

    #[test]
    fn a_place_outside_the_buffer_is_refused_and_nothing_is_sent() {
        let (receiver, sender) = pair();
        let inside = Place { start: 0, len: 4 };
        for (start, len) in [(1, 4), (4, 1), (u32::MAX, u32::MAX)] {
            let error = sender
                .send(&[0; 4], &[inside, Place { start, len }])
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        receiver.set_nonblocking(true).unwrap();
        assert!(receiver.recv(&mut [0; 8]).is_err());
    }

    #[test]
    fn a_closed_receiver_is_told_as_an_error_and_the_socket_lives_on() {
        let (receiver, sender) = pair();
        drop(receiver);
        let places = [Place { start: 0, len: 1 }; 2];
        assert_eq!(sender.send(&[0], &places).unwrap(), 1, "the error is lost");
        let one = &places[..1];
        let outcomes: Vec<_> = (0..4).map(|_| sender.send(&[0], one)).collect();
        assert!(
            outcomes
                .iter()
                .any(|o| matches!(o, Err(e) if e.kind() == io::ErrorKind::ConnectionRefused))
        );
        assert!(outcomes.iter().any(Result::is_ok));
    }
}
