//! Keeping the kernel's network stack away from packets that a ring has already taken.
//!
//! Takes: the interfaces, addresses and ports of the rings. Gives: a [`Guard`] that lasts as long as the rings. Holds: no mirrored
//! packet is answered by ICMP ("port unreachable"), which would cost more than the capture and go to the mirror source; nobody else's
//! packets are touched, and nothing of it outlives the process.
//!
//! Two means, one for each privilege. A UDP socket that refuses everything needs none: the kernel walks its stack to the socket, drops
//! the packet there, and answers nothing. Where somebody else listens on the port (a kernel vxlan device, say), packets are theirs too, and
//! are left alone.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::Socket;

use crate::source::udp;
use crate::sys::sockopt;

/// What keeps the stack away.
#[derive(Debug)]
pub(super) struct Guard {
    _sockets: Vec<Socket>,
    /// Whether each address is held by a socket of ours.
    pub(super) is_ours: bool,
}

impl Guard {
    /// Takes the addresses, so that nobody is told that they are unreachable.
    pub(super) fn new(listen: &[SocketAddr]) -> Self {
        let taken = listen.iter().map(|address| (address, take(*address)));
        let (mut sockets, mut is_ours) = (Vec::new(), true);
        for (address, socket) in taken {
            match socket {
                Ok(socket) => sockets.push(socket),
                Err(error) => {
                    is_ours = false;
                    tracing::warn!(%address, %error, "Could not take the port for the packet ring: somebody else listens there and gets \
                        the mirrored packets too, or the kernel answers them by ICMP, which costs more than the capture.");
                }
            }
        }
        Self {
            _sockets: sockets,
            is_ours,
        }
    }
}

/// A socket that refuses everything: first closed by a filter, then bound.
fn take(address: SocketAddr) -> Result<Socket, udp::Error> {
    let failed = |step| {
        move |error| udp::Error::Socket {
            address,
            step,
            error,
        }
    };
    let socket = udp::unbound(address)?;
    sockopt::refuse_all(socket.as_fd()).map_err(failed("SO_ATTACH_FILTER"))?;
    udp::bind_to(&socket, address)?;
    Ok(socket)
}
