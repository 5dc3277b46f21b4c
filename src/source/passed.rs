//! Sockets that the service manager has passed: bound before the program started, and still there when it has ended.
//!
//! Takes: the variables of sd_listen_fds(3), and the addresses listened on. Gives: for each address its sockets, in their order. Holds: a
//! socket is taken only if it is one that could have been opened here (UDP, bound to the address, shared if there are
//! several); any other is an error that names it, but for one of our own that was kept for an address which is not listened on any more.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::{Domain, SockRef, Socket, Type};

use crate::sys;

/// How the names begin under which a sensor has its own sockets kept.
pub const KEPT: &str = "mirrortap-udp";

/// The name under which a bound socket is kept: one for each address, so that those of an address can be given up without the others. A
/// name has no colon (`FDNAME` in sd_notify(3)).
///
/// # Errors
/// Those of getsockname(2).
pub fn name_of(socket: impl AsFd) -> std::io::Result<String> {
    let bound = SockRef::from(&socket.as_fd()).local_addr()?.as_socket();
    let address = bound.map_or_else(String::new, |a| format!("-{}-{}", a.ip(), a.port()));
    Ok(format!("{KEPT}{}", address.replace(':', ".")))
}

/// Why passed sockets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The variables make no sense.
    #[error("cannot take the sockets that the service manager passes: {0}")]
    Variables(String),
    /// A descriptor is no socket that mirror traffic can come through.
    #[error(
        "the service manager passes \"{name}\", which is {what}; pass UDP sockets (ListenDatagram=) that are bound to an address of source.listen"
    )]
    Kind {
        /// What it is called.
        name: String,
        /// What it is.
        what: String,
    },
    /// It is bound to an address that nobody asked for.
    #[error(
        "the service manager passes \"{name}\", a socket on {bound}, and source.listen has no such address; make the two agree"
    )]
    Unwanted {
        /// What it is called.
        name: String,
        /// Where it is bound.
        bound: SocketAddr,
    },
    /// Several on an address that do not share it.
    #[error(
        "the service manager passes several sockets on {0} that do not share it; set ReusePort=yes in the socket unit"
    )]
    NotShared(SocketAddr),
    /// A source that has no use for them.
    #[error(
        "the service manager passes sockets, and source.kind = \"{0}\" has no use for them; take \"udp\", or disable the socket unit"
    )]
    Source(&'static str),
}

/// A passed socket.
#[derive(Debug)]
struct Named {
    name: String,
    bound: SocketAddr,
    socket: Socket,
}

/// Passed sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Passed(Vec<Named>);

impl Passed {
    /// Those that were passed to this process. Ask before anything is opened.
    ///
    /// # Errors
    /// One of them is no UDP socket, or none that is bound.
    pub fn from_env() -> Result<Self, Error> {
        let get = |name| std::env::var(name).ok();
        let Some(count) = count(get("LISTEN_PID"), get("LISTEN_FDS"), std::process::id())? else {
            return Ok(Self::default());
        };
        let names = get("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let taken = sys::passed::take(count);
        let taken = taken.map_err(|e| Error::Variables(format!("LISTEN_FDS={count}: {e}")))?;
        let sockets = taken.into_iter().map(|fd| {
            let name = names.next().filter(|n| !n.is_empty());
            Named::new(
                name.unwrap_or_else(|| "unknown".to_owned()),
                Socket::from(fd),
            )
        });
        Ok(Self(sockets.collect::<Result<_, _>>()?))
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes those of our own that were kept for an address which is not listened on any more, and gives their names: as long as somebody else
    /// keeps them too, they take the address, and what comes to it, from whoever binds it now. `takes` says whether the source has any use for
    /// sockets.
    pub fn give_up(&mut self, listen: &[SocketAddr], takes: bool) -> Vec<String> {
        let wanted = |named: &Named| {
            let has_place = || listen.iter().any(|asked| is_same(named.bound, *asked));
            !named.name.starts_with(KEPT) || takes && has_place()
        };
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(wanted);
        self.0 = stay;
        for Named { bound, .. } in &go {
            tracing::info!(address = %bound, "A socket that was kept is not listened on any more; it is closed.");
        }
        let mut names: Vec<String> = go.into_iter().map(|named| named.name).collect();
        names.dedup();
        names
    }

    /// The sockets of an address.
    ///
    /// # Errors
    /// Several that do not share it.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Result<Vec<Socket>, Error> {
        let (found, rest): (Vec<_>, _) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|named| is_same(named.bound, address));
        self.0 = rest;
        let shares = |named: &Named| named.socket.reuse_port().unwrap_or(false);
        if found.len() > 1 && !found.iter().all(shares) {
            return Err(Error::NotShared(address));
        }
        Ok(found.into_iter().map(|named| named.socket).collect())
    }

    /// Whatever was not taken is a mistake: our own from before the configuration changed were given up earlier.
    ///
    /// # Errors
    /// The first mistake.
    pub(crate) fn refuse_rest(&mut self) -> Result<(), Error> {
        match self.0.drain(..).next() {
            Some(Named { name, bound, .. }) => Err(Error::Unwanted { name, bound }),
            None => Ok(()),
        }
    }

    /// A source of this kind takes none of them: those that others bound are a mistake.
    ///
    /// # Errors
    /// There is one.
    pub(crate) fn refuse_all(&mut self, kind: &'static str) -> Result<(), Error> {
        match self.0.drain(..).next() {
            None => Ok(()),
            Some(_) => Err(Error::Source(kind)),
        }
    }
}

impl Named {
    fn new(name: String, socket: Socket) -> Result<Self, Error> {
        let what = match (socket.r#type(), socket.domain()) {
            (Ok(Type::DGRAM), Ok(Domain::IPV4 | Domain::IPV6)) => None,
            (Ok(Type::STREAM), _) => Some("a stream socket".to_owned()),
            (Ok(Type::DGRAM), _) => Some("a datagram socket of another family".to_owned()),
            (Ok(_), _) => Some("a socket of another type".to_owned()),
            (Err(error), _) => Some(format!("no socket ({error})")),
        };
        let bound = socket.local_addr().ok().and_then(|a| a.as_socket());
        match (what, bound) {
            (None, Some(bound)) if bound.port() != 0 => Ok(Self {
                name,
                bound,
                socket,
            }),
            (what, _) => Err(Error::Kind {
                name,
                what: what.unwrap_or_else(|| "bound to no port".to_owned()),
            }),
        }
    }
}

/// How many descriptors are passed to the process `own`.
fn count(pid: Option<String>, fds: Option<String>, own: u32) -> Result<Option<usize>, Error> {
    let (Some(pid), Some(fds)) = (pid, fds) else {
        return Ok(None);
    };
    // meant for whoever started us
    if pid.parse() != Ok(own) {
        return Ok(None);
    }
    match fds.parse() {
        Ok(count @ 0..=MOST) => Ok(Some(count)),
        _ => Err(Error::Variables(format!(
            "LISTEN_FDS=\"{fds}\" is no number of descriptors"
        ))),
    }
}

/// More would be a mistake.
const MOST: usize = 1024;

fn is_same(bound: SocketAddr, asked: SocketAddr) -> bool {
    bound.port() == asked.port() && bound.ip().to_canonical() == asked.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(address: &str, shared: bool) -> Socket {
        let address: SocketAddr = address.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
        socket.set_reuse_port(shared).unwrap();
        socket.bind(&address.into()).unwrap();
        socket
    }

    fn named(name: &str, socket: Socket) -> Named {
        Named::new(name.to_owned(), socket).unwrap()
    }

    #[test]
    fn a_socket_goes_to_its_address_and_what_nobody_asked_for_is_named() {
        let socket = udp("127.0.0.1:0", false);
        let mut passed = Passed(vec![named("mirror", socket)]);
        let bound = passed.0[0].bound;
        assert!(
            passed
                .take("127.0.0.1:1".parse().unwrap())
                .unwrap()
                .is_empty()
        );
        assert!(passed.refuse_all("packet").is_err());
        let mut passed = Passed(vec![named("mirror", udp(&bound.to_string(), false))]);
        let told = passed.refuse_rest().unwrap_err().to_string();
        assert!(
            told.contains("\"mirror\"") && told.contains(&bound.to_string()),
            "{told}"
        );
        let mut passed = Passed(vec![named("mirror", udp(&bound.to_string(), false))]);
        assert_eq!(passed.take(bound).unwrap().len(), 1);
        passed.refuse_rest().unwrap();
    }

    #[test]
    fn our_own_from_before_are_closed_and_named_and_those_that_are_wanted_stay() {
        let (old, new) = (udp("127.0.0.1:0", true), udp("[::1]:0", true));
        let names = [name_of(&old).unwrap(), name_of(&new).unwrap()];
        assert!(names[0].starts_with("mirrortap-udp-127.0.0.1-"));
        assert!(names.iter().all(|name| !name.contains(':')), "{names:?}");
        let others = udp("127.0.0.1:0", true);
        let listen = new.local_addr().unwrap().as_socket().unwrap();
        let [one, two] = &names;
        let mut passed = Passed(vec![named(one, old), named(two, new), named("a", others)]);
        assert_eq!(passed.give_up(&[listen], true), [one.as_str()]);
        assert_eq!(passed.0.len(), 2);
        assert_eq!(passed.give_up(&[listen], false), [two.as_str()]);
        assert!(passed.refuse_rest().is_err(), "that of somebody else");
    }

    #[test]
    fn several_have_to_share_their_address() {
        let first = udp("127.0.0.1:0", true);
        let address = first.local_addr().unwrap().as_socket().unwrap();
        let second = udp(&address.to_string(), true);
        let mut passed = Passed(vec![named("a", first), named("b", second)]);
        assert_eq!(passed.take(address).unwrap().len(), 2);
        let one = udp("127.0.0.1:0", false);
        let address = one.local_addr().unwrap().as_socket().unwrap();
        let copy = one.try_clone().unwrap();
        let mut passed = Passed(vec![named("a", one), named("b", copy)]);
        assert!(matches!(passed.take(address), Err(Error::NotShared(_))));
    }

    #[test]
    fn what_mirror_traffic_cannot_come_through_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
        for (socket, what) in [
            (listener.into(), "a stream socket"),
            (Socket::from(std::os::fd::OwnedFd::from(file)), "no socket"),
            (unbound, "bound to no port"),
            (unix.into(), "of another family"),
        ] {
            let told = Named::new("x".to_owned(), socket).unwrap_err().to_string();
            assert!(told.contains(what), "{told}");
        }
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        let of = |pid: &str, fds: &str| count(Some(pid.into()), Some(fds.into()), 42);
        assert_eq!(of("42", "2").unwrap(), Some(2));
        assert_eq!(of("43", "2").unwrap(), None);
        assert_eq!(count(None, Some("2".into()), 42).unwrap(), None);
        assert!(of("42", "two").is_err() && of("42", "1000000").is_err());
    }
}
