//! A flow log: records into the file of their five minutes, files out when these are over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::flow::Closed;
use crate::flowlog::file::Growing;
use crate::flowlog::key::{BUCKET, bucket, hash};
use crate::flowlog::{Config, Interface, Layout};
use crate::record::{Field, Format, Status, Value};
use crate::time::Timestamp;

/// Below the 75 MB that a file may have, with room for what the packer holds back.
const MOST_PACKED: u64 = 74_000_000;
/// Whether the limit means packed bytes is not documented; this keeps the text within reason too.
const MOST_TEXT: u64 = 500_000_000;
/// Files that are open at once. Late records need a few; a clock that jumps must not open thousands.
const MOST_OPEN: usize = 8;
/// How long after its end a file is kept open for flows that are still being counted.
const GRACE: Duration = Duration::from_secs(5);

/// What became of the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records given, NODATA and SKIPDATA lines too.
    pub records: u64,
    /// Of these, in files with their final name.
    pub published: u64,
    /// Of these, lost with a file that could not be written.
    pub lost: u64,
    /// Files with their final name.
    pub files: u64,
}

/// A file that could not be written: its records are lost, and counted.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {doing} the flow log {}: {source}; {records} records are lost; make room, or check that the folder may be written to",
    file.display()
)]
pub struct Error {
    /// What was being done.
    pub doing: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Records that were in it.
    pub records: u64,
    /// What the system said.
    pub source: io::Error,
}

/// A flow log that is being written.
#[derive(Debug)]
pub struct Log {
    format: Format,
    layout: Layout,
    interval: Duration,
    folder: PathBuf,
    /// What tells this run's files from those of others.
    run: String,
    number: u64,
    /// By bucket.
    open: BTreeMap<u64, Growing>,
    line: String,
    published: Vec<PathBuf>,
    counts: Counts,
}

impl Log {
    /// A flow log below `folder`, of a run that began at `now`. Nothing is made before there is a record.
    pub fn new(config: &Config, folder: &Path, now: Timestamp) -> Self {
        Self {
            format: config.log_format.clone(),
            layout: Layout::of(config),
            interval: config.interval.duration(),
            folder: folder.to_owned(),
            run: format!("{} {} {}", config.name, std::process::id(), now.nanos()),
            number: 0,
            open: BTreeMap::new(),
            line: String::new(),
            published: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// What became of the records so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Files published since this was last asked.
    pub fn take_published(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.published)
    }

    /// Writes the record of a flow.
    ///
    /// # Errors
    /// [`Error`]: a file is lost; the log goes on with another.
    pub fn record(&mut self, interface: &Interface, closed: &Closed) -> Result<(), Error> {
        let addresses = closed.addresses(interface.primary);
        self.line.clear();
        let value = |field| interface.value(closed, addresses, field);
        self.format.print(&mut self.line, value);
        self.write(closed.last.secs())
    }

    /// Writes a line that stands for no flow: an interval of an interface without traffic, or with losses.
    ///
    /// # Errors
    /// As for [`Log::record`].
    pub fn without_flow(
        &mut self,
        interface: &Interface,
        status: Status,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<(), Error> {
        self.line.clear();
        self.format
            .print_without_flow(&mut self.line, status, |field| match field {
                Field::Start => Value::Number(start.secs()),
                Field::End => Value::Number(end.secs()),
                other => interface.fact(other),
            });
        self.write(end.secs())
    }

    /// Publishes the files whose time is over: no flow that is still counted can end in them.
    ///
    /// # Errors
    /// The first file that could not be published; the others are.
    pub fn advance(&mut self, now: Timestamp) -> Result<(), Error> {
        let over = now.saturating_sub(self.interval + GRACE).secs();
        self.publish_while(|start| start + BUCKET <= over)
    }

    /// Publishes all files: nothing more will come.
    ///
    /// # Errors
    /// As for [`Log::advance`].
    pub fn finish(&mut self) -> Result<(), Error> {
        self.publish_while(|_| true)
    }

    fn publish_while(&mut self, over: impl Fn(u64) -> bool) -> Result<(), Error> {
        let mut first = Ok(());
        while let Some(entry) = self.open.first_entry().filter(|e| over(*e.key())) {
            let file = entry.remove_entry();
            let published = self.publish(file);
            first = first.and(published);
        }
        first
    }

    /// Puts the line at hand into the file of its bucket.
    fn write(&mut self, end: u64) -> Result<(), Error> {
        self.counts.records += 1;
        let bucket = bucket(end);
        let made_way = self.make_way(bucket);
        let mut file = match self.open.remove(&bucket) {
            Some(file) => file,
            None => self.begin(bucket)?,
        };
        if let Err(source) = file.record(&self.line) {
            return Err(self.lose("write", file.partial(), file.records + 1, source));
        }
        let done = if file.packed() >= MOST_PACKED || file.text >= MOST_TEXT {
            self.publish((bucket, file))
        } else {
            self.open.insert(bucket, file);
            Ok(())
        };
        made_way.and(done)
    }

    /// Publishes the oldest file if another one would be too many.
    fn make_way(&mut self, bucket: u64) -> Result<(), Error> {
        let fits = self.open.contains_key(&bucket) || self.open.len() < MOST_OPEN;
        match fits {
            true => Ok(()),
            false => self
                .open
                .pop_first()
                .map_or(Ok(()), |oldest| self.publish(oldest)),
        }
    }

    /// A new file of a bucket.
    fn begin(&mut self, bucket: u64) -> Result<Growing, Error> {
        let folder = self.folder.join(self.layout.folder(bucket));
        let name = self.name(bucket);
        Growing::begin(&folder, &name, &self.format.header())
            .map_err(|source| self.lose("begin", &folder.join(&name), 1, source))
    }

    fn name(&mut self, bucket: u64) -> String {
        self.number += 1;
        let hash = hash(&self.run, bucket, self.number);
        self.layout.file(bucket, &hash)
    }

    fn publish(&mut self, (bucket, file): (u64, Growing)) -> Result<(), Error> {
        let (records, partial) = (file.records, file.partial().to_owned());
        let sealed = match file.seal() {
            Ok(sealed) => sealed,
            Err(source) => return Err(self.lose("finish", &partial, records, source)),
        };
        loop {
            let name = self.name(bucket);
            match sealed.publish(&name) {
                Ok(path) => {
                    self.counts.published += records;
                    self.counts.files += 1;
                    self.published.push(path);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(self.lose("publish", &partial, records, source)),
            }
        }
    }

    /// Gives up a file and its records. What can't be published is not left to be taken for something.
    fn lose(
        &mut self,
        doing: &'static str,
        partial: &Path,
        records: u64,
        source: io::Error,
    ) -> Error {
        let _ = fs::remove_file(partial);
        self.counts.lost += records;
        Error {
            doing,
            file: partial.to_owned(),
            records,
            source,
        }
    }
}
