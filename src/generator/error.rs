//! What keeps a generator from starting or going on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::capfile;

/// Why traffic could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The capture can't be opened, or its head is not that of a capture.
    #[error(transparent)]
    Read(capfile::Error),
    /// The capture holds nothing that can be sent.
    #[error(
        "the capture {path} holds no packet that can be wrapped ({skipped} of another link type \
         than Ethernet, raw IP, SLL, PPP or loopback were skipped)"
    )]
    Empty {
        /// The capture.
        path: PathBuf,
        /// Packets that were skipped for their link type.
        skipped: u64,
    },
    /// Source and target are of different families.
    #[error("can't send from {from} to {to}: give a --source of the same family as --to")]
    Family {
        /// The source address.
        from: IpAddr,
        /// The target.
        to: SocketAddr,
    },
    /// No socket could be opened.
    #[error(
        "can't open a UDP socket from {from} to {to}: {source}; check that the source address is this \
         machine's and that there is a route"
    )]
    Socket {
        /// The source address.
        from: IpAddr,
        /// The target.
        to: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// The output file can't be written.
    #[error("can't write the capture {path}: {source}")]
    Write {
        /// The output file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// An option has a value that makes no sense.
    #[error("{0}")]
    Option(String),
}
