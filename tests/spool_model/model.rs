//! The model: which packets have to be in which file.

use std::fs;
use std::path::{Path, PathBuf};

use mirrortap::spool::recover::{self, Outcome};
use mirrortap::spool::{Compression, Format, Io};
use proptest::sample::Index;

use crate::spool_support::*;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    pub(crate) io: Io,
}

/// What may happen to a file.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Records of these sizes are written.
    Append(Vec<usize>),
    /// The disk has room for so many pages, and more is to be written. Then there is space again.
    AppendWithoutSpace(usize),
    /// The descriptor is given back, and the file is opened again.
    Rest,
    /// The filler of direct I/O is cut off.
    Trim,
    /// The file is finished, and the next one begun.
    Rotate,
    /// The process is killed.
    Crash,
    /// The process is killed while it writes, and the write comes as far as that.
    CrashWhileAppending(Vec<usize>, Index),
}

/// A file, and what has to be in it.
pub(crate) struct Model {
    disk: PathBuf,
    folder: PathBuf,
    kind: Kind,
    making: Option<Making>,
    /// Packets of the file under way that were told as written.
    written: Vec<u64>,
    next: u64,
    files: u32,
    /// Writes that failed.
    failed: usize,
}

impl Model {
    pub(crate) fn new(disk: &Path, kind: Kind) -> Self {
        let folder = disk.join("web");
        // What a failed case left.
        let _ = fs::remove_dir_all(&folder);
        let _ = fs::remove_file(disk.join("ballast"));
        let mut model = Self {
            disk: disk.to_owned(),
            folder,
            kind,
            making: None,
            written: Vec::new(),
            next: 0,
            files: 0,
            failed: 0,
        };
        model.begin();
        model
    }

    fn begin(&mut self) {
        self.files += 1;
        let Kind {
            format,
            compression,
            io,
        } = self.kind;
        let name = name(&self.folder, format, compression, self.files);
        let mut making = Making::new(name, io);
        making.append(&header(format)).expect("there is space");
        self.making = Some(making);
        self.written.clear();
    }

    fn making(&mut self) -> &mut Making {
        self.making.as_mut().expect("begun")
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Append(sizes) => {
                let (numbers, bytes, _) = self.records(&sizes);
                self.making().append(&bytes).expect("there is space");
                self.written.extend(numbers);
                self.end_if_stunted();
            }
            Step::AppendWithoutSpace(pages) => self.append_without_space(pages),
            Step::Rest => {
                self.making().partial.rest();
                self.making().partial.wake().expect("it is there");
            }
            Step::Trim => self.making().partial.trim(),
            Step::Rotate => self.rotate(),
            Step::Crash => self.crash(0, &[]),
            Step::CrashWhileAppending(sizes, cut) => self.crash_while_appending(&sizes, cut),
        }
        self.tidy();
    }

    /// Ends with a crash: what the last file holds is told at once. Gives the number of writes that failed.
    pub(crate) fn end(mut self) -> usize {
        self.crash(0, &[]);
        self.failed
    }

    /// Numbers of new records, their bytes, and where each ends.
    fn records(&mut self, sizes: &[usize]) -> (Vec<u64>, Vec<u8>, Vec<usize>) {
        let (mut numbers, mut bytes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for size in sizes {
            numbers.push(self.next);
            bytes.extend(record(self.kind.format, self.next, *size));
            ends.push(bytes.len());
            self.next += 1;
        }
        (numbers, bytes, ends)
    }

    /// As the sink does it: what is whole of a write that failed is kept.
    fn append_without_space(&mut self, pages: usize) {
        let (numbers, bytes, ends) = self.records(&noise_sizes());
        let ballast = self.fill(pages);
        let result = self.making().append(&bytes);
        let short = match result {
            Ok(()) => {
                // There was room after all.
                fs::remove_file(ballast).expect("removed");
                self.written.extend(numbers);
                return self.end_if_stunted();
            }
            Err(short) => short,
        };
        self.failed += 1;
        let whole = ends
            .iter()
            .filter(|end| **end as u64 <= short.written)
            .count();
        let kept = ends[..whole].last().copied().unwrap_or(0);
        self.making().partial.keep(kept as u64);
        fs::remove_file(ballast).expect("removed");
        self.written.extend(&numbers[..whole]);
    }

    /// Leaves room for so many pages on the disk.
    fn fill(&self, pages: usize) -> PathBuf {
        use std::io::Write;
        let path = self.disk.join("ballast");
        let mut file = fs::File::create(&path).expect("a ballast");
        let page = [0x55; 4096];
        let mut filled = 0_u64;
        while file.write_all(&page).is_ok() {
            filled += 1;
        }
        file.set_len(filled.saturating_sub(pages as u64) * 4096)
            .expect("shorter");
        path
    }

    /// As the sink does it: a file that compresses no more is done with the first write that succeeds.
    fn end_if_stunted(&mut self) {
        if self.making().partial.is_stunted() {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        let making = self.making.take().expect("begun");
        let stored = making.partial.stored();
        let path = making.partial.seal().publish().expect("published");
        assert_eq!(fs::metadata(&path).unwrap().len(), stored);
        self.assert_holds(&path, 0);
        self.begin();
    }

    fn crash_while_appending(&mut self, sizes: &[usize], cut: Index) {
        let (numbers, bytes, _) = self.records(sizes);
        let path = self.making().partial.path().clone();
        self.making().partial.trim();
        let before = fs::metadata(&path).unwrap().len();
        self.making().append(&bytes).expect("there is space");
        let after = fs::metadata(&path).unwrap().len();
        let keep = before + cut.index((after - before + 1) as usize) as u64;
        self.written.extend(&numbers);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(keep).unwrap();
        self.crash(numbers.len(), &bytes);
    }

    /// The process is gone. Of the last `unsure` packets as many are there as came to the disk.
    fn crash(&mut self, unsure: usize, torn: &[u8]) {
        let making = self.making.take().expect("begun");
        let path = making.partial.path().clone();
        drop(making);
        match recover::recover(&path, &|| false).expect("recovered") {
            Outcome::Recovered(file) => {
                assert_eq!(
                    file.kept,
                    None,
                    "a torn write of {} bytes: {file:?}",
                    torn.len()
                );
                self.assert_holds(&file.path, unsure);
                assert_eq!(fs::metadata(&file.path).unwrap().len(), file.bytes);
            }
            Outcome::Aside { why, .. } => panic!("{:?}: {why}", self.kind),
        }
        self.begin();
    }

    fn assert_holds(&self, path: &Path, unsure: usize) {
        let (numbers, whole) = read(path);
        assert!(whole, "{:?}: {} is not whole", self.kind, path.display());
        let sure = self.written.len() - unsure;
        assert!(
            numbers.len() >= sure,
            "{:?}: {numbers:?} of {:?}",
            self.kind,
            self.written
        );
        assert_eq!(numbers, self.written[..numbers.len()], "{:?}", self.kind);
        // Programs take their time to start: every fourth file is enough.
        if !self.files.is_multiple_of(4) {
            return;
        }
        assert_unpacks(&[path.to_owned()]);
        let content = unpacked(path);
        assert!(content.starts_with(&header(self.kind.format)));
    }

    /// Finished files go: the disk is small.
    fn tidy(&self) {
        for path in files(&self.folder, false) {
            fs::remove_file(path).expect("removed");
        }
    }
}

/// More than any of the disks has room for, compressed or not.
fn noise_sizes() -> Vec<usize> {
    vec![900; 40]
}
