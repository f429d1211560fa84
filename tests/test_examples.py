#!/usr/bin/env python3
"""The small examples with real clients: each does what its first comment says."""

import os
import pty
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from example_help import (PATIENCE, Server, Skipped, connect, main, program, receive, receive_all,
                          sleeps, test, until)

BLOCK = bytes(random.Random(1).choices(b"abcdefghij XYZ\n", k=1 << 20))


def exchange(s, data, expected):
    """Sends all of data while it reads all that comes back, then ends its direction."""
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    got = receive_all(s)
    sender.join()
    assert got == expected, f"{len(got)} bytes of {len(expected)}, or wrong ones"


def run(name, *arguments, text=b"", **popen):
    return subprocess.run([program(name), *(str(a) for a in arguments)], input=text,
                          capture_output=True, timeout=PATIENCE, check=False, **popen)


def capitals(server):
    """A server that sends back capitals, to several at once, to those that do not read, those that
    reset, and those that only half-close."""
    with server.client() as s:
        s.sendall(b"a")
        assert receive(s, 1) == b"A"
        before = server.descriptors() - 1
    with server.client() as slow, server.client() as s:
        slow.sendall(b"x" * 4096)
        for i in range(50):
            text = b"hello %d" % i
            s.sendall(text)
            assert receive(s, len(text)) == text.upper()
        exchange(s, BLOCK, BLOCK.upper())
        assert receive(slow, 4096) == b"X" * 4096
    for _ in range(20):
        with server.client() as s:
            s.sendall(b"x" * 10000)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: server.descriptors() == before, "all descriptors closed")


@test
def hello_says_why_it_ended():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 7000))
            taken.listen()
        except OSError as e:
            raise Skipped(f"port 7000: {e}") from e
        done = run("hello")
    assert done.returncode == 1 and b"hello: " in done.stderr, done
    assert b"in use" in done.stderr, done.stderr


@test
def lines():
    with Server("lines", 0) as server:
        with server.client() as s:
            s.sendall(b"one\ntwo\r\n\nfo")
            assert receive(s, 17) == b"1: one\n2: two\n3: \n"[:17]
            s.sendall(b"ur\nlast")
            s.shutdown(socket.SHUT_WR)
            assert receive_all(s) == b"\n4: four\n5: last\n"
        with server.client() as s:
            text = b"".join(b"line %d\n" % i for i in range(200000))
            exchange(s, text, b"".join(b"%d: line %d\n" % (i + 1, i) for i in range(200000)))
        with server.client() as s:
            try:
                s.sendall(b"x" * 200000)
                assert receive_all(s) == b""
            except (ConnectionResetError, BrokenPipeError):
                pass
        sleeps(server)


@test
def files():
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("index.html", b"<h1>hello</h1>"), ("big", BLOCK), ("empty", b"")):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(text)
        os.symlink("/etc/hostname", os.path.join(folder, "link"))
        os.mkdir(os.path.join(folder, "sub"))
        with Server("files", 0, cwd=folder) as server:
            if shutil.which("curl"):
                url = f"http://127.0.0.1:{server.port}"
                done = subprocess.run(["curl", "-sSv", f"{url}/", f"{url}/big", f"{url}/none"],
                                      capture_output=True, timeout=PATIENCE, check=False)
                assert done.stdout == b"<h1>hello</h1>" + BLOCK, done.stderr[-500:]
                assert done.stderr.lower().count(b"re-using existing connection") == 2
            with server.client() as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"HEAD /big HTTP/1.1\r\n\r\n"
                          b"GET /../x HTTP/1.1\r\n\r\nGET /link HTTP/1.1\r\n\r\n"
                          b"GET /sub HTTP/1.1\r\n\r\nPUT /big HTTP/1.1\r\n\r\n"
                          b"GET /empty HTTP/1.1\r\nConnection: close\r\n\r\n"
                          b"GET /big HTTP/1.1\r\n\r\n")
                got = receive_all(s)
            statuses = [line[9:12] for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
            statuses += [part[9:12] for part in got.split(b"<h1>hello</h1>")[1:]]
            assert sorted(statuses) == [b"200"] * 5 + [b"404"] * 3 + [b"501"], statuses
            for bad in (b"GET\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 1"
                        b"\r\n\r\n", b"x" * 5000, b"GET /\0 HTTP/1.1\r\n\r\n"):
                with server.client() as s:
                    s.sendall(bad)
                    assert receive_all(s).startswith(b"HTTP/1.1 400 "), bad
            sleeps(server)


@test
def selector_echo():
    with Server("selector_echo", 0) as server:
        capitals(server)
        sleeps(server)


@test
def selector_echo_without_descriptors():
    limit = 32
    with Server("selector_echo", 0, preexec_fn=lambda: limit_descriptors(limit)) as server:
        clients = [server.client() for _ in range(limit + 20)]
        for s in clients[:10]:
            s.sendall(b"in")
            assert receive(s, 2) == b"IN"
        sleeps(server)
        for s in clients:
            s.sendall(b"now")
        for s in clients:
            assert receive(s, 1) in b"INNOW"
            s.close()


def limit_descriptors(n):
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))


@test
def selector_client():
    with Server("selector_echo", 0) as server:
        for text in (b"", b"hello\n", BLOCK):
            assert run("selector_client", server.port, text=text).stdout == text.upper()
            with tempfile.TemporaryFile() as f:  # a file is as good as a pipe
                f.write(text)
                f.seek(0)
                done = subprocess.run([program("selector_client"), str(server.port)], stdin=f,
                                      capture_output=True, timeout=PATIENCE, check=False)
                assert done.stdout == text.upper() and done.returncode == 0
        main_end, other = pty.openpty()
        with subprocess.Popen([program("selector_client"), str(server.port)], stdin=other,
                              stdout=subprocess.PIPE) as client:
            os.close(other)
            os.write(main_end, b"typed\n")
            assert client.stdout.readline() == b"TYPED\n"
            os.write(main_end, b"\4")
            assert client.wait(PATIENCE) == 0
        os.close(main_end)
    assert run("selector_client", server.port).returncode == 1


@test
def stdin_chat():
    with Server("chat_server", "--port", 0) as server:
        with subprocess.Popen([program("stdin_chat"), f"127.0.0.1:{server.port}"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listener:
            greeting = listener.stdout.readline()
            assert greeting, "no greeting"
            done = run("stdin_chat", f"127.0.0.1:{server.port}", text=b"said by a pipe\n")
            assert done.returncode == 0, done.stderr
            until(lambda: b"said by a pipe" in listener.stdout.readline(), "the line", 0)
            listener.stdin.close()
            assert listener.wait(PATIENCE) == 0
        done = subprocess.run([program("stdin_chat"), f"127.0.0.1:{server.port}"],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
                              check=False)
        assert done.returncode == 0, done.stderr
    done = run("stdin_chat", f"127.0.0.1:{server.port}")
    assert done.returncode == 1 and b"refused" in done.stderr, done


def answers(text, count=1):
    """A server of so many connections, each of which gets the text; its address."""
    s = socket.create_server(("127.0.0.1", 0))

    def serve():
        with s:
            for _ in range(count):
                peer = s.accept()[0]
                with peer:
                    while not peer.recv(65536).endswith(b"\r\n\r\n"):
                        pass
                    peer.sendall(text)
                    peer.shutdown(socket.SHUT_WR)
                    peer.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    return s.getsockname()[1]


@test
def get():
    port = answers(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n" + BLOCK, 2)
    done = run("get", f"127.0.0.1:{port}", "/x")
    assert done.returncode == 0 and done.stdout == BLOCK, done.stderr
    assert b"from 127.0.0.1:" in done.stderr and b"get: HTTP/1.0 200 OK\n" in done.stderr, done.stderr
    done = run("get", f"LOCALHOST:{port}")  # looked up, as any name in these letters is
    assert done.returncode == 0 and done.stdout == BLOCK, done.stderr
    done = run("get", f"127.0.0.1:{answers(b'nonsense')}")
    assert done.returncode == 1 and b"no answer" in done.stderr, done.stderr
    for address, said in (("127.0.0.1", b"Invalid"), ("", b"Invalid"), ("host:http", b"Invalid")):
        done = run("get", address)
        assert done.returncode == 1 and said in done.stderr, done.stderr
    done = run("get", f"127.0.0.1:{port}")  # it has gone
    assert done.returncode == 1 and b"refused" in done.stderr, done.stderr


@test
def polling():
    with Server("polling", 0) as server:
        done = run("polling", server.port, 20, 5)
        assert done.returncode == 0 and b"20 threads, 5 messages each, 0 failed" in done.stdout, done


@test
def four_models():
    for model in ("blocking", "nonblocking", "multiplexed", "asynchronous"):
        with Server("four_models", model, 0) as server:
            if model == "blocking":
                with server.client() as s:
                    exchange(s, BLOCK, BLOCK.upper())
            else:
                capitals(server)
    assert run("four_models", "other").returncode == 2


class Supervised:
    """A supervisor of a shell script. Leaving its with block it is ended and must have ended well."""

    def __init__(self, script, *options):
        self.process = subprocess.Popen(
            [program("supervisor"), "--delay", "20", *options, "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self):
        stamp, text = self.process.stdout.readline().decode().rstrip("\n").split(" ", 1)
        assert re.match(r"\d\d:\d\d:\d\d$", stamp), stamp
        return text

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.send_signal(signal.SIGTERM)
        said, complaint = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0 and not complaint, (said, complaint)
        self.rest = said.decode()


@test
def supervisor_passes_output_on_and_restarts():
    with Supervised("echo out; echo err >&2; printf last; exit 3") as s:
        for _ in range(3):
            lines = {s.line() for _ in range(4)}  # the end of output and that of the program, in any order
            assert {"out", "err", "last"} < lines, lines
            assert any(re.match(r"-- \d+ ended with 3$", line) for line in lines), lines
    with Supervised("kill -9 $$") as s:
        assert re.match(r"-- \d+ ended by signal 9$", s.line())


@test
def supervisor_ends_the_command_in_order():
    with Supervised("trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.01; done") as s:
        assert s.line() == "begun"
    assert " bye\n" in s.rest and "ended with 0" in s.rest, s.rest
    with Supervised("trap '' TERM; sleep 1000 & echo $!; while :; do sleep 0.01; done",
                    "--patience", "50") as s:
        grandchild = int(s.line())
    assert "ended by signal 9" in s.rest, s.rest
    def gone():
        try:
            with open(f"/proc/{grandchild}/stat", encoding="ascii") as f:
                return f.read().split(")")[1].split()[0] == "Z"
        except FileNotFoundError:
            return True
    until(gone, "the command's own child has ended, too")


@test
def supervisor_of_nothing():
    assert run("supervisor").returncode == 2
    s = subprocess.Popen([program("supervisor"), "/no/such/program"], stdout=subprocess.PIPE)
    assert b"No such file" in s.stdout.readline()
    s.terminate()
    assert s.wait(PATIENCE) == 0
    s.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
