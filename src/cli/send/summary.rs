//! The report, printed: one JSON object, or lines for people.

use std::fmt::Write as _;

use crate::generator::Report;

/// The most VNIs that are listed one by one; `--json` has them all.
const LISTED: usize = 20;

/// Prints to standard output, or to standard error where packets went to standard output.
pub(super) fn print(report: &Report, json: bool, aside: bool) {
    let text = if json {
        serde_json::to_string(report).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")) + "\n"
    } else {
        people(report)
    };
    if aside {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
}

fn people(report: &Report) -> String {
    let mut out = format!(
        "sent {} packets, {} bytes, in {:.3} s: {:.0} packets a second\n",
        report.sent, report.bytes, report.seconds, report.pps
    );
    for (n, what) in [
        (report.cut, "were cut to fit"),
        (
            report.skipped,
            "were skipped: their link type has no Ethernet form",
        ),
        (report.unsent, "could not be sent"),
    ] {
        if n > 0 {
            // writing to a String can't fail, here and below
            let _ = writeln!(out, "  {n:>10} {what}");
        }
    }
    for (name, n) in &report.errors {
        let _ = writeln!(out, "  {n:>10} times {}", name.replace('_', " "));
    }
    for (vni, n) in report.per_vni.iter().take(LISTED) {
        let _ = writeln!(out, "  {n:>10} with VNI {vni}");
    }
    if let Some(more) = report.per_vni.len().checked_sub(LISTED).filter(|n| *n > 0) {
        let _ = writeln!(out, "             and {more} more VNIs; --json lists all");
    }
    out
}
