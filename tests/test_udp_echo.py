#!/usr/bin/env python3
"""udp_echo as a process, asked by real clients: Python's sockets, nc -u and socat where they are.

REACTOR_TEST_BUILD is where the program is (build), REACTOR_TEST_BACKEND the backend to use (the
best). Arguments are names of tests to run, or parts of them; without any, all.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

BUILD = os.environ.get("REACTOR_TEST_BUILD", "build")
BACKEND = os.environ.get("REACTOR_TEST_BACKEND", "")
PATIENCE = 30  # seconds for anything that must happen

TESTS = []


class Skipped(Exception):
    pass


def test(function):
    TESTS.append((function.__name__, function))
    return function


def need(tool):
    path = shutil.which(tool)
    if not path:
        raise Skipped(f"{tool} is not installed")
    return path


@contextlib.contextmanager
def server(*arguments):
    """A running server: the process and the address that it has said."""
    command = [os.path.join(BUILD, "tests", "udp_echo"), *arguments]
    if BACKEND:
        command[1:1] = ["--backend", BACKEND]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = child.stdout.readline()
        if not said.startswith("answering at "):
            raise AssertionError(f"said {said!r}, and {child.stderr.read()!r}")
        yield child, said.split()[-1]
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def end(child):
    """Its last line after SIGTERM."""
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, (child.returncode, err)
    return out.splitlines()[-1]


def client(family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(PATIENCE)
    return s


def port(address):
    return int(address.rsplit(":", 1)[1])


@test
def many_clients_get_their_own():
    with server("127.0.0.1:0") as (child, address):
        clients = [client() for _ in range(50)]
        for n in range(20):
            for i, c in enumerate(clients):
                c.sendto(f"{i} {n}".encode(), ("127.0.0.1", port(address)))
            for i, c in enumerate(clients):
                assert c.recv(100) == f"{i} {n}".encode()
        for c in clients:
            c.close()
        assert end(child) == "1000 answered, 0 refused"


@test
def sizes_from_nothing_to_the_longest():
    with server("127.0.0.1:0") as (_, address):
        with contextlib.closing(client()) as c:
            for size in (0, 1, 64, 1472, 1473, 9000, 65507):
                data = os.urandom(size)
                c.sendto(data, ("127.0.0.1", port(address)))
                assert c.recv(70000) == data, size


@test
def both_families_on_one_socket():
    with server("*:0") as (_, address):
        with contextlib.closing(client()) as c:
            c.sendto(b"four", ("127.0.0.1", port(address)))
            assert c.recv(10) == b"four"
        if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
            raise Skipped("no IPv6")
        with contextlib.closing(client(socket.AF_INET6)) as c:
            try:
                c.sendto(b"six", ("::1", port(address)))
            except OSError as why:
                raise Skipped("no IPv6") from why
            assert c.recv(10) == b"six"


@test
def a_client_that_has_gone_is_reported_and_the_server_goes_on():
    if not sys.platform.startswith("linux"):
        raise Skipped("only Linux tells of a socket for all peers")
    with server("127.0.0.1:0") as (child, address):
        gone = client()
        gone.bind(("127.0.0.1", 0))
        name = "127.0.0.1:%d" % gone.getsockname()[1]
        os.kill(child.pid, signal.SIGSTOP)
        gone.sendto(b"x", ("127.0.0.1", port(address)))
        gone.close()
        os.kill(child.pid, signal.SIGCONT)
        assert child.stderr.readline() == f"udp_echo: {name}: Connection refused\n"
        with contextlib.closing(client()) as c:
            c.sendto(b"y", ("127.0.0.1", port(address)))
            assert c.recv(10) == b"y"


@test
def nc():
    path = need("nc")
    with server("127.0.0.1:0") as (_, address):
        child = subprocess.Popen([path, "-u", "127.0.0.1", str(port(address))],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            for line in (b"hello\n", b"again\n"):
                child.stdin.write(line)
                child.stdin.flush()
                assert child.stdout.readline() == line
        finally:
            child.kill()
            child.communicate()


@test
def socat_over_a_unix_socket():
    path = need("socat")
    with tempfile.TemporaryDirectory() as place:
        there, here = os.path.join(place, "server"), os.path.join(place, "client")
        with server("unix:" + there) as (child, _):
            done = subprocess.run([path, "-t1", "-", f"UNIX-SENDTO:{there},bind={here}"],
                                  input=b"hello", stdout=subprocess.PIPE, timeout=PATIENCE,
                                  check=True)
            assert done.stdout == b"hello"
            end(child)
        assert not os.path.exists(there)


@test
def a_unix_socket():
    with tempfile.TemporaryDirectory() as place:
        there, here = os.path.join(place, "server"), os.path.join(place, "client")
        with server("unix:" + there) as (child, address):
            assert address == "unix:" + there
            with contextlib.closing(client(socket.AF_UNIX)) as c:
                c.bind(here)
                for n in range(200):
                    c.sendto(b"%d" % n, there)
                    assert c.recv(10) == b"%d" % n
            end(child)
        assert not os.path.exists(there)


@test
def two_servers_share_a_port():
    with server("--reuse-port", "127.0.0.1:0") as (one, address):
        with server("--reuse-port", address) as (two, _):
            for n in range(100):
                with contextlib.closing(client()) as c:
                    c.sendto(b"%d" % n, ("127.0.0.1", port(address)))
                    assert c.recv(10) == b"%d" % n
            counts = [int(re.match(r"\d+", end(child))[0]) for child in (one, two)]
            assert sum(counts) == 100 and all(counts), counts


@test
def a_multicast_group():
    with server("--group", "239.1.2.3%lo", "0.0.0.0:0") as (_, address):
        with contextlib.closing(client()) as c:
            c.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            c.settimeout(2)
            try:
                c.sendto(b"all", ("239.1.2.3", port(address)))
                assert c.recv(10) == b"all"
            except OSError as why:
                raise Skipped("no multicast on the loopback interface") from why


@test
def bad_arguments_are_told():
    program = os.path.join(BUILD, "tests", "udp_echo")
    for arguments, status in ((["--no-such"], 2), (["example.com:7"], 1), (["--backend", "no"], 2),
                              (["--help"], 0)):
        done = subprocess.run([program, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
        assert done.returncode == status, (arguments, done.returncode)
        assert done.stdout + done.stderr


def main():
    passed, failed, skipped = 0, [], 0
    for name, function in TESTS:
        if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
            continue
        try:
            function()
            passed += 1
        except Skipped as why:
            skipped += 1
            print(f"skipped: {name}: {why}")
        except Exception:  # a test may fail in any way
            traceback.print_exc(file=sys.stdout)
            failed.append(name)
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
