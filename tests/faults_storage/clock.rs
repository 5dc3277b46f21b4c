//! A clock that is set while the sensor runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::QUICK;
use crate::common::{self, PROGRAM, Sensor};
use crate::disk_support::{check, deliver, leave, number, send, wait_until, wait_well};

/// A sensor whose wall clock can be set; everything else of it is real.
struct Faked {
    offset: PathBuf,
    out: PathBuf,
    sensor: Sensor,
    _folder: tempfile::TempDir,
}

impl Faked {
    fn start(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let offset = folder.path().join("offset");
        fs::write(&offset, "+0\n").unwrap();
        let out = folder.path().join("out");
        prepare(&out);
        let mut command = Command::new(PROGRAM);
        command
            .env("LD_PRELOAD", preload())
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        let config = format!("[control]\nsocket = 'off'\n{config}");
        let sensor = Sensor::start_with(command, folder.path(), &config, &[]);
        Self {
            offset,
            out,
            sensor,
            _folder: folder,
        }
    }

    /// Sets the clock off by so many seconds.
    fn set(&self, seconds: &str) {
        let new = self.offset.with_extension("new");
        fs::write(&new, format!("{seconds}\n")).unwrap();
        fs::rename(new, &self.offset).unwrap();
    }

    fn logged(&mut self, words: &str) {
        let sensor = &mut self.sensor;
        wait_until(words, || sensor.log().iter().any(|l| l.contains(words)));
    }
}

/// The library that `faketime` puts before all others.
fn preload() -> String {
    let output = common::tool("faketime")
        .args(["-f", "+0", "env"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("LD_PRELOAD="));
    line.expect("faketime works by a library").to_owned()
}

#[test]
fn a_clock_set_forward_by_a_year_deletes_nothing_for_its_age() {
    let mut file = PathBuf::new();
    let config = format!("{QUICK}\n[retention]\nmax_age = '2h'");
    let mut faked = Faked::start(&config, |out| {
        file = leave(out, "web", 1, 500, Duration::from_secs(3600));
    });
    wait_until("the file to be seen", || {
        number(&faked.sensor, &["retention", "kept_files"]) == 1
    });
    deliver(&faked.sensor, "1", 300);
    faked.set("+31536000");
    faked.logged("the clock was set forward");
    deliver(&faked.sensor, "1", 600);
    wait_well(&faked.sensor);
    let ledger = faked.sensor.stop();
    assert!(file.exists(), "an hour's grace");
    assert_eq!(
        ledger.number("written"),
        ledger.number("received"),
        "{}",
        ledger.0
    );
    check(&ledger, &Path::to_owned);
}

#[test]
fn a_clock_set_back_by_a_day_and_forward_again_costs_no_packet() {
    let config = format!(
        "{QUICK}\n[[session]]\nname = 'web'\nvni = 1\n[session.capture]\nrotate_interval = '1s'"
    );
    let faked = Faked::start(&config, |_| {});
    for offset in ["-86400", "+0", "+86400", "-7200", "+0"] {
        send(faked.sensor.udp, "1", 200);
        faked.set(offset);
        deliver(&faked.sensor, "1", 200);
    }
    wait_well(&faked.sensor);
    let ledger = faked.sensor.stop();
    assert_eq!(
        ledger.number("written"),
        ledger.number("received"),
        "{}",
        ledger.0
    );
    check(&ledger, &Path::to_owned);
    common::files(&faked.out);
}
