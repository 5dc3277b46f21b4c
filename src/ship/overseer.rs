//! The sensor's own thread for all that is shipped.
//!
//! Takes: the queues ([`Lane`]), and what the shipping process tells ([`Listen`]). Gives: budgets that are kept, owners that hear of what has arrived, and
//! [`Standing`]. Holds: nobody waits for it; it goes on when the shipping process is no more, since the disk has to be kept from filling up all the same.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::ship::{Lane, Standing, Status};
use crate::time::{self, Monotonic};

/// The pause between two looks, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A look that takes long is made less often, so that at most half of the time is spent looking; but not less often than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pause while the end is waited for.
const LAST_LOOKS: Duration = Duration::from_millis(100);

/// How often it is looked whether the thread has ended.
const JOIN_EVERY: Duration = Duration::from_millis(5);

/// What a look that is being made when the time is up may take beyond it.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What the shipping process has told since the last question.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    /// Nothing new.
    Nothing,
    /// The latest status.
    Status(Status),
    /// It is no more, and why as far as that is known.
    Ended(String),
}

/// Asks the shipping process; never waits. Dropped at the end of the thread, and with it the process' reason to live.
pub type Listen = Box<dyn FnMut() -> Heard + Send>;

/// The thread, from outside.
pub struct Overseer {
    standing: Arc<Mutex<Standing>>,
    /// Taken when the end has come.
    end: Mutex<Option<(Sender<Monotonic>, JoinHandle<()>)>>,
}

impl fmt::Debug for Overseer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overseer").finish_non_exhaustive()
    }
}

/// A panic while it was held can only have left whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Overseer {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(lanes: Vec<Lane>, listen: Listen) -> io::Result<Self> {
        let (end, ended) = bounded(1);
        let standing = Arc::<Mutex<Standing>>::default();
        let mut watch = Watch {
            lanes,
            listen,
            ended: None,
            standing: Arc::clone(&standing),
        };
        watch.show();
        let thread = std::thread::Builder::new()
            .name("ship".to_owned())
            .spawn(move || watch.run(&ended))?;
        Ok(Self {
            standing,
            end: Mutex::new(Some((end, thread))),
        })
    }

    /// How shipping stands.
    pub fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    /// Waits until all has arrived, or something stands in the way of it, for `longest` at most; then ends. What is left waits for the next start.
    pub fn finish(&self, longest: Duration) {
        let Some((end, thread)) = lock(&self.end).take() else {
            return;
        };
        let until = time::monotonic().plus(longest);
        // one that has ended hears nothing
        let _ = end.send(until);
        while !thread.is_finished() && time::monotonic() < until.plus(LAST_WORD) {
            std::thread::sleep(JOIN_EVERY);
        }
        if !thread.is_finished() || thread.join().is_err() {
            tracing::error!(
                "the thread that looks after shipping did not end well; what waits is shipped after the next start"
            );
        }
    }
}

/// The thread's own.
struct Watch {
    lanes: Vec<Lane>,
    listen: Listen,
    ended: Option<String>,
    standing: Arc<Mutex<Standing>>,
}

impl Watch {
    fn run(mut self, end: &Receiver<Monotonic>) {
        let until = loop {
            let took = self.look();
            let pause = took.clamp(LOOK_EVERY, LONGEST_PAUSE);
            match end.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(until) => break until,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
        loop {
            self.look();
            if self.is_through() || time::monotonic() >= until {
                return;
            }
            std::thread::sleep(LAST_LOOKS);
        }
    }

    /// Looks after all once. Gives how long that took.
    fn look(&mut self) -> Duration {
        let begin = time::monotonic();
        self.listen();
        self.lanes.iter_mut().for_each(Lane::tend);
        self.show();
        time::monotonic().since(begin)
    }

    fn listen(&mut self) {
        let mut told = None;
        match (self.listen)() {
            Heard::Nothing => {}
            Heard::Status(status) => told = Some(status),
            Heard::Ended(why) => self.note_end(why),
        }
        for lane in &mut self.lanes {
            let status = told.as_mut().and_then(|t| t.queues.remove(lane.name()));
            lane.note(status, self.ended.is_some());
        }
    }

    fn note_end(&mut self, why: String) {
        if self.ended.is_none() {
            tracing::error!(
                reason = why,
                "the shipping process has ended; capture goes on, and nothing is shipped until the sensor is restarted"
            );
        }
        self.ended = Some(why);
    }

    /// Whether there is no more to wait for.
    fn is_through(&self) -> bool {
        let is_through = |lane: &Lane| lane.is_empty() || lane.is_held_up();
        self.ended.is_some() || self.lanes.iter().all(is_through)
    }

    fn show(&mut self) {
        let queues = self.lanes.iter();
        let queues = queues.map(|lane| (lane.name().to_owned(), lane.standing().clone()));
        *lock(&self.standing) = Standing {
            queues: queues.collect(),
            ended: self.ended.clone(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::ship::{Care, Destination, Pending, QueueStatus, S3};

    fn lane(folder: &std::path::Path) -> (Pending, Lane) {
        let pending = Pending::at(folder.join("ship"));
        pending.make().unwrap();
        fs::write(folder.join("f"), "1").unwrap();
        pending.offer(&folder.join("f"), "s/f").unwrap();
        let to = Destination::S3(S3::default());
        let lane = Lane::new("captures", pending.clone(), &to, 0, Care::default());
        (pending, lane)
    }

    fn wait(what: &str, mut holds: impl FnMut() -> bool) {
        let end = time::monotonic().plus(Duration::from_secs(60));
        while !holds() {
            assert!(time::monotonic() < end, "waited for {what}");
            std::thread::sleep(JOIN_EVERY);
        }
    }

    #[test]
    fn what_the_process_tells_is_shown_and_the_end_waits_for_what_is_on_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let (pending, lane) = lane(folder.path());
        let status = QueueStatus {
            shipped_files: 7,
            ..QueueStatus::default()
        };
        let status = Status {
            queues: BTreeMap::from([("captures".to_owned(), status)]),
        };
        let listen = Box::new(move || Heard::Status(status.clone()));
        let overseer = Overseer::start(vec![lane], listen).unwrap();
        wait("a look", || {
            overseer.standing().queues["captures"].status.shipped_files == 7
        });
        let taker = std::thread::spawn(move || pending.finish("s/f").unwrap());
        overseer.finish(Duration::from_secs(60));
        taker.join().unwrap();
        assert_eq!(overseer.standing().queues["captures"].pending_files, 0);
    }

    #[test]
    fn a_process_that_has_ended_is_told_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pending, lane) = lane(folder.path());
        let listen = Box::new(|| Heard::Ended("killed".to_owned()));
        let overseer = Overseer::start(vec![lane], listen).unwrap();
        wait("the end", || overseer.standing().ended.is_some());
        assert_eq!(
            overseer.standing().queues["captures"].deliver_logs_status,
            "FAILED"
        );
        overseer.finish(Duration::from_secs(3600));
        assert_eq!(pending.waiting().unwrap().len(), 1);
    }
}
