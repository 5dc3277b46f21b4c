//! What each source does with less than it could use.

use crate::neighbours;
use crate::net_support::{DEVICE, Net, SENSOR};
use crate::scene::{Scene, send};

/// Root with CAP_NET_RAW alone.
const RAW_ALONE: [&str; 3] = [
    "setpriv",
    "--bounding-set=-all,+net_raw",
    "--inh-caps=-all,+net_raw",
];

#[test]
fn a_ring_without_the_ingress_drop_says_so_and_answers_nobody() {
    let Some(mut scene) = Scene::make("packet") else {
        return;
    };
    scene.through = RAW_ALONE.to_vec();
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let log = sensor.log();
    assert!(
        log.contains("Could not end mirrored packets behind the tap") && log.contains("CAP_BPF"),
        "{log}"
    );
    let mode = sensor.status()["source"]["mode"].to_string();
    assert!(mode.contains("refused by a socket"), "{mode}");
    drop(sensor);
    drop(net);
    neighbours::nobody_is_told_that_the_port_is_closed(scene);
}

/// A user without rights, and the three capabilities that the deployment page tells of.
const UNIT: [&str; 7] = [
    "setpriv",
    "--reuid=nobody",
    "--regid=nogroup",
    "--clear-groups",
    "--bounding-set=-all,+net_raw,+net_admin,+bpf",
    "--inh-caps=-all,+net_raw,+net_admin,+bpf",
    "--ambient-caps=+net_raw,+net_admin,+bpf",
];

#[test]
fn three_capabilities_are_enough_for_a_ring_with_the_ingress_drop() {
    let Some(mut scene) = Scene::make("packet") else {
        return;
    };
    scene.through = UNIT.to_vec();
    let net = scene.net();
    let sensor = scene.start(&net);
    let mode = sensor.status()["source"]["mode"].to_string();
    assert!(mode.contains("dropped behind the tap"), "{mode}");
}

#[test]
fn three_capabilities_and_locked_memory_are_enough_for_xdp_in_the_driver() {
    let Some(mut scene) = Scene::make("xdp") else {
        return;
    };
    // CAP_IPC_LOCK stands for the unit's LimitMEMLOCK, which a test can't always raise
    scene.through = vec![
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--bounding-set=-all,+net_raw,+net_admin,+bpf,+ipc_lock",
        "--inh-caps=-all,+net_raw,+net_admin,+bpf,+ipc_lock",
        "--ambient-caps=+net_raw,+net_admin,+bpf,+ipc_lock",
    ];
    let net = scene.net();
    let mut sensor = scene.start(&net);
    let mode = sensor.status()["source"]["mode"].to_string();
    assert!(mode.contains("native"), "{mode}");
    let sent = send(&net, SENSOR, "--vni 1 --count 300 --rate 3000");
    sensor.wait_received(sent);
    sensor.stop().is_whole(sent);
}

#[test]
fn xdp_without_its_privileges_names_them() {
    let Some(mut scene) = Scene::make("xdp") else {
        return;
    };
    scene.through = RAW_ALONE.to_vec();
    let net = scene.net();
    let said = refusal(&scene, &net);
    assert!(said.contains("CAP_BPF") && said.contains(DEVICE), "{said}");
}

#[test]
fn a_program_that_is_on_the_interface_already_is_told() {
    let Some(scene) = Scene::make("xdp") else {
        return;
    };
    let net = scene.net();
    let first = scene.start(&net);
    let mut second = Scene::make("xdp").unwrap();
    second.listen = vec!["[::]:4790".to_owned()];
    let said = refusal(&second, &net);
    assert!(said.contains("another XDP program"), "{said}");
    drop(first);
}

/// A kernel vxlan device on the sensor's host, on the tunnel port.
fn device(net: &Net) {
    let words = "ip link add vx0 type vxlan id 9 local 10.77.0.2 dstport 4789 dev mt1 nolearning";
    net.run("b", &words.split(' ').collect::<Vec<_>>());
    net.run("b", &["ip", "link", "set", "vx0", "up"]);
}

#[test]
fn a_ring_works_beside_a_kernel_vxlan_device() {
    let Some(scene) = Scene::make("packet") else {
        return;
    };
    let net = scene.net();
    device(&net);
    let mut sensor = scene.start(&net);
    let mode = sensor.status()["source"]["mode"].to_string();
    assert!(mode.contains("left to others"), "{mode}");
    let log = sensor.log();
    assert!(log.contains("gro off"), "what joins packets is told: {log}");
    let sent = send(&net, SENSOR, "--vni 9 --count 300 --rate 3000 --size 400");
    sensor.wait_received(sent);
    let received = net.run("b", &["cat", "/sys/class/net/vx0/statistics/rx_packets"]);
    let received: u64 = String::from_utf8_lossy(&received.stdout)
        .trim()
        .parse()
        .unwrap();
    assert!(received >= sent, "the device has them too: {received}");
    sensor.stop().is_whole(sent);
}

/// What a sensor says that does not start.
fn refusal(scene: &Scene, net: &Net) -> String {
    let mut sensor = scene.spawn(net);
    let output = sensor.end();
    assert!(!output.status.success(), "it started: {}", sensor.log());
    sensor.log()
}

#[test]
fn a_socket_beside_a_kernel_vxlan_device_is_refused_by_name() {
    let Some(scene) = Scene::make("udp") else {
        return;
    };
    let net = scene.net();
    device(&net);
    let said = refusal(&scene, &net);
    assert!(
        said.contains("port is in use") && said.contains("vxlan"),
        "{said}"
    );
}

#[test]
fn a_ring_without_its_privilege_names_it() {
    let Some(mut scene) = Scene::make("packet") else {
        return;
    };
    scene.through = vec!["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let net = scene.net();
    let said = refusal(&scene, &net);
    assert!(
        said.contains("CAP_NET_RAW") && said.contains(DEVICE),
        "{said}"
    );
}
