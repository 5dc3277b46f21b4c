//! Which capture files were shipped: what a restart asks.
//!
//! Takes: names of files that have arrived. Gives: [`List`]: whether one has. Holds: a name is on the disk before its file is forgotten anywhere else; names of
//! files that are gone are left out when the list is written anew.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The list grows by so much, or to its double, before it is written anew.
const GROWTH: u64 = 4 << 20;

/// The list, which lies beside the pending files.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    /// The output: what the names are below.
    output: PathBuf,
    /// Bytes that it has, and that it had when it was last written anew.
    bytes: u64,
    compact: u64,
    /// Whether a write has failed, and may have left a torn name.
    torn: bool,
}

impl List {
    /// The list in the folder `root`, of files in `output`, and the names in it.
    pub(super) fn open(root: &Path, output: &Path) -> io::Result<(Self, HashSet<String>)> {
        let mut list = Self {
            path: root.join("shipped"),
            output: output.to_owned(),
            bytes: 0,
            compact: 0,
            torn: false,
        };
        let names = list.read()?;
        list.compact = names.iter().map(|name| name.len() as u64 + 1).sum();
        Ok((list, names))
    }

    /// Adds names, and has them written down.
    pub(super) fn add<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut text: String = names.flat_map(|name| [name, "\n"]).collect();
        if text.is_empty() {
            return Ok(());
        }
        if self.torn {
            text.insert(0, '\n');
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        self.torn = true;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        self.torn = false;
        self.bytes += text.len() as u64;
        if self.bytes > self.compact * 2 + GROWTH && self.write_anew().is_err() {
            // it is whole, and longer than it need be; tried again when it has grown as much once more
            self.compact = self.bytes;
        }
        Ok(())
    }

    /// The names of files that are there. What is no text is the name of none; nor is a last line without an end.
    fn read(&mut self) -> io::Result<HashSet<String>> {
        let mut names = HashSet::new();
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            other => other?,
        };
        self.bytes = 0;
        let (mut file, mut line) = (BufReader::new(file), Vec::new());
        while {
            line.clear();
            file.read_until(b'\n', &mut line)? > 0
        } {
            self.bytes += line.len() as u64;
            self.torn = line.last() != Some(&b'\n');
            if let Some((b'\n', name)) = line.split_last()
                && let Ok(name) = str::from_utf8(name)
                && !name.is_empty()
                && self.output.join(name).symlink_metadata().is_ok()
            {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Leaves out what is gone.
    fn write_anew(&mut self) -> io::Result<()> {
        let names = self.read()?;
        let aside = self.path.with_extension("partial");
        let written = write(&aside, &names).and_then(|()| fs::rename(&aside, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written?;
        self.bytes = names.iter().map(|name| name.len() as u64 + 1).sum();
        self.compact = self.bytes;
        Ok(())
    }
}

fn write(path: &Path, names: &HashSet<String>) -> io::Result<()> {
    let mut anew = BufWriter::new(File::create(path)?);
    for name in names {
        writeln!(anew, "{name}")?;
    }
    let file = anew.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_that_are_there_are_found_again_and_a_torn_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        fs::create_dir_all(output.join("web")).unwrap();
        for name in ["web/a", "web/b", "web/c"] {
            fs::write(output.join(name), "").unwrap();
        }
        let (mut list, names) = List::open(folder.path(), &output).unwrap();
        assert!(names.is_empty());
        list.add(["web/a", "web/b"].into_iter()).unwrap();
        list.add(["web/gone"].into_iter()).unwrap();
        let path = folder.path().join("shipped");
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, whole + "web/cc").unwrap();
        let (mut list, names) = List::open(folder.path(), &output).unwrap();
        let expected = ["web/a", "web/b"].map(str::to_owned);
        assert_eq!(names, HashSet::from(expected));
        list.add(["web/c"].into_iter()).unwrap();
        assert_eq!(List::open(folder.path(), &output).unwrap().1.len(), 3);
    }

    #[test]
    fn bytes_that_are_no_text_and_a_disk_that_takes_nothing_keep_no_list_from_being_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        fs::write(folder.path().join("shipped"), b"\xff\xfe\na\nb\xff\n").unwrap();
        // nothing can be written aside
        fs::create_dir(folder.path().join("shipped.partial")).unwrap();
        let (mut list, names) = List::open(folder.path(), folder.path()).unwrap();
        assert_eq!(names, HashSet::from(["a".to_owned()]));
        let long = "x".repeat(9 << 20);
        list.add([long.as_str()].into_iter()).unwrap();
        list.add(["a"].into_iter()).unwrap();
    }

    #[test]
    fn a_long_list_is_written_anew_while_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let (mut list, _) = List::open(folder.path(), folder.path()).unwrap();
        let long = "x".repeat(1 << 20);
        for _ in 0..5 {
            list.add([long.as_str()].into_iter()).unwrap();
        }
        assert!(fs::metadata(folder.path().join("shipped")).unwrap().len() < 3 << 20);
    }
}
