//! What was measured, printed: a line for each run as it ends, or one JSON object at the end.

use serde::Serialize;

use crate::bench::{Cost, Measured, Mode, Options, Outcome};
use crate::packet::DropReason;

/// Kinds of threads that have a column.
const COLUMNS: [&str; 4] = ["sender", "receiver", "worker", "writer"];

/// All runs so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Table {
    #[serde(skip)]
    json: bool,
    #[serde(skip)]
    headed: bool,
    runs: Vec<Outcome>,
    stages: Vec<Cost>,
}

impl Table {
    pub(super) fn new(options: &Options, json: bool) -> Self {
        if !json {
            println!(
                "{:?} frames, {} sessions, {} rules each, {} receivers, {} workers, {} s a run; ns are CPU time for each packet",
                options.size,
                options.sessions,
                options.rules,
                options.receivers,
                options.workers,
                options.duration.as_secs_f64()
            );
        }
        Self {
            json,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, mode: Mode, measured: Measured) {
        match measured {
            Measured::Runs(runs) => {
                if !self.json {
                    self.show(&runs);
                    if mode == Mode::Workers {
                        efficiency(&runs);
                    }
                }
                self.runs.extend(runs);
            }
            Measured::Stages { stages } => {
                if !self.json {
                    show_stages(&stages);
                }
                self.stages.extend(stages);
            }
        }
    }

    /// Prints what is left to print; whether every ledger closes.
    pub(super) fn end(self) -> bool {
        if self.json {
            match serde_json::to_string(&self) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("mirrortap: cannot print the results: {error}"),
            }
        }
        self.runs.iter().all(|r| r.closed)
    }

    fn show(&mut self, runs: &[Outcome]) {
        if !std::mem::replace(&mut self.headed, true) {
            print!("\n{:<8} {:>11} {:>8}", "mode", "packets/s", "MB/s");
            for column in COLUMNS {
                print!(" {:>11}", format!("{column} ns"));
            }
            println!(" {:>9}  ledger  limit", "lost");
        }
        runs.iter().for_each(line);
    }
}

fn line(run: &Outcome) {
    print!(
        "{:<8} {:>11.0} {:>8.0}",
        run.mode.name(),
        run.pps,
        run.bytes_per_second / 1e6
    );
    for column in COLUMNS {
        match run.threads.iter().find(|t| t.stage == column) {
            Some(t) => print!(" {:>11.1}", t.ns_per_packet),
            None => print!(" {:>11}", "-"),
        }
    }
    let lost = run.ledger.dropped_total() + run.kernel_dropped.values().sum::<u64>();
    let closed = if run.closed { "closed" } else { "OPEN" };
    let source = run
        .source
        .map_or_else(String::new, |s| format!("source {s}; "));
    println!(" {lost:>9}  {closed:<6}  {source}{}", run.limit);
    reasons(run);
}

/// Where packets were lost, one line each.
fn reasons(run: &Outcome) {
    for (reason, n) in DropReason::ALL.iter().zip(run.ledger.dropped) {
        if n > 0 {
            println!("           {n} dropped: {}", reason.name());
        }
    }
    for (place, n) in run.kernel_dropped.iter().filter(|(_, n)| **n > 0) {
        println!("           {n} lost in the kernel: {place}");
    }
}

fn show_stages(stages: &[Cost]) {
    println!("\n{:<9} {:>9}", "stage", "ns/packet");
    for cost in stages {
        println!(
            "{:<9} {:>9.1}  {}",
            cost.stage, cost.ns_per_packet, cost.what
        );
    }
    let most = stages
        .iter()
        .max_by(|a, b| a.ns_per_packet.total_cmp(&b.ns_per_packet));
    if let Some(most) = most {
        println!("the most expensive is {}", most.stage);
    }
}

/// Packets for each second of CPU time of the workers, against those of one worker.
fn efficiency(runs: &[Outcome]) {
    let one = runs.first().map_or(0.0, |r| r.cost("worker"));
    println!("\nworkers  packets per CPU-second of the workers  against one worker");
    for run in runs {
        let cost = run.cost("worker").max(1e-9);
        println!(
            "{:>7} {:>38.0} {:>19.2}",
            run.workers,
            1e9 / cost,
            one / cost
        );
    }
}
