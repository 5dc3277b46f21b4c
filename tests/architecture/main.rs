//! The shape of the code, held by a machine: the table of docs/architecture.md against `src/`, and the rules
//! of CONTRIBUTING.md that a compiler does not know. The page is read, so page and code can't part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod code;
mod page;

use std::collections::BTreeSet;

use code::{File, files, words};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 60;
/// An `unsafe` is preceded by its reason within so many lines.
const SAFETY_WITHIN: usize = 8;

fn sources() -> Vec<File> {
    let files = files(&["src"]);
    assert!(files.len() > 30, "src/ was not found");
    files
}

fn everything() -> Vec<File> {
    files(&["src", "tests", "benches", "fuzz/fuzz_targets"])
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_table_has_no_circle_and_every_import_goes_down() {
    none(page::faults(&page::read()));
}

#[test]
fn rooms_folders_and_rows_are_the_same() {
    let rows: BTreeSet<String> = page::read().into_keys().collect();
    let files = sources();
    let folders: BTreeSet<String> = files
        .iter()
        .filter_map(|f| f.room())
        .map(str::to_owned)
        .collect();
    assert_eq!(rows, folders, "docs/architecture.md against src/");
    let lib = files.iter().find(|f| f.path.ends_with("lib.rs")).unwrap();
    let declared = lib.code.lines().filter_map(|l| l.strip_prefix("pub mod "));
    let declared: BTreeSet<String> = declared
        .map(|l| l.trim_end_matches(';').to_owned())
        .collect();
    assert_eq!(rows, declared, "docs/architecture.md against src/lib.rs");
    assert!(
        words(&lib.code, "use").is_empty(),
        "lib.rs re-exports nothing"
    );
}

#[test]
fn no_room_imports_what_the_table_does_not_list() {
    let table = page::read();
    let mut faults = Vec::new();
    for file in sources() {
        let Some(room) = file.room() else { continue };
        for (place, import) in file.imports() {
            let listed = table
                .get(room)
                .is_some_and(|row| row.imports.contains(&import));
            if import != room && !listed {
                faults.push(file.at(place, &format!("{room} may not import {import}")));
            }
        }
    }
    none(faults);
}

#[test]
fn nobody_reaches_over_two_floors_or_for_everything() {
    let mut faults = Vec::new();
    for file in sources() {
        for phrase in ["super::super", "crate::*", "mirrortap::*"] {
            let found = file.code.match_indices(phrase);
            faults.extend(found.map(|(place, _)| file.at(place, phrase)));
        }
        if file.path != std::path::Path::new("src/main.rs") {
            let found = words(file.product(), "mirrortap").into_iter();
            faults.extend(found.map(|place| file.at(place, "write crate::room")));
        }
    }
    none(faults);
}

#[test]
fn unsafe_is_in_sys_alone_and_says_why_it_is_sound() {
    let mut faults = Vec::new();
    for file in everything() {
        for place in words(&file.code, "unsafe") {
            if file.room() != Some("sys") {
                faults.push(file.at(place, "unsafe outside src/sys"));
            } else if !is_explained(&file, place) {
                faults.push(file.at(place, "no SAFETY comment"));
            }
        }
    }
    none(faults);
}

/// Whether a SAFETY comment (or a Safety section, on a function) stands above.
fn is_explained(file: &File, place: usize) -> bool {
    let line = file.code[..place].matches('\n').count();
    let above = file
        .text
        .lines()
        .take(line + 1)
        .skip((line + 1).saturating_sub(SAFETY_WITHIN));
    above
        .into_iter()
        .any(|l| l.contains("SAFETY:") || l.contains("# Safety"))
}

#[test]
fn clocks_are_read_in_time_alone() {
    let mut faults = Vec::new();
    for file in sources().into_iter().filter(|f| f.room() != Some("time")) {
        for phrase in [
            "Instant::now",
            "SystemTime::now",
            "clock_gettime(",
            "gettimeofday(",
        ] {
            let found = file.code.match_indices(phrase);
            faults.extend(found.map(|(place, _)| file.at(place, phrase)));
        }
    }
    none(faults);
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let files = everything().into_iter();
    let silent = files.filter(|f| !f.text.starts_with("//! ") || f.text.starts_with("//! ("));
    none(
        silent
            .map(|f| format!("{} does not open with `//! `", f.path.display()))
            .collect(),
    );
}

#[test]
fn every_room_says_what_it_takes_gives_and_holds() {
    let mut faults = Vec::new();
    for file in sources()
        .into_iter()
        .filter(|f| f.path.iter().count() == 3 && f.path.ends_with("mod.rs"))
    {
        let intro = file.text.lines().take_while(|l| l.starts_with("//!"));
        let intro: String = intro.collect();
        let missing = ["Takes:", "Gives:", "Holds:"]
            .into_iter()
            .filter(|word| !intro.contains(word));
        faults.extend(missing.map(|word| format!("{}: no {word}", file.path.display())));
    }
    none(faults);
}

#[test]
fn outside_tests_nothing_panics_by_choice() {
    let mut faults = Vec::new();
    for file in sources() {
        for phrase in [
            ".unwrap()",
            ".expect(",
            "panic!(",
            "todo!(",
            "unimplemented!(",
            "unreachable!(",
            "dbg!(",
        ] {
            let found = file.product().match_indices(phrase);
            faults.extend(found.map(|(place, _)| file.at(place, phrase)));
        }
    }
    none(faults);
}

#[test]
fn no_file_and_no_function_is_too_long() {
    let mut faults = Vec::new();
    for file in everything() {
        let lines = file.text.lines().count();
        if lines > MAX_FILE_LINES {
            faults.push(format!("{}: {lines} lines", file.path.display()));
        }
        let long = file
            .functions()
            .into_iter()
            .filter(|(_, _, lines)| *lines > MAX_FUNCTION_LINES);
        faults.extend(
            long.map(|(name, place, lines)| file.at(place, &format!("{name} has {lines} lines"))),
        );
    }
    none(faults);
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let mut faults = Vec::new();
    for file in everything() {
        for (number, line) in file.text.lines().enumerate() {
            let later = [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("XX", "X:"),
                concat!("HA", "CK"),
            ];
            if later.iter().any(|word| line.contains(word)) {
                faults.push(format!("{}:{}: {line}", file.path.display(), number + 1));
            }
        }
    }
    none(faults);
}

#[test]
fn every_fuzz_target_can_be_run() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml");
    let manifest = std::fs::read_to_string(path).unwrap();
    let listed = manifest
        .lines()
        .filter_map(|l| l.strip_prefix("path = \"fuzz_targets/"));
    let listed: BTreeSet<String> = listed.map(|l| l.trim_end_matches('"').to_owned()).collect();
    let files = files(&["fuzz/fuzz_targets"]).into_iter();
    let there = files.map(|f| f.path.file_name().unwrap().to_string_lossy().into_owned());
    assert_eq!(
        listed,
        there.collect(),
        "fuzz/Cargo.toml against fuzz/fuzz_targets/"
    );
}

#[test]
fn the_rules_find_what_they_look_for() {
    let bad = File::new("src/sys/bad.rs", "fn f() {\n    unsafe { g() }\n}\n");
    assert!(!is_explained(&bad, words(&bad.code, "unsafe")[0]));
    let good = File::new(
        "src/sys/good.rs",
        "fn f() {\n    // SAFETY: g has no conditions.\n    unsafe { g() }\n}\n",
    );
    assert!(is_explained(&good, words(&good.code, "unsafe")[0]));
    let tail = File::new(
        "src/x/y.rs",
        "fn a() {}\n\n#[cfg(test)]\nmod tests { fn b() { c().unwrap() } }\n",
    );
    assert!(!tail.product().contains("unwrap") && tail.code.contains("unwrap"));
}
