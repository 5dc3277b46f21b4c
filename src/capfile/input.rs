//! Bytes of a capture, whatever they were packed in.
//!
//! Takes: a path or a reader. Gives: one stream of capture bytes, and how many bytes of the
//! underlying file they took. Holds: compression is told by the first bytes, not by the name; a
//! decompressor's own memory is bounded (zstd: windows up to 128 MiB, its default).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::capfile::Error;

/// A stream of bytes that can go to another thread.
pub(super) type Stream = Box<dyn Read + Send>;

const CHUNK: usize = 128 * 1024;

/// An opened capture.
pub(super) struct Input {
    /// The capture's bytes, decompressed.
    pub(super) stream: Stream,
    /// Name of the compression, if any.
    pub(super) packed: Option<&'static str>,
    /// Bytes taken from the file so far.
    pub(super) taken: Arc<AtomicU64>,
}

/// Opens a file, or standard input for `-`.
pub(super) fn open(path: &Path) -> Result<Input, Error> {
    if path.as_os_str() == "-" {
        return unpack(Box::new(io::stdin()), &name_of(path));
    }
    let failed = |source| Error::Open {
        name: name_of(path),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    unpack(Box::new(file), &name_of(path))
}

/// Takes the bytes as they are.
pub(super) fn plain(stream: Stream) -> Input {
    Input {
        stream,
        packed: None,
        taken: Arc::default(),
    }
}

/// How a path is called in messages.
pub(super) fn name_of(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Looks at the first bytes and puts the right decompressor in front.
pub(super) fn unpack(raw: Stream, name: &str) -> Result<Input, Error> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        inner: raw,
        taken: Arc::clone(&taken),
    };
    let read = |source| Error::Read {
        name: name.to_owned(),
        offset: 0,
        source,
    };
    let (magic, whole) = peek(BufReader::with_capacity(CHUNK, counted)).map_err(read)?;
    let (stream, packed): (Stream, _) = match magic {
        [0x1F, 0x8B, ..] => (Box::new(MultiGzDecoder::new(whole)), Some("gzip")),
        [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => {
            let decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(read)?;
            (Box::new(decoder), Some("zstd"))
        }
        _ => (Box::new(whole), None),
    };
    Ok(Input {
        stream,
        packed,
        taken,
    })
}

/// A reader with the bytes put back that were taken from it to look at.
type Restored<R> = Chain<Cursor<Vec<u8>>, R>;

/// The first four bytes (zeros where there are fewer), and a reader that has them still.
fn peek<R: BufRead>(mut reader: R) -> io::Result<([u8; 4], Restored<R>)> {
    let mut head = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let mut magic = [0; 4];
    for (to, from) in magic.iter_mut().zip(&head) {
        *to = *from;
    }
    Ok((magic, Cursor::new(head).chain(reader)))
}

/// Counts what passes.
struct Counted {
    inner: Stream,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
