//! What a run that was killed has left: cut at its last whole line, completed, and published under the name that it was to have.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::flowlog::file::{GROWING, WHOLE, Whole, convert, pack};
use crate::flowlog::key::{ending, owner};
use crate::flowlog::work::Work;
use crate::flowlog::{Error, FileFormat, Layout};
use crate::record::Columns;

/// The longest line that is taken for one.
const LONGEST: u64 = 64 * 1024;

/// What came of the files that earlier runs left.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Files that have their name now.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Of the files, those whose end was torn: up to the last second of their run is lost.
    pub torn: u64,
    /// Files that can't be read, and were put aside.
    pub damaged: Vec<PathBuf>,
    /// What could not be done. The next start tries again.
    pub errors: Vec<Error>,
}

impl Recovered {
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.records += other.records;
        self.torn += other.torn;
        self.damaged.extend(other.damaged);
        self.errors.extend(other.errors);
    }
}

/// What earlier runs left, with its locks: nobody else takes it. Made whole one run after the other, which may take long and needs nothing
/// of the flow log.
#[derive(Debug)]
pub struct Leftovers {
    found: std::vec::IntoIter<io::Result<Work>>,
    directory: PathBuf,
    layout: Layout,
}

impl Leftovers {
    pub(super) fn find(directory: &Path, layout: &Layout, name: &str) -> Self {
        let found = match Work::left(directory, &layout.id, &owner(name)) {
            Ok(works) => works.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        Self {
            found: found.into_iter(),
            directory: directory.to_owned(),
            layout: layout.clone(),
        }
    }

    /// Whether nothing was left.
    pub fn is_empty(&self) -> bool {
        self.found.as_slice().is_empty()
    }
}

impl Iterator for Leftovers {
    type Item = Made;

    fn next(&mut self) -> Option<Made> {
        let mut told = Recovered::default();
        let mut made = (None, Vec::new());
        match self.found.next()? {
            Ok(work) => {
                let layout = &self.layout;
                let owns = |name: &str| {
                    layout
                        .key(name)
                        .or_else(|| layout.key_of_left(name))
                        .is_some()
                };
                let ready = whole(&work, owns, &mut told);
                made = (Some(work), ready);
            }
            Err(source) => told.errors.push(error(self.directory.clone(), source)),
        }
        Some(Made {
            ready: made.1,
            told,
            _work: made.0,
        })
    }
}

/// Files of an earlier run that are whole and have to be published.
#[derive(Debug)]
pub struct Made {
    pub(super) ready: Vec<(Whole, u64)>,
    pub(super) told: Recovered,
    /// Its folder goes behind them.
    _work: Option<Work>,
}

/// What is left of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// It is whole now, and has so many records.
    Whole { records: u64, torn: bool },
    /// Nothing was in it.
    Empty,
    /// It can't be read.
    Damaged,
}

/// Makes the files in a folder whole: the names that they are to have, and what is in them. A whole one beside a growing one is made
/// again.
pub(super) fn whole(
    work: &Work,
    owns: impl Fn(&str) -> bool,
    told: &mut Recovered,
) -> Vec<(Whole, u64)> {
    let mut ready = Vec::new();
    let names = match work.names() {
        Ok(names) => names,
        Err(source) => {
            told.errors.push(error(work.folder().to_owned(), source));
            return ready;
        }
    };
    for file in &names {
        let growing = file.strip_suffix(GROWING).filter(|name| owns(name));
        let lone = file
            .strip_suffix(WHOLE)
            .filter(|name| owns(name) && !names.contains(&format!("{name}{GROWING}")));
        let path = work.folder().join(file);
        let made = match (growing, lone) {
            (Some(name), _) => made(work, &path, name, told),
            (_, Some(name)) => Ok(Some(((path.clone(), name), records(&path)))),
            _ => continue,
        };
        match made {
            Ok(Some(((path, name), records))) => {
                let name = name.to_owned();
                ready.push((Whole { path, name }, records));
            }
            Ok(None) => {}
            Err(source) => told.errors.push(error(path, source)),
        }
    }
    ready
}

/// Records of a whole file of text. Those of others are not counted again.
fn records(path: &Path) -> u64 {
    let Ok(file) = fs::File::open(path) else {
        return 0;
    };
    let mut lines = Saved::of(file);
    let read = io::copy(&mut lines, &mut io::sink());
    read.map_or(0, |_| lines.records)
}

type Completed<'n> = Option<((PathBuf, &'n str), u64)>;

/// A whole file of a growing one.
fn made<'n>(
    work: &Work,
    path: &Path,
    name: &'n str,
    told: &mut Recovered,
) -> io::Result<Completed<'n>> {
    let whole = work.folder().join(format!("{name}{WHOLE}"));
    match complete(path, &whole)? {
        Left::Whole { records, torn } => {
            fs::remove_file(path)?;
            told.torn += u64::from(torn);
            Ok(Some(((whole, name), records)))
        }
        Left::Empty => fs::remove_file(path).map(|()| None),
        Left::Damaged => {
            let aside = work.aside(&format!("{name}{GROWING}"))?;
            told.damaged.push(aside);
            Ok(None)
        }
    }
}

pub(super) fn error(file: PathBuf, source: io::Error) -> Error {
    Error {
        doing: "recover",
        file,
        records: 0,
        source,
    }
}

/// Makes a whole file, in the form that its name says, of the lines of a growing one that can be read. Without a line the whole
/// file is not there.
///
/// # Errors
/// What the system says; both files are then to be left alone.
pub(super) fn complete(growing: &Path, whole: &Path) -> io::Result<Left> {
    let mut first = Saved::of(fs::File::open(growing)?);
    let records = io::copy(&mut first, &mut io::sink()).map(|_| first.records)?;
    let (torn, read) = (first.torn, first.columns.is_some());
    if !read && first.bytes > 0 {
        return Ok(Left::Damaged);
    }
    if records == 0 {
        return Ok(Left::Empty);
    }
    let lines = Saved::of(fs::File::open(growing)?);
    let parquet = whole.to_str().is_some_and(|name| {
        let ending = ending(FileFormat::Parquet);
        name.trim_end_matches(WHOLE).ends_with(ending)
    });
    if parquet {
        convert(lines, whole).map(drop)?;
    } else {
        pack(lines, whole)?;
    }
    Ok(Left::Whole { records, torn })
}

/// The lines of a packed file that can be read and are what they should be, up to the first that is not.
struct Saved<R> {
    lines: BufReader<MultiGzDecoder<R>>,
    line: Vec<u8>,
    given: usize,
    columns: Option<Columns>,
    records: u64,
    /// Bytes that could be unpacked.
    bytes: u64,
    torn: bool,
    ended: bool,
}

impl<R: Read> Saved<R> {
    fn of(packed: R) -> Self {
        Self {
            lines: BufReader::new(MultiGzDecoder::new(packed)),
            line: Vec::new(),
            given: 0,
            columns: None,
            records: 0,
            bytes: 0,
            torn: false,
            ended: false,
        }
    }

    fn next(&mut self) {
        self.line.clear();
        self.given = 0;
        let read = (&mut self.lines)
            .take(LONGEST)
            .read_until(b'\n', &mut self.line);
        self.bytes += self.line.len() as u64;
        let good = read.is_ok() && self.is_good();
        if !good {
            // at the end of a file that is whole nothing is read, and nothing is wrong
            self.torn = !matches!(read, Ok(0));
            self.ended = true;
            self.line.clear();
        }
    }

    /// Whether the line is what it should be; the first names the columns.
    fn is_good(&mut self) -> bool {
        let text = str::from_utf8(&self.line).ok();
        let Some(text) = text.and_then(|text| text.strip_suffix('\n')) else {
            return false;
        };
        let Some(columns) = &self.columns else {
            self.columns = Columns::of_header(text);
            return self.columns.is_some();
        };
        let good = columns.read(text).is_ok();
        self.records += u64::from(good);
        good
    }
}

impl<R: Read> Read for Saved<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.line.len() && !self.ended {
            self.next();
        }
        let mut rest = self.line.get(self.given..).unwrap_or_default();
        let read = rest.read(into)?;
        self.given += read;
        Ok(read)
    }
}
