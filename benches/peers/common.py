"""What the comparisons share: children that are ended, packets that are counted, the program under test."""

import glob
import mmap
import os
import shutil
import signal
import struct
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))


def program(path=None):
    """The sensor's own program."""
    path = path or os.path.join(PROJECT, "target/release/mirrortap")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is not there; run: cargo build --release --locked")
    return path


def have(names):
    """Which of these programs are installed; tells which are not."""
    found = [n for n in names if shutil.which(n)]
    missing = [n for n in names if n not in found]
    if missing:
        print(f"# not installed, left out: {', '.join(missing)}", flush=True)
    return found


def sh(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def packets(folder):
    """How many packets the capture files below a folder hold."""
    files = [f for f in glob.glob(folder + "/**/*", recursive=True) if os.path.isfile(f)]
    files += [f for f in glob.glob(folder + "/**/.*", recursive=True) if os.path.isfile(f)]
    return sum(packets_of(f) for f in files)


def packets_of(path):
    """Packets of a pcap or pcapng file in this machine's byte order; 0 for anything else."""
    size = os.path.getsize(path)
    if size < 24:
        return 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic = data[:4]
        if magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
            return walk(data, size, 24, 16, lambda at, unpack: (unpack(data, at + 8)[0] + 16, 1))
        if magic == b"\x0a\x0d\x0d\x0a":
            def block(at, unpack):
                return unpack(data, at + 4)[0], unpack(data, at)[0] in (3, 6)
            return walk(data, size, 0, 12, block)
    return 0


def walk(data, size, at, least, record):
    unpack, count = struct.Struct("<I").unpack_from, 0
    while at + least <= size:
        length, packet = record(at, unpack)
        at += length
        if length < least or at > size:
            break
        count += packet
    return count


def settled(folder, limit=4.0):
    """Waits until the files of a folder stop growing."""
    last, begun = -1, time.monotonic()
    while time.monotonic() - begun < limit:
        time.sleep(0.25)
        files = glob.glob(folder + "/**/*", recursive=True) + glob.glob(folder + "/**/.*", recursive=True)
        size = sum(os.path.getsize(f) for f in files if os.path.isfile(f))
        if size == last:
            return
        last = size


class Children:
    """Programs that were started here, and are ended here: by their own process ids."""

    def __init__(self):
        self.running = []

    def start(self, words, **more):
        child = subprocess.Popen(words, **more)
        self.running.append(child)
        return child

    def end(self, child, how=signal.SIGINT, limit=10.0):
        """Ends a child and gives what it used; kills it when it does not obey."""
        child.send_signal(how)
        begun = time.monotonic()
        while time.monotonic() - begun < limit:
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                self.running.remove(child)
                return used
            time.sleep(0.02)
        child.kill()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.running.remove(child)
        return used

    def end_all(self):
        for child in self.running:
            if child.poll() is None:
                child.kill()
                child.wait()
        self.running = []
