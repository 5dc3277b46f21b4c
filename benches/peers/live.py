#!/usr/bin/env python3
"""The sensor against dumpcap, tcpdump and netsniff-ng: the same traffic, one after the other.

Two network namespaces of the run's own are joined by a veth pair. The generator (generate.py) has core 0. Core 1 has all
that receives: the kernel's receive work (RPS), and the program under test with all its threads. So 1e9 / (highest lossless
rate) is what a packet costs, all in. The peers read a kernel VXLAN device, which takes the wrapping off for them.

For each program: processor time for each packet at fixed rates, and the highest rate without loss (at most 0.1 % lost),
found by bisection. Programs take turns, round by round; a round's best counts. Loss is exact: packets in the files that were
written, and for the sensor its ledger too, which has to close.

    sudo benches/peers/live.py                                  all of it, about ten minutes
    sudo benches/peers/live.py --programs packet,dumpcap+ --sizes 64 --rounds 1
    sudo benches/peers/live.py --smoke                          one short trial of each, to see that it works

Names: udp, packet, xdp are the sensor with that source; a + has buffers of 64 MiB where the program's own are smaller.
With xdp in native mode the receive work of a veth is done where the other end sends: it is not all in, and says so.

Needs root, two cores, iproute2, ethtool, Linux 5.18 or newer. Installs nothing; a peer that is missing is named and left
out. Two kernel settings (net.core.netdev_max_backlog, net.core.rmem_max) are set and put back. Python's standard library only."""

import argparse
import atexit
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from common import HERE, Children, have, packets, program, settled, sh

PEERS = {
    "tcpdump": "tcpdump -q -n -i vx0 -Z root -C 128 -w {out}/o.pcap",
    "tcpdump+": "tcpdump -q -n -i vx0 -Z root -B 65536 -C 128 -w {out}/o.pcap",
    "dumpcap": "dumpcap -q -i vx0 -b filesize:131072 -w {out}/o.pcapng",
    "dumpcap+": "dumpcap -q -i vx0 -B 64 -b filesize:131072 -w {out}/o.pcapng",
    "netsniff-ng+": "netsniff-ng --in vx0 --out {out}/ --interval 128MiB --ring-size 64MiB --silent --no-promisc --notouch-irq",
}
OURS = ["udp", "packet", "xdp"]
# where each source counts what the kernel lost: tells which one it was
PLACES = {"udp": "socket", "packet": "ring", "xdp": "xdp_rx_full"}
SENDER, SENSOR = "02:00:00:00:63:01", "02:00:00:00:63:02"
SETTINGS = {"net.core.netdev_max_backlog": "10000", "net.core.rmem_max": "268435456"}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrortap", help="the program [target/release/mirrortap]")
    parser.add_argument("--programs", default="udp,packet,xdp,dumpcap,dumpcap+,tcpdump+,netsniff-ng+")
    parser.add_argument("--sizes", default="imix", help="imix, or bytes of the inner frames; several with commas")
    parser.add_argument("--rates", default="50000,200000", help="fixed rates, packets a second")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a trial")
    parser.add_argument("--highest", type=float, default=1.6e6)
    parser.add_argument("--lowest", type=float, default=20e3)
    parser.add_argument("--burst", type=int, default=16, help="packets back to back, as a NIC hands them over")
    parser.add_argument("--budget", type=float, default=900, help="seconds after which no trial is begun")
    parser.add_argument("--output", default="/dev/shm", help="where a folder for capture files is made")
    parser.add_argument("--config", help="configuration of the sensor")
    parser.add_argument("--json", help="file for all trials")
    parser.add_argument("--smoke", action="store_true", help="one short trial of each program")
    return parser.parse_args()


class Bench:
    def __init__(self, a):
        self.a, self.begun, self.children, self.saved = a, time.monotonic(), Children(), {}
        self.mirrortap = program(a.mirrortap)
        self.g, self.s = f"mtg{os.getpid()}", f"mts{os.getpid()}"
        self.out = tempfile.mkdtemp(prefix="mirrortap-peers-", dir=a.output)
        os.chmod(self.out, 0o755)
        self.device = None
        atexit.register(self.clean)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(1))

    def clean(self):
        self.children.end_all()
        for name in (self.g, self.s):
            sh("ip", "netns", "del", name, check=False)
        for key, value in self.saved.items():
            sh("sysctl", "-qw", f"{key}={value}", check=False)
        shutil.rmtree(self.out, ignore_errors=True)

    def left(self):
        return self.a.budget - (time.monotonic() - self.begun)

    def inside(self, *words):
        return ["ip", "netns", "exec", self.s, *words]

    def network(self):
        for key, value in SETTINGS.items():
            self.saved[key] = sh("sysctl", "-n", key).strip()
            sh("sysctl", "-qw", f"{key}={value}")
        for name in (self.g, self.s):
            sh("ip", "netns", "add", name)
            sh("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
        sh(*f"ip link add g0 netns {self.g} address {SENDER} mtu 9001 type veth peer name s0 netns {self.s} "
           f"address {SENSOR} mtu 3498".split())
        for name, device, own, other, mac in ((self.g, "g0", 1, 2, SENSOR), (self.s, "s0", 2, 1, SENDER)):
            sh("ip", "-n", name, "addr", "add", f"10.99.0.{own}/24", "dev", device)
            sh("ip", "-n", name, "link", "set", device, "up")
            sh(*f"ip -n {name} neigh replace 10.99.0.{other} lladdr {mac} dev {device} nud permanent".split())
        # GRO makes the veth take frames from XDP; RPS puts the receive work on core 1
        sh(*self.inside("ethtool", "-K", "s0", "gro", "on"))
        sh(*self.inside("sh", "-c", "echo 2 > /sys/class/net/s0/queues/rx-0/rps_cpus"))

    def vxlan(self, wanted):
        """The kernel's VXLAN device, for the peers; the sensor needs the port."""
        if wanted == self.device:
            return
        self.device = wanted
        sh(*f"ip -n {self.s} link del vx0".split(), check=False)
        if wanted:
            sh(*f"ip -n {self.s} link add vx0 type vxlan external dstport 4789".split())
            sh(*f"ip -n {self.s} link set vx0 up".split())

    def templates(self, size):
        path = os.path.join(self.out, f"templates-{size}.pcap")
        if not os.path.exists(path):
            sh(self.mirrortap, *f"send --to 10.99.0.2 --source 10.99.0.1 --vni 1-8 --flows 4096 --count 4096 --size {size} "
               f"--write {path}".split())
        return path

    def command(self, name, out):
        if name not in OURS:
            return shlex.split(PEERS[name].format(out=out))
        words = [self.mirrortap, "run", "--listen", "0.0.0.0:4789", "--output", out, "--source", name, "--control", "off"]
        if name != "udp":
            words += ["--interface", "s0"]
        if self.a.config:
            words += ["--config", self.a.config]
        return words + ["--json"]

    def trial(self, name, size, rate, seconds):
        """One program under one rate."""
        templates = self.templates(size)
        self.vxlan(name not in OURS)
        out = os.path.join(self.out, "trial")
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        os.chmod(out, 0o777)
        with open(os.path.join(self.out, "stdout"), "w+") as told, open(os.path.join(self.out, "stderr"), "w+") as log:
            # exec, so that the child is the program itself
            words = self.inside("taskset", "-c", "1", *self.command(name, out))
            child = self.children.start(words, stdout=told, stderr=log)
            time.sleep(0.8)
            if child.poll() is not None:
                log.seek(0)
                self.children.running.remove(child)
                raise RuntimeError(f"{name} has ended: {log.read().strip()[-300:]}")
            started, busy = spent(child.pid), core(1)
            sent = self.send(templates, rate, int(rate * seconds))
            busy = core(1) - busy
            settled(out)
            memory = resident(child.pid)
            used = self.children.end(child)
            told.seek(0)
            text = told.read()
        got = packets(out)
        shutil.rmtree(out, ignore_errors=True)
        result = {"name": name, "size": size, "rate": sent["pps"], "sent": sent["sent"], "got": got, "rss": memory,
                  "process_us": (used.ru_utime + used.ru_stime - started) * 1e6 / max(got, 1), "core_us": busy * 1e6 / max(got, 1)}
        if name in OURS:
            check(text, got, sent["sent"], result)
        return result

    def send(self, templates, rate, count):
        words = ["ip", "netns", "exec", self.g, "taskset", "-c", "0", sys.executable, os.path.join(HERE, "generate.py"),
                 "--capture", templates, "--interface", "g0", "--to-mac", SENSOR, "--rate", str(rate),
                 "--count", str(count), "--burst", str(self.a.burst)]
        child = self.children.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        text, log = child.communicate(timeout=60)
        self.children.running.remove(child)
        if child.returncode:
            raise RuntimeError(f"the generator failed: {log.strip()[-500:]}")
        return json.loads(text)

    def search(self, name, size, known):
        """The highest rate at which no more than 0.1 % are lost."""
        low, high, best = self.a.lowest, self.a.highest, 0
        if known:
            low, high = known * 0.7, min(known * 1.5, self.a.highest)
        while high / low > 1.06 and self.left() > 10:
            rate = (low * high) ** 0.5
            trial = self.trial(name, size, rate, self.a.seconds)
            if lossy(trial) and self.left() > 10:
                # once more: other programs on the machine make losses too
                trial = self.trial(name, size, rate, self.a.seconds)
            # a generator that can't keep up is the limit then
            if not lossy(trial):
                best = max(best, min(rate, trial["rate"]))
                low = rate
                if trial["rate"] < rate * 0.93:
                    break
            else:
                high = rate
        return best


def lossy(trial):
    return trial["sent"] - trial["got"] > trial["sent"] / 1000


def check(text, got, sent, result):
    """The sensor's own account: it closes, and agrees with the files."""
    ledger = json.loads(text.strip().splitlines()[-1])
    lost = sum(ledger["dropped"].values()) + sum(ledger["filtered"].values())
    if ledger["received"] != ledger["written"] + lost or ledger["written"] != got:
        raise RuntimeError(f"the ledger does not agree with {got} packets in files: {ledger}")
    if PLACES[result["name"]] not in ledger["kernel_dropped"]:
        raise RuntimeError(f"it ran with another source than {result['name']}: {ledger['kernel_dropped']}")
    result["kernel_dropped"] = sum(ledger["kernel_dropped"].values())
    result["unseen"] = sent - ledger["received"] - result["kernel_dropped"]


def core(number):
    """Seconds that a core was busy, interrupts included; sampled by the kernel at each tick."""
    with open("/proc/stat") as stat:
        fields = next(line for line in stat if line.startswith(f"cpu{number} ")).split()[1:]
    busy = sum(int(fields[i]) for i in (0, 1, 2, 5, 6))
    return busy / os.sysconf("SC_CLK_TCK")


def spent(pid):
    """Seconds of processor time of a process so far: what starting has cost."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def resident(pid):
    """Peak resident memory in MiB."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return 0.0


def measure(bench, names, sizes, rates):
    rows = {(n, s): {"max": [], "fixed": {r: [] for r in rates}} for s in sizes for n in names}
    trials = []
    for size in sizes:
        for _ in range(bench.a.rounds):
            for name in names:
                row = rows[(name, size)]
                try:
                    for rate in rates:
                        if bench.left() > 10:
                            trial = bench.trial(name, size, rate, bench.a.seconds)
                            row["fixed"][rate].append(trial)
                            trials.append(trial)
                    if not bench.a.smoke and bench.left() > 15:
                        row["max"].append(bench.search(name, size, max(row["max"], default=0)))
                except RuntimeError as error:
                    row["error"] = str(error).splitlines()[-1]
                    print(f"# {name}: {error}", file=sys.stderr, flush=True)
    return rows, trials


def show(bench, rows, names, sizes, rates):
    print(f"# {time.strftime('%F %T')}, {os.uname().release}, {bench.a.seconds} s a trial, {bench.a.rounds} rounds, "
          f"to {bench.a.output}, {time.monotonic() - bench.begun:.0f} s")
    head = ["size", "program", "highest lossless pps", "all-in us"]
    for rate in rates:
        head += [f"lost % at {rate / 1000:.0f}k", "process us", "core 1 us"]
    print("| " + " | ".join(head + ["RSS MiB"]) + " |\n|" + "---|" * (len(head) + 1))
    for size in sizes:
        for name in names:
            row = rows[(name, size)]
            top = max(row["max"], default=0)
            rounds = "/".join(f"{r / 1000:.0f}k" for r in row["max"])
            cells = [size, name, f"{top:.0f} ({rounds})" if top else "-", f"{1e6 / top:.2f}" if top else "-"]
            for rate in rates:
                cells += fixed(row["fixed"][rate])
            memory = [t["rss"] for r in rates for t in row["fixed"][r]]
            cells.append(f"{max(memory):.0f}" if memory else "-")
            print("| " + " | ".join(cells) + " |" + (f" {row['error']}" if "error" in row else ""))
    for size in sizes:
        ratios(rows, names, size, rates)


def fixed(trials):
    if not trials:
        return ["-"] * 3
    lost = min(100 * (1 - t["got"] / t["sent"]) for t in trials)
    return [f"{lost:.2f}"] + [f"{min(t[k] for t in trials):.2f}" for k in ("process_us", "core_us")]


def ratios(rows, names, size, rates):
    """Ours over theirs: highest rate, and processor time of the process."""
    ours, peers = [n for n in names if n in OURS], [n for n in names if n not in OURS]
    print(f"\n## {size}: ours over the peer's\n| ours | peer | highest rate | "
          + " | ".join(f"process us at {r / 1000:.0f}k" for r in rates) + " |\n|" + "---|" * (3 + len(rates)))
    for mine in ours:
        for peer in peers:
            a, b = rows[(mine, size)], rows[(peer, size)]
            cells = [mine, peer, quotient(max(a["max"], default=0), max(b["max"], default=0))]
            for rate in rates:
                least = [min((t["process_us"] for t in r["fixed"][rate]), default=0) for r in (a, b)]
                cells.append(quotient(*least))
            print("| " + " | ".join(cells) + " |")


def quotient(a, b):
    return f"{a / b:.2f}" if a and b else "-"


def main():
    a = options()
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        raise SystemExit("live.py makes network namespaces and pins two cores: run it as root, on two cores or more")
    needed = ["ip", "ethtool", "taskset", "sysctl"]
    missing = [n for n in needed if not shutil.which(n)]
    if missing:
        raise SystemExit(f"live.py needs {', '.join(missing)} (packages iproute2, ethtool, util-linux, procps)")
    asked = a.programs.split(",")
    unknown = [n for n in asked if n not in PEERS and n not in OURS]
    if unknown:
        raise SystemExit(f"no such program: {', '.join(unknown)}; there are {', '.join(OURS + list(PEERS))}")
    there = have(sorted({n.rstrip("+") for n in asked if n in PEERS}))
    names = [n for n in asked if n in OURS or n.rstrip("+") in there]
    sizes, rates = a.sizes.split(","), [int(float(r)) for r in a.rates.split(",") if r]
    if a.smoke:
        a.rounds, a.seconds, rates = 1, 0.3, [20000]
    bench = Bench(a)
    bench.network()
    rows, trials = measure(bench, names, sizes, rates)
    show(bench, rows, names, sizes, rates)
    if a.json:
        with open(a.json, "w") as file:
            json.dump({"max": {f"{n} {s}": r["max"] for (n, s), r in rows.items()}, "trials": trials}, file)
    if a.smoke and any("error" in r for (n, _), r in rows.items() if n == "udp"):
        sys.exit(1)


if __name__ == "__main__":
    main()
