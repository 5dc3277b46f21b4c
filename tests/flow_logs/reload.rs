//! What a reload changes of flow logs, and what it does not.

use std::fs;
use std::path::Path;

use crate::common::{Sensor, wait_until};
use crate::live::{number, send};
use crate::support::{assert_conserved, log_of, of};

fn config(folder: &Path, more: &str) -> String {
    let flows = folder.join("flows");
    format!("[[flow_log]]\ndirectory = '{}'\n{more}", flows.display())
}

fn reload(sensor: &mut Sensor, folder: &Path, more: &str, words: &str) {
    fs::write(folder.join("mirrortap.toml"), config(folder, more)).unwrap();
    sensor.signal("HUP");
    sensor.wait_logged(words);
}

#[test]
fn a_reload_changes_which_packets_count_and_leaves_the_rest_to_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensor = Sensor::start(folder.path(), &config(folder.path(), ""), &[]);
    send(&sensor, 5_000, 10);
    let nothing =
        "filter = { rules = [ { number = 1, direction = 'egress', action = 'reject' } ] }\n";
    reload(&mut sensor, folder.path(), nothing, "generation 2");
    send(&sensor, 5_000, 7);
    wait_until("they are left out", || number(&sensor, "left_out") == 7);
    let nowhere = "source = ['10.0.0.0/8']\n";
    reload(&mut sensor, folder.path(), nowhere, "generation 3");
    send(&sensor, 5_000, 5);
    let other = "interval = '10m'\n";
    let told = "Only a restart changes: flow_log.";
    reload(&mut sensor, folder.path(), other, told);
    let bad = "interfaces = 'no-such-file.json'\n";
    let refused = "The new configuration was refused";
    reload(&mut sensor, folder.path(), bad, refused);
    send(&sensor, 5_000, 3);
    let ledger = sensor.stop();
    assert_conserved(&ledger, "default", &folder.path().join("flows"));
    let log = log_of(&ledger, "default");
    assert_eq!(
        (of(&log, "packets"), of(&log, "recorded")),
        (17, 10),
        "{log}"
    );
    assert_eq!(ledger.number("written"), 25);
}
