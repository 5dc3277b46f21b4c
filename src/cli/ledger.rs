//! The ledger, printed: the last thing that `run`, `replay` and `demo` say.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::packet::{DropReason, FilterReason, Tally};
use crate::pipeline::Report;

/// The most sessions and files that are listed one by one; `--json` has them all.
const LISTED: usize = 20;

/// Prints the ledger: as one JSON object, or for people.
pub(super) fn print(report: &Report, json: bool) {
    let text = if json {
        serde_json::to_string(report).map(|text| text + "\n")
    } else {
        Ok(text(report))
    };
    let mut out = std::io::stdout().lock();
    let printed = text
        .map_err(std::io::Error::from)
        .and_then(|text| out.write_all(text.as_bytes()))
        .and_then(|()| out.flush());
    // whoever read it may be gone; the captures are there all the same
    if let Err(error) = printed {
        tracing::error!("the ledger cannot be printed: {error}");
    }
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    // writing to a String cannot fail
    let _ = totals(&mut out, report);
    let _ = sessions(&mut out, report);
    let _ = files(&mut out, report);
    let _ = flow_logs(&mut out, report);
    out
}

fn totals(out: &mut String, report: &Report) -> std::fmt::Result {
    let t = &report.total;
    writeln!(out, "\nLedger")?;
    line(out, "received", t.received, &human_bytes(t.bytes_received))?;
    line(out, "  written", t.written, &human_bytes(t.bytes_written))?;
    line(out, "  filtered", t.filtered_total(), "")?;
    for (reason, n) in FilterReason::ALL.iter().zip(t.filtered) {
        reason_line(out, reason.name(), n)?;
    }
    line(out, "  dropped", t.dropped_total(), "")?;
    for (reason, n) in DropReason::ALL.iter().zip(t.dropped) {
        reason_line(out, reason.name(), n)?;
    }
    match t.in_flight() {
        0 => writeln!(
            out,
            "  closed: received = written + filtered + dropped, to the packet"
        )?,
        open => writeln!(
            out,
            "  NOT CLOSED: {open} packets are in no counter; please report this"
        )?,
    }
    for (place, n) in report.kernel_dropped.iter().filter(|(_, n)| **n > 0) {
        line(out, "lost before", *n, &format!("in the kernel: {place}"))?;
    }
    Ok(())
}

fn line(out: &mut String, what: &str, n: u64, more: &str) -> std::fmt::Result {
    writeln!(out, "{}", format!("{what:<14} {n:>14}  {more}").trim_end())
}

fn reason_line(out: &mut String, name: &str, n: u64) -> std::fmt::Result {
    if n == 0 {
        Ok(())
    } else {
        writeln!(out, "    {name:<24} {n:>8}")
    }
}

fn sessions(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.per_session.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<28} {:>12} {:>12} {:>12} {:>12}",
        "session", "received", "written", "filtered", "dropped"
    )?;
    let mut rows: Vec<(&str, &Tally)> = report
        .per_session
        .iter()
        .map(|(n, t)| (n.as_str(), t))
        .collect();
    rows.sort_by_key(|(_, t)| std::cmp::Reverse(t.received));
    for (name, t) in rows.iter().take(LISTED) {
        let (filtered, dropped) = (t.filtered_total(), t.dropped_total());
        writeln!(
            out,
            "{name:<28} {:>12} {:>12} {filtered:>12} {dropped:>12}",
            t.received, t.written
        )?;
    }
    if rows.len() > LISTED {
        writeln!(out, "and {} more", rows.len() - LISTED)?;
    }
    Ok(())
}

fn files(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        out,
        "\n{} file{}",
        report.files_total,
        if report.files_total == 1 { "" } else { "s" }
    )?;
    for file in report.files.iter().take(LISTED) {
        writeln!(
            out,
            "  {}  {} packets, {}",
            file.path.display(),
            file.packets,
            human_bytes(file.bytes)
        )?;
    }
    if report.files.len() > LISTED {
        writeln!(out, "  and {} more", report.files.len() - LISTED)?;
    }
    Ok(())
}

fn flow_logs(out: &mut String, report: &Report) -> std::fmt::Result {
    for (name, log) in &report.flow_logs {
        let (records, files) = (log.records, log.files);
        let plural = if files == 1 { "" } else { "s" };
        writeln!(
            out,
            "\nflow log {name}: {records} records of {} packets in {files} file{plural}",
            log.recorded
        )?;
        for (what, n) in [
            ("packets left out", log.left_out),
            ("packets without IP", log.not_ip),
            ("records closed early", log.early + log.early_of_interface),
            ("intervals told as SKIPDATA", log.skipdata),
            ("intervals told as NODATA", log.nodata),
            ("records lost", log.records_lost),
        ] {
            if n > 0 {
                line(out, "", n, what)?;
            }
        }
        if let Some(trouble) = &log.trouble {
            writeln!(out, "  {trouble}")?;
        }
    }
    Ok(())
}

/// `1.5 MiB`.
pub(super) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}
