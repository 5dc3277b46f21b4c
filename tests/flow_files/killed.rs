//! A process that is killed while it writes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use mirrortap::flowlog::{Config, Log};
use mirrortap::ship::Pending;
use mirrortap::time::{self, Timestamp};

use crate::{config, flow, interface, published, records};

const FOLDER: &str = "MIRRORTAP_TEST_WRITER_FOLDER";
const CONFIG: &str = "MIRRORTAP_TEST_WRITER_CONFIG";

/// Not a test of its own: what the tests below start, and kill. It tells how many records a kill can't cost any more.
#[test]
fn a_writer_for_the_other_tests() {
    let (Some(folder), Ok(text)) = (std::env::var_os(FOLDER), std::env::var(CONFIG)) else {
        return;
    };
    let mut log = Log::new(
        &config(&text),
        Path::new(&folder),
        Timestamp::from_parts(1, 0),
    );
    for number in 0..1_000_000_u64 {
        log.record(&interface(), &flow(number)).unwrap();
        if number % 50 == 49 {
            // a clock of its own, so that a second or more is between two of these
            let second = number / 50 % 800;
            log.advance(Timestamp::from_parts(second, 0)).unwrap();
        }
        if number % 500 == 499 {
            println!("safe {}", number + 1);
        }
    }
}

/// A running writer, which ends with its value.
struct Writer {
    child: Child,
    /// Open as long as the writer runs: it would end if nobody could read it.
    out: BufReader<ChildStdout>,
    safe: u64,
}

impl Writer {
    /// Starts one, and waits until it has written for a while.
    fn start(folder: &Path, config: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args([
            "--exact",
            "killed::a_writer_for_the_other_tests",
            "--nocapture",
        ]);
        command.env(FOLDER, folder).env(CONFIG, config);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut writer = Self {
            child,
            out,
            safe: 0,
        };
        let mut line = String::new();
        while writer.safe < 2_000 {
            line.clear();
            let read = writer.out.read_line(&mut line).unwrap();
            assert!(read > 0, "the writer ended at {}", writer.safe);
            if let Some((_, number)) = line.trim_end().rsplit_once("safe ") {
                writer.safe = number.parse().unwrap();
            }
        }
        writer
    }

    /// SIGKILL.
    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.safe
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_run(config: &Config, folder: &Path) -> Log {
    Log::new(config, folder, time::now())
}

/// What is left in the hidden folder.
fn hidden(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join(".growing")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// All records from the first on, in order, without a gap: as many as there are.
fn assert_in_order(lines: &[String], bytes_at: usize) {
    for (number, line) in lines.iter().enumerate() {
        let bytes = line.split(' ').nth(bytes_at).unwrap();
        assert_eq!(bytes, number.to_string(), "{line}");
    }
}

fn recovers(text: &str, ending: &str) {
    let folder = tempfile::tempdir().unwrap();
    let safe = Writer::start(folder.path(), text).kill();
    assert!(published(folder.path()).is_empty());
    let config = config(text);
    let pending = Pending::at(folder.path().join(".ship/default"));
    let mut log = next_run(&config, folder.path()).with_pending(pending.clone());
    let recovered = log.recover();
    assert!(
        recovered.errors.is_empty() && recovered.damaged.is_empty(),
        "{recovered:?}"
    );
    assert_eq!((recovered.files, recovered.torn), (1, 1));
    assert!(recovered.records >= safe, "{} of {safe}", recovered.records);
    let files = published(folder.path());
    assert_eq!(log.take_published(), files);
    assert!(files[0].to_str().unwrap().ends_with(ending), "{files:?}");
    let lines = records(&[&files[0]]);
    assert_eq!(
        lines.len() as u64,
        recovered.records + 1,
        "the header line is there too"
    );
    assert_in_order(&lines[1..], 9);
    assert_eq!(hidden(folder.path()), Vec::<PathBuf>::new());
    let waiting = pending.waiting().unwrap();
    let key = files[0].strip_prefix(folder.path()).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        Path::new(&waiting[0].name),
        key,
        "the key is the name below the folder"
    );
    let again = next_run(&config, folder.path()).recover();
    assert_eq!((again.files, again.records), (0, 0), "once is enough");
}

#[test]
fn text_of_a_killed_writer_is_recovered_up_to_its_last_second() {
    recovers("", ".log.gz");
}

#[test]
fn parquet_of_a_killed_writer_is_recovered_from_its_lines() {
    recovers("file_format = 'parquet'", ".log.parquet");
}

#[test]
fn what_a_running_process_writes_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::start(folder.path(), "");
    let recovered = next_run(&config(""), folder.path()).recover();
    assert!(recovered.errors.is_empty(), "{recovered:?}");
    assert_eq!((recovered.files, hidden(folder.path()).len()), (0, 1));
    let other = next_run(&config("name = 'other'"), folder.path()).recover();
    writer.kill();
    assert_eq!(other.files, 0);
    let other = next_run(&config("name = 'other'"), folder.path()).recover();
    assert_eq!(other.files, 0, "another flow log's");
    assert_eq!(next_run(&config(""), folder.path()).recover().files, 1);
}

/// A hidden folder as a killed run leaves it, with a file in it.
fn left(folder: &Path, config: &Config, ending: &str, bytes: &[u8]) -> PathBuf {
    let layout = mirrortap::flowlog::Layout::of(config);
    let run = folder.join(format!(".growing/{}-0123", layout.id));
    fs::create_dir_all(&run).unwrap();
    let name = layout.file(600, "00000001");
    let path = run.join(format!("{name}{ending}"));
    fs::write(&path, bytes).unwrap();
    path
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

const LINE: &str = "2 012345678901 eni-1 10.0.0.1 10.0.0.2 1 2 6 1 40 600 660 ACCEPT OK\n";

fn header() -> String {
    format!("{}\n", mirrortap::record::Format::default().header())
}

#[test]
fn every_cut_of_a_file_is_recovered_as_far_as_it_goes() {
    let config = config("");
    let packed = gzip(&format!("{}{}", header(), LINE.repeat(5)));
    let mut most = 0;
    for length in 0..=packed.len() {
        let folder = tempfile::tempdir().unwrap();
        left(folder.path(), &config, ".growing", &packed[..length]);
        let recovered = next_run(&config, folder.path()).recover();
        assert!(recovered.errors.is_empty(), "{length}: {recovered:?}");
        assert!(recovered.records >= most, "{length}");
        most = recovered.records;
        let files = published(folder.path());
        assert_eq!(files.len() as u64, recovered.files);
        assert_eq!(recovered.files, u64::from(most > 0));
        assert_eq!(
            recovered.torn,
            u64::from(most > 0 && length < packed.len()),
            "{length}"
        );
    }
    assert_eq!(most, 5);
}

#[test]
fn a_line_that_is_no_record_ends_what_is_recovered() {
    let config = config("");
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}{LINE}{LINE}\0\0\0\0\n{LINE}", header());
    left(folder.path(), &config, ".growing", &gzip(&text));
    let recovered = next_run(&config, folder.path()).recover();
    assert_eq!((recovered.records, recovered.torn), (2, 1));
}

#[test]
fn a_file_that_cannot_be_read_is_put_aside() {
    let config = config("");
    let folder = tempfile::tempdir().unwrap();
    left(folder.path(), &config, ".growing", &gzip("no flow log\n"));
    let recovered = next_run(&config, folder.path()).recover();
    let [aside] = recovered.damaged.as_slice() else {
        panic!("{recovered:?}");
    };
    assert!(aside.to_str().unwrap().ends_with(".growing.damaged"));
    assert_eq!(fs::read(aside).unwrap(), gzip("no flow log\n"));
    assert!(published(folder.path()).is_empty());
}

#[test]
fn a_whole_file_is_published_as_it_is_and_one_that_has_its_name_is_not_published_twice() {
    let config = config("");
    let folder = tempfile::tempdir().unwrap();
    let packed = gzip(&format!("{}{LINE}", header()));
    let whole = left(folder.path(), &config, ".whole", &packed);
    let recovered = next_run(&config, folder.path()).recover();
    assert_eq!((recovered.files, recovered.records), (1, 1));
    let files = published(folder.path());
    assert_eq!(fs::read(&files[0]).unwrap(), packed);
    // a kill between the link and the removal of the hidden name
    fs::create_dir_all(whole.parent().unwrap()).unwrap();
    fs::hard_link(&files[0], &whole).unwrap();
    let again = next_run(&config, folder.path()).recover();
    assert!(again.errors.is_empty(), "{again:?}");
    assert_eq!(published(folder.path()), files);
    assert!(!whole.exists());
    // and a name that is somebody else's
    left(folder.path(), &config, ".whole", b"another file");
    next_run(&config, folder.path()).recover();
    assert_eq!(published(folder.path()).len(), 2);
    assert_eq!(fs::read(&files[0]).unwrap(), packed);
}

#[test]
fn the_hidden_folder_goes_with_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = next_run(&config(""), folder.path());
    log.record(&interface(), &flow(1)).unwrap();
    assert_eq!(hidden(folder.path()).len(), 1);
    log.finish().unwrap();
    assert!(!folder.path().join(".growing").exists());
}
