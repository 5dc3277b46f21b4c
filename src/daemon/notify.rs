//! What the service manager is told: `sd_notify(3)`.
//!
//! Takes: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Gives: [`Notify`]. Holds: without a service manager
//! every call does nothing; a message that can't be sent is logged and costs nothing else; who feeds the
//! watchdog decides whether it deserves to be fed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::source::passed;
use crate::sys::sockopt;

/// A service manager that does not read must not hold up the signal loop for longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take to give up what it keeps. One that does not know how to say so costs this once, after a change of addresses.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);

/// The line to the service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notify {
    line: Option<UnixDatagram>,
    interval: Option<Duration>,
}

impl Notify {
    /// To the service manager that started this process.
    pub(super) fn from_env() -> Self {
        let get = |name| std::env::var_os(name);
        let interval = watchdog_interval(
            get("WATCHDOG_USEC"),
            get("WATCHDOG_PID"),
            std::process::id(),
        );
        Self::new(get("NOTIFY_SOCKET"), interval)
    }

    fn new(socket: Option<OsString>, interval: Option<Duration>) -> Self {
        let line = socket.and_then(|name| match open(&name) {
            Ok(line) => Some(line),
            Err(error) => {
                tracing::warn!(%error, socket = ?name, "The service manager cannot be told anything.");
                None
            }
        });
        // without a line there is nobody to be fed for
        let interval = interval.filter(|_| line.is_some());
        Self { line, interval }
    }

    /// Whether the service manager keeps descriptors for the next start. Since systemd 254 it says so (`FDSTORE`).
    pub(super) fn keeps(&self) -> bool {
        let most = std::env::var("FDSTORE")
            .ok()
            .and_then(|n| n.parse::<u32>().ok());
        self.line.is_some() && most.is_some_and(|n| n > 0)
    }

    /// Gives it the sockets to keep, under one name. While the sandbox is still open: descriptors travel by a call that it forbids.
    pub(super) fn keep(&self, sockets: &[OwnedFd]) {
        for socket in sockets {
            let keep = |name: String| {
                let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
                sd_notify::notify_with_fds(&state, &[socket.as_fd()])
            };
            if let Err(error) = passed::name_of(socket).and_then(keep) {
                tracing::warn!(%error, "The service manager does not keep a socket: what comes during a restart is lost.");
            }
        }
    }

    /// Has it give up sockets that it keeps under these names, and waits until it has: until then they take their addresses.
    pub(super) fn give_up(&self, names: &[String]) {
        if names.is_empty() || self.line.is_none() {
            return;
        }
        let told = names.iter().try_for_each(|name| {
            let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
            sd_notify::notify_with_fds(&state, &[])
        });
        if let Err(error) = told.and_then(|()| all_is_done()) {
            tracing::warn!(%error, "The service manager may still keep a socket that is not listened on any more: what it receives is lost.");
        }
    }

    /// Everything is bound and writable; `status` is one line for `systemctl status`. Also ends a reload.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload begins. systemd 253 and newer want the time with it.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// Draining and closing files begins.
    pub(super) fn stopping(&self) {
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("Draining and closing files."),
        ]);
    }

    /// Every thread is alive.
    pub(super) fn watchdog(&self) {
        if self.interval.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How often the watchdog wants to be fed: half the time after which it bites.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.line else {
            return;
        };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, message = message.trim_end(), "The service manager was not told.");
        }
    }
}

/// A path, or with a leading `@` a name in the abstract namespace, which containers like. Connected once and for all: inside the
/// sandbox nobody can be addressed any more.
fn open(name: &OsStr) -> io::Result<UnixDatagram> {
    let manager = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&manager)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

/// Waits until the manager has done all that it was told: it closes its end of a pipe then (sd_notify(3), `BARRIER=1`).
fn all_is_done() -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[writer.as_fd()])?;
    drop(writer);
    match sockopt::poll_in(reader.as_fd(), BARRIER_TIMEOUT)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Half of `WATCHDOG_USEC`, when it is meant for this process.
fn watchdog_interval(usec: Option<OsString>, pid: Option<OsString>, own: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if pid.is_some_and(|pid| number(pid) != Some(own.into())) {
        return None;
    }
    let usec = usec.and_then(number).filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Manager(UnixDatagram);

    impl Manager {
        fn hear(&self) -> String {
            let mut buffer = [0; 1024];
            let n = self.0.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        }

        fn hears_nothing(&self) -> bool {
            self.0.set_nonblocking(true).unwrap();
            let heard = self.0.recv(&mut [0; 16]);
            heard.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
        }
    }

    /// A stand-in for systemd in `folder`, and a line to it.
    fn stand_in(folder: &tempfile::TempDir, interval: Option<Duration>) -> (Manager, Notify) {
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let limit = Some(Duration::from_secs(5));
        socket.set_read_timeout(limit).unwrap();
        (Manager(socket), Notify::new(Some(path.into()), interval))
    }

    #[test]
    fn each_state_is_told_in_the_words_of_sd_notify() {
        let folder = tempfile::tempdir().unwrap();
        let (manager, notify) = stand_in(&folder, Some(Duration::from_secs(1)));
        notify.ready("Receiving.");
        assert_eq!(manager.hear(), "READY=1\nSTATUS=Receiving.\n");
        notify.watchdog();
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
        notify.reloading();
        let reloading = manager.hear();
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(usec.unwrap().trim_end().parse::<u64>().unwrap() > 0);
        notify.stopping();
        assert!(manager.hear().starts_with("STOPPING=1\n"));
    }

    #[test]
    fn an_abstract_name_is_understood() {
        let name = format!("mirrortap-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = Manager(UnixDatagram::bind_addr(&address).unwrap());
        Notify::new(Some(format!("@{name}").into()), None).ready("x");
        assert_eq!(manager.hear(), "READY=1\nSTATUS=x\n");
    }

    #[test]
    fn without_a_watchdog_it_is_not_fed() {
        let folder = tempfile::tempdir().unwrap();
        let (manager, notify) = stand_in(&folder, None);
        notify.watchdog();
        assert!(manager.hears_nothing());
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        let nobody = Notify::new(None, Some(Duration::from_secs(1)));
        nobody.ready("x");
        nobody.stopping();
        assert_eq!(nobody.interval(), None);
        let gone = Notify::new(Some("/nonexistent/notify".into()), None);
        gone.ready("x");
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks_and_only_if_it_means_us() {
        let of = |usec: &str, pid: Option<&str>| {
            watchdog_interval(Some(usec.into()), pid.map(Into::into), 42)
        };
        assert_eq!(of("30000000", None), Some(Duration::from_secs(15)));
        assert_eq!(of("30000000", Some("42")), Some(Duration::from_secs(15)));
        assert_eq!(of("30000000", Some("43")), None);
        assert_eq!(of("0", None), None);
        assert_eq!(of("soon", None), None);
        assert_eq!(watchdog_interval(None, None, 42), None);
    }
}
