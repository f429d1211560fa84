#!/usr/bin/env python3
"""echo_server.exe and chat_server.exe as processes under wine, talked to from this side of the
loopback; the echo server on each of Windows' backends.

    test_servers.py --windows DIRECTORY
"""

import os
import re
import resource
import select
import socket
import struct
import subprocess
import sys
import time
import traceback

BACKENDS = "windows", "select"
MANY = {"windows": 3000, "select": 300}  # connections at once; wine's select is slow
PATIENCE = 60  # seconds for anything that must happen
MIB = 1 << 20


class Server:
    def __init__(self, directory, program, backend):
        self.process = subprocess.Popen(
            ["wine", os.path.join(directory, program + ".exe"), "--port", "0", "--backend", backend],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            self.port = self.started(backend)
        except BaseException:
            self.process.kill()
            raise

    def started(self, backend):
        line = self.process.stdout.readline().decode()
        match = re.match(r"listening on .*:(\d+)\r?$", line)
        assert match, f"the server said {line!r}"
        line = self.process.stdout.readline().decode().strip()
        assert re.match(rf"backend {backend}\b", line), line
        return int(match.group(1))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        assert kind or alive, "the server has ended"

    def dial(self, receive=0):
        s = socket.socket()
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.settimeout(PATIENCE)
        s.connect(("127.0.0.1", self.port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s


def take(s, n):
    got = b""
    while len(got) < n:
        data = s.recv(n - len(got))
        assert data, f"the end after {len(got)} of {n} bytes"
        got += data
    return got


def echoes(s, data):
    s.sendall(data)
    got = take(s, len(data))
    assert got == data, f"{data[:40]!r} came back as {got[:40]!r}"


def ends(s):
    s.shutdown(socket.SHUT_WR)
    assert s.recv(1) == b"", "more than was sent"
    s.close()


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def sixty_four_at_once(server):
    clients = [server.dial() for _ in range(64)]
    for n in range(20):
        said = [f"{i}.{n}.".encode() * (1 + 37 * n) for i in range(64)]
        for s, data in zip(clients, said):
            s.sendall(data)
        for s, data in zip(clients, said):
            assert take(s, len(data)) == data
    for s in clients:
        ends(s)


def thousands_at_once(server, many):
    clients = [server.dial() for _ in range(many)]
    for i, s in enumerate(clients):
        echoes(s, b"%06d" % i * 10)
    for i, s in enumerate(clients[::10]):  # of all at once wine's server would have long to chew
        (reset if i % 3 == 0 else ends)(s)
    echoes(clients[-1], b"still there")
    for s in clients[1:-1]:
        s.close()


def a_megabyte_in_pieces(server):
    data = os.urandom(MIB)
    got = b""
    with server.dial() as s:
        s.setblocking(False)
        at = 0
        while len(got) < len(data):
            can_read, can_write, _ = select.select([s], [s] if at < len(data) else [], [], PATIENCE)
            assert can_read or can_write, "nothing moves"
            if can_write:
                at += s.send(data[at:at + 30011])
            if can_read:
                got += s.recv(65536)
    assert got == data


def a_peer_that_never_reads(server):
    """It is made to wait, others are served meanwhile, and nothing is lost."""
    s = server.dial()
    s.setblocking(False)
    data, sent = bytes(range(256)) * 256, 0
    while select.select([], [s], [], 1)[1]:
        sent += s.send(data[sent % len(data):])
        assert sent < 64 * MIB, "what is not read is taken without end"
    with server.dial() as other:
        echoes(other, b"served")
    s.settimeout(PATIENCE)
    back = 0
    while back < sent:
        got = s.recv(65536)
        assert got, "the end, too early"
        want = (data + data)[back % len(data):][:len(got)]
        assert got == want, "something else came back"
        back += len(got)
    ends(s)


def peers_that_reset(server):
    for i in range(200):
        s = server.dial()
        if i % 3:
            s.sendall(b"x" * (i * 100 % 5000 + 1))
        if i % 3 == 2:
            s.recv(1)
        reset(s)
    with server.dial() as s:
        echoes(s, b"still there")


class Member:
    def __init__(self, server, nick):
        self.socket = server.dial()
        self.input = b""
        self.guest = re.search(rb"guest\d+", self.line())[0].decode()
        self.say(f"/nick {nick}")
        self.hears(f"*** {self.guest} is now {nick}")

    def say(self, text):
        self.socket.sendall(text.encode() + b"\n")

    def line(self):
        while b"\n" not in self.input:
            data = self.socket.recv(65536)
            assert data, f"the end after {self.input!r}"
            self.input += data
        line, self.input = self.input.split(b"\n", 1)
        return line.rstrip(b"\r")

    def hears(self, text):
        seen = []
        while True:
            seen.append(self.line().decode())
            if seen[-1] == text:
                return


def a_room_of_twenty(server):
    members = [Member(server, f"n{i}") for i in range(20)]
    for i, m in enumerate(members):
        m.say(f"hello from {i}")
        for other in members:
            other.hears(f"<n{i}> hello from {i}")
    reset(members[3].socket)
    members[4].socket.close()
    members[0].say("two have gone")
    for i, m in enumerate(members):
        if i not in (3, 4):
            m.hears("<n0> two have gone")


def members_that_do_not_read(server):
    """They are dropped; the others go on."""
    silent = [server.dial(receive=4096) for _ in range(3)]
    talks, hears = Member(server, "talks"), Member(server, "hears")
    for i in range(4000):
        talks.say(f"{i} " + "x" * 900)
        hears.hears(f"<talks> {i} " + "x" * 900)
    for s in silent:
        with s:
            assert len(s.recv(100)) > 0


TESTS = [("echo_server", sixty_four_at_once), ("echo_server", a_megabyte_in_pieces),
         ("echo_server", a_peer_that_never_reads), ("echo_server", peers_that_reset),
         ("echo_server", thousands_at_once), ("chat_server", a_room_of_twenty),
         ("chat_server", members_that_do_not_read)]


def main():
    directory = sys.argv[sys.argv.index("--windows") + 1]
    words = [a for a in sys.argv[1:] if a not in ("--windows", directory)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = (hard - 500) // 3  # wine's server has each as well
    passed, failed = 0, 0
    for backend in BACKENDS:
        for program, test in TESTS:
            name = f"{test.__name__} {program} {backend}"
            if not all(w in name for w in words) or (backend, program) == ("select", "chat_server"):
                continue
            began = time.monotonic()
            arguments = [min(MANY[backend], most)] if test is thousands_at_once else []
            try:
                with Server(directory, program, backend) as server:
                    test(server, *arguments)
                passed += 1
                print(f"passed: {name} {arguments or ''} {time.monotonic() - began:.1f} s")
            except Exception:  # whatever it is, the others have their turn
                failed += 1
                print(traceback.format_exc() + f"failed: {name}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
