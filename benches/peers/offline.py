#!/usr/bin/env python3
"""`mirrortap replay` against editcap, tcpdump, tshark and cp: a capture of mirrored packets in, decapsulated packets out.

The file is made with `mirrortap send --write`. Every program is pinned to one core and reads and writes memory (a tmpfs);
programs take turns, and the best of the rounds counts. editcap -C 50 cuts the outer headers off without looking at them, tcpdump
and tshark only copy (they can't take VXLAN off), cp knows no packets: it is what reading and writing so many bytes costs.
The packets of replay and of editcap are compared byte by byte, in order.

    benches/peers/offline.py                         3 million packets, three rounds
    benches/peers/offline.py --packets 200000 --rounds 1

Needs memory for three times the file (1.3 GB for 3 million packets) and no privilege. Installs nothing; what is missing
is named and left out. Python's standard library only."""

import argparse
import hashlib
import glob
import os
import shutil
import struct
import tempfile
import time

from common import Children, have, packets, program, sh

PEERS = {
    "editcap": "editcap -F nsecpcap -L -C 50 {file} {out}/o.pcap",
    "tcpdump": "tcpdump -r {file} -w {out}/o.pcap",
    "tshark": "tshark -r {file} -w {out}/o.pcapng",
    "cp": "cp {file} {out}/o.pcap",
}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrortap", help="the program [target/release/mirrortap]")
    parser.add_argument("--packets", type=int, default=3_000_000)
    parser.add_argument("--size", default="imix")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=1 if (os.cpu_count() or 1) > 1 else 0)
    parser.add_argument("--without", default="", help="peers that are left out, with commas")
    parser.add_argument("--output", default="/dev/shm", help="where a folder for the files is made")
    return parser.parse_args()


def run(children, words, core, folder):
    """Seconds that passed, and seconds of processor time."""
    with open(os.path.join(folder, "log"), "w+") as log:
        begun = time.monotonic()
        child = children.start(["taskset", "-c", str(core), *words], stdout=log, stderr=log)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        children.running.remove(child)
        if child.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(words)}: {log.read()[-500:]}")
    return wall, used.ru_utime + used.ru_stime


def digest(path):
    """A hash over times, lengths and bytes of all packets of a little-endian pcap file."""
    data, total = memoryview(open(path, "rb").read()), hashlib.blake2b()
    scale = 1 if data[:4] == b"\x4d\x3c\xb2\xa1" else 1000
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, caplen, origlen = struct.unpack_from("<IIII", data, at)
        total.update(struct.pack("<QII", seconds * 10**9 + fraction * scale, caplen, origlen))
        total.update(data[at + 16:at + 16 + caplen])
        at += 16 + caplen
    return total.hexdigest()


def only(folder):
    found = [f for f in glob.glob(folder + "/**/*", recursive=True) if os.path.isfile(f)]
    files = [f for f in found if os.path.basename(f) != "manifest.jsonl"]
    if len(files) != 1:
        raise SystemExit(f"one file was expected in {folder}: {files}")
    return files[0]


def main():
    a = options()
    mirrortap = program(a.mirrortap)
    names = [n for n in have(list(PEERS)) if n not in a.without.split(",")]
    base, children = tempfile.mkdtemp(prefix="mirrortap-offline-", dir=a.output), Children()
    try:
        file, out = os.path.join(base, "in.pcap"), os.path.join(base, "out")
        sh(mirrortap, *f"send --to 10.99.0.2 --source 10.99.0.1 --vni 1 --flows 4096 --size {a.size} --count {a.packets} "
           f"--write {file}".split())
        config = os.path.join(base, "one-file.toml")
        with open(config, "w") as text:
            text.write('[capture]\nrotate_size = "1TiB"\n[[session]]\nname = "all"\n')
        commands = {"mirrortap": f"{mirrortap} replay {file} --config {config} --output {out}"}
        commands |= {n: PEERS[n].format(file=file, out=out) for n in names}
        times, digests = {n: [] for n in commands}, {}
        for number in range(a.rounds):
            for name, command in commands.items():
                shutil.rmtree(out, ignore_errors=True)
                os.makedirs(out)
                os.chmod(out, 0o777)
                times[name].append(run(children, command.split(), a.core, base))
                if number == 0:
                    count = packets(out)
                    if count != a.packets:
                        raise SystemExit(f"{name} wrote {count} packets of {a.packets}")
                    if name in ("mirrortap", "editcap"):
                        digests[name] = digest(only(out))
        show(a, os.path.getsize(file), times, digests)
    finally:
        children.end_all()
        shutil.rmtree(base, ignore_errors=True)


def show(a, size, times, digests):
    print(f"# {time.strftime('%F %T')}, {a.packets} packets, {size / 1e6:.0f} MB, {a.rounds} rounds, core {a.core}, {a.output}")
    best = {n: tuple(map(min, zip(*t))) for n, t in times.items()}
    ours = best["mirrortap"]
    print("| program | seconds (rounds) | CPU s | Mpps | time / ours | CPU / ours |\n|---|---|---|---|---|---|")
    for name, all_times in times.items():
        wall, cpu = best[name]
        rounds = "/".join(f"{t[0]:.2f}" for t in all_times)
        print(f"| {name} | {wall:.2f} ({rounds}) | {cpu:.2f} | {a.packets / wall / 1e6:.2f} | {wall / ours[0]:.2f} | {cpu / ours[1]:.2f} |")
    if len(digests) == 2:
        same = digests["mirrortap"] == digests["editcap"]
        print("# mirrortap and editcap wrote the same packets, byte by byte" if same else "# THE PACKETS DIFFER from editcap's")
        if not same:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
