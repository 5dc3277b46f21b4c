//! AF_XDP: datagrams taken at the driver, before the kernel has made anything of them.
//!
//! Takes: an interface whose mirrored datagrams are wanted. Gives: [`Xdp`] sources, each over some of its receive queues.
//! Holds: only what `matcher` knows to be a mirrored datagram for this host leaves the kernel's way, so ssh, and whatever else
//! lives on the interface, goes on. What is ours and not taken (IP fragments, extension headers, what came before the program
//! or goes on after it) reaches an ordinary UDP socket: [`companions`] binds one for each address, and they are sources too.
//!
//! **Modes.** In the driver if it can, writing into our memory if it can, else copying; behind the driver as a last resort. Which
//! it became is in [`Facts::mode`](crate::source::Facts::mode).
//!
//! **Large packets.** A packet that fits a frame is read where it lies. One that does not comes in several frames (from Linux 6.6
//! on) and is copied together once; where that can't be had, an interface whose MTU asks for it is refused.
//!
//! **Stop.** First the sockets are taken out of the program's map, after which everything goes to the network stack; then what
//! the rings hold is read. The program itself leaves last: taking it off restarts the queues of some drivers.

mod error;
mod program;
mod receive;
mod times;

use std::sync::Arc;

use crate::source::udp::{self, Udp};
use crate::source::{Clock, Config, Timestamps};
use crate::sys::interface;
use crate::sys::xsk::{HEADROOM, Options, Xsk};
pub use error::Error;
use program::{Steering, Task};
pub use receive::Xdp;

/// Ethernet, and two VLAN tags.
const LINK: u32 = 14 + 8;
/// The frames that a socket needs at least.
const FEWEST: u32 = 1024;
const SMALL: u32 = 11;
const LARGE: u32 = 12;

/// What may be made use of: all of it, unless a test or a search for a fault says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allow {
    /// The program in the driver.
    pub native: bool,
    /// The program behind the driver, which is hardly better than `packet`.
    pub generic: bool,
    /// The driver writing into our memory.
    pub zero_copy: bool,
    /// Packets in several frames.
    pub frags: bool,
}

impl Default for Allow {
    fn default() -> Self {
        Self {
            native: true,
            generic: true,
            zero_copy: true,
            frags: true,
        }
    }
}

/// Opens every receive queue of an interface, for at most `receivers` threads. Open [`companions`] first, so that nobody is told
/// that the port is closed.
///
/// # Errors
/// Not permitted, no such interface, another XDP program is there, or the MTU is too large for what driver and kernel have.
pub fn open(
    interface: &str,
    config: &Config,
    receivers: usize,
    allow: Allow,
) -> Result<Vec<Xdp>, Error> {
    let named = |error| Error::Interface {
        name: interface.to_owned(),
        error,
    };
    let index = interface::index(interface).map_err(named)?;
    let mtu = interface::mtu(interface).map_err(named)?;
    let queues = interface::receive_queues(interface).map_err(named)?.max(1);
    let task = Task {
        interface: index,
        ethernet: interface::ethernet_address(interface).map_err(named)?,
        listen: &config.listen,
        queues,
        hardware: config.timestamps == Timestamps::Hardware,
        frags: allow.frags,
    };
    let steering = Arc::new(Steering::attach(task, allow)?);
    if task.hardware && !steering.hardware {
        tracing::warn!(
            interface,
            "No receive times of the network card here; packets have the kernel's."
        );
    }
    let opening = Opening {
        interface: index,
        mtu,
        bytes: config.receive_buffer.0,
        allow,
        native: steering.native,
    };
    let mut sockets = Vec::new();
    for queue in 0..queues {
        let socket = opening.queue(queue)?;
        steering.serve(queue, &socket.0)?;
        sockets.push(socket);
    }
    share(interface, config, receivers, sockets, &steering)
}

/// UDP sockets for what the program leaves to the network stack: one for each address that is listened on, for all
/// interfaces together.
///
/// # Errors
/// Somebody else listens there.
pub fn companions(config: &Config) -> Result<Vec<Udp>, udp::Error> {
    let bound = config
        .listen
        .iter()
        .map(|address| udp::bind(*address, 1, config.receive_buffer));
    Ok(bound
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// A socket and how it was opened, for people.
type Opened = (Xsk, String);

/// Deals the queues out to sources.
fn share(
    interface: &str,
    config: &Config,
    receivers: usize,
    sockets: Vec<Opened>,
    steering: &Arc<Steering>,
) -> Result<Vec<Xdp>, Error> {
    let clock = if steering.hardware {
        Clock::Hardware
    } else {
        Clock::Kernel
    };
    let receivers = receivers.clamp(1, sockets.len().max(1));
    let mut hands: Vec<Vec<(u32, Opened)>> = (0..receivers).map(|_| Vec::new()).collect();
    for (queue, socket) in (0_u32..).zip(sockets) {
        if let Some(hand) = hands.get_mut(queue as usize % receivers) {
            hand.push((queue, socket));
        }
    }
    let sources = hands
        .into_iter()
        .map(|hand| Xdp::new(interface, config, clock, hand, Arc::clone(steering)));
    sources.collect()
}

/// How the sockets of an interface are opened.
struct Opening {
    interface: u32,
    mtu: u32,
    bytes: u64,
    allow: Allow,
    native: bool,
}

impl Opening {
    /// Opens a queue in the best way that it has.
    fn queue(&self, queue: u32) -> Result<Opened, Error> {
        let mut refused = None;
        for (zero_copy, frags, shift) in self.ways() {
            let options = Options {
                interface: self.interface,
                queue,
                frames: self.frames(shift),
                shift,
                zero_copy,
                frags,
            };
            match Xsk::open(options) {
                Ok(socket) => return Ok((socket, self.mode(options))),
                Err(error) => {
                    let error = Error::Queue { queue, error };
                    if error.is_final() {
                        return Err(error);
                    }
                    refused = Some(error);
                }
            }
        }
        match refused {
            Some(error) if self.mtu + LINK <= room(LARGE) => Err(error),
            // several frames for a packet were needed, and could not be had
            _ => Err(Error::Mtu {
                mtu: self.mtu,
                most: room(LARGE) - LINK,
            }),
        }
    }

    /// Ways to open a queue, best first: whether without copying, whether in several frames, and the size of a frame.
    fn ways(&self) -> impl Iterator<Item = (bool, bool, u32)> {
        // drivers that write into our memory want whole pages
        let all = [
            (true, true, LARGE),
            (true, false, LARGE),
            (false, true, LARGE),
            (false, false, SMALL),
            (false, false, LARGE),
        ];
        let (mtu, allow, native) = (self.mtu, self.allow, self.native);
        all.into_iter().filter(move |(zero_copy, frags, shift)| {
            let fits = mtu + LINK <= room(*shift);
            (!zero_copy || (native && allow.zero_copy))
                && if *frags { allow.frags && !fits } else { fits }
        })
    }

    /// As many frames as the memory holds, but a power of two.
    fn frames(&self, shift: u32) -> u32 {
        let most = u32::try_from(self.bytes >> shift).unwrap_or(u32::MAX >> 1);
        1 << most.max(FEWEST).ilog2()
    }

    fn mode(&self, options: Options) -> String {
        let mode = if self.native { "native" } else { "generic" };
        let copying = if options.zero_copy {
            "zero-copy"
        } else {
            "copy"
        };
        let frags = if options.frags {
            ", several for a packet"
        } else {
            ""
        };
        let (frames, size) = (options.frames, 1 << options.shift);
        format!("{mode}, {copying}, {frames} frames of {size} B{frags}")
    }
}

/// What of a frame a packet can have.
const fn room(shift: u32) -> u32 {
    (1 << shift) - HEADROOM
}
