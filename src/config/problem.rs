//! Problems of a configuration file: where, what, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One problem, with its place in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Bytes of the file that it is about; `None` when it is about no single place.
    pub span: Option<Range<usize>>,
    /// What is wrong and what to do.
    pub message: String,
}

/// All problems of a file at once.
#[derive(Debug)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// What is wrong, in the order of the file.
    pub list: Vec<Problem>,
}

impl std::error::Error for Problems {}

/// `FILE:LINE:COLUMN: message`, the line, and a mark below the place; one after the other.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            self.show(problem, f)?;
        }
        Ok(())
    }
}

impl Problems {
    fn show(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let Some(span) = &problem.span else {
            return write!(f, "{file}: {}", problem.message);
        };
        let place = Place::of(&self.text, span);
        write!(
            f,
            "{file}:{}:{}: {}",
            place.line, place.column, problem.message
        )?;
        let gutter = place.line.to_string().len();
        write!(f, "\n  {} | {}", place.line, place.text)?;
        let marks = "^".repeat(place.marked);
        write!(
            f,
            "\n  {:gutter$} | {:pad$}{marks}",
            "",
            "",
            pad = place.column - 1
        )
    }
}

/// Line and column of a byte, both from 1, and the line's text.
struct Place<'a> {
    line: usize,
    column: usize,
    text: &'a str,
    marked: usize,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, span: &Range<usize>) -> Self {
        let start = span.start.min(text.len());
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let rest = text.get(line_start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let left = line.chars().count().saturating_sub(column - 1);
        Self {
            line: before.matches('\n').count() + 1,
            column,
            text: line,
            marked: span.end.saturating_sub(span.start).clamp(1, left.max(1)),
        }
    }
}

/// Turns serde's "unknown field" into what a person wants to read: the key, and the nearest known one.
pub(super) fn explain(message: &str) -> String {
    let message = message.trim_end();
    let Some(rest) = message
        .strip_prefix("unknown field ")
        .or(message.strip_prefix("unknown variant "))
    else {
        return message.to_owned();
    };
    let what = if message.starts_with("unknown field") {
        "key"
    } else {
        "value"
    };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let Some(given) = quoted.next() else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    let near = known
        .iter()
        .min_by_key(|k| strsim::damerau_levenshtein(given, k));
    match near.filter(|k| strsim::damerau_levenshtein(given, k) <= 1 + given.len() / 4) {
        Some(near) => format!("unknown {what} \"{given}\"; did you mean \"{near}\"?"),
        None => format!(
            "unknown {what} \"{given}\"; known are: {}",
            known.join(", ")
        ),
    }
}
