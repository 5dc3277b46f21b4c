//! The content of a hidden file, however compressed, with the places where it can be cut.
//!
//! Takes: a file. Gives: its content as a stream, and a [`Trail`]: where units end, and how the file ended. Holds:
//! memory is bounded by one zstd block; what cannot be unpacked ends the stream, and is told in the trail; only the
//! system's own errors are errors. What zstd has is taken apart here, because the library does not tell where blocks end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::spool::Compression;

/// A place where a file can be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    /// Bytes of content before it.
    pub(super) content: u64,
    /// Bytes of the file before it.
    pub(super) stored: u64,
}

/// How a file ended, as far as its compression goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Ending {
    /// Where a unit ends.
    #[default]
    Regular,
    /// Within a unit.
    Torn,
    /// In bytes that are no part of one.
    Broken(String),
}

/// What is known of the way that was read.
#[derive(Debug, Default)]
struct Known {
    places: VecDeque<Place>,
    ending: Ending,
    /// Whether it is of a kind that is not written here, and why.
    foreign: Option<String>,
}

/// What was met on the way through a file. Clones see the same.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    known: Arc<Mutex<Known>>,
    /// Every byte is a place to cut.
    is_plain: bool,
}

impl Trail {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, content: u64, stored: u64) {
        let mut known = self.known();
        // Of places with the same content the first is the one to cut at: what comes after it is nothing.
        if known.places.back().is_none_or(|p| p.content < content) {
            known.places.push_back(Place { content, stored });
        }
    }

    fn end(&self, ending: Ending) -> usize {
        self.known().ending = ending;
        0
    }

    fn refuse(&self, why: &str) -> usize {
        self.known().foreign = Some(why.to_owned());
        0
    }

    /// The last place with no more than `content` bytes before it. Places before that are forgotten.
    pub(super) fn cut(&self, content: u64) -> Place {
        if self.is_plain {
            let stored = content;
            return Place { content, stored };
        }
        let mut known = self.known();
        while known.places.get(1).is_some_and(|p| p.content <= content) {
            known.places.pop_front();
        }
        known.places.front().copied().unwrap_or_default()
    }

    pub(super) fn ending(&self) -> Ending {
        self.known().ending.clone()
    }

    /// Why this is no file of this program, if it is none.
    pub(super) fn foreign(&self) -> Option<String> {
        self.known().foreign.clone()
    }
}

/// The content of `file`, from its beginning.
pub(super) fn open(
    file: File,
    compression: Compression,
) -> io::Result<(Box<dyn Read + Send>, Trail)> {
    let trail = Trail {
        known: Arc::default(),
        is_plain: compression == Compression::None,
    };
    let source = Source {
        inner: BufReader::with_capacity(CHUNK, file),
        taken: 0,
    };
    let stream: Box<dyn Read + Send> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Members {
            state: State::Between(Some(source)),
            trail: trail.clone(),
            content: 0,
        }),
        Compression::Zstd => Box::new(Blocks::new(source, trail.clone())?),
    };
    Ok((stream, trail))
}

const CHUNK: usize = 128 << 10;

/// A file, and how far it was read.
struct Source {
    inner: BufReader<File>,
    taken: u64,
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken += n as u64;
        Ok(n)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.taken += n as u64;
        self.inner.consume(n);
    }
}

/// gzip: one member after the other.
struct Members {
    state: State,
    trail: Trail,
    content: u64,
}

enum State {
    Between(Option<Source>),
    Within(Box<GzDecoder<Source>>),
}

impl Read for Members {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.state {
                State::Between(source) => {
                    let Some(mut next) = source.take() else {
                        return Ok(0);
                    };
                    match next.fill_buf()? {
                        [] => return Ok(self.trail.end(Ending::Regular)),
                        [0x1F] | [0x1F, 0x8B, ..] => {}
                        _ => {
                            let what = "there is something that is no gzip member".to_owned();
                            return Ok(self.trail.end(Ending::Broken(what)));
                        }
                    }
                    self.state = State::Within(Box::new(GzDecoder::new(next)));
                }
                State::Within(member) => match member.read(buf) {
                    Ok(0) => self.leave(),
                    Ok(n) => {
                        self.content += n as u64;
                        return Ok(n);
                    }
                    Err(e) => return self.fail(e),
                },
            }
        }
    }
}

impl Members {
    /// A member is over, and its checksum is right.
    fn leave(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Between(None));
        if let State::Within(member) = state {
            let source = member.into_inner();
            self.trail.pass(self.content, source.taken);
            self.state = State::Between(Some(source));
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Result<usize> {
        if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
            return Err(error);
        }
        self.state = State::Between(None);
        let ending = match error.kind() {
            io::ErrorKind::UnexpectedEof => Ending::Torn,
            _ => Ending::Broken(error.to_string()),
        };
        Ok(self.trail.end(ending))
    }
}

/// Magic number, descriptor, window.
const FRAME_HEADER: usize = 6;

/// Windows up to 8 MiB: what this program writes has 256 KiB.
const WINDOW_LOG_MAX: u32 = 23;

/// The most bytes of a block.
const BLOCK: usize = 128 << 10;

/// zstd: the blocks of one frame.
struct Blocks {
    source: Source,
    trail: Trail,
    decoder: Decoder<'static>,
    content: u64,
    /// Content that was not fetched yet.
    ready: Vec<u8>,
    given: usize,
    begun: bool,
    over: bool,
    block: Vec<u8>,
}

impl Read for Blocks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.given == self.ready.len() && !self.over {
            self.ready.clear();
            self.given = 0;
            self.advance()?;
        }
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.given += n;
        Ok(n)
    }
}

impl Blocks {
    fn new(source: Source, trail: Trail) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self {
            source,
            trail,
            decoder,
            content: 0,
            ready: Vec::new(),
            given: 0,
            begun: false,
            over: false,
            block: Vec::new(),
        })
    }

    fn end(&mut self, ending: Ending) {
        self.trail.end(ending);
        self.over = true;
    }

    /// Unpacks the next block.
    fn advance(&mut self) -> io::Result<()> {
        if !self.begun {
            return self.begin();
        }
        let mut head = [0; 3];
        match fill(&mut self.source, &mut head)? {
            0 => {
                self.end(Ending::Regular);
                return Ok(());
            }
            3 => {}
            _ => {
                self.end(Ending::Torn);
                return Ok(());
            }
        }
        let [a, b, c] = head.map(u32::from);
        let number = a | b << 8 | c << 16;
        let (is_last, kind, size) = (number & 1 == 1, number >> 1 & 3, (number >> 3) as usize);
        let body = if kind == 1 { 1 } else { size };
        if kind == 3 || size > BLOCK {
            self.end(Ending::Broken(format!("a zstd block claims {size} bytes")));
            return Ok(());
        }
        self.block.clear();
        self.block.extend_from_slice(&head);
        self.block.resize(3 + body, 0);
        let rest = self.block.get_mut(3..).unwrap_or_default();
        if fill(&mut self.source, rest)? < body {
            self.end(Ending::Torn);
            return Ok(());
        }
        self.take(is_last)
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut header = [0; FRAME_HEADER];
        let got = fill(&mut self.source, &mut header)?;
        self.begun = true;
        match header {
            _ if got < FRAME_HEADER => self.end(Ending::Torn),
            // No size, no checksum, no dictionary.
            [0x28, 0xB5, 0x2F, 0xFD, 0, _] => {
                self.block.extend_from_slice(&header);
                self.unpack()?;
                self.trail.pass(0, self.source.taken);
            }
            _ => {
                self.trail
                    .refuse("it is not the zstd frame that is written here");
                self.over = true;
            }
        }
        Ok(())
    }

    /// Unpacks what is in `block`.
    fn take(&mut self, is_last: bool) -> io::Result<()> {
        if !self.unpack()? {
            return Ok(());
        }
        self.content += self.ready.len() as u64;
        if !is_last {
            self.trail.pass(self.content, self.source.taken);
            return Ok(());
        }
        let more = !self.source.fill_buf()?.is_empty();
        self.end(match more {
            true => Ending::Broken("there is something behind the end of the frame".to_owned()),
            false => Ending::Regular,
        });
        Ok(())
    }

    /// Puts the content of `block` into `ready`; false when it is none.
    fn unpack(&mut self) -> io::Result<bool> {
        let mut input = InBuffer::around(&self.block);
        loop {
            self.ready.reserve(BLOCK);
            let behind = self.ready.len();
            let (room, before) = (self.ready.capacity(), input.pos());
            let mut out = OutBuffer::around_pos(&mut self.ready, behind);
            let result = self.decoder.run(&mut input, &mut out);
            let end = out.pos();
            let result = result.and_then(|_| match (end > behind, input.pos() > before) {
                (false, false) if input.pos() < self.block.len() => {
                    Err(io::Error::other("a zstd block has bytes too many"))
                }
                _ => Ok(()),
            });
            if let Err(error) = result {
                self.ready.truncate(behind);
                self.end(Ending::Broken(error.to_string()));
                return Ok(false);
            }
            if input.pos() == self.block.len() && end < room {
                return Ok(true);
            }
        }
    }
}

/// Reads until `buf` is full, or the file ends; says how much that was.
fn fill(source: &mut Source, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
