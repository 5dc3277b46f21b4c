//! Source files as text: comments and strings blanked out, tests cut off, functions measured.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file.
pub(crate) struct File {
    /// Path below the package.
    pub(crate) path: PathBuf,
    /// As written.
    pub(crate) text: String,
    /// With comments, strings and character literals blanked, line for line.
    pub(crate) code: String,
}

impl File {
    pub(crate) fn new(path: impl Into<PathBuf>, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.to_owned(),
            code: blank(text),
        }
    }

    /// The room that it belongs to: the folder below src/.
    pub(crate) fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src").ok()?;
        let mut parts = inside.iter();
        let first = parts.next()?.to_str()?;
        parts.next().map(|_| first)
    }

    /// Whether it holds nothing but tests.
    fn is_test(&self) -> bool {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        parts.any(|part| part == "tests.rs" || part == "tests")
    }

    /// The code before the tests, which stand last in a file.
    pub(crate) fn product(&self) -> &str {
        if self.is_test() {
            return "";
        }
        let end = self.code.find("\n#[cfg(test)]\nmod ");
        &self.code[..end.unwrap_or(self.code.len())]
    }

    /// `path:line: what` for a byte of the code.
    pub(crate) fn at(&self, byte: usize, what: &str) -> String {
        let line = self.code[..byte].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path.display())
    }

    /// Names of the rooms that the product code names after `crate::`, with the place of each.
    pub(crate) fn imports(&self) -> Vec<(usize, String)> {
        let code = self.product();
        let mut found = Vec::new();
        for (start, _) in code.match_indices("crate::") {
            if code[..start].ends_with(is_word) || code[..start].ends_with('$') {
                continue;
            }
            let rest = &code[start + "crate::".len()..];
            found.extend(heads(rest).into_iter().map(|head| (start, head)));
        }
        found
    }

    /// Name, place and number of lines of every function: of its body, blank lines and comments left out, as clippy
    /// counts.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let starts = words(&self.code, "fn");
        let measured = starts.into_iter().filter_map(|start| {
            let head = self.code[start + 2..].trim_start();
            let name: String = head.chars().take_while(|c| is_word(*c)).collect();
            let body = body(&self.code[start..])?;
            let lines = body.lines().filter(|line| !line.trim().is_empty());
            (!name.is_empty()).then_some((name, start, lines.count()))
        });
        measured.collect()
    }
}

/// Every Rust file below the folders.
pub(crate) fn files(folders: &[&str]) -> Vec<File> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = folders.iter().map(|folder| package.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = paths.pop() {
        if let Ok(entries) = fs::read_dir(&path) {
            paths.extend(
                entries
                    .map(|entry| entry.unwrap().path())
                    .filter(|p| !p.ends_with("target")),
            );
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push(File::new(path.strip_prefix(package).unwrap(), &text));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Places of a whole word.
pub(crate) fn words(code: &str, word: &str) -> Vec<usize> {
    let whole = |start: &usize| {
        let (before, after) = (&code[..*start], &code[start + word.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    };
    code.match_indices(word)
        .map(|(start, _)| start)
        .filter(whole)
        .collect()
}

/// The first names of a path or of a group of paths: `a::B` gives a; `{a::{B, C}, d}` gives a and d.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim()
            .chars()
            .take_while(|c| is_word(*c) || *c == '*')
            .collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            ',' | '}' if depth == 0 => {
                heads.push(name(&group[start..at]));
                start = at + 1;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == '}' && depth < 0 || (c == '}' && depth == 0 && start == at + 1) {
            break;
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// What is between the braces of the function that starts here; `None` without a body.
fn body(code: &str) -> Option<&str> {
    let (mut brackets, mut braces, mut start) = (0, 0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => {
                if braces == 0 {
                    start = at + 1;
                }
                braces += 1;
            }
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return code.get(start..at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanks comments, strings and character literals, keeping every line where it is.
pub(crate) fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word_before = out.ends_with(is_word);
        match literal(rest, word_before) {
            Some(length) => {
                out.extend(
                    rest[..length]
                        .chars()
                        .map(|c| if c == '\n' { '\n' } else { ' ' }),
                );
                rest = &rest[length..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// The length of the comment, string or character literal that starts here, if one does.
fn literal(rest: &str, word_before: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    let prefix = rest
        .find(|c| !matches!(c, 'b' | 'c' | 'r' | '#'))
        .unwrap_or(0);
    let (head, tail) = rest.split_at(if word_before { 0 } else { prefix });
    if head.contains('r') && tail.starts_with('"') {
        let close = format!("\"{}", "#".repeat(head.matches('#').count()));
        let end = tail[1..]
            .find(&close)
            .map_or(tail.len(), |end| 1 + end + close.len());
        return Some(head.len() + end);
    }
    if tail.starts_with('"') && !head.contains('#') {
        return Some(head.len() + closed(tail, '"'));
    }
    if tail.starts_with('\'') && !head.contains('#') {
        let mut inside = tail[1..].chars();
        let (first, second) = (inside.next(), inside.next());
        // otherwise a lifetime
        return (first == Some('\\') || second == Some('\''))
            .then(|| head.len() + closed(tail, '\''));
    }
    None
}

/// The length of a quoted thing, backslashes minded.
fn closed(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn comments_strings_and_characters_are_blanked_and_lines_stay() {
    let text = "let a = \"fn x() { // \\\" }\"; // unsafe\nlet b = '{'; let c: &'static str = r#\"cr\"ate\"#;\n/* fn\n */ d('\\'', b'\"');";
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    assert_eq!(code.len(), text.len());
    let squeezed: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        squeezed,
        "let a = ; let b = ; let c: &'static str = ; d( , );"
    );
}

#[test]
fn imports_are_found_in_paths_and_groups_but_not_in_tests() {
    let text = "use crate::{a::{B, C}, d};\nuse crate::e::F;\nfn f() { crate::g::h(); $crate::no!() }\n#[cfg(test)]\nmod tests { use crate::z::Z; }\n";
    let imports = File::new("src/x/mod.rs", text).imports();
    let names: Vec<_> = imports.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "d", "e", "g"]);
    assert_eq!(
        File::new("src/x/mod.rs", "use crate::*;").imports()[0].1,
        "*"
    );
    assert!(File::new("src/x/tests.rs", text).imports().is_empty());
}

#[test]
fn a_function_is_as_long_as_the_code_between_its_braces() {
    let text = "fn a(x: [u8; 3]) -> fn(u8) {\n  if y { // z\n\n  }\n  // w\n}\ntrait T { fn b();\n fn c() {} }\n";
    let measured: Vec<_> = File::new("src/x.rs", text)
        .functions()
        .into_iter()
        .map(|(name, _, lines)| (name, lines))
        .collect();
    assert_eq!(measured, [("a".to_owned(), 2), ("c".to_owned(), 0)]);
}

#[test]
fn the_room_of_a_file_is_its_folder() {
    assert_eq!(File::new("src/sys/recv.rs", "").room(), Some("sys"));
    assert_eq!(File::new("src/lib.rs", "").room(), None);
    assert_eq!(File::new("tests/x.rs", "").room(), None);
}
