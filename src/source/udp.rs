//! UDP sockets: the source that needs no privilege.
//!
//! Takes: an address to listen on. Gives: batches of datagrams with kernel receive times, straight from
//! `recvmmsg` into the batch's arena. Holds: the kernel's drop count is followed from both places that tell it
//! (`SO_RXQ_OVFL` with each datagram, `SO_MEMINFO` at any time), and after [`Source::stop`] everything that had
//! arrived is still given before the end is told.
//!
//! **Waking.** While packets come in numbers the reader naps between its calls (see `naps`), for most of the latency that it may
//! cost, and lets the socket's buffer collect; a full batch is followed by the next call at once. When only single packets have come for
//! a few calls, it waits plainly for the next.
//!
//! **Slots.** A slot is as large as the largest datagram (65,535 bytes), but memory is touched only as far as
//! datagrams reach, so a batch of ordinary packets costs a page or two for each. The odd part of the
//! stride spreads slot starts over the cache's sets.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{Batch, Datagram, DropReason};
use crate::source::naps::Naps;
use crate::source::watermark::Watermark;
use crate::source::{
    Clock, Config, DRAIN, Facts, Kind, LONGEST_LATENCY, Received, Source, Timestamps, interfaces,
    place,
};
use crate::sys::recv::{Message, Messages};
use crate::sys::sockopt;
use crate::time::{self, Monotonic, Timestamp};

/// Datagrams a batch, at most. Beyond 64 nothing is gained for the socket (measured).
pub const SLOTS: usize = 128;
/// Bytes from one slot to the next.
const STRIDE: usize = 65_536 + 9 * 64;
/// How long a call waits for the first datagram.
const WAIT: Duration = Duration::from_millis(20);
/// What of the latency is left for reading what a nap has gathered, and for waking up late.
const MARGIN: Duration = Duration::from_micros(350);
/// Calls between two readings of `SO_MEMINFO` under load.
const MEM_INFO_EVERY: u32 = 64;

/// Why a socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {0}: the port is in use (`ss -ulnp` shows by whom; a kernel vxlan device counts)"
    )]
    InUse(SocketAddr),
    /// Anything else, with the step that failed.
    #[error("cannot listen on {address}: {step}: {error}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// One socket of an address.
#[derive(Debug)]
pub struct Udp {
    socket: Socket,
    address: SocketAddr,
    messages: Messages,
    facts: Arc<Facts>,
    /// Whether the network card's times are expected.
    has_card_times: bool,
    drops: u32,
    watermark: Watermark,
    last_len: usize,
    naps: Naps,
    calls: u32,
    /// When the stop was asked for.
    stopping: Option<Monotonic>,
    /// Whether the socket outlives the process: then what is in it at the stop is the next one's.
    outlives: bool,
}

/// Binds `count` sockets to one address, for one receiver thread each.
///
/// # Errors
/// The port is in use, or a step failed. One socket is bound alone first: `SO_REUSEPORT` would otherwise
/// share the port with another sensor of the same user and each would see a part of the traffic.
pub fn bind(address: SocketAddr, count: usize, config: &Config) -> Result<Vec<Udp>, Error> {
    if count > 1 {
        let alone = open(address, false)?;
        // port 0 is for tests: keep the number that the kernel chose
        let address = local(&alone, address)?;
        drop(alone);
        return (0..count)
            .map(|_| Udp::new(open(address, true)?, address, config))
            .collect();
    }
    let socket = open(address, false)?;
    let address = local(&socket, address)?;
    Ok(vec![Udp::new(socket, address, config)?])
}

/// Makes sources of sockets that are bound to an address already.
///
/// # Errors
/// A step failed.
pub fn adopt(
    sockets: Vec<Socket>,
    address: SocketAddr,
    config: &Config,
) -> Result<Vec<Udp>, Error> {
    let each = sockets.into_iter();
    each.map(|socket| Udp::adopt(socket, address, config))
        .collect()
}

fn open(address: SocketAddr, share: bool) -> Result<Socket, Error> {
    let socket = unbound(address)?;
    if share {
        socket
            .set_reuse_port(true)
            .map_err(failed(address, "SO_REUSEPORT"))?;
    }
    bind_to(&socket, address)?;
    Ok(socket)
}

/// A socket for the family of `address`, both families for an IPv6 one.
pub(super) fn unbound(address: SocketAddr) -> Result<Socket, Error> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP));
    let socket = socket.map_err(failed(address, "socket"))?;
    if address.is_ipv6() {
        let both = socket.set_only_v6(false);
        both.map_err(failed(address, "IPV6_V6ONLY"))?;
    }
    Ok(socket)
}

pub(super) fn bind_to(socket: &Socket, address: SocketAddr) -> Result<(), Error> {
    match socket.bind(&address.into()) {
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Err(Error::InUse(address)),
        bound => bound.map_err(failed(address, "bind")),
    }
}

fn failed(address: SocketAddr, step: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::Socket {
        address,
        step,
        error,
    }
}

/// Asked of the interfaces only where the card's times are wanted.
fn clock(config: &Config) -> Clock {
    let found = match config.timestamps {
        Timestamps::Kernel => Vec::new(),
        Timestamps::Hardware => interfaces::find(config).unwrap_or_else(|error| {
            tracing::warn!(%error, "Packets have the kernel's times.");
            Vec::new()
        }),
    };
    interfaces::clock(config, &found)
}

fn local(socket: &Socket, asked: SocketAddr) -> Result<SocketAddr, Error> {
    Ok(socket
        .local_addr()
        .map_err(failed(asked, "getsockname"))?
        .as_socket()
        .unwrap_or(asked))
}

impl Udp {
    fn new(socket: Socket, address: SocketAddr, config: &Config) -> Result<Self, Error> {
        let failed = |step| failed(address, step);
        let buffer = config.receive_buffer;
        let asked = usize::try_from(buffer.0).unwrap_or(usize::MAX);
        if sockopt::force_receive_buffer(socket.as_fd(), asked).is_err() {
            socket
                .set_recv_buffer_size(asked)
                .map_err(failed("SO_RCVBUF"))?;
        }
        let clock = clock(config);
        match clock {
            Clock::Kernel => sockopt::receive_times(socket.as_fd()),
            Clock::Hardware => sockopt::receive_card_times(socket.as_fd()),
        }
        .map_err(failed("SO_TIMESTAMPNS"))?;
        sockopt::receive_drop_counts(socket.as_fd()).map_err(failed("SO_RXQ_OVFL"))?;
        if address.is_ipv6() {
            sockopt::accept_zero_checksum6(socket.as_fd()).map_err(failed("UDP_NO_CHECK6_RX"))?;
        }
        socket
            .set_read_timeout(Some(WAIT))
            .map_err(failed("SO_RCVTIMEO"))?;
        // socket(7): "The kernel doubles this value ... to allow space for bookkeeping overhead"
        let granted = socket.recv_buffer_size().map_err(failed("SO_RCVBUF"))? / 2;
        let places = [place::SOCKET, place::AFTER_STOP];
        let facts = Facts {
            listen: vec![address],
            mode: "recvmmsg".to_owned(),
            clock,
            buffer_asked: buffer.0,
            buffer_granted: granted as u64,
            ..Facts::new(Kind::Udp, address.to_string(), &places)
        };
        let latency = config.latency.duration().min(LONGEST_LATENCY);
        Ok(Self {
            socket,
            address,
            messages: Messages::new(SLOTS),
            facts: Arc::new(facts),
            has_card_times: clock == Clock::Hardware,
            drops: 0,
            watermark: Watermark::new(Clock::Kernel, Duration::ZERO, &Arc::default()),
            last_len: 0,
            naps: Naps::of(latency.saturating_sub(MARGIN)),
            calls: 0,
            stopping: None,
            outlives: false,
        })
    }

    /// What is known of the socket; stays readable while a receiver owns the source.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts)
    }

    /// Over a socket that the service manager has bound and passed, and keeps.
    fn adopt(socket: Socket, address: SocketAddr, config: &Config) -> Result<Self, Error> {
        let failed = |step| failed(address, step);
        // a filter that an earlier process has left would refuse everything; mostly there is none, which is an error
        if let Err(error) = socket.detach_filter()
            && error.kind() == std::io::ErrorKind::PermissionDenied
        {
            return Err(failed("SO_DETACH_FILTER")(error));
        }
        socket
            .set_nonblocking(false)
            .map_err(failed("O_NONBLOCK"))?;
        let mut udp = Self::new(socket, address, config)?;
        udp.outlives = true;
        // what it dropped before is in the ledger of whoever had it then, as far as they saw it
        udp.drops = sockopt::mem_info(udp.socket.as_fd()).map_or(0, |info| info.drops);
        if udp.drops > 0 {
            tracing::info!(%address, datagrams = udp.drops, "The passed socket has dropped datagrams since it was made; they are not counted again.");
        }
        Ok(udp)
    }

    /// The socket will be there when this process has ended, because somebody gets this descriptor of it: what comes after the stop waits
    /// for the next.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn keep(&mut self) -> std::io::Result<std::os::fd::OwnedFd> {
        let kept = self.descriptor()?;
        self.outlives = true;
        Ok(kept)
    }

    /// Whether it was passed, or is kept.
    pub fn outlives(&self) -> bool {
        self.outlives
    }

    /// From now on a call takes what is there and waits for nothing: somebody else does.
    pub(super) fn never_wait(&mut self) -> std::io::Result<()> {
        self.naps = Naps::of(Duration::ZERO);
        self.socket.set_nonblocking(true)
    }

    /// Its socket, for somebody else to wait for.
    pub(super) fn descriptor(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Follows the kernel's drop count. It is cumulative and wraps; one that came with a datagram may be older
    /// than one read from `SO_MEMINFO`, and then says nothing new.
    fn note_drops(&mut self, drops: u32) {
        let new = drops.wrapping_sub(self.drops);
        if new != 0 && new < u32::MAX / 2 {
            self.drops = drops;
            let place = if self.stopping.is_some() {
                place::AFTER_STOP
            } else {
                place::SOCKET
            };
            self.facts.lose(place, u64::from(new));
        }
    }

    fn look_at_memory(&mut self) -> Option<sockopt::MemInfo> {
        let info = sockopt::mem_info(self.socket.as_fd()).ok()?;
        self.facts.queued.set(u64::from(info.queued));
        self.note_drops(info.drops);
        Some(info)
    }

    fn rest(&mut self) {
        let is_free = self.last_len < SLOTS && self.stopping.is_none();
        self.naps.rest(self.last_len, is_free);
    }

    fn nothing(&mut self, batch: &mut Batch) -> Received {
        self.look_at_memory();
        self.last_len = 0;
        batch.order = self.watermark.after_nothing();
        if self.stopping.is_some() {
            Received::End
        } else {
            Received::Nothing
        }
    }

    fn take(&mut self, batch: &mut Batch, n: usize) {
        self.last_len = n;
        let port = self.address.port();
        let (mut drops, mut stray_times) = (None, 0);
        for (slot, message) in self.messages.messages().enumerate() {
            drops = message.drops.or(drops);
            let stamp = |told: Option<(u64, u32)>| {
                told.map_or_else(time::now, |(s, ns)| Timestamp::from_parts(s, ns))
            };
            let time = stamp(message.time);
            // the order is the kernel's, also where a card says the time: cards differ, and not every packet has theirs
            let order = self.watermark.see(stamp(message.kernel_time), false);
            stray_times += u64::from(message.is_card_time != self.has_card_times);
            put(batch, slot, message, port, (time, order));
        }
        self.facts.count_stray_times(stray_times);
        if let Some(drops) = drops {
            self.note_drops(drops);
        }
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(MEM_INFO_EVERY) {
            self.look_at_memory();
        }
        batch.order = self.watermark.after_some();
    }
}

fn put(
    batch: &mut Batch,
    slot: usize,
    message: Message,
    port: u16,
    (time, order): (Timestamp, u64),
) {
    match message.source {
        Some(source) if !message.truncated => batch.datagrams.push(Datagram {
            start: (slot * STRIDE) as u32,
            len: message.len as u32,
            cut: 0,
            source,
            port,
            time,
            order,
        }),
        Some(_) => batch.refuse(DropReason::DatagramTruncated, message.len),
        None => batch.refuse(DropReason::OuterMalformed, message.len),
    }
}

impl Source for Udp {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        if self
            .stopping
            .is_some_and(|since| time::monotonic().since(since) > DRAIN)
        {
            tracing::warn!(address = %self.address, "The socket was still not empty; what is in it is lost.");
            return Ok(self.nothing(batch));
        }
        if self.outlives && self.stopping.is_some() {
            return Ok(self.nothing(batch));
        }
        self.rest();
        match self
            .messages
            .receive(self.socket.as_fd(), batch.arena_mut(), STRIDE)
        {
            Ok(0) => Ok(self.nothing(batch)),
            Ok(n) => {
                self.take(batch, n);
                Ok(Received::Some)
            }
            Err(e) if matches!(e.kind(), WouldBlock | TimedOut) => Ok(self.nothing(batch)),
            Err(e) if e.kind() == Interrupted => {
                batch.order = self.watermark.after_some();
                Ok(Received::Nothing)
            }
            Err(e) => Err(e),
        }
    }

    /// Half of the socket's buffer in use: time to read and throw away by name, before the kernel does so
    /// without one.
    fn under_pressure(&mut self) -> bool {
        self.look_at_memory()
            .is_none_or(|info| info.queued >= info.limit / 2)
    }

    fn runs_away(&self) -> bool {
        true
    }

    /// Lets the kernel refuse what comes from now on (it counts that), and reads what has arrived without waiting.
    fn stop(&mut self) {
        if self.stopping.is_none() {
            self.look_at_memory();
            self.stopping = Some(time::monotonic());
            if self.outlives {
                let bytes = self.facts.queued.value();
                tracing::info!(address = %self.address, bytes, "What is in the socket waits for the next start.");
                return;
            }
            // without the filter the queue could refill as fast as it is emptied: `DRAIN` bounds that
            let refused = sockopt::refuse_all(self.socket.as_fd());
            if refused.and(self.socket.set_nonblocking(true)).is_err() {
                tracing::warn!(address = %self.address, "Could not close the socket to new datagrams.");
            }
        }
    }

    fn new_batch(&self, receiver: u16) -> Batch {
        Batch::new(receiver, SLOTS, SLOTS * STRIDE)
    }
}

#[cfg(test)]
mod tests;
