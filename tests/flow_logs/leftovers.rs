//! What a run that was killed has left, and who publishes it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mirrortap::flowlog::{self, Config, Layout, Losses, Setup};
use mirrortap::record::Format;
use mirrortap::time;

use crate::common::wait_until;

const LINE: &str = "2 012345678901 eni-1 10.0.0.1 10.0.0.2 1 2 6 1 40 600 660 ACCEPT OK";

/// A flow log whose last run was killed: its file as it was, and where it is to be.
fn killed(folder: &Path, more: &str) -> (Config, PathBuf, PathBuf) {
    let directory = folder.join("flows");
    let mut config: Config = toml::from_str(more).unwrap();
    config.directory = directory.clone();
    let layout = Layout::of(&config);
    let name = layout.file(600, "00000001");
    let run = directory.join(format!(".growing/{}-0123", layout.id));
    fs::create_dir_all(&run).unwrap();
    let hidden = run.join(format!("{name}.growing"));
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writeln!(packer, "{}\n{LINE}", Format::default().header()).unwrap();
    fs::write(&hidden, packer.finish().unwrap()).unwrap();
    let published = directory.join(layout.key(&name).unwrap());
    (config, hidden, published)
}

fn start(config: Config, live: bool) -> (flowlog::Running, Vec<flowlog::Meter>) {
    let setup = Setup::build(&[config], Path::new(".")).unwrap();
    flowlog::start(setup, 1, live, Box::new(Losses::default)).unwrap()
}

fn end((running, meters): (flowlog::Running, Vec<flowlog::Meter>)) {
    meters.into_iter().for_each(flowlog::Meter::finish);
    running.finish(time::monotonic().plus(Duration::from_secs(60)));
}

#[test]
fn a_sensor_publishes_what_was_left_while_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (config, hidden, published) = killed(folder.path(), "s3 = { bucket = 'example' }");
    let pending = mirrortap::ship::Pending::at(config.pending());
    let started = start(config, true);
    wait_until("the file has its name", || {
        published.exists() && !hidden.exists()
    });
    end(started);
    assert_eq!(pending.waiting().unwrap().len(), 1);
}

#[test]
fn a_replay_publishes_what_was_left_but_not_what_a_destination_waits_for() {
    for (more, recovers) in [("", true), ("s3 = { bucket = 'example' }", false)] {
        let folder = tempfile::tempdir().unwrap();
        let (config, hidden, published) = killed(folder.path(), more);
        end(start(config, false));
        assert_eq!(
            (published.exists(), hidden.exists()),
            (recovers, !recovers),
            "{more}"
        );
    }
}
