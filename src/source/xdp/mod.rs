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
mod whole;

use std::sync::Arc;

use crate::source::interfaces::{self, Interface};
use crate::source::udp::{self, Udp};
use crate::source::{Clock, Config};
use crate::sys;
use crate::sys::xsk::{HEADROOM, Options, Xsk};
pub use error::{Error, Reason};
use program::{Steering, Task};
pub use receive::Xdp;
pub use whole::Whole;

/// Ethernet, and two VLAN tags.
const LINK: u32 = 14 + 8;
/// The frames that a socket has at least: more than a receiver's batches can hold on to.
const FEWEST: u32 = 2048;
/// The memory of all queues of an interface together, in `receive_buffer`s.
const MOST_BUFFERS: u64 = 4;
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

/// Opens every receive queue of the interfaces, for at most `receivers` threads each. Open [`companions`] first, so that
/// nobody is told that the port is closed.
///
/// # Errors
/// Not permitted, no such interface, another XDP program is there, or the MTU is too large for what driver and kernel have.
pub fn open(config: &Config, receivers: usize, allow: Allow) -> Result<Vec<Xdp>, Error> {
    let mut all = Vec::new();
    for interface in interfaces::find(config)? {
        let clock = interfaces::clock(config, std::slice::from_ref(&interface));
        let sources = open_on(&interface, config, clock, receivers, allow);
        all.extend(sources.map_err(|reason| Error::Refused {
            interface: interface.name,
            reason,
        })?);
    }
    Ok(all)
}

/// Opens one interface, whose packets have times of `clock`, where its driver gives them.
///
/// # Errors
/// As [`open`].
pub fn open_on(
    interface: &Interface,
    config: &Config,
    clock: Clock,
    receivers: usize,
    allow: Allow,
) -> Result<Vec<Xdp>, Reason> {
    let unknown = |step| move |error| Reason::Unknown { step, error };
    let queues = receive_queues(&interface.name).map_err(unknown("count its queues"))?;
    let address = sys::interface::ethernet_address(&interface.name);
    let task = Task {
        interface: interface.index,
        ethernet: address.map_err(unknown("read its address"))?,
        listen: &config.listen,
        queues,
        hardware: clock == Clock::Hardware,
        frags: allow.frags,
    };
    let steering = Arc::new(Steering::attach(task, allow)?);
    if task.hardware && !steering.hardware {
        let interface = &interface.name;
        tracing::warn!(
            interface,
            "The driver gives XDP no receive times; packets have the kernel's."
        );
    }
    let share_of_one = config.receive_buffer.0.saturating_mul(MOST_BUFFERS) / u64::from(queues);
    let mut opening = Opening {
        interface: interface.index,
        mtu: interface.mtu,
        bytes: share_of_one.min(config.receive_buffer.0),
        allow,
        native: steering.native,
        way: None,
    };
    let mut sockets = Vec::new();
    for queue in 0..queues {
        let socket = opening.queue(queue)?;
        steering.serve(queue, &socket.0)?;
        sockets.push(socket);
    }
    share(&interface.name, config, receivers, sockets, &steering)
}

/// How many queues the interface receives into.
fn receive_queues(interface: &str) -> std::io::Result<u32> {
    let entries = std::fs::read_dir(format!("/sys/class/net/{interface}/queues"))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let queues = names.filter(|name| name.to_string_lossy().starts_with("rx-"));
    Ok((queues.count() as u32).max(1))
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
        .map(|address| udp::bind(*address, 1, config));
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
) -> Result<Vec<Xdp>, Reason> {
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
    /// The way that the queue before was opened in; the others will not be better.
    way: Option<Way>,
}

/// Without copying or not, a packet in several frames or not, and the size of a frame as a power of two.
type Way = (bool, bool, u32);

impl Opening {
    /// Opens a queue in the best way that it has.
    fn queue(&mut self, queue: u32) -> Result<Opened, Reason> {
        let mut refused = None;
        for way in self.ways() {
            let (zero_copy, frags, shift) = way;
            let options = Options {
                interface: self.interface,
                queue,
                frames: self.frames(shift),
                shift,
                zero_copy,
                frags,
            };
            match Xsk::open(options) {
                Ok(socket) => {
                    self.way = Some(way);
                    return Ok((socket, self.mode(options)));
                }
                Err(error) => {
                    let reason = Reason::Queue { queue, error };
                    if reason.is_final() {
                        return Err(reason);
                    }
                    refused = Some(reason);
                }
            }
        }
        match refused {
            Some(reason) if self.mtu + LINK <= room(LARGE) => Err(reason),
            // several frames for a packet were needed, and could not be had
            _ => Err(Reason::Mtu {
                mtu: self.mtu,
                most: room(LARGE) - LINK,
            }),
        }
    }

    /// Ways to open a queue, best first.
    fn ways(&self) -> impl Iterator<Item = Way> + use<> {
        // drivers that write into our memory want whole pages
        let all = [
            (true, true, LARGE),
            (true, false, LARGE),
            (false, true, LARGE),
            (false, false, SMALL),
            (false, false, LARGE),
        ];
        let known = self.way;
        let (mtu, allow, native) = (self.mtu, self.allow, self.native);
        let ways = all.into_iter().filter(move |(zero_copy, frags, shift)| {
            let fits = mtu + LINK <= room(*shift);
            (!zero_copy || (native && allow.zero_copy))
                && if *frags { allow.frags && !fits } else { fits }
        });
        ways.skip_while(move |way| known.is_some_and(|known| known != *way))
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
