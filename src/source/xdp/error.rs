//! Why an interface can't be read by AF_XDP, and what to do.

use std::io;

use crate::source::interfaces;
use crate::sys::bpf;
use crate::sys::xsk;

/// Why there is no AF_XDP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Which interface.
    #[error(transparent)]
    Interface(#[from] interfaces::Error),
    /// Not on this one.
    #[error("cannot read {interface} by AF_XDP: {reason}")]
    Refused {
        /// Its name.
        interface: String,
        /// Why.
        reason: Reason,
    },
}

/// Why an interface can't be read by AF_XDP.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The interface can't be asked.
    #[error("{step}: {error} (`ip link` lists what there is)")]
    Unknown {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A capability is missing.
    #[error(
        "not permitted: it takes CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF (systemd: AmbientCapabilities=; else run as root)"
    )]
    Forbidden,
    /// Another program is in the way.
    #[error(
        "another XDP program is on the interface (`ip link show` names it; `ip link set dev … xdp off` removes it)"
    )]
    Occupied,
    /// Packets may be larger than a frame, and can't come in several.
    #[error(
        "the MTU of {mtu} is more than the {most} that a frame holds, and driver or kernel (Linux 6.6 has it) can't spread packets over several; lower the MTU or take source = \"packet\""
    )]
    Mtu {
        /// That of the interface.
        mtu: u32,
        /// What would do.
        most: u32,
    },
    /// A socket could not be had.
    #[error("cannot open an AF_XDP socket on queue {queue}: {error}{}", advice(.error))]
    Queue {
        /// The receive queue.
        queue: u32,
        /// The step, and what the system said.
        error: xsk::Error,
    },
    /// The kernel has no function that asks for the card's time.
    #[error("this kernel cannot ask the driver for receive times (Linux 6.3 can)")]
    NoCardTime,
    /// The driver did not take the program.
    #[error(
        "the driver does not take the program: {0} (many have no XDP; some need half of their queues free for it: `ethtool -L … combined`, or large receive offload off: `ethtool -K … lro off`)"
    )]
    Driver(bpf::Error),
    /// The kernel refused the program.
    #[error("cannot redirect packets: {0} (Linux 6.1 or newer is needed)")]
    Program(bpf::Error),
    /// The program could not be put together: more addresses than it has reach.
    #[error("too many listening addresses: {0}")]
    TooLong(#[from] bpf::Unplaced),
    /// The kernel's clocks could not be compared.
    #[error(
        "cannot ask how far TAI is from UTC: {0} (clock_adjtime(2) must be allowed, which changes nothing here)"
    )]
    Clock(io::Error),
}

impl Reason {
    /// Whether no other way of doing the same could succeed.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Forbidden | Self::Occupied | Self::TooLong(_) => true,
            Self::Queue { error, .. } => matches!(
                error.error.raw_os_error(),
                Some(libc::EPERM | libc::EACCES | libc::ENOBUFS | libc::ENOMEM | libc::EBUSY)
            ),
            _ => false,
        }
    }
}

impl From<bpf::Error> for Reason {
    fn from(error: bpf::Error) -> Self {
        match error.number() {
            Some(libc::EPERM | libc::EACCES) if error.log.is_empty() => Self::Forbidden,
            Some(libc::EBUSY | libc::EEXIST) => Self::Occupied,
            _ => Self::Program(error),
        }
    }
}

/// What to do about a socket's error.
fn advice(error: &xsk::Error) -> &'static str {
    match error.error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (it takes CAP_NET_RAW)",
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            " (systemd: LimitMEMLOCK=infinity, or CAP_IPC_LOCK; or a smaller receive_buffer)"
        }
        Some(libc::EBUSY) => " (another AF_XDP socket has the queue)",
        Some(libc::EAFNOSUPPORT) => " (this kernel is built without CONFIG_XDP_SOCKETS)",
        _ => "",
    }
}
