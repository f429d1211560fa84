#!/usr/bin/env python3
"""static_server as a process, spoken to by raw sockets, http.client, curl and nc.

    tests/test_static.py [--windows DIRECTORY] [test_x ...]

Rows of the tables count as tests. Every answer that comes in anywhere is checked for what all
answers have to have. Nothing sleeps for what can be observed, and no time is asserted that a busy
machine would break.

--windows runs DIRECTORY's static_server.exe under wine, on each of Windows' backends. The files are
made on this side, so that there are also some that Windows could not have: they are baits, which a
server that takes a name too lightly would find. What has no meaning there is skipped, with the
reason. What wine cannot show: short names as Windows makes them (its own it does), streams (a colon
is part of a name), devices by name beneath "\\\\?\\" (they are files), links as such (it follows
them, and lists them as files), final names of more than MAX_PATH.
"""

import contextlib
import ctypes
import email.utils
import fcntl
import gzip
import http.client
import mmap
import os
import pty
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.parse

BUILD = os.environ.get("REACTOR_TEST_BUILD", "build")
BACKEND = os.environ.get("REACTOR_TEST_BACKEND", "")
SANITIZED = os.path.basename(BUILD.rstrip("/")) in ("asan", "ubsan", "tsan")
PROGRAM = [os.path.abspath(f"{BUILD}/tests/static_server")]
WINDOWS = ""  # the directory of the programs for it
ENV = None
LIMIT_S = 600  # of one test function: hangs end there, not what is slow
WAIT_S = 20   # for anything that must happen

passed, failed, skipped = 0, 0, 0
current = ""


def check(good, what, detail=""):
    """One row."""
    global passed, failed
    if good:
        passed += 1
        return True
    failed += 1
    print(f"failed: {current}: {what} {str(detail)[:4000]}", flush=True)
    return False


def skip(why):
    global skipped
    skipped += 1
    print(f"skipped: {current}: {why}", flush=True)


def not_on_windows(why):
    """Whether this is the other system; there the test, or the rest of it, has no meaning."""
    if WINDOWS:
        skip(why)
    return bool(WINDOWS)


# ---- the server and its files ----

def write(root, name, data, mtime=None):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


OLD = 1600000000  # Sun, 13 Sep 2020 12:26:40 GMT
OLD_DATE = "Sun, 13 Sep 2020 12:26:40 GMT"
SMALL = bytes(range(256)) * 4
LARGE = random.Random(1).randbytes(3_000_000)
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


def make_site(top):
    root = os.path.join(top, "root")
    write(root, "index.html", b"<h1>home</h1>\n", OLD)
    write(root, "alphabet.txt", ALPHABET, OLD)
    write(root, "small.bin", SMALL, OLD)
    write(root, "middle.bin", LARGE[:40000], OLD)
    write(root, "large.bin", LARGE, OLD)
    write(root, "empty.txt", b"", OLD)
    write(root, "dir/index.html", b"in dir\n", OLD)
    write(root, "dir/deep/er/x.txt", b"x\n", OLD)
    write(root, "bare/one.txt", b"1\n", OLD)
    write(root, "bare/<b>&\"'.txt", b"markup\n", OLD)
    write(root, "bare/&'%.txt", b"markup\n", OLD)
    write(root, "bare/.secret", b"no\n", OLD)
    write(root, "a b's \"quoted\" ü.txt", b"odd name\n", OLD)
    write(root, "a%20b.txt", b"percent\n", OLD)
    write(root, "a[1]|^.txt", b"brackets\n", OLD)
    write(root, "back\\slash.txt", b"backslash\n", OLD)
    write(root, "...dots/x", b"hidden\n", OLD)
    write(root, "x..y/z..", b"dots\n", OLD)
    write(root, ".hidden", b"hidden\n", OLD)
    write(root, ".git/config", b"hidden\n", OLD)
    write(root, ".well-known/acme/token", b"token\n", OLD)
    write(root, ".well-known/.secret", b"hidden\n", OLD)
    write(root, ".well-knownx", b"hidden\n", OLD)
    write(root, "page.html", b"plain page\n" * 9, OLD)
    write(root, "page.html.gz", gzip.compress(b"plain page\n" * 9, mtime=0), OLD)
    write(root, "page.html.br", b"\x8b\x00\x80brotli, say", OLD)
    write(root, "style.css", b"body{}\n", OLD)
    write(root, "style.css.gz", gzip.compress(b"body{}\n", mtime=0), OLD)
    write(root, "stale.js", b"new\n", OLD)
    write(root, "stale.js.gz", gzip.compress(b"old\n", mtime=0), OLD - 100)
    write(top, "outside.txt", b"outside\n")
    write(top, "root-sibling/x", b"outside\n")
    os.symlink("../outside.txt", os.path.join(root, "escape.txt"))
    os.symlink(os.path.join(top, "outside.txt"), os.path.join(root, "absolute.txt"))
    os.symlink("..", os.path.join(root, "up"))
    os.symlink("/", os.path.join(root, "slash"))
    os.symlink("/proc/self/environ", os.path.join(root, "environ"))
    os.symlink("alphabet.txt", os.path.join(root, "inside.txt"))
    os.symlink("../alphabet.txt", os.path.join(root, "dir/inside.txt"))
    os.symlink("dir", os.path.join(root, "dirlink"))
    os.symlink("loop", os.path.join(root, "loop"))
    os.symlink("nowhere", os.path.join(root, "dangling"))
    if WINDOWS:
        return root
    os.mkfifo(os.path.join(root, "fifo"))
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(root)
    s.bind("socket")
    os.chdir(here)
    s.close()
    with contextlib.suppress(OSError):
        os.mknod(os.path.join(root, "device"), 0o020666, os.makedev(1, 3))
    return root


class Server:
    def __init__(self, root, *flags, backend=True, **popen):
        args = [*PROGRAM, "--root", root, "--port", "0", *flags]
        if backend and BACKEND:
            args += ["--backend", BACKEND]
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=ENV, **popen)
        self.first = self.process.stdout.readline().decode()
        match = re.match(r"listening on (.*):(\d+)$", self.first.strip())
        if not match:
            raise RuntimeError(self.first + self.process.stderr.read().decode())
        self.second = self.process.stdout.readline().decode()
        self.port = int(match.group(2))

    def send(self, how):
        self.process.send_signal(how)

    def connect(self, timeout=WAIT_S, rcvbuf=0):
        s = socket.socket()
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.settimeout(timeout)
        s.connect(("127.0.0.1", self.port))
        return s

    def stop(self, how=signal.SIGTERM):
        """Its exit status; whatever it said on stderr is a failure of its own. Nothing tells a
        program of Windows' that has no console to end."""
        if WINDOWS:
            check(self.process.poll() is None, "the server goes on", self.process.returncode)
            how = signal.SIGKILL
        if self.process.poll() is None:
            self.send(how)
        out, err = self.process.communicate(timeout=WAIT_S)
        self.out = out.decode()
        if WINDOWS:  # wine's own server, started with it, may tell what was still open in the end
            err = re.sub(rb"^0x[0-9a-f]+:\d+: .*\n", b"", err, flags=re.M)
        if err or self.process.returncode not in (0, -how if WINDOWS else 0):
            check(False, "the server ended well", (self.process.returncode, err.decode()[:6000]))
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Console(Server):
    """One for Windows that has a console, by which it can be told to end."""

    def __init__(self, root):
        self.terminal, inside = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, "--root", root, "--port", "0", "--backend", BACKEND], stdin=inside, stdout=inside,
            stderr=inside, env={**ENV, "TERM": "xterm"}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(inside)
        said, match = b"", None
        while not match:
            said += os.read(self.terminal, 1000)
            text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", said.decode("utf-8", "replace"))
            match = re.search(r"listening *on.*:(\d+)\s+backend *" + BACKEND, text)
        self.port = int(match.group(1))

    def send(self, how):
        os.write(self.terminal, b"\x03")

    def stop(self, how=signal.SIGINT):
        if self.process.poll() is None:
            self.send(how)
        self.process.wait(WAIT_S)
        os.close(self.terminal)
        return self.process.returncode


# ---- answers ----

class Answer:
    def __init__(self, status, reason, fields, body):
        self.status, self.reason, self.fields, self.body = status, reason, fields, body

    def __getitem__(self, name):
        return self.fields.get(name.lower())

    def __repr__(self):
        return f"{self.status} {self.fields} {self.body[:60]!r}"


class Reader:
    """Answers from a socket, one after the other."""

    def __init__(self, sock):
        self.sock, self.buffer, self.eof, self.error = sock, b"", False, None

    def more(self):
        try:
            data = self.sock.recv(1 << 16)
        except (ConnectionResetError, BrokenPipeError) as e:
            self.error, data = e, b""
        if not data:
            self.eof = True
        self.buffer += data
        return bool(data)

    def answer(self, method="GET"):
        """The next one, or None at the end."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status, fields = self.head(lines)
        length = int(fields.get("content-length", 0))
        if method == "HEAD" or status == 304 or status < 200:
            length = 0
        while len(self.buffer) < length:
            if not self.more():
                check(False, "an answer as long as announced", lines)
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(status, lines[0], fields, body)

    def head(self, lines):
        """What all answers have to have."""
        match = re.fullmatch(r"HTTP/1\.1 (\d\d\d) [A-Za-z -]+", lines[0])
        if not match:
            raise AssertionError(f"status line {lines[0]!r}")
        status, fields = int(match.group(1)), {}
        for line in lines[1:]:
            field = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t\x20-\x7e\x80-\xff]*)", line)
            if not field or field.group(1).lower() in fields:
                raise AssertionError(f"field {line!r}")
            fields[field.group(1).lower()] = field.group(2)
        if status >= 200:
            date = email.utils.parsedate_to_datetime(fields["date"])
            assert email.utils.format_datetime(date, usegmt=True) == fields["date"], "Date's form"
            assert "content-length" in fields or status == 304, "Content-Length"
            assert "transfer-encoding" not in fields
            if "last-modified" in fields:
                modified = email.utils.parsedate_to_datetime(fields["last-modified"])
                assert modified <= date, "Last-Modified after Date"
            if "content-type" in fields:
                assert fields.get("x-content-type-options") == "nosniff"
            if status == 405:
                assert fields["allow"] == "GET, HEAD, OPTIONS"
        return status, fields


def get(server, target, *fields, method="GET", version="1.1", host="Host: a"):
    """One request on a connection of its own."""
    lines = [f"{method} {target} HTTP/{version}"] + ([host] if host else []) + list(fields)
    data = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
    with server.connect() as s:
        s.sendall(data)
        return Reader(s).answer(method)


def talk(server, data, pieces=None, shut=False):
    """Sends bytes, whole or in pieces; all answers until the server closes or shut's end. The list
    of statuses, and whether the server closed by itself."""
    with server.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces or [data]:
                s.sendall(piece)
            if shut:
                s.shutdown(socket.SHUT_WR)
        reader, answers = Reader(s), []
        methods = re.findall(rb"^(?:\r\n)*([A-Z]+) ", data)
        while True:
            method = methods[0].decode() if methods and not answers else "GET"
            a = reader.answer(method)
            if a is None:
                return answers
            answers.append(a)


LAST = b"GET /alphabet.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def outcome(server, data):
    """Statuses of what is sent, followed by a good request that asks for the end: if that was
    answered, the connection had gone on."""
    return [a.status for a in talk(server, data + LAST)]


# ---- parsing ----

H = "Host: a\r\n"
GOOD = [  # answered with 200, and the connection goes on
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nhOsT:a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\t a \t\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [fe80::1:2]:8080\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [v1.a:b]\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a_b.c-d~e\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: %61.example\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.9\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://other:81/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET HTTP://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://[::1]:80/?q HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://%61/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /? HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /?a=b&c[]={d}|e\\`^ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /?a/../../b?c HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /?%00%ff%2e HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: \t\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\xff\x80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09az: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 99 + "\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: " + "y" * 20000 + "\r\n\r\n",
    "GET /?" + "q" * 8100 + " HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, foo\r\nUpgrade: websocket\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: Keep-Alive, x\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\nExpect: 200-ok\r\nConnection: keep-alive\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS /nope HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 00005\r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\t5 \r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 43\r\n\r\n" + "GET /smuggled HTTP/1.1\r\nHost: a\r\nX: 12345\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + "b" * 200000,
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked ,\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00005\r\nhello\r\n000\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0;y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 ; x=\"y;z\" ; w=1\r\nhello\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\nContent-Length: 99\r\nZ:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n7\r\n\r\n0\r\n\r\n\r\n0\r\nX: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + "1\r\nx\r\n" * 20000 + "0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a,b\r\nAccept: */*\r\nCookie: a=b; c=\"d\"\r\nReferer: http://x/\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHosts: b\r\nXHost: c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nExpect:\r\n\r\n",
]
ON = [  # refused, but the framing is understood: the connection goes on
    (405, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
    (405, "POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (405, "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    (405, "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (405, "PATCH / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (405, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    (405, "CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "Get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "GETT / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "BREW /pot HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbean"),
    (501, "!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (421, "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (421, "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (421, "GET urn:x:y HTTP/1.1\r\nHost: a\r\n\r\n"),
    (404, "GET /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
]
BAD = [  # refused, and the connection is closed: what follows must not be answered
    (400, "GET / HTTP/1.1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, "GET http://a/ HTTP/1.1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n".replace(",", "/")),
    (400, "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: http://a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: \xe4\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"),
    # request lines
    (400, "GET /\r\nHost: a\r\n\r\n"),
    (400, "GET\r\nHost: a\r\n\r\n"),
    (400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "\tGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1 x\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    (400, "GET / a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP 1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/a.b\r\nHost: a\r\n\r\n"),
    (400, "GET / FTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / XHTTP/1.1\r\nHost: a\r\n\r\n"),
    (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    (505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (400, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET, / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "G\xc4T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (400, "\x00GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, ": / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "\r\n" * 9 + "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    # targets
    (400, "GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "HEAD * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET a:443 HTTP/1.1\r\nHost: a\r\n\r\n".replace("a:443", "a/b:443")),
    (400, "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /?#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /% HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /%4g HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /%u0041 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /?% HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\" HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /?\" HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /?\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http://:80/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http:/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http: HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http://a/%0g HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET 1http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET ://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    # fields
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\n\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n \r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX(: y\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\n\"X\": y\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX\xe4: y\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX Y: y\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX@Y: y\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX\x00: y\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    (400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
    (431, "GET / HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 100 + "\r\n"),
    (431, "GET / HTTP/1.1\r\nHost: a\r\nX: " + "y" * 40000 + "\r\n\r\n"),
    (431, "GET / HTTP/1.1\r\nHost: a\r\n" + ("X: " + "y" * 1000 + "\r\n") * 50 + "\r\n"),
    (431, "GET / HTTP/1.1\r\nHost: a\r\n" + "X" * 40000),
    (431, "GET / HTTP/1.1\r\nHost: a\r\n" + "Range: bytes=0-1\r\n" * 60 + "\r\n"),
    (414, "GET /" + "a" * 9000 + " HTTP/1.1\r\nHost: a\r\n\r\n"),
    (414, "GET /?" + "a" * 100000 + " HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "G" * 9000 + " / HTTP/1.1\r\nHost: a\r\n\r\n"),
    # framing
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\x0b\r\n\r\nhello"),
    (413, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n"),
    (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999999\r\n\r\n"),
    (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked-\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;x=y\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (417, "GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n"),
    (417, "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n"),
    (405, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
    (501, "BREW / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
    (413, "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n"),
]
CHUNKS = [  # a chunked body, and what it comes to
    (400, "\r\n"), (400, " 5\r\nhello\r\n0\r\n\r\n"), (400, "5 \r\nhello\r\n0\r\n\r\n"),
    (400, "5\nhello\r\n0\r\n\r\n"), (400, "5\r\nhello\n0\r\n\r\n"), (400, "5\r\nhelloX\r\n0\r\n\r\n"),
    (400, "5\r\nhell\r\n0\r\n\r\n"), (400, "g\r\n"), (400, "-5\r\nhello\r\n"), (400, "+5\r\nhello\r\n"),
    (400, "0x5\r\nhello\r\n0\r\n\r\n"), (400, "5\rhello\r\n"), (400, "5\r\rhello\r\n"),
    (400, "5;a\nhello\r\n0\r\n\r\n"), (400, "5;a\rb\r\nhello\r\n"), (400, "5;\x00\r\nhello\r\n"),
    (400, "5 5\r\nhello\r\n"), (400, ";\r\nhello\r\n"), (400, "5,\r\nhello\r\n"),
    (413, "FFFFFFFFFFFFFFFF\r\n"), (413, "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    (413, "100001\r\n"), (400, "0" * 40 + "5\r\nhello\r\n0\r\n\r\n"),
    (413, "5;" + "x" * 9000 + "\r\nhello\r\n"),
    (413, ("80000\r\n" + "x" * 0x80000 + "\r\n") * 2 + "1\r\nx\r\n0\r\n\r\n"),
    (400, "0\r\nX\r\n\r\n"), (400, "0\r\n: y\r\n\r\n"), (400, "0\r\nX : y\r\n\r\n"),
    (400, "0\r\nX: y\n\r\n"), (400, "0\r\n X: y\r\n\r\n"), (400, "0\r\nX: y\r\n folded\r\n\r\n"),
    (400, "0\r\nX: \x00\r\n\r\n"), (400, "0\r\n\rX"), (400, "0\r\n\n"), (400, "0\n\r\n"),
    (431, "0\r\nX: " + "y" * 9000 + "\r\n\r\n"), (431, "0\r\n" + "X: y\r\n" * 2000 + "\r\n"),
]


def b(text):
    return text.encode("latin-1")


def test_good_requests(server, root):
    for text in GOOD:
        got = outcome(server, b(text))
        if "Expect: 100" in text and "Length" in text:
            got = [s for s in got if s != 100]
        check(got == [200, 200], text[:100], got)


def test_refused_and_going_on(server, root):
    for status, text in ON:
        got = outcome(server, b(text))
        check(got == [status, 200], text[:100], got)


def test_refused_and_closed(server, root):
    for status, text in BAD:
        answers = talk(server, b(text) + LAST)
        got = [a.status for a in answers]
        if check(got == [status], text[:100], got):
            check(answers[0]["connection"] == "close", "says close: " + text[:80])


def test_chunked_bodies(server, root):
    head = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for status, text in CHUNKS:
        got = outcome(server, b(head + text))
        check(got == [status], text[:80], got)


def test_broken_bytes(server, root):
    """One byte of a good request is replaced by each control byte: never two answers, never none."""
    good = b"GET /alphabet.txt HTTP/1.1\r\nHost: a\r\nX: yz\r\n\r\n"
    for at in range(len(good)):
        for byte in (0, 10, 13, 127):
            if good[at] == byte:
                continue
            data = good[:at] + bytes([byte]) + good[at + 1:]
            got = [a.status for a in talk(server, data, shut=True)]
            check(got in ([400], [501], [404], [505], []) and (got or byte in (10, 13)),
                  f"byte {byte} at {at}", got)


def test_cut_at_every_byte(server, root):
    requests = [
        (b"GET /alphabet.txt?q HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\n\r\n", [206]),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nA: b\r\n\r\n", [200]),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", [405]),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", [400]),
    ]
    for data, want in requests:
        tail = LAST if want != [400] else b""
        full = want + ([200] if tail else [])
        for at in range(1, len(data)):
            got = [a.status for a in talk(server, data, [data[:at], data[at:] + tail], shut=True)]
            check(got == full, f"{data[:30]} cut at {at}", got)
        pieces = [data[i:i + 1] for i in range(len(data))] + [tail]
        got = [a.status for a in talk(server, data, pieces, shut=True)]
        check(got == full, f"{data[:30]} byte by byte", got)


# ---- connections ----

def test_keep_alive_and_pipelining(server, root):
    rows = [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, CLOSE\r\n\r\n", "close"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", "close"),
        ("GET / HTTP/1.0\r\n\r\n", "close"),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "close"),
        ("HEAD / HTTP/1.0\r\n\r\n", "close"),
    ]
    for text, want in rows:
        answers = talk(server, b(text) + LAST)
        check(len(answers) == 1 and answers[0]["connection"] == want, text[:80], answers)
    a = get(server, "/", "Connection: keep-alive", version="1.0")
    check(a["connection"] == "keep-alive", "1.0 is told that it is kept", a)
    a = get(server, "/")
    check(a["connection"] is None, "1.1 need not be told", a)
    names = ["alphabet.txt", "small.bin", "large.bin", "nope", "middle.bin", "empty.txt"]
    contents = {"alphabet.txt": ALPHABET, "small.bin": SMALL, "large.bin": LARGE,
                "middle.bin": LARGE[:40000], "empty.txt": b"", "nope": b"404 Not Found\n"}
    data = "".join(f"GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n" for n in names * 6)
    with server.connect() as s:
        s.sendall(b(data))
        s.shutdown(socket.SHUT_WR)
        reader = Reader(s)
        for n in names * 6:
            a = reader.answer()
            check(a is not None and a.body == contents[n], "pipelined " + n, a and a.status)
        check(reader.answer() is None, "and then the end")
    many = 5000
    with server.connect() as s:
        s.settimeout(WAIT_S)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError):
                s.sendall(b"GET /alphabet.txt HTTP/1.1\r\nHost: a\r\n\r\n" * many)
                s.shutdown(socket.SHUT_WR)
            os._exit(0)
        reader, count = Reader(s), 0
        while (a := reader.answer()) and a.body == ALPHABET:
            count += 1
        os.waitpid(pid, 0)
        check(count == many, "thousands pipelined", count)


def test_half_closed(server, root):
    answers = talk(server, b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n", shut=True)
    check([a.body for a in answers] == [LARGE], "a half-closed client gets all of it")
    check(talk(server, b"", shut=True) == [], "nothing asked, nothing answered")
    check(talk(server, b"\r\n", shut=True) == [], "an empty line is nothing")
    got = [a.status for a in talk(server, b"GET / HTTP/1.1\r\nHos", shut=True)]
    check(got == [400], "half a head", got)
    got = [a.status for a in talk(server, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", shut=True)]
    check(got == [400], "half a body", got)
    got = [a.status for a in talk(server, LAST + b"garbage", shut=True)]
    check(got == [200], "what follows the last request is not looked at", got)


def test_expect(server, root):
    for frame, body in (("Content-Length: 5", b"hello"),
                        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")):
        with server.connect() as s:
            s.sendall(b(f"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n{frame}\r\n\r\n"))
            reader = Reader(s)
            a = reader.answer()
            check(a.status == 100 and not a.fields, "100 first", a)
            s.sendall(body + LAST)
            check([reader.answer().status, reader.answer().status] == [200, 200], "then the answer")
    with server.connect() as s:
        s.sendall(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        s.settimeout(0.2)
        try:
            early = s.recv(100)
        except TimeoutError:
            early = b""
        s.settimeout(WAIT_S)
        s.sendall(b"ab")
        check(early == b"" and Reader(s).answer().status == 200, "none for HTTP/1.0", early)


def test_error_arrives_while_sending(server, root):
    """The client is still sending when it is refused; closing at once would reset it."""
    for head in ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n",
                 "GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n"):
        with server.connect() as s:
            sent = 0
            s.sendall(b(head))
            while sent < 3_000_000:
                sent += s.send(b"x" * 100_000)
            reader = Reader(s)
            a = reader.answer()
            check(a is not None and a.status in (400, 413), "the answer arrived", a)
            check(reader.answer() is None and reader.error is None, "and then an orderly end",
                  reader.error)


# ---- paths ----

PATHS = [
    ("/", 200), ("/index.html", 200), ("/./index.html", 200), ("/dir/../index.html", 200),
    ("//index.html", 200), ("///dir////index.html", 200), ("/dir/./deep/../index.html", 200),
    ("/%69ndex.html", 200), ("/dir/%2e/index.html", 200), ("/dir/%2e%2E/index.html", 200),
    ("/dir/deep/..", 200), ("/dir/.", 200), ("/dir/deep/%2e.", 200), ("/nope/../index.html", 200),
    ("/a%20b%27s%20%22quoted%22%20%C3%BC.txt", 200), ("/a%2520b.txt", 200), ("/a%20b.txt", 404),
    ("/a[1]|^.txt", 200), ("/a%5B1%5D%7C%5E.txt", 200), ("/back%5Cslash.txt", 200),
    ("/x..y/z..", 200), ("/inside.txt", 200), ("/dir/inside.txt", 200), ("/dirlink/index.html", 200),
    ("/.well-known/acme/token", 200), ("/dir/", 200), ("/bare/../", 200),
    ("/..", 400), ("/../", 400), ("/../index.html", 400), ("/../outside.txt", 400),
    ("/dir/../../outside.txt", 400), ("/%2e%2e/outside.txt", 400), ("/.%2e/outside.txt", 400),
    ("/%2e./%2e./outside.txt", 400), ("/dir/..//../outside.txt", 400), ("/./../outside.txt", 400),
    ("/../root-sibling/x", 400), ("/..%2foutside.txt", 404), ("/%2e%2e%2foutside.txt", 404),
    ("/..%5coutside.txt", 404), ("/%252e%252e/outside.txt", 404), ("/..%c0%afoutside.txt", 404),
    ("/%c0%ae%c0%ae/outside.txt", 404), ("/dir%2findex.html", 404), ("/dir%2Findex.html", 404),
    ("/%2findex.html", 404), ("/index.html%00", 400), ("/%00", 400), ("/index.html%00.png", 400),
    ("/dir/%00/../../", 400), ("/escape.txt", 404), ("/absolute.txt", 404), ("/up/outside.txt", 404),
    ("/up/root/index.html", 404), ("/up", 404), ("/up/", 404), ("/slash/etc/passwd", 404),
    ("/slash", 404), ("/environ", 404), ("/loop", 404), ("/loop/x", 404), ("/dangling", 404),
    ("/.hidden", 404), ("/.git/config", 404), ("/.git", 404), ("/.git/", 404), ("/%2ehidden", 404),
    ("/%2egit/config", 404), ("/dir/../.hidden", 404), ("/...dots/x", 404), ("/bare/.secret", 404),
    ("/.well-known/.secret", 404), ("/.well-knownx", 404), ("/.well-known/../.hidden", 404),
    ("/fifo", 403), ("/socket", 403), ("/fifo/", 403), ("/index.html/", 404),
    ("/index.html/x", 404), ("/nope", 404), ("/nope/", 404), ("/dir/nope", 404), ("/Index.html", 404),
    ("/index.html.", 404), ("/index.html%20", 404), ("/bare/", 403), ("/dir/deep/", 403),
    ("/" + "a" * 255, 404), ("/" + "a" * 256, 404), ("/" + "a/" * 3000 + "x", 404),
    ("/" + "%61" * 2000, 404), ("/dir/" * 1 + "../" * 1 + "dir/index.html", 200),
    ("/dir", 301), ("/dirlink", 301), ("/dir/deep", 301), ("/bare", 301), ("//dir", 301),
    ("/dir/deep/../../dir", 301), ("http://evil/dir", 301), ("/dir?x=y", 301),
]


# Where the answer on Windows is another one: names that it does not allow, links, and what it has
# not. "|" and quotes are only known to be refused because wine would serve them.
ON_WINDOWS = {target: 404 for target in (
    "/a%20b%27s%20%22quoted%22%20%C3%BC.txt", "/a[1]|^.txt", "/a%5B1%5D%7C%5E.txt",
    "/back%5Cslash.txt", "/x..y/z..", "/inside.txt", "/dir/inside.txt", "/dirlink/index.html",
    "/dirlink", "/fifo", "/socket", "/fifo/")}


def test_paths(server, root):
    for target, status in PATHS:
        a = get(server, target)
        status = ON_WINDOWS.get(target, status) if WINDOWS else status
        check(a and a.status == status, target[:80], a)
        if a and b"outside" in a.body:
            check(False, "never outside the root: " + target)
    if os.path.exists(os.path.join(root, "device")):
        check(get(server, "/device").status == 403, "a device")


DEVICES = ["CON", "con", "PRN", "AUX", "NUL", "nul", "COM1", "com9", "COM0", "LPT1", "lpt9", "COM\u00b9",
           "LPT\u00b3", "CONIN$", "conout$", "CLOCK$", "nul.txt", "NUL.tar.gz", "Con.html", "aux .h",
           "com1. x", "lpt1.x", "prn..x"]
NO_DEVICES = ["console", "co", "com", "com10", "comx", "lpt", "null.txt", "auxx", "x.con", "con_.txt",
              "CON\u00b9", "_nul"]
ODD = ["index.html::$DATA", "index.html:stream", "C:", "c:x", "x.", "x..", "x. ", "x ", "x .", "q?", "st*r",
       "<x", "x>", "x\"", "p|pe", "back\\slash", "tab\t", "\x01", "\x1f", "x\r\ny"]
FINE = ["\u00fc.txt", "\u65e5\u672c\u8a9e", "\U0001f600.txt", " x", "x~1", "a'b&c%d+e=f,g;h@i!j$k(l)[m]{n}^o`p~q#r",
        "\x7f", "x" * 150]


def quoted(name):
    return "/" + urllib.parse.quote(name)


def wine_cmd(*words):
    """What a command of Windows' says; a word that begins with a slash and has another is a path."""
    words = ["Z:" + w.replace("/", "\\") if w.count("/") > 1 else w for w in words]
    done = subprocess.run([PROGRAM[0], "cmd", "/c", *words], env=ENV, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=WAIT_S, check=False)
    return done.stdout.decode("utf-8", "replace").replace("\r", "")


def short_names(directory):
    """{long: short} of wine's own for what is in there."""
    lines = wine_cmd("dir", "/x", "/a", directory).splitlines()
    rows = [re.search(r"([^ ]+~[^ ]+) +(.+)$", line) for line in lines]
    return {row.group(2): row.group(1) for row in rows if row}


def test_names_of_windows(server, root):
    if not WINDOWS:
        return
    for name in DEVICES + ODD:
        for path in (name, "dir/" + name, name + "/x"):
            try:
                write(root, "names/" + path, b"bait\n", OLD)
            except OSError:  # there is a file of this name
                write(root, "names2/" + path, b"bait\n", OLD)
            for top in ("/names", "/names2"):
                a = get(server, top + quoted(path))
                check(a.status == 404, "refused: " + repr(path), a)
    for name in NO_DEVICES + FINE:
        write(root, "names/" + name, b"good\n", OLD)
        a = get(server, "/names" + quoted(name))
        check(a.status == 200 and a.body == b"good\n", "served: " + repr(name), a)
    unc = root.replace("/", "\\")
    outside = ["..\\outside.txt", "dir\\..\\..\\outside.txt", "dir\\index.html", "\\index.html", "C:\\windows\\win.ini",
               "C:/windows/win.ini", "c:windows/win.ini", "\\\\?\\C:\\windows\\win.ini", "\\\\.\\C:\\windows\\win.ini",
               "?/C:/windows/win.ini", "??/C:/windows/win.ini", "\\??\\C:\\windows\\win.ini", "\\\\.\\NUL", "\\\\.\\pipe\\x",
               "\\\\127.0.0.1\\C$\\windows\\win.ini", "\\\\?\\UNC\\127.0.0.1\\C$\\x", "Z:" + unc + "\\index.html",
               "\\\\?\\unix" + root + "/index.html", "GLOBALROOT/Device/Null", "file:", "..:\\outside.txt",
               "index.html:", "index.html:$DATA", "index.html::$data", "dir::$INDEX_ALLOCATION", "dir:$I30:$INDEX_ALLOCATION",
               "dir::$INDEX_ALLOCATION/index.html", ".git::$INDEX_ALLOCATION/config", "*", "*.html", "index.htm?",
               "index<", "dir/*", "index.html\\", ". ", ".. ", "... ", ".. /outside.txt", ".../outside.txt",
               "dir/.. /.. /outside.txt", ".. ./outside.txt", "..../outside.txt", " ", ". ./index.html"]
    for name in outside:
        for target in (quoted(name), "/" + urllib.parse.quote(name, safe="")):
            a = get(server, target)
            check(a.status in (400, 404), "refused: " + repr(name), a)
            check(b"outside" not in a.body and b"fonts" not in a.body, "nothing of it: " + repr(name), a)
    for name in ("INDEX.HTML", "Index.html", "index.HTML", "Dir/index.html", "dir/INDEX.html", ".GIT/config",
                 ".Git/config", ".Well-Known/acme/token", "DIR", "DIR/"):
        check(get(server, quoted(name)).status == 404, "another case: " + name)
    for text in ("%ff", "%c0%ae%c0%ae/outside.txt", "%c1%9coutside.txt", "%ed%a0%80", "%f4%90%80%80", "%c3", "x%80",
                 "%ef%bc%8e%ef%bc%8e/outside.txt", "%e2%88%95", "..%ef%bc%8foutside.txt", "..%c1%9coutside.txt"):
        check(get(server, "/" + text).status == 404, "no such text: " + text)
    for name in ("\ufffd", "x\ufffd", "\ufffd\ufffd\ufffd"):  # what those would be read as
        write(root, name, b"good\n", OLD)
        check(get(server, quoted(name)).status == 200, "served: " + name)
    for text in ("%ff", "x%80", "%ed%a0%80", "x%c3"):
        check(get(server, "/" + text).status == 404, "no such text: " + text)
    short = short_names(root)
    if check(".git" in short and "alphabet.txt" not in short.values(), "wine's short names", short):
        for name, other in short.items():
            for target in (other, other + "/config", other + "/"):
                check(get(server, quoted(target)).status == 404, f"short for {name}: {target}")


def test_redirects(server, root):
    write(root, "evil.example/x", b"")
    write(root, "sp ace?#%<\"/x" if not WINDOWS else "sp ace#%'/x", b"")
    rows = [
        ("/dir", "/dir/"), ("/dir?a=b&c", "/dir/?a=b&c"), ("//dir", "/dir/"), ("///dir", "/dir/"),
        ("//evil.example", "/evil.example/"), ("/\\evil.example".replace("\\", "%5C"), None),
        ("/.//evil.example", "/evil.example/"), ("/dir/..//evil.example", "/evil.example/"),
        ("http://evil.example/dir", "/dir/"), ("/dir?//evil", "/dir/?//evil"),
        ("/dir/deep", "/dir/deep/"),
        ("/sp%20ace%23%25'", "/sp%20ace%23%25%27/") if WINDOWS else
        ("/sp%20ace%3F%23%25%3C%22", "/sp%20ace%3F%23%25%3C%22/"),
    ]
    for target, want in rows:
        a = get(server, target)
        check(a["location"] == want, target, a)
    a = get(server, "/dir%0d%0aX:%20y")
    check(a.status == 404 and a["x"] is None, "no field by way of a path", a)


def test_contents(server, root):
    for name, want in (("alphabet.txt", ALPHABET), ("small.bin", SMALL), ("large.bin", LARGE),
                       ("middle.bin", LARGE[:40000]), ("empty.txt", b""),
                       ("dir/index.html" if WINDOWS else "inside.txt", b"in dir\n" if WINDOWS else ALPHABET)):
        for again in (0, 1):
            a = get(server, "/" + name)
            check(a.status == 200 and a.body == want, name, a.status)
        h = get(server, "/" + name, method="HEAD")
        same = {k: v for k, v in a.fields.items() if k != "date"}
        check({k: v for k, v in h.fields.items() if k != "date"} == same, "HEAD " + name, h)
    for target in ("/nope", "/dir", "/fifo", "/..", "/bare/"):
        a, h = get(server, target), get(server, target, method="HEAD")
        a.fields.pop("date"), h.fields.pop("date")
        check(h.status == a.status and h.fields == a.fields and h.body == b"", "HEAD " + target, h)
    a = get(server, "*", method="OPTIONS")
    check(a["allow"] == "GET, HEAD, OPTIONS" and a.body == b"", "OPTIONS", a)


def test_types(server, root):
    rows = {
        "a.html": "text/html; charset=utf-8", "a.HTM": "text/html; charset=utf-8",
        "a.css": "text/css; charset=utf-8", "a.js": "text/javascript; charset=utf-8",
        "a.mjs": "text/javascript; charset=utf-8", "a.txt": "text/plain; charset=utf-8",
        "a.json": "application/json", "a.svg": "image/svg+xml", "a.png": "image/png",
        "a.jpg": "image/jpeg", "a.jpeg": "image/jpeg", "a.gif": "image/gif", "a.webp": "image/webp",
        "a.avif": "image/avif", "a.ico": "image/vnd.microsoft.icon", "a.wasm": "application/wasm",
        "a.woff2": "font/woff2", "a.ttf": "font/ttf", "a.pdf": "application/pdf", "a.xml": "application/xml",
        "a.mp4": "video/mp4", "a.webm": "video/webm", "a.mp3": "audio/mpeg", "a.zip": "application/zip",
        "a.tar.gz": "application/gzip", "a.csv": "text/csv; charset=utf-8",
        "a.md": "text/markdown; charset=utf-8", "a.unknown": "application/octet-stream",
        "plain": "application/octet-stream", "a.": "application/octet-stream",
        "html": "application/octet-stream", "x.d/y": "application/octet-stream",
        "a.webmanifest": "application/manifest+json",
    }
    for name, want in rows.items():
        if WINDOWS and name == "a.":
            continue
        write(root, "types/" + name, b"x", OLD)
        a = get(server, "/types/" + name)
        check(a.status == 200 and a["content-type"] == want, name, a)
    with open("examples/static_server.c", encoding="utf-8") as f:
        table = re.findall(r'\{"([a-z0-9]+)", "[a-z]+/[^"]+"\}', f.read())
    check(len(table) >= 60 and table == sorted(set(table)), "some sixty, in order", len(table))


def test_codings(server, root):
    rows = [
        ("page.html", None, None), ("page.html", "", None), ("page.html", "gzip", "gzip"),
        ("page.html", "GZIP", "gzip"), ("page.html", "x-gzip", "gzip"), ("page.html", "br", "br"),
        ("page.html", "gzip, deflate, br", "br"), ("page.html", "gzip;q=1.0, br;q=0.5", "gzip"),
        ("page.html", "gzip;q=0", None), ("page.html", "gzip;q=0.000", None),
        ("page.html", "gzip; q=0.5", "gzip"), ("page.html", "*", "br"), ("page.html", "*;q=0.5, br;q=0", "gzip"),
        ("page.html", "deflate", None), ("page.html", "identity", None),
        ("page.html", "identity;q=1, gzip;q=0.5", None), ("page.html", "identity;q=0.2, gzip;q=0.5", "gzip"),
        ("page.html", "identity;q=0, gzip", "gzip"), ("page.html", "*;q=0, gzip", "gzip"),
        ("page.html", "gzip;q=2", None), ("page.html", "gzip;q=x", None), ("page.html", "gzip;foo=1", None),
        ("page.html", "gzipx", None), ("page.html", "xbr, gzip", "gzip"),
        ("style.css", "gzip, br", "gzip"), ("style.css", "br", None), ("stale.js", "gzip, br", None),
        ("alphabet.txt", "gzip, br", None), ("small.bin", "gzip", None),
    ]
    raw = {n: open(os.path.join(root, n), "rb").read() for n in os.listdir(root)
           if os.path.isfile(os.path.join(root, n)) and not n.startswith(".")}
    suffix = {"gzip": ".gz", "br": ".br", None: ""}
    etags = {}
    for name, accept, want in rows:
        for again in (0, 1):
            a = get(server, "/" + name, *([f"Accept-Encoding: {accept}"] if accept is not None else []))
            good = (a.status == 200 and a["content-encoding"] == want
                    and a.body == raw[name + suffix[want]] and a["vary"] == "Accept-Encoding")
            check(good, f"{name} {accept}", a)
        etags.setdefault(name, {})[want] = a["etag"]
        check(a["content-type"] == get(server, "/" + name)["content-type"], f"type of {name} {accept}")
    check(len(set(etags["page.html"].values())) == 3, "an ETag for each coding", etags["page.html"])
    a = get(server, "/page.html", "Accept-Encoding: gzip", "Accept-Encoding: br;q=0.1")
    check(a["content-encoding"] == "gzip", "two fields", a)
    for accept in ("identity;q=0", "*;q=0", "br, *;q=0"):
        a = get(server, "/alphabet.txt", "Accept-Encoding: " + accept)
        check(a.status == 406, accept, a)
    a = get(server, "/page.html", "Accept-Encoding: gzip", "Range: bytes=1-3")
    check(a.status == 206 and a.body == raw["page.html.gz"][1:4] and a["content-encoding"] == "gzip",
          "a range of the coded form", a)
    a = get(server, "/page.html.gz", "Accept-Encoding: gzip")
    check(a["content-encoding"] is None and a["content-type"] == "application/gzip", "itself", a)
    write(root, "late.txt", b"plain\n", OLD)
    a = get(server, "/late.txt", "Accept-Encoding: gzip")
    write(root, "late.txt.gz", gzip.compress(b"plain\n"))
    z = get(server, "/late.txt", "Accept-Encoding: gzip")
    os.unlink(os.path.join(root, "late.txt.gz"))
    y = get(server, "/late.txt", "Accept-Encoding: gzip")
    got = [v["content-encoding"] for v in (a, z, y)]
    check(got == [None, "gzip", None], "one that comes and goes is seen at once", got)


# ---- conditions ----

def test_conditions(server, root):
    etag = get(server, "/alphabet.txt")["etag"]
    check(re.fullmatch(r'"[!-~]+"', etag.replace('\\"', "")) is not None, "a strong ETag", etag)
    other, weak = '"other"', "W/" + etag
    before, after = "Sat, 12 Sep 2020 12:26:40 GMT", "Mon, 14 Sep 2020 12:26:40 GMT"
    later = "Fri, 01 Jan 2100 00:00:00 GMT"
    im, inm, ims, ius = ("If-Match: ", "If-None-Match: ", "If-Modified-Since: ",
                         "If-Unmodified-Since: ")
    rows = [
        ([im + etag], 200), ([im + "*"], 200), ([im + other], 412), ([im + weak], 412),
        ([im + f"{other}, {etag}"], 200), ([im + f"{other},{weak}"], 412), ([im + "junk"], 412),
        ([im], 412), ([im + other, im + etag], 200), ([im + '"a,b", ' + etag], 200),
        ([inm + etag], 304), ([inm + "*"], 304), ([inm + weak], 304), ([inm + other], 200),
        ([inm + f"{other} , {weak}"], 304), ([inm + other, inm + etag], 304), ([inm + "junk"], 200),
        ([inm], 200), ([inm + etag[:-1]], 200), ([inm + etag.strip('"')], 200),
        ([inm + f", ,{etag},"], 304), ([inm + f'"x,{etag[1:]}'], 200),
        ([ims + OLD_DATE], 304), ([ims + before], 200), ([ims + after], 304), ([ims + later], 304),
        ([ims + "Sunday, 13-Sep-20 12:26:40 GMT"], 304), ([ims + "Sun Sep 13 12:26:40 2020"], 304),
        ([ims + "Sunday, 13-Sep-20 12:26:39 GMT"], 200), ([ims + "Sun Sep 13 12:26:39 2020"], 200),
        ([ims + "sun, 13 sep 2020 12:26:40 gmt"], 200), ([ims + "yesterday"], 200), ([ims + "0"], 200),
        ([ims + OLD_DATE.replace("GMT", "UTC")], 200), ([ims + OLD_DATE, ims + OLD_DATE], 200),
        ([ims + "1600000001"], 200), ([ims], 200),
        ([ius + OLD_DATE], 200), ([ius + after], 200), ([ius + before], 412), ([ius + "junk"], 200),
        ([ius + "Sunday, 13-Sep-20 12:26:39 GMT"], 412), ([ius + before, ius + before], 200),
        # 13.2.2: the order of precedence
        ([im + etag, ius + before], 200), ([im + other, ius + after], 412),
        ([im + etag, inm + etag], 304), ([im + other, inm + etag], 412),
        ([ius + before, inm + etag], 412), ([ius + after, inm + etag], 304),
        ([inm + other, ims + OLD_DATE], 200), ([inm + etag, ims + before], 304),
        ([im + "*", inm + other, ims + OLD_DATE], 200), ([im + etag, ims + OLD_DATE], 304),
        ([ius + OLD_DATE, ims + OLD_DATE], 304),
        ([inm + other, "Range: bytes=0-0"], 206), ([inm + etag, "Range: bytes=0-0"], 304),
        ([im + other, "Range: bytes=0-0"], 412), ([im + etag, "Range: bytes=99-"], 416),
        ([inm + etag, "Range: bytes=99-"], 304),
    ]
    for fields, want in rows:
        for method in ("GET", "HEAD"):
            a = get(server, "/alphabet.txt", *fields, method=method)
            if method == "HEAD" and any(f.startswith("Range") for f in fields):
                expect = 200 if want in (206, 416) else want
            else:
                expect = want
            check(a.status == expect, f"{method} {fields}", a)
            if a.status == 304:
                check(a["etag"] == etag and a["vary"] and not a["last-modified"] and
                      not a["content-type"] and a.body == b"", f"a 304's fields {fields}", a)
    for target, status in (("/nope", 404), ("/dir", 301), ("/bare/" if WINDOWS else "/fifo", 403)):
        for field in (im + other, inm + "*", ius + before):
            check(get(server, target, field).status == status, f"{target} {field} is ignored")
    check(get(server, "/", im + other, method="OPTIONS").status == 200, "OPTIONS has no conditions")
    check(get(server, "/", im + other, method="POST").status == 405, "nor has what is refused")


def parts_of(a):
    """(Content-Range, bytes) of a multipart/byteranges body."""
    boundary = re.fullmatch(r"multipart/byteranges; boundary=([\w-]+)", a["content-type"]).group(1)
    body, parts = b"\r\n" + a.body, []
    pieces = body.split(b("\r\n--" + boundary))
    assert pieces[0] == b"" and pieces[-1] == b"--\r\n", pieces
    for piece in pieces[1:-1]:
        head, _, data = piece.partition(b"\r\n\r\n")
        fields = dict(line.split(": ") for line in head.decode().strip().split("\r\n"))
        assert fields["Content-Type"]
        parts.append((fields["Content-Range"], data))
    return parts


def test_ranges(server, root):
    A, n = ALPHABET, len(ALPHABET)
    single = [
        ("0-0", 0, 0), ("0-25", 0, 25), ("5-9", 5, 9), ("25-25", 25, 25), ("20-", 20, 25),
        ("0-", 0, 25), ("-1", 25, 25), ("-5", 21, 25), ("-26", 0, 25), ("-100", 0, 25),
        ("20-99", 20, 25), ("0-99999999999999999999999", 0, 25), ("-99999999999999999999", 0, 25),
        ("005-009", 5, 9), (" 5-9", 5, 9), ("5-9 ", 5, 9), (",5-9,", 5, 9), ("5-9,99-", 5, 9),
        ("0-3,4-9", 0, 9), ("0-5,3-9", 0, 9), ("5-9,0-4", 0, 9), ("-0,3-4", 3, 4), ("1-2,1-2", 1, 2),
    ]
    for spec, start, end in single:
        a = get(server, "/alphabet.txt", "Range: bytes=" + spec)
        check(a.status == 206 and a.body == A[start:end + 1]
              and a["content-range"] == f"bytes {start}-{end}/{n}" and a["etag"]
              and a["last-modified"] == OLD_DATE and a["content-type"], spec, a)
    for unit in ("Bytes=1-2", "BYTES=1-2"):
        check(get(server, "/alphabet.txt", "Range: " + unit).status == 206, unit)
    for spec in ("26-", "26-30", "99-100", "-0", "99999999999999999999-", "30-,40-", "-0,26-"):
        a = get(server, "/alphabet.txt", "Range: bytes=" + spec)
        check(a.status == 416 and a["content-range"] == f"bytes */{n}", spec, a)
    ignored = ["bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5", "bytes=9-5", "bytes=1-2-3",
               "bytes=+1-2", "bytes=0x1-2", "bytes 1-2", "bytes=1 - 2", "bytes:1-2", "lines=1-2",
               "bytes=1-2;3-4", "bytes=,", "bytes=0-0,x", "=1-2", "", "bytes=--1", "bytes=1-2,9-5",
               "bytes =1-2", "bytes=" + ",".join(f"{i}-{i}" for i in range(0, 26, 1)) + ",0-0" * 3]
    for value in ignored:
        a = get(server, "/alphabet.txt", "Range: " + value)
        check(a.status == 200 and a.body == A and a["content-range"] is None, value[:60], a)
    a = get(server, "/alphabet.txt", "Range: bytes=0-1", "Range: bytes=4-5")
    check(a.status == 200, "two fields", a)
    a = get(server, "/alphabet.txt", "Range: bytes=0-1", method="HEAD")
    check(a.status == 200 and a["content-length"] == str(n), "none for HEAD", a)
    for spec in ("0-", "0-0", "5-"):
        check(get(server, "/empty.txt", "Range: bytes=" + spec).status == 416, "empty file " + spec)
    check(get(server, "/empty.txt", "Range: bytes=-5").status == 200, "empty file's end")
    several = [
        ("/alphabet.txt", "0-0,2-3", [(0, 0), (2, 3)]), ("/alphabet.txt", "-1,0-0", [(25, 25), (0, 0)]),
        ("/alphabet.txt", "0-0 , 5-6 ,\t20-", [(0, 0), (5, 6), (20, 25)]),
        ("/alphabet.txt", "0-4,10-14,3-6,99-", [(10, 14), (0, 6)]),
        ("/large.bin", "0-9,1000000-1000099,-10", [(0, 9), (1000000, 1000099), (2999990, 2999999)]),
        ("/middle.bin", "0-9,100-20000", [(0, 9), (100, 20000)]),
    ]
    whole = {"/alphabet.txt": A, "/large.bin": LARGE, "/middle.bin": LARGE[:40000]}
    for target, spec, want in several:
        a = get(server, target, "Range: bytes=" + spec)
        if check(a.status == 206 and a["content-range"] is None, spec, a):
            data = whole[target]
            expect = sorted((f"bytes {s}-{e}/{len(data)}", data[s:e + 1]) for s, e in want)
            check(sorted(parts_of(a)) == expect, "parts of " + spec)
    a = get(server, "/large.bin", "Range: bytes=1500000-")
    check(a.status == 206 and a.body == LARGE[1500000:], "half of a large file", a.status)
    etag = get(server, "/alphabet.txt")["etag"]
    for value, status in [(etag, 206), ('"x"', 200), ("W/" + etag, 200), (OLD_DATE, 206),
                          ("Sun, 13 Sep 2020 12:26:41 GMT", 200), ("Sun, 13 Sep 2020 12:26:39 GMT", 200),
                          ("Sunday, 13-Sep-20 12:26:40 GMT", 206), ("Sun Sep 13 12:26:40 2020", 206),
                          ("junk", 200), ("", 200), ("*", 200), (etag + ", " + etag, 200)]:
        a = get(server, "/alphabet.txt", "Range: bytes=1-2", "If-Range: " + value)
        check(a.status == status, "If-Range " + value, a)
        if a.status == 206:
            check(a["etag"] == etag and not a["content-type"] and not a["last-modified"],
                  "no more than needed", a)
    a = get(server, "/alphabet.txt", "If-Range: " + etag)
    check(a.status == 200, "If-Range alone means nothing", a)
    a = get(server, "/alphabet.txt", "Range: bytes=99-", 'If-Range: "x"')
    check(a.status == 200, "nor is a range refused that does not count", a)


def test_tags(server, root):
    """Size and time of modification make the tag, so that only a change of these, or of the content,
    changes it. What could have changed within one tick has no strong tag that could be the same."""
    def tag(name):
        return get(server, "/" + name)["etag"]

    for name, data in (("tagged-small.txt", ALPHABET), ("tagged-large.bin", LARGE[:100000])):
        path = write(root, name, data, OLD)
        etag = tag(name)
        check(not etag.startswith("W/"), "strong when it is old: " + name, etag)
        changes = [("chmod", lambda: os.chmod(path, 0o640))]
        if not WINDOWS:
            changes += [("a link", lambda: os.link(path, path + ".link")),
                        ("renamed", lambda: (os.rename(path, path + ".x"), os.rename(path + ".x", path)))]
        for what, change in changes:
            change()
            check(get(server, "/" + name, "If-None-Match: " + etag).status == 304, f"{what}: 304 {name}")
            a = get(server, "/" + name, "Range: bytes=5-", "If-Range: " + etag)
            check(a.status == 206 and a.body == data[5:], f"{what}: 206 {name}", a)
        os.utime(path, (OLD, OLD + 1))
        check(tag(name) != etag, "another time, another tag: " + name, etag)
        write(root, name, data + b"x", OLD)
        check(tag(name) != etag, "another size, another tag: " + name, etag)
    tags = set()
    for i in range(20):  # same size and time
        write(root, "tagged-small.txt", b"%08d" % i, OLD)
        tags.add(tag("tagged-small.txt"))
    check(len(tags) == 20, "a tag for each content", tags)
    path = write(root, "tagged-large.bin", LARGE[:100000])
    a = get(server, "/tagged-large.bin")
    etag = a["etag"]
    check(etag.startswith('W/"'), "a large file that is new has a weak one", a)
    rows = [("If-None-Match: ", etag, 304), ("If-None-Match: ", etag[2:], 304), ("If-Match: ", etag, 412),
            ("If-Match: ", etag[2:], 412), ("If-Match: ", "*", 200)]
    for field, value, want in rows:
        check(get(server, "/tagged-large.bin", field + value).status == want, field + value)
    for value in (etag, etag[2:]):
        a = get(server, "/tagged-large.bin", "Range: bytes=5-", "If-Range: " + value)
        check(a.status == 200 and len(a.body) == 100000, "no part by " + value, a)
    os.utime(path, (OLD, OLD))
    check(tag("tagged-large.bin")[:2] != "W/", "and a strong one later")


# ---- files that change ----

def test_never_stale(server, root):
    """Same size, same path, rewritten at once: every answer is the file as it is."""
    path = os.path.join(root, "changing.txt")
    etags, good = set(), 0
    with server.connect() as s:
        reader = Reader(s)
        for i in range(300):
            data = b"%08d" % i
            if i % 3 == 0:
                write(root, "changing.tmp", data)
                os.rename(os.path.join(root, "changing.tmp"), path)
            elif i % 3 == 1:
                write(root, "changing.txt", data)
            else:
                with open(path, "r+b") as f:
                    f.write(data)
            for again in range(2):
                s.sendall(b"GET /changing.txt HTTP/1.1\r\nHost: a\r\n\r\n")
                good += reader.answer().body == data
            if i % 100 == 99:
                os.utime(path, (OLD, OLD))
    check(good == 600, "never stale", good)
    write(root, "gone.txt", b"here", OLD)
    got = [get(server, "/gone.txt").status]
    os.unlink(os.path.join(root, "gone.txt"))
    got.append(get(server, "/gone.txt").status)
    write(root, "gone.txt", b"back", OLD)
    got.append(get(server, "/gone.txt").body)
    check(got == [200, 404, b"back"], "gone and back", got)
    write(root, "replaced.txt", b"inside", OLD)
    get(server, "/replaced.txt")
    os.unlink(os.path.join(root, "replaced.txt"))
    os.symlink("../outside.txt", os.path.join(root, "replaced.txt"))
    check(get(server, "/replaced.txt").status == 404, "a file replaced by a way out")
    future = time.time() + 1000
    write(root, "future.txt", b"later", future)
    a = get(server, "/future.txt")
    check(a.status == 200 and a["last-modified"], "a date to come is not told", a)
    a = get(server, "/large.bin")
    with open(os.path.join(root, "grows.bin"), "wb") as f:
        f.write(LARGE[:100000])
    a = get(server, "/grows.bin")
    with open(os.path.join(root, "grows.bin"), "ab") as f:
        f.write(LARGE[100000:200000])
    check(a.body == LARGE[:100000] and get(server, "/grows.bin").body == LARGE[:200000], "grown")


def test_stores_by_a_mapping(server, root):
    """They need not move the times of the file."""
    if not_on_windows("there a mapping moves the times"):
        return
    path = write(root, "mapped.bin", b"A" * 4096)
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 4096) as mapped:
        mapped[0] = ord("B")  # the page has been written to: only now stores are unseen
        while time.time() - os.stat(path).st_ctime < 2.5:  # until when its content would not be kept
            time.sleep(0.05)
        before = os.stat(path)
        a = get(server, "/mapped.bin")
        mapped[0] = ord("C")
        after = os.stat(path)
        deadline = time.monotonic() + WAIT_S
        while (z := get(server, "/mapped.bin")).body[:1] != b"C" and time.monotonic() < deadline:
            time.sleep(0.05)
        check(a.body[:1] == b"B" and z.body[:1] == b"C", "a store is seen", (a, z))
        check(a["etag"] != z["etag"], "and changes the tag", z)
        if (before.st_mtime_ns, before.st_ctime_ns) != (after.st_mtime_ns, after.st_ctime_ns):
            skip("this file system moves the times with each store")


def test_deleted(server, root):
    """Nobody's disk stays full, or busy, for a file that was served once."""
    if not_on_windows("none stays open for longer than its answer"):
        return

    def held():
        links = []
        for fd in os.listdir(f"/proc/{server.process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{server.process.pid}/fd/{fd}"))
        return [link for link in links if "deleted-" in link]

    for i in range(20):
        path = write(root, f"deleted-{i}.bin", LARGE[:100000 + i], OLD)
        get(server, f"/deleted-{i}.bin")
        os.unlink(path)
    deadline = time.monotonic() + WAIT_S
    while (left := held()) and time.monotonic() < deadline:
        time.sleep(0.05)
    check(not left, "deleted files are let go of", left)


def test_replaced_by_windows(server, root):
    """A file that is open cannot be replaced there: none stays open for longer than its answer."""
    if not WINDOWS:
        return
    for i, ask in enumerate(((), ("If-None-Match: *",), ("Range: bytes=0-0",))):
        for method in ("GET", "HEAD"):
            name = os.path.join(root, f"replaced{i}{method}.bin")
            write(root, name, LARGE[:100000], OLD)
            get(server, "/" + os.path.basename(name), *ask, method=method)
            write(root, "new.bin", LARGE[:90000], OLD)
            said = wine_cmd("move", "/y", os.path.join(root, "new.bin"), name)
            a = get(server, "/" + os.path.basename(name))
            check(a.body == LARGE[:90000], f"replaced after {method} {ask}", (said, len(a.body)))


def test_link_turned_over(server, root):
    if not_on_windows("no link within the root is followed"):
        return
    write(root, "swap/a/x.txt", b"first", OLD)
    write(root, "swap/b/x.txt", b"other", OLD)
    link = os.path.join(root, "swap/current")
    os.symlink("a", link)
    got = [get(server, "/swap/current/x.txt").body]
    os.symlink("b", link + ".new")
    os.rename(link + ".new", link)
    got.append(get(server, "/swap/current/x.txt").body)
    os.unlink(link)
    got.append(get(server, "/swap/current/x.txt").status)
    check(got == [b"first", b"other", 404], "a link turned over", got)


def slow_start(server, target, rcvbuf=4096):
    """Asks for a large file and reads nothing but the head."""
    s = server.connect(rcvbuf=rcvbuf)
    s.sendall(b(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    data = b""
    while b"\r\n\r\n" not in data:
        data += s.recv(512)
    head, _, rest = data.partition(b"\r\n\r\n")
    return s, int(re.search(rb"Content-Length: (\d+)", head).group(1)), rest


def drink(s, have=b""):
    """(bytes until the end, whether the end was orderly)"""
    data = bytearray(have)
    try:
        while chunk := s.recv(1 << 16):
            data += chunk
    except ConnectionResetError:
        return bytes(data), False
    return bytes(data), True


def test_size_changes_while_sending(server, root):
    size = 40_000_000
    path = os.path.join(root, "huge.bin")
    with open(path, "wb") as f:
        f.truncate(size)
    s, length, rest = slow_start(server, "/huge.bin")
    with s:
        os.truncate(path, 1000)
        data, orderly = drink(s, rest)
        check(length == size and len(data) < size and not orderly,
              "a file that shrinks ends the connection", (len(data), orderly))
    with open(path, "wb") as f:
        f.truncate(size)
    s, length, rest = slow_start(server, "/huge.bin")
    with s:
        with open(path, "ab") as f:
            f.write(b"x" * 1000)
        s.sendall(LAST)
        data, orderly = drink(s, rest)
        check(data[:size].count(0) == size and data[size:].startswith(b"HTTP/1.1 200 OK\r\n") and orderly,
              "one that grows is sent as announced", len(data))
    s, length, rest = slow_start(server, "/huge.bin")
    with s:
        os.unlink(path)
        s.shutdown(socket.SHUT_WR)
        data, orderly = drink(s, rest)
        check(len(data) == size + 1000 and orderly, "one that is removed is sent to its end", len(data))


# ---- other flags, other servers ----

def test_listing(top, root):
    with Server(root, "--list") as server:
        a = get(server, "/bare/")
        text = a.body.decode()
        check(a.status == 200 and a["content-type"] == "text/html; charset=utf-8", "a page", a)
        check("<b>" not in text and ("&lt;b&gt;&amp;&quot;" in text) != bool(WINDOWS), "escaped", text)
        check(("%3Cb%3E%26%22%27.txt" in text) != bool(WINDOWS), "encoded", text)
        check(">&amp;'%.txt<" in text and '"./%26%27%25.txt"' in text, "others alike", text)
        check(">one.txt</a></td><td>2<" in text, "sizes", text)
        check("secret" not in text and 'href="../"' in text, "nothing hidden", text)
        a = get(server, "/dir/deep/")
        check('<a href="./er/">er/</a>' in a.body.decode(), "directories have a slash", a)
        check(get(server, "/dir/").body == b"in dir\n", "an index comes first")
        check(get(server, "/bare").status == 301, "the slash still comes first")
        check(get(server, "/bare/", method="HEAD").status == 200, "HEAD")
        check(get(server, "/bare/", "If-None-Match: *").status == 304, "it exists")
        check(get(server, "/bare/", 'If-Match: "x"').status == 412, "without a validator")
        os.mkdir(os.path.join(root, "crowd"))
        for i in range(2100):
            open(os.path.join(root, "crowd", f"{i}" + "'" * 240), "w").close()
        os.symlink("../alphabet.txt", os.path.join(root, "crowd/in"))
        os.symlink("../../outside.txt", os.path.join(root, "crowd/out"))
        a = get(server, "/crowd/")
        check(a.status == 200 and b"and more" in a.body and len(a.body) < 1 << 20, "bounded", a)
        check(len(get(server, "/crowd/").body) == len(a.body), "and again", len(a.body))
        if not WINDOWS and not SANITIZED:
            before = resident(server)
            slow = [server.connect(rcvbuf=4096) for _ in range(30)]
            for s in slow:  # the kernel takes some of it
                s.sendall(b"GET /crowd/ HTTP/1.1\r\nHost: a\r\n\r\n" * 9)
            grown = 0
            for _ in range(30):
                check(get(server, "/crowd/").status == 200, "for others, too")
                grown = max(grown, resident(server) - before)
            check(grown < 16 << 20, "those who do not read it have one together", grown)
            for s in slow:
                s.close()
        for n in os.listdir(os.path.join(root, "crowd")):
            if n[0].isdigit():
                os.unlink(os.path.join(root, "crowd", n))
        if not_on_windows("links, which are not listed, look like files in wine"):
            return
        text = get(server, "/crowd/").body.decode()
        check(">in<" in text and ">out<" not in text, "links that lead out are left out", text)


def resident(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmRSS:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024


def test_many_listings(top, root):
    """More pages than are kept at once: 503 for those beyond, until they are let go of."""
    if not_on_windows("there is nothing that stops a process for a while"):
        return
    site = os.path.join(top, "many")
    for i in range(24):
        for j in range(480):
            write(site, f"d{i}/{j:03d}" + "\"" * 240, b"")
    with Server(site, "--list") as server:
        slow = [server.connect(rcvbuf=4096) for _ in range(23)]
        for i, s in enumerate(slow):  # the kernel takes some of it
            s.sendall(b(f"GET /d{i}/ HTTP/1.1\r\nHost: a\r\n\r\n" * 9))
        deadline = time.monotonic() + WAIT_S
        while (a := get(server, "/d23/")).status == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        check(a.status == 503, "so many and no more", a)
        check(get(server, "/d0/").status == 200, "one that somebody has is there for all")
        for s in slow:
            s.close()
        while (a := get(server, "/d23/")).status == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        check(a.status == 200, "room again", a)


def order_of_answers(site, many, *flags):
    """The server has input of two clients: many requests of one, and one of another. Returns how
    many of the many were answered before the one, by the log."""
    log = os.path.join(site, "..", "order.log")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(log)
    with Server(site, "--access-log", log, *flags) as server:
        s, other = server.connect(), server.connect()
        for x in (s, other):
            x.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            Reader(x).answer("HEAD")
        server.send(signal.SIGSTOP)
        os.waitid(os.P_PID, server.process.pid, os.WSTOPPED)
        s.sendall(b"".join(many))
        other.sendall(b"HEAD /other HTTP/1.1\r\nHost: a\r\n\r\n")
        server.send(signal.SIGCONT)
        reader = Reader(s)
        answers = [reader.answer("HEAD") for _ in many]
        check(all(answers), "all are answered", len(answers))
        Reader(other).answer("HEAD")
        s.close()
        other.close()
    lines = open(log, encoding="ascii").read().splitlines()
    check(len(lines) == len(many) + 3, "each once", len(lines))
    return [i for i, line in enumerate(lines) if "HEAD /other " in line][0] - 2, answers


def test_fairness(top, root):
    """Whoever asks for much lets others through in between."""
    if not_on_windows("there is nothing that stops a process for a while"):
        return
    site = os.path.join(top, "fair")
    for i in range(150):
        for j in range(20):
            write(site, f"d{i}/{j}", b"")
    heads = [b(f"HEAD /d{i}/ HTTP/1.1\r\nHost: a\r\n\r\n") for i in range(150)]
    before, answers = order_of_answers(site, heads, "--list")
    check(before < 10, "one listing a turn", before)
    check({a.status for a in answers} == {200}, "all of them listings", answers[0])
    before, _ = order_of_answers(site, [b"HEAD /d0/1 HTTP/1.1\r\nHost: a\r\n\r\n"] * 1000)
    check(before <= 130, "so many requests a turn", before)
    before, _ = order_of_answers(site, [b"HEAD /d0/ HTTP/1.1\r\nHost: a\r\n\r\n"] * 1000, "--list")
    check(before <= 130, "the same listing as well", before)
    with Server(site, "--list") as server:  # requests that are held, in all forms
        form = "GET /d{}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        data = "".join(form.format(i) + f"GET /d{i}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" for i in range(20))
        for shut in (False, True):
            answers = talk(server, b(data) + LAST.replace(b"alphabet.txt", b"d3/1"), shut=shut)
            check([a.status for a in answers] == [200] * 41, f"with bodies, {shut}", len(answers))
            check(all(f">/d{i // 2}<" in answers[i].body.decode() for i in range(40)), "in order")
        answers = talk(server, b(data), shut=True)
        check([a.status for a in answers] == [200] * 40, "held when the end comes", len(answers))
        answers = talk(server, b(data + "GET /d0/ HTTP/1.1\r\nHo"), shut=True)
        check([a.status for a in answers] == [200] * 40 + [400], "and with a half one behind", len(answers))
        some = [server.connect() for _ in range(30)]
        for i, s in enumerate(some):
            s.sendall(b(f"GET /d{i + 50}/ HTTP/1.1\r\nHost: a\r\n\r\n"))
        for s in some[::2]:  # gone while they wait
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        got = [Reader(s).answer().status for s in some[1::2]]
        check(got == [200] * 15, "others wait their turn", got)
        for s in some[1::2]:
            s.close()


def test_options_that_change_answers(top, root):
    with Server(root, "--index", "page.html", "--charset", "ISO-8859-1",
                "--cache-control", "max-age=60, public") as server:
        a = get(server, "/")
        check(a.body == b"plain page\n" * 9, "another index", a)
        check(a["content-type"] == "text/html; charset=ISO-8859-1", "another charset", a)
        check(a["cache-control"] == "max-age=60, public", "Cache-Control", a)
        a = get(server, "/", "If-None-Match: *")
        check(a.status == 304 and a["cache-control"], "also with 304", a)
        a = get(server, "/", "Range: bytes=0-0")
        check(a.status == 206 and a["cache-control"], "and with 206", a)
        check(get(server, "/nope")["cache-control"] is None, "not with errors")
        check(get(server, "/dir/").status == 403, "no other index")
    with Server(root, "--charset", "none") as server:
        check(get(server, "/")["content-type"] == "text/html", "no charset")


def test_slow_clients(top, root):
    with Server(root, "--header-timeout", "0.3", "--idle-timeout", "0.5", "--send-timeout", "0.5") as server:
        rows = [
            (b"GET / HTTP/1.1\r\nHo", [408], "half a head"), (b"G", [408], "one byte"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", [408], "half a body"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na", [408], "half a chunk"),
            (b"", [], "nothing"), (b"\r\n", [], "an empty line"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [200], "one request and no more"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /", [200, 408], "one and a half"),
        ]
        for data, want, what in rows:
            answers = talk(server, data)
            check([a.status for a in answers] == want, what, answers)
            if want[-1:] == [408]:
                check(answers[-1]["connection"] == "close", what + " says close")
        for head in (b"GET / HTTP/1.1\r\nX: ",
                     b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"):
            with server.connect() as s:  # a trickle does not help
                s.sendall(head)
                ended, began = False, time.monotonic()
                s.setblocking(False)
                while not ended and time.monotonic() - began < WAIT_S:
                    with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                        s.send(b"y")
                    with contextlib.suppress(BlockingIOError):
                        ended = b" 408 " in s.recv(1000)
                    time.sleep(0.02)
                check(ended, "a trickle")
        s, length, rest = slow_start(server, "/large.bin")  # a reader that does not read
        with s:
            other = get(server, "/alphabet.txt")
            check(other.status == 200, "nobody else waits")
            deadline = time.monotonic() + WAIT_S
            info = 1
            while info == 1 and time.monotonic() < deadline:  # TCP_ESTABLISHED
                info = s.getsockopt(socket.IPPROTO_TCP, 11, 1)[0]
                time.sleep(0.02)
            check(info != 1, "a reader that does not read is cut off")
        s, length, rest = slow_start(server, "/large.bin", 30000)  # one that reads slowly is not
        with s:
            got = len(rest)
            while got < length:
                chunk = s.recv(30000)
                if not chunk:
                    break
                got += len(chunk)
                time.sleep(0.005)
            check(got == length, "a slow reader gets all of it", got)


def test_many_idle(top, root):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 300 if BACKEND == "select" and WINDOWS else 700  # wine's select is slow
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, want + 200)), hard))
    with Server(root) as server:
        idle = [server.connect() for _ in range(want)]
        for s in idle[::2]:
            s.sendall(b"GET /alphabet.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        good = sum(Reader(s).answer().body == ALPHABET for s in idle[::2])
        check(good == len(idle[::2]), "half of them were served", good)
        check(get(server, "/large.bin").body == LARGE, "another beside them")
        for s in idle:
            s.sendall(b"GET /empty.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        good = sum(Reader(s).answer().status == 200 for s in idle)
        check(good == want, "all of them can still talk", good)
        for s in idle:
            s.close()


def test_max_connections(top, root):
    with Server(root, "--max-connections", "2") as server:
        one, two = server.connect(), server.connect()
        for s in (one, two):
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            check(Reader(s).answer().status == 200, "within the limit")
        three = server.connect()
        three.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        one.close()
        check(Reader(three).answer().status == 200, "the third when one has gone")
        two.close()
        three.close()


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))


def test_few_descriptors(top, root):
    """With the table full of connections files still cannot be opened: 503, or a wait; never an
    end. When there is room again all is well."""
    if not_on_windows("there is no limit to set on what a program opens"):
        return
    for i in range(60):
        write(root, f"fill/{i}.bin", LARGE[:70000 + i], OLD)
    with Server(root, preexec_fn=few_files) as server:
        for i in range(60):
            a = get(server, f"/fill/{i}.bin")
            check(a.status == 200 and len(a.body) == 70000 + i, f"file {i} of many", a.status)
        idle = [server.connect() for _ in range(60)]
        statuses = set()
        for s in idle[:20]:
            s.sendall(b"GET /fill/3.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /alphabet.txt HTTP/1.1\r\nHost: a\r\n\r\n")
            reader = Reader(s)
            statuses |= {reader.answer().status, reader.answer().status}
        check(statuses <= {200, 503}, "200 or 503", statuses)
        for s in idle:
            s.close()
        check(get(server, "/fill/3.bin").status == 200, "and it recovers")


def deny_openat2():
    """A seccomp filter under which openat2 fails as in an old container."""
    number = {"x86_64": 437, "aarch64": 437}.get(os.uname().machine)
    libc = ctypes.CDLL(None, use_errno=True)
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 1), (0x06, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program)
    class Fprog(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    fprog = Fprog(len(code), ctypes.cast(buffer, ctypes.c_void_p).value)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(fprog), 0, 0):
        os._exit(99)


def test_without_openat2(top, root):
    if not_on_windows("openat2 is Linux's"):
        return
    if os.uname().machine not in ("x86_64", "aarch64"):
        return
    links = {"/inside.txt", "/dir/inside.txt", "/dirlink/index.html", "/dirlink"}
    with Server(root, preexec_fn=deny_openat2) as server:
        for target, status in PATHS:
            a = get(server, target)
            want = 404 if target in links else status
            check(a.status in (want, 403) if target in links else a.status == want, target[:80], a)


def test_root_replaced(top, root):
    for name in ("one", "two"):
        write(top, f"release-{name}/index.html", b(name), OLD)
    link = os.path.join(top, "current")
    os.symlink(os.path.abspath("examples/site"), link)  # files that are not new, and so known again
    with Server(link) as server:
        got = [get(server, "/").status, get(server, "/").status]
        os.symlink("release-one", link + ".new")
        os.rename(link + ".new", link)
        got += [get(server, "/").body]
        os.symlink("release-two", link + ".new")
        os.rename(link + ".new", link)
        got += [get(server, "/").body, get(server, "/nope").status]
        os.unlink(link)
        got.append(get(server, "/").status)
        check(got == [200, 200, b"one", b"two", 404, 404], "the root is a link that is turned over", got)


# ---- the process ----

def test_drain(top, root):
    start = Console if WINDOWS else Server
    for how in (signal.SIGINT,) if WINDOWS else (signal.SIGTERM, signal.SIGINT):
        server = start(root)
        idle = server.connect()
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        check(Reader(idle).answer().status == 200, "served")
        half = server.connect()
        half.sendall(b"GET /alphabet.txt HTTP/1.1\r\nHost")
        s, length, rest = slow_start(server, "/large.bin", 8192)
        got = get(server, "/alphabet.txt")  # what was sent before has been read by now
        began = time.monotonic()
        server.send(how)
        check(idle.recv(10) == b"", "an idle one sees the end")
        half.sendall(b": a\r\n\r\n")
        a = Reader(half).answer()
        check(a is not None and a.status == 200 and a["connection"] == "close", "half a request is finished", a)
        data, orderly = drink(s, rest)
        check(data == LARGE and orderly, "and so is an answer", len(data))
        check(server.stop() == 0, "exit 0")
        check(time.monotonic() - began < 15, "in time")
        for x in (idle, half, s):
            x.close()
    server = start(root)  # one that never reads does not hold it up
    s, _, _ = slow_start(server, "/large.bin")
    began = time.monotonic()
    check(server.stop() == 0 and time.monotonic() - began < 15, "cut off after three seconds")
    s.close()
    server = start(root)
    s, _, _ = slow_start(server, "/large.bin")
    server.send(signal.SIGTERM)
    while True:  # until it no longer listens: the first signal was seen
        try:
            server.connect().close()
        except OSError:
            break
    check(server.stop(signal.SIGTERM) == 0, "a second signal does not wait")
    s.close()


def test_drain_pipelined(top, root):
    """All that has come is answered, and the last answer says that it is the last."""
    if not_on_windows("without a console it does not end by itself"):
        return
    server = Server(root)
    half = server.connect()
    half.sendall(b"GET /alphabet.txt HTTP/1.1\r\nHost")
    get(server, "/alphabet.txt")  # what was sent before has been read by now
    server.send(signal.SIGTERM)
    with contextlib.suppress(OSError, TypeError):  # until it drains: who comes then is served once
        while get(server, "/alphabet.txt")["connection"] != "close":
            pass
    half.sendall(b": a\r\n\r\n" + b"GET /alphabet.txt HTTP/1.1\r\nHost: a\r\n\r\n" * 99)
    reader = Reader(half)
    answers = []
    while a := reader.answer():
        answers.append(a["connection"])
    check(answers == [None] * 99 + ["close"], "the last of many says so", answers[-3:])
    half.close()
    check(server.stop() == 0, "exit 0")
    server = Server(root)  # requests that it has not read, nor their connections accepted
    peers = [server.connect() for _ in range(20)]
    for s in peers:
        s.sendall(b"GET /alphabet.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        Reader(s).answer()
    server.send(signal.SIGSTOP)
    os.waitid(os.P_PID, server.process.pid, os.WSTOPPED)
    peers += [server.connect() for _ in range(20)]
    for s in peers:
        s.sendall(b"GET /alphabet.txt HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    server.send(signal.SIGTERM)
    server.send(signal.SIGCONT)
    for i, s in enumerate(peers):
        reader = Reader(s)
        answers = []
        while a := reader.answer():
            answers.append(a["connection"])
        # The last does not say so if they were read before the signal was: then the end follows it.
        check(len(answers) == 3 and answers[:2] == [None] * 2, f"what was sent before is answered, {i}", answers)
        s.close()
    check(server.stop() == 0, "exit 0 again")


def signal_sets(process, which):
    """What /proc says is blocked, ignored and caught."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
        masks = re.findall(r"^Sig(?:Blk|Ign|Cgt):\s+([0-9a-f]+)$", f.read(), re.M)
    return [{signum for signum in which if int(mask, 16) >> (signum - 1) & 1} for mask in masks]


def test_signals_of_the_parent(top, root):
    """Blocked ones are heard, ignored ones stay ignored, but SIGTERM."""
    if not_on_windows("no parent decides about signals there"):
        return
    three = {signal.SIGINT, signal.SIGHUP, signal.SIGTERM}

    def ignore():
        for signum in three:
            signal.signal(signum, signal.SIG_IGN)

    for signum in three:
        server = Server(root, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, three))
        blocked, _, caught = signal_sets(server.process, three)
        check(not blocked and caught == three, "blocked by the parent", (blocked, caught))
        check(server.stop(signum) == 0, f"ended by {signum}")
    with Server(root, preexec_fn=ignore) as server:
        _, ignored, caught = signal_sets(server.process, three)
        check((ignored, caught) == (three - {signal.SIGTERM}, {signal.SIGTERM}), "ignored by the parent",
              (ignored, caught))
        server.send(signal.SIGINT)
        server.send(signal.SIGHUP)
        check(get(server, "/alphabet.txt").status == 200, "they stay so")
    for flags in ([], ["--access-log"], ["--access-log", os.path.join(top, "usr1.log")]):
        with Server(root, *flags) as server:
            for _ in range(3):
                server.send(signal.SIGUSR1)
                check(get(server, "/alphabet.txt").status == 200, f"SIGUSR1 with {flags}")


def test_log_that_is_full(top, root):
    """The file has reached the size that the process may give it: said once, and nobody waits."""
    if not_on_windows("no limit can be set on the size of a file"):
        return
    path = os.path.join(top, "full.log")
    limit = 2000
    server = Server(root, "--access-log", path,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    deadline = time.monotonic() + WAIT_S
    with server.connect() as s:
        reader, asked = Reader(s), 0
        while os.path.getsize(path) < limit and time.monotonic() < deadline:
            s.sendall(b"GET /alphabet.txt?first HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
            asked += sum(reader.answer().status == 200 for _ in range(20))
        said = server.process.stderr.readline().decode()
        check("the access log cannot be written" in said, "said", said)
        os.rename(path, path + ".1")
        server.send(signal.SIGUSR1)
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        s.sendall(b"GET /alphabet.txt?again HTTP/1.1\r\nHost: a\r\n\r\n")
        check(reader.answer().body == ALPHABET, "it goes on")
    server.send(signal.SIGTERM)
    _, err = server.process.communicate(timeout=WAIT_S)
    check(server.process.returncode == 0, "and ends well", (server.process.returncode, err))
    lines = open(path + ".1").read() + open(path).read()
    lost = sum(map(int, re.findall(rb"(\d+) log lines lost", err)))
    rest = re.sub(rb"static_server: (\d+ log lines lost|the access log cannot be written: .*)\n", b"", err)
    check(lines.count("first") + lines.count("again") + lost == asked + 1 and not rest,
          "every line is there, or counted", (asked, lines.count("\n"), err))
    check(os.path.getsize(path + ".1") == limit, "as far as it went")


def test_access_log(top, root):
    path = os.path.join(top, "access.log")
    line = re.compile(r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] '
                      r'"((?:[ -!#-\[\]-~]|\\x[0-9a-f]{2})*)" (\d{3}) (\d+)')
    server = Server(root, "--access-log", path)
    get(server, "/alphabet.txt")
    get(server, "/nope", method="HEAD")
    get(server, "/?q=\\x`")
    talk(server, b"GET /\x01\" HTTP/1.1\r\nHost: a\r\n\r\n")
    talk(server, b"GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n" * 50 + LAST)
    deadline = time.monotonic() + WAIT_S
    if not WINDOWS:
        os.rename(path, path + ".1")
        server.process.send_signal(signal.SIGUSR1)
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.01)
    get(server, "/small.bin")
    while WINDOWS and open(path).read().count("\n") < 56 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.stop()
    lines = ([] if WINDOWS else open(path + ".1").read().splitlines()) + open(path).read().splitlines()
    rows = [line.fullmatch(text) for text in lines]
    check(all(rows) and len(rows) == 56, "lines in the common format", lines[:6])
    if all(rows):
        got = [r.groups() for r in rows]
        check(got[0] == ("GET /alphabet.txt HTTP/1.1", "200", "26"), "the first", got[0])
        check(got[1] == ("HEAD /nope HTTP/1.1", "404", "0"), "HEAD has no bytes", got[1])
        check(got[2][0] == "GET /?q=\\x5cx` HTTP/1.1", "a backslash", got[2])
        check(got[3][1] == "400", "what is not understood", got[3])
        check(got[5][1:] == ("304", "0"), "not modified", got[5])
    check(open(path).read().count("small.bin") == 1, "the last, reopened where that can be")
    with Server(root, "--access-log", path) as server:
        get(server, "/alphabet.txt")
        while not (text := open(path).read()).endswith(" 26\n") and time.monotonic() < deadline:
            time.sleep(0.01)
    check(text.count("\n") == (57 if WINDOWS else 2), "a log goes on where it ended", text)
    if not_on_windows("without a console it does not end by itself, and wine has no pipes that never make "
                      "one wait"):
        return
    server = Server(root, "--access-log")
    get(server, "/alphabet.txt")
    server.stop()
    check(line.fullmatch(server.out.strip()) is not None, "to standard output", server.out)
    fifo = os.path.join(top, "log.fifo")  # nobody reads it: nobody waits for it
    os.mkfifo(fifo)
    process = Server(root, "--access-log", fifo)
    many = b"GET /alphabet.txt?" + b"x" * 1000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    with process.connect() as s:
        reader, good = Reader(s), 0
        for _ in range(10):
            s.sendall(many * 60)
            good += sum(reader.answer().body == ALPHABET for _ in range(60))
    check(good == 600, "a log that nobody reads holds nobody up", good)
    process.process.send_signal(signal.SIGTERM)
    _, err = process.process.communicate(timeout=WAIT_S)
    check(process.process.returncode == 0, "and ends", err)


def test_flags(top, root):
    plain = os.path.join(root, "alphabet.txt")
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = str(taken.getsockname()[1])
    rows = [
        ([], 2), (["--bogus"], 2), (["--root"], 2), (["--root", ""], 2), (["x"], 2),
        (["--root", root, "--port"], 2), (["--root", root, "--port", "x"], 2),
        (["--root", root, "--port", "65536"], 2), (["--root", root, "--port", "-1"], 2),
        (["--root", root, "--port", " 1"], 2), (["--root", root, "--index", "a/b"], 2),
        (["--root", root, "--index", ""], 2), (["--root", root, "--charset", "a b"], 2),
        (["--root", root, "--cache-control", "a\r\nb"], 2), (["--root", root, "--idle-timeout", "0"], 2),
        (["--root", root, "--idle-timeout", "x"], 2), (["--root", root, "--header-timeout", "1e3"], 2),
        (["--root", root, "--send-timeout", "-1"], 2), (["--root", root, "--send-timeout", "nan"], 2),
        (["--root", root, "--max-connections", "many"], 2), (["--root", root, "--backend", "nope"], 2),
        (["--root", root, "--list", "yes"], 2), (["--root", root + "/nope", "--port", "0"], 1),
        (["--root", plain, "--port", "0"], 1), (["--root", root, "--port", port], 1),
        (["--root", root, "--port", "0", "--host", "nonsense"], 1),
        (["--root", root, "--port", "0", "--host", "203.0.113.77"], 1),
        (["--root", root, "--port", "0", "--access-log", root + "/no/such/log"], 1),
    ]
    for args, status in rows:
        p = subprocess.run([*PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT_S,
                           env=ENV, check=False)
        good = p.returncode == status and p.stdout == b"" and p.stderr.count(b"\n") == 1
        check(good and p.stderr.startswith(b"static_server: "), str(args), (p.returncode, p.stderr))
    taken.close()
    p = subprocess.run([*PROGRAM, "--help"], capture_output=True, timeout=WAIT_S, env=ENV, check=False)
    check(p.returncode == 0 and b"--root DIR" in p.stdout and p.stderr == b"", "--help", p)
    with Server(root, "--host", "localhost") as server:
        check(server.second.startswith("backend " + (BACKEND or "")), "says its backend", server.second)


def test_closed_stdio(top, root):
    """Its sockets must not take the places of the standard streams."""
    if not_on_windows("standard streams have no numbers that a socket could get"):
        return
    probe = socket.socket()
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    command = f'exec "{PROGRAM[0]}" --root "{root}" --port {port} --access-log <&- >&- 2>&-'
    process = subprocess.Popen(["/bin/sh", "-c", command])
    deadline = time.monotonic() + WAIT_S
    body = None
    while body is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as s:
                s.sendall(LAST)
                body = Reader(s).answer().body
        except ConnectionRefusedError:
            time.sleep(0.02)
    check(body == ALPHABET, "served with nothing open", body)
    process.send_signal(signal.SIGTERM)
    check(process.wait(WAIT_S) == 0, "and ends well")


def test_clients(server, root):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    for name, want in (("/alphabet.txt", ALPHABET), ("/large.bin", LARGE), ("/nope", b"404 Not Found\n")):
        c.request("GET", name)
        check(c.getresponse().read() == want, "http.client " + name)
    c.request("GET", "/alphabet.txt", body=iter([b"a", b"bc"]), encode_chunked=True,
              headers={"Transfer-Encoding": "chunked"})
    check(c.getresponse().read() == ALPHABET, "http.client, chunked")
    c.close()
    base = f"http://127.0.0.1:{server.port}"
    if shutil.which("curl"):
        def curl(*args):
            return subprocess.run(["curl", "-sS", "--max-time", str(WAIT_S), *args],
                                  capture_output=True, check=False).stdout
        check(curl(base + "/large.bin") == LARGE, "curl")
        check(curl("-L", base + "/dir") == b"in dir\n", "curl follows")
        check(curl("-r", "1-2", base + "/alphabet.txt") == b"bc", "curl with a range")
        check(curl("--compressed", base + "/style.css") == b"body{}\n", "curl decompresses")
        check(curl("-C", "20", base + "/alphabet.txt") == ALPHABET[20:], "curl resumes")
        check(b"HTTP/1.1 200 OK" in curl("-I", base + "/"), "curl -I")
        got = curl("-o", os.devnull, "-w", "%{http_code}", "-T", os.path.join(root, "large.bin"), base + "/x")
        check(got == b"413", "curl hears that its upload is too large", got)
        got = curl("-o", os.devnull, "-w", "%{http_code}", "--data", "x=y", base + "/")
        check(got == b"405", "curl posts in vain", got)
        got = curl("-Z", *(f"{base}/small.bin" for _ in range(20)))
        check(got == SMALL * 20, "curl, in parallel", len(got))
    if shutil.which("nc"):
        p = subprocess.run(["nc", "-N", "127.0.0.1", str(server.port)], input=b"GET /alphabet.txt HTTP/1.0\n\n",
                           capture_output=True, timeout=WAIT_S, check=False)
        check(p.stdout.endswith(ALPHABET), "nc", p)


def test_site(top, root):
    """The sample site has all that it links to, and nothing from elsewhere."""
    with Server("examples/site") as server:
        seen, todo = set(), ["/"]
        while todo:
            target = todo.pop()
            if target in seen:
                continue
            seen.add(target)
            a = get(server, target)
            check(a.status == 200, "the site has " + target, a)
            if not a["content-type"].startswith("text/html"):
                continue
            text = a.body.decode("utf-8")
            links = re.findall(r'(?:href|src)="([^"]*)"', text)
            check(not any(re.match(r"[a-z]+:|//", link) for link in links), "no resources from elsewhere")
            todo += ["/" + link.replace("./", "") for link in links]
        kinds = {get(server, t)["content-type"].split(";")[0] for t in seen}
        check(kinds >= {"text/html", "text/css", "image/svg+xml"} and len(seen) >= 5, "pages, sheet, image", seen)


def test_browser(top, root):
    """A browser renders the sample site, and fetches what its page is made of."""
    if not_on_windows("the other tests have shown what a browser needs"):
        return
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        skip("none of chromium, chromium-browser, google-chrome is installed")
        return
    home, log = os.path.join(top, "browser"), os.path.join(top, "browser.log")
    picture = os.path.join(home, "page.png")
    os.mkdir(home)
    with Server("examples/site", "--access-log", log) as server:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", "--disable-background-networking", "--window-size=900,1200",
                   f"--user-data-dir={home}/data", "--dump-dom", f"--screenshot={picture}",
                   f"http://127.0.0.1:{server.port}/"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True,
                                   env={**os.environ, "HOME": home})
        try:
            page, said = process.communicate(timeout=LIMIT_S - 5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    page = page.decode("utf-8", "replace")
    check("<title>What a reactor is</title>" in page and "</footer>" in page, "the page's elements", (page, said))
    with open(log, encoding="ascii") as f:
        lines = dict(re.findall(r'"GET (\S+) HTTP/1\.1" (\d+ \d+)', f.read()))
    for target, name in (("/", "index.html"), ("/style.css", "style.css"), ("/reactor.svg", "reactor.svg")):
        want = f"200 {os.path.getsize('examples/site/' + name)}"
        check(lines.get(target) == want, "fetched " + target, lines)
    good = False
    with contextlib.suppress(OSError), open(picture, "rb") as f:
        start = f.read(24)
        good = start[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", start[16:]) == (900, 1200)
    check(good, "a picture of it", said)


# ---- running ----

def on_alarm(*_):
    raise TimeoutError(f"not finished after {LIMIT_S} s")


def run(test, *args):
    global current
    current = test.__name__
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(LIMIT_S)
    try:
        test(*args)
    except Exception as e:  # a test that breaks off has failed, the others go on
        line = e.__traceback__.tb_next.tb_lineno if e.__traceback__.tb_next else 0
        check(False, f"broke off in line {line}", f"{type(e).__name__}: {e}")
    finally:
        signal.alarm(0)


SHARED = [test_good_requests, test_refused_and_going_on, test_refused_and_closed, test_chunked_bodies,
          test_broken_bytes, test_cut_at_every_byte, test_keep_alive_and_pipelining, test_half_closed,
          test_expect, test_error_arrives_while_sending, test_paths, test_names_of_windows, test_redirects,
          test_contents, test_types, test_codings, test_conditions, test_tags, test_ranges, test_never_stale,
          test_stores_by_a_mapping, test_deleted, test_replaced_by_windows, test_link_turned_over, test_size_changes_while_sending, test_clients]
ALONE = [test_listing, test_many_listings, test_fairness, test_options_that_change_answers, test_slow_clients, test_many_idle,
         test_max_connections, test_few_descriptors, test_without_openat2, test_root_replaced, test_drain,
         test_drain_pipelined, test_signals_of_the_parent, test_log_that_is_full, test_access_log, test_flags, test_closed_stdio, test_site, test_browser]


def run_all(chosen):
    """All that are chosen, or all."""
    top = tempfile.mkdtemp(prefix="static-")
    try:
        root = make_site(top)
        wanted = [t for t in SHARED if not chosen or t.__name__ in chosen]
        if wanted:
            with Server(root) as server:
                for test in wanted:
                    run(test, server, root)
        for test in ALONE:
            if not chosen or test.__name__ in chosen:
                run(test, top, root)
    finally:
        shutil.rmtree(top, ignore_errors=True)


@contextlib.contextmanager
def warm():
    """Wine's own server lives as long as somebody needs it, has its first client's outputs, and takes
    seconds to start."""
    if not WINDOWS:
        yield
        return
    first = subprocess.Popen([*PROGRAM, "--root", ".", "--port", "0"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV)
    try:
        first.stdout.readline()
        yield
    finally:
        first.kill()
        first.wait()
        first.stdout.close()


def main():
    global WINDOWS, PROGRAM, ENV, BACKEND, LIMIT_S, WAIT_S
    chosen = sys.argv[1:]
    if "--windows" in chosen:
        at = chosen.index("--windows")
        WINDOWS = chosen[at + 1]
        del chosen[at:at + 2]
        PROGRAM = ["wine", os.path.join(WINDOWS, "static_server.exe")]
        ENV = {"WINEDEBUG": "-all", "WINEPREFIX": os.path.abspath(WINDOWS) + "-wine", **os.environ,
               "LC_ALL": "C.UTF-8"}  # by which wine reads the names of files
        LIMIT_S, WAIT_S = 200, 60
    with warm():
        for BACKEND in ("windows", "select") if WINDOWS else (BACKEND,):
            run_all(chosen)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" * bool(skipped)))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
