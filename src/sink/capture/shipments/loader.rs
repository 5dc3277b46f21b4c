//! What the thread of shipping does for capture files.
//!
//! Takes: announced files, and those that have arrived. Gives: [`Loader::care`], for the queue of capture files. Holds: a file that has arrived is
//! told in the manifest, then remembered as shipped, then deleted where that is wanted, and only then forgotten; after a crash between
//! two of these steps it begins with the first again.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::logging::Limited;
use crate::ship::{Care, Entry, Pending};
use crate::sink::capture::shipments::list::List;
use crate::sink::capture::shipments::search::Search;
use crate::sink::capture::shipments::{Offer, Shipments, lock, pending_of};
use crate::sink::capture::stats::{Errand, Stats};
use crate::spool::manifest::{Entry as Line, Outcome, Shipped, Teller};
use crate::time;

/// A warning that repeats is told so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// So long the lines of files that have arrived are waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Lines that are waited for together.
const TOGETHER: usize = 256;

/// What ends the name of a description.
const DESCRIPTION: &str = ".json";

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
    /// Names of files that have arrived, and whose line is told.
    told: HashSet<String>,
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
            told: HashSet::new(),
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
        let (offering, dropping, arriving) = (Arc::clone(&this), Arc::clone(&this), this);
        Care {
            before: Box::new(move |pending| lock(&offering).offer_all(pending)),
            drop_unoffered: Box::new(move |bytes| lock(&dropping).drop_offers(bytes)),
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
        }
        if let Some(rest) = search.rest() {
            let held = &self.shipments.held;
            rest.iter().for_each(|offer| held.hold(offer.identity));
            held.know();
        }
        self.search = (!done.is_ok_and(|through| through)).then_some(search);
    }

    fn search_once(&mut self, search: &mut Search, pending: &Pending) -> io::Result<bool> {
        pending.make()?;
        if self.list.is_none() {
            let (list, names) = List::open(pending.root(), &self.shipments.output)?;
            search.leave_out(names);
            self.list = Some(list);
        }
        let is_ours = |identity| self.stats.weights.is_ours(identity);
        let found = search.look(&self.shipments, pending, self.manifest.is_on(), &is_ours)?;
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
        let (descriptions, files): (Vec<_>, Vec<_>) = entries
            .iter()
            .cloned()
            .partition(|entry| entry.name.ends_with(DESCRIPTION));
        let mut settled = descriptions;
        for together in files.chunks(TOGETHER) {
            settled.extend(self.settle_together(together));
        }
        self.told
            .retain(|name| files.iter().any(|f| f.name == *name));
        settled
    }

    fn settle_together(&mut self, files: &[Entry]) -> Vec<Entry> {
        let told = self.tell(files);
        let names = told.iter().filter_map(|entry| below(&entry.name));
        let new: Vec<String> = names.filter(|name| !self.told.contains(name)).collect();
        let written = match &mut self.list {
            Some(list) => list.add(new.iter().map(String::as_str)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = written {
            self.warn("write down which capture files were shipped", &error);
            return Vec::new();
        }
        self.told.extend(new);
        told.into_iter()
            .filter(|entry| self.is_done(entry))
            .collect()
    }

    /// Has a line written for each file. Gives those that have one.
    fn tell(&self, files: &[Entry]) -> Vec<Entry> {
        let s3 = self.shipments.config.s3();
        let told = files.iter().map(|entry| {
            let name = below(&entry.name).unwrap_or_default();
            let receipt = (!self.told.contains(&name)).then(|| {
                self.manifest.tell(Line::Shipped(Shipped {
                    name,
                    bytes: entry.bytes,
                    object: format!("s3://{}/{}", s3.bucket, s3.key(&entry.name)),
                }))
            });
            (entry, receipt)
        });
        let told: Vec<_> = told.collect();
        let end = time::monotonic().plus(LONGEST_WAIT);
        let is_told = told.into_iter().filter(|(_, receipt)| {
            let wait = |r: &crate::spool::manifest::Receipt| r.wait(end.since(time::monotonic()));
            match receipt.as_ref().map(wait) {
                None => true,
                Some(outcome) => matches!(
                    outcome,
                    Some(Outcome::Written | Outcome::NoRoom | Outcome::Off)
                ),
            }
        });
        is_told.map(|(entry, _)| entry.clone()).collect()
    }

    /// Whether a file that is told needs no more: it is deleted here, where that is wanted.
    fn is_done(&self, entry: &Entry) -> bool {
        let Some((session, name)) = parts(&entry.name) else {
            return true;
        };
        if !self.shipments.config.delete_after_ship {
            return true;
        }
        let path = self.shipments.output.join(session).join(name);
        // one that is gone, or another one of its name, is not to be deleted
        let is_same = |facts: fs::Metadata| (facts.dev(), facts.ino()) == entry.identity;
        if !path.symlink_metadata().is_ok_and(is_same) {
            return true;
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
            tracing::warn!(%output, more, "cannot {what}: {error}; until that works no file that is to be shipped is deleted");
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
