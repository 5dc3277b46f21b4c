//! What is told of packets and records that were lost.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use mirrortap::filter::Direction;
use mirrortap::flowlog::{
    self, Ask, Counted, Eni, Losses, Lost, Meter, Running, Setup, Sight, Summary,
};
use mirrortap::headers;
use mirrortap::packet::{Peer, Vni};
use mirrortap::time::{self, Timestamp};

use crate::common::{Sensor, wait_until};
use crate::support::{ENI, PEER, assert_conserved, lines, log_of, of, records, sum, udp, vxlan};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);

/// A flow log of one worker, without a sensor around it.
struct Bare {
    running: Running,
    meter: Option<Meter>,
    folder: tempfile::TempDir,
}

impl Bare {
    fn start(max_flows: u32, ask: Ask) -> Self {
        Self::start_with(max_flows, "60s", ask)
    }

    fn start_with(max_flows: u32, interval: &str, ask: Ask) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("interval = '{interval}'\nmax_flows = {max_flows}");
        let config = flowlog::Config {
            directory: folder.path().join("flows"),
            ..toml::from_str(&text).unwrap()
        };
        let setup = Setup::build(&[config], Path::new(".")).unwrap();
        setup.open().unwrap();
        let (running, mut meters) = flowlog::start(setup, 1, true, ask).unwrap();
        Self {
            running,
            meter: meters.pop(),
            folder,
        }
    }

    fn meter(&mut self) -> &mut Meter {
        self.meter.as_mut().unwrap()
    }

    fn place(&mut self, source: Ipv4Addr) -> Counted {
        let session: Arc<str> = "s".into();
        let peer = Peer::new(0, source.into(), Vni::new(7), None, Arc::clone(&session));
        self.meter().place(&peer, &session)
    }

    /// A packet of flow `number` of an interface.
    fn packet(&mut self, counted: Counted, number: u32, time: Timestamp) {
        let [_, _, high, low] = number.to_be_bytes();
        let ports = (u16::from_be_bytes([high, low]), (number >> 16) as u16);
        let frame = udp(ENI, PEER, ports, 10);
        let outline = headers::outline(&frame);
        self.meter().add(
            counted,
            &Sight {
                outline: &outline,
                frame: &frame,
                wire_len: 52,
                direction: Direction::Egress,
                kept: true,
                time,
            },
        );
    }

    /// Ends it as a sensor does, and gives its numbers.
    fn end(&mut self) -> Summary {
        if let Some(meter) = self.meter.take() {
            meter.finish();
        }
        let end = time::monotonic().plus(Duration::from_secs(60));
        self.running.finish(end);
        let summary = self.running.read()["default"].clone();
        assert!(summary.is_closed(), "{summary:?}");
        let records = records(&self.folder.path().join("flows"));
        assert_eq!(records.len() as u64, summary.records);
        assert_eq!(sum(&records, "packets"), summary.recorded);
        summary
    }

    /// The lines of a status.
    fn told(&self, status: &str) -> usize {
        let all = lines(&self.folder.path().join("flows"));
        all.iter().filter(|r| r["log-status"] == status).count()
    }
}

fn lost(peer: u32, source: Ipv4Addr, packets: u64) -> Lost {
    let eni = Eni {
        source: IpAddr::V4(source),
        endpoint: None,
    };
    Lost { peer, eni, packets }
}

/// Answers with nothing at first, then always with these.
fn once_met(losses: Losses, met: mpsc::Receiver<()>) -> Ask {
    let mut now = false;
    Box::new(move || {
        now |= met.try_recv().is_ok();
        match now {
            true => losses.clone(),
            false => Losses::default(),
        }
    })
}

/// Two interfaces with traffic; SKIPDATA lines after these losses.
fn skipped_after(losses: Losses) -> u64 {
    let (tell, met) = mpsc::channel();
    let mut log = Bare::start(1_000, once_met(losses, met));
    let now = time::now();
    for source in [ENI, OTHER] {
        let counted = log.place(source);
        log.packet(counted, 1, now);
    }
    log.meter().tick(now, true);
    tell.send(()).unwrap();
    let summary = log.end();
    assert_eq!(log.told("SKIPDATA") as u64, summary.skipdata);
    assert_eq!((summary.records, summary.records_lost), (2, 0));
    summary.skipdata
}

#[test]
fn a_loss_of_one_interface_is_told_of_it_and_a_loss_of_any_of_all() {
    // an interval may end between the loss and the end, so that two are touched
    let of_one = skipped_after(Losses {
        of_any: 0,
        of_one: vec![lost(1, ENI, 3), lost(2, PEER, 5)],
    });
    assert!((1..=2).contains(&of_one), "{of_one}");
    let of_any = skipped_after(Losses {
        of_any: 1,
        of_one: Vec::new(),
    });
    assert!((2..=4).contains(&of_any), "{of_any}");
    assert_eq!(skipped_after(Losses::default()), 0);
}

#[test]
fn records_that_find_no_room_are_counted_and_told_and_nobody_waits() {
    // the thread that writes is held up, before anything comes, until all has come
    let (held, is_held) = mpsc::channel::<()>();
    let (go_on, wait) = mpsc::channel::<()>();
    let ask: Ask = Box::new(move || {
        let _ = held.send(());
        let _ = wait.recv();
        Losses::default()
    });
    let mut log = Bare::start(1, ask);
    is_held.recv_timeout(Duration::from_secs(60)).unwrap();
    let counted = log.place(ENI);
    let now = time::now();
    let many = 10_000;
    for number in 0..many {
        log.packet(counted, number, now);
    }
    log.meter().tick(now, false);
    drop(go_on);
    let summary = log.end();
    assert!(summary.records_lost > 0, "{summary:?}");
    assert_eq!(summary.records_lost, summary.packets_lost);
    assert_eq!(summary.packets, u64::from(many));
    assert!(log.told("SKIPDATA") >= 1);
}

#[test]
fn a_worker_that_is_no_more_leaves_no_packet_without_a_counter() {
    let mut log = Bare::start(1_000, Box::new(Losses::default));
    let counted = log.place(ENI);
    let now = time::now();
    for number in 0..10 {
        log.packet(counted, number % 5, now);
    }
    log.meter().tick(now, false);
    // as a panic would do it
    drop(log.meter.take());
    let summary = log.end();
    assert_eq!(
        (summary.packets, summary.packets_lost, summary.records_lost),
        (10, 10, 5)
    );
    assert!(log.told("SKIPDATA") >= 1);
}

#[test]
fn what_a_stuck_worker_has_open_at_the_deadline_is_counted_as_lost_and_told() {
    let mut log = Bare::start(1_000, Box::new(Losses::default));
    let counted = log.place(ENI);
    let now = time::now();
    for number in 0..10 {
        log.packet(counted, number % 5, now);
    }
    log.meter().tick(now, false);
    // it is not finished before the deadline, but after it
    let late = log.meter.take();
    let end = time::monotonic().plus(Duration::from_secs(4));
    log.running.finish(|| end);
    drop(late);
    let summary = log.running.read()["default"].clone();
    assert!(summary.is_closed(), "{summary:?}");
    assert_eq!((summary.packets, summary.packets_lost), (10, 10));
    // on a slow machine the line that tells of it may be in no file by then, and is lost too
    assert!(summary.records_lost >= 5, "{summary:?}");
    assert_eq!((summary.open, summary.recorded), (0, 0));
}

#[test]
fn an_old_loss_of_one_session_of_an_interface_is_told_once_whatever_another_one_has_lost() {
    let (tell, met) = mpsc::channel();
    let losses = Losses {
        of_any: 0,
        of_one: vec![lost(1, ENI, 10), lost(2, ENI, 3)],
    };
    let (asked, is_asked) = mpsc::channel();
    let mut answer = once_met(losses, met);
    let ask: Ask = Box::new(move || {
        let losses = answer();
        let _ = asked.send(losses.of_one.len());
        losses
    });
    let mut log = Bare::start_with(1_000, "1s", ask);
    let counted = log.place(ENI);
    log.packet(counted, 1, time::now());
    log.meter().tick(time::now(), true);
    tell.send(()).unwrap();
    // it asks five times in an interval: the next ones are over
    for _ in 0..25 {
        is_asked.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    let skipped = log.end().skipdata;
    assert!((1..=2).contains(&skipped), "{skipped}");
}

#[test]
fn when_the_thread_that_writes_is_no_more_workers_go_on_and_its_records_are_counted() {
    let mut log = Bare::start(1_000, Box::new(|| panic!("no answer")));
    let trouble = |log: &Bare| log.running.read()["default"].trouble.clone();
    wait_until("its end is told", || trouble(&log).is_some());
    let counted = log.place(ENI);
    let now = time::now();
    for number in 0..10 {
        log.packet(counted, number, now);
    }
    log.meter().tick(now, true);
    let summary = log.end();
    assert!(trouble(&log).unwrap().contains("panicked: no answer"));
    assert_eq!((summary.packets, summary.packets_lost), (10, 10));
    assert_eq!((summary.records, summary.records_lost), (0, 10));
}

#[test]
fn what_the_kernel_lost_is_told_of_every_interface() {
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    let config = format!(
        "[source]\nkind = 'udp'\nreceive_buffer = '64KiB'\n[[flow_log]]\ndirectory = '{}'\ninterval = '1s'\n",
        flows.display()
    );
    let sensor = Sensor::start(folder.path(), &config, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = vxlan(7, &udp(ENI, PEER, (5_000, 443), 1_000));
    let send = || {
        socket
            .send_to(&datagram, ("127.0.0.1", sensor.udp))
            .unwrap()
    };
    send();
    wait_until("the interface is known", || {
        of(&sensor.status()["flow_logs"]["default"], "packets") == 1
    });
    sensor.signal("STOP");
    (0..3_000).for_each(|_| {
        send();
    });
    sensor.signal("CONT");
    wait_until("the loss is told", || {
        of(&sensor.status()["flow_logs"]["default"], "skipdata") > 0
    });
    let ledger = sensor.stop();
    assert!(ledger.sum("kernel_dropped") > 0, "{}", ledger.0);
    assert_conserved(&ledger, "default", &flows);
    let log = log_of(&ledger, "default");
    let told = lines(&flows);
    let skipped = told
        .iter()
        .filter(|r| r["log-status"] == "SKIPDATA")
        .count();
    assert_eq!(skipped as u64, of(&log, "skipdata"));
}
