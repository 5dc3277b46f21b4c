//! `mirrortap flows`: reads VPC Flow Logs, ours or AWS's own, sums them, and puts two sets side by side.
//!
//! Takes: files, folders, buckets, or standard input; text (plain, .gz or .zst) or Parquet. Gives: text or JSON on standard output. Holds: a
//! damaged line is counted and told with file and line, and the rest is read; what is counted by key is bounded.

#[cfg(feature = "aws")]
mod bucket;
mod cell;
mod compare;
mod compare_report;
mod files;
mod groups;
mod read;
mod report;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::failure::{self, Failure};
use crate::cli::flows::compare::{Comparison, Side};
use crate::cli::flows::groups::Summary;
use crate::cli::flows::read::{Choice, Reading, Stop};
use crate::record::{Columns, Field, Format};

/// Read VPC Flow Logs: sums and top talkers, single records, or two sets side by side. Reads text and Parquet as this
/// program and AWS write them, in the default and in custom formats.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Flow logs: files, or folders with .log, .gz, .zst, .txt and .parquet files in them; - is standard input;
    /// s3://BUCKET/PREFIX is read like a folder.
    #[arg(required = true, value_name = "FILE|DIR|s3://…")]
    paths: Vec<PathBuf>,
    /// What to sum by: fields, separated by commas. [default: srcaddr,dstaddr,protocol; with
    /// --compare interface-id and the 5-tuple]
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    by: Vec<Field>,
    /// How many rows are shown, largest first; 0 shows all.
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
    /// Read only records in which this field has this value; may be repeated.
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    choices: Vec<Choice>,
    /// The format of files that have no header line, as given to AWS. [default: the 14 fields of version 2]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Print every record instead of sums.
    #[arg(long)]
    records: bool,
    /// Print JSON: one object, or with --records one for each.
    #[arg(long)]
    json: bool,
    /// Compare two sets, THEIRS and OURS: which flows does the second lack?
    #[arg(long, conflicts_with = "records")]
    compare: bool,
    /// With --compare: records of a flow that are no further apart than this are compared in one sum.
    #[arg(
        long,
        default_value_t = 60,
        value_name = "SECONDS",
        requires = "compare"
    )]
    slack: u64,
    /// The region of the bucket. [default: of the environment, the profile, or this instance]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Another address than AWS's for the bucket, as `https://s3.example`.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The profile of ~/.aws that may read the bucket. [default: credentials as AWS's own tools find them]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

const HELP: &str = "\
Lines that stand for no flow (NODATA, SKIPDATA) are counted and in no sum. --where leaves them out only
by what they have too, as interface-id: a gap may be one in the flows that are asked for.

--compare takes AWS's records first and ours second. Intervals of the two are not aligned, so all
records of a flow that touch, give or take --slack, are one stretch, and the sums of stretches are
compared. REJECT is left out: what was refused is not mirrored. So is what lies outside the time
that both sets cover; differing stretches that reach over its edge are counted and not judged.

Examples:
  mirrortap flows 123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z_fe123456.log.gz
  mirrortap flows --by srcaddr,dstport --top 20 AWSLogs/
  mirrortap flows --where interface-id=eni-0123456789abcdef0 --where protocol=17 flows/
  mirrortap flows --records --json flows/ | jq 'select(.bytes > 1000000)'
  mirrortap flows --compare --where interface-id=eni-0123456789abcdef0 AWSLogs/ flows/
  mirrortap flows --profile audit s3://logs/AWSLogs/123456789012/vpcflowlogs/eu-central-1/2026/11/28

Exit codes: 0 all read (--compare: the second set lacks nothing), 1 the second set lacks something,
65 damaged lines or files, 66 no such file.";

/// What records are summed by, unless it is told.
const BY: [Field; 3] = [Field::SrcAddr, Field::DstAddr, Field::Protocol];
const BY_FLOW: [Field; 6] = [
    Field::InterfaceId,
    Field::SrcAddr,
    Field::DstAddr,
    Field::SrcPort,
    Field::DstPort,
    Field::Protocol,
];

/// Runs the verb.
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let columns = args.format.as_ref().map(Columns::from);
    let mut reading = Reading::new(columns, args.choices.clone());
    reach(&args, &mut reading)?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let done = if args.compare {
        compare(&args, &mut reading, &mut out)
    } else if args.records {
        records(&args, &mut reading, &mut out)
    } else {
        summarize(&args, &mut reading, &mut out)
    };
    match done.and_then(|lacking| out.flush().map_err(Stop::Output).map(|()| lacking)) {
        Ok(lacking) => reading
            .verdict()
            .map(|()| ExitCode::from(u8::from(lacking))),
        // Whoever reads has seen enough, as `head` has.
        Err(Stop::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Stop::Output(error)) => {
            let message = format!("cannot write to standard output: {error}");
            Err(Failure::new(failure::IO, message))
        }
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// Prints the sums of the flow logs below a folder, as the verb does.
pub(super) fn show(folder: &Path, top: usize) -> Result<(), Failure> {
    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }
    let top = top.to_string();
    let words = ["flows", "--top", &top, "--"].map(OsStr::new);
    let words = words.into_iter().chain([folder.as_os_str()]);
    let alone = Alone::try_parse_from(words).map_err(|e| Failure::new(failure::SOFTWARE, e))?;
    run(alone.args).map(|_| ())
}

/// Buckets are within reach.
#[cfg(feature = "aws")]
fn reach(args: &Args, reading: &mut Reading) -> Result<(), Failure> {
    reading.access = bucket::Access {
        region: args.region.clone(),
        endpoint: args.endpoint.clone(),
        profile: args.profile.clone(),
    };
    Ok(())
}

#[cfg(not(feature = "aws"))]
fn reach(args: &Args, _: &mut Reading) -> Result<(), Failure> {
    let bucket = args.paths.iter().find(|path| path.starts_with("s3:"));
    let asked = bucket.is_some() || args.region.is_some() || args.endpoint.is_some();
    if asked || args.profile.is_some() {
        let message = "this mirrortap was built without the feature \"aws\" and can't read s3://; copy the files, as with aws s3 cp";
        return Err(Failure::new(failure::CONFIG, message));
    }
    Ok(())
}

fn fields(args: &Args, default: &[Field]) -> Vec<Field> {
    if args.by.is_empty() {
        default.to_vec()
    } else {
        args.by.clone()
    }
}

fn most(args: &Args) -> usize {
    if args.top == 0 { usize::MAX } else { args.top }
}

fn summarize(args: &Args, reading: &mut Reading, out: &mut impl Write) -> Result<bool, Stop> {
    let mut summary = Summary::by(fields(args, &BY));
    reading.read_all(&args.paths, &mut |record| {
        summary.add(record);
        Ok(())
    })?;
    let report = report::Report::of(&summary, reading, most(args));
    let shown = if args.json {
        report.json(out)
    } else {
        report.text(out)
    };
    shown.map(|()| false).map_err(Stop::Output)
}

/// Every record as it is; a header line where the columns change.
fn records(args: &Args, reading: &mut Reading, out: &mut impl Write) -> Result<bool, Stop> {
    let mut header = String::new();
    reading.read_all(&args.paths, &mut |record| {
        if args.json {
            serde_json::to_writer(&mut *out, &report::object(record))
                .map_err(|error| Stop::Output(error.into()))?;
            return out.write_all(b"\n").map_err(Stop::Output);
        }
        let columns = read::plain(&record.columns().header());
        if header != columns {
            writeln!(out, "{columns}").map_err(Stop::Output)?;
            header = columns;
        }
        writeln!(out, "{record}").map_err(Stop::Output)
    })?;
    Ok(false)
}

/// Whether the second set lacks something.
fn compare(args: &Args, reading: &mut Reading, out: &mut impl Write) -> Result<bool, Stop> {
    let [theirs, ours] = args.paths.as_slice() else {
        let message = format!(
            "--compare takes two files or folders, THEIRS and OURS, and was given {}",
            args.paths.len()
        );
        return Err(Stop::Failed(Failure::new(failure::USAGE, message)));
    };
    let mut comparison = Comparison::by(fields(args, &BY_FLOW), args.slack);
    for (side, path) in [(Side::Theirs, theirs), (Side::Ours, ours)] {
        let paths = std::slice::from_ref(path);
        reading.read_all(paths, &mut |record| comparison.add(side, record))?;
    }
    let outcome = comparison.outcome();
    let report = compare_report::Report::of(&outcome, &comparison, most(args));
    let shown = if args.json {
        report.json(out)
    } else {
        report.text(out)
    };
    shown
        .map(|()| outcome.lacking.count > 0)
        .map_err(Stop::Output)
}
