//! One file of records: lines of text, packed with gzip as they come, then made whole, and only then given its name.
//!
//! While it grows it is `NAME.growing`, always text: what a crash leaves can be read up to its last second. Whole and synced it is
//! `NAME.whole`, in the form that it will have. Where only that is there it is whole; beside a `.growing` it is worth nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::flowlog::FileFormat;

/// What the name of a file ends with while it grows.
pub(super) const GROWING: &str = ".growing";
/// What it ends with when it is whole.
pub(super) const WHOLE: &str = ".whole";

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Growing {
    packer: GzEncoder<Counted>,
    folder: PathBuf,
    /// The name that it will have.
    pub(super) name: String,
    /// Bytes of text.
    pub(super) text: u64,
    pub(super) records: u64,
    /// Whether something may be lost by a crash.
    dirty: bool,
}

impl Growing {
    /// Begins a file with its header line, in a hidden folder that is there.
    pub(super) fn begin(folder: &Path, name: String, header: &str) -> io::Result<Self> {
        let path = folder.join(format!("{name}{GROWING}"));
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut this = Self {
            packer: packer(file),
            folder: folder.to_owned(),
            name,
            text: 0,
            records: 0,
            dirty: true,
        };
        this.line(header)?;
        Ok(this)
    }

    /// Adds a record.
    pub(super) fn record(&mut self, line: &str) -> io::Result<()> {
        self.line(line)?;
        self.records += 1;
        Ok(())
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.dirty = true;
        self.packer.write_all(line.as_bytes())?;
        self.packer.write_all(b"\n")?;
        self.text += line.len() as u64 + 1;
        Ok(())
    }

    /// Hands all that was written to the system: if this process is killed it can be read again.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.dirty {
            return Ok(());
        }
        self.dirty = false;
        self.packer.flush()
    }

    /// Bytes that the file has, give or take what the packer holds back.
    pub(super) fn packed(&self) -> u64 {
        self.packer.get_ref().bytes
    }

    /// Ends the file: all of it is with the disk, in the form that it will have. The number is that of lines that do not fit into that form.
    pub(super) fn seal(self, format: FileFormat) -> io::Result<(Whole, u64)> {
        let inner = self.packer.finish()?.inner.into_inner();
        let file = inner.map_err(io::IntoInnerError::into_error)?;
        let growing = self.folder.join(format!("{}{GROWING}", self.name));
        let path = self.folder.join(format!("{}{WHOLE}", self.name));
        let unfit = match format {
            FileFormat::Text => {
                file.sync_all()?;
                fs::rename(&growing, &path)?;
                0
            }
            FileFormat::Parquet => {
                let unfit = convert(MultiGzDecoder::new(File::open(&growing)?), &path)?;
                fs::remove_file(&growing)?;
                unfit
            }
        };
        let name = self.name;
        Ok((Whole { path, name }, unfit))
    }

    /// Its hidden name.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(format!("{}{GROWING}", self.name))
    }
}

fn packer(file: File) -> GzEncoder<Counted> {
    let counted = Counted {
        inner: BufWriter::with_capacity(64 * 1024, file),
        bytes: 0,
    };
    GzEncoder::new(counted, Compression::default())
}

/// Makes Parquet of lines, and syncs it. Gives how many of them are no records.
#[cfg(feature = "parquet")]
pub(super) fn convert(lines: impl Read, whole: &Path) -> io::Result<u64> {
    let out = BufWriter::with_capacity(64 * 1024, File::create(whole)?);
    let (out, unfit) = crate::record::parquet::salvage(io::BufReader::new(lines), out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all().map(|()| unfit)
}

/// Without the feature the configuration has been refused.
#[cfg(not(feature = "parquet"))]
pub(super) fn convert(_: impl Read, _: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Packs lines, and syncs them.
pub(super) fn pack(mut lines: impl Read, whole: &Path) -> io::Result<()> {
    let mut packer = packer(File::create(whole)?);
    io::copy(&mut lines, &mut packer)?;
    let inner = packer.finish()?.inner.into_inner();
    inner.map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// A whole file that still has its hidden name.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) path: PathBuf,
    /// The name that it will have.
    pub(super) name: String,
}

impl Whole {
    /// Gives the file its name in a folder, which is made. A link refuses to overwrite; where the file system has none, a look has
    /// to do, and the hidden name is gone then.
    pub(super) fn publish(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        match fs::hard_link(&self.path, path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if path.exists() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(&self.path, path),
        }
    }
}

/// Counts what passes.
#[derive(Debug)]
struct Counted {
    inner: BufWriter<File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
