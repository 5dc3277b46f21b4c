//! Records out of a capture file, one after the other.
//!
//! Takes: a path or a stream. Gives: [`Record`]s that borrow the reader's window. Holds: after the last whole
//! record `next` gives `None` for good, and [`Reader::damage`] tells whether that was the end of the file.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::capfile::blocks::Blocks;
use crate::capfile::buffer::{self, Buffer};
use crate::capfile::classic::Classic;
use crate::capfile::input::{self, Input};
use crate::capfile::{Damage, Error, Format, LinkType, Precision};
use crate::time::Timestamp;

/// One packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it was captured; the epoch where the file does not say (a simple packet block).
    pub time: Timestamp,
    /// The bytes present: caplen is its length.
    pub data: &'a [u8],
    /// Bytes that it had on the wire; raised to caplen where the file says less.
    pub origlen: u32,
    /// What its bytes begin with.
    pub link: LinkType,
    /// Its interface in its pcapng section; 0 in pcap.
    pub interface: u32,
    /// Where in the reader's memory its bytes begin, for [`Reader::hand_over`].
    pub place: usize,
}

/// What a format found at the front of the window.
pub(super) enum Step {
    /// A packet.
    Frame(Frame),
    /// The regular end.
    End,
    /// Something that does not make sense.
    Broken(String),
    /// The stream ended too early; the text says within what.
    Cut(String),
}

/// Where in the window a packet lies, and what its header says.
pub(super) struct Frame {
    pub(super) time: Timestamp,
    pub(super) origlen: u32,
    pub(super) link: LinkType,
    pub(super) interface: u32,
    /// Where its bytes begin.
    pub(super) start: usize,
    /// How many there are.
    pub(super) len: usize,
    /// Size of the whole record.
    pub(super) total: usize,
}

impl Frame {
    /// The packet, whose bytes lie at `place` in the reader's memory.
    #[inline(always)]
    fn record<'a>(&self, data: &'a [u8], place: usize) -> Record<'a> {
        Record {
            time: self.time,
            data,
            origlen: self.origlen.max(self.len as u32),
            link: self.link,
            interface: self.interface,
            place,
        }
    }

    /// The packet at the front of the window.
    fn record_in<'a>(&self, buffer: &'a Buffer) -> Record<'a> {
        let data = buffer.window().get(self.start..self.start + self.len);
        self.record(data.unwrap_or_default(), buffer.place() + self.start)
    }
}

/// An interface of a pcapng file, as far as whoever completes the file has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Described {
    /// Resolution of its packets' times.
    pub precision: Precision,
    /// Whether the file has statistics of it.
    pub has_statistics: bool,
}

enum State {
    Pcap(Classic),
    Pcapng(Blocks),
}

/// Reads a capture file.
pub struct Reader {
    name: String,
    buffer: Buffer,
    state: State,
    packed: Option<&'static str>,
    taken: Arc<AtomicU64>,
    pending: usize,
    finished: bool,
    damage: Option<Damage>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.name)
            .field("format", &self.format())
            .field("position", &self.position())
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Bytes that are read at a time: what [`hand_over`](Self::hand_over) likes memory to have.
    pub const MEMORY: usize = buffer::START;

    /// Opens a capture file; `-` is standard input.
    ///
    /// # Errors
    /// When it can't be opened, is no capture, or is one of a kind that is not read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::start(input::open(path)?, input::name_of(path), false)
    }

    /// Reads what this program writes, not compressed, and takes anything else for damage: other link types than Ethernet, big-endian
    /// numbers, a second section, blocks and options that it does not make.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn strict(
        stream: impl Read + Send + 'static,
        name: impl Into<String>,
    ) -> Result<Self, Error> {
        Self::start(input::plain(Box::new(stream)), name.into(), true)
    }

    /// Reads a capture from a stream that messages call `name`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from_read(
        stream: impl Read + Send + 'static,
        name: impl Into<String>,
    ) -> Result<Self, Error> {
        let name = name.into();
        Self::start(input::unpack(Box::new(stream), &name)?, name, false)
    }

    fn start(input: Input, name: String, strict: bool) -> Result<Self, Error> {
        let mut buffer = Buffer::new(input.stream);
        let state = match begin(&mut buffer, strict) {
            Ok(state) => state,
            Err(refusal) => return Err(explain(refusal, &mut buffer, name, input.packed)),
        };
        Ok(Self {
            name,
            buffer,
            state,
            packed: input.packed,
            taken: input.taken,
            pending: 0,
            finished: false,
            damage: None,
        })
    }

    /// The next packet, or `None` at the end of what can be read.
    ///
    /// # Errors
    /// When the system can't read the file any more; `None` follows.
    #[expect(
        clippy::should_implement_trait,
        reason = "a record borrows the reader, which an iterator's item can't"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        self.settle();
        if self.finished {
            return Ok(None);
        }
        let step = match &mut self.state {
            State::Pcap(pcap) => pcap.step(&mut self.buffer),
            State::Pcapng(pcapng) => pcapng.step(&mut self.buffer),
        };
        match step {
            Step::Frame(frame) => {
                self.pending = frame.total;
                Ok(Some(frame.record_in(&self.buffer)))
            }
            other => self.finish(other).map(|()| None),
        }
    }

    /// Gives `take` the next packets, as long as all of each has been read already and it wants more. The memory of those
    /// before them stays as it is. That there were none says no more than that [`next`](Self::next) is to be asked.
    #[inline]
    pub fn each_at_hand(&mut self, mut take: impl FnMut(&Record<'_>) -> bool) {
        self.settle();
        let first = self.buffer.place();
        match &mut self.state {
            State::Pcap(pcap) => {
                let passed = pcap.each_at_hand(self.buffer.window(), |frame, place, data| {
                    take(&frame.record(data, first + place))
                });
                self.buffer.consume(passed);
            }
            State::Pcapng(pcapng) => {
                while let Some(frame) = pcapng.at_hand(&mut self.buffer) {
                    let more = take(&frame.record_in(&self.buffer));
                    self.buffer.consume(frame.total);
                    if !more {
                        break;
                    }
                }
            }
        }
    }

    /// Puts the bytes of the packets given so far, of which `first` is the place of the earliest that is wanted, into
    /// `memory`, at their places. Most often this trades memories.
    pub fn hand_over(&mut self, first: usize, memory: &mut Vec<u8>) {
        self.settle();
        self.buffer.hand_over(first, memory);
    }

    /// Passes the packet that was given last.
    fn settle(&mut self) {
        let passed = std::mem::take(&mut self.pending);
        self.buffer.consume(passed);
    }

    /// The end, for whatever reason. A failing decompressor is damage (the data are bad), a failing
    /// file is an error (the data may be good).
    fn finish(&mut self, step: Step) -> Result<(), Error> {
        self.finished = true;
        let failure = self.buffer.take_failure();
        let is_cut = failure.is_none() && matches!(step, Step::Cut(_));
        let what = match (step, failure, self.packed) {
            (Step::Broken(what), _, _) => what,
            (_, Some(e), Some(packing)) => format!("the {packing} data can't be decompressed: {e}"),
            (_, Some(source), None) => return Err(self.read_error(source)),
            (Step::Cut(what), None, _) => what,
            (Step::End | Step::Frame(_), None, _) => return Ok(()),
        };
        self.damage = Some(Damage {
            offset: self.whole(),
            what,
            is_cut,
        });
        Ok(())
    }

    fn read_error(&self, source: std::io::Error) -> Error {
        Error::Read {
            name: self.name.clone(),
            offset: self.whole(),
            source,
        }
    }

    /// Once there are no more packets: the end of the last whole record or block, an offset as in [`Damage`].
    pub fn whole(&self) -> u64 {
        match &self.state {
            State::Pcap(_) => self.buffer.offset(),
            State::Pcapng(blocks) => blocks.start(),
        }
    }

    /// The interfaces of the section that is read, in a pcapng file.
    pub fn described(&self) -> Vec<Described> {
        match &self.state {
            State::Pcap(_) => Vec::new(),
            State::Pcapng(blocks) => blocks.interfaces(),
        }
    }

    /// pcap or pcapng.
    pub fn format(&self) -> Format {
        match self.state {
            State::Pcap(_) => Format::Pcap,
            State::Pcapng(_) => Format::Pcapng,
        }
    }

    /// Resolution of the times: of the finest interface seen so far in pcapng, where an interface
    /// comes before its packets. Anything finer than microseconds counts as nanoseconds.
    pub fn precision(&self) -> Precision {
        match &self.state {
            State::Pcap(pcap) => pcap.precision(),
            State::Pcapng(blocks) => blocks.precision(),
        }
    }

    /// Why reading ended before the end of the file, if it did.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// How messages call the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes taken from the underlying file so far (compressed ones, where it is compressed).
    pub fn bytes_read(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Offset in the decompressed data behind the last record given: everything before it is whole.
    pub fn position(&self) -> u64 {
        self.buffer.offset() + self.pending as u64
    }
}

/// Why a stream is not begun with.
pub(super) enum Refusal {
    /// It is no capture; the text says what was found.
    Foreign(String),
    /// It is one that is not read; the text says why.
    Unsupported(String),
}

fn begin(buffer: &mut Buffer, strict: bool) -> Result<State, Refusal> {
    buffer.fill(4);
    match buffer.window() {
        [] => Err(Refusal::Foreign("is empty".to_owned())),
        [0x0A, 0x0D, 0x0D, 0x0A, ..] => Blocks::begin(buffer, strict).map(State::Pcapng),
        _ => Classic::begin(buffer, strict).map(State::Pcap),
    }
}

fn explain(
    refusal: Refusal,
    buffer: &mut Buffer,
    name: String,
    packed: Option<&'static str>,
) -> Error {
    match (refusal, buffer.take_failure(), packed) {
        (_, Some(source), None) => Error::Read {
            name,
            offset: buffer.offset(),
            source,
        },
        (Refusal::Foreign(_), Some(e), Some(packing)) => Error::NotACapture {
            name,
            found: format!("begins like {packing}, but can't be decompressed: {e}"),
        },
        (Refusal::Foreign(found), None, Some(packing)) => Error::NotACapture {
            name,
            found: format!("is {packing} around something that {found}"),
        },
        (Refusal::Foreign(found), None, None) => Error::NotACapture { name, found },
        (Refusal::Unsupported(what), _, _) => Error::Unsupported { name, what },
    }
}
