//! The disk alone: packets that are ready to be written, given to the sink of capture files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::bench::folder::Folder;
use crate::bench::runs;
use crate::bench::shares::{self, Reading};
use crate::bench::{Error, Mode, Options, Outcome, plan};
use crate::decap;
use crate::packet::{Batch, Ports, Tally};
use crate::session::{Keep, Seats, Table};
use crate::sink::{Kept, Sink, capture};
use crate::source::Source;
use crate::source::synthetic::{self, Synthetic};
use crate::time;

/// How long to wait for room in the buffer.
const RETRY: Duration = Duration::from_micros(200);

/// Writes until the time is up.
pub(super) fn run(options: &Options, stop: &AtomicBool) -> Result<Outcome, Error> {
    let folder = Folder::new(&options.output)?;
    let config = plan::config(options, folder.path())?;
    let mut keep = Keep::default();
    let snapshot = config
        .snapshot(std::path::Path::new("."), &mut keep)
        .map_err(crate::pipeline::Error::Sessions)?;
    let table = Arc::new(Table::new(snapshot, keep));
    let setup = capture::Setup {
        output: folder.path().to_owned(),
        workers: 1,
        live: true,
    };
    let (mut captures, writers) = capture::start(&config.writer, &setup)?;
    let Some(capture) = captures.pop() else {
        return Err(Error::Options("no writer".to_owned()));
    };
    let done = Arc::new(AtomicBool::new(false));
    let feeder = Feeder {
        set: plan::set(options)?,
        seats: Seats::new(Arc::clone(&table)),
        capture,
        done: Arc::clone(&done),
    };
    let name = "worker-disk".to_owned();
    let thread = std::thread::Builder::new().name(name.clone());
    let thread = thread
        .spawn(move || feeder.run())
        .map_err(|error| crate::pipeline::Error::Thread { name, error })?;
    let begun = time::monotonic();
    let (before, from) = (Reading::now()?, plan::total(&table));
    runs::rest(options.duration, &folder, options, stop);
    let (after, to) = (Reading::now()?, plan::total(&table));
    let wall = time::monotonic().since(begun);
    done.store(true, Ordering::Relaxed);
    thread.join().map_err(|_| Error::Panicked)?;
    writers.finish(Duration::from_secs(60));
    let packets = to.written - from.written;
    let threads = after.shares(&before, packets, wall);
    let ledger = plan::total(&table);
    Ok(Outcome {
        mode: Mode::Disk,
        receivers: 0,
        workers: 1,
        seconds: wall.as_secs_f64(),
        packets,
        pps: packets as f64 / wall.as_secs_f64(),
        bytes_per_second: (to.bytes_written - from.bytes_written) as f64 / wall.as_secs_f64(),
        limit: shares::limit(&threads),
        threads,
        closed: ledger.is_closed(),
        ledger,
        sent: None,
        kernel_dropped: std::collections::BTreeMap::default(),
    })
}

/// Gives the sink what it takes.
struct Feeder {
    set: Arc<synthetic::Set>,
    seats: Seats,
    capture: capture::Capture,
    done: Arc<AtomicBool>,
}

impl Feeder {
    fn run(mut self) {
        let mut source = Synthetic::new(Arc::clone(&self.set), 0);
        let mut batch = source.new_batch(0);
        let counters = decap::Counters::default();
        while !self.done.load(Ordering::Relaxed) {
            batch.clear();
            if source.receive(&mut batch).is_err() {
                break;
            }
            let mut refused = Tally::default();
            decap::unwrap_batch(&mut batch, Ports::default(), &mut refused, &counters);
            self.give(&batch);
            self.seats.publish();
            self.capture.progress(batch.order, false);
        }
        self.capture.progress(u64::MAX, true);
    }

    fn give(&mut self, batch: &Batch) {
        for packet in &batch.packets {
            let Some(seat) = self.seats.seat(packet) else {
                continue;
            };
            seat.receive(packet.datagram_len);
            let Some(target) = &seat.session.target else {
                continue;
            };
            let kept = Kept {
                frame: batch.frame(packet),
                origlen: packet.len,
                time: packet.time,
                order: packet.order,
            };
            loop {
                match self.capture.keep(target, &seat.peer, kept) {
                    Err(_) if !self.done.load(Ordering::Relaxed) => {
                        // the writers get what there is, and time
                        self.capture.progress(batch.order, true);
                        std::thread::sleep(RETRY);
                    }
                    Err(reason) => break seat.drop(reason),
                    Ok(()) => break,
                }
            }
        }
    }
}
