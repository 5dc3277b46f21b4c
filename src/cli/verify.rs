//! `mirrortap verify`: whether the capture files of an output folder are as the manifest says.
//!
//! Takes: an output folder; public keys and the hash of a line, kept elsewhere. Gives: what was found, as text or JSON. Holds: nothing is
//! changed; the exit code says whether the evidence is whole.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::failure::{self, Failure};
use crate::cli::ledger::human_bytes;
use crate::spool::lock;
use crate::spool::manifest::{Digest, FILE, Finding, Options, PublicKey, Summary, audit};

/// Check the capture files of an output folder against its manifest: the chain of its lines, their signatures, and size and
/// SHA-256 of every file.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The output folder.
    dir: PathBuf,
    /// Print what was found as one JSON object.
    #[arg(long)]
    json: bool,
    /// A public key that lines have to be signed with (PEM, as from `openssl pkey -pubout`). May be given several times.
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    /// The hash of a line, as an earlier check printed it: the chain has to hold it.
    #[arg(long, value_name = "HASH")]
    head: Option<Digest>,
}

const HELP: &str = "\
What the manifest itself cannot show is that its last lines were cut off: keep the head that is printed, or
the signed lines, somewhere else, and give it as --head the next time.

Examples:
  mirrortap verify captures
  mirrortap verify --public-key manifest.pub --head 5f2c... captures
  mirrortap verify --json captures | jq '.findings[] | select(.damage)'

Exit codes: 0 all is as the manifest says, 65 something is damaged, missing or not listed, 66 no manifest there,
74 a folder or the manifest cannot be read.";

/// All that was found.
#[derive(Debug, serde::Serialize)]
struct Report {
    good: bool,
    #[serde(flatten)]
    summary: Summary,
    findings: Vec<Finding>,
}

/// Runs the verb.
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let options = options(&args)?;
    let (mut findings, json) = (Vec::new(), args.json);
    let mut tell = |finding: Finding| {
        if json {
            findings.push(finding);
        } else {
            // whoever reads has seen enough
            let _ = writeln!(io::stdout(), "{}", text(&finding));
        }
    };
    let audited = audit(&args.dir, &options, &mut tell);
    let summary = audited.map_err(|error| unreadable(&args.dir, &error))?;
    let report = Report {
        good: summary.damages == 0,
        summary,
        findings,
    };
    let printed = if json {
        serde_json::to_string(&report).map_err(io::Error::from)
    } else {
        Ok(conclusion(&report, &options))
    };
    let printed = printed.and_then(|text| writeln!(io::stdout(), "{text}"));
    if let Err(error) = printed.or_else(pipe_is_fine) {
        let message = format!("cannot write to standard output: {error}");
        return Err(Failure::new(failure::IO, message));
    }
    let code = if report.good { 0 } else { failure::DATA };
    Ok(ExitCode::from(code))
}

fn pipe_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    }
}

fn options(args: &Args) -> Result<Options, Failure> {
    let key = |file: &PathBuf| PublicKey::read(file);
    let keys = args.public_key.iter().map(key).collect::<Result<_, _>>();
    Ok(Options {
        keys: keys.map_err(|error| Failure::new(failure::NO_INPUT, error))?,
        head: args.head,
        // a lock that cannot be looked at says nothing
        running: lock::is_held(&args.dir).unwrap_or(false),
    })
}

fn unreadable(dir: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => failure::NO_INPUT,
        _ => failure::IO,
    };
    let message = format!(
        "cannot check {}: {error}; give the output folder, which has the {FILE}",
        dir.display()
    );
    Failure::new(code, message)
}

fn text(finding: &Finding) -> String {
    let mark = if finding.damage { "BAD " } else { "note" };
    // names come from the manifest: what a terminal takes for a command is no part of a line
    let clean = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    let message: String = finding.message.chars().map(clean).collect();
    format!("{mark} {}: {message}", finding.what)
}

fn conclusion(report: &Report, options: &Options) -> String {
    let s = &report.summary;
    let verdict = match s.damages {
        0 => "good: everything is as the manifest says".to_owned(),
        1 => "NOT GOOD: 1 finding".to_owned(),
        n => format!("NOT GOOD: {n} findings"),
    };
    let signatures = match (options.keys.is_empty(), s.signed) {
        (true, _) => "not checked (give --public-key)".to_owned(),
        (false, n) => format!("{n} good"),
    };
    let mut lines = vec![
        format!("files       {} compared, {}", s.files, human_bytes(s.bytes)),
        format!("            {} deleted, as lines say", s.deleted),
        format!("lines       {} of {} runs", s.lines, s.runs),
        format!("signatures  {signatures}"),
        format!("head        {}", s.head),
        verdict,
    ];
    if s.shipped > 0 {
        let line = format!("            {} shipped, as lines say", s.shipped);
        lines.insert(2, line);
    }
    if s.found > 0 {
        let line = format!(
            "            {} found by a later run, after a crash",
            s.found
        );
        lines.insert(2, line);
    }
    if s.runs_not_stopped > 0 {
        let line = format!(
            "            {} did not tell of their end",
            s.runs_not_stopped
        );
        lines.insert(lines.len() - 3, line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_manifest_gives_a_terminal_no_commands() {
        let finding = Finding {
            damage: true,
            what: "missing",
            line: None,
            name: None,
            message: "web/\u{1b}]0;x\u{7}\n\u{9b}2J.pcap is missing".to_owned(),
        };
        let text = text(&finding);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.ends_with("2J.pcap is missing"));
    }
}
