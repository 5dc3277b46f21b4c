//! The program at the driver: mirrored datagrams go to the sockets, everything else goes on as if it were not there.
//!
//! In front of each redirected packet it leaves two numbers: when it saw the packet, by the kernel's TAI clock, and when the
//! network card did, where that was asked for and the driver knows. Where the driver has no room for them the packet
//! goes without, and is told by its missing mark.

use std::net::SocketAddr;

use crate::source::matcher::{DATA, END, Matcher};
use crate::source::xdp::{Allow, Reason};
use crate::sys::bpf::{
    Assembler, Attach, Condition, Kind, Label, Link, Load, Map, MapKind, Program, Reg, Size,
    kernel_function,
};
use crate::sys::xsk::{METADATA, Xsk};

/// Where `struct xdp_md` of linux/bpf.h has them.
const DATA_AT: i16 = 0;
const END_AT: i16 = 4;
const METADATA_AT: i16 = 8;
const QUEUE_AT: i16 = 16;
/// The verdict of linux/bpf.h, `enum xdp_action`.
const PASS: i32 = 2;
/// Helpers of linux/bpf.h.
const REDIRECT_MAP: i32 = 51;
const ADJUST_META: i32 = 54;
const TAI_TIME: i32 = 208;
/// The function that asks the driver for the card's time (Documentation/networking/xdp-rx-metadata.rst).
const CARD_TIME: &str = "bpf_xdp_metadata_rx_timestamp";
/// Where to attach: linux/if_link.h, `XDP_FLAGS_*`.
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;

/// What the program is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) interface: u32,
    /// The interface's own address: what is for another host goes on.
    pub(super) ethernet: [u8; 6],
    pub(super) listen: &'a [SocketAddr],
    pub(super) queues: u32,
    /// Whether to ask the driver for the card's time.
    pub(super) hardware: bool,
    /// Whether packets may lie in several buffers.
    pub(super) frags: bool,
}

/// The attached program, with the sockets that it serves. It leaves when dropped.
#[derive(Debug)]
pub(super) struct Steering {
    sockets: Map,
    pub(super) native: bool,
    /// Whether the card's time is asked for.
    pub(super) hardware: bool,
    _link: Link,
}

impl Steering {
    /// Attaches the program: in the driver if that may be and can, else behind it. Without sockets it lets everything pass.
    pub(super) fn attach(task: Task<'_>, allow: Allow) -> Result<Self, Reason> {
        let sockets = Map::create(MapKind::Xsk, 4, task.queues.max(1))?;
        let mut refused = None;
        for way in ways(task, allow) {
            match way.attach(task, &sockets) {
                Ok(link) => {
                    if let Some(error) = refused {
                        tracing::warn!(%error, "Not the best way into the driver.");
                    }
                    return Ok(Self {
                        sockets,
                        native: way.native,
                        hardware: way.hardware,
                        _link: link,
                    });
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(Reason::Forbidden))
    }

    /// From now on the packets of a queue go to a socket.
    pub(super) fn serve(&self, queue: u32, socket: &Xsk) -> Result<(), Reason> {
        use std::os::fd::AsFd;
        Ok(self.sockets.put_socket(queue, socket.as_fd())?)
    }

    /// From now on the packets of a queue go to the network stack.
    pub(super) fn leave(&self, queue: u32) -> Result<(), Reason> {
        Ok(self.sockets.remove(queue)?)
    }
}

/// Where the program may run, and whether it may ask for the card's time there.
#[derive(Clone, Copy, Debug)]
struct Way {
    native: bool,
    hardware: bool,
}

/// Ways to attach, best first. A program that asks for the card's time is bound to its driver and can't run behind it.
fn ways(task: Task<'_>, allow: Allow) -> impl Iterator<Item = Way> {
    let all = [(true, true), (true, false), (false, false)];
    let may = move |way: &Way| {
        let place = if way.native {
            allow.native
        } else {
            allow.generic
        };
        place && (task.hardware || !way.hardware)
    };
    let ways = all.into_iter();
    let ways = ways.map(|(native, hardware)| Way { native, hardware });
    ways.filter(may)
}

impl Way {
    fn attach(self, task: Task<'_>, sockets: &Map) -> Result<Link, Reason> {
        let program = load(task, sockets, self.hardware)?;
        let flags = if self.native { NATIVE } else { GENERIC };
        let attached = program.attach(task.interface, Attach::Xdp, flags);
        attached.map_err(|error| match Reason::from(error) {
            Reason::Program(error) if self.native => Reason::Driver(error),
            other => other,
        })
    }
}

fn load(task: Task<'_>, sockets: &Map, hardware: bool) -> Result<Program, Reason> {
    let card_time = if hardware {
        Some(kernel_function(CARD_TIME).ok_or(Reason::NoCardTime)?)
    } else {
        None
    };
    let code = assemble(task, sockets.descriptor(), card_time).finish()?;
    let frags = if task.frags { Load::FRAGS } else { 0 };
    let (bound, interface) = if hardware {
        (Load::DEVICE_BOUND, task.interface)
    } else {
        (0, 0)
    };
    let how = Load {
        kind: Kind::Xdp,
        attach: Attach::Xdp,
        flags: frags | bound,
        interface,
        name: "mirrortap_xdp",
    };
    Ok(Program::load(&code, how)?)
}

const CONTEXT: Reg = Reg::R6;
const CARD: Reg = Reg::R7;
const KERNEL: Reg = Reg::R8;

fn assemble(task: Task<'_>, sockets: i32, card_time: Option<i32>) -> Assembler {
    let mut a = Assembler::new();
    let other = a.label();
    a.copy(CONTEXT, Reg::R1);
    a.load(Size::Word, DATA, CONTEXT, DATA_AT);
    a.load(Size::Word, END, CONTEXT, END_AT);
    is_for_us(&mut a, task.ethernet, other);
    Matcher::new(task.listen).assemble(&mut a, other);
    times(&mut a, card_time);
    a.load(Size::Word, Reg::R2, CONTEXT, QUEUE_AT);
    a.map(Reg::R1, sockets);
    // the verdict for a queue without a socket
    a.set(Reg::R3, PASS);
    a.call(REDIRECT_MAP);
    a.exit();
    a.place(other);
    a.set(Reg::R0, PASS);
    a.exit();
    a
}

fn is_for_us(a: &mut Assembler, address: [u8; 6], other: Label) {
    let [a0, a1, a2, a3, a4, a5] = address;
    a.copy(Reg::R0, DATA);
    a.add(Reg::R0, 14);
    a.jump_if_registers(Reg::R0, Condition::Above, END, other);
    a.load(Size::Word, Reg::R0, DATA, 0);
    let first = u32::from_ne_bytes([a0, a1, a2, a3]);
    a.jump_if(Reg::R0, Condition::NotEqual, first, other);
    a.load(Size::Half, Reg::R0, DATA, 4);
    let last = u16::from_ne_bytes([a4, a5]);
    a.jump_if(Reg::R0, Condition::NotEqual, u32::from(last), other);
}

/// Leaves both times in front of the packet, as [`Times`](crate::source::xdp::times::Times) reads them.
fn times(a: &mut Assembler, card_time: Option<i32>) {
    let go = a.label();
    a.set(CARD, 0);
    if let Some(function) = card_time {
        let none = a.label();
        a.store(Size::Double, Reg::R10, -8, CARD);
        a.copy(Reg::R1, CONTEXT);
        a.copy(Reg::R2, Reg::R10);
        a.add(Reg::R2, -8);
        a.call_kernel(function);
        a.jump_if(Reg::R0, Condition::NotEqual, 0, none);
        a.load(Size::Double, CARD, Reg::R10, -8);
        a.place(none);
    }
    a.call(TAI_TIME);
    a.copy(KERNEL, Reg::R0);
    a.copy(Reg::R1, CONTEXT);
    a.set(Reg::R2, -(METADATA as i32));
    a.call(ADJUST_META);
    a.jump_if(Reg::R0, Condition::NotEqual, 0, go);
    a.load(Size::Word, Reg::R1, CONTEXT, METADATA_AT);
    a.load(Size::Word, Reg::R2, CONTEXT, DATA_AT);
    a.copy(Reg::R3, Reg::R1);
    a.add(Reg::R3, METADATA as i32);
    a.jump_if_registers(Reg::R3, Condition::Above, Reg::R2, go);
    a.store(Size::Double, Reg::R1, 0, KERNEL);
    a.store(Size::Double, Reg::R1, 8, CARD);
    a.place(go);
}
