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
    folder: PathBuf,
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
            folder: folder.to_owned(),
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

    /// Ends the file: all of it is with the disk.
    pub(super) fn seal(self) -> io::Result<Sealed> {
        let counted = self.packer.finish()?;
        let inner = counted.inner.into_inner();
        inner.map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(Sealed {
            folder: self.folder,
            partial: self.partial,
        })
    }

    /// Its hidden name.
    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }
}

/// A whole file that still has its hidden name.
#[derive(Debug)]
pub(super) struct Sealed {
    folder: PathBuf,
    partial: PathBuf,
}

impl Sealed {
    /// Gives the file its name. A link refuses to overwrite; where the file system has none, a look has to do.
    pub(super) fn publish(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        match fs::hard_link(&self.partial, &path) {
            Ok(()) => fs::remove_file(&self.partial)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) if path.exists() => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(&self.partial, &path)?,
        }
        File::open(&self.folder)?.sync_all()?;
        Ok(path)
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
