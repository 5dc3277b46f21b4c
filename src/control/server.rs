//! The control thread: one tokio runtime of one thread that accepts and answers.
//!
//! Takes: [`Config`] and [`Handles`]. Gives: [`Server`], which listens until it is dropped. Holds: bounded
//! in connections (the newest displaces the oldest), in their time, in the size of a request, and in
//! helper threads; nobody outside can hold it up.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::control::hosts::Hosts;
use crate::control::listen::{self, SocketFile};
use crate::control::routes::{Door, Room, answer};
use crate::control::{Config, Error, Handles, Socket};

/// Connections per door; one more displaces the oldest, so that slow clients can't lock out a health check.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take over a request's head; also how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// After this a connection is told to close, and cut when it does not within [`GRACE`].
const MAX_AGE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(5);
/// Largest request head; hyper takes no smaller one.
const MAX_HEAD: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// Threads for snapshots and reloads. What they read is cheap, so two are enough.
pub(crate) const HELPERS: usize = 2;
/// How long a stop waits for a helper that is still at work.
const STOP_WAIT: Duration = Duration::from_secs(1);
/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control endpoints, open until this is dropped.
#[derive(Debug)]
pub struct Server {
    address: Option<SocketAddr>,
    socket: Option<SocketFile>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// The doors, open, with nobody yet to answer.
#[derive(Debug)]
pub struct Doors {
    tcp: Option<std::net::TcpListener>,
    unix: Option<std::os::unix::net::UnixListener>,
    socket: Option<SocketFile>,
    hosts: Hosts,
}

impl Doors {
    /// Opens the doors for a sensor that writes to `output`. Both may be off.
    ///
    /// # Errors
    /// When a door can't be opened: the message says which, why, and what to do. A socket whose place nobody chose
    /// is no reason not to start: the log says that there is none.
    pub fn open(config: &Config, output: &Path) -> Result<Self, Error> {
        let tcp = config.listen.map(listen::tcp).transpose()?;
        let beyond = config.listen.filter(|address| !address.ip().is_loopback());
        if let Some(address) = beyond {
            tracing::warn!(%address, "Control listens beyond this machine: whoever reaches the port may read health, metrics and status.");
        }
        let (unix, socket) = open_socket(config, output)?.unzip();
        let hosts = Hosts::new(&config.hosts);
        Ok(Self {
            tcp,
            unix,
            socket,
            hosts,
        })
    }

    /// Starts answering; nothing is started where both doors are off.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn serve(self, handles: Handles) -> Result<Server, Error> {
        let Self {
            tcp,
            unix,
            socket,
            hosts,
        } = self;
        let address = tcp.as_ref().and_then(|l| l.local_addr().ok());
        let stop = CancellationToken::new();
        let thread = if tcp.is_some() || unix.is_some() {
            let room = Arc::new(Room::new(handles, hosts));
            Some(spawn((tcp, unix), room, stop.clone()).map_err(Error::Thread)?)
        } else {
            None
        };
        Ok(Server {
            address,
            socket,
            stop,
            thread,
        })
    }
}

impl Server {
    /// Opens the doors and starts answering.
    ///
    /// # Errors
    /// As for [`Doors::open`] and [`Doors::serve`].
    pub fn start(config: &Config, output: &Path, handles: Handles) -> Result<Self, Error> {
        Doors::open(config, output)?.serve(handles)
    }

    /// The TCP address that was bound, with the port that the kernel chose where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(SocketFile::path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open_socket(
    config: &Config,
    output: &Path,
) -> Result<Option<(std::os::unix::net::UnixListener, SocketFile)>, Error> {
    let path = config.socket_path(output);
    match path.as_deref().map(listen::unix).transpose() {
        Err(error) if config.socket == Socket::Auto => {
            tracing::warn!(%error, "There is no control socket: reload with SIGHUP.");
            Ok(None)
        }
        other => other,
    }
}

type Listeners = (
    Option<std::net::TcpListener>,
    Option<std::os::unix::net::UnixListener>,
);

fn spawn(doors: Listeners, room: Arc<Room>, stop: CancellationToken) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(HELPERS)
        .thread_name("control-helper")
        .build()?;
    let thread = std::thread::Builder::new().name("control".into());
    thread.spawn(move || {
        if let Err(error) = runtime.block_on(serve(doors, room, stop)) {
            tracing::error!(%error, "The control endpoints could not be served.");
        }
        runtime.shutdown_timeout(STOP_WAIT);
    })
}

async fn serve((tcp, unix): Listeners, room: Arc<Room>, stop: CancellationToken) -> io::Result<()> {
    if let Some(listener) = tcp {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(accept_tcp(listener, Arc::clone(&room)));
    }
    if let Some(listener) = unix {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        tokio::spawn(accept_unix(listener, room));
    }
    stop.cancelled().await;
    Ok(())
}

async fn accept_tcp(listener: tokio::net::TcpListener, room: Arc<Room>) {
    let mut clients = Clients::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => clients.admit(stream, &room, Door::Tcp),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_unix(listener: tokio::net::UnixListener, room: Arc<Room>) {
    let mut clients = Clients::default();
    let own = std::fs::metadata("/proc/self").map(|of| of.uid()).ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = stream.peer_cred().map(|peer| peer.uid());
                let trusted = peer.is_ok_and(|uid| uid == 0 || Some(uid) == own);
                clients.admit(stream, &room, Door::Unix { trusted });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The connections of one door, oldest first; never more than [`MAX_CONNECTIONS`].
#[derive(Default)]
struct Clients(VecDeque<AbortHandle>);

impl Clients {
    fn admit<S>(&mut self, stream: S, room: &Arc<Room>, door: Door)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.0.retain(|client| !client.is_finished());
        if self.0.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        let client = tokio::spawn(converse(stream, Arc::clone(room), door));
        self.0.push_back(client.abort_handle());
    }
}

/// Answers on one connection until it ends, is idle too long, or gets too old.
async fn converse<S>(stream: S, room: Arc<Room>, door: Door)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(Arc::clone(&room), door, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    if timeout(MAX_AGE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    }
}
