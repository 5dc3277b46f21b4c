//! A kernel VXLAN device as a second sender: real traffic between two hosts, mirrored by `tc` into the device, must
//! come out of the sensor as tcpdump saw it on the mirrored interface. Needs root and Debian's iproute2, ethtool,
//! tcpdump, curl, ping, dnsmasq and dig. Everything happens in network namespaces that the test makes and removes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{PROGRAM, Packet, ledger, packets, tool};

/// Three hosts: a client, a server whose interface is mirrored, and the sensor.
struct Net {
    prefix: String,
}

impl Net {
    fn make() -> Self {
        let net = Self {
            prefix: format!("mtk{}", std::process::id()),
        };
        for host in ["client", "server", "sensor"] {
            run(tool("ip").args(["netns", "add", &net.name(host)]));
            net.ip(host, "link set lo up");
        }
        net.link(
            ["client", "c0", "10.9.1.1/24"],
            ["server", "s0", "10.9.1.2/24"],
            1500,
        );
        // room for the wrapping, as AWS has it
        net.link(
            ["server", "u0", "10.9.2.1/24"],
            ["sensor", "m0", "10.9.2.2/24"],
            9000,
        );
        net.ip("server", "link add vx0 type vxlan id 4242 local 10.9.2.1 remote 10.9.2.2 dstport 4789 dev u0 nolearning");
        // no neighbour discovery of its own on the mirror's device
        net.exec(
            "server",
            &["sysctl", "-qw", "net.ipv6.conf.vx0.disable_ipv6=1"],
        );
        net.ip("server", "link set vx0 up");
        net
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// Joins two hosts: each with its device and address.
    fn link(&self, a: [&str; 3], b: [&str; 3], mtu: u32) {
        let ([a, da, na], [b, db, nb]) = (a, b);
        let (ns_a, ns_b) = (self.name(a), self.name(b));
        run(tool("ip").args([
            "link", "add", da, "netns", &ns_a, "type", "veth", "peer", "name", db, "netns", &ns_b,
        ]));
        for (host, device, address) in [(a, da, na), (b, db, nb)] {
            // frames on the wire as they are sent: no super-packets, finished checksums
            let offloads = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
            self.exec(host, &[&["ethtool", "-K", device][..], &offloads].concat());
            self.ip(host, &format!("addr add {address} dev {device}"));
            self.ip(host, &format!("link set {device} mtu {mtu} up"));
        }
    }

    fn mirror(&self) {
        let ns = self.name("server");
        run(tool("tc").args(["-n", &ns, "qdisc", "add", "dev", "s0", "clsact"]));
        for way in ["ingress", "egress"] {
            let filter = format!(
                "-n {ns} filter add dev s0 {way} protocol all u32 match u32 0 0 action mirred egress mirror dev vx0"
            );
            run(tool("tc").args(filter.split(' ')));
        }
    }

    fn ip(&self, host: &str, words: &str) {
        run(tool("ip")
            .args(["-n", &self.name(host)])
            .args(words.split(' ')));
    }

    fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = tool("ip");
        command
            .args(["netns", "exec", &self.name(host)])
            .args(words);
        command
    }

    fn exec(&self, host: &str, words: &[&str]) {
        run(&mut self.command(host, words));
    }

    fn spawn(&self, host: &str, words: &[&str]) -> Child {
        let mut command = self.command(host, words);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in ["client", "server", "sensor"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(host)])
                .status();
        }
    }
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn end(child: Child, signal: &str) -> std::process::Output {
    // `ip netns exec` becomes the program itself, so the signal reaches it
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap()
            .success()
    );
    child.wait_with_output().unwrap()
}

/// A TCP download, ping, and DNS, between client and server.
fn real_traffic(net: &Net, folder: &Path) {
    let page = folder.join("www");
    std::fs::create_dir(&page).unwrap();
    let noise: Vec<u8> = (0..400_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(page.join("file.bin"), &noise).unwrap();
    let web = [
        "python3",
        "-m",
        "http.server",
        "8080",
        "--directory",
        page.to_str().unwrap(),
    ];
    let web = net.spawn("server", &web);
    let dns = [
        "dnsmasq",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--address=/mirror.test/192.0.2.7",
        "--pid-file=",
    ];
    let dns = net.spawn("server", &dns);
    std::thread::sleep(Duration::from_millis(1500));
    net.exec(
        "client",
        &["ping", "-c", "20", "-i", "0.02", "-s", "700", "10.9.1.2"],
    );
    let got = net
        .command("client", &["dig", "+short", "@10.9.1.2", "www.mirror.test"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&got.stdout).trim(),
        "192.0.2.7",
        "{got:?}"
    );
    let file = folder.join("got.bin");
    net.exec(
        "client",
        &[
            "curl",
            "-sS",
            "-o",
            file.to_str().unwrap(),
            "http://10.9.1.2:8080/file.bin",
        ],
    );
    assert_eq!(std::fs::read(file).unwrap(), noise);
    end(web, "-INT");
    // in the foreground dnsmasq takes SIGINT for something else
    end(dns, "-TERM");
}

fn counted(frames: impl Iterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut all = BTreeMap::new();
    frames.for_each(|f| *all.entry(f).or_insert(0) += 1);
    all
}

#[test]
fn a_kernel_vxlan_mirror_is_written_as_tcpdump_saw_it() {
    if !common::is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let net = Net::make();
    let out = folder.path().join("out");
    let sensor = net.spawn(
        "sensor",
        &[
            PROGRAM,
            "run",
            "--output",
            out.to_str().unwrap(),
            "--json",
            "--listen",
            "10.9.2.2:4789",
            "--control",
            "off",
        ],
    );
    let seen = folder.path().join("seen.pcap");
    let tcpdump = net.spawn(
        "server",
        &[
            "tcpdump",
            "-ni",
            "s0",
            "-U",
            // otherwise the kernel keeps the last second's packets to itself
            "--immediate-mode",
            "--time-stamp-precision=nano",
            "-w",
            seen.to_str().unwrap(),
        ],
    );
    std::thread::sleep(Duration::from_millis(1000));
    net.mirror();
    real_traffic(&net, folder.path());
    std::thread::sleep(Duration::from_millis(500));
    end(tcpdump, "-INT");
    let run = end(sensor, "-INT");
    let ledger = ledger(&run);
    assert!(ledger.sessions().contains_key("vni-4242"));
    compare(&ledger, &common::all_packets(&out), &packets(&seen));
}

fn compare(ledger: &common::Ledger, ours: &[Packet], theirs: &[Packet]) {
    assert!(
        theirs.len() > 100,
        "real traffic was seen: {} packets",
        theirs.len()
    );
    assert_eq!(ledger.number("written"), ours.len() as u64);
    let ours = counted(ours.iter().map(|p| p.data.clone()));
    let theirs = counted(theirs.iter().map(|p| p.data.clone()));
    // tcpdump ran before the mirror was on; nothing but neighbour discovery can have passed by then
    let by_then = |frame: &[u8]| frame.get(12..14) == Some(&[0x86, 0xdd]);
    let extra: Vec<_> = theirs
        .iter()
        .filter(|(f, n)| ours.get(*f) != Some(n))
        .collect();
    assert!(
        extra.iter().all(|(f, _)| by_then(f)),
        "seen by tcpdump and not written: {extra:02x?}"
    );
    let missing = ours.keys().filter(|f| !theirs.contains_key(*f)).count();
    assert_eq!(missing, 0, "written and not seen by tcpdump");
}
