//! From text to [`Config`], past the first error: what is wrong is taken out and the rest read again, so that
//! one run tells everything.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::config::problem::explain;
use crate::config::{Config, Problem};
use crate::{flowlog, session};

/// The most problems that are told of one file.
const MOST: usize = 50;

/// A parsed file: tables with places.
pub(super) struct Table<'a>(Spanned<DeTable<'a>>);

pub(super) struct Read<'a> {
    /// What could be read; with defaults in place of what was wrong.
    pub(super) config: Option<Config>,
    pub(super) table: Table<'a>,
    pub(super) problems: Vec<Problem>,
}

pub(super) fn read(text: &str) -> Read<'_> {
    let (table, syntax) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = syntax.iter().map(problem).collect();
    let mut rest = table.clone();
    let mut config = None;
    while problems.len() < MOST {
        match Config::deserialize(Deserializer::from(rest.clone())) {
            Ok(read) => {
                config = Some(read);
                break;
            }
            Err(error) => {
                problems.push(problem(&error));
                let taken = error.span().is_some_and(|s| take_out(rest.get_mut(), &s));
                if !taken {
                    break;
                }
            }
        }
    }
    Read {
        config,
        table: Table(table),
        problems,
    }
}

fn problem(error: &toml::de::Error) -> Problem {
    Problem {
        span: error.span(),
        message: explain(error.message()),
    }
}

/// Takes the innermost entry that `span` lies in out of the table; false when there is none.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let within = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    if table
        .iter_mut()
        .any(|(_, value)| take_out_of(value.get_mut(), span))
    {
        return true;
    }
    let hit = table
        .iter()
        .find(|(k, v)| within(k.span()) || within(v.span()));
    match hit.map(|(k, _)| k.clone()) {
        Some(key) => table.remove(&key).is_some(),
        None => false,
    }
}

fn take_out_of(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => take_out(table, span),
        // an element may be a table of its own; one that is wrong as a whole goes with its key
        DeValue::Array(array) => array.iter_mut().any(|v| take_out_of(v.get_mut(), span)),
        _ => false,
    }
}

impl Table<'_> {
    /// Where the value at `path` stands, or the deepest part of the path that is there.
    pub(super) fn find(&self, path: &[&str]) -> Option<Range<usize>> {
        find_in(self.0.get_ref(), path)
    }

    /// The place of a session's problem.
    pub(super) fn of_session(&self, error: &session::Error) -> Problem {
        Problem {
            span: self.of_element("session", error.index, &[error.key]),
            message: error.to_string(),
        }
    }

    /// The place of a flow log's problem.
    pub(super) fn of_flow_log(&self, error: &flowlog::Problem) -> Problem {
        Problem {
            span: self.of_element("flow_log", error.index, &error.key),
            message: error.to_string(),
        }
    }

    /// Where a path of one of the tables of a list stands, or else the table's name.
    fn of_element(&self, list: &str, index: usize, path: &[&str]) -> Option<Range<usize>> {
        let mut keys = self.0.get_ref().iter();
        let (_, tables) = keys.find(|(k, _)| k.get_ref() == list)?;
        let entry = tables.get_ref().as_array()?.get(index)?;
        let table = entry.get_ref().as_table()?;
        let found = find_in(table, path).or_else(|| find_in(table, &["name"]));
        // a table without either is all that there is to show
        found.or_else(|| Some(entry.span()))
    }
}

fn find_in(table: &DeTable<'_>, path: &[&str]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(k, _)| k.get_ref() == first)?;
    let deeper = value.get_ref().as_table().and_then(|t| find_in(t, rest));
    Some(deeper.unwrap_or(if rest.is_empty() {
        value.span()
    } else {
        key.span()
    }))
}
