//! Cutting, completing and publishing.
//!
//! Takes: a scanned file. Gives: a published one, or one that is set aside. Holds: what is cut off is kept first, where it is
//! to be kept; the end is written over what is cut off before the file is shortened, so that a crash in between
//! leaves what can be recovered again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::capfile::encode;
use crate::spool::compress::{LAST_BLOCK, member_of, raw_blocks};
use crate::spool::recover::scan::Scan;
use crate::spool::recover::{Error, Outcome, Recovered, tail, told, units};
use crate::spool::{Compression, Format, Name, Sealed, sealed};

/// A file that holds no capture is called so.
pub(super) const ASIDE: &str = ".aside";

/// What was cut off is called so.
const DAMAGED: &str = ".damaged";

/// How many names are tried.
const TRIES: u32 = 1000;

/// More content is not taken out of a unit that is cut. This program makes units of 2 MiB at most.
const MOST_SALVAGED: u64 = 64 << 20;

const CHUNK: usize = 64 << 10;

/// Makes a file whole and publishes it.
pub(super) fn mend(name: &Name, file: &File, scan: &Scan) -> Result<Recovered, Error> {
    let path = name.partial();
    let failed = |source| Error::writing(&path, source);
    let stored = file.metadata().map_err(failed)?.len();
    let cut = scan.cut.stored;
    let kept = keep(name, file, scan, stored).map_err(failed)?;
    let end = ending(name, scan).map_err(failed)?;
    file.write_all_at(&end, cut).map_err(failed)?;
    let len = cut + end.len() as u64;
    if stored > len {
        file.set_len(len).map_err(failed)?;
    }
    let published = Sealed::new(name.clone(), path.clone(), len, &[]).publish()?;
    Ok(Recovered {
        path: published,
        bytes: len,
        kept,
        ..told(name, scan, stored)
    })
}

/// Gives a file that holds no capture another hidden name.
pub(super) fn aside(name: &Name, why: String) -> Result<Outcome, Error> {
    let partial = name.partial();
    let path = free(name, ASIDE, |path| fs::hard_link(&partial, path));
    let path = match path {
        // No hard links here. A name that is taken is still left alone.
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            free(name, ASIDE, |path| sealed::rename(&partial, path))
        }
        Ok(path) => fs::remove_file(&partial).map(|()| path),
        taken => taken,
    };
    let path = path.map_err(|e| Error::writing(&partial, e))?;
    Ok(Outcome::Aside { partial, path, why })
}

/// Makes a hidden file of that ending under the first name that is free.
fn free(name: &Name, ending: &str, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    for number in 1..=TRIES {
        let path = match number {
            1 => name.hidden(ending),
            _ => name.hidden(&format!("{ending}-{number}")),
        };
        match make(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Copies what will be cut off into a file beside, unless it is a torn tail or filler.
fn keep(name: &Name, file: &File, scan: &Scan, stored: u64) -> io::Result<Option<PathBuf>> {
    let from = scan.cut.stored;
    let is_torn = scan.is_torn_only && !holds_more(name, file, scan, stored)?;
    if is_torn || is_filler(file, from, stored)? {
        return Ok(None);
    }
    let path = free(name, DAMAGED, |path| {
        let copy = OpenOptions::new().write(true).create_new(true).open(path)?;
        copy_from(file, from, stored, &copy)
            .and_then(|()| copy.sync_all())
            .inspect_err(|_| {
                // A part of a copy is no use; what it is of is still there.
                let _ = fs::remove_file(path);
            })
    })?;
    File::open(name.directory())?.sync_all()?;
    Ok(Some(path))
}

/// Whether a tail that looks torn, which is a few MiB at most, holds other records: then a length was damaged.
fn holds_more(name: &Name, file: &File, scan: &Scan, stored: u64) -> io::Result<bool> {
    let mut rest = vec![0; stored.saturating_sub(scan.cut.stored) as usize];
    file.read_exact_at(&mut rest, scan.cut.stored)?;
    let kind = (name.format(), name.compression());
    let seconds = scan.times.map(|(first, last)| (first.secs(), last.secs()));
    Ok(tail::holds_more(&rest, kind, seconds))
}

fn copy_from(file: &File, mut from: u64, to: u64, copy: &File) -> io::Result<()> {
    let (mut chunk, mut written) = (vec![0; CHUNK], 0);
    while from < to {
        let n = read_some(file, &mut chunk, from, to)?;
        copy.write_all_at(chunk.get(..n).unwrap_or_default(), written)?;
        written += n as u64;
        from += n as u64;
    }
    Ok(())
}

/// Whether the rest is what direct I/O fills a block with, or space that was never written.
fn is_filler(file: &File, mut from: u64, to: u64) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    let mut filler = None;
    while from < to {
        let n = read_some(file, &mut chunk, from, to)?;
        for byte in chunk.get(..n).unwrap_or_default() {
            let first = *filler.get_or_insert(*byte);
            if *byte != first || !matches!(first, 0 | 0xFF) {
                return Ok(false);
            }
        }
        from += n as u64;
    }
    Ok(true)
}

fn read_some(file: &File, chunk: &mut [u8], from: u64, to: u64) -> io::Result<usize> {
    let wanted = chunk.len().min((to - from) as usize);
    loop {
        match file.read_at(chunk.get_mut(..wanted).unwrap_or_default(), from) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What the file ends with behind the place where it is cut: whole records of the unit that is cut, the statistics, the end of
/// the frame.
fn ending(name: &Name, scan: &Scan) -> io::Result<Vec<u8>> {
    let mut content = salvage(name, scan)?;
    if name.format() == Format::Pcapng {
        statistics(&mut content, scan);
    }
    let mut out = Vec::new();
    match name.compression() {
        Compression::None => return Ok(content),
        Compression::Zstd => {
            raw_blocks(&mut out, &content);
            out.extend_from_slice(&LAST_BLOCK);
        }
        Compression::Gzip if content.is_empty() => {}
        Compression::Gzip => member_of(&mut out, &content)?,
    }
    Ok(out)
}

/// The content between the place to cut and the end of the last whole record.
fn salvage(name: &Name, scan: &Scan) -> io::Result<Vec<u8>> {
    let wanted = scan.whole - scan.cut.content;
    if wanted > MOST_SALVAGED {
        let what = "a compressed unit is larger than any that is written here";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    let mut content = Vec::new();
    if wanted > 0 {
        let file = File::open(name.partial())?;
        let (mut stream, _) = units::open(file, name.compression())?;
        let passed = io::copy(&mut stream.by_ref().take(scan.cut.content), &mut io::sink())?;
        stream.take(wanted).read_to_end(&mut content)?;
        if passed != scan.cut.content || content.len() as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(content)
}

/// Statistics of the interfaces that have none: what is in the file, as nobody knows what else was received.
fn statistics(out: &mut Vec<u8>, scan: &Scan) {
    let (first, last) = scan.times.unwrap_or_default();
    for (id, (described, packets)) in (0..).zip(&scan.interfaces) {
        if !described.has_statistics {
            let precision = described.precision;
            encode::recovered_statistics(out, id, precision, (first, last), *packets);
        }
    }
}
