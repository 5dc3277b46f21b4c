//! Checking a manifest and the files that it lists: `mirrortap verify`.
//!
//! Takes: an output folder. Gives: every [`Finding`], and a [`Summary`]. Holds: nothing is written; a line that cannot be read is told
//! and the next one is read; what a running sensor does meanwhile is no finding; memory is bounded by the number of files listed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::spool::manifest::line::{self, Raw, Told};
use crate::spool::manifest::{Digest, FILE, NOTHING, PublicKey, digest_file, files};

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// How often, and how many times, it is looked whether a running sensor tells of a file after all.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOKS: u32 = 40;

/// What is checked, and against what.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keys that lines may be signed with; without any, signatures are not checked.
    pub keys: Vec<PublicKey>,
    /// The hash of a line that has to be there.
    pub head: Option<Digest>,
    /// Whether a sensor writes here now: then what it has not told of yet is waited for.
    pub running: bool,
}

/// Something that is not as it should be, or worth knowing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Whether the evidence is damaged; otherwise there is an explanation.
    pub damage: bool,
    /// Which kind, in one word or two.
    pub what: &'static str,
    /// Line of the manifest, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Path below the output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was found, in a sentence.
    pub message: String,
}

/// What was checked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Summary {
    /// Lines of the manifest.
    pub lines: u64,
    /// Runs that they tell of.
    pub runs: u64,
    /// Runs of them that did not tell of their end.
    pub runs_not_stopped: u64,
    /// Files that are there and were compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were deleted, as a line says.
    pub deleted: u64,
    /// Lines that say that a file has arrived in a bucket.
    pub shipped: u64,
    /// Files that a later run found without a line.
    pub found: u64,
    /// Lines whose signature is good.
    pub signed: u64,
    /// Hash of the last line: to be kept elsewhere.
    pub head: Digest,
    /// Findings that are damage.
    pub damages: u64,
}

/// What is known of a file.
#[derive(Clone, Debug)]
struct Record {
    line: u64,
    bytes: Option<u64>,
    sha256: Option<Digest>,
    /// The line that told of its end, and why.
    gone: Option<(u64, String)>,
}

/// Checks the manifest in `output` and all that it lists; `tell` gets each finding as it is made.
///
/// # Errors
/// That the manifest or the folder cannot be read.
pub fn audit(
    output: &Path,
    options: &Options,
    tell: &mut dyn FnMut(Finding),
) -> io::Result<Summary> {
    let mut audit = Audit::open(output, options, tell)?;
    audit.read_lines()?;
    audit.check_end();
    audit.check_files()?;
    audit.check_unlisted()?;
    Ok(audit.summary)
}

struct Audit<'a> {
    output: PathBuf,
    options: &'a Options,
    tell: &'a mut dyn FnMut(Finding),
    from: BufReader<File>,
    summary: Summary,
    /// The line that was read last, and its number as it says.
    sequence: u64,
    /// What was read of a last line without its end.
    rest: Option<Raw>,
    files: BTreeMap<String, Record>,
    /// Whether lines have to be signed from here on.
    must_be_signed: bool,
    unsigned: Option<u64>,
    head_seen: bool,
    run_open: bool,
}

impl<'a> Audit<'a> {
    fn open(
        output: &Path,
        options: &'a Options,
        tell: &'a mut dyn FnMut(Finding),
    ) -> io::Result<Self> {
        let file = File::open(output.join(FILE))?;
        Ok(Self {
            output: output.to_owned(),
            options,
            tell,
            from: BufReader::with_capacity(PIECE, file),
            summary: Summary {
                head: NOTHING,
                ..Summary::default()
            },
            sequence: 0,
            rest: None,
            files: BTreeMap::new(),
            must_be_signed: false,
            unsigned: None,
            head_seen: false,
            run_open: false,
        })
    }

    fn find(&mut self, damage: bool, what: &'static str, line: Option<u64>, message: String) {
        self.find_file(damage, what, line, None, message);
    }

    fn find_file(
        &mut self,
        damage: bool,
        what: &'static str,
        line: Option<u64>,
        name: Option<&str>,
        message: String,
    ) {
        self.summary.damages += u64::from(damage);
        (self.tell)(Finding {
            damage,
            what,
            line,
            name: name.map(str::to_owned),
            message,
        });
    }

    /// Reads what there is; a second time, what was added.
    fn read_lines(&mut self) -> io::Result<()> {
        while let Some(next) = line::next(&mut self.from)? {
            let raw = match self.rest.take() {
                Some(rest) => join(rest, next),
                None => next,
            };
            if raw.whole {
                self.line(&raw);
            } else {
                self.rest = Some(raw);
            }
        }
        Ok(())
    }

    fn line(&mut self, raw: &Raw) {
        self.summary.lines += 1;
        let number = self.summary.lines;
        let before = std::mem::replace(&mut self.summary.head, raw.digest);
        self.head_seen |= self.options.head == Some(raw.digest);
        let told = match Told::read(&raw.bytes) {
            Ok(told) => told,
            Err(problem) => {
                self.sequence = self.sequence.wrapping_add(1);
                let message = format!("line {number} cannot be read: {problem}");
                return self.find(true, "damaged line", Some(number), message);
            }
        };
        self.check_place(number, &told, before);
        self.check_signature(number, &told, raw);
        self.take(number, &told);
    }

    fn check_place(&mut self, number: u64, told: &Told, before: Digest) {
        let expected = self.sequence.wrapping_add(1);
        if told.sequence != expected {
            let message = format!(
                "line {number} says that it is number {}; number {expected} belongs here: lines were removed, added or moved",
                told.sequence
            );
            self.find(true, "out of sequence", Some(number), message);
        }
        if told.previous != before {
            let message = match number {
                1 => "the first line follows another one: the beginning of the chain is missing"
                    .to_owned(),
                _ => format!(
                    "line {number} does not follow line {}: it or the one before was changed, or lines between them are missing",
                    number - 1
                ),
            };
            self.find(true, "broken chain", Some(number), message);
        }
        self.sequence = told.sequence;
    }

    fn check_signature(&mut self, number: u64, told: &Told, raw: &Raw) {
        let keys = &self.options.keys;
        if keys.is_empty() {
            return;
        }
        let begins = |key: &PublicKey| told.kind == "run" && told.key == Some(key.fingerprint());
        self.must_be_signed |= keys.iter().any(begins);
        if told.signature.is_some() {
            if line::is_signed(&raw.bytes, keys) {
                self.must_be_signed = true;
                self.summary.signed += 1;
            } else {
                let message = format!(
                    "line {number} is not signed by a key that was given, or was changed after it was signed"
                );
                self.find(true, "bad signature", Some(number), message);
            }
        } else if self.must_be_signed && self.unsigned.is_none() {
            self.unsigned = Some(number);
            let message = format!("line {number} has no signature, as lines before it have");
            self.find(true, "unsigned", Some(number), message);
        }
    }

    /// What the line says of files and runs.
    fn take(&mut self, number: u64, told: &Told) {
        match (told.kind.as_str(), &told.name) {
            ("run", _) => {
                self.summary.runs += 1;
                self.summary.runs_not_stopped += u64::from(self.run_open);
                self.run_open = true;
            }
            ("stopped", _) => self.run_open = false,
            ("published" | "recovered" | "found", Some(name)) => self.list(number, told, name),
            ("deleted", Some(name)) => {
                let cause = told.cause.clone().unwrap_or_default();
                self.remove(number, name, format!("deleted ({cause})"));
            }
            ("shipped", Some(_)) => self.summary.shipped += 1,
            ("aside", Some(name)) => self.remove(number, name, "set aside".to_owned()),
            (kind, name) => {
                let message = match name {
                    Some(_) => format!(
                        "line {number} is of the unknown kind \"{kind}\", of a newer program"
                    ),
                    None => format!("line {number}, of the kind \"{kind}\", names no file"),
                };
                self.find(name.is_none(), "unknown line", Some(number), message);
            }
        }
    }

    fn list(&mut self, number: u64, told: &Told, name: &str) {
        self.summary.found += u64::from(told.kind == "found");
        let record = Record {
            line: number,
            bytes: told.bytes,
            sha256: told.sha256,
            gone: None,
        };
        let before = self.files.insert(name.to_owned(), record);
        if let Some(before) = before.filter(|b| b.gone.is_none()) {
            let message = format!(
                "{name} is listed twice, in lines {} and {number}",
                before.line
            );
            self.find_file(true, "listed twice", Some(number), Some(name), message);
        }
        if told.sha256.is_none() {
            let message = format!(
                "line {number} has no SHA-256 of {name}: the file could not be read when it was listed"
            );
            self.find_file(true, "no hash", Some(number), Some(name), message);
        }
    }

    fn remove(&mut self, number: u64, name: &str, how: String) {
        let record = self.files.entry(name.to_owned()).or_insert(Record {
            line: number,
            bytes: None,
            sha256: None,
            gone: None,
        });
        record.gone = Some((number, how));
    }

    /// What stands at the end of the manifest.
    fn check_end(&mut self) {
        if let Some(rest) = self.rest.as_ref().filter(|_| !self.options.running) {
            let message = format!(
                "the last line has no end ({} bytes), as after a crash; the next run keeps it beside the manifest",
                rest.len
            );
            self.find(true, "torn end", Some(self.summary.lines + 1), message);
        }
        if let (Some(head), false) = (self.options.head, self.head_seen) {
            let message = format!("no line has the hash {head}: lines were cut off or replaced");
            self.find(true, "head missing", None, message);
        }
        if !self.options.keys.is_empty() && self.summary.signed == 0 {
            let message = "no line is signed by a key that was given".to_owned();
            self.find(true, "unsigned", None, message);
        }
    }

    fn check_files(&mut self) -> io::Result<()> {
        let names: Vec<String> = self.files.keys().cloned().collect();
        for name in names {
            if let Err(problem) = self.check_file(&name) {
                // a running sensor may have removed it meanwhile, and has told of that before
                self.read_lines()?;
                self.explain(&name, problem);
            }
        }
        Ok(())
    }

    /// Compares a file with its line.
    fn check_file(&mut self, name: &str) -> Result<(), Problem> {
        let Some(record) = self.files.get(name).cloned() else {
            return Ok(());
        };
        let path = path_of(&self.output, name).ok_or(Problem::Outside)?;
        if record.gone.is_some() {
            self.summary.deleted += 1;
            return match path.symlink_metadata() {
                Ok(_) => Err(Problem::StillThere),
                Err(_) => Ok(()),
            };
        }
        let (digest, bytes) = digest_file(&path).map_err(Problem::Unreadable)?;
        self.summary.files += 1;
        self.summary.bytes += bytes;
        if record.bytes.is_some_and(|told| told != bytes) {
            return Err(Problem::Size(record.bytes.unwrap_or(0), bytes));
        }
        match record.sha256 {
            Some(told) if told != digest => Err(Problem::Content(told, digest)),
            _ => Ok(()),
        }
    }

    fn explain(&mut self, name: &str, problem: Problem) {
        let Some(record) = self.files.get(name).cloned() else {
            return;
        };
        let gone = record.gone.map(|(line, how)| format!("{how}, line {line}"));
        let listed = record.line;
        let (damage, what, message) = match (problem, gone) {
            (Problem::StillThere, Some(gone)) => (
                false,
                "still there",
                format!(
                    "{name} is there, and was to be {gone}: it was not removed, or a new file has its name"
                ),
            ),
            (Problem::StillThere, None) => return,
            (Problem::Outside, _) => (
                true,
                "bad name",
                format!("line {listed} names \"{name}\", which is no path below the output folder"),
            ),
            (Problem::Unreadable(_), Some(_)) => return self.summary.deleted += 1,
            (Problem::Unreadable(e), None) if e.kind() == io::ErrorKind::NotFound => (
                true,
                "missing",
                format!("{name} is missing (line {listed}), and no line says that it was deleted"),
            ),
            (Problem::Unreadable(e), None) => (
                true,
                "unreadable",
                format!("{name} (line {listed}) cannot be read: {e}"),
            ),
            (Problem::Size(told, is), _) => (
                true,
                "changed",
                format!("{name} has {is} bytes; line {listed} says {told}"),
            ),
            (Problem::Content(told, is), _) => (
                true,
                "changed",
                format!("{name} was changed: its SHA-256 is {is}, and line {listed} says {told}"),
            ),
        };
        self.find_file(damage, what, Some(listed), Some(name), message);
    }

    /// Files that carry our names and that no line tells of.
    fn check_unlisted(&mut self) -> io::Result<()> {
        let mut looks = if self.options.running { LOOKS } else { 0 };
        loop {
            let unlisted = self.unlisted()?;
            if unlisted.is_empty() || looks == 0 {
                for name in unlisted {
                    let message = format!(
                        "{name} is not in the manifest: it was put there, or a crash came before its line"
                    );
                    self.find_file(true, "not listed", None, Some(&name), message);
                }
                break;
            }
            looks -= 1;
            std::thread::sleep(LOOK_EVERY);
            self.read_lines()?;
        }
        if self.run_open && !self.options.running {
            self.summary.runs_not_stopped += 1;
        }
        Ok(())
    }

    fn unlisted(&self) -> io::Result<Vec<String>> {
        let there = files::capture_files(&self.output)?
            .into_iter()
            .map(|f| f.name);
        Ok(there
            .filter(|name| !self.files.contains_key(name))
            .collect())
    }
}

/// Why a file is not as its line says.
#[derive(Debug)]
enum Problem {
    StillThere,
    Outside,
    Unreadable(io::Error),
    Size(u64, u64),
    Content(Digest, Digest),
}

/// The path of a name, when it stays in the output folder and goes through no link.
fn path_of(output: &Path, name: &str) -> Option<PathBuf> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !name.split('/').all(plain) {
        return None;
    }
    let mut folder = output.to_owned();
    let (folders, _) = name.rsplit_once('/').unwrap_or(("", name));
    for part in folders.split('/').filter(|p| !p.is_empty()) {
        folder.push(part);
        if folder
            .symlink_metadata()
            .is_ok_and(|facts| facts.is_symlink())
        {
            return None;
        }
    }
    Some(output.join(name))
}

/// A line that was read in two pieces.
fn join(mut first: Raw, second: Raw) -> Raw {
    let whole = first.bytes.len() as u64 == first.len && second.bytes.len() as u64 == second.len;
    first.bytes.extend_from_slice(&second.bytes);
    if !whole {
        first.bytes = Vec::new();
    }
    first.digest = super::digest_bytes(&first.bytes);
    first.len += second.len;
    first.whole = second.whole;
    first
}
