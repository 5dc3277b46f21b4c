//! Keeping the kernel's network stack away from packets that a ring has already taken.
//!
//! Takes: the interfaces, addresses and ports of the rings. Gives: a [`Guard`] that lasts as long as the rings. Holds: no mirrored
//! packet is answered by ICMP ("port unreachable"), which would cost more than the capture and go to the mirror source; nobody else's
//! packets are touched, and nothing of it outlives the process.
//!
//! Two means, one for each privilege. An ingress drop ends packets right behind the tap, where CAP_BPF and CAP_NET_ADMIN and a kernel of 6.6
//! or newer allow it. A UDP socket that refuses everything needs none of that: the kernel walks its stack to the socket, drops the packet
//! there, and answers nothing. Where somebody else listens on the port (a kernel vxlan device, say), packets are theirs too, and are
//! left alone.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::Socket;

use crate::source::ingress::IngressDrop;
use crate::source::interfaces::Interface;
use crate::source::udp;
use crate::sys::sockopt;

/// What keeps the stack away.
#[derive(Debug)]
pub(super) struct Guard {
    _drops: Vec<IngressDrop>,
    _sockets: Vec<Socket>,
    /// What it does, for people.
    pub(super) mode: &'static str,
}

impl Guard {
    /// Takes the addresses, so that nobody is told that they are unreachable, and ends the packets of the interfaces.
    pub(super) fn new(listen: &[SocketAddr], interfaces: &[Interface]) -> Self {
        let sockets: Vec<_> = listen
            .iter()
            .filter_map(|address| reserve(*address))
            .collect();
        let is_ours = sockets.len() == listen.len();
        let drops = if is_ours {
            drops(listen, interfaces)
        } else {
            Vec::new()
        };
        let mode = match (is_ours, drops.len() == interfaces.len()) {
            (true, true) => "dropped behind the tap",
            (true, false) => "refused by a socket",
            (false, _) => "left to others",
        };
        Self {
            _drops: drops,
            _sockets: sockets,
            mode,
        }
    }
}

fn drops(listen: &[SocketAddr], interfaces: &[Interface]) -> Vec<IngressDrop> {
    let install = |interface: &Interface| {
        let installed = IngressDrop::install(interface.index, listen);
        let told = installed.inspect_err(|error| {
            tracing::warn!(interface = interface.name, %error, "Could not end mirrored packets behind the tap: the kernel goes on with each \
                to a socket that refuses it, which takes about as long as capturing it.");
        });
        told.ok()
    };
    interfaces.iter().filter_map(install).collect()
}

fn reserve(address: SocketAddr) -> Option<Socket> {
    let taken = take(address).inspect_err(|error| {
        tracing::warn!(%address, %error, "Could not take the port for the packet ring: somebody else listens there and gets the mirrored packets too. \
            For a kernel vxlan device the system joins TCP segments before the ring sees them: `ethtool -K DEV gro off` keeps packets as they were.");
    });
    taken.ok()
}

/// A socket that refuses everything: first closed by a filter, then bound.
fn take(address: SocketAddr) -> Result<Socket, udp::Error> {
    let failed = |error| udp::Error::Socket {
        address,
        step: "SO_ATTACH_FILTER",
        error,
    };
    let socket = udp::unbound(address)?;
    sockopt::refuse_all(socket.as_fd()).map_err(failed)?;
    udp::bind_to(&socket, address)?;
    Ok(socket)
}
