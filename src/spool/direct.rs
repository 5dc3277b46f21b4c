//! Writing past the page cache: whole blocks from aligned memory.
//!
//! Takes: records, and where they go. Gives: [`Staging`], the memory that a writer lends to the file it is writing, and
//! [`Tail`], what a file keeps between two writes: the bytes of its last block, which is written again with the next
//! ones. Holds: whatever was taken is on its way to the disk when `write` returns, the last block filled up with
//! [`FILLER`]; a block that is written again begins with the bytes that it had, so what was stored stays stored.
//!
//! The copy into the staging takes the place of the kernel's copy into the page cache.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::thread::{Scope, ScopedJoinHandle};

use crate::spool::Short;
use crate::spool::compress::Press;
use crate::sys::disk::{ALIGNMENT, Aligned};

/// Bytes of one write: as many as a disk needs to have all its channels at work.
const STAGED: usize = 4 << 20;

/// What the last block is filled up with: no reader takes it for a record.
const FILLER: u8 = 0xFF;

/// Memory for two writes, made when it is first needed: one is filled while the other is under way; and for what is
/// compressed.
#[derive(Debug)]
pub struct Staging {
    now: Stage,
    other: Stage,
    pub(super) press: Press,
}

impl Staging {
    /// With at most `encoders` zstd files compressed at a time.
    pub fn new(encoders: usize) -> Self {
        Self {
            now: Stage::default(),
            other: Stage::default(),
            press: Press::new(encoders),
        }
    }
}

impl Default for Staging {
    fn default() -> Self {
        Self::new(1)
    }
}

/// Memory for one write.
#[derive(Debug, Default)]
struct Stage {
    memory: Option<Aligned>,
    used: usize,
}

impl Stage {
    /// Takes as much of `bytes` as it has room for; gives the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let memory = self.memory.get_or_insert_with(|| Aligned::new(STAGED));
        let room = memory.get_mut(self.used..).unwrap_or_default();
        let (now, rest) = bytes.split_at(bytes.len().min(room.len()));
        if let Some(room) = room.get_mut(..now.len()) {
            room.copy_from_slice(now);
        }
        self.used += now.len();
        rest
    }

    fn is_full(&self) -> bool {
        self.used == STAGED
    }

    /// Whole blocks, the last one filled up.
    fn blocks(&mut self) -> &[u8] {
        let end = self.used.next_multiple_of(ALIGNMENT);
        let Some(memory) = &mut self.memory else {
            return &[];
        };
        if let Some(rest) = memory.get_mut(self.used..end) {
            rest.fill(FILLER);
        }
        memory.get(..end).unwrap_or_default()
    }

    /// The bytes of the last block, when it is not whole.
    fn remainder(&self) -> &[u8] {
        let start = self.used / ALIGNMENT * ALIGNMENT;
        let memory = self.memory.as_deref().unwrap_or_default();
        memory.get(start..self.used).unwrap_or_default()
    }
}

/// The bytes of a file's last block.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Reads the last block of a file of `len` bytes, which may be open for direct I/O.
    pub(super) fn read(file: &File, len: u64) -> io::Result<Self> {
        let start = len / ALIGNMENT as u64 * ALIGNMENT as u64;
        let mut block = Aligned::new(ALIGNMENT);
        let wanted = (len - start) as usize;
        let mut got = 0;
        while got < wanted {
            match file.read_at(&mut block, start) {
                Ok(n) if n > got => got = n,
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self(block.get(..wanted).unwrap_or_default().to_vec()))
    }

    /// Appends `parts` to a file of `len` bytes. The tail stays what it was when this fails.
    ///
    /// What is more than one write goes out from a thread of its own while the next is filled, so that the disk is
    /// not left without work; all are over when this returns.
    pub(super) fn write(
        &mut self,
        file: &File,
        len: u64,
        parts: &[IoSlice<'_>],
        staging: &mut Staging,
    ) -> Result<u64, Short> {
        let mut at = len - self.0.len() as u64;
        let (mut now, mut other) = (
            std::mem::take(&mut staging.now),
            std::mem::take(&mut staging.other),
        );
        now.used = 0;
        now.fill(&self.0);
        let result = std::thread::scope(|scope| {
            let mut flying: Option<Flying<'_>> = None;
            for part in parts {
                let mut rest: &[u8] = part;
                while !rest.is_empty() {
                    rest = now.fill(rest);
                    if now.is_full() {
                        other = land(flying.take(), &mut other)?;
                        flying = Some(launch(scope, file, now, at)?);
                        at += STAGED as u64;
                        now = std::mem::take(&mut other);
                        now.used = 0;
                    }
                }
            }
            other = land(flying.take(), &mut other)?;
            write_all(file, now.blocks(), at).map_err(|(n, e)| (at + n, e))?;
            Ok((at + now.used as u64, now, other))
        });
        let (end, now, other) = result.map_err(|(done, error): (u64, io::Error)| Short {
            written: done.saturating_sub(len),
            error,
        })?;
        self.0.clear();
        self.0.extend_from_slice(now.remainder());
        (staging.now, staging.other) = (now, other);
        Ok(end - len)
    }
}

/// A write under way: it gives its memory back, and says up to where the file was written, and what failed.
type Flying<'s> = ScopedJoinHandle<'s, (Stage, Result<(), (u64, io::Error)>)>;

fn launch<'s>(
    scope: &'s Scope<'s, '_>,
    file: &'s File,
    mut stage: Stage,
    at: u64,
) -> Result<Flying<'s>, (u64, io::Error)> {
    let write = move || {
        let result = write_all(file, stage.blocks(), at).map_err(|(n, e)| (at + n, e));
        (stage, result)
    };
    let thread = std::thread::Builder::new().name("disk".to_owned());
    thread.spawn_scoped(scope, write).map_err(|e| (at, e))
}

/// Waits for a write, where there is one.
fn land(flying: Option<Flying<'_>>, idle: &mut Stage) -> Result<Stage, (u64, io::Error)> {
    let Some(flying) = flying else {
        return Ok(std::mem::take(idle));
    };
    let (stage, result) = flying
        .join()
        .map_err(|_| (0, io::Error::other("the thread that wrote panicked")))?;
    result.map(|()| stage)
}

/// Writes whole blocks. What was written of them before it failed is counted in whole blocks too.
fn write_all(file: &File, blocks: &[u8], at: u64) -> Result<(), (u64, io::Error)> {
    let mut done = 0;
    while done < blocks.len() {
        let rest = blocks.get(done..).unwrap_or_default();
        match file.write_at(rest, at + done as u64) {
            Ok(n) if n >= ALIGNMENT => done += n / ALIGNMENT * ALIGNMENT,
            Ok(_) => return Err((done as u64, io::ErrorKind::WriteZero.into())),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((done as u64, e)),
        }
    }
    Ok(())
}
