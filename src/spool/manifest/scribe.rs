//! The thread that writes the manifest.
//!
//! Takes: letters from every [`Teller`]. Gives: lines, and an answer to each letter. Holds: a letter is answered once, and
//! as written only when its line is on the disk; what cannot be written waits, within bounds, and is tried again each second; what the
//! lines of a run tell of each ledger adds up to it.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, never, select};

use crate::spool::manifest::files::{Found, Search};
use crate::spool::manifest::line::Place;
use crate::spool::manifest::past::{Names, Past};
use crate::spool::manifest::spans::{Losses, Spans};
use crate::spool::manifest::teller::{Counters, Expected};
use crate::spool::manifest::writer::{Error, Torn, Writer};
use crate::spool::manifest::{Entry, Letter, Mend, Outcome, Prepared, Run, Teller};
use crate::time::{self, Monotonic};

/// Pause between two attempts.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The pause between the attempts when the program ends, and how many there are.
const LAST_PAUSE: Duration = Duration::from_millis(200);
const LAST_ATTEMPTS: u32 = 3;

/// Lines that are written and synced together.
const TOGETHER: usize = 512;

/// Letters that may wait while nothing can be written.
const MOST_WAITING: usize = 10_000;

/// What the scribe works with.
pub struct Setup {
    /// The output folder.
    pub output: PathBuf,
    /// Key and name of the run.
    pub prepared: Prepared,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Names of the configured sessions.
    pub sessions: Vec<String>,
    /// What the kernel has lost so far, by place.
    pub kernel: Box<dyn Fn() -> Losses + Send>,
    /// Is told, at each attempt, why lines cannot be written, and with `None` that they can.
    pub notice: Box<dyn Fn(Option<String>) + Send>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// The thread's own.
#[derive(Debug)]
pub struct Scribe {
    output: PathBuf,
    /// Where there is no writer, what makes one.
    prepared: Option<Prepared>,
    writer: Option<Writer>,
    /// The last line, once there was a writer.
    last: Option<Place>,
    outside: Outside,
    letters: Receiver<Letter>,
    expected: Arc<Expected>,
    search: Search,
    /// Files that were found and are expected to get another line.
    found: Vec<Found>,
    /// Names that this run has told of, as long as files may be found.
    told: Names,
    spans: Spans,
    waiting: VecDeque<Letter>,
    retry_at: Option<Monotonic>,
    /// How the last attempt failed.
    failing: Option<Outcome>,
    counters: Arc<Counters>,
}

struct Outside {
    kernel: Box<dyn Fn() -> Losses + Send>,
    notice: Box<dyn Fn(Option<String>) + Send>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

impl Scribe {
    /// The scribe, and the way to it.
    pub fn new(setup: Setup) -> (Self, Teller) {
        let (teller, letters, expected) = Teller::new(setup.counters);
        let run = Run {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key: setup.prepared.fingerprint(),
            sessions: setup.sessions,
            torn: None,
        };
        let scribe = Self {
            output: setup.output,
            prepared: Some(setup.prepared),
            writer: None,
            last: None,
            outside: Outside {
                kernel: setup.kernel,
                notice: setup.notice,
            },
            letters,
            expected,
            search: Search::none(),
            found: Vec::new(),
            told: Names::default(),
            spans: Spans::default(),
            waiting: VecDeque::from([Letter::to_nobody(Entry::Run(Box::new(run)))]),
            retry_at: None,
            failing: None,
            counters: Arc::clone(teller.counters()),
        };
        (scribe, teller)
    }

    /// Works until the end of the run was told, or nobody can tell any more.
    pub fn run(mut self) {
        loop {
            self.list_found();
            self.write_waiting();
            let found = self.search.found().unwrap_or_else(never);
            select! {
                recv(self.letters) -> letter => match letter {
                    Ok(letter) => {
                        if self.accept_all(letter) {
                            break;
                        }
                    }
                    Err(_) => break,
                },
                recv(found) -> found => match found {
                    Ok(found) => self.found.push(found),
                    Err(_) => self.search = Search::none(),
                },
                default(self.nap()) => {}
            }
        }
        self.finish();
    }

    fn nap(&self) -> Duration {
        match self.retry_at {
            Some(at) => at.since(time::monotonic()),
            None => RETRY_EVERY,
        }
    }

    /// Takes what has come together with a letter, so that it is written together. True when the run ends.
    fn accept_all(&mut self, first: Letter) -> bool {
        let mut next = Some(first);
        while let Some(letter) = next {
            let last = matches!(letter.entry, Entry::Stopped(_));
            self.accept(letter);
            if last {
                return true;
            }
            let more = self.waiting.len() < TOGETHER;
            next = more.then(|| self.letters.try_recv().ok()).flatten();
        }
        false
    }

    fn accept(&mut self, mut letter: Letter) {
        let last = matches!(letter.entry, Entry::Stopped(_));
        if self.waiting.len() >= MOST_WAITING && !last {
            return self.refuse(letter);
        }
        if let Some(outcome) = self.failing {
            letter.answer(outcome);
            if is_forgotten(&letter.entry, outcome) {
                return;
            }
        }
        if last {
            self.end_search();
        }
        self.fill_in(&mut letter.entry);
        self.waiting.push_back(letter);
    }

    fn refuse(&self, mut letter: Letter) {
        if let Some(file) = letter.file {
            self.expected.forget(file);
        }
        letter.count_unlisted(&self.counters);
        letter.answer(Outcome::Refused);
    }

    /// Gives the search a moment to end, so that the last line can say that nothing is missing.
    fn end_search(&mut self) {
        let end = time::monotonic().plus(RETRY_EVERY);
        while let Some(search) = self.search.found() {
            match search.recv_timeout(end.since(time::monotonic())) {
                Ok(found) => self.found.push(found),
                Err(RecvTimeoutError::Disconnected) => self.search = Search::none(),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        self.list_found();
    }

    /// What only the scribe knows.
    fn fill_in(&mut self, entry: &mut Entry) {
        match entry {
            Entry::Published(listed) => {
                let reading = listed.ledger.take();
                let span = reading.map(|reading| self.spans.session(&listed.session, &reading));
                listed.ledger = span;
                listed.kernel_dropped = Some(self.spans.kernel((self.outside.kernel)()));
            }
            Entry::Stopped(stopped) => {
                stopped.kernel_unfiled = self.spans.kernel(stopped.kernel_dropped.clone());
                stopped.unfiled = self.spans.rest(std::mem::take(&mut stopped.unfiled));
                let known = !self.may_find();
                stopped.unlisted = known.then(|| self.counters.unlisted.value());
            }
            _ => {}
        }
    }

    fn write_waiting(&mut self) {
        let now = time::monotonic();
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        while !self.waiting.is_empty() {
            if let Err(error) = self.attempt() {
                return self.fail(&error);
            }
        }
    }

    /// Writes the first letters that wait.
    fn attempt(&mut self) -> Result<(), Error> {
        self.open()?;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let count = self.waiting.len().min(TOGETHER);
        let lines =
            writer.write_lines(self.waiting.iter().take(count).map(|letter| &letter.entry))?;
        self.last = Some(writer.last());
        if self.failing.take().is_some() {
            self.retry_at = None;
            (self.outside.notice)(None);
        }
        self.counters.lines.add(count as u64);
        let may_find = self.may_find();
        for (mut letter, line) in self
            .waiting
            .drain(..count)
            .zip(lines.split(|b| *b == b'\n'))
        {
            if let (true, Some(name)) = (may_find, name_of(&letter.entry)) {
                self.told.add(name);
            }
            if let Some(file) = letter.file {
                self.expected.forget(file);
            }
            letter.answer_with(Outcome::Written, Some(line));
        }
        self.counters.waiting.set(self.waiting.len() as u64);
        Ok(())
    }

    fn fail(&mut self, error: &Error) {
        self.retry_at = Some(time::monotonic().plus(RETRY_EVERY));
        if matches!(error, Error::Gone(_)) {
            self.prepared = self.writer.take().map(Writer::close);
        }
        let outcome = match error.is_no_room() {
            true => Outcome::NoRoom,
            false => Outcome::Failing,
        };
        self.failing = Some(outcome);
        for letter in &mut self.waiting {
            letter.answer(outcome);
        }
        self.waiting
            .retain(|letter| !is_forgotten(&letter.entry, outcome));
        let waiting = self.waiting.len();
        self.counters.waiting.set(waiting as u64);
        (self.outside.notice)(Some(format!(
            "{error}; capture goes on, {waiting} lines of the manifest wait"
        )));
    }

    /// Opens the manifest where it is not open.
    fn open(&mut self) -> Result<(), Error> {
        let Some(prepared) = self.prepared.take() else {
            return Ok(());
        };
        let mut opened = match Writer::open_again(&self.output, prepared) {
            Ok(opened) => opened,
            Err((error, prepared)) => {
                self.prepared = Some(prepared);
                return Err(error);
            }
        };
        if let Some(torn) = opened.torn {
            self.tell_torn(torn);
        }
        match self.last {
            Some(last) => opened.writer.go_on_from(last),
            None => self.look_for_files(opened.past),
        }
        self.writer = Some(opened.writer);
        Ok(())
    }

    fn tell_torn(&mut self, torn: Torn) {
        let Torn::Cut(mend) = torn else {
            tracing::warn!(
                "the last line of the manifest lacked its end, as after a crash; it was completed"
            );
            return;
        };
        let Mend { bytes, kept } = &mend;
        tracing::warn!(
            bytes,
            kept,
            "the last line of the manifest was torn, as after a crash; it is kept beside it"
        );
        if let Some(Entry::Run(run)) = self.waiting.front_mut().map(|letter| &mut letter.entry) {
            run.torn = Some(mend);
        }
    }

    /// Files that an earlier run published and, being killed, did not tell of.
    fn look_for_files(&mut self, past: Past) {
        let Some(since) = past.open_since else {
            return;
        };
        match Search::start(self.output.clone(), past.names, since) {
            Ok(search) => self.search = search,
            Err(error) => {
                tracing::warn!(%error, "cannot look for capture files that are not in the manifest")
            }
        }
    }

    fn may_find(&self) -> bool {
        self.search.goes_on() || !self.found.is_empty()
    }

    /// Lists what was found, as soon as it is sure that nobody else will.
    fn list_found(&mut self) {
        for found in std::mem::take(&mut self.found) {
            let name = &found.listed.name;
            if self.expected.has(found.file) {
                self.found.push(found);
            } else if !self.told.has(name) {
                tracing::warn!(
                    name,
                    "a capture file was not in the manifest, as after a crash; it is now, as found"
                );
                self.accept(Letter::to_nobody(Entry::Found(Box::new(found.listed))));
            }
        }
        if !self.may_find() {
            self.told = Names::default();
        }
    }

    /// Last attempts; then what waits will not be written.
    fn finish(mut self) {
        for _ in 1..LAST_ATTEMPTS {
            self.retry_at = self.retry_at.map(|_| Monotonic::default());
            self.write_waiting();
            if self.waiting.is_empty() {
                break;
            }
            std::thread::sleep(LAST_PAUSE);
        }
        if !self.waiting.is_empty() {
            tracing::error!(
                lines = self.waiting.len(),
                "the last lines of the manifest could not be written"
            );
        }
        for letter in std::mem::take(&mut self.waiting) {
            self.refuse(letter);
        }
    }
}

/// Whether nobody needs the line once it could not be written: what it announces is then not done.
fn is_forgotten(entry: &Entry, outcome: Outcome) -> bool {
    matches!(entry, Entry::Deleted(_) | Entry::Shipped(_)) && outcome == Outcome::Failing
}

fn name_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Published(listed) | Entry::Recovered(listed) | Entry::Found(listed) => {
            Some(&listed.name)
        }
        Entry::Deleted(deleted) => Some(&deleted.name),
        Entry::Aside(aside) => Some(&aside.name),
        Entry::Shipped(_) | Entry::Run(_) | Entry::Stopped(_) => None,
    }
}
