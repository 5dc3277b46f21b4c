//! `mirrortap inspect`: what is in a capture, as a summary or packet by packet.
//!
//! Takes: a capture file, or standard input. Gives: text or JSON on standard output. Holds: memory is
//! bounded whatever the file holds; of a damaged file all whole records are shown, then the damage is
//! told on standard error and by the exit code.

mod packets;
mod report;
mod summary;
mod tally;
#[cfg(test)]
mod tests;
mod tunnel;

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::capfile::{self, Reader};
use crate::cli::failure::{self, Failure};
use crate::cli::inspect::summary::Summary;

/// Look into a capture: pcap or pcapng, plain, .gz or .zst. Without options, a summary: times, sizes,
/// gaps, protocols, the largest flows, and, in a capture of mirror traffic as it arrives, its VNIs and
/// their sources.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The capture; - is standard input.
    file: PathBuf,
    /// Print one JSON object per packet instead of a summary.
    #[arg(long, conflicts_with = "json")]
    packets: bool,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
    /// How many flows and tunnels the summary shows.
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
}

const HELP: &str = "\
Fields of --packets, of the outermost layers (the first IP header; a tunnel is what that carries):
  n, time, link        number from 1, RFC 3339 in UTC, link type
  caplen, origlen      bytes in the file, bytes that the file says were on the wire
  wire_len             bytes on the wire by origlen and by the IP header, the larger
  truncated            the packet ends before what its headers announce
  eth_type             EtherType behind VLAN tags, as in \"0x0800\"
  vlans, mpls          ids and labels, outermost first; [] where there are none
  src, dst, proto      IP addresses, protocol number (IPv6: behind the extension headers)
  frag_offset, more_fragments
                       in bytes; for IPv6 only with a fragment header
  sport, dport         TCP, UDP, SCTP, DCCP, UDP-Lite; later fragments have none
  tcp_flags            12 bits, as in \"0x0012\"
  icmp_type, icmp_code ICMP and ICMPv6
What a packet does not have, or what was cut off, is null.

Examples:
  mirrortap inspect captures/web/web-20261124T230000.000000Z-000000.pcap
  mirrortap inspect --json mirror.pcapng.zst
  zstdcat old.pcap.zst | mirrortap inspect --packets - | jq 'select(.dport == 443)'

Exit codes: 0 all read, 65 not a capture or a damaged one, 66 no such file.";

/// Runs the verb.
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut reader = Reader::open(&args.file).map_err(unreadable)?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = if args.packets {
        packets::print(&mut reader, &mut out)
    } else {
        summarize(&args, &mut reader, &mut out)
    };
    match written.and_then(|()| out.flush().map_err(Stop::Output)) {
        Ok(()) => verdict(&args.file, &reader),
        // Whoever reads has seen enough, as `head` has.
        Err(Stop::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Stop::Output(error)) => {
            let message = format!("cannot write to standard output: {error}");
            Err(Failure::new(failure::IO, message))
        }
        Err(Stop::Input(error)) => {
            // What was read is shown first; the error matters more than one in showing it.
            let _ = out.flush();
            Err(unreadable(error))
        }
    }
}

/// Why a capture was not shown to its end.
#[derive(Debug)]
enum Stop {
    Input(capfile::Error),
    Output(io::Error),
}

fn summarize(args: &Args, reader: &mut Reader, out: &mut impl Write) -> Result<(), Stop> {
    let mut summary = Summary::default();
    let ended = loop {
        match reader.next() {
            Ok(Some(record)) => summary.add(&record),
            Ok(None) => break Ok(()),
            Err(error) => break Err(Stop::Input(error)),
        }
    };
    let report = report::Report::of(summary, reader, args.top);
    if args.json {
        report.json(out).map_err(Stop::Output)?;
    } else {
        report.text(out).map_err(Stop::Output)?;
    }
    ended
}

fn verdict(file: &Path, reader: &Reader) -> Result<ExitCode, Failure> {
    match reader.damage() {
        None => Ok(ExitCode::SUCCESS),
        Some(damage) => {
            let message = format!(
                "{} is {damage}; all whole records before are shown",
                file.display()
            );
            Err(Failure::new(failure::DATA, message))
        }
    }
}

fn unreadable(error: capfile::Error) -> Failure {
    let code = match &error {
        capfile::Error::Open { .. } => failure::NO_INPUT,
        capfile::Error::Read { .. } => failure::IO,
        capfile::Error::NotACapture { .. } | capfile::Error::Unsupported { .. } => failure::DATA,
    };
    Failure::new(code, error)
}
