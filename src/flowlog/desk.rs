//! The thread that writes flow logs.
//!
//! Takes: closed flows from all workers, and what was lost before them. Gives: records in the files of each [`Log`](crate::flowlog::Log), SKIPDATA and NODATA lines, numbers
//! and trouble in [`Stats`](crate::flowlog::Stats). Holds: workers never wait for it where packets run away; it ends when the last worker has; a panic of it is told, its
//! records are counted as lost, and nothing else stops.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::flow::Closed;
use crate::flowlog::book::Book;
use crate::flowlog::outbox::{Door, Patience};
use crate::flowlog::recover::Made;
use crate::flowlog::shared::{Parcel, Shared};
use crate::flowlog::{BUCKET, Config, Eni, Meter, Problem, Setup, Summary};
use crate::logging::said;
use crate::time::{self, Monotonic, Timestamp};

/// Parcels that may wait, 256 flows each: as many as hold half of all open flows, within these bounds.
const FEWEST_PARCELS: usize = 16;
const MOST_PARCELS: usize = 512;
const HALF_PARCEL: usize = 512;
/// How often what is due is looked for.
const TEND_EVERY: Duration = Duration::from_millis(200);
/// How long a worker waits for room where packets are files.
const PATIENT: Duration = Duration::from_secs(30);
/// How often a thread that has to end is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What was lost before workers could see it, since the start.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// What may have been of any interface.
    pub of_any: u64,
    /// What was of known ones: of each peer that has lost any.
    pub of_one: Vec<Lost>,
}

/// What was lost of one peer, since the start: an interface has one for each session or VNI of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The number of the peer, which no other gets.
    pub peer: u32,
    /// Its interface.
    pub eni: Eni,
    /// Its packets.
    pub packets: u64,
}

/// Asks for the losses.
pub type Ask = Box<dyn FnMut() -> Losses + Send>;

/// The thread, seen from outside, and the meters that feed it.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    names: Vec<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Starts the thread that writes. Gives a meter for each of `workers` workers; it ends when all of these have. `live` packets run away.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    setup: Setup,
    workers: usize,
    live: bool,
    ask: Ask,
) -> std::io::Result<(Running, Vec<Meter>)> {
    let flows = setup.parts.iter().map(|p| p.config.max_flows as usize);
    let room = (flows.sum::<usize>() / HALF_PARCEL).clamp(FEWEST_PARCELS, MOST_PARCELS);
    let names = setup.parts.iter().map(|p| p.config.name.clone()).collect();
    let now = time::now();
    let shared = Arc::new(Shared::new(setup));
    let (parcels, queue) = bounded(room);
    let (emptied, spare) = bounded(room);
    let door = Door {
        parcels,
        emptied: spare,
    };
    let patience = match live {
        true => Patience::None,
        false => Patience::For(PATIENT),
    };
    let count = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
    let meter = |_| Meter::new(Arc::clone(&shared), &door, patience, count);
    let meters = (0..workers).map(meter).collect();
    let desk = Desk::new(Arc::clone(&shared), (queue, emptied), live, ask, now);
    let thread = std::thread::Builder::new()
        .name("flowlog".to_owned())
        .spawn(move || desk.run())?;
    let running = Running {
        shared,
        names,
        thread: Mutex::new(Some(thread)),
    };
    Ok((running, meters))
}

impl Running {
    /// The numbers of each flow log, by name.
    pub fn read(&self) -> BTreeMap<String, Summary> {
        let stats = self.names.iter().zip(&self.shared.stats);
        stats
            .map(|(name, stats)| (name.clone(), stats.read()))
            .collect()
    }

    /// Compiles another configuration, if it is one of the same flow logs; one of others waits for a restart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prepare(&self, configs: &[Config], base: &Path) -> Result<Option<Setup>, Vec<Problem>> {
        let same = self.shared.setup.load().may_become(configs);
        same.then(|| Setup::build(configs, base)).transpose()
    }

    /// Puts what was prepared in force.
    pub fn reload(&self, setup: Setup) {
        self.shared.reload(setup);
    }

    /// Workers that end from now on wait for room until `end` at most.
    pub fn stop_waiting(&self, end: Monotonic) {
        self.shared.stop_waiting_at(end);
    }

    /// Waits for the thread, whose workers have ended, until `end`. What it has not written by then is counted as lost.
    pub fn finish(&self, end: Monotonic) {
        self.finish_by(|| end);
    }

    /// The same by an end that may come sooner while it is waited for.
    pub fn finish_by(&self, end: impl Fn() -> Monotonic) {
        let thread = self.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let start = time::monotonic();
        while !thread.is_finished() && time::monotonic() < end() {
            // the last quarter of the time is for closing the files, whoever is still at work
            if time::monotonic() >= start.plus(end().since(start) / 4 * 3) {
                self.shared.hurry();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if !thread.is_finished() {
            tracing::error!(
                "The deadline passed before the flow logs were written; what is missing of them is counted as lost."
            );
        }
        self.shared.stats.iter().for_each(|stats| stats.close());
    }
}

/// The thread.
struct Desk {
    shared: Arc<Shared>,
    books: Vec<Book>,
    queue: Receiver<Parcel>,
    emptied: Sender<Vec<Closed>>,
    live: bool,
    /// What earlier runs left, whole.
    recovered: Receiver<(usize, Made)>,
    ask: Ask,
    /// What was lost when it was last asked, of each peer too, and when that was.
    lost: (u64, BTreeMap<u32, u64>),
    asked: Timestamp,
    /// By the clock of the packets.
    now: Timestamp,
    tended: Monotonic,
}

impl Desk {
    fn new(
        shared: Arc<Shared>,
        (queue, emptied): (Receiver<Parcel>, Sender<Vec<Closed>>),
        live: bool,
        ask: Ask,
        now: Timestamp,
    ) -> Self {
        let setup = shared.setup.load_full();
        let book = |(log, part)| Book::new(log, part, &shared, live, now);
        let books = setup.parts.iter().enumerate().map(book).collect();
        Self {
            books,
            shared,
            queue,
            emptied,
            live,
            ask,
            recovered: unbounded().1,
            lost: (0, BTreeMap::new()),
            asked: now,
            now: Timestamp::default(),
            tended: Monotonic::default(),
        }
    }

    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve()));
        if served.is_err() {
            self.books.iter_mut().for_each(Book::publish);
        }
        // from here on workers see that nobody takes their parcels
        drop(self);
        if let Err(panic) = served {
            let reason = format!("its thread panicked: {}", said(&*panic));
            tracing::error!(
                reason,
                "Flow logs are not written any more; their records are counted as lost. Please report this."
            );
            for stats in &shared.stats {
                stats.give_up();
                stats.set_trouble(Some(reason.clone()));
            }
        }
    }

    fn serve(&mut self) {
        self.recover();
        while !self.shared.is_hurried() {
            match self.queue.recv_timeout(TEND_EVERY) {
                Ok(parcel) => self.take(parcel),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let monotonic = time::monotonic();
            if monotonic.since(self.tended) >= TEND_EVERY {
                self.tended = monotonic;
                self.tend();
            }
        }
        if self.shared.is_hurried() {
            // flows are still with workers, or on their way
            self.shared.cut();
        }
        self.tend();
        for book in &mut self.books {
            book.finish(self.now);
        }
    }

    fn take(&mut self, mut parcel: Parcel) {
        if let Some(book) = self.books.get_mut(parcel.log) {
            book.take(&parcel.flows, &self.shared);
        }
        if !self.live {
            let latest = parcel.flows.iter().map(|closed| closed.last).max();
            let before = self.now;
            self.now = self.now.max(latest.unwrap_or_default());
            if self.now.secs() / BUCKET != before.secs() / BUCKET {
                self.tend();
            }
        }
        parcel.flows.clear();
        // one more that nobody needs
        let _ = self.emptied.try_send(parcel.flows);
    }

    /// Begins with what earlier runs have left. Where packets run away another thread makes it whole, since that may take long; what it
    /// has not done at the end is left to the next start.
    fn recover(&mut self) {
        let each = self.books.iter().enumerate();
        let left: Vec<_> = each
            .filter_map(|(at, book)| Some((at, book.leftovers()?)))
            .collect();
        if left.is_empty() {
            return;
        }
        let all = left
            .into_iter()
            .flat_map(|(at, left)| left.map(move |made| (at, made)));
        if !self.live {
            for (at, made) in all {
                if let Some(book) = self.books.get_mut(at) {
                    book.recover(made);
                }
            }
            return;
        }
        let (give, take) = unbounded();
        self.recovered = take;
        let work = move || {
            for made in all {
                if give.send(made).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("flowlog-left".to_owned());
        if let Err(error) = thread.spawn(work) {
            tracing::warn!(%error, "A file of a flow log that an earlier run left stays as it is.");
        }
    }

    /// Publishes what was made whole meanwhile.
    fn take_recovered(&mut self) {
        while let Ok((at, made)) = self.recovered.try_recv() {
            if let Some(book) = self.books.get_mut(at) {
                book.recover(made);
            }
        }
    }

    fn tend(&mut self) {
        self.take_recovered();
        if self.live {
            self.now = time::now();
        } else if self.now == Timestamp::default() {
            // without packets there is no time yet
            return;
        }
        for book in &mut self.books {
            book.learn(self.now, &self.shared);
        }
        self.note_losses();
        let cut = self.shared.take_cut();
        for book in &mut self.books {
            book.tend(self.now, cut, &self.shared);
        }
    }

    /// Which interfaces packets of may have been lost, since this was last asked.
    fn note_losses(&mut self) {
        let losses = (self.ask)();
        let from = self.asked.min(self.now);
        self.asked = self.now;
        let any = losses.of_any > self.lost.0;
        self.lost.0 = losses.of_any;
        let known = losses.of_one.iter().map(|lost| (lost.peer, lost.packets));
        let before = std::mem::replace(&mut self.lost.1, known.collect());
        for lost in losses.of_one {
            let more = before.get(&lost.peer).is_none_or(|n| lost.packets > *n);
            let number = self.shared.enis.number(&lost.eni);
            if let Some(number) = number.filter(|_| more) {
                self.books
                    .iter_mut()
                    .for_each(|book| book.skip(number, from, self.now));
            }
        }
        if any {
            self.books
                .iter_mut()
                .for_each(|book| book.skip_all(from, self.now));
        }
    }
}
