//! `mirrortap recover`: what a crash left is made whole and published.
//!
//! Takes: a folder. Gives: a line, or a JSON object, for each hidden capture file below it. Holds: nothing is deleted or
//! overwritten; a sensor that runs is not disturbed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::failure::{self, Failure};
use crate::spool::lock;
use crate::spool::manifest::{Offline, OfflineError};
use crate::spool::recover::{self, Below, Outcome, Recovered};

/// Recover the capture files that a crash left: each hidden file is cut at its last whole record, completed, and given
/// its final name. A sensor does this by itself when it starts.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The output folder, or one that it was copied to.
    folder: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Sign the lines in the manifest with this key (PEM).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

const HELP: &str = "\
Nothing is deleted and nothing is overwritten. What is behind the last whole record is cut off when it is a record that
was just being written; when it is more, it is kept beside the file as .NAME.damaged. A file that holds no capture is
renamed to .NAME.aside. docs/capture-files.md tells the whole.

Examples:
  mirrortap recover /var/lib/mirrortap
  mirrortap recover --dry-run --json captures | jq '.recovered[].packets'

Exit codes: 0 done, 66 no such folder, 74 a file could not be recovered, 75 a sensor runs there.";

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Whether it only would be done.
    dry_run: bool,
    recovered: Vec<Recovered>,
    aside: Vec<Aside>,
    /// Files that stay as they are, because something failed.
    left: Vec<Left>,
    /// Folders that belong to somebody else, or cannot be read.
    skipped: Vec<Left>,
}

#[derive(Debug, Serialize)]
struct Aside {
    partial: PathBuf,
    path: PathBuf,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Left {
    path: PathBuf,
    reason: String,
}

/// Runs the verb.
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    if !args.folder.is_dir() {
        let message = format!("there is no folder {}", args.folder.display());
        return Err(Failure::new(failure::NO_INPUT, message));
    }
    // The locks are held until the end.
    let below = recover::below(&args.folder, !args.dry_run).map_err(|e| refused(&e))?;
    let mut report = Report {
        dry_run: args.dry_run,
        ..Report::default()
    };
    let listed = match args.dry_run {
        true => {
            report.look(&below.files);
            Ok(())
        }
        false => {
            let lines = Offline::new(args.key.as_deref());
            report.recover(&below.files, lines.map_err(unusable)?)
        }
    };
    report.skip(below);
    let printed = match args.json {
        true => report.json(),
        false => report.text(&args.folder),
    };
    printed
        .map_err(|e| Failure::new(failure::IO, format!("cannot write to standard output: {e}")))?;
    listed.map_err(|e| Failure::new(failure::IO, e))?;
    Ok(ExitCode::from(report.code()))
}

fn unusable(error: OfflineError) -> Failure {
    Failure::new(failure::IO, error)
}

fn refused(error: &lock::Error) -> Failure {
    match error {
        lock::Error::Held { .. } => Failure::new(
            failure::TEMPORARY,
            format!("{error}. A sensor recovers by itself what it finds when it starts"),
        ),
        lock::Error::Failed { .. } => Failure::new(failure::CANT_CREATE, error),
    }
}

impl Report {
    /// Looks at files, and does nothing.
    fn look(&mut self, files: &[PathBuf]) {
        for path in files {
            self.add(path, recover::look(path, &|| false));
        }
    }

    /// Recovers files, each with its line in the manifest. Gives the first reason why one has none.
    fn recover(&mut self, files: &[PathBuf], mut lines: Offline) -> Result<(), OfflineError> {
        let mut listed = Ok(());
        for path in files {
            if let Err(error) = lines.begin(path) {
                self.leave(path, error.to_string());
                continue;
            }
            let outcome = recover::recover(path, &|| false);
            let written = match &outcome {
                Ok(Outcome::Recovered(file)) => lines.recovered(file),
                Ok(Outcome::Aside { partial, path, why }) => lines.aside(partial, path, why),
                Err(_) => Ok(()),
            };
            listed = listed.and(written);
            self.add(path, outcome);
        }
        listed.and(lines.end())
    }

    fn leave(&mut self, path: &Path, reason: String) {
        let path = path.to_owned();
        self.left.push(Left { path, reason });
    }

    fn add(&mut self, path: &Path, outcome: Result<Outcome, recover::Error>) {
        match outcome {
            Ok(Outcome::Recovered(file)) => self.recovered.push(file),
            Ok(Outcome::Aside { partial, path, why }) => self.aside.push(Aside {
                partial,
                path,
                reason: why,
            }),
            Err(error) => self.leave(path, error.to_string()),
        }
    }

    fn skip(&mut self, below: Below) {
        let skipped = below.skipped.into_iter().map(|s| Left {
            path: s.folder,
            reason: s.why,
        });
        self.skipped.extend(skipped);
    }

    fn code(&self) -> u8 {
        match (self.left.is_empty(), self.skipped.is_empty()) {
            (false, _) => failure::IO,
            (true, false) => failure::TEMPORARY,
            (true, true) => 0,
        }
    }

    fn json(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, self)?;
        writeln!(out)
    }

    fn text(&self, folder: &Path) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let would = if self.dry_run { "would be " } else { "" };
        for file in &self.recovered {
            let (path, packets, bytes) = (file.path.display(), file.packets, file.bytes);
            write!(out, "{path}: {would}recovered, {packets} packets")?;
            match (&file.damage, self.dry_run) {
                (Some(what), _) => write!(out, ", {} bytes cut off: {what}", file.cut)?,
                (None, false) => write!(out, ", {bytes} bytes")?,
                (None, true) => {}
            }
            match &file.kept {
                Some(kept) => writeln!(out, "; they are kept in {}", kept.display())?,
                None => writeln!(out)?,
            }
        }
        for file in &self.aside {
            let (from, to) = (file.partial.display(), file.path.display());
            writeln!(out, "{from}: {would}set aside as {to}: {}", file.reason)?;
        }
        for left in &self.left {
            writeln!(out, "{}: {}", left.path.display(), left.reason)?;
        }
        for skipped in &self.skipped {
            let path = skipped.path.display();
            writeln!(out, "{path}: passed by: {}", skipped.reason)?;
        }
        writeln!(
            out,
            "{}: {} {would}recovered, {} {would}set aside, {} left as they are",
            folder.display(),
            self.recovered.len(),
            self.aside.len(),
            self.left.len()
        )
    }
}
