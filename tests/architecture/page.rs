//! The table of docs/architecture.md: which room has which rank and may import which others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    pub(crate) rank: u32,
    /// Rooms that it may import.
    pub(crate) imports: BTreeSet<String>,
    /// Those of its own rank, marked with a star.
    pub(crate) starred: BTreeSet<String>,
}

pub(crate) type Table = BTreeMap<String, Room>;

pub(crate) fn read() -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    parse(&std::fs::read_to_string(path).unwrap())
}

/// Rows look like: | 3 | `dispatch` | what it holds | `flow` `session`* |
fn parse(page: &str) -> Table {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [rank, room, _holds, imports] = cells[..] else {
            return None;
        };
        let words = || imports.split_whitespace();
        let name = |word: &str| word.trim_end_matches('*').trim_matches('`').to_owned();
        let row = Room {
            rank: rank.parse().ok()?,
            imports: words().filter(|w| w.starts_with('`')).map(name).collect(),
            starred: words().filter(|w| w.ends_with('*')).map(name).collect(),
        };
        Some((name(room), row))
    });
    rows.collect()
}

/// A row that breaks the rule of ranks, or a circle.
pub(crate) fn faults(table: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, room) in table {
        for import in &room.imports {
            let Some(other) = table.get(import) else {
                faults.push(format!("{name} may import {import}, which is no room"));
                continue;
            };
            let fits = if room.starred.contains(import) {
                other.rank == room.rank
            } else {
                other.rank < room.rank
            };
            if !fits {
                faults.push(format!(
                    "{name} ({}) may import {import} ({})",
                    room.rank, other.rank
                ));
            }
        }
        if reaches(table, name, name, &mut BTreeSet::new()) {
            faults.push(format!("{name} imports itself in a circle"));
        }
    }
    faults
}

fn reaches(table: &Table, from: &str, to: &str, seen: &mut BTreeSet<String>) -> bool {
    let imports = table.get(from).map(|room| room.imports.clone());
    imports
        .unwrap_or_default()
        .iter()
        .any(|next| next == to || (seen.insert(next.clone()) && reaches(table, next, to, seen)))
}

#[test]
fn the_table_is_read_with_its_stars() {
    let table = parse(
        "| rank | room | holds | may import |\n|---|---|---|---|\n| 3 | `b` | x | `a` `c`* |\n| 0 | `a` | x | – |\n",
    );
    assert_eq!(table.len(), 2);
    assert_eq!(table["b"].rank, 3);
    assert_eq!(table["b"].imports, BTreeSet::from(["a".into(), "c".into()]));
    assert_eq!(table["b"].starred, BTreeSet::from(["c".into()]));
    assert!(table["a"].imports.is_empty());
}

#[test]
fn upward_imports_and_circles_are_faults() {
    let up = parse("| 1 | `a` | x | `b` |\n| 2 | `b` | x | – |\n");
    assert_eq!(faults(&up), ["a (1) may import b (2)"]);
    let circle = parse("| 1 | `a` | x | `b`* |\n| 1 | `b` | x | `a`* |\n");
    assert_eq!(faults(&circle).len(), 2);
    let good = parse("| 1 | `a` | x | `b`* |\n| 1 | `b` | x | – |\n");
    assert!(faults(&good).is_empty());
    assert_eq!(
        faults(&parse("| 1 | `a` | x | `z` |\n")),
        ["a may import z, which is no room"]
    );
}
