"""What the tests of the examples share: starting a program, talking to it, and running the tests.

REACTOR_TEST_BUILD is where the programs are (build); REACTOR_TEST_BACKEND, the backend, is read by
the programs themselves, see example.h.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback

BUILD = os.path.abspath(os.environ.get("REACTOR_TEST_BUILD", "build"))
PATIENCE = 30  # seconds for anything that must happen
LIMIT = 120  # seconds for one test

TESTS = []


class Skipped(Exception):
    pass


def test(function):
    TESTS.append(function)
    return function


def program(name):
    path = os.path.join(BUILD, "tests", name)
    if not os.path.exists(path):
        raise Skipped(f"{path} is not built")
    return path


class Server:
    """One server as a process. It says "listening on ADDRESS" in its first line. Leaving its with
    block it is ended by SIGTERM, must exit with 0 and have complained of nothing."""

    def __init__(self, name, *arguments, **popen):
        self.process = subprocess.Popen(
            [program(name), *(str(a) for a in arguments)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)
        self.pid = self.process.pid
        line = self.process.stdout.readline().decode()
        match = re.match(r"listening on (\S+):(\d+)$", line)
        if not match:
            self.process.kill()
            raise AssertionError(f"{name} said {line!r}, {self.process.stderr.read()!r}")
        self.host, self.port = match[1], int(match[2])

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.end()
        finally:
            self.process.kill()
            self.output = self.process.stdout.read().decode("utf-8", "replace")
            complaint = self.process.stderr.read().decode("utf-8", "replace")
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()
        assert not complaint, f"it complained: {complaint}"

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        assert status == 0, f"exit status {status}"

    def says(self):
        """Its next line of output."""
        return self.process.stdout.readline().decode()

    def client(self):
        return connect(self.port)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def switches(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return [int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", f.read())]


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), PATIENCE)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def receive(s, n):
    """Exactly n bytes."""
    got = b""
    while len(got) < n:
        more = s.recv(n - len(got))
        assert more, f"end of file after {got!r}"
        got += more
    return got


def receive_all(s):
    """Everything up to the end of file."""
    pieces = []
    while True:
        more = s.recv(1 << 16)
        if not more:
            return b"".join(pieces)
        pieces.append(more)


def until(condition, what, pause=0.005):
    """For what can only be looked at from outside."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(pause)


def sleeps(server):
    """That it has nothing to do and does nothing: it is not even woken."""
    for _ in range(20):
        before = server.switches()
        time.sleep(0.15)
        if server.switches() == before:
            return
    raise AssertionError("it wakes although nothing happens")


def on_alarm(signum, frame):
    raise TimeoutError(f"not finished after {LIMIT} s")


def main():
    chosen = [t for t in TESTS
              if len(sys.argv) < 2 or any(word in t.__name__ for word in sys.argv[1:])]
    signal.signal(signal.SIGALRM, on_alarm)
    failed = skipped = 0
    for function in chosen:
        signal.alarm(LIMIT)
        began = time.monotonic()
        try:
            function()
        except Skipped as why:
            skipped += 1
            print(f"skipped: {function.__name__}: {why}")
        except Exception:  # every failure is told, and the next test run
            failed += 1
            print(f"failed: {function.__name__}")
            print("  " + traceback.format_exc()[-3000:].replace("\n", "\n  "), flush=True)
        signal.alarm(0)
        if "REACTOR_TEST_TIMES" in os.environ:
            print(f"{time.monotonic() - began:7.2f} s  {function.__name__}", flush=True)
    passed = len(chosen) - failed - skipped
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" * bool(skipped)))
    return 1 if failed else 0


@contextlib.contextmanager
def running(*command, **popen):
    """Any other program; ended when the block is left."""
    process = subprocess.Popen(command, **popen)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
