//! Live sensors over loopback.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use mirrortap::generator::{Generator, Options, Pace};

use crate::common::{Sensor, wait_until};
use crate::support::{
    ENI, PEER, assert_conserved, by_flow, lines, log_of, of, records, sum, udp, vxlan,
};

/// Sends packets of flow `port`, and waits until the sensor has counted them.
pub(crate) fn send(sensor: &Sensor, port: u16, count: u64) {
    let before = received(sensor);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = vxlan(7, &udp(ENI, PEER, (port, 443), 50));
    for _ in 0..count {
        socket
            .send_to(&datagram, ("127.0.0.1", sensor.udp))
            .unwrap();
    }
    wait_until("the packets arrive", || received(sensor) >= before + count);
}

fn received(sensor: &Sensor) -> u64 {
    sensor.status()["ledger"]["received"].as_u64().unwrap()
}

/// A number of the flow log `default`.
pub(crate) fn number(sensor: &Sensor, key: &str) -> u64 {
    of(&sensor.status()["flow_logs"]["default"], key)
}

fn config(folder: &Path, more: &str) -> String {
    format!(
        "[[flow_log]]\ndirectory = '{}'\n{more}",
        folder.join("flows").display()
    )
}

#[test]
fn every_packet_that_workers_got_is_in_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let threads = "[threads]\nreceivers = 2\nworkers = 3\npin = false\n";
    let config = format!("{threads}{}", config(folder.path(), "interval = '1s'\n"));
    let sensor = Sensor::start(folder.path(), &config, &[]);
    let mut options = Options::new(SocketAddr::from(([127, 0, 0, 1], sensor.udp)));
    options.vnis = "1-5".parse().unwrap();
    options.count = Some(20_000);
    options.pace = Pace::Rate(10_000);
    let sent = Generator::new(options)
        .unwrap()
        .run(&AtomicBool::new(false))
        .unwrap();
    let ledger = sensor.stop();
    let arrived = ledger.number("received") + ledger.sum("kernel_dropped");
    assert_eq!(arrived, sent.sent);
    let records = assert_conserved(&ledger, "default", &folder.path().join("flows"));
    let before_workers = ledger.dropped("queue_full") + ledger.dropped("pool_empty");
    assert_eq!(
        sum(&records, "packets"),
        ledger.number("received") - before_workers
    );
}

#[test]
fn run_writes_a_flow_log_without_a_configuration_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    let more = ["--flow-logs", flows.to_str().unwrap()];
    let sensor = Sensor::start(folder.path(), "", &more);
    send(&sensor, 5_000, 30);
    let (_, metrics) = sensor.get("/metrics").unwrap();
    let shown = "\nmirrortap_flow_log_packets_total{flow_log=\"default\"} ";
    assert!(metrics.contains(shown), "{metrics}");
    let ledger = sensor.stop();
    let records = assert_conserved(&ledger, "default", &flows);
    assert_eq!((records.len(), sum(&records, "packets")), (1, 30));
    assert_eq!(sum(&records, "bytes"), 30 * 78);
}

#[test]
fn an_idle_sensor_closes_what_is_over_and_tells_of_silence() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "interval = '1s'\nnodata = true\n");
    let sensor = Sensor::start(folder.path(), &config, &[]);
    send(&sensor, 5_000, 3);
    wait_until("the flow is closed", || number(&sensor, "open") == 0);
    wait_until("silence is told", || number(&sensor, "nodata") >= 2);
    let ledger = sensor.stop();
    assert_conserved(&ledger, "default", &folder.path().join("flows"));
    let log = log_of(&ledger, "default");
    let all = lines(&folder.path().join("flows"));
    let silent = |status: &str| all.iter().filter(|r| r["log-status"] == status).count();
    assert_eq!(silent("NODATA") as u64, of(&log, "nodata"));
    assert_eq!(silent("SKIPDATA"), 0);
    assert!(all.iter().all(|r| r["start"] <= r["end"]), "{all:?}");
}

#[test]
fn a_flow_log_that_cannot_be_written_is_told_and_capture_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    let config = config(folder.path(), "interval = '1s'\n");
    // the sandbox lets it into its own folder only, not into one that takes its place
    let mut sensor = Sensor::start(folder.path(), &config, &["--no-sandbox"]);
    // a file where its folder was: nothing can be made below it
    std::fs::remove_dir_all(&flows).unwrap();
    std::fs::write(&flows, "").unwrap();
    send(&sensor, 5_000, 3);
    wait_until("a record is lost", || number(&sensor, "records_lost") > 0);
    let trouble = sensor.status()["flow_logs"]["default"]["trouble"].clone();
    assert!(trouble.as_str().unwrap().contains("flow log"), "{trouble}");
    sensor.wait_logged("Something went wrong with a file of a flow log.");
    assert_eq!(sensor.get("/healthz").unwrap().0, 200);
    // once there is a folder again it is written to
    std::fs::remove_file(&flows).unwrap();
    std::fs::create_dir(&flows).unwrap();
    send(&sensor, 5_001, 4);
    let ledger = sensor.stop();
    assert_eq!(ledger.number("written"), 7);
    let mended = records(&flows);
    assert!(
        by_flow(&mended).keys().any(|flow| flow.contains(" 5001 ")),
        "{mended:?}"
    );
    assert!(lines(&flows).iter().any(|r| r["log-status"] == "SKIPDATA"));
}
