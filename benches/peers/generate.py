#!/usr/bin/env python3
"""Sends mirrored packets from within the kernel, faster than any socket: more than a million a second from one core.

The kernel runs a small program over frames that it makes itself (BPF_PROG_RUN with live frames) and hands them to one
end of a veth pair. The program waits until a packet is due, writes the headers of the next template into the frame, cuts it
to its length and redirects it. Templates are the packets of a capture file, so they come from `mirrortap send --write`.
What stands behind the first 124 bytes of a frame is whatever was in its memory, so inner checksums may be wrong.

    generate.py --capture templates.pcap --interface g0 --to-mac 02:00:00:00:00:02 --rate 500000 --count 500000

Needs root (CAP_BPF, CAP_NET_ADMIN), Linux 5.18 or newer, and GRO or an XDP program at the other end of the veth pair.
Prints one JSON object. Python's standard library only."""

import argparse
import ctypes
import json
import os
import platform
import socket
import struct
import time

SYSCALL = {"x86_64": 321, "aarch64": 280}
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, PROG_LOAD, PROG_RUN = 0, 1, 2, 5, 10
ARRAY_MAP, XDP_PROGRAM, LIVE_FRAMES = 2, 6, 2
HEAD, SLOT, TEMPLATES, LONGEST = 124, 128, 4096, 1600
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    """One bpf(2) call; the attributes are padded to what any command reads."""
    buffer = ctypes.create_string_buffer(attributes.ljust(144, b"\0"))
    result = libc.syscall(SYSCALL[platform.machine()], command, buffer, len(buffer))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def address(buffer):
    return ctypes.addressof(buffer)


def array(size):
    """A map of one value, which programs may reach without a look-up."""
    return bpf(MAP_CREATE, struct.pack("<IIII", ARRAY_MAP, 4, size, 1))


def put(fd, value):
    key = ctypes.create_string_buffer(4)
    held = ctypes.create_string_buffer(value, len(value))
    bpf(MAP_UPDATE, struct.pack("<IIQQQ", fd, 0, address(key), address(held), 0))


def get(fd, size):
    key, held = ctypes.create_string_buffer(4), ctypes.create_string_buffer(size)
    bpf(MAP_LOOKUP, struct.pack("<IIQQQ", fd, 0, address(key), address(held), 0))
    return held.raw


class Program:
    """Instructions of an eBPF program, with labels to jump to."""

    def __init__(self):
        self.code, self.jumps, self.labels = [], [], {}

    def add(self, op, dst=0, src=0, off=0, imm=0):
        self.code.append([op, dst, src, off, imm])

    def load_value(self, dst, fd):
        self.add(0x18, dst, 2, 0, fd)  # address of a map's value
        self.add(0)

    def jump(self, op, dst, src, imm, label):
        self.jumps.append((len(self.code), label))
        self.add(op, dst, src, 0, imm)

    def label(self, name):
        self.labels[name] = len(self.code)

    def bytes(self):
        for at, label in self.jumps:
            self.code[at][3] = self.labels[label] - at - 1
        return b"".join(struct.pack("<BBhi", op, src << 4 | dst, off, imm) for op, dst, src, off, imm in self.code)


# State: number of the next packet, how many there are, when the first was due, nanoseconds between two << 16, interface.
STATE = struct.Struct("<QQQQQQ")


def program(state, slots, lengths, burst):
    p = Program()
    p.add(0xBF, 6, 1)  # r6 = context
    p.load_value(7, state)
    p.add(0x79, 8, 7, 0)  # r8 = number
    p.add(0x79, 1, 7, 8)
    p.jump(0x3D, 8, 1, 0, "drop")  # number >= count
    p.add(0x85, 0, 0, 0, 5)  # r0 = ktime_get_ns()
    p.add(0xBF, 1, 8)
    p.add(0x57, 1, 0, 0, -burst)  # packets of a burst are due together
    p.add(0x79, 2, 7, 24)
    p.add(0x2F, 1, 2)
    p.add(0x77, 1, 0, 0, 16)
    p.add(0x79, 2, 7, 16)
    p.add(0x0F, 1, 2)
    p.jump(0xAD, 0, 1, 0, "drop")  # too early
    p.add(0xBF, 9, 8)
    p.add(0x57, 9, 0, 0, TEMPLATES - 1)  # r9 = template
    p.load_value(1, lengths)
    p.add(0xBF, 2, 9)
    p.add(0x67, 2, 0, 0, 2)
    p.add(0x0F, 1, 2)
    p.add(0x61, 2, 1, 0)
    p.add(0x17, 2, 0, 0, LONGEST)  # r2 = length - LONGEST
    p.add(0xBF, 1, 6)
    p.add(0x85, 0, 0, 0, 65)  # xdp_adjust_tail
    p.jump(0x55, 0, 0, 0, "drop")
    p.add(0x61, 2, 6, 0)  # data, data_end
    p.add(0x61, 3, 6, 4)
    p.add(0xBF, 4, 2)
    p.add(0x07, 4, 0, 0, HEAD)
    p.jump(0x2D, 4, 3, 0, "drop")
    p.load_value(1, slots)
    p.add(0x67, 9, 0, 0, SLOT.bit_length() - 1)
    p.add(0x0F, 1, 9)
    for at in range(0, HEAD - 4, 8):
        p.add(0x79, 5, 1, at)
        p.add(0x7B, 2, 5, at)
    p.add(0x61, 5, 1, HEAD - 4)
    p.add(0x63, 2, 5, HEAD - 4)
    p.add(0x07, 8, 0, 0, 1)
    p.add(0x7B, 7, 8, 0)
    p.add(0x79, 1, 7, 32)
    p.add(0xB7, 2)
    p.add(0x85, 0, 0, 0, 23)  # redirect(interface, 0)
    p.add(0x95)
    p.label("drop")
    p.add(0xB7, 0, 0, 0, 1)
    p.add(0x95)
    return p.bytes()


def load(code):
    held, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 18)
    head = struct.pack("<IIQQ", XDP_PROGRAM, len(code) // 8, address(held), address(licence))
    try:
        return bpf(PROG_LOAD, head + struct.pack("<IIQ", 1, len(log), address(log)))
    except OSError as error:
        raise SystemExit(f"generate.py: the kernel refuses the program: {error}\n{log.value.decode()[-600:]}")


def templates(path, mac):
    """The first packets of a pcap file: headers and lengths, for as many slots as there are."""
    data = open(path, "rb").read()
    order = "<" if data[:4] in (b"\x4d\x3c\xb2\xa1", b"\xd4\xc3\xb2\xa1") else ">"
    frames, at = [], 24
    while at + 16 <= len(data) and len(frames) < TEMPLATES:
        size = struct.unpack_from(order + "I", data, at + 8)[0]
        frame = data[at + 16:at + 16 + size]
        if HEAD <= size <= LONGEST:
            frames.append(mac + frame[6:])
        at += 16 + size
    if not frames:
        raise SystemExit(f"generate.py: {path} holds no packet of {HEAD} to {LONGEST} bytes")
    frames = [frames[i % len(frames)] for i in range(TEMPLATES)]
    slots = b"".join(frame[:HEAD].ljust(SLOT, b"\0") for frame in frames)
    return slots, struct.pack(f"<{TEMPLATES}I", *map(len, frames))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", required=True)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--to-mac", required=True)
    parser.add_argument("--rate", type=float, default=0, help="packets a second; 0: as fast as it goes")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--burst", type=int, default=16, help="packets that are due together, a power of two")
    a = parser.parse_args()
    slots, lengths = templates(a.capture, bytes.fromhex(a.to_mac.replace(":", "")))
    maps = [array(STATE.size), array(len(slots)), array(len(lengths))]
    put(maps[1], slots)
    put(maps[2], lengths)
    fd = load(program(*maps, a.burst))
    period = int(1e9 / a.rate * 65536) if a.rate else 0
    begun = time.monotonic_ns()
    put(maps[0], STATE.pack(0, a.count, begun, period, socket.if_nametoindex(a.interface), 0))
    frame = ctypes.create_string_buffer(LONGEST)
    while struct.unpack_from("<Q", get(maps[0], STATE.size))[0] < a.count:
        run = struct.pack("<4I2Q4I2Q3I", fd, 0, LONGEST, 0, address(frame), 0, 1 << 16, 0, 0, 0, 0, 0, LIVE_FRAMES, 0, 64)
        bpf(PROG_RUN, run)
    seconds = (time.monotonic_ns() - begun) / 1e9
    print(json.dumps({"sent": a.count, "seconds": seconds, "pps": a.count / seconds}))


if __name__ == "__main__":
    main()
