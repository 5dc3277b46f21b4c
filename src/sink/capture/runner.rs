//! The process that starts the hook's commands, so that the sensor itself need not be able to start anything.
//!
//! Takes: a command, and at the other end of a socket the sensor's hook. Gives: [`Runner`], which hands a file over and is told how
//! its command ended, and [`serve`], which is what that process does. Holds: started before anything else is open, so that it inherits nothing;
//! one command at a time; the process ends when the sensor does, however that ends; without it nothing is run and all is counted.
//!
//! A message is its length (four bytes, little end first) and as many bytes. To the process: the path, its length before it, and the
//! description; or nothing, which means that the command is to be killed. From it: how the command ended, a byte and a text.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::time;

/// The hidden verb that the program runs itself with.
pub const VERB: &str = "hook-runner";

/// How often a running command is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the process may take to say what became of a command that it was told to kill.
const LAST_WORD: Duration = Duration::from_secs(2);
/// No message is longer: a path and a description.
const LONGEST: u32 = 1 << 20;

const GOOD: u8 = b'+';
const BAD: u8 = b'-';

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// With success.
    Well,
    /// Not, and how.
    Badly(String),
    /// It was killed.
    Killed,
}

/// The sensor's end.
#[derive(Debug)]
pub struct Runner {
    line: UnixStream,
    process: Child,
}

impl Runner {
    /// Starts the process: this program, with a verb that nobody else uses. It runs the command for files below `output` only.
    ///
    /// # Errors
    /// No socket or no process is to be had.
    pub fn start(command: &[String], output: &Path) -> io::Result<Self> {
        let (line, far) = UnixStream::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg(VERB)
            .arg("--output")
            .arg(output)
            .arg("--")
            .args(command)
            .stdin(OwnedFd::from(far))
            .stdout(Stdio::null())
            // Ctrl-C on a terminal is for the sensor; the last files still have their command run
            .process_group(0)
            .spawn()?;
        Ok(Self { line, process })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Has the command run for a file, and kills it when `is_over` says so.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) fn run(
        &mut self,
        path: &OsStr,
        json: &[u8],
        is_over: impl Fn() -> bool,
    ) -> io::Result<Ended> {
        self.line.set_write_timeout(Some(LAST_WORD))?;
        send(
            &mut self.line,
            &[&len(path.as_bytes())?, path.as_bytes(), json],
        )?;
        self.line.set_read_timeout(Some(LOOK_EVERY))?;
        let mut told_at = None;
        loop {
            if let Some(answer) = receive(&mut self.line)? {
                return Ok(match answer.split_first() {
                    _ if told_at.is_some() => Ended::Killed,
                    Some((&GOOD, _)) => Ended::Well,
                    Some((_, text)) => Ended::Badly(String::from_utf8_lossy(text).into_owned()),
                    None => Ended::Badly("it is not known how".to_owned()),
                });
            }
            match told_at {
                None if is_over() => {
                    send(&mut self.line, &[])?;
                    told_at = Some(time::monotonic());
                }
                Some(at) if time::monotonic().since(at) > LAST_WORD => {
                    return Err(ErrorKind::TimedOut.into());
                }
                _ => {}
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // the process reads the end and follows; its parent may not wait for it for long
        let _ = self.line.shutdown(Shutdown::Both);
        let until = time::monotonic().plus(LAST_WORD);
        while matches!(self.process.try_wait(), Ok(None)) && time::monotonic() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// What the process does, with the socket as its standard input: until the sensor is gone.
///
/// # Errors
/// The socket is none, or what comes through it makes no sense.
pub fn serve(command: &[OsString], output: &Path) -> io::Result<()> {
    let mut line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    loop {
        line.set_read_timeout(None)?;
        let message = match receive(&mut line) {
            Ok(Some(message)) => message,
            Ok(None) => continue,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        // nothing runs: there is nothing to kill
        if message.is_empty() {
            continue;
        }
        let ended = start(command, output, &message).and_then(|child| watch(child, &mut line));
        let answer = match ended {
            Ok(Ended::Well) => vec![GOOD],
            Ok(Ended::Badly(text)) => [&[BAD], text.as_bytes()].concat(),
            Ok(Ended::Killed) => vec![BAD],
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => [&[BAD], error.to_string().as_bytes()].concat(),
        };
        send(&mut line, &[&answer])?;
    }
}

fn start(command: &[OsString], output: &Path, message: &[u8]) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(ErrorKind::NotFound)?;
    let (head, rest) = message.split_first_chunk().ok_or(ErrorKind::InvalidData)?;
    let (path, json) = rest
        .split_at_checked(u32::from_le_bytes(*head) as usize)
        .ok_or(ErrorKind::InvalidData)?;
    let path = OsString::from_vec(path.to_vec());
    // a sensor that somebody else speaks for may ask for anything
    if !is_below(Path::new(&path), output) {
        return Err(io::Error::other("the path is not one of the output"));
    }
    launch(program, arguments, &path, json)
}

/// Whether a path leads from `output` downwards.
fn is_below(path: &Path, output: &Path) -> bool {
    let is_name = |part| matches!(part, Component::Normal(_));
    path.strip_prefix(output).is_ok_and(|rest| {
        let mut parts = rest.components();
        !rest.as_os_str().is_empty() && parts.all(is_name)
    })
}

/// As much as any pipe takes without a reader (pipe(7): a page at least).
const FITS: usize = 4096;

/// Starts a command for a file.
pub(super) fn launch<S: AsRef<OsStr>>(
    program: &OsStr,
    arguments: &[S],
    path: &OsStr,
    json: &[u8],
) -> io::Result<Child> {
    let mut child = Command::new(program)
        .args(arguments)
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // a command may choose not to read it; whoever waits for that must not be the one who watches the command
        if json.len() <= FITS {
            let _ = stdin.write_all(json);
        } else {
            let json = json.to_vec();
            let writer = std::thread::Builder::new().name("describe".to_owned());
            let _ = writer.spawn(move || stdin.write_all(&json));
        }
    }
    Ok(child)
}

/// Waits for the end of a command, or for the word to kill it.
fn watch(mut child: Child, line: &mut UnixStream) -> io::Result<Ended> {
    line.set_read_timeout(Some(LOOK_EVERY))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.success() {
                true => Ended::Well,
                false => Ended::Badly(status.to_string()),
            });
        }
        if receive(line)?.is_some() {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Killed);
        }
    }
}

fn len(bytes: &[u8]) -> io::Result<[u8; 4]> {
    let len = u32::try_from(bytes.len()).map_err(|_| ErrorKind::InvalidInput)?;
    Ok(len.to_le_bytes())
}

fn send(line: &mut UnixStream, parts: &[&[u8]]) -> io::Result<()> {
    let body = parts.concat();
    line.write_all(&[&len(&body)?, body.as_slice()].concat())
}

/// A message; `None` when none has begun within the reading time.
fn receive(line: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match line.read(&mut head) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(4) => {}
        Ok(n) => rest(line, &mut head, n)?,
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    }
    let len = u32::from_le_bytes(head);
    if len > LONGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; len as usize];
    rest(line, &mut body, 0)?;
    Ok(Some(body))
}

/// Fills the rest of `buffer`: whoever has begun a message ends it.
fn rest(line: &mut UnixStream, buffer: &mut [u8], mut have: usize) -> io::Result<()> {
    while let Some(left) = buffer.get_mut(have..).filter(|left| !left.is_empty()) {
        match line.read(left) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_sent_and_the_end_is_told() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        send(&mut a, &[b"one ", b"two"]).unwrap();
        send(&mut a, &[]).unwrap();
        assert_eq!(receive(&mut b).unwrap().unwrap(), b"one two");
        assert_eq!(receive(&mut b).unwrap().unwrap(), b"");
        b.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        assert_eq!(receive(&mut b).unwrap(), None);
        drop(a);
        assert_eq!(
            receive(&mut b).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn a_path_that_is_not_below_the_output_is_refused() {
        let run = |path: &str| {
            let message = [&len(path.as_bytes()).unwrap(), path.as_bytes()].concat();
            start(&["true".into()], Path::new("/a/out"), &message)
        };
        for path in [
            "/a/out/../x",
            "/a/outside",
            "/a/out",
            "/etc/passwd",
            "-x",
            "",
        ] {
            assert!(run(path).is_err(), "{path}");
        }
        run("/a/out/session/file.pcap").unwrap().wait().unwrap();
        for (path, output) in [("out/a", "out"), ("./a", "."), ("./out/a", "./out")] {
            assert!(is_below(Path::new(path), Path::new(output)), "{path}");
        }
    }

    #[test]
    fn a_command_that_never_reads_its_long_description_is_killed_all_the_same() {
        let long = vec![b' '; 1 << 20];
        let child = launch::<OsString>(OsStr::new("sleep"), &[], OsStr::new("60"), &long).unwrap();
        let (mut near, mut far) = UnixStream::pair().unwrap();
        send(&mut near, &[]).unwrap();
        assert_eq!(watch(child, &mut far).unwrap(), Ended::Killed);
    }

    #[test]
    fn a_length_that_makes_no_sense_is_refused() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(receive(&mut b).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
