//! Where windows of packets go: the sockets of all source ports, or a pcap file.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::capfile::{LinkType, MAX_FRAME, Precision, encode};
use crate::generator::port;
use crate::generator::report::Account;
use crate::generator::window::{Item, Window};
use crate::generator::{Counters, Destination, Error, Failure, Options, Outer};
use crate::sys::send::{BATCH, Place, Socket};

/// How long to wait for the kernel to have buffers again.
const NAP: Duration = Duration::from_micros(200);
/// A file is written in pieces of about this size.
const PIECE: usize = 1 << 20;

/// Takes windows.
#[derive(Debug)]
pub(crate) enum Output {
    Network(Sockets),
    File(Box<OuterFile>),
}

impl Output {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        match &options.destination {
            Destination::Network => Sockets::open(options).map(Self::Network),
            Destination::File(path) => {
                OuterFile::create(path, options).map(|file| Self::File(Box::new(file)))
            }
        }
    }

    /// Sends or writes the whole window, and counts it.
    pub(crate) fn put(
        &mut self,
        window: &mut Window,
        account: &mut Account,
        counters: &Counters,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        match self {
            Self::Network(sockets) => {
                for (items, places, buffer) in window.runs() {
                    let run = Run {
                        items,
                        places,
                        buffer,
                        stop,
                    };
                    sockets.send(&run, account, counters);
                }
            }
            Self::File(file) => file.write(window, account)?,
        }
        account.publish(counters);
        Ok(())
    }

    /// Writes out what is still held back.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        match self {
            Self::Network(_) => Ok(()),
            Self::File(file) => file.flush(),
        }
    }

    /// How many of the 128 source ports are in use.
    pub(crate) const fn source_ports(&self) -> usize {
        match self {
            Self::Network(sockets) => sockets.right,
            Self::File(_) => 0,
        }
    }
}

/// One socket for each source port.
#[derive(Debug)]
pub(crate) struct Sockets {
    sockets: Vec<Socket>,
    /// How many have the port that the hash asks for.
    right: usize,
}

/// Packets of one source port.
struct Run<'a> {
    items: &'a [Item],
    places: &'a [Place],
    buffer: &'a [u8],
    stop: &'a AtomicBool,
}

impl Sockets {
    /// A port that is taken is replaced by any free one; where not even that can be had (file
    /// descriptors ran out), flows share sockets.
    fn open(options: &Options) -> Result<Self, Error> {
        let to = options.to;
        let from = match options.source {
            Some(source) => source,
            None => route_to(to)?,
        };
        if from.is_ipv4() != to.is_ipv4() {
            return Err(Error::Family { from, to });
        }
        let mut sockets = Vec::with_capacity(port::COUNT);
        let (mut right, mut failure) = (0, None);
        for slot in 0..port::COUNT as u16 {
            let open = |port| Socket::open(SocketAddr::new(from, port), to, options.checksum);
            match open(port::FIRST | slot) {
                Ok(socket) => {
                    right += 1;
                    sockets.push(socket);
                }
                Err(_) => match open(0) {
                    Ok(socket) => sockets.push(socket),
                    Err(error) => failure = Some(error),
                },
            }
        }
        match failure {
            Some(source) if sockets.is_empty() => Err(Error::Socket { from, to, source }),
            _ => Ok(Self { sockets, right }),
        }
    }

    fn send(&self, run: &Run<'_>, account: &mut Account, counters: &Counters) {
        let slot = run.items.first().map_or(0, |item| usize::from(item.slot));
        let socket = &self.sockets[slot % self.sockets.len()];
        let mut done = 0;
        while let Some(places) = run.places.get(done..).filter(|rest| !rest.is_empty()) {
            let batch = &places[..places.len().min(BATCH)];
            match socket.send(run.buffer, batch) {
                Ok(sent) => {
                    if sent < batch.len() {
                        counters.fail(Failure::CutShort);
                    }
                    account.sent(&run.items[done..done + sent]);
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let failure = Failure::of(&error);
                    counters.fail(failure);
                    if !failure.is_passing() {
                        counters.unsent.add(1);
                        done += 1;
                    } else if run.stop.load(Ordering::Relaxed) {
                        counters.unsent.add(places.len() as u64);
                        return;
                    } else if failure == Failure::NoRoom {
                        std::thread::sleep(NAP);
                    }
                }
            }
        }
    }
}

/// The address of this machine that the kernel would send from.
fn route_to(to: SocketAddr) -> Result<IpAddr, Error> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let ask = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.local_addr()
    };
    let from = ask().map_err(|source| Error::Socket {
        from: any,
        to,
        source,
    })?;
    Ok(from.ip())
}

/// A pcap file of outer packets.
pub(crate) struct OuterFile {
    path: PathBuf,
    file: Box<dyn Write + Send>,
    outer: Outer,
    packet: Vec<u8>,
    pending: Vec<u8>,
}

impl fmt::Debug for OuterFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OuterFile")
            .field("path", &self.path)
            .field("outer", &self.outer)
            .finish_non_exhaustive()
    }
}

impl OuterFile {
    fn create(path: &Path, options: &Options) -> Result<Self, Error> {
        let made_up: IpAddr = if options.to.is_ipv4() {
            Ipv4Addr::new(10, 0, 1, 10).into()
        } else {
            Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 10).into()
        };
        let (from, to) = (options.source.unwrap_or(made_up), options.to);
        let outer = Outer::new(from, to).ok_or(Error::Family { from, to })?;
        let path = path.to_owned();
        let file: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            match File::create(&path) {
                Ok(file) => Box::new(file),
                Err(source) => return Err(Error::Write { path, source }),
            }
        };
        let mut pending = Vec::with_capacity(2 * PIECE);
        let snaplen = MAX_FRAME as u32;
        encode::pcap_header(&mut pending, Precision::Nanos, snaplen, LinkType::ETHERNET);
        Ok(Self {
            path,
            file,
            outer,
            packet: Vec::new(),
            pending,
        })
    }

    fn write(&mut self, window: &Window, account: &mut Account) -> Result<(), Error> {
        for item in &window.items {
            let payload = item.place.of(&window.buffer).unwrap_or_default();
            self.packet.clear();
            let port = port::FIRST | u16::from(item.slot);
            self.outer.append(port, payload, &mut self.packet);
            let len = self.packet.len() as u32;
            encode::pcap_record(
                &mut self.pending,
                Precision::Nanos,
                item.time,
                &self.packet,
                len,
            );
            if self.pending.len() >= PIECE {
                self.flush()?;
            }
        }
        account.sent(&window.items);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self
            .file
            .write_all(&self.pending)
            .and_then(|()| self.file.flush());
        self.pending.clear();
        written.map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })
    }
}
