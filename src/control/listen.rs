//! The two doors: a TCP listener and a Unix socket that only the owner may open.
//!
//! Takes: an address, a path. Gives: bound listeners. Holds: a file that is not a dead socket of ours is
//! never replaced; the socket is private (mode 0600) from the moment it has its name; it is removed at the
//! end only while it is still the one that was made.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Why the control endpoints could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TCP address could not be bound.
    #[error(
        "cannot listen on {address} for health, metrics and status: {source}; give another address in `control.listen`, or \"off\""
    )]
    Tcp {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The Unix socket could not be made.
    #[error("cannot make the control socket {}: {source}; give another path in `control.socket`, or \"off\"", path.display())]
    Unix {
        /// The path asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process answers on the Unix socket.
    #[error("another process answers on the control socket {}: is mirrortap running already? Stop it, or give another path in `control.socket`", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has the name of the Unix socket.
    #[error("{} exists and is no socket: move it away, or give another path in `control.socket`", .0.display())]
    NotASocket(PathBuf),
    /// The control thread could not be started.
    #[error("cannot start the control thread: {0}")]
    Thread(#[source] io::Error),
}

/// Binds the TCP listener.
pub(crate) fn tcp(address: SocketAddr) -> Result<TcpListener, Error> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| Error::Tcp { address, source })
}

/// Makes the Unix socket: bound under a hidden name, made private, then renamed, so that nobody can
/// connect to it in between and a dead socket of an earlier run is replaced in one step.
pub(crate) fn unix(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    refuse_living(path)?;
    let hidden = hidden_name(path);
    let bind = || {
        remove_if_there(&hidden)?;
        let listener = UnixListener::bind(&hidden)?;
        std::fs::set_permissions(&hidden, PermissionsExt::from_mode(0o600))?;
        std::fs::rename(&hidden, path)?;
        listener.set_nonblocking(true)?;
        Ok((listener, SocketFile::new(path)?))
    };
    bind().map_err(|source| {
        let _ = std::fs::remove_file(&hidden);
        let path = path.to_path_buf();
        Error::Unix { path, source }
    })
}

/// `.name.pid` in the same folder.
fn hidden_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Refuses to go on when `path` is anything but absent or a socket that nobody answers on.
fn refuse_living(path: &Path) -> Result<(), Error> {
    let Ok(there) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !there.file_type().is_socket() {
        return Err(Error::NotASocket(path.to_path_buf()));
    }
    match knock(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // somebody listens, and has no room for another caller: a stopped sensor, say
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::InUse(path.to_path_buf())),
        Ok(()) => Err(Error::InUse(path.to_path_buf())),
        Err(source) => {
            let path = path.to_path_buf();
            Err(Error::Unix { path, source })
        }
    }
}

/// Connects without waiting for room in the queue of whoever listens.
fn knock(path: &Path) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&socket2::SockAddr::unix(path)?)
}

/// How long the end waits for the socket to be removed.
const REMOVING: std::time::Duration = std::time::Duration::from_secs(1);

/// The socket's name in the file system; taken away when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: whether the name still means the socket that was made.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let path = path.to_path_buf();
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = std::fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

impl Drop for SocketFile {
    /// On a thread of its own: a disk that stands still does not hold up the end, and the socket is made anew anyway.
    fn drop(&mut self) {
        let (path, identity_then) = (std::mem::take(&mut self.path), self.identity);
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let body = move || {
            if identity(&path).is_ok_and(|now| now == identity_then) {
                let _ = std::fs::remove_file(&path);
            }
            drop(done);
        };
        let thread = std::thread::Builder::new().name("socket".to_owned());
        if thread.spawn(body).is_ok() {
            // it says nothing: it ends, or the time is over
            let _ = ended.recv_timeout(REMOVING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn the_socket_is_private_and_gone_when_dropped() {
        let folder = folder();
        let path = folder.path().join("control.sock");
        let (_listener, file) = unix(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let folder = folder();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, _file) = unix(&path).unwrap();
        assert!(matches!(unix(&path), Err(Error::InUse(_))));
        assert!(path.exists());
    }

    #[test]
    fn a_living_socket_whose_queue_is_full_is_not_waited_for() {
        let folder = folder();
        let path = folder.path().join("control.sock");
        let deaf =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        deaf.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        deaf.listen(0).unwrap();
        let _caller = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(matches!(unix(&path), Err(Error::InUse(_))));
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("evidence.pcap");
        std::fs::write(&path, "packets").unwrap();
        assert!(matches!(unix(&path), Err(Error::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "packets");
    }

    #[test]
    fn a_socket_that_somebody_else_made_meanwhile_is_not_removed() {
        let folder = folder();
        let path = folder.path().join("control.sock");
        let (_listener, file) = unix(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn what_cannot_be_bound_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = tcp(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("control.listen"), "{error}");
        let error = unix(Path::new("/proc/nowhere/control.sock")).unwrap_err();
        assert!(error.to_string().contains("control.socket"), "{error}");
    }
}
