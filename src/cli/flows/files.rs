//! Which files are read, and what they are packed in.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

const CHUNK: usize = 128 * 1024;

/// Names of flow logs in a folder; others are left alone.
const ENDINGS: [&str; 5] = [".log", ".gz", ".zst", ".txt", ".parquet"];

/// What is found below a path.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of their names.
    pub(super) files: Vec<PathBuf>,
    /// Folders that can't be listed, and why.
    pub(super) unreadable: Vec<(PathBuf, io::Error)>,
}

impl Found {
    /// A file is taken whatever it is called; of a folder, what is called like a flow log and not hidden.
    pub(super) fn below(path: &Path) -> Self {
        let mut found = Self::default();
        if fs::metadata(path).is_ok_and(|m| m.is_dir()) {
            found.folder(path);
            found.files.sort();
        } else {
            found.files.push(path.to_owned());
        }
        found
    }

    /// Links to folders are not followed: there is no way into a circle.
    fn folder(&mut self, top: &Path) {
        let mut folders = vec![top.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => {
                    self.unreadable.push((folder, error));
                    continue;
                }
            };
            for entry in entries {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with('.') {
                    continue;
                }
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    folders.push(entry.path());
                } else if is_flow_log(&entry.path(), &name) {
                    self.files.push(entry.path());
                }
            }
        }
    }
}

/// Pipes and devices are not read unless they are named: they may never end.
fn is_flow_log(path: &Path, name: &str) -> bool {
    is_named_so(name) && fs::metadata(path).is_ok_and(|m| m.is_file())
}

/// Whether it is called like a flow log.
pub(super) fn is_named_so(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// What a file holds.
pub(super) enum Input {
    /// Lines of text, unpacked.
    Lines(Box<dyn BufRead>),
    /// Parquet, which is read by pieces here and there.
    #[cfg(feature = "parquet")]
    Parquet(File),
}

/// Opens a file, or standard input for `-`; the first bytes tell what it is.
pub(super) fn open(path: &Path) -> io::Result<Input> {
    if path.as_os_str() == "-" {
        let message = "it is Parquet, which can't be read from a pipe; name the file";
        return lines(io::stdin(), message).map(Input::Lines);
    }
    let file = File::open(path)?;
    #[cfg(feature = "parquet")]
    if starts_as_parquet(&file)? {
        return Ok(Input::Parquet(file));
    }
    lines(file, NO_PARQUET).map(Input::Lines)
}

const NO_PARQUET: &str =
    "it is Parquet, and this mirrortap was built without the feature \"parquet\"";

/// What comes from a bucket. Parquet is read here and there, so it is put aside first.
#[cfg(feature = "aws")]
pub(super) fn from_afar(mut raw: impl Read + 'static) -> io::Result<Input> {
    let mut head = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut head)?;
    #[cfg(feature = "parquet")]
    if head == b"PAR1" {
        return put_aside(&mut io::Cursor::new(head).chain(raw)).map(Input::Parquet);
    }
    lines(io::Cursor::new(head).chain(raw), NO_PARQUET).map(Input::Lines)
}

#[cfg(all(feature = "aws", feature = "parquet"))]
fn put_aside(whole: &mut impl Read) -> io::Result<File> {
    use std::io::Seek;

    let mut file = nameless()?;
    io::copy(whole, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// A file that is gone when it is closed.
#[cfg(all(feature = "aws", feature = "parquet"))]
fn nameless() -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let folder = std::env::temp_dir();
    let mut number = 0_u32;
    loop {
        let name = format!("mirrortap-flows-{}-{number}", std::process::id());
        let path = folder.join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What cannot be read twice is no Parquet, whose end is read first.
#[cfg(feature = "parquet")]
fn starts_as_parquet(mut file: &File) -> io::Result<bool> {
    use std::io::Seek;

    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut head = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(head == b"PAR1")
}

/// Puts the right decompressor in front; Parquet is refused.
pub(super) fn lines(raw: impl Read + 'static, parquet: &str) -> io::Result<Box<dyn BufRead>> {
    let mut raw = BufReader::with_capacity(CHUNK, raw);
    let mut head = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut head)?;
    let packed = match head.as_slice() {
        [0x1F, 0x8B, ..] => Packed::Gzip,
        [0x28, 0xB5, 0x2F, 0xFD] => Packed::Zstd,
        b"PAR1" => return Err(io::Error::new(io::ErrorKind::InvalidData, parquet)),
        _ => Packed::Not,
    };
    let whole = io::Cursor::new(head).chain(raw);
    Ok(match packed {
        Packed::Gzip => Box::new(BufReader::with_capacity(CHUNK, MultiGzDecoder::new(whole))),
        Packed::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            Box::new(BufReader::with_capacity(CHUNK, decoder))
        }
        Packed::Not => Box::new(whole),
    })
}

enum Packed {
    Gzip,
    Zstd,
    Not,
}
