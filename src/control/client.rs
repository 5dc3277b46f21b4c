//! The other side of the control socket, for `mirrortap reload`.
//!
//! Takes: the path of a running sensor's control socket. Gives: its answer. Holds: waits a bounded time and
//! reads a bounded answer; blocking and small, so that the command line needs no runtime.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A reload compiles every filter of the new configuration, which takes its time.
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_ANSWER: u64 = 1024 * 1024;
const RELOAD: &[u8] =
    b"POST /reload HTTP/1.1\r\nHost: mirrortap\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Why a reload did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers on the socket.
    #[error("cannot reach a running mirrortap at {}: {source}; is it running, and are you its user or root?", socket.display())]
    Connect {
        /// The socket asked.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("mirrortap at {} did not finish its answer: {source}; its log says whether it reloaded", socket.display())]
    Talk {
        /// The socket asked.
        socket: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The running program refused: the text says why, and the old configuration goes on.
    #[error("{0}")]
    Refused(String),
    /// What answered does not speak as `mirrortap` does.
    #[error("what answers at {} is not mirrortap's control socket", .0.display())]
    Strange(PathBuf),
}

/// Asks the program behind `socket` to load its configuration again, and waits for its answer.
///
/// # Errors
/// When nobody answers, or the new configuration was refused.
pub fn reload(socket: &Path) -> Result<String, Error> {
    let stream = UnixStream::connect(socket).map_err(|source| Error::Connect {
        socket: socket.to_path_buf(),
        source,
    })?;
    let answer = converse(stream).map_err(|source| Error::Talk {
        socket: socket.to_path_buf(),
        source,
    })?;
    match parse(&answer) {
        Some((200, text)) => Ok(text),
        Some((_, text)) => Err(Error::Refused(text)),
        None => Err(Error::Strange(socket.to_path_buf())),
    }
}

fn converse(mut stream: UnixStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(RELOAD)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an answer that ended with the connection.
fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_text() {
        let parsed = parse(b"HTTP/1.1 409 Conflict\r\ncontent-length: 4\r\n\r\nbad\n");
        assert_eq!(parsed, Some((409, "bad".into())));
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        for bytes in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 2",
            b"HTTP/1.1 xyz\r\n\r\n",
        ] {
            assert_eq!(parse(bytes), None);
        }
    }

    #[test]
    fn nobody_there_is_told_as_such() {
        let error = reload(Path::new("/nonexistent/control.sock")).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }));
        assert!(error.to_string().contains("is it running"));
    }
}
