#!/usr/bin/env python3
"""The echo servers as processes: echo_server with all its flags, and, where they are built, raw_echo
and proxy (in front of an echo_server), which have to give back every byte just as well.

REACTOR_TEST_BUILD is where the programs are (build), REACTOR_TEST_BACKEND the backend to use (the
best). Arguments are names of tests to run, or parts of them; without any, all.
"""

import contextlib
import fcntl
import os
import random
import re
import resource
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

BUILD = os.environ.get("REACTOR_TEST_BUILD", "build")
BACKEND = os.environ.get("REACTOR_TEST_BACKEND", "")
SANITIZED = os.path.basename(BUILD.rstrip("/")) in ("asan", "ubsan", "tsan")
PATIENCE = 60  # seconds for anything that must happen
LIMIT = 600  # seconds for one test: hangs end there, not what is slow
MB = 1 << 20
GROWTH = (256 if SANITIZED else 8) * MB  # a sanitizer holds back what was freed

# Any stretch of the endless repetition of this block is a slice of TWICE, and no two stretches that
# begin at different places of it look alike.
BLOCK = os.urandom(MB + 7)
TWICE = BLOCK * 2

TESTS = []


class Skipped(Exception):
    pass


def test(function):
    TESTS.append((function.__name__, function))
    return function


def test_of_all(function):
    """For each of the servers; function gets a way to start it."""
    for name in ("echo_server", "raw_echo", "proxy"):
        TESTS.append((f"{function.__name__}[{name}]",
                      lambda name=name: function(lambda **popen: start(name, **popen))))
    return function


# ---- servers ----

def program(name):
    path = os.path.join(BUILD, "tests", name)
    if not os.path.exists(path):
        raise Skipped(f"{path} is not built")
    return path


class Server:
    """One process. Leaving its with block it is ended by SIGTERM, must exit with 0 and have
    complained of nothing."""

    def __init__(self, name, *flags, port=0, **popen):
        command = [program(name), "--port", str(port)] + [str(f) for f in flags]
        if BACKEND and "--backend" not in flags:
            command += ["--backend", BACKEND]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **popen)
        self.pid = self.process.pid

    def __enter__(self):
        self.banner = [self.process.stdout.readline().decode() for _ in range(2)]
        match = re.match(r"listening on 127\.0\.0\.1:(\d+)\n$", self.banner[0])
        if not match:
            self.process.kill()
            raise AssertionError(f"it said {self.banner!r}, {self.process.stderr.read()!r}")
        self.port = int(match.group(1))
        self.base = self.descriptors()
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.end()
        finally:
            self.process.kill()
            self.process.wait()
            complaint = self.process.stderr.read().decode("utf-8", "replace")
            self.process.stdout.close()
            self.process.stderr.close()
            if complaint:
                print(complaint)
        assert kind or not complaint, "it wrote to stderr"

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        assert status == 0, f"exit status {status}"

    def client(self, **options):
        return connect(self.port, **options)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(re.search(r"^VmRSS:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024

    def cpu(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def switches(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return [int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", f.read())]


@contextlib.contextmanager
def start(name, **popen):
    """A server that echoes, whichever; a proxy with what is behind it."""
    if name != "proxy":
        with Server(name, **popen) as s:
            yield s
        return
    with Server("echo_server") as behind:
        with Server("proxy", "--to", f"127.0.0.1:{behind.port}", **popen) as s:
            yield s


def echo_server(*flags, **options):
    return Server("echo_server", *flags, **options)


def run(*flags, **popen):
    """What the echo server says to these flags, and how it ends."""
    done = subprocess.run([program("echo_server")] + list(flags), stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=PATIENCE, check=False, **popen)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# ---- clients ----

def connect(port, receive=0, source=None):
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(PATIENCE)
    s.connect(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def stretch(at, n):
    at %= len(BLOCK)
    return memoryview(TWICE)[at:at + n]


def check(data, at):
    """That data is what belongs at this place."""
    for i in range(0, len(data), MB):
        piece = data[i:i + MB]
        assert piece == stretch(at + i, len(piece)), f"wrong bytes between {at + i} and 1 MB on"


def receive(s, n, at=0):
    """Exactly n bytes."""
    end = at + n
    while at < end:
        data = s.recv(min(end - at, MB))
        assert data, f"end of file {end - at} bytes too early"
        check(data, at)
        at += len(data)


def ends(s):
    """End of file and nothing else; a reset is an error."""
    data = s.recv(1 << 16)
    assert data == b"", f"{len(data)} bytes instead of the end"
    s.close()


def talk(s, text=b"hello"):
    s.sendall(text)
    got = b""
    while len(got) < len(text):
        more = s.recv(len(text) - len(got))
        assert more, "end of file instead of the echo"
        got += more
    assert got == text, f"{got!r} instead of {text!r}"


def exchange(s, total, sizes=(MB,), sent=0, got=0, half_close=False):
    """Sends up to total and receives it, both as they go."""
    turn = 0
    s.setblocking(False)
    while got < total:
        wants = [s] if sent < total else []
        readable, writable, _ = select.select([s], wants, [], PATIENCE)
        assert readable or writable, f"stuck: {sent} sent, {got} came back"
        if writable:
            n = min(sizes[turn % len(sizes)], total - sent)
            turn += 1
            sent += s.send(stretch(sent, n))
            if sent == total and half_close:
                s.shutdown(socket.SHUT_WR)
        if readable:
            data = s.recv(MB)
            assert data, f"end of file after {got} bytes"
            check(data, got)
            got += len(data)
    s.settimeout(PATIENCE)


def fill(s, most):
    """Sends without reading until the peer takes no more. How much that was."""
    sent = 0
    s.setblocking(False)
    while sent < most and select.select([], [s], [], 0.5)[1]:
        sent += s.send(stretch(sent, min(MB, most - sent)))
    s.settimeout(PATIENCE)
    return sent


def kernel_holds():
    """What the kernel may hold of one connection: both ends' buffers at their largest. (With a
    proxy between there are two of them.)"""
    most = 0
    for name in ("tcp_rmem", "tcp_wmem"):
        with open(f"/proc/sys/net/ipv4/{name}", encoding="ascii") as f:
            most += int(f.read().split()[2])
    return 2 * most


def free_port():
    """Below those that the system hands out by itself, or another program might be given it."""
    while True:
        port = random.randrange(10000, 30000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def until(condition, what, pause=0.005):
    """For what can only be looked at from outside."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(pause)


def sleeps(server):
    """That it has nothing to do and does nothing: it is not even woken."""
    for _ in range(10):
        before = server.switches()
        time.sleep(0.25)
        if server.switches() == before:
            return
    raise AssertionError("it wakes although nothing happens")


def need_descriptors(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < n:
        raise Skipped(f"only {hard} descriptors are allowed")
    if soft != resource.RLIM_INFINITY and soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


# ---- every byte, in order ----

@test_of_all
def half_close_first(begin):
    with begin() as server:
        for n in (0, 1, 1000, 65536, 300000):
            s = server.client()
            s.sendall(stretch(0, n))
            s.shutdown(socket.SHUT_WR)
            receive(s, n)
            ends(s)


@test_of_all
def one_byte_at_a_time(begin):
    with begin() as server, server.client() as s:
        for i in range(1000):
            talk(s, bytes(stretch(i, 1)))
        exchange(s, 3000, sizes=(1,), half_close=True)
        ends(s)


@test_of_all
def all_sizes(begin):
    """Around the sizes of buffers and queues, too."""
    sizes = (1, 7, 100, 1460, 4095, 4096, 16383, 16384, 65535, 65536, 65537, 200000, 3)
    total = (4 if SANITIZED else 24) * MB + 12345
    with begin() as server, server.client() as s, server.client(receive=4096) as slow:
        exchange(s, total, sizes)
        exchange(slow, MB // 2, sizes, half_close=True)
        ends(slow)
        s.shutdown(socket.SHUT_WR)
        ends(s)


@test_of_all
def a_sender_that_does_not_read_waits(begin):
    """It is made to wait long before its file is out, the server does not grow, and then all of it
    comes back."""
    total = 2 * kernel_holds() + 20 * MB
    with begin() as server, server.client(receive=65536) as s:
        talk(s, bytes(stretch(0, 5)))
        before = server.rss()
        sent = fill(s, total - 5)
        grown = server.rss() - before
        assert sent < total - 5, f"it took {sent} bytes that nobody read"
        assert grown < GROWTH, f"grown by {grown} bytes"
        exchange(s, total if not SANITIZED else sent + MB, sent=sent, half_close=True)
        grown = server.rss() - before
        assert grown < GROWTH, f"grown by {grown} bytes"
        ends(s)


@test_of_all
def resets_in_mid_stream(begin):
    with begin() as server:
        with server.client() as steady:
            for i in range(150):
                s = server.client(receive=4096)
                if i % 3 == 0:
                    fill_some(s)
                elif i % 3 == 1:
                    talk(s)
                    s.sendall(stretch(0, 100000))
                reset(s)
                if i % 10 == 0:
                    talk(steady)
            talk(steady)
        until(lambda: server.descriptors() == server.base, "all descriptors closed")
        sleeps(server)


def fill_some(s):
    """As much as goes at once."""
    s.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for at in range(0, 8 * MB, MB):
            s.send(stretch(at, MB))


@test_of_all
def a_thousand_clients_at_once(begin):
    n = 1000
    need_descriptors(2 * n + 200)
    with begin() as server:
        clients = [server.client() for _ in range(n)]
        poller = selectors.DefaultSelector()
        for i, s in enumerate(clients):
            s.sendall(b"I am number %04d" % i)
            poller.register(s, selectors.EVENT_READ, [i, b""])
        left = n
        while left:
            ready = poller.select(PATIENCE)
            assert ready, f"{left} clients wait"
            for key, _ in ready:
                data = key.fileobj.recv(100)
                assert data, "end of file"
                key.data[1] += data
                if len(key.data[1]) == 16:
                    assert key.data[1] == b"I am number %04d" % key.data[0]
                    poller.unregister(key.fileobj)
                    left -= 1
        poller.close()
        for s in clients[::2]:
            s.close()
        for s in clients[1::2]:
            talk(s)
            s.close()


@test_of_all
def never_readers_beside_a_working_client(begin):
    with begin() as server:
        stuck = [server.client(receive=4096) for _ in range(20)]
        for s in stuck:
            fill_some(s)
        with server.client() as s:
            for i in range(500):
                talk(s, b"still there? %d" % i)
            exchange(s, MB)
            most = 2 * kernel_holds() + 20 * MB
            base = server.rss()
            assert fill(stuck[0], most) < most
            assert server.rss() - base < GROWTH
            talk(s)
        for s in stuck:
            reset(s)
        with server.client() as s:
            talk(s)


@test_of_all
def stopped_and_continued(begin):
    with begin() as server, server.client() as s:
        talk(s)
        for _ in range(3):
            os.kill(server.pid, signal.SIGSTOP)
            until(lambda: state(server) == "T", "stopped")
            other = server.client()  # the kernel accepts for it
            s.sendall(b"are you there?")
            other.sendall(b"and for me?")
            other.shutdown(socket.SHUT_WR)
            os.kill(server.pid, signal.SIGCONT)
            talk_back(s, b"are you there?")
            talk_back(other, b"and for me?")
            ends(other)
        sleeps(server)


def state(server):
    with open(f"/proc/{server.pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def talk_back(s, text):
    got = b""
    while len(got) < len(text):
        more = s.recv(len(text) - len(got))
        assert more, "end of file"
        got += more
    assert got == text


@test_of_all
def urgent_data_does_no_harm(begin):
    """It is not part of the stream: what is before and after it comes back, and nothing spins."""
    with begin() as server, server.client() as s:
        for i in range(20):
            text = b"before %d, " % i
            s.sendall(text)
            s.send(b"!", socket.MSG_OOB)
            s.sendall(b"after")
            talk_back(s, text + b"after")
        s.send(b"!", socket.MSG_OOB)
        with server.client() as other:
            talk(other)
        sleeps(server)
        s.shutdown(socket.SHUT_WR)
        ends(s)


@test_of_all
def no_descriptor_is_lost(begin):
    need_descriptors(1000)
    with begin() as server:
        for i in range(60):
            clients = [server.client() for _ in range(50)]
            for k, s in enumerate(clients):
                if k % 4 == 0:
                    s.sendall(b"x" * 100)
                if k % 4 == 1:
                    talk(s)
                if k % 4 == 2:
                    s.shutdown(socket.SHUT_WR)
                if k % 2:
                    reset(s)
            for s in clients[::2]:
                s.close()
        until(lambda: server.descriptors() == server.base, "all descriptors closed")
        with server.client() as s:
            talk(s)


@test_of_all
def idle_without_waking(begin):
    """With clients that are silent, half-closed, waiting for room, or gone."""
    with begin() as server:
        clients = [server.client() for _ in range(30)]
        for s in clients:
            talk(s)
        slow = server.client(receive=4096)
        fill(slow, 64 * MB)
        reset(clients.pop())
        clients.pop().close()
        talk(clients[0])
        sleeps(server)
        half = server.client(receive=4096)
        fill_some(half)
        half.shutdown(socket.SHUT_WR)
        with server.client() as s:
            talk(s)
        sleeps(server)
        for s in clients + [slow, half]:
            reset(s)


# ---- the echo server by itself ----

@test
def banner():
    with echo_server() as server:
        assert server.port > 0
        name = BACKEND or "epoll"
        assert re.match(rf"backend {name}( \(.*\))?\n$", server.banner[1]), server.banner
        with echo_server() as other:  # another port
            assert other.port != server.port
    port = free_port()
    with echo_server(port=port) as server:
        assert server.port == port


@test
def help_is_no_error():
    status, out, err = run("--help")
    assert status == 0 and out.startswith("usage: echo_server") and err == "", (status, out, err)
    for flag in ("--host", "--port", "--idle-timeout", "--max-connections", "--backend", "--help"):
        assert flag in out, flag


@test
def bad_flags():
    bad = [["--nonsense"], ["nonsense"], [""], ["-h"], ["--port"], ["--port", ""], ["--port", "x"],
           ["--port", "-1"], ["--port", "65536"], ["--port", "1 "], ["--port", " 1"],
           ["--port", "0x10"], ["--port", "99999999999999999999"], ["--idle-timeout", "-1"],
           ["--idle-timeout", "soon"], ["--idle-timeout"], ["--max-connections", "many"],
           ["--max-connections", "-5"], ["--max-connections"], ["--backend"], ["--host"],
           ["--backend", "nonsense"], ["--backend", ""], ["--port", "0", "--port"],
           ["--port", "0", "extra"]]
    for flags in bad:
        status, out, err = run(*flags)
        assert status == 2, f"{flags}: status {status}, {err}"
        assert "usage: echo_server" in err and out == "", f"{flags}: {out!r} {err!r}"


@test
def bad_hosts():
    for host in ("nonsense", "256.0.0.1", "1.2.3", "[::1", "example.com", ""):
        status, out, err = run("--port", "0", "--host", host)
        assert status in (1, 2) and out == "" and "echo_server: " in err, (host, status, out, err)


@test
def port_in_use():
    with echo_server() as server:
        status, out, err = run("--port", str(server.port))
        assert status == 1 and out == "", (status, out)
        assert f"127.0.0.1:{server.port}" in err and "in use" in err, err
        with server.client() as s:
            talk(s)


@test
def port_can_be_had_again_at_once():
    """Also when its connections were ended by the server itself."""
    with echo_server() as server:
        port = server.port
        s = server.client()
        talk(s)
        server.end()
        ends(s)
    for _ in range(3):
        with echo_server(port=port) as server:
            s = server.client()
            talk(s)
            server.end()
            ends(s)


@test
def backends():
    path = os.path.join(BUILD, "tests", "backends")
    names = ["epoll", "poll", "select"]
    if os.path.exists(path):
        lines = subprocess.run([path], stdout=subprocess.PIPE, check=True).stdout.decode()
        names = [line for line in lines.splitlines() if " " not in line]  # others are refused here
    for name in names:
        with echo_server("--backend", name) as server:
            assert server.banner[1].startswith(f"backend {name}"), server.banner
            with server.client() as s:
                talk(s)
    status, out, err = run("--backend", "nonsense")
    assert status == 2 and "nonsense" in err and "usage" in err and not out, (status, out, err)


def drains(how):
    """Idle clients see the end of file and no reset, whoever reads gets its echo, and it is over
    soon, whoever does not read."""
    with echo_server() as server:
        silent = server.client()
        idle = [server.client() for _ in range(20)]
        for s in idle:
            talk(s)
        reader = server.client(receive=4096)
        reader.sendall(stretch(0, 5))
        receive(reader, 5)
        sent = 5 + fill(reader_from(reader), 20 * MB)
        stuck = server.client(receive=4096)
        fill(stuck, 20 * MB)
        os.kill(server.pid, how)
        for s in idle + [silent]:
            ends(s)
        got = 5
        with contextlib.suppress(ConnectionResetError):  # cut off at the deadline
            while data := reader.recv(MB):
                check(data, got)
                got += len(data)
        assert 5 < got <= sent
        assert server.process.wait(PATIENCE) == 0
        stuck.close()
        reader.close()


class reader_from:
    """A socket whose fill goes on behind the five bytes that were sent already."""

    def __init__(self, s):
        self.s = s
        self.sent = 5

    def fileno(self):
        return self.s.fileno()

    def setblocking(self, on):
        self.s.setblocking(on)

    def settimeout(self, seconds):
        self.s.settimeout(seconds)

    def send(self, data):
        n = self.s.send(stretch(self.sent, len(data)))
        self.sent += n
        return n


SIOCOUTQNSD = 0x894B
STEP = 32768  # two of them do not reach high water


def kernel_queues(here, there):
    """Of a connection on the loopback, seen from the port here: bytes not read by its owner, and
    bytes not acknowledged by its peer. From sock_diag(7), for /proc/net/tcp takes its time."""
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)) as s:
        host = socket.inet_aton("127.0.0.1") + bytes(12)
        ask = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xffffffff)
        ask += struct.pack("!HH", here, there) + host + host
        ask += struct.pack("=III", 0, 0xffffffff, 0xffffffff)
        s.send(struct.pack("=IHHII", 16 + len(ask), 20, 1, 1, 0) + ask)
        answer = s.recv(4096)
        if struct.unpack_from("=IH", answer)[1] != 20:
            raise Skipped("no sock_diag here")
        return struct.unpack_from("=II", answer, 16 + 4 + 48 + 4)


def under_way(server, s):
    """Bytes that the server has not read yet, and those in the kernel on their way back. A send
    queue holds what is not acknowledged, which may take a moment; what is not sent is told apart."""
    port = s.getsockname()[1]
    unsent = struct.unpack("i", fcntl.ioctl(s, SIOCOUTQNSD, bytes(4)))[0]
    unread, unacknowledged = kernel_queues(server.port, port)
    return unsent + unread, unacknowledged + kernel_queues(port, server.port)[0]


@test
def what_was_taken_comes_back_when_it_drains():
    """The server has read it and still has some of it in its own queue when the signal comes."""
    for _ in range(8):
        with echo_server() as server, server.client(receive=65536) as s:
            sent = 0
            while sent < 64 * MB:
                s.sendall(stretch(sent, STEP))
                sent += STEP
                until(lambda: under_way(server, s)[0] == 0, "read by the server", 0.0005)
                if sent - under_way(server, s)[1] >= 16384:
                    break
            os.kill(server.pid, signal.SIGTERM)
            began, got, cut = time.monotonic(), 0, False
            try:
                while data := s.recv(MB):
                    check(data, got)
                    got += len(data)
            except ConnectionResetError:
                cut = True
            assert server.process.wait(PATIENCE) == 0
            if time.monotonic() - began > 0.6:  # too slow for its deadline: this proves nothing
                continue
            assert got == sent and not cut, f"{got} of {sent} bytes came, reset: {cut}"
            return
    raise Skipped("this machine is too busy")


@test
def a_slow_answer_passes_a_proxy_that_drains():
    """Nothing has moved for longer than a drained connection has to be quiet."""
    for _ in range(8):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE)
            port = listener.getsockname()[1]
            with Server("proxy", "--to", f"127.0.0.1:{port}") as server, server.client() as s:
                s.sendall(b"question")
                with listener.accept()[0] as behind:
                    behind.settimeout(PATIENCE)
                    assert behind.recv(8) == b"question"
                    os.kill(server.pid, signal.SIGTERM)
                    began = time.monotonic()
                    time.sleep(0.4)
                    with contextlib.suppress(OSError):
                        behind.sendall(b"answer")
                    try:
                        got = s.recv(6)
                    except ConnectionResetError:
                        got = b""
                    late = time.monotonic() - began > 0.6  # this may have been the deadline
                assert server.process.wait(PATIENCE) == 0
                if late:
                    continue
                assert got == b"answer", got
                return
    raise Skipped("this machine is too busy")


@test
def sigterm_drains():
    drains(signal.SIGTERM)


@test
def sigint_drains():
    drains(signal.SIGINT)


@test
def signals_again_and_again():
    with echo_server() as server:
        stuck = server.client(receive=4096)
        fill(stuck, 20 * MB)
        with contextlib.suppress(ProcessLookupError):
            for _ in range(50):
                os.kill(server.pid, signal.SIGTERM)
                os.kill(server.pid, signal.SIGINT)
        assert server.process.wait(PATIENCE) == 0
        stuck.close()


@test
def ended_without_clients():
    for how in (signal.SIGTERM, signal.SIGINT):
        with echo_server() as server:
            server.end(how)


def standard_streams_closed(name, *more):
    """In all combinations. A socket that took the place of one would get what is printed."""
    for closed in range(8):
        shut = [fd for fd in range(3) if closed & 1 << fd]
        port = free_port()
        command = [program(name), "--port", str(port), *more]
        command += ["--backend", BACKEND] if BACKEND else []
        streams = [None if fd in shut else subprocess.PIPE for fd in range(3)]
        process = subprocess.Popen(command, stdin=streams[0], stdout=streams[1], stderr=streams[2],
                                   preexec_fn=lambda: [os.close(fd) for fd in shut])
        try:
            s = None

            def answers():
                nonlocal s
                with contextlib.suppress(ConnectionRefusedError):
                    s = connect(port)
                assert process.poll() is None, f"closed {shut}: exit status {process.returncode}"
                return s

            until(answers, f"a server with {shut} closed")
            talk(s)
            for fd in range(3):
                with contextlib.suppress(FileNotFoundError):
                    link = os.readlink(f"/proc/{process.pid}/fd/{fd}")
                    assert not link.startswith("socket:"), f"closed {shut}: {fd} is {link}"
            process.send_signal(signal.SIGTERM)
            ends(s)
            assert process.wait(PATIENCE) == 0, f"closed {shut}: status {process.returncode}"
            if process.stdout:
                assert f"listening on 127.0.0.1:{port}\n" in process.stdout.read().decode()
            if process.stderr:
                assert process.stderr.read() == b""
        finally:
            process.kill()
            process.communicate()


@test
def standard_streams_of_echo_server_closed():
    standard_streams_closed("echo_server")


@test
def standard_streams_of_proxy_closed():
    with echo_server() as behind:
        standard_streams_closed("proxy", "--to", f"127.0.0.1:{behind.port}")


def signal_sets(pid):
    """What /proc says is blocked, ignored and caught."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        masks = re.findall(r"^Sig(?:Blk|Ign|Cgt):\s+([0-9a-f]+)$", f.read(), re.M)
    return [{n for n in range(1, 65) if int(mask, 16) >> (n - 1) & 1} for mask in masks]


def endings_of_the_parent(name):
    """Blocked ones are heard, ignored ones stay ignored, but SIGTERM."""
    three = {signal.SIGINT, signal.SIGHUP, signal.SIGTERM}

    def ignore():
        for signum in three:
            signal.signal(signum, signal.SIG_IGN)

    for signum in three:
        with start(name, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, three)) as server:
            blocked, _, caught = signal_sets(server.pid)
            assert not blocked & three and three <= caught, (blocked, caught)
            server.end(signum)
    with start(name, preexec_fn=ignore) as server:
        _, ignored, caught = signal_sets(server.pid)
        assert ignored & three == three - {signal.SIGTERM}, ignored
        assert caught & three == {signal.SIGTERM}, caught
        os.kill(server.pid, signal.SIGINT)
        os.kill(server.pid, signal.SIGHUP)
        with server.client() as s:
            talk(s)


@test
def endings_of_the_parent_echo_server():
    endings_of_the_parent("echo_server")


@test
def endings_of_the_parent_proxy():
    endings_of_the_parent("proxy")


@test
def proxy_without_memory():
    """From some time on it gets no more memory. What then ends in order is all there."""
    size = 8 * MB
    if SANITIZED:
        raise Skipped("a sanitizer does not bear it")
    with contextlib.closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(PATIENCE)
        with Server("proxy", "--to", "127.0.0.1:%d" % listener.getsockname()[1]) as server:
            with server.client() as s:
                s.sendall(stretch(0, 1))
                behind = listener.accept()[0]
                behind.settimeout(PATIENCE)
                assert behind.recv(1) == stretch(0, 1)
                resource.prlimit(server.pid, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
                child = os.fork()
                if child == 0:
                    with contextlib.suppress(OSError):
                        s.sendall(stretch(1, size))
                        s.shutdown(socket.SHUT_WR)
                    os._exit(0)
                got, cut = 1, False
                try:
                    while data := behind.recv(16384):
                        check(data, got)
                        got += len(data)
                except ConnectionResetError:
                    cut = True
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                behind.close()
            resource.prlimit(server.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert cut or got == 1 + size, f"{got} bytes of {1 + size}, then the end of file"


@test
def few_descriptors():
    """64 of them and 200 clients: those it has are served, it does not spin, and as they leave the
    others have their turn."""
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    need_descriptors(400)
    with echo_server(preexec_fn=limit) as server:
        waiting = [server.client() for _ in range(200)]
        for i, s in enumerate(waiting):
            s.sendall(b"client %03d" % i)
        served = 0
        measured = False
        while waiting:
            ready = select.select(waiting, [], [], PATIENCE)[0]
            assert ready, f"{len(waiting)} clients wait for ever, {served} were served"
            for s in ready:
                data = s.recv(100)
                assert re.match(rb"client \d\d\d$", data), data
                talk(s)
                served += 1
            if not measured:  # full: those who have been served stay a while
                measured = True
                until(lambda: server.descriptors() >= 60, "as many as it may have")
                cpu, began = server.cpu(), time.monotonic()
                time.sleep(0.5)
                used, passed = server.cpu() - cpu, time.monotonic() - began
                assert used < 0.4 * passed, f"{used:.2f} s of {passed:.2f} s at work"
                for s in ready:
                    talk(s)
            for s in ready:
                s.close()
                waiting.remove(s)
        assert served == 200
        more = [server.client() for _ in range(40)]
        for s in more:
            talk(s)
            s.close()
        sleeps(server)


@test
def idle_timeout():
    """Ends who is silent, never early; not who talks."""
    with echo_server("--idle-timeout", 1) as server:
        for _ in range(5):
            began = time.monotonic()
            silent, busy = server.client(), server.client()
            last, longest = began, 0
            while not select.select([silent], [], [], 0)[0]:
                assert time.monotonic() - began < PATIENCE, "never ended"
                talk(busy)
                now = time.monotonic()
                last, longest = now, max(longest, now - last)
            assert time.monotonic() - began >= 1, "ended early"
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(1) == b""
            silent.close()
            if longest < 0.5:  # else this machine was too busy for busy to be busy
                talk(busy)
                busy.close()
                return
            busy.close()


@test
def no_idle_timeout_unless_asked():
    with echo_server("--idle-timeout", 0) as server, server.client() as s:
        talk(s)
        sleeps(server)
        talk(s)


@test
def max_connections():
    with echo_server("--max-connections", 3) as server:
        inside = [server.client() for _ in range(3)]
        for s in inside:
            talk(s)
        outside = [server.client() for _ in range(3)]
        for s in outside:
            s.sendall(b"let me in")
        for _ in range(20):
            for s in inside:
                talk(s)
            assert not select.select(outside, [], [], 0)[0]
        sleeps(server)
        assert not select.select(outside, [], [], 0)[0]
        for s in inside:
            s.close()
        for s in outside:
            talk_back(s, b"let me in")
            talk(s)
            s.close()
        with server.client() as s:
            talk(s)


@test
def other_hosts():
    for flags in (["--host", "localhost"], ["--host", "127.0.0.1"], ["--host", "127.0.0.2"]):
        process = subprocess.Popen([program("echo_server"), "--port", "0"] + flags,
                                   stdout=subprocess.PIPE)
        try:
            line = process.stdout.readline().decode()
            host, port = re.match(r"listening on ([\d.]+):(\d+)$", line).groups()
            with socket.create_connection((host, int(port)), PATIENCE) as s:
                talk(s)
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.communicate()


# ---- running them ----

def on_alarm(signum, frame):
    raise TimeoutError(f"not finished after {LIMIT} s")


def main():
    chosen = [t for t in TESTS if len(sys.argv) < 2 or any(word in t[0] for word in sys.argv[1:])]
    signal.signal(signal.SIGALRM, on_alarm)
    failed, skipped = [], []
    for name, function in chosen:
        began = time.monotonic()
        signal.alarm(LIMIT)
        try:
            function()
        except Skipped as why:
            skipped.append(name)
            print(f"skipped: {name}: {why}")
        except Exception:  # every failure is told, and the next test run
            failed.append(name)
            print(f"failed: {name}")
            print(f"  on backend {BACKEND or '(the best)'}, programs of {BUILD}")
            print("  " + traceback.format_exc()[-3000:].replace("\n", "\n  "), flush=True)
        signal.alarm(0)
        if "REACTOR_TEST_TIMES" in os.environ:
            print(f"{time.monotonic() - began:7.2f} s  {name}", flush=True)
    passed = len(chosen) - len(failed) - len(skipped)
    print(f"{passed} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" * bool(skipped)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
