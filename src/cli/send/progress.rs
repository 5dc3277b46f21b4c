//! While packets go out: Ctrl-C stops the run, and a terminal shows how far it is.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::cli::interrupt::Interrupts;
use crate::generator::{Counters, Failure};
use crate::time;

const LOOK: Duration = Duration::from_millis(50);
const SHOW: Duration = Duration::from_secs(1);

/// A thread beside the generator.
pub(super) struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(stop: &Arc<AtomicBool>, counters: Arc<Counters>, shown: bool) -> Self {
        let interrupts = Interrupts::watch();
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, until) = (Arc::clone(stop), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let mut line = shown.then(|| Line::new(counters));
            while !until.load(Ordering::Relaxed) {
                thread::park_timeout(LOOK);
                if interrupts.stop() {
                    stop.store(true, Ordering::Relaxed);
                }
                if let Some(line) = &mut line {
                    line.show();
                }
            }
            if let Some(line) = line {
                line.end();
            }
        });
        Self { ended, thread }
    }

    pub(super) fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // a progress line that panicked is no reason to fail
        let _ = self.thread.join();
    }
}

/// The line that is written over itself once a second.
struct Line {
    counters: Arc<Counters>,
    start: time::Monotonic,
    last: (time::Monotonic, u64),
    shown: bool,
}

impl Line {
    fn new(counters: Arc<Counters>) -> Self {
        let start = time::monotonic();
        Self {
            counters,
            start,
            last: (start, 0),
            shown: false,
        }
    }

    fn show(&mut self) {
        let now = time::monotonic();
        let since = now.since(self.last.0);
        if since < SHOW {
            return;
        }
        let sent = self.counters.sent.value();
        let pps = sent.saturating_sub(self.last.1) as f64 / since.as_secs_f64();
        let errors: u64 = Failure::ALL.iter().map(|f| self.counters.errors(*f)).sum();
        let seconds = now.since(self.start).as_secs();
        eprint!("\r{seconds:>6} s  {sent:>12} packets  {pps:>9.0} pps  {errors} errors   ");
        // a line that can't be shown is no reason to stop
        let _ = std::io::stderr().flush();
        self.last = (now, sent);
        self.shown = true;
    }

    fn end(self) {
        if self.shown {
            eprintln!();
        }
    }
}
