//! Published files that were neither shipped nor offered: what a crash, or another program's work, has left.
//!
//! Takes: the output, what waits, and the names of what was shipped. Gives: offers, the oldest first. Holds: no more is found than the budget has room for, and then the
//! newest; a file gets its line of the manifest along, and is waited with for a while where that has not been written yet.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::ship::{Entry, Pending};
use crate::sink::capture::shipments::{Offer, Shipments};
use crate::spool::manifest;
use crate::spool::retain::{self, Kept};

/// How often the manifest is looked into for lines that are not there yet, with twice the pause each time.
const TRIES: u32 = 6;

/// A search.
#[derive(Debug)]
pub(super) struct Search {
    output: PathBuf,
    shipped: HashSet<String>,
    /// Files that were found, and have no line yet; `None` before the folder was read.
    found: Option<Vec<Offer>>,
    tries: u32,
    /// Looks to let pass.
    skip: u32,
    /// Files and bytes that the budget has no room for.
    left_out: (u64, u64),
}

impl Search {
    pub(super) fn new(output: &Path) -> Self {
        Self {
            output: output.to_owned(),
            shipped: HashSet::new(),
            found: None,
            tries: 0,
            skip: 0,
            left_out: (0, 0),
        }
    }

    /// Files and bytes that were left out since this was asked last.
    pub(super) fn take_left_out(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.left_out)
    }

    /// These were shipped.
    pub(super) fn leave_out(&mut self, names: HashSet<String>) {
        self.shipped = names;
    }

    /// A file is offered by whoever announced it: one that was recovered meanwhile.
    pub(super) fn leave_to_others(&mut self, name: &str) {
        if let Some(found) = &mut self.found {
            found.retain(|offer| offer.name != name);
        }
    }

    /// Whether all was found and given.
    pub(super) fn is_through(&self) -> bool {
        self.found.as_ref().is_some_and(Vec::is_empty)
    }

    /// What was found and waits for its line; `None` before the folder was read.
    pub(super) fn rest(&self) -> Option<&[Offer]> {
        self.found.as_deref()
    }

    /// Looks once. Gives what is to be offered now.
    pub(super) fn look(
        &mut self,
        shipments: &Shipments,
        pending: &Pending,
        has_manifest: bool,
        is_ours: &dyn Fn((u64, u64)) -> bool,
    ) -> io::Result<Vec<Offer>> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(Vec::new());
        }
        if self.found.is_none() {
            self.found = Some(self.read(shipments, pending, is_ours)?);
        }
        let found = self.found.as_deref().unwrap_or_default();
        let wanted: HashSet<String> = found.iter().filter_map(Offer::below).collect();
        let mut lines = match has_manifest && !wanted.is_empty() {
            true => manifest::lines_of(&self.output, &wanted)?,
            false => HashMap::new(),
        };
        let found = self.found.take().unwrap_or_default();
        if !has_manifest {
            return Ok(self.describe(found));
        }
        let (told, rest) = take_lines(found, &mut lines);
        self.tries += 1;
        self.skip = 1 << self.tries;
        let is_last = self.tries >= TRIES;
        let given_up = if is_last {
            self.describe(rest)
        } else {
            self.wait(rest)
        };
        Ok([told, given_up].concat())
    }

    /// Keeps what has no line for the next look.
    fn wait(&mut self, rest: Vec<Offer>) -> Vec<Offer> {
        self.found = Some(rest);
        Vec::new()
    }

    /// What can be told of files that have no line, without reading them.
    fn describe(&mut self, mut files: Vec<Offer>) -> Vec<Offer> {
        self.found = Some(Vec::new());
        for file in &mut files {
            let name = file.below().unwrap_or_default();
            let session = name.split_once('/').map_or("", |(session, _)| session);
            let told = json!({"name": name, "session": session, "bytes": file.bytes});
            file.told = told.to_string().into_bytes();
        }
        files
    }

    /// Reads the output.
    fn read(
        &mut self,
        shipments: &Shipments,
        pending: &Pending,
        is_ours: &dyn Fn((u64, u64)) -> bool,
    ) -> io::Result<Vec<Offer>> {
        let files = retain::scan(&self.output)?.files;
        // after the folder: a file that is offered meanwhile is not taken for one that was not
        let (waiting, done) = (pending.waiting()?, pending.done()?);
        let known: HashSet<&str> = waiting.iter().chain(&done).map(|e| &*e.name).collect();
        let sessions = shipments.sessions();
        let mut offers = Vec::new();
        for kept in files {
            let Some(name) = sessions.name(&kept.session, &kept.name) else {
                continue;
            };
            let below = format!("{}/{}", kept.session, kept.name);
            if !known.contains(&*name) && !self.shipped.contains(&below) && !is_ours(kept.identity)
            {
                offers.push((kept.mark, self.offer(name, kept)));
            }
        }
        self.shipped = HashSet::new();
        offers.sort_by_key(|(mark, _)| *mark);
        let offers = offers.into_iter().map(|(_, offer)| offer).collect();
        let (left, newest) = newest(offers, room(shipments, &waiting));
        self.left_out = (
            left.len() as u64,
            left.iter().map(|offer| offer.bytes).sum(),
        );
        Ok(newest)
    }

    fn offer(&self, name: String, kept: Kept) -> Offer {
        Offer {
            name,
            path: self.output.join(&*kept.session).join(&*kept.name),
            identity: kept.identity,
            bytes: kept.bytes,
            told: Vec::new(),
        }
    }
}

impl Offer {
    /// Its path below the output.
    fn below(&self) -> Option<String> {
        let (folder, file) = (self.path.parent()?, self.path.file_name()?);
        let session = folder.file_name()?;
        Some(format!("{}/{}", session.to_str()?, file.to_str()?))
    }
}

/// What the budget has left.
fn room(shipments: &Shipments, waiting: &[Entry]) -> u64 {
    match shipments.config.budget.bytes() {
        0 => u64::MAX,
        budget => budget.saturating_sub(waiting.iter().map(|e| e.bytes).sum()),
    }
}

/// Those that there is no room for, and the newest, for which there is; both come, and go, in their order.
fn newest(mut offers: Vec<Offer>, mut room: u64) -> (Vec<Offer>, Vec<Offer>) {
    let fits = offers.iter().rev().take_while(|offer| {
        let fits = offer.bytes <= room;
        room = room.saturating_sub(offer.bytes);
        fits
    });
    let fits = fits.count();
    let left = offers.len() - fits;
    if left > 0 {
        tracing::warn!(
            files = left,
            "older capture files that were never shipped are left out: they take more than the budget of shipping"
        );
    }
    let newest = offers.split_off(left);
    (offers, newest)
}

/// Files with their line, and those without.
fn take_lines(files: Vec<Offer>, lines: &mut HashMap<String, Vec<u8>>) -> (Vec<Offer>, Vec<Offer>) {
    let (mut told, mut rest) = (Vec::new(), Vec::new());
    for mut file in files {
        match file.below().and_then(|name| lines.remove(&name)) {
            Some(line) => {
                file.told = line;
                told.push(file);
            }
            None => rest.push(file),
        }
    }
    (told, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_fit_are_offered_and_the_others_are_known() {
        let offer = |name: &str, bytes| Offer {
            name: name.to_owned(),
            path: PathBuf::new(),
            identity: (1, 1),
            bytes,
            told: Vec::new(),
        };
        let all = vec![offer("a", 1), offer("b", 5), offer("c", 3), offer("d", 3)];
        let names = |offers: Vec<Offer>| offers.into_iter().map(|o| o.name).collect::<String>();
        let (left, newest) = newest(all, 7);
        assert_eq!(
            (names(left), names(newest)),
            ("ab".to_owned(), "cd".to_owned())
        );
    }
}
