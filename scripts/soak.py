#!/usr/bin/env python3
"""Runs the sensor for a long time under a steady load, with rotation, retention, a manifest, reloads, a slow hook and a slow
reader, and tells what it takes: a line a minute, and what all of it came to.

    scripts/soak.py [--seconds N] [--every N] [--rate PPS] [--binary FILE]

Traffic stays on the loopback interface, files in a folder of their own that is removed at the end. The exit code is 1 when the
ledger does not close, a file is not whole, the manifest does not check, or something was left behind; a rise of memory is told, not judged."""

import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

# whatever proxy the environment names: it is for others
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

CONFIG = """
output = "{folder}/out"
shutdown_timeout = "30s"

[source]
listen = ["127.0.0.1:{udp}"]

[threads]
receivers = 2
workers = 2

[writer]
flush_interval = "200ms"
on_close = ["/bin/sh", "-c", "exec sleep 0.2"]

[capture]
rotate_size = "{rotate}"
rotate_interval = "5s"

[retention]
max_size = "{most}"
max_age = "1h"
min_free = "1%"

[control]
listen = "127.0.0.1:{http}"
socket = "{folder}/control.sock"

[log]
level = "warn"

[[session]]
name = "web"
vni = 1
packet_length = {length}
[session.capture]
format = "pcapng"

[[session]]
name = "dns"
vni = [2, 3]
[session.filter]
expression = "udp or tcp"
[session.retention]
max_size = "{own}"

[[session]]
name = "rest"
vni = "4-8"
[session.capture]
{compression}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two lines")
    parser.add_argument("--rate", type=int, default=5000, help="packets a second")
    parser.add_argument("--binary", default="target/release/mirrortap")
    return parser.parse_args()


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Soak:
    def __init__(self, args, folder):
        self.args = args
        self.folder = pathlib.Path(folder)
        self.binary = str(pathlib.Path(args.binary).resolve())
        self.udp, self.http = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.config = self.folder / "mirrortap.toml"
        self.log = open(self.folder / "log", "w")
        self.ending = threading.Event()
        self.reloads, self.rss = 0, []
        self.faults = []

    def write_config(self, length):
        sizes = dict(rotate="2MiB", most="64MiB", own="16MiB")
        if self.args.seconds < 60:
            sizes = dict(rotate="256KiB", most="4MiB", own="1MiB")
        # an older binary has no compression
        compression = 'compression = "zstd"' if self.compresses else ""
        text = CONFIG.format(folder=self.folder, udp=self.udp, http=self.http, length=length, compression=compression, **sizes)
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)

    def start(self):
        self.compresses = True
        self.write_config(1000)
        if self.verb("check", self.config).returncode != 0:
            self.compresses = False
            self.write_config(1000)
        command = [self.binary, "run", "--json", "--config", self.config]
        self.sensor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        deadline = time.monotonic() + 60
        while self.get("/healthz") is None:
            if self.sensor.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the sensor did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        command = [self.binary, "send", "--to", f"127.0.0.1:{self.udp}", "--vni", "1-9", "--size", "imix"]
        command += ["--rate", str(self.args.rate), "--seconds", str(self.args.seconds), "--json"]
        self.sender = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def verb(self, *words):
        return subprocess.run([self.binary, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def get(self, path):
        try:
            with DIRECT.open(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def status(self):
        text = self.get("/status")
        return json.loads(text) if text else None

    def reload_now_and_then(self):
        """Sessions change back and forth; now and then the file is no configuration at all."""
        lengths = [1000, 200, None, 1500]
        while not self.ending.wait(max(1.0, min(20.0, self.args.seconds / 8))):
            length = lengths[self.reloads % len(lengths)]
            if length is None:
                self.config.write_text("this is = not [a configuration")
            else:
                self.write_config(length)
            self.sensor.send_signal(signal.SIGHUP)
            self.reloads += 1

    def read_slowly(self):
        """A client that asks for everything and takes a byte now and then."""
        while not self.ending.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.http), timeout=5) as s:
                    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n")
                    while not self.ending.wait(0.5) and s.recv(64):
                        pass
            except OSError:
                self.ending.wait(0.5)

    def line(self, began):
        status = self.status()
        if status is None:
            self.faults.append("control did not answer")
            return
        process = pathlib.Path(f"/proc/{self.sensor.pid}")
        pages = int((process / "statm").read_text().split()[1])
        rss = pages * resource.getpagesize() // 1024
        self.rss.append((time.monotonic() - began, rss))
        ledger = status["ledger"]
        files = [f for f in self.folder.joinpath("out").rglob("*") if f.is_file()]
        kib = sum(size_of(f) for f in files) // 1024
        row = [
            f"{time.monotonic() - began:7.0f}", rss, len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())),
            ledger["received"], ledger["written"], sum(ledger["filtered"].values()), sum(ledger["dropped"].values()),
            len(files), kib, sum(status["retention"]["deleted_files"].values()), self.reloads,
        ]
        print("  ".join(f"{value:>9}" for value in row), flush=True)

    def run(self):
        began = time.monotonic()
        names = "seconds rss_kib fds threads received written filtered dropped files kib deleted reloads"
        print("  ".join(f"{name:>9}" for name in names.split()), flush=True)
        helpers = [threading.Thread(target=t, daemon=True) for t in (self.reload_now_and_then, self.read_slowly)]
        for helper in helpers:
            helper.start()
        at = began + self.args.every
        while self.sender.poll() is None and self.sensor.poll() is None:
            time.sleep(min(0.2, self.args.every))
            if time.monotonic() >= at:
                self.line(began)
                at += self.args.every
        if self.sensor.poll() is not None:
            self.faults.append(f"the sensor ended with {self.sensor.returncode}")
        else:
            self.line(began)
        self.ending.set()
        for helper in helpers:
            helper.join(timeout=30)

    def stop(self):
        sent = json.loads(self.sender.communicate(timeout=60)[0].splitlines()[-1])
        self.sensor.send_signal(signal.SIGTERM)
        text, _ = self.sensor.communicate(timeout=120)
        if self.sensor.returncode != 0 or not text:
            self.faults.append(f"the sensor ended with {self.sensor.returncode}")
            return
        ledger = json.loads(text.splitlines()[-1])
        ended = ledger["written"] + sum(ledger["filtered"].values()) + sum(ledger["dropped"].values())
        lost = sum(ledger["kernel_dropped"].values())
        print(f"\nsent {sent['sent']}, received {ledger['received']}, lost in the kernel {lost}, ended in a counter {ended}")
        print(f"dropped {ledger['dropped']}, files {ledger['files_total']}, reloads {self.reloads}")
        if ended != ledger["received"]:
            self.faults.append("the ledger does not close")
        self.check_files(ledger)
        self.tell_trend()

    def check_files(self, ledger):
        out = self.folder / "out"
        hidden = [str(f) for f in out.rglob(".*.partial")]
        if hidden:
            self.faults.append(f"left unfinished: {hidden}")
        there = [pathlib.Path(f["path"]) for f in ledger["files"]]
        there = [f for f in there if f.exists()]
        for file in there[:: max(1, len(there) // 50)]:
            if self.verb("inspect", "--json", file).returncode != 0:
                self.faults.append(f"not whole: {file}")
        said = "no manifest"
        if (out / "manifest.jsonl").exists():
            verified = self.verb("verify", out)
            said = (verified.stdout.strip().splitlines() or ["nothing"])[-1]
            if verified.returncode != 0:
                self.faults.append(f"verify: {verified.stdout}{verified.stderr}")
        print(f"{len(there)} files are there; verify said: {said}")

    def tell_trend(self):
        half = self.rss[len(self.rss) // 2 :]
        if len(half) < 2 or self.args.seconds < 300:
            return
        (t0, first), (t1, last) = half[0], half[-1]
        hours = max(t1 - t0, 1) / 3600
        print(f"RSS in the second half: {first} KiB to {last} KiB, {(last - first) / hours:+.0f} KiB an hour")

    def end(self):
        self.ending.set()
        for process in (getattr(self, "sender", None), getattr(self, "sensor", None)):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.log.close()


def size_of(file):
    try:
        return file.stat().st_size
    except OSError:
        return 0


def main():
    args = arguments()
    folder = tempfile.mkdtemp(prefix="mirrortap-soak-")
    soak = Soak(args, folder)
    # so that a run that is told to stop leaves nothing behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        soak.start()
        soak.run()
        soak.stop()
    finally:
        soak.end()
        if soak.faults:
            print((pathlib.Path(folder) / "log").read_text()[-4000:], file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.exists(folder):
        soak.faults.append(f"{folder} could not be removed")
    for fault in soak.faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    print("the soak found faults" if soak.faults else "all is well")
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
