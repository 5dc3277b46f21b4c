//! docs/operations.md against the code: each reason and each warning that the program can print has its place there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "failing is what a test is for"
)]

use std::fs;
use std::path::{Path, PathBuf};

use mirrortap::packet::{DropReason, FilterReason};

fn page() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/operations.md")).expect("the page is there");
    // a message may be broken over lines there and here
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The argument list that begins at `text`, without its closing parenthesis.
fn arguments(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// The last string literal of an argument list: the message.
fn message(arguments: &str) -> Option<String> {
    let mut literals = Vec::new();
    let mut rest = arguments;
    while let Some(start) = rest.find('"') {
        let body = &rest[start + 1..];
        let mut end = 0;
        let bytes = body.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        literals.push(&body[..end]);
        rest = &body[(end + 1).min(body.len())..];
    }
    let text = literals.pop()?.replace("\\\n", " ").replace("\\\"", "\"");
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The words of a message between its `{placeholders}`.
fn words(message: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = message;
    while let Some(open) = rest.find('{') {
        pieces.push(&rest[..open]);
        rest = rest[open..].split_once('}').map_or("", |(_, after)| after);
    }
    pieces.push(rest);
    let clean = pieces
        .iter()
        .map(|p| p.trim_matches(|c: char| !c.is_alphanumeric()));
    clean.filter(|p| p.len() > 6).map(str::to_owned).collect()
}

/// Every message of a warning or an error in the code outside tests, with its file.
fn messages() -> Vec<(PathBuf, String)> {
    let (mut files, mut found) = (Vec::new(), Vec::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
        for call in ["tracing::warn!(", "tracing::error!("] {
            for (at, _) in code.match_indices(call) {
                let message = message(arguments(&code[at + call.len()..]));
                found.extend(message.map(|m| (file.clone(), m)));
            }
        }
    }
    found
}

#[test]
fn every_warning_and_error_of_the_log_is_explained() {
    let page = page();
    let messages = messages();
    assert!(messages.len() > 30, "only {} were found", messages.len());
    let mut missing = Vec::new();
    for (file, message) in &messages {
        if !words(message).iter().all(|piece| page.contains(piece)) {
            missing.push(format!("{}: {message}", file.display()));
        }
    }
    assert!(
        missing.is_empty(),
        "not in docs/operations.md:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_drop_and_filter_reason_is_explained() {
    let page = page();
    let drops = DropReason::ALL.iter().map(|r| r.name());
    let all = drops.chain(FilterReason::ALL.iter().map(|r| r.name()));
    let missing: Vec<_> = all
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
}

#[test]
fn a_message_is_found_whatever_stands_around_it() {
    let text = "path = %p.display(), \"cannot (really) \\\"open\\\" {path}: {error}; \\\n   look\"), more()";
    let found = message(arguments(text)).expect("a message");
    assert_eq!(found, "cannot (really) \"open\" {path}: {error}; look");
    assert_eq!(words(&found), ["cannot (really) \"open"]);
}

/// The names of the tests in a folder of `tests/`.
fn tests_of(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    sources(&root.join(folder), &mut files);
    let mut names = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        for (at, _) in text.match_indices("#[test]\n") {
            let name = text[at..].split_once("\nfn ").map(|(_, rest)| rest);
            names.extend(
                name.and_then(|rest| rest.split('(').next())
                    .map(str::to_owned),
            );
        }
    }
    names
}

#[test]
fn the_page_of_faults_names_every_test_that_makes_one_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/faults.md")).expect("the page is there");
    let folders = [
        "faults_storage",
        "faults_load",
        "overload",
        "faults_process",
        "crash",
        "recover",
    ];
    let tests: Vec<_> = folders.iter().flat_map(|f| tests_of(f)).collect();
    let rows = page
        .lines()
        .filter(|l| l.starts_with("| ") && l.contains("| `"));
    let told: Vec<_> = rows.filter_map(|l| l.split('`').nth(1)).collect();
    let told: Vec<_> = told
        .into_iter()
        .filter(|t| !t.starts_with("tests/"))
        .collect();
    let missing: Vec<_> = tests
        .iter()
        .filter(|t| !told.contains(&t.as_str()))
        .collect();
    let gone: Vec<_> = told
        .iter()
        .filter(|t| !tests.iter().any(|x| x == *t))
        .collect();
    assert!(missing.is_empty(), "not in docs/faults.md: {missing:#?}");
    assert!(gone.is_empty(), "in docs/faults.md, but no test: {gone:#?}");
    assert!(told.len() >= 40, "{} faults", told.len());
}
