//! The service manager, the control socket and the configuration: gone, or taken by somebody else.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::common::{PROGRAM, Sensor, mirrortap, wait_until};
use crate::{Load, is_healthy, wait_logged, wait_stopped};

#[test]
fn a_service_manager_that_goes_away_is_told_of_and_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let mut sensor = Sensor::start_with(command, folder.path(), "", &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    drop(manager);
    fs::remove_file(&path).unwrap();
    wait_logged(&mut sensor, "The service manager was not told.");
    load.goes_on(&sensor);
    assert!(is_healthy(&sensor));
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn a_service_manager_that_never_listened_is_told_of_and_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.env("NOTIFY_SOCKET", folder.path().join("nobody"));
    let mut sensor = Sensor::start_with(command, folder.path(), "", &[]);
    wait_logged(&mut sensor, "The service manager cannot be told anything.");
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn the_watchdog_is_not_fed_by_a_stopped_process_and_is_again_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let sensor = Sensor::start_with(command, folder.path(), "", &[]);
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let hears = || {
        let mut buffer = [0; 4096];
        let n = manager.recv(&mut buffer).expect("a word within a minute");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    while !hears().contains("WATCHDOG=1") {}
    sensor.signal("STOP");
    wait_stopped(&sensor);
    // what was said before is read; who stands still says nothing more
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 4096]).is_ok() {}
    assert!(manager.recv(&mut [0; 4096]).is_err());
    manager.set_nonblocking(false).unwrap();
    let mut load = Load::to(&sensor);
    load.send(50);
    sensor.signal("CONT");
    while !hears().contains("WATCHDOG=1") {}
    load.goes_on(&sensor);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
}

#[test]
fn a_control_socket_that_was_removed_is_not_missed_and_one_that_took_its_place_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[session]]\nname = \"a\"\nvni = 7\n";
    let sensor = Sensor::start(folder.path(), config, &[]);
    let socket = folder.path().join("out/.control.sock");
    fs::remove_file(&socket).unwrap();
    let out = mirrortap(&["reload", "--socket", socket.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(69));
    sensor.signal("HUP");
    wait_until("a reload by signal", || {
        sensor.status()["config"]["generation"] == 2
    });
    fs::write(&socket, "somebody else's").unwrap();
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &folder.path().join("out"));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "somebody else's");
}

#[test]
fn a_configuration_whose_folder_was_removed_stays_in_force() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = "[[session]]\nname = \"a\"\nvni = 7\n";
    let place = folder.path().join("config");
    fs::create_dir(&place).unwrap();
    // the output is beside the configuration, so it is linked out of what is going to be removed
    let output = elsewhere.path().join("captures");
    fs::create_dir(&output).unwrap();
    std::os::unix::fs::symlink(&output, place.join("out")).unwrap();
    let mut sensor = Sensor::start(&place, config, &[]);
    let mut load = Load::to(&sensor);
    load.goes_on(&sensor);
    fs::remove_file(place.join("mirrortap.toml")).unwrap();
    sensor.signal("HUP");
    wait_logged(
        &mut sensor,
        "The new configuration was refused; the old one stays in force.",
    );
    load.goes_on(&sensor);
    fs::write(place.join("mirrortap.toml"), "no = such = thing").unwrap();
    let socket = output.join(".control.sock");
    let out = mirrortap(&["reload", "--socket", socket.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(78));
    assert_eq!(sensor.status()["config"]["generation"], 1);
    assert_eq!(sensor.status()["config"]["reloads_refused"], 2);
    load.goes_on(&sensor);
    let ledger = sensor.stop();
    load.assert_whole(&ledger, &output);
}
