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
        })
    }

    /// What is known of the socket; stays readable while a receiver owns the source.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts)
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
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn buffer(bytes: u64) -> Config {
        Config {
            receive_buffer: crate::units::Size(bytes),
            ..Config::default()
        }
    }

    fn one(listen: &str) -> Udp {
        bind(listen.parse().unwrap(), 1, &buffer(1 << 20))
            .unwrap()
            .pop()
            .unwrap()
    }

    fn sender(to: &Udp) -> UdpSocket {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(("127.0.0.1", to.address.port())).unwrap();
        sender
    }

    #[test]
    fn a_port_in_use_is_refused_also_with_several_sockets() {
        let first = one("127.0.0.1:0");
        for count in [1, 2] {
            let error = bind(first.address, count, &buffer(1 << 20)).unwrap_err();
            assert!(matches!(error, Error::InUse(_)), "{error}");
        }
    }

    #[test]
    fn several_sockets_share_a_port() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3, &buffer(1 << 20)).unwrap();
        let port = sockets[0].address.port();
        assert!(port != 0 && sockets.iter().all(|s| s.address.port() == port));
    }

    #[test]
    fn a_dual_stack_socket_gives_ipv4_sources_as_ipv4_and_ipv6_as_ipv6() {
        let mut udp = one("[::]:0");
        sender(&udp).send(b"four").unwrap();
        let six = UdpSocket::bind("[::1]:0").unwrap();
        six.send_to(b"six", ("::1", udp.address.port())).unwrap();
        let mut batch = udp.new_batch(0);
        assert_eq!(udp.receive(&mut batch).unwrap(), Received::Some);
        let sources: Vec<String> = batch
            .datagrams
            .iter()
            .map(|d| d.source.to_string())
            .collect();
        assert_eq!(sources, ["127.0.0.1", "::1"]);
    }

    #[test]
    fn the_largest_datagram_arrives_whole() {
        let mut udp = one("127.0.0.1:0");
        sender(&udp).send(&[7; 65_507]).unwrap();
        let mut batch = udp.new_batch(0);
        assert_eq!(udp.receive(&mut batch).unwrap(), Received::Some);
        let d = batch.datagrams[0];
        assert_eq!(batch.bytes(d.start, d.len), [7; 65_507]);
    }

    #[test]
    fn received_and_kernel_drops_make_up_all_that_was_sent() {
        let mut udp = bind("127.0.0.1:0".parse().unwrap(), 1, &buffer(8192))
            .unwrap()
            .pop()
            .unwrap();
        let sender = sender(&udp);
        let (mut sent, mut received) = (0, 0);
        let mut batch = udp.new_batch(0);
        for _ in 0..20 {
            for _ in 0..100 {
                sent += u64::from(sender.send(&[1; 300]).is_ok());
            }
            udp.receive(&mut batch).unwrap();
            received += batch.datagrams.len() as u64;
            batch.clear();
        }
        udp.stop();
        while udp.receive(&mut batch).unwrap() != Received::End {
            received += batch.datagrams.len() as u64;
            batch.clear();
        }
        assert!(
            udp.facts.lost_at(place::SOCKET) > 0,
            "nothing was dropped: the test shows nothing"
        );
        assert_eq!(received + udp.facts.lost_at(place::SOCKET), sent);
    }

    #[test]
    fn what_had_arrived_before_the_stop_is_still_given_and_later_ones_are_counted() {
        let mut udp = one("127.0.0.1:0");
        let sender = sender(&udp);
        for _ in 0..300 {
            sender.send(b"before").unwrap();
        }
        udp.stop();
        for _ in 0..10 {
            sender.send(b"after").unwrap();
        }
        let (mut batch, mut received) = (udp.new_batch(0), 0);
        while udp.receive(&mut batch).unwrap() != Received::End {
            received += batch.datagrams.len();
            batch.clear();
        }
        assert_eq!((received, udp.facts.lost_at(place::AFTER_STOP)), (300, 10));
        assert_eq!(udp.facts.lost_at(place::SOCKET), 0);
    }
}
