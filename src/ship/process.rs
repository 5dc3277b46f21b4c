//! The shipping process as the sensor sees it: started before the cage is closed, spoken to through one socket.
//!
//! Takes: a [`Plan`], and how the process is to shut itself in and to log. Gives: [`Shipper`]: its statuses, and whether it is still there. Holds: started
//! before anything else is open, so that it inherits nothing; nothing in here waits for it but the end, and that not for long; it ends when the
//! sensor does, however that ends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ship::{Plan, Status};
use crate::{logging, sandbox, time};

/// The hidden verb that the program runs itself with.
pub const VERB: &str = "shipper";
/// What it is told when it may begin.
const GO: &[u8] = b"go\n";

/// How long the end of the process is waited for.
const LAST_WORD: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// More is read at one call only if it is there already.
const ROOM: usize = 16 * 1024;
/// No line is longer.
pub(super) const LONGEST: usize = 1 << 20;

/// What the process is told, in one line: the plan, and what concerns the process itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Orders {
    /// What is to be shipped.
    pub plan: Plan,
    /// How far the process shuts itself in. What may be written to beside the queues is the sensor's alone.
    pub sandbox: sandbox::Config,
    /// How it logs, to the standard error that it inherits.
    pub log: logging::Config,
}

/// The sensor's end.
#[derive(Debug)]
pub struct Shipper {
    line: UnixStream,
    process: Child,
    unread: Vec<u8>,
}

impl Shipper {
    /// Starts the process: this program, with a verb that nobody else uses. It ships nothing before [`Self::go`].
    ///
    /// # Errors
    /// No socket or no process is to be had.
    pub fn start(orders: &Orders) -> io::Result<Self> {
        if cfg!(not(feature = "aws")) {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "this program was built without the feature \"aws\", and can ship nothing; leave the destinations out",
            ));
        }
        Self::start_command(Command::new("/proc/self/exe"), orders)
    }

    /// Starts a program as the process: for tests, whose own program is another one.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_command(program: Command, orders: &Orders) -> io::Result<Self> {
        let (line, process) = launch(program, &[VERB], orders)?;
        Ok(Self {
            line,
            process,
            unread: Vec::new(),
        })
    }

    /// Lets it begin: what waits is this sensor's, and no other's.
    pub fn go(&mut self) {
        // one that has ended is told of by `statuses`
        let _ = self.line.write_all(GO);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What was told since the last call, the oldest first; does not wait.
    ///
    /// # Errors
    /// The process is gone; then nothing is shipped until the next start of the sensor.
    pub fn statuses(&mut self) -> io::Result<Vec<Status>> {
        let gone = self.fill();
        let mut told = Vec::new();
        while let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            told.extend(serde_json::from_slice(&line).ok());
        }
        if self.unread.len() > LONGEST {
            self.unread.clear();
        }
        match gone {
            Err(error) if told.is_empty() => Err(error),
            _ => Ok(told),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut room = [0; ROOM];
        while self.unread.len() <= LONGEST {
            match self.line.read(&mut room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.unread.extend(room.iter().take(n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        // the process reads the end and follows; what it was at is taken up at the next start
        let _ = self.line.shutdown(Shutdown::Both);
        wait(&mut self.process, LAST_WORD);
    }
}

/// Starts a program with a socket as its standard input, and gives it its orders.
pub(super) fn launch(
    mut program: Command,
    arguments: &[&str],
    orders: &Orders,
) -> io::Result<(UnixStream, Child)> {
    let (mut line, far) = UnixStream::pair()?;
    let process = program
        .args(arguments)
        .stdin(OwnedFd::from(far))
        .stdout(Stdio::null())
        // Ctrl-C on a terminal is for the sensor, whose last files may still arrive
        .process_group(0)
        .spawn()?;
    let mut text = serde_json::to_vec(orders)?;
    text.push(b'\n');
    line.write_all(&text)?;
    line.set_nonblocking(true)?;
    Ok((line, process))
}

/// Waits for the end of a process for a while; whether it came.
pub(super) fn wait(process: &mut Child, limit: Duration) -> bool {
    let until = time::monotonic().plus(limit);
    loop {
        match process.try_wait() {
            Ok(None) if time::monotonic() < until => std::thread::sleep(LOOK_EVERY),
            Ok(None) => return false,
            _ => return true,
        }
    }
}

/// Reads the orders, the first line of a socket that waits.
///
/// # Errors
/// What the system says; `UnexpectedEof` where the end comes first; `InvalidData` where it is no line of ours.
#[cfg(any(feature = "aws", test))]
pub(super) fn orders(line: &mut UnixStream) -> io::Result<Orders> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while text.len() < LONGEST {
        line.read_exact(&mut byte)?;
        if byte == [b'\n'] {
            return Ok(serde_json::from_slice(&text)?);
        }
        text.extend(byte);
    }
    Err(ErrorKind::InvalidData.into())
}

/// Waits until it may begin.
///
/// # Errors
/// The end came first.
#[cfg(any(feature = "aws", test))]
pub(super) fn wait_for_go(line: &mut UnixStream) -> io::Result<()> {
    line.read_exact(&mut [0; GO.len()])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn started(script: &str) -> Shipper {
        let (near, far) = UnixStream::pair().unwrap();
        let process = Command::new("sh")
            .args(["-c", script])
            .stdin(OwnedFd::from(far))
            .spawn()
            .unwrap();
        near.set_nonblocking(true).unwrap();
        Shipper {
            line: near,
            process,
            unread: Vec::new(),
        }
    }

    fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
        for _ in 0..6000 {
            if let Some(it) = found() {
                return it;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("not within a minute");
    }

    #[test]
    fn whole_lines_are_statuses_and_the_end_of_the_process_is_told_after_the_last() {
        let line = r#"{"queues":{"a":{"shipped_files":3}}}"#;
        let script = format!("printf '%s\\nnonsense\\n%s' '{line}' '{line}' >&0; echo >&0");
        let mut shipper = started(&script);
        let mut told = Vec::new();
        let kind = until(|| match shipper.statuses() {
            Ok(more) => {
                told.extend(more);
                None
            }
            Err(error) => Some(error.kind()),
        });
        assert_eq!(kind, ErrorKind::UnexpectedEof);
        let files: Vec<_> = told.iter().map(|s| s.queues["a"].shipped_files).collect();
        assert_eq!(files, [3, 3]);
    }

    #[test]
    fn a_process_that_says_nothing_is_not_waited_for_and_ends_with_the_sensors_end() {
        let mut shipper = started("cat >/dev/null");
        assert_eq!(shipper.statuses().unwrap(), []);
        let id = shipper.id();
        drop(shipper);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_process_is_told_when_it_may_begin() {
        let script = r#"read line <&0; test "$line" = go && echo '{"queues":{}}' >&0"#;
        let mut shipper = started(script);
        shipper.go();
        let mut told = Vec::new();
        until(|| match shipper.statuses() {
            Ok(more) => {
                told.extend(more);
                None
            }
            Err(_) => Some(()),
        });
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn orders_arrive_as_they_were_given() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let given = Orders::default();
        let text = serde_json::to_string(&given).unwrap();
        near.write_all(format!("{text}\nmore").as_bytes()).unwrap();
        assert_eq!(orders(&mut far).unwrap(), given);
        near.write_all(GO).unwrap();
        far.read_exact(&mut [0; 4]).unwrap();
        assert!(wait_for_go(&mut far).is_ok());
        drop(near);
        assert!(wait_for_go(&mut far).is_err());
        assert_eq!(
            orders(&mut far).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }
}
