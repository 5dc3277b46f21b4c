//! Lines of the manifest by the files that they list.
//!
//! Takes: an output folder, and names. Gives: [`lines_of`]. Holds: the manifest may be written meanwhile; a line without its end is none.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use crate::spool::manifest::FILE;
use crate::spool::manifest::line::{self, Told};

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// The lines that list these files, by name and without line break. Of a name that is listed twice the last counts.
///
/// # Errors
/// The manifest cannot be read; one that is not there has no lines.
pub fn lines_of(output: &Path, names: &HashSet<String>) -> io::Result<HashMap<String, Vec<u8>>> {
    let mut lines = HashMap::new();
    let file = match File::open(output.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
        other => other?,
    };
    let mut from = BufReader::with_capacity(PIECE, file);
    while let Some(raw) = line::next(&mut from)? {
        let told = Told::read(&raw.bytes).ok();
        let name = told.as_ref().and_then(Told::lists);
        if let Some(name) = name.filter(|name| raw.whole && names.contains(*name)) {
            lines.insert(name.to_owned(), raw.bytes);
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::manifest::{Entry, Listed, Prepared, Shipped, Writer};

    #[test]
    fn the_line_that_lists_a_file_is_found_as_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = Writer::open(folder.path(), Prepared::unsigned()).unwrap();
        let listed = |name: &str| {
            Entry::Published(Box::new(Listed {
                name: name.to_owned(),
                ..Listed::default()
            }))
        };
        let shipped = Entry::Shipped(Shipped {
            name: "web/a".to_owned(),
            ..Shipped::default()
        });
        let entries = [listed("web/a"), listed("web/b"), shipped];
        opened.writer.write(entries.iter()).unwrap();
        let wanted = HashSet::from(["web/a".to_owned(), "web/c".to_owned()]);
        let lines = lines_of(folder.path(), &wanted).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        let first = text.lines().next().unwrap().as_bytes().to_vec();
        assert_eq!(lines, HashMap::from([("web/a".to_owned(), first)]));
        assert!(
            lines_of(&folder.path().join("none"), &wanted)
                .unwrap()
                .is_empty()
        );
    }
}
