//! A window over a stream.
//!
//! Takes: a stream. Gives: as many of its next bytes as asked for, in one piece; and the memory itself, for memory in
//! return. Holds: memory grows with the bytes that really came, never with what a length field claims; an error of the
//! stream shows only when the bytes before it are used up; bytes stay where they are until more are asked for than are
//! there.

use std::io::{self, Read};
use std::ops::Range;

use crate::capfile::input::Stream;

/// Bytes of the window, which are read in one call where the stream gives so many: enough that the call itself costs
/// nothing, few enough for the cache.
pub(super) const START: usize = 256 * 1024;

/// The window. `offset` counts the bytes of the stream that lie before it.
pub(super) struct Buffer {
    stream: Stream,
    bytes: Vec<u8>,
    from: usize,
    to: usize,
    offset: u64,
    ended: bool,
    failure: Option<io::Error>,
}

impl Buffer {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            bytes: vec![0; START],
            from: 0,
            to: 0,
            offset: 0,
            ended: false,
            failure: None,
        }
    }

    /// How far into the stream the window begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What is in the window.
    #[inline]
    pub(super) fn window(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    /// Tries to have `need` bytes in the window; false when the stream ends (or fails) before.
    pub(super) fn fill(&mut self, need: usize) -> bool {
        while self.to - self.from < need {
            if self.ended {
                return false;
            }
            self.make_room();
            self.read_some();
        }
        true
    }

    /// The error that ended the stream, once.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Moves the window past `n` bytes of it.
    #[inline]
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.to - self.from);
        self.from += n;
        self.offset += n as u64;
    }

    /// Where in the memory the window begins.
    #[inline]
    pub(super) fn place(&self) -> usize {
        self.from
    }

    /// Puts the memory from `first` up to the window into `memory`, at the same places: by a trade, for which what is in
    /// the window is copied, or, where that is more, by a copy.
    pub(super) fn hand_over(&mut self, first: usize, memory: &mut Vec<u8>) {
        let left = self.to - self.from;
        let trade = left <= self.from.saturating_sub(first);
        let need = if trade { left.max(START) } else { self.from };
        if memory.len() < need {
            memory.resize(need, 0);
        }
        if !trade {
            return copy(&self.bytes, first..self.from, memory, first);
        }
        copy(&self.bytes, self.from..self.to, memory, 0);
        std::mem::swap(&mut self.bytes, memory);
        (self.from, self.to) = (0, left);
    }

    /// Moves past `n` bytes of the stream without keeping them; false when it ends before.
    pub(super) fn skip(&mut self, mut n: u64) -> bool {
        loop {
            let here = n.min((self.to - self.from) as u64);
            self.consume(here as usize);
            n -= here;
            if n == 0 {
                return true;
            }
            if !self.fill(1) {
                return false;
            }
        }
    }

    /// Moves what is left to the front; doubles only when the window itself is full.
    fn make_room(&mut self) {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        if self.from > 0 && self.to == self.bytes.len() {
            self.bytes.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }

    fn read_some(&mut self) {
        let room = self.bytes.get_mut(self.to..).unwrap_or_default();
        match self.stream.read(room) {
            Ok(0) => self.ended = true,
            Ok(n) => self.to += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                self.ended = true;
                self.failure = Some(e);
            }
        }
    }
}

/// Copies bytes to another memory, to where `at` is.
fn copy(from: &[u8], range: Range<usize>, to: &mut [u8], at: usize) {
    let from = from.get(range).unwrap_or_default();
    if let Some(to) = to.get_mut(at..at + from.len()) {
        to.copy_from_slice(from);
    }
}
