//! Record after record out of files, and what was damaged on the way.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cli::failure::{self, Failure};
#[cfg(feature = "aws")]
use crate::cli::flows::bucket::{self, Access, Below};
use crate::cli::flows::files::{self, Found, Input};
#[cfg(feature = "parquet")]
use crate::record::parquet::{Fault, Reader};
use crate::record::{Columns, Field, Format, Record, Scope, Status, Value};
#[cfg(feature = "aws")]
use crate::ship::aws::Failure as Trouble;

/// The longest line that is taken for one. A record of all fields has some 1,500 bytes.
const LONGEST: u64 = 64 * 1024;
/// Of a folder.
const NONE: &str = "has no .log, .gz, .zst, .txt or .parquet file in it";
/// Of a key.
#[cfg(feature = "aws")]
const ODD: &str = "such a key can't be asked for: it begins with a slash, or has an empty step, \".\", \"..\" or a control character";
/// Damaged lines that are told one by one.
const TOLD: u64 = 5;

/// Why reading ended before its time.
#[derive(Debug)]
pub(super) enum Stop {
    Output(io::Error),
    Failed(Failure),
}

/// Records of which field are wanted: those where it has this value.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    field: Field,
    value: Box<str>,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, value) = text
            .split_once('=')
            .ok_or("write FIELD=VALUE, as in protocol=17")?;
        let field: Field = field.trim().parse().map_err(|e| format!("{e}"))?;
        let value = value.trim();
        if Value::read(field, value).is_none() {
            return Err(format!("{field} can't be \"{value}\""));
        }
        Ok(Self {
            field,
            value: value.into(),
        })
    }
}

impl Choice {
    /// A line that stands for no flow is not left out for what only a flow has: the gap that it tells may be one in the flows
    /// that are asked for.
    fn takes(&self, record: &Record<'_>) -> bool {
        (self.field.scope() == Scope::Flow && record.status() != Status::Ok)
            || Value::read(self.field, &self.value) == Some(record.get(self.field))
    }
}

/// What was read so far.
#[derive(Debug)]
pub(super) struct Reading {
    /// Columns of files without a header line, if they were told.
    given: Option<Columns>,
    choices: Vec<Choice>,
    /// How buckets are asked.
    #[cfg(feature = "aws")]
    pub(super) access: Access,
    /// Files that were opened.
    pub(super) files: u64,
    /// Records that were not wanted.
    pub(super) left_out: u64,
    /// Lines that are no records.
    pub(super) damaged_lines: u64,
    /// Files that could not be read, or not to their end.
    pub(super) damaged_files: u64,
    /// Files and folders that could not be opened.
    missing: u64,
}

impl Reading {
    pub(super) fn new(given: Option<Columns>, choices: Vec<Choice>) -> Self {
        Self {
            given,
            choices,
            #[cfg(feature = "aws")]
            access: Access::default(),
            files: 0,
            left_out: 0,
            damaged_lines: 0,
            damaged_files: 0,
            missing: 0,
        }
    }

    /// Reads all files below the paths and gives each wanted record to `take`.
    pub(super) fn read_all(
        &mut self,
        paths: &[PathBuf],
        take: &mut impl FnMut(&Record<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        for path in paths {
            #[cfg(feature = "aws")]
            if let Some((bucket, prefix)) = bucket::address(path) {
                self.bucket(path, Below::open(bucket, prefix, &self.access), take)?;
                continue;
            }
            let found = Found::below(path);
            for (folder, error) in &found.unreadable {
                self.missing += 1;
                tell(&format!("cannot list {}: {error}", folder.display()));
            }
            if found.files.is_empty() && found.unreadable.is_empty() {
                self.missing += 1;
                tell(&format!("{} {NONE}", path.display()));
            }
            for file in &found.files {
                self.read(file, take)?;
            }
        }
        Ok(())
    }

    /// Reads what is below an address in a bucket, one page after the other.
    #[cfg(feature = "aws")]
    fn bucket(
        &mut self,
        path: &Path,
        below: Result<Below, Trouble>,
        take: &mut impl FnMut(&Record<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut below = match below {
            Ok(below) => below,
            Err(trouble) => return self.no_bucket(&trouble.reason),
        };
        let before = self.files + self.missing + self.damaged_files;
        while let Some(page) = below.next() {
            match page {
                Ok(page) => {
                    for object in &page.objects {
                        self.input(&below.name(object.key()), below.read(object), take)?;
                    }
                    for key in &page.odd {
                        self.missing += 1;
                        tell(&format!(
                            "cannot read {}: {ODD}",
                            name(&below.name(&key.escape_debug().to_string()))
                        ));
                    }
                }
                Err(trouble) => return self.no_bucket(&trouble.reason),
            }
        }
        if before == self.files + self.missing + self.damaged_files {
            return self.no_bucket(&format!("{} {NONE}", path.display()));
        }
        Ok(())
    }

    #[cfg(feature = "aws")]
    fn no_bucket(&mut self, why: &str) -> Result<(), Stop> {
        self.missing += 1;
        tell(why);
        Ok(())
    }

    fn read(
        &mut self,
        file: &Path,
        take: &mut impl FnMut(&Record<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.input(file, files::open(file), take)
    }

    fn input(
        &mut self,
        file: &Path,
        opened: io::Result<Input>,
        take: &mut impl FnMut(&Record<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        match opened {
            Ok(input) => {
                self.files += 1;
                match input {
                    Input::Lines(lines) => self.lines(file, lines, take),
                    #[cfg(feature = "parquet")]
                    Input::Parquet(parquet) => self.parquet(file, parquet, take),
                }
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    self.damaged_files += 1;
                } else {
                    self.missing += 1;
                }
                tell(&format!("cannot read {}: {error}", name(file)));
                Ok(())
            }
        }
    }

    /// Reads the rows of a Parquet file.
    #[cfg(feature = "parquet")]
    pub(super) fn parquet(
        &mut self,
        file: &Path,
        parquet: impl ::parquet::file::reader::ChunkReader + 'static,
        take: &mut impl FnMut(&Record<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut rows = match Reader::open(parquet) {
            Ok(rows) => rows,
            Err(fault) => {
                self.damaged_files += 1;
                tell(&format!("cannot read {}: {fault}", name(file)));
                return Ok(());
            }
        };
        for number in 1_u64.. {
            match rows.next_record() {
                Ok(None) => break,
                Ok(Some(record)) if self.choices.iter().all(|c| c.takes(&record)) => take(&record)?,
                Ok(Some(_)) => self.left_out += 1,
                Err(Fault::Row(damage)) => self.damaged(file, number, &damage.to_string()),
                Err(fault) => {
                    self.damaged_files += 1;
                    let what = "what comes before is used";
                    tell(&format!(
                        "{}: row {number}: cannot read on: {fault}; {what}",
                        name(file)
                    ));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads the lines of a file. The first may name the columns, and so may later ones: files are also put behind each
    /// other.
    pub(super) fn lines(
        &mut self,
        file: &Path,
        mut input: impl BufRead,
        take: &mut impl FnMut(&Record<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut columns: Option<Columns> = None;
        let mut bytes = Vec::new();
        for number in 1_u64.. {
            let text = match next(&mut input, &mut bytes) {
                Ok(Line::End) => break,
                Ok(Line::Text(text)) if text.trim().is_empty() => continue,
                Ok(Line::Text(text)) => text,
                Ok(Line::Damaged(what)) => {
                    self.damaged(file, number, &what);
                    continue;
                }
                Err(error) => {
                    self.damaged_files += 1;
                    let what = "what comes before is used";
                    tell(&format!(
                        "{}:{number}: cannot read on: {error}; {what}",
                        name(file)
                    ));
                    break;
                }
            };
            if let Some(header) = header(text, columns.is_none()) {
                columns = Some(header);
                continue;
            }
            let Some(known) = columns.take().or_else(|| self.assumed(text)) else {
                self.damaged_files += 1;
                let what = "no header line, and not the fields of version 2; tell the fields with --format";
                tell(&format!("{}:{number}: {what}", name(file)));
                break;
            };
            let known = columns.insert(known);
            match known.read(text) {
                Ok(record) if self.choices.iter().all(|c| c.takes(&record)) => take(&record)?,
                Ok(_) => self.left_out += 1,
                Err(damage) => self.damaged(file, number, &damage.to_string()),
            }
        }
        Ok(())
    }

    /// The columns of a file without a header line: the given ones, or those of version 2 if the first line looks like it.
    fn assumed(&self, line: &str) -> Option<Columns> {
        let default = Columns::from(&Format::default());
        let fits =
            line.starts_with("2 ") || line.split_ascii_whitespace().count() == default.list().len();
        self.given.clone().or_else(|| fits.then_some(default))
    }

    fn damaged(&mut self, file: &Path, number: u64, what: &str) {
        self.damaged_lines += 1;
        if self.damaged_lines <= TOLD {
            tell(&format!("{}:{number}: damaged line: {what}", name(file)));
        }
    }

    /// Whether all was well.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        let mut fault = |n: u64, one: &str, many: &str| {
            if n > 0 {
                faults.push(format!("{n} {}", if n == 1 { one } else { many }));
            }
        };
        fault(
            self.damaged_lines,
            "damaged line left out",
            "damaged lines left out",
        );
        fault(
            self.damaged_files,
            "file not read to its end",
            "files not read to their end",
        );
        fault(
            self.missing,
            "path that could not be read",
            "paths that could not be read",
        );
        let code = match (self.missing, self.damaged_lines + self.damaged_files) {
            (0, 0) => return Ok(()),
            (0, _) => failure::DATA,
            _ => failure::NO_INPUT,
        };
        Err(Failure::new(code, faults.join(", ")))
    }
}

/// The columns that a line names. Later ones must begin with a known name, so that records are not looked at twice.
fn header(line: &str, first: bool) -> Option<Columns> {
    let word = line.split_ascii_whitespace().next()?;
    let likely = first
        || (word.starts_with(|c: char| c.is_ascii_lowercase()) && Field::named(word).is_some());
    likely.then(|| Columns::of_header(line))?
}

enum Line<'a> {
    Text(&'a str),
    Damaged(String),
    End,
}

/// The next line. One that is too long is skipped to its end, and memory stays bounded.
fn next<'a>(input: &mut impl BufRead, bytes: &'a mut Vec<u8>) -> io::Result<Line<'a>> {
    bytes.clear();
    let taken = input.by_ref().take(LONGEST).read_until(b'\n', bytes)?;
    if taken == 0 {
        return Ok(Line::End);
    }
    if taken as u64 == LONGEST && !bytes.ends_with(b"\n") {
        skip_line(input)?;
        return Ok(Line::Damaged(format!("it is longer than {LONGEST} bytes")));
    }
    match str::from_utf8(bytes) {
        Ok(text) => Ok(Line::Text(text.trim_end_matches(['\n', '\r']))),
        Err(error) => Ok(Line::Damaged(format!("it is no UTF-8 text: {error}"))),
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let there = input.fill_buf()?;
        if there.is_empty() {
            return Ok(());
        }
        let (used, ended) = match there.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (there.len(), false),
        };
        input.consume(used);
        if ended {
            return Ok(());
        }
    }
}

fn name(file: &Path) -> String {
    if file.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// Names of files and columns are others': what would drive a terminal is shown as it would be in a source.
fn tell(message: &str) {
    eprintln!("mirrortap: {}", plain(message));
}

/// Text in which nothing drives a terminal.
pub(super) fn plain(message: &str) -> String {
    let each = |c: char| match c.is_control() {
        true => c.escape_default().collect(),
        false => String::from(c),
    };
    message.chars().map(each).collect()
}
