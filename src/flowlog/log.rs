//! A flow log: records into the file of their five minutes, files out when these are over.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::flow::Closed;
use crate::flowlog::file::Growing;
use crate::flowlog::key::{BUCKET, bucket, hash, run_name};
use crate::flowlog::publish::{Published, Publisher};
use crate::flowlog::recover::{self, Leftovers, Made, Recovered};
use crate::flowlog::resolver::is_resolver;
use crate::flowlog::retain::retain;
use crate::flowlog::work::Work;
use crate::flowlog::{Config, Error, FileFormat, Interface, Keep, Layout, Services, community_id};
use crate::record::{Extra, Field, Format, Scope, Status, Value};
use crate::ship::Pending;
use crate::time::Timestamp;

/// Below the 75 MB that a file may have, with room for what the packer holds back.
const MOST_PACKED: u64 = 74_000_000;
/// Whether the limit means packed bytes is not documented; this keeps the text within reason too.
const MOST_TEXT: u64 = 500_000_000;
/// A Parquet file is made at once when its lines are complete. It is about as large as these are packed, and this bounds both: its size,
/// and the time for which nothing else is written.
const MOST_PACKED_FOR_PARQUET: u64 = 12_000_000;
/// The same for lines that pack well.
const MOST_TEXT_FOR_PARQUET: u64 = 80_000_000;
/// Files that are open at once, at least. Late records need a few; a clock that jumps must not open thousands.
const FEWEST_OPEN: u64 = 8;
/// How long after its end a file is kept open for flows that are still being counted.
const GRACE: Duration = Duration::from_secs(5);
/// How much a kill may cost.
const FLUSH: Duration = Duration::from_secs(1);
/// How often it is looked for files that are to be deleted.
const LOOK: Duration = Duration::from_secs(60);

/// What became of the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records given, NODATA and SKIPDATA lines too.
    pub records: u64,
    /// Of these, in files with their final name.
    pub published: u64,
    /// Of these, with a file that could not be written or published. What can be read of it is recovered at the next start.
    pub lost: u64,
    /// Files with their final name.
    pub files: u64,
    /// Records that were not given a line: traffic with the Amazon resolver, where it does not count.
    pub resolver_records: u64,
    /// The packets of these.
    pub resolver_packets: u64,
    /// Files of earlier runs that were recovered.
    pub recovered_files: u64,
    /// Records in them.
    pub recovered_records: u64,
    /// Files that were deleted for being too old or too much.
    pub deleted_files: u64,
    /// Bytes of them.
    pub deleted_bytes: u64,
    /// Files that could not be offered for shipping so far; it is tried again.
    pub not_offered: u64,
}

/// A flow log that is being written.
#[derive(Debug)]
pub struct Log {
    format: Format,
    extra: Vec<Extra>,
    interval: Duration,
    /// Files that are open at once: a flow may have ended anywhere in the last interval.
    most_open: usize,
    resolver_dns: bool,
    keep: Keep,
    services: Option<Arc<Services>>,
    name: String,
    /// What tells this run's files from those of others.
    run: String,
    run_name: String,
    number: u64,
    /// The hidden folder, once there is a file.
    work: Option<Work>,
    /// By bucket.
    open: BTreeMap<u64, Box<Growing>>,
    publisher: Publisher,
    line: String,
    flushed: Timestamp,
    looked: Timestamp,
    published: Vec<PathBuf>,
    counts: Counts,
}

impl Log {
    /// A flow log below `folder`, of a run that began at `now`. Nothing is made before there is a record.
    pub fn new(config: &Config, folder: &Path, now: Timestamp) -> Self {
        let run = format!("{} {} {}", config.name, std::process::id(), now.nanos());
        Self {
            format: config.log_format.clone(),
            extra: config.extra.clone(),
            interval: config.interval.duration(),
            most_open: most_open(config.interval.duration()),
            resolver_dns: config.resolver_dns,
            keep: config.keep,
            services: None,
            publisher: Publisher::new(folder, Layout::of(config), &run),
            run_name: run_name(&config.name, &run),
            name: config.name.clone(),
            run,
            number: 0,
            work: None,
            open: BTreeMap::new(),
            line: String::new(),
            flushed: now,
            looked: Timestamp::default(),
            published: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// With a folder of files that wait for a destination: each is offered before it has its name.
    pub fn with_pending(mut self, pending: Pending) -> Self {
        self.publisher.pending = Some(pending);
        self
    }

    /// With the services of addresses, for `pkt-src-aws-service` and `pkt-dst-aws-service`.
    pub fn with_services(mut self, services: Option<Arc<Services>>) -> Self {
        self.services = services;
        self
    }

    /// Takes other services, or none, for the records to come.
    pub fn set_services(&mut self, services: Option<Arc<Services>>) {
        self.services = services;
    }

    /// What earlier runs of this flow log were writing when they were killed. Those that still run are not touched.
    pub fn leftovers(&self) -> Leftovers {
        Leftovers::find(
            &self.publisher.directory,
            &self.publisher.layout,
            &self.name,
        )
    }

    /// Publishes all of that, here and now.
    pub fn recover(&mut self) -> Recovered {
        let mut told = Recovered::default();
        for made in self.leftovers() {
            told.add(self.publish_left(made));
        }
        told
    }

    /// Publishes what an earlier run left, which is whole now.
    pub fn publish_left(&mut self, made: Made) -> Recovered {
        let mut told = made.told;
        for (whole, records) in made.ready {
            match self.publisher.publish(&whole) {
                Ok(published) => {
                    told.files += 1;
                    told.records += records;
                    self.counts.recovered_files += 1;
                    self.counts.recovered_records += records;
                    let odd = self.tell(published);
                    told.errors.extend(odd.err());
                }
                Err(source) => told.errors.push(recover::error(whole.path, source)),
            }
        }
        told
    }

    /// What became of the records so far.
    pub fn counts(&self) -> Counts {
        Counts {
            not_offered: self.publisher.not_offered(),
            ..self.counts
        }
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
        if !self.resolver_dns && is_resolver(&closed.key.flow, &interface.vpc_ranges) {
            self.counts.resolver_records += 1;
            self.counts.resolver_packets += closed.packets;
            return Ok(());
        }
        let addresses = closed.addresses(interface.primary);
        self.line.clear();
        let services = self.services.as_deref();
        let service = |address| {
            let service = services.and_then(|services| services.of(address));
            service.map_or(Value::Null, Value::Text)
        };
        self.format
            .print(&mut self.line, |field| match (field, addresses) {
                (Field::PktSrcAwsService, Some(a)) => service(a.pkt_src),
                (Field::PktDstAwsService, Some(a)) => service(a.pkt_dst),
                _ => interface.value(closed, addresses, field),
            });
        for extra in &self.extra {
            self.line.push(' ');
            if *extra == Extra::CommunityId && community_id(&closed.key.flow, &mut self.line) {
                continue;
            }
            // a string takes everything
            let _ = write!(self.line, "{}", interface.extra(Some(closed), *extra));
        }
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
        // the two may come from two clocks
        let start = start.min(end);
        self.line.clear();
        self.format
            .print_without_flow(&mut self.line, status, |field| match field {
                Field::Start => Value::Number(start.secs()),
                Field::End => Value::Number(end.secs()),
                other => interface.fact(other),
            });
        for extra in &self.extra {
            let value = match extra.scope() {
                Scope::Flow => Value::Null,
                _ => interface.extra(None, *extra),
            };
            let _ = write!(self.line, " {value}");
        }
        self.write(end.secs())
    }

    /// Publishes the files whose time is over: no flow that is still counted can end in them. Hands to the system what a kill
    /// could cost, offers again what could not be offered, and deletes what is too old or too much; each where it is time for it.
    ///
    /// # Errors
    /// The first file with which something went wrong; the others are done.
    pub fn advance(&mut self, now: Timestamp) -> Result<(), Error> {
        let over = now.saturating_sub(self.interval + GRACE).secs();
        let published = self.publish_while(|start| start + BUCKET <= over);
        let flushed = self.flush(now);
        let offered = self.offer_again();
        let kept = self.retain(now);
        published.and(flushed).and(offered).and(kept)
    }

    /// Publishes all files: nothing more will come.
    ///
    /// # Errors
    /// As for [`Log::advance`].
    pub fn finish(&mut self) -> Result<(), Error> {
        let published = self.publish_while(|_| true);
        let offered = self.offer_again();
        self.work = None;
        published.and(offered)
    }

    fn offer_again(&mut self) -> Result<(), Error> {
        let failed = |(file, source)| Error {
            doing: "offer for shipping",
            file,
            records: 0,
            source,
        };
        self.publisher.offer_again().map_err(failed)
    }

    fn flush(&mut self, now: Timestamp) -> Result<(), Error> {
        if !is_due(self.flushed, FLUSH, now) {
            return Ok(());
        }
        self.flushed = now;
        let failed = |file: &mut Growing| file.flush().err();
        let mut first = Ok(());
        let broken: Vec<_> = self
            .open
            .iter_mut()
            .filter_map(|(bucket, file)| failed(file).map(|error| (*bucket, error)))
            .collect();
        for (bucket, source) in broken {
            if let Some(file) = self.open.remove(&bucket) {
                first = first.and(Err(self.lose("write", file.path(), file.records, source)));
            }
        }
        first
    }

    fn retain(&mut self, now: Timestamp) -> Result<(), Error> {
        if !self.keep.is_set() || !is_due(self.looked, LOOK, now) {
            return Ok(());
        }
        self.looked = now;
        let publisher = &self.publisher;
        match retain(&publisher.directory, &publisher.layout, &self.keep, now) {
            Ok(deleted) => {
                self.counts.deleted_files += deleted.files;
                self.counts.deleted_bytes += deleted.bytes;
                Ok(())
            }
            Err(source) => Err(Error {
                doing: "delete old files of",
                file: publisher.directory.clone(),
                records: 0,
                source,
            }),
        }
    }

    fn publish_while(&mut self, over: impl Fn(u64) -> bool) -> Result<(), Error> {
        let mut first = Ok(());
        while let Some(entry) = self.open.first_entry().filter(|e| over(*e.key())) {
            let file = entry.remove();
            let published = self.publish(*file);
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
            None => Box::new(self.begin(bucket)?),
        };
        if let Err(source) = file.record(&self.line) {
            return Err(self.lose("write", file.path(), file.records + 1, source));
        }
        let done = if self.is_full(&file) {
            self.publish(*file)
        } else {
            self.open.insert(bucket, file);
            Ok(())
        };
        made_way.and(done)
    }

    fn is_full(&self, file: &Growing) -> bool {
        let (packed, text) = match self.publisher.layout.file_format {
            FileFormat::Text => (MOST_PACKED, MOST_TEXT),
            FileFormat::Parquet => (MOST_PACKED_FOR_PARQUET, MOST_TEXT_FOR_PARQUET),
        };
        file.packed() >= packed || file.text >= text
    }

    /// Publishes the oldest file if another one would be too many.
    fn make_way(&mut self, bucket: u64) -> Result<(), Error> {
        let fits = self.open.contains_key(&bucket) || self.open.len() < self.most_open;
        match fits {
            true => Ok(()),
            false => self
                .open
                .pop_first()
                .map_or(Ok(()), |(_, oldest)| self.publish(*oldest)),
        }
    }

    /// A new file of a bucket.
    fn begin(&mut self, bucket: u64) -> Result<Growing, Error> {
        self.number += 1;
        let layout = &self.publisher.layout;
        let name = layout.file(bucket, &hash(&self.run, bucket, self.number));
        let begun = self.folder().and_then(|folder| {
            let header = self.header();
            Growing::begin(&folder, name.clone(), &header)
        });
        begun.map_err(|source| {
            // somebody may have removed the hidden folder: the next file makes it again
            if self
                .work
                .as_ref()
                .is_some_and(|work| !work.folder().is_dir())
            {
                self.work = None;
            }
            self.lose("begin", self.publisher.directory.join(&name), 1, source)
        })
    }

    /// The hidden folder, which is made for the first file.
    fn folder(&mut self) -> io::Result<PathBuf> {
        let publisher = &self.publisher;
        let work = match self.work.take() {
            Some(work) => work,
            None => Work::make(&publisher.directory, &publisher.layout.id, &self.run_name)?,
        };
        let folder = work.folder().to_owned();
        self.work = Some(work);
        Ok(folder)
    }

    fn header(&self) -> String {
        let mut header = self.format.header();
        for extra in &self.extra {
            header.push(' ');
            header.push_str(extra.name());
        }
        header
    }

    fn publish(&mut self, file: Growing) -> Result<(), Error> {
        let (records, path) = (file.records, file.path());
        let (whole, unfit) = match file.seal(self.publisher.layout.file_format) {
            Ok(sealed) => sealed,
            Err(source) => return Err(self.lose("finish", path, records, source)),
        };
        let fit = records.saturating_sub(unfit);
        match self.publisher.publish(&whole) {
            Ok(published) => {
                self.counts.published += fit;
                self.tell(published)?;
            }
            Err(source) => return Err(self.lose("publish", whole.path, records, source)),
        }
        match unfit {
            0 => Ok(()),
            _ => Err(self.lose("finish", path, unfit, io::ErrorKind::InvalidData.into())),
        }
    }

    /// The file is there, whatever may have gone wrong behind that.
    fn tell(&mut self, published: Published) -> Result<(), Error> {
        self.counts.files += 1;
        let path = published.path;
        self.published.push(path.clone());
        published.settled.map_err(|source| Error {
            doing: "tidy up behind",
            file: path,
            records: 0,
            source,
        })
    }

    /// Gives up a file and its records. It stays in the hidden folder, and the next start recovers what can be read.
    fn lose(
        &mut self,
        doing: &'static str,
        file: PathBuf,
        records: u64,
        source: io::Error,
    ) -> Error {
        self.counts.lost += records;
        Error {
            doing,
            file,
            records,
            source,
        }
    }
}

/// As many files as the ends of flows that are closed at one time may lie in, and some for those that are late.
fn most_open(interval: Duration) -> usize {
    let most = (interval.as_secs() / BUCKET + 3).max(FEWEST_OPEN);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Whether it is time for something again. A clock that was set back is no reason to wait until it is where it was.
fn is_due(last: Timestamp, every: Duration, now: Timestamp) -> bool {
    now < last || now.saturating_sub(every) >= last
}

#[cfg(test)]
mod tests;
