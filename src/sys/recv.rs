//! `recvmmsg`: many datagrams in one call, each with its source, kernel time and truncation flag.
//!
//! The message headers live as long as the receiver and are set up anew for every call: the kernel writes
//! lengths back into them, and a control length that is not reset loses the times of all later datagrams.
//! Addresses and control messages are read back as plain bytes, so that only the call itself is unsafe.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::sys::check;

/// Room for a `sockaddr_in` (16 bytes) or a `sockaddr_in6` (28).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Name([u8; 28]);

/// Room for the control messages asked for: a timespec (32 bytes with its header), three of them (64), and a u32 (24).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Control([u8; 160]);

/// What came with one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Payload bytes in the slot.
    pub len: usize,
    /// The datagram was larger than its slot; the rest is gone (recvmsg(2), MSG_TRUNC).
    pub truncated: bool,
    /// Who sent it; `None` for a family that is not IP. IPv4-mapped addresses are given as IPv4.
    pub source: Option<IpAddr>,
    /// When it was received: seconds and nanoseconds since the epoch.
    pub time: Option<(u64, u32)>,
    /// Whether the network card said so, and not the kernel.
    pub is_card_time: bool,
    /// When it was received by the kernel's clock, whoever said the other time.
    pub kernel_time: Option<(u64, u32)>,
    /// The socket's drop count when it was queued (SO_RXQ_OVFL); absent while nothing was dropped.
    pub drops: Option<u32>,
}

/// Message headers for one thread's calls.
#[derive(Debug)]
pub struct Messages {
    headers: Vec<libc::mmsghdr>,
    slots: Vec<libc::iovec>,
    names: Vec<Name>,
    controls: Vec<Control>,
    received: usize,
}

// SAFETY: the raw pointers in `headers` and `slots` are set anew at the start of each call and used by
// the kernel during that call only; between calls nothing follows them.
unsafe impl Send for Messages {}

impl Messages {
    /// For up to `slots` datagrams a call.
    pub fn new(slots: usize) -> Self {
        let slot = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: msghdr holds integers and pointers, for which zero bytes are valid values.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            headers: vec![header; slots],
            slots: vec![slot; slots],
            names: vec![Name([0; 28]); slots],
            controls: vec![Control([0; 160]); slots],
            received: 0,
        }
    }

    /// Receives up to as many datagrams as there are slots of `stride` bytes in `arena`, waiting for the first
    /// one as long as the socket's receive timeout says; gives how many came.
    ///
    /// # Errors
    /// `WouldBlock` when none came in time, `Interrupted`, and those of recvmmsg(2).
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        arena: &mut [u8],
        stride: usize,
    ) -> io::Result<usize> {
        self.received = 0;
        let count = self.aim(arena, stride);
        // SAFETY: recvmmsg(2): "msgvec is a pointer to an array of mmsghdr structures. The size of this
        // array is specified in vlen". `aim` made the first `count` headers point to live, disjoint
        // buffers (slots of the exclusively borrowed arena; names and controls of this struct) with
        // their true lengths, none of which moves or is otherwise touched before the call returns.
        let n = check(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                // "Turns on MSG_DONTWAIT after the first message has been received."
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        })?;
        self.received = usize::try_from(n).unwrap_or(0);
        Ok(self.received)
    }

    /// Points the headers at the arena's slots and resets what the kernel wrote back last time.
    fn aim(&mut self, arena: &mut [u8], stride: usize) -> usize {
        let mut count = 0;
        let each = self
            .headers
            .iter_mut()
            .zip(&mut self.slots)
            .zip(&mut self.names);
        let each = each
            .zip(&mut self.controls)
            .zip(arena.chunks_exact_mut(stride));
        for ((((header, slot), name), control), buffer) in each {
            slot.iov_base = buffer.as_mut_ptr().cast();
            slot.iov_len = buffer.len();
            header.msg_len = 0;
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = name.0.len() as libc::socklen_t;
            header.msg_hdr.msg_iov = slot;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = control.0.len();
            header.msg_hdr.msg_flags = 0;
            count += 1;
        }
        count
    }

    /// What came with the datagrams of the last call, in the order of their slots.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        let each = self.headers.iter().zip(&self.names).zip(&self.controls);
        each.take(self.received).map(|((header, name), control)| {
            let control_len = header.msg_hdr.msg_controllen.min(control.0.len());
            let notes = notes(control.0.get(..control_len).unwrap_or_default());
            Message {
                len: header.msg_len as usize,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                source: address(&name.0),
                time: notes.card_time.or(notes.time),
                is_card_time: notes.card_time.is_some(),
                kernel_time: notes.time,
                drops: notes.drops,
            }
        })
    }
}

/// What control messages told.
#[derive(Clone, Copy, Default)]
struct Notes {
    time: Option<(u64, u32)>,
    card_time: Option<(u64, u32)>,
    drops: Option<u32>,
}

/// The IP address in a `sockaddr` (ip(7), ipv6(7)): family, port, then the address at byte 4 or 8.
fn address(name: &[u8; 28]) -> Option<IpAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes([name[0], name[1]]));
    match family {
        libc::AF_INET => {
            let octets: &[u8; 4] = name.get(4..)?.first_chunk()?;
            Some(Ipv4Addr::from(*octets).into())
        }
        libc::AF_INET6 => {
            let octets: &[u8; 16] = name.get(8..)?.first_chunk()?;
            Some(Ipv6Addr::from(*octets).to_canonical())
        }
        _ => None,
    }
}

/// Times and drop count among the control messages. Layout as in cmsg(3): a `cmsghdr` (length as usize,
/// level and type as c_int), data, padding to the size of usize.
fn notes(mut control: &[u8]) -> Notes {
    const HEADER: usize = 16;
    /// Where the third of the timespecs of SCM_TIMESTAMPING is: "ts[0] ... software timestamps ... hardware timestamps are
    /// passed in ts[2]" (Documentation/networking/timestamping.rst). One that is not there is zero.
    const CARD: usize = 32;
    let mut notes = Notes::default();
    while let Some((len, rest)) = control.split_first_chunk::<8>() {
        let len = usize::from_ne_bytes(*len);
        let (Some(kind), Some(data)) = (rest.get(..8), control.get(HEADER..len)) else {
            break;
        };
        match kind_of(kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => notes.time = timespec(data),
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                let is_there = |time: &(u64, u32)| *time != (0, 0);
                notes.card_time = data.get(CARD..).and_then(timespec).filter(is_there);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                notes.drops = data.first_chunk().map(|b| u32::from_ne_bytes(*b));
            }
            _ => {}
        }
        control = control.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    notes
}

fn kind_of(bytes: &[u8]) -> (libc::c_int, libc::c_int) {
    let read = |at: usize| {
        bytes
            .get(at..)
            .and_then(|b| b.first_chunk())
            .map_or(0, |b| i32::from_ne_bytes(*b))
    };
    (read(0), read(4))
}

fn timespec(data: &[u8]) -> Option<(u64, u32)> {
    let (secs, rest) = data.split_first_chunk::<8>()?;
    let nanos = i64::from_ne_bytes(*rest.first_chunk()?);
    Some((
        u64::try_from(i64::from_ne_bytes(*secs)).ok()?,
        u32::try_from(nanos).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::sockopt;

    fn pair(listen: &str) -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind(listen).unwrap();
        receiver
            .set_read_timeout(Some(std::time::Duration::from_millis(200)))
            .unwrap();
        sockopt::receive_times(receiver.as_fd()).unwrap();
        sockopt::receive_drop_counts(receiver.as_fd()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender
            .connect(("127.0.0.1", receiver.local_addr().unwrap().port()))
            .unwrap();
        (receiver, sender)
    }

    #[test]
    fn datagrams_come_in_order_with_times_and_sources() {
        let (receiver, sender) = pair("[::]:0");
        for i in 0..5_u8 {
            sender.send(&[i; 10]).unwrap();
        }
        let mut messages = Messages::new(8);
        let mut arena = vec![0; 8 * 64];
        assert_eq!(
            messages.receive(receiver.as_fd(), &mut arena, 64).unwrap(),
            5
        );
        for (i, m) in messages.messages().enumerate() {
            assert_eq!((m.len, m.truncated), (10, false));
            assert_eq!(m.source, Some("127.0.0.1".parse().unwrap()));
            assert!(m.time.is_some_and(|(secs, _)| secs > 1_700_000_000));
            assert_eq!(arena[i * 64], i as u8);
        }
    }

    #[test]
    fn a_datagram_larger_than_its_slot_is_flagged() {
        let (receiver, sender) = pair("127.0.0.1:0");
        sender.send(&[7; 100]).unwrap();
        let mut messages = Messages::new(2);
        let mut arena = vec![0; 2 * 64];
        assert_eq!(
            messages.receive(receiver.as_fd(), &mut arena, 64).unwrap(),
            1
        );
        let m = messages.messages().next().unwrap();
        assert_eq!((m.len, m.truncated), (64, true));
    }

    #[test]
    fn times_are_still_there_after_the_kernel_began_to_drop() {
        let (receiver, sender) = pair("127.0.0.1:0");
        socket2::SockRef::from(&receiver)
            .set_recv_buffer_size(4096)
            .unwrap();
        for _ in 0..200 {
            sender.send(&[1; 500]).unwrap();
        }
        let mut messages = Messages::new(64);
        let mut arena = vec![0; 64 * 600];
        for _ in 0..3 {
            let _ = messages.receive(receiver.as_fd(), &mut arena, 600);
            sender.send(&[2; 500]).unwrap();
        }
        let n = messages.receive(receiver.as_fd(), &mut arena, 600).unwrap();
        assert!(n > 0 && messages.messages().all(|m| m.time.is_some()));
        let told = messages.messages().last().unwrap().drops.unwrap();
        let info = sockopt::mem_info(receiver.as_fd()).unwrap();
        assert!(told > 100 && info.drops >= told, "{told} {info:?}");
    }

    #[test]
    fn a_time_of_the_card_goes_before_one_of_the_kernel() {
        let message = |card: [u64; 2]| {
            let kernel = [16 + 16, (35 << 32) | 1, 5, 6];
            let cards = [16 + 48, (37 << 32) | 1, 0, 0, 0, 0, card[0], card[1]];
            let words = kernel.iter().chain(&cards);
            words
                .flat_map(|w: &u64| w.to_ne_bytes())
                .collect::<Vec<u8>>()
        };
        let with = notes(&message([7, 8]));
        assert_eq!((with.time, with.card_time), (Some((5, 6)), Some((7, 8))));
        let without = notes(&message([0, 0]));
        assert_eq!((without.time, without.card_time), (Some((5, 6)), None));
    }

    #[test]
    fn a_socket_that_asks_for_the_cards_times_still_has_the_kernels() {
        let (receiver, sender) = pair("127.0.0.1:0");
        sockopt::receive_card_times(receiver.as_fd()).unwrap();
        sender.send(b"timed").unwrap();
        let mut messages = Messages::new(2);
        let n = messages
            .receive(receiver.as_fd(), &mut [0; 128], 64)
            .unwrap();
        let m = messages.messages().next().unwrap();
        assert_eq!((n, m.is_card_time), (1, false));
        assert!(m.time.is_some_and(|(secs, _)| secs > 1_700_000_000));
    }

    #[test]
    fn nothing_in_time_is_would_block() {
        let (receiver, _sender) = pair("127.0.0.1:0");
        let mut messages = Messages::new(2);
        let error = messages
            .receive(receiver.as_fd(), &mut [0; 128], 64)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
