//! Much to do at once: files of earlier runs, hooks that hang.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::QUICK;
use crate::common::{self, Sensor};
use crate::disk_support::{check, deliver, leave, number, wait_until, wait_well};

#[test]
fn ten_thousand_files_of_earlier_runs_hold_up_no_packet_and_are_brought_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for session in 0..10 {
        for number in 0..1000 {
            leave(
                &out,
                &format!("vni-{session}"),
                number,
                200,
                Duration::from_secs(3600),
            );
        }
    }
    // two million bytes are there
    let config = format!("[control]\nsocket = 'off'\n{QUICK}\n[retention]\nmax_size = '1MiB'");
    let sensor = Sensor::start(folder.path(), &config, &[]);
    deliver(&sensor, "1", 200);
    assert_eq!(
        number(&sensor, &["ledger", "written"]),
        number(&sensor, &["ledger", "received"])
    );
    wait_until("the bound", || {
        number(&sensor, &["retention", "deleted_files", "size"]) > 3_000
            && number(&sensor, &["retention", "kept_bytes"]) < 1 << 20
    });
    wait_well(&sensor);
    let ledger = sensor.stop();
    check(&ledger, &Path::to_owned);
    let left = common::files(&out);
    let bytes: u64 = left.iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(
        bytes <= 1 << 20 && left.len() > 2_000,
        "{bytes} bytes in {} files",
        left.len()
    );
}

#[test]
fn retention_goes_on_while_a_hook_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // `exec`, so that nothing outlives the hook
    let hook = "on_close = ['/bin/sh', '-c', 'exec sleep 300']\nhook_timeout = '300s'";
    let config = "shutdown_timeout = '3s'\n[control]\nsocket = 'off'\n[capture]\nrotate_size = '64KiB'\n[retention]\nmax_size = '512KiB'\n[writer]\nflush_interval = '50ms'\n";
    let sensor = Sensor::start(folder.path(), &format!("{config}{hook}"), &[]);
    deliver(&sensor, "1", 3_000);
    wait_until("files to go", || {
        number(&sensor, &["retention", "deleted_files", "size"]) >= 20
    });
    wait_well(&sensor);
    let ledger = sensor.stop();
    check(&ledger, &Path::to_owned);
    let left: u64 = common::files(&out)
        .iter()
        .map(|f| fs::metadata(f).unwrap().len())
        .sum();
    assert!(left <= 512 << 10, "{left}");
}
