//! One file of records: born hidden, packed with gzip as it grows, synced, and only then given its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Growing {
    packer: GzEncoder<Counted>,
    partial: PathBuf,
    published: PathBuf,
    /// Bytes of text.
    pub(super) text: u64,
    pub(super) records: u64,
}

impl Growing {
    /// Begins a file with its header line. The folder is made. A hidden file of that name that a crash has left is gone.
    pub(super) fn begin(folder: &Path, name: &str, header: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let partial = folder.join(format!(".{name}.partial"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&partial)?;
        let counted = Counted {
            inner: BufWriter::with_capacity(64 * 1024, file),
            bytes: 0,
        };
        let mut this = Self {
            packer: GzEncoder::new(counted, Compression::default()),
            partial,
            published: folder.join(name),
            text: 0,
            records: 0,
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
        self.packer.write_all(line.as_bytes())?;
        self.packer.write_all(b"\n")?;
        self.text += line.len() as u64 + 1;
        Ok(())
    }

    /// Bytes that the file has, give or take what the packer holds back.
    pub(super) fn packed(&self) -> u64 {
        self.packer.get_ref().bytes
    }

    /// Where it will be.
    pub(super) fn published(&self) -> &Path {
        &self.published
    }

    /// Ends the file and gives it its name. One that exists is not overwritten.
    pub(super) fn publish(self) -> io::Result<PathBuf> {
        let counted = self.packer.finish()?;
        let file = counted
            .inner
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        if fs::exists(&self.published)? {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        fs::rename(&self.partial, &self.published)?;
        if let Some(folder) = self.published.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(self.published)
    }

    /// Its hidden name.
    pub(super) fn partial(&self) -> &Path {
        &self.partial
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
