#!/usr/bin/env python3
"""A stand-in for systemd's file descriptor store: starts the sensor, keeps the sockets that it hands over, and gives them back at the next
start. Sends numbered packets all the while, also between the runs. Prints what was sent, received and kept, as JSON.

With `moved` as last argument the second of two runs listens on another address: what is kept by then has to be given up."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

program, folder, udp, http = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
notify_path = os.path.join(folder, "notify")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(notify_path)
notify.settimeout(60)
# name and descriptor
kept = []
# whatever proxy the environment names: it is for others
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ready = threading.Event()


def listen():
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(notify, 4096, 4)
        except OSError:
            return
        told = dict(line.split("=", 1) for line in message.decode().splitlines())
        name = told.get("FDNAME", "stored")
        if "FDSTORE" in told:
            kept.extend((name, fd) for fd in fds)
        else:
            # a barrier, too
            if "FDSTOREREMOVE" in told:
                fds += [fd for kept_as, fd in kept if kept_as == name]
                kept[:] = [(kept_as, fd) for kept_as, fd in kept if kept_as != name]
            for fd in fds:
                os.close(fd)
        if b"READY=1" in message:
            ready.set()


threading.Thread(target=listen, daemon=True).start()
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent = 0


def send(count):
    global sent
    for _ in range(count):
        inner = bytes.fromhex("020000000001020000000002" "88b5") + struct.pack(">Q", sent)
        sender.sendto(bytes([8, 0, 0, 0, 0, 0, 7, 0]) + inner.ljust(60, b"\0"), ("127.0.0.1", udp))
        sent += 1


def start(host="127.0.0.1"):
    ready.clear()
    names = kept[:1]
    passed = [fd for _, fd in names]
    env = dict(os.environ, NOTIFY_SOCKET=notify_path, FDSTORE="4")
    command = [program, "run", "--listen", f"{host}:{udp}", "--control", f"127.0.0.1:{http}", "--output", os.path.join(folder, "out"), "--json"]
    if passed:
        env.update(LISTEN_FDS=str(len(passed)), LISTEN_FDNAMES=names[0][0])
        shell = f"exec 60<&{passed[0]} {passed[0]}<&-; exec 3<&60 60<&-; export LISTEN_PID=$$; exec \"$0\" \"$@\""
        command = ["bash", "-c", shell] + command
    child = subprocess.Popen(command, env=env, pass_fds=passed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not ready.wait(0.05):
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            sys.exit("the sensor did not become ready")
    return child


def stop(child):
    child.terminate()
    out, _ = child.communicate(timeout=120)
    return json.loads(out.splitlines()[-1])["received"]


def wait_received(count):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with DIRECT.open(f"http://127.0.0.1:{http}/status", timeout=30) as answer:
            if json.load(answer)["ledger"]["received"] >= count:
                return
        time.sleep(0.05)


def end():
    print(json.dumps({"sent": sent, "received": received, "kept": [name for name, _ in kept]}))
    sys.exit()


received = 0
if sys.argv[5:] == ["moved"]:
    for host in ["127.0.0.1", "0.0.0.0"]:
        child = start(host)
        send(500)
        wait_received(500)
        received += stop(child)
    end()
for _ in range(3):
    child = start()
    send(500)
    received += stop(child)
    # what was not read before the stop, and this, wait together
    send(500)
child = start()
wait_received(sent - received)
received += stop(child)
end()
