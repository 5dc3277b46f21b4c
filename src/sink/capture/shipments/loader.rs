//! What the thread of shipping does for capture files.
//!
//! Takes: announced files, and those that have arrived. Gives: [`Loader::care`], for the queue of capture files. Holds: a file that has arrived is
//! told in the manifest, then remembered as shipped, then deleted where that is wanted, and only then forgotten; after a crash between
//! two of these steps it begins with the first again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::logging::Limited;
use crate::ship::{Care, DESCRIPTION, Entry, Pending};
use crate::sink::capture::shipments::list::List;
use crate::sink::capture::shipments::search::Search;
use crate::sink::capture::shipments::{Offer, Shipments, lock, pending_of};
use crate::sink::capture::stats::{Errand, Stats};
use crate::spool::manifest::{Entry as Line, Outcome, Receipt, Shipped, Teller};
use crate::time::{self, Monotonic};

/// A warning that repeats is told so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// So long the lines of files that have arrived are waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Lines that are waited for together.
const TOGETHER: usize = 256;

/// After so many looks for what earlier runs left that failed, a second apart, retention no longer waits for one that does not.
const MOST_FAILURES: u32 = 60;

/// How far a file that has arrived is.
#[derive(Debug)]
enum Step {
    /// Its line is asked for.
    Asked(Receipt),
    /// Its line is written, or will be.
    Told,
    /// Its name is in the list.
    Listed,
}

/// Looks after capture files on behalf of the thread of shipping.
#[derive(Debug)]
pub struct Loader {
    shipments: Arc<Shipments>,
    manifest: Teller,
    stats: Arc<Stats>,
    /// Still to be offered, the oldest first.
    offers: VecDeque<Offer>,
    /// Looks for what earlier runs left, until that is done.
    search: Option<Search>,
    list: Option<List>,
    /// What it has found: who announces one of these comes late.
    searched: HashSet<String>,
    /// How often the search has failed.
    failures: u32,
    /// Files and bytes that the search has left out, and that are not counted yet.
    left_out: (u64, u64),
    /// Files that have arrived, by what they waited as. Each is told once, however long the rest takes.
    steps: HashMap<String, Step>,
    refused: Limited,
    failed: Limited,
}

impl Loader {
    pub(in crate::sink::capture) fn new(
        shipments: Arc<Shipments>,
        manifest: Teller,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            search: Some(Search::new(&shipments.output)),
            shipments,
            manifest,
            stats,
            offers: VecDeque::new(),
            list: None,
            searched: HashSet::new(),
            failures: 0,
            left_out: (0, 0),
            steps: HashMap::new(),
            refused: Limited::new(TELL_EVERY),
            failed: Limited::new(TELL_EVERY),
        }
    }

    /// Where the files wait.
    pub fn pending(&self) -> Pending {
        pending_of(&self.shipments.output)
    }

    /// What the queue asks and tells.
    pub fn care(self) -> Care {
        let shipments = Arc::clone(&self.shipments);
        let looking = Arc::clone(&self.shipments);
        let this = Arc::new(Mutex::new(self));
        let (offering, dropping) = (Arc::clone(&this), Arc::clone(&this));
        let (leaving, arriving) = (Arc::clone(&this), this);
        Care {
            before: Box::new(move |pending| lock(&offering).offer_all(pending)),
            drop_unoffered: Box::new(move |bytes| lock(&dropping).drop_offers(bytes)),
            left_out: Box::new(move || std::mem::take(&mut lock(&leaving).left_out)),
            arrived: Box::new(move |entries| lock(&arriving).settle(entries)),
            there: Box::new(move |entries| {
                looking.held.end_look(entries.iter().map(|e| e.identity));
            }),
            wanted: Box::new(lasting(shipments)),
        }
    }

    /// Offers what was announced, and what a search has found. Gives what could not be offered.
    fn offer_all(&mut self, pending: &Pending) -> (u64, u64) {
        self.shipments.held.begin_look();
        for offer in self.shipments.offers.try_iter() {
            // the search was quicker than whoever recovered it; it may have arrived by now
            if self.searched.remove(&offer.name) {
                self.shipments.held.offered(offer.identity);
                continue;
            }
            if let Some(search) = &mut self.search {
                search.leave_to_others(&offer.name);
            }
            self.offers.push_back(offer);
        }
        self.look_for_left(pending);
        let mut rest = VecDeque::new();
        for offer in std::mem::take(&mut self.offers) {
            match offer.put(pending) {
                Ok(()) => self.shipments.held.offered(offer.identity),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !offer.is_there() => {
                    self.shipments.held.let_go(offer.identity);
                }
                Err(error) => {
                    self.refuse(&offer, &error);
                    rest.push_back(offer);
                }
            }
        }
        self.offers = rest;
        let bytes = self.offers.iter().map(|offer| offer.bytes).sum();
        (self.offers.len() as u64, bytes)
    }

    fn refuse(&self, offer: &Offer, error: &io::Error) {
        if let Some(more) = self.refused.pass(time::monotonic().nanos()) {
            tracing::warn!(
                path = %offer.path.display(),
                more,
                "cannot put a capture file among those that are to be shipped: {error}; it is tried again every second"
            );
        }
    }

    /// Once, at the start: what was published and never offered.
    fn look_for_left(&mut self, pending: &Pending) {
        let Some(mut search) = self.search.take() else {
            return;
        };
        let done = self.search_once(&mut search, pending);
        if let Err(error) = &done {
            self.warn("look for capture files that were not shipped yet", error);
            self.failures += 1;
            // not sure is held, but not for ever, and not when the disk is full: else nothing would be deleted any more
            if self.failures >= MOST_FAILURES || self.shipments.is_in_want() {
                self.shipments.held.know();
            }
        }
        if let Some(rest) = search.rest() {
            let held = &self.shipments.held;
            rest.iter().for_each(|offer| held.hold(offer.identity));
            held.know();
        }
        self.search = (!done.is_ok_and(|through| through)).then_some(search);
    }

    fn search_once(&mut self, search: &mut Search, pending: &Pending) -> io::Result<bool> {
        if self.list.is_none() {
            let (list, names) = List::open(pending.root(), &self.shipments.output)?;
            search.leave_out(names);
            self.list = Some(list);
        }
        pending.make()?;
        let is_ours = |identity| self.stats.weights.is_ours(identity);
        let found = search.look(&self.shipments, pending, self.manifest.is_on(), &is_ours)?;
        let left_out = search.take_left_out();
        self.left_out = (self.left_out.0 + left_out.0, self.left_out.1 + left_out.1);
        for offer in found {
            self.shipments.held.hold(offer.identity);
            self.searched.insert(offer.name.clone());
            self.offers.push_back(offer);
        }
        Ok(search.is_through())
    }

    /// Gives up the oldest that could not be offered.
    fn drop_offers(&mut self, bytes: u64) -> (u64, u64) {
        let (mut files, mut dropped) = (0, 0);
        while dropped < bytes
            && let Some(offer) = self.offers.pop_front()
        {
            self.shipments.held.let_go(offer.identity);
            files += 1;
            dropped += offer.bytes;
        }
        (files, dropped)
    }

    /// Files have arrived. Gives those that nothing more has to be done for.
    fn settle(&mut self, entries: &[Entry]) -> Vec<Entry> {
        let is_description = |entry: &Entry| entry.described().is_some();
        let (mut settled, files): (Vec<_>, Vec<_>) =
            entries.iter().cloned().partition(is_description);
        let here: HashSet<&str> = files.iter().map(|f| &*f.name).collect();
        self.steps.retain(|name, _| here.contains(&**name));
        let end = time::monotonic().plus(LONGEST_WAIT);
        for together in files.chunks(TOGETHER) {
            together.iter().for_each(|entry| self.ask(entry));
            together.iter().for_each(|entry| self.hear(entry, end));
            let may_lack = self.write_down(together);
            let is_done = together
                .iter()
                .filter(|entry| self.is_done(entry, may_lack));
            settled.extend(is_done.cloned());
            if time::monotonic() >= end {
                break;
            }
        }
        settled
    }

    /// Asks for a file's line, once.
    fn ask(&mut self, entry: &Entry) {
        if self.steps.contains_key(&entry.name) {
            return;
        }
        let s3 = self.shipments.config.s3();
        let receipt = self.manifest.tell(Line::Shipped(Shipped {
            name: below(&entry.name).unwrap_or_default(),
            bytes: entry.bytes,
            object: format!("s3://{}/{}", s3.bucket, s3.key(&entry.name)),
        }));
        self.steps.insert(entry.name.clone(), Step::Asked(receipt));
    }

    /// Waits for a line that was asked for. One that comes later is heard of at a later look; one that was refused is asked for again.
    fn hear(&mut self, entry: &Entry, end: Monotonic) {
        let Some(Step::Asked(receipt)) = self.steps.get(&entry.name) else {
            return;
        };
        match receipt.wait(end.since(time::monotonic())) {
            None => {}
            Some(Outcome::Written | Outcome::NoRoom | Outcome::Off) => {
                self.steps.insert(entry.name.clone(), Step::Told);
            }
            Some(Outcome::Failing | Outcome::Refused) => {
                self.steps.remove(&entry.name);
            }
        }
    }

    /// Writes down the names of those that are told. Gives whether a file may be done with although its name could not be written: when the disk is full, for
    /// then it has to go first, and would at worst be shipped once more.
    fn write_down(&mut self, together: &[Entry]) -> bool {
        let is_new = |entry: &&Entry| matches!(self.steps.get(&entry.name), Some(Step::Told));
        let new: Vec<&Entry> = together.iter().filter(is_new).collect();
        let names: Vec<String> = new.iter().filter_map(|entry| below(&entry.name)).collect();
        let written = match &mut self.list {
            Some(list) => list.add(names.iter().map(String::as_str)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let Err(error) = written else {
            let listed = new.iter().map(|entry| (entry.name.clone(), Step::Listed));
            self.steps.extend(listed);
            return false;
        };
        self.warn("write down which capture files were shipped", &error);
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        is_full && self.shipments.config.delete_after_ship || self.shipments.is_in_want()
    }

    /// Whether a file needs no more: it is told and listed, and deleted here where that is wanted. One that may lack in the list does so only when
    /// it is gone, or the keeper is to take it.
    fn is_done(&self, entry: &Entry, may_lack: bool) -> bool {
        let is_listed = match self.steps.get(&entry.name) {
            Some(Step::Listed) => true,
            Some(Step::Told) if may_lack => false,
            _ => return false,
        };
        let Some((session, name)) = parts(&entry.name) else {
            return true;
        };
        if !self.shipments.config.delete_after_ship {
            return true;
        }
        let path = self.shipments.output.join(session).join(name);
        // one that is gone, or another one of its name, is not to be deleted
        let is_same = |facts: &fs::Metadata| (facts.dev(), facts.ino()) == entry.identity;
        let facts = path.symlink_metadata();
        if !facts.as_ref().is_ok_and(is_same) {
            return is_listed || facts.is_err() || self.shipments.is_in_want();
        }
        self.stats.send_keeper(Errand {
            session: session.into(),
            name: name.into(),
            identity: entry.identity,
        });
        false
    }

    fn warn(&self, what: &str, error: &io::Error) {
        if let Some(more) = self.failed.pass(time::monotonic().nanos()) {
            let output = self.shipments.output.display();
            tracing::warn!(%output, more, "cannot {what}: {error}; meanwhile no file that is to be shipped is deleted, for a minute or until the disk needs the room");
        }
    }
}

/// What the keeper wants, once it has wanted it at two looks: what was just given up it may not have seen at the first.
fn lasting(shipments: Arc<Shipments>) -> impl FnMut() -> u64 + Send {
    let mut before = 0;
    move || {
        let now = shipments.wanted.swap(0, Ordering::Relaxed);
        let wanted = now.min(before);
        before = if wanted > 0 { 0 } else { now };
        wanted
    }
}

/// Session and name of a file by what it waits as.
fn parts(name: &str) -> Option<(&str, &str)> {
    let (before, file) = name.rsplit_once('/')?;
    let session = before
        .rsplit_once('/')
        .map_or(before, |(_, session)| session);
    Some((session, file))
}

/// Its path below the output.
fn below(name: &str) -> Option<String> {
    parts(name).map(|(session, file)| format!("{session}/{file}"))
}

impl Offer {
    /// Puts the file among those that wait, its description first: where the file waits, its description does, or has arrived. A power cut
    /// may take both back; then the next start finds that the file was never shipped.
    fn put(&self, pending: &Pending) -> io::Result<()> {
        if !self.told.is_empty() {
            let description = self.describe(pending)?;
            let name = format!("{}{DESCRIPTION}", self.name);
            let offered = pending.offer_unsynced(&description, &name);
            fs::remove_file(&description)?;
            offered?;
        }
        pending.offer_unsynced(&self.path, &self.name)
    }

    fn describe(&self, pending: &Pending) -> io::Result<PathBuf> {
        let path = pending.root().join("description");
        fs::create_dir_all(pending.root())?;
        // one that a crash left may be linked: it is not written into
        let _ = fs::remove_file(&path);
        let mut file = File::create_new(&path)?;
        file.write_all(&self.told)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(path)
    }

    /// Whether the file is still the one that was announced.
    fn is_there(&self) -> bool {
        let facts = self.path.symlink_metadata();
        facts.is_ok_and(|facts| (facts.dev(), facts.ino()) == self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_whatever_stands_before_it() {
        assert_eq!(parts("web/f.pcap"), Some(("web", "f.pcap")));
        assert_eq!(parts("a/b/web/f.pcap"), Some(("web", "f.pcap")));
        assert_eq!(parts("f.pcap"), None);
        assert_eq!(below("a/web/f.pcap").as_deref(), Some("web/f.pcap"));
    }
}
