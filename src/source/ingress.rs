//! Keeps mirrored datagrams from the network stack once a packet tap has them.
//!
//! Takes: an interface, and the addresses and ports that are listened on. Gives: an [`IngressDrop`], which lasts as long as
//! it is held. Holds: only what a mirrored datagram for this host is exactly (see `matcher`) is dropped, behind the packet
//! taps and before the stack; fragments and everything else go on. The kernel removes the program with the process,
//! however that ended.
//!
//! Without it a packet socket's copy is followed by the kernel's own walk to a port where nobody listens: a lookup and an
//! answer ("port unreachable") for each mirrored packet, sent to the mirror source.

use std::io;
use std::net::SocketAddr;

use crate::source::matcher::{DATA, END, HEADERS, Matcher};
use crate::sys::bpf::{
    Assembler, Attach, Condition, Error as BpfError, Kind, Label, Link, Load, Map, MapKind,
    Program, Reg, Size, Unplaced,
};

/// Where `struct __sk_buff` of linux/bpf.h has them.
const LEN: i16 = 0;
const PACKET_TYPE: i16 = 4;
const DATA_AT: i16 = 76;
const END_AT: i16 = 80;
/// PACKET_HOST of linux/if_packet.h: addressed to this host.
const TO_US: u32 = 0;
/// Verdicts of linux/bpf.h, `enum tcx_action_base`.
const NEXT: i32 = -1;
const DROP: i32 = 2;
/// Helpers of linux/bpf.h.
const PROCESSOR: i32 = 8;
const PULL_DATA: i32 = 39;

/// Counters, each a cache line of its own, so that cores do not wait for each other.
const COUNTERS: u32 = 64;
const LINE: u32 = 64;

/// Why the kernel's own walk could not be switched off. Nothing is lost by it: it costs time, and answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not allowed.
    #[error(
        "not permitted: it takes CAP_BPF and CAP_NET_ADMIN (systemd: AmbientCapabilities=; else run as root)"
    )]
    Forbidden,
    /// The kernel has no tcx hooks.
    #[error(
        "this kernel has no tcx hook (Linux 6.6 has); drop the ports with nftables at ingress instead"
    )]
    OldKernel,
    /// Anything else.
    #[error("{0}")]
    Refused(BpfError),
    /// The program could not be put together: more addresses than it has reach.
    #[error("too many listening addresses: {0}")]
    TooLong(#[from] Unplaced),
}

impl From<BpfError> for Error {
    fn from(error: BpfError) -> Self {
        match (error.number(), error.error.kind()) {
            // with a log it is the verifier who says no
            (_, io::ErrorKind::PermissionDenied) if error.log.is_empty() => Self::Forbidden,
            // a kernel that does not know the hook, or has no bpf(2) at all
            (Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP), _) if error.log.is_empty() => {
                Self::OldKernel
            }
            _ => Self::Refused(error),
        }
    }
}

/// A program at an interface's ingress that drops mirrored datagrams. Dropping it removes it.
#[derive(Debug)]
pub struct IngressDrop {
    counters: Map,
    _link: Link,
}

impl IngressDrop {
    /// Drops what comes to one of `listen` at the interface, from now on.
    ///
    /// # Errors
    /// Not permitted, or the kernel is too old.
    pub fn install(interface: u32, listen: &[SocketAddr]) -> Result<Self, Error> {
        let counters = Map::create(MapKind::Array, COUNTERS * LINE, 1)?;
        let code = assemble(&Matcher::new(listen), counters.descriptor())?;
        let how = Load {
            kind: Kind::Classifier,
            attach: Attach::TcxIngress,
            flags: 0,
            interface: 0,
            name: "mirrortap_drop",
        };
        let program = Program::load(&code.finish()?, how)?;
        let link = program.attach(interface, Attach::TcxIngress, 0)?;
        Ok(Self {
            counters,
            _link: link,
        })
    }

    /// How many packets it has dropped.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub fn dropped(&self) -> Result<u64, Error> {
        let value = self.counters.get(0)?;
        let lines = value.as_chunks::<{ LINE as usize }>().0.iter();
        let counts = lines.filter_map(|line| line.first_chunk().copied());
        Ok(counts.map(u64::from_ne_bytes).sum())
    }
}

fn assemble(matcher: &Matcher, counters: i32) -> Result<Assembler, Error> {
    let mut a = Assembler::new();
    let (other, ready) = (a.label(), a.label());
    let context = Reg::R6;
    a.copy(context, Reg::R1);
    a.load(Size::Word, Reg::R0, context, PACKET_TYPE);
    a.jump_if(Reg::R0, Condition::NotEqual, TO_US, other);
    a.load(Size::Word, DATA, context, DATA_AT);
    a.load(Size::Word, END, context, END_AT);
    a.copy(Reg::R0, DATA);
    a.add(Reg::R0, HEADERS.cast_signed());
    a.jump_if_registers(Reg::R0, Condition::Below, END, ready);
    pull_headers(&mut a, context, other);
    a.place(ready);
    matcher.assemble(&mut a, other);
    count(&mut a, counters);
    a.set(Reg::R0, DROP);
    a.exit();
    a.place(other);
    a.set(Reg::R0, NEXT);
    a.exit();
    Ok(a)
}

/// Headers need not lie in one piece: some drivers leave them in pages. Done for small packets too, which costs them little
/// and is rare: no mirrored frame with its wrapping is as small as that.
fn pull_headers(a: &mut Assembler, context: Reg, other: Label) {
    let whole = a.label();
    a.load(Size::Word, Reg::R2, context, LEN);
    a.jump_if(Reg::R2, Condition::Below, HEADERS, whole);
    a.set(Reg::R2, HEADERS.cast_signed());
    a.place(whole);
    a.copy(Reg::R1, context);
    a.call(PULL_DATA);
    a.jump_if(Reg::R0, Condition::NotEqual, 0, other);
    a.load(Size::Word, DATA, context, DATA_AT);
    a.load(Size::Word, END, context, END_AT);
}

fn count(a: &mut Assembler, counters: i32) {
    a.call(PROCESSOR);
    a.and(Reg::R0, (COUNTERS - 1).cast_signed());
    a.shift_left(Reg::R0, LINE.trailing_zeros().cast_signed());
    a.map_value(Reg::R1, counters);
    a.add_register(Reg::R1, Reg::R0);
    a.set(Reg::R2, 1);
    a.atomic_add(Reg::R1, 0, Reg::R2);
}
