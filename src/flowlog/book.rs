//! One flow log at the desk: its files, what is known of its interfaces, and its intervals.
//!
//! Takes: closed flows, losses, and the passing of time. Gives: records and the lines that stand for none. Holds: each flow that is given
//! becomes one record; trouble is told once a minute and stands in [`Stats`] until a file is written again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::flow::Closed;
use crate::flowlog::enis::Met;
use crate::flowlog::recover::{Leftovers, Made, Recovered};
use crate::flowlog::setup::Part;
use crate::flowlog::shared::Shared;
use crate::flowlog::windows::{Line, Windows};
use crate::flowlog::{BUCKET, Error, Interface, Log, Stats};
use crate::logging::Limited;
use crate::record::{Field, Status};
use crate::ship::Pending;
use crate::time::{self, Timestamp};

/// How long after an interval, and another one for the flows that are still open, it is told: workers may be late.
const LATE: Duration = Duration::from_secs(1);
/// How often trouble of a kind is told.
const WARN_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Book {
    at: usize,
    log: Log,
    recovers: bool,
    interval: Duration,
    windows: Windows,
    stats: Arc<Stats>,
    /// By number; those of other flow logs are there too.
    interfaces: Vec<Interface>,
    /// What was learnt of interfaces, and which configuration is in force, when this was last looked at.
    news: Option<(u64, u64)>,
    lost: u64,
    files: u64,
    name: String,
    warned: Limited,
    warned_of_records: Limited,
    in_trouble: bool,
    gap: Option<Gap>,
}

/// A time of which records were lost with a file.
#[derive(Debug)]
struct Gap {
    from: Timestamp,
    /// When a file was lost last.
    tried: Timestamp,
}

impl Book {
    pub(super) fn new(at: usize, part: &Part, shared: &Shared, live: bool, now: Timestamp) -> Self {
        let config = &part.config;
        let interval = config.interval.duration();
        let mut log = Log::new(config, &config.directory, now);
        let ships = config.s3.is_some() || config.cloudwatch.is_some();
        if live && ships {
            log = log.with_pending(Pending::at(config.pending()));
        }
        Self {
            at,
            log,
            recovers: live || !ships,
            interval,
            windows: Windows::new(interval, config.nodata),
            stats: shared.stats.get(at).map(Arc::clone).unwrap_or_default(),
            interfaces: Vec::new(),
            news: None,
            lost: 0,
            files: 0,
            name: config.name.clone(),
            in_trouble: false,
            gap: None,
            warned: Limited::new(WARN_EVERY),
            warned_of_records: Limited::new(WARN_EVERY),
        }
    }

    /// What earlier runs have left for this one to publish. What a destination waits for is not taken by a run that ships nothing.
    pub(super) fn leftovers(&self) -> Option<Leftovers> {
        let left = self.recovers.then(|| self.log.leftovers());
        left.filter(|left| !left.is_empty())
    }

    /// Publishes some of that, and says what could not be.
    pub(super) fn recover(&mut self, made: Made) {
        let found = self.log.publish_left(made);
        self.say(&found);
        self.publish();
    }

    fn say(&self, found: &Recovered) {
        let name = self.name.as_str();
        if found.files > 0 {
            let (files, records, torn) = (found.files, found.records, found.torn);
            tracing::info!(
                flow_log = name,
                files,
                records,
                torn,
                "Published files of a flow log that an earlier run left."
            );
        }
        for file in &found.damaged {
            tracing::warn!(flow_log = name, file = %file.display(), "A file of a flow log that an earlier run left can't be read; it was set aside.");
        }
        for error in &found.errors {
            tracing::warn!(flow_log = name, %error, "A file of a flow log that an earlier run left stays as it is.");
        }
    }

    /// Writes the records of flows.
    pub(super) fn take(&mut self, flows: &[Closed], shared: &Shared) {
        for closed in flows {
            let eni = closed.key.eni;
            if eni as usize >= self.interfaces.len() {
                self.learn(closed.first, shared);
            }
            self.windows.data(eni, closed.first, closed.last);
            let unknown = Interface::default();
            let interface = self.interfaces.get(eni as usize).unwrap_or(&unknown);
            let written = self.log.record(interface, closed);
            self.note(written, closed.last);
        }
    }

    /// Packets of an interface may have been lost between these times.
    pub(super) fn skip(&mut self, eni: u32, first: Timestamp, last: Timestamp) {
        if self.windows.has(eni) {
            self.windows.skip(eni, first, last);
        }
    }

    /// Packets of any interface may have been.
    pub(super) fn skip_all(&mut self, first: Timestamp, last: Timestamp) {
        self.windows.skip_all(first, last);
    }

    /// What is due at `now`. `cut` says that a worker is no more.
    pub(super) fn tend(&mut self, now: Timestamp, cut: bool, shared: &Shared) {
        self.note_lost(shared);
        if cut {
            self.windows
                .skip_all(now.saturating_sub(self.interval), now);
        }
        let lines = self
            .windows
            .told(now.saturating_sub(self.interval + LATE), false);
        self.tell(&lines);
        self.tell_gap(now, false);
        let published = self.log.advance(now);
        self.note(published, now);
        self.publish();
    }

    /// Writes all that is left: nothing more will come.
    pub(super) fn finish(&mut self, now: Timestamp) {
        let lines = self.windows.told(now, true);
        self.tell(&lines);
        self.tell_gap(now, true);
        let published = self.log.finish();
        self.note(published, now);
        self.publish();
    }

    fn tell(&mut self, lines: &[Line]) {
        for line in lines {
            let unknown = Interface::default();
            let interface = self.interfaces.get(line.eni as usize).unwrap_or(&unknown);
            let told = self
                .log
                .without_flow(interface, line.status, line.start, line.end);
            match line.status {
                _ if self.stats.is_over() => {}
                Status::SkipData => self.stats.skipdata.add(1),
                _ => self.stats.nodata.add(1),
            }
            self.note(told, line.end);
        }
    }

    /// Records that workers could not hand over.
    fn note_lost(&mut self, shared: &Shared) {
        let lost = shared.take_lost(self.at);
        if lost.is_empty() {
            return;
        }
        let monotonic = time::monotonic().nanos();
        if let Some(suppressed) = self.warned_of_records.pass(monotonic) {
            tracing::warn!(
                flow_log = self.name,
                interfaces = lost.len(),
                suppressed,
                "Records of a flow log were lost on their way to its file; their interval is told as SKIPDATA."
            );
        }
        for (eni, (first, last)) in lost {
            self.windows.skip(eni, first, last);
        }
    }

    /// After a file was lost: any interface may lack records of its time.
    fn tell_gap(&mut self, now: Timestamp, last: bool) {
        let due = |gap: &Gap| last || now.since(gap.tried) >= self.interval;
        let Some(gap) = self.gap.take_if(|gap| due(&*gap)) else {
            return;
        };
        let line = |eni| Line {
            eni,
            status: Status::SkipData,
            start: gap.from.min(now),
            end: now,
        };
        let lines: Vec<Line> = self.windows.active(now).into_iter().map(line).collect();
        self.tell(&lines);
        if let Some(again) = &mut self.gap {
            // there was no room for these lines either: the next try tells of all
            again.from = again.from.min(gap.from);
        }
    }

    /// Sees what came of writing.
    fn note(&mut self, written: Result<(), Error>, now: Timestamp) {
        let Err(error) = written else { return };
        if let Some(suppressed) = self.warned.pass(time::monotonic().nanos()) {
            tracing::warn!(flow_log = self.name, %error, suppressed, "Something went wrong with a file of a flow log.");
        }
        self.stats.set_trouble(Some(error.to_string()));
        self.in_trouble = true;
        if error.records == 0 {
            return;
        }
        let from = now.saturating_sub(self.interval + Duration::from_secs(BUCKET));
        let from = self.gap.as_ref().map_or(from, |gap| gap.from.min(from));
        self.gap = Some(Gap { from, tried: now });
    }

    /// Tells what was written.
    pub(super) fn publish(&mut self) {
        if self.stats.is_over() {
            return;
        }
        let counts = self.log.counts();
        let lost = counts.lost - self.lost;
        self.stats.lost_in_files.add(lost);
        self.stats.records_lost.add(lost);
        if self.in_trouble && counts.files > self.files && lost == 0 {
            self.in_trouble = false;
            self.stats.set_trouble(None);
        }
        (self.lost, self.files) = (counts.lost, counts.files);
        self.stats.files.set(counts.files);
        self.stats.published.set(counts.published);
        // nobody asks for their names yet
        drop(self.log.take_published());
    }

    /// Looks after what is known of interfaces, where there is news.
    pub(super) fn learn(&mut self, now: Timestamp, shared: &Shared) {
        let news = (shared.enis.news(), shared.generation());
        if self.news.replace(news) == Some(news) {
            return;
        }
        let setup = shared.setup.load();
        let Some(part) = setup.parts.get(self.at) else {
            return;
        };
        self.log.set_services(part.services());
        let met = shared.enis.all();
        self.interfaces = met.iter().map(|met| interface(part, met)).collect();
        let behind = self.behind_endpoints(&met);
        for ((eni, met), interface) in (0_u32..).zip(&met).zip(&self.interfaces) {
            // one that is only listed is not silent if it has another number behind an endpoint
            let listed = met.pairs.is_empty();
            let is_another = || {
                behind
                    .get(&met.eni.source)
                    .is_some_and(|id| *id == id_of(interface))
            };
            if part.has(met, self.at) && !(listed && is_another()) {
                self.windows.know(eni, now);
            } else {
                self.windows.leave(eni, now);
            }
        }
    }

    /// The ids of interfaces whose packets come through an endpoint, by address.
    fn behind_endpoints(&self, met: &[Met]) -> HashMap<IpAddr, String> {
        let each = met.iter().zip(&self.interfaces);
        let behind = each.filter(|(met, _)| met.eni.endpoint.is_some());
        behind
            .map(|(met, interface)| (met.eni.source, id_of(interface)))
            .collect()
    }
}

fn id_of(interface: &Interface) -> String {
    interface.fact(Field::InterfaceId).to_string()
}

fn interface(part: &Part, met: &Met) -> Interface {
    let mut interface = part.interface(&met.eni);
    met.pairs
        .iter()
        .for_each(|(session, vni)| interface.met(session, *vni));
    interface
}
