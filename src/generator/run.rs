//! The loop: what is due is made, sent and counted, until the traffic ends or somebody says stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::generator::output::Output;
use crate::generator::pace::{Rate, Step};
use crate::generator::report::Account;
use crate::generator::traffic::{Clock, Traffic};
use crate::generator::window::{self, Window};
use crate::generator::{Counters, Destination, Error, Input, Options, Pace, Report, Wrapper};
use crate::time::{self, Monotonic};

/// Sleeps are no longer than this, so that a stop is heard.
const NAP: Duration = Duration::from_millis(10);
/// Distance of synthetic packets in a file when no rate is given.
const SPACING: u64 = 100_000;

/// Sends mirrored traffic.
#[derive(Debug)]
pub struct Generator {
    options: Options,
    wrapper: Wrapper,
    traffic: Traffic,
    output: Output,
    window: Window,
    account: Account,
    counters: Arc<Counters>,
    /// Number of the next packet.
    next: u64,
}

impl Generator {
    /// Loads or prepares the traffic, opens the sockets or the file.
    ///
    /// # Errors
    /// When the capture can't be read, no socket can be opened, the file can't be created, or the
    /// options contradict each other.
    pub fn new(mut options: Options) -> Result<Self, Error> {
        if options.to.port() == 0 {
            options.to.set_port(options.shape.port());
        }
        refuse_to_overwrite_the_input(&options)?;
        let wrapper = Wrapper::new(
            options.shape,
            options.to.is_ipv6(),
            options.mtu,
            options.packet_length,
        );
        Ok(Self {
            wrapper,
            traffic: Traffic::new(&options)?,
            output: Output::new(&options)?,
            window: Window::default(),
            account: Account::new(&options.vnis),
            counters: Arc::new(Counters::new(options.vnis.clone())),
            options,
            next: 0,
        })
    }

    /// The live counts.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// How many of the 128 source ports could be had; the flows of the others go out from any port.
    pub fn source_ports(&self) -> usize {
        self.output.source_ports()
    }

    /// Sends until the traffic ends, the count or the duration is reached, or `stop` is true. A
    /// second run goes on with the next packet, and its report counts both.
    ///
    /// # Errors
    /// When the output file can't be written. What the network refuses is counted instead.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<Report, Error> {
        let start = time::monotonic();
        let end = self.options.duration.map(|duration| start.plus(duration));
        let spaced = self.spaced_clock();
        let mut pace = self.pace(start);
        while !stop.load(Ordering::Relaxed) {
            let now = time::monotonic();
            if end.is_some_and(|end| now >= end) {
                break;
            }
            match pace.step(now, self.next, &self.traffic) {
                Step::Wait(wait) => {
                    let left = end.map_or(wait, |end| end.since(now));
                    std::thread::sleep(wait.min(left).min(NAP));
                }
                Step::Send(due) => {
                    self.fill(due, spaced.unwrap_or_else(|| Clock::Live(time::now())));
                    if self.window.items.is_empty() {
                        break;
                    }
                    let (window, account) = (&mut self.window, &mut self.account);
                    self.output.put(window, account, &self.counters, stop)?;
                }
            }
        }
        self.output.finish()?;
        Ok(self.report(time::monotonic().since(start)))
    }

    /// Makes the next packets: at most `due`, none beyond the count.
    fn fill(&mut self, due: u64, clock: Clock) {
        self.window.clear();
        let left = self
            .options
            .count
            .unwrap_or(u64::MAX)
            .saturating_sub(self.next);
        for _ in 0..due.min(left).min(window::MOST) {
            let window = &mut self.window;
            if !self.traffic.append(self.next, clock, &self.wrapper, window) {
                break;
            }
            self.next += 1;
        }
        if self.traffic.may_reorder() && self.options.destination == Destination::Network {
            self.window.sort();
        }
    }

    fn spaced_clock(&self) -> Option<Clock> {
        let nanos = match self.options.pace {
            Pace::Rate(rate) => 1_000_000_000 / rate.max(1),
            Pace::Full | Pace::Original(_) => SPACING,
        };
        let to_file = self.options.destination != Destination::Network;
        to_file.then(|| Clock::Spaced(time::now(), nanos))
    }

    fn pace(&self, start: Monotonic) -> Pacer {
        if self.options.destination != Destination::Network {
            return Pacer::Full;
        }
        match self.options.pace {
            Pace::Full => Pacer::Full,
            Pace::Rate(rate) => Pacer::Rate(Rate::new(start, rate)),
            Pace::Original(speed) => {
                let begun = self.traffic.offset(self.next).unwrap_or_default();
                Pacer::Original {
                    start,
                    speed,
                    begun,
                }
            }
        }
    }

    fn report(&self, took: Duration) -> Report {
        let (skipped, damage) = self.traffic.losses();
        Report {
            skipped,
            damage,
            source_ports: self.output.source_ports(),
            ..Report::new(&self.counters, took.as_secs_f64())
        }
    }
}

/// Decides when packets are due.
enum Pacer {
    Full,
    Rate(Rate),
    Original {
        start: Monotonic,
        speed: f64,
        /// Where in the capture the run began.
        begun: Duration,
    },
}

impl Pacer {
    fn step(&mut self, now: Monotonic, next: u64, traffic: &Traffic) -> Step {
        match self {
            Self::Full => Step::Send(window::MOST),
            Self::Rate(rate) => rate.step(now),
            Self::Original {
                start,
                speed,
                begun,
            } => {
                let Some(offset) = traffic.offset(next) else {
                    return Step::Send(window::MOST);
                };
                let seconds = offset.saturating_sub(*begun).as_secs_f64() / *speed;
                let after = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
                match start.plus(after).since(now) {
                    Duration::ZERO => Step::Send(1),
                    wait => Step::Wait(wait),
                }
            }
        }
    }
}

/// A capture is evidence: writing over it would destroy it.
fn refuse_to_overwrite_the_input(options: &Options) -> Result<(), Error> {
    let (Input::Capture { path, .. }, Destination::File(output)) =
        (&options.input, &options.destination)
    else {
        return Ok(());
    };
    match (path.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) if input == output => {
            let text = format!("{} is the input; write to another file", output.display());
            Err(Error::Option(text))
        }
        _ => Ok(()),
    }
}

/// Wraps every packet of the capture at `capture` and writes the outer packets to a pcap file at
/// `output`, with their times. VNIs, shape, addresses and cuts are those of `options`.
///
/// # Errors
/// When one can't be read or the other not written.
pub fn wrap_capture(
    capture: impl Into<PathBuf>,
    output: impl Into<PathBuf>,
    options: Options,
) -> Result<Report, Error> {
    let options = Options {
        input: Input::Capture {
            path: capture.into(),
            loops: 1,
        },
        destination: Destination::File(output.into()),
        ..options
    };
    Generator::new(options)?.run(&AtomicBool::new(false))
}
