//! With the real shipping process and a real S3 interface on loopback, behind a door that can be shut.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mirrortap::spool::manifest::digest_bytes;
use serde_json::Value;

use crate::aws_support::{Client, Moto};
use crate::common::Sensor;
use crate::disk_support::deliver;
use crate::scene::{SMALL, Scene, kill, number, ship, shippers, wait_until};

/// A way to a server that can be shut: then who comes is sent away.
struct Door {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (open, over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (is_open, is_over) = (Arc::clone(&open), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                if is_open.load(Ordering::Relaxed) {
                    std::thread::spawn(move || through(stream, port));
                }
            }
        });
        Self {
            address,
            open,
            over,
            thread: Some(thread),
        }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn set(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn through(near: TcpStream, port: u16) -> io::Result<()> {
    let far = TcpStream::connect(("127.0.0.1", port))?;
    let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Both)
    });
    let (mut from, mut to) = (far, near);
    let _ = io::copy(&mut from, &mut to);
    to.shutdown(Shutdown::Both)
}

/// The objects of the bucket, by their key without the prefix of all.
fn objects(client: &Client) -> BTreeMap<String, Vec<u8>> {
    let keys = client.keys("evidence").into_keys();
    let below = |key: &str| key.strip_prefix("sensor-1/").unwrap().to_owned();
    keys.map(|key| (below(&key), client.get("evidence", &key)))
        .collect()
}

/// What the manifest and the server's log say of a file.
fn told_of(scene: &Scene, moto: &Moto, name: &str) -> String {
    let manifest = std::fs::read_to_string(scene.out().join("manifest.jsonl")).unwrap();
    let log = moto.log();
    let lines = manifest.lines().chain(log.lines());
    let lines: Vec<_> = lines.filter(|line| line.contains(name)).collect();
    lines.join("\n")
}

/// Whether each file that the manifest lists is an object as it was, with its line beside it, and nothing else is there.
fn check_bucket(scene: &Scene, moto: &Moto, client: &Client) {
    let mut objects = objects(client);
    let kinds = ["published", "recovered", "found"].into_iter();
    let lines: Vec<Value> = kinds.flat_map(|kind| scene.lines(kind)).collect();
    assert!(lines.len() > 5, "{}", lines.len());
    for line in lines {
        let name = line["name"].as_str().unwrap();
        let object = objects.remove(name);
        let object =
            object.unwrap_or_else(|| panic!("{name} is missing: {}", told_of(scene, moto, name)));
        assert_eq!(line["sha256"], digest_bytes(&object).to_string(), "{name}");
        let told = objects.remove(&format!("{name}.json"));
        let told: Value = serde_json::from_slice(&told.unwrap()).unwrap();
        assert_eq!(told, line);
    }
    assert!(objects.is_empty(), "{:?}", objects.keys());
}

/// Files that wait in both queues.
fn pending(sensor: &Sensor) -> u64 {
    let status = sensor.status();
    let queues = status["ship"]["queues"].as_object().unwrap().clone();
    assert_eq!(queues.len(), 2, "captures and the flow log");
    let files = queues
        .values()
        .map(|q| q["pending_files"].as_u64().unwrap());
    files.sum()
}

fn check_flow_logs(client: &Client) {
    let logs = client.keys("flows");
    let begins = "AWSLogs/000000000000/vpcflowlogs/local/";
    assert!(
        !logs.is_empty() && logs.keys().all(|key| key.starts_with(begins)),
        "{logs:?}"
    );
}

/// An outage: capture goes on, and it is told; then whoever ships is killed, and another one does.
fn check_outage(scene: &Scene, sensor: &Sensor) {
    deliver(sensor, "1", 300);
    wait_until("files that wait", || scene.waiting().len() >= 3);
    wait_until("the trouble to be told", || {
        let status = sensor.status();
        status["ship"]["queues"]["captures"]["deliver_logs_status"] == "FAILED"
    });
    assert_eq!(sensor.get("/healthz").unwrap().0, 200);
    let (_, metrics) = sensor.get("/metrics").unwrap();
    assert!(metrics.contains("mirrortap_ship_in_trouble{queue=\"captures\"} 1"));
    let worker = *shippers(sensor).last().unwrap();
    kill(worker);
    wait_until("another worker", || {
        let now = shippers(sensor);
        now.len() == 2 && !now.contains(&worker)
    });
}

#[test]
fn after_an_outage_with_killed_processes_every_file_has_arrived_as_it_was_and_none_is_left_here() {
    let Some(moto) = Moto::start() else { return };
    let client = moto.client();
    client.make_bucket("evidence");
    client.make_bucket("flows");
    let door = Door::before(moto.port());
    let scene = Scene::new();
    let config = format!(
        "{SMALL}{}[[flow_log]]\nname = 'vpc'\ninterval = '1s'\ndirectory = '{}'\n[flow_log.s3]\nbucket = 'flows'\nendpoint = '{}'\n",
        ship(&door.endpoint(), "delete_after_ship = true"),
        scene.folder.path().join("flows").display(),
        door.endpoint()
    );

    let mut sensor = scene.start(&config);
    check_outage(&scene, &sensor);
    door.set(true);
    wait_until("a file to arrive", || !scene.names("shipped").is_empty());

    // the sensor is killed, perhaps in the middle of it, and its processes follow
    let others = shippers(&sensor);
    sensor.child.kill().unwrap();
    sensor.child.wait().unwrap();
    wait_until("its processes to end", || {
        let there = |pid: &u32| Path::new(&format!("/proc/{pid}/exe")).exists();
        !others.iter().any(there)
    });
    let sensor = scene.start(&config);
    deliver(&sensor, "1", 300);
    wait_until("all to arrive", || {
        number(&sensor, "pending_files") == 0
            && scene.published().is_empty()
            && scene.lines("shipped").len() > 5
    });
    assert!(number(&sensor, "shipped_files") > 0);
    assert_eq!(number(&sensor, "given_up_files"), 0);
    // the last file is published at the end, and shipped before it or at the next start
    sensor.stop();
    let sensor = scene.start(&config);
    wait_until("the last to arrive", || {
        scene.published().is_empty() && scene.done().is_empty() && scene.waiting().is_empty()
    });
    wait_until("descriptions and flow logs to arrive", || {
        pending(&sensor) == 0
    });
    sensor.stop();
    check_flow_logs(&client);
    check_bucket(&scene, &moto, &client);
    scene.verify();
}
