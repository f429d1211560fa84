#!/usr/bin/env python3
"""workers and prefork, the pools of threads and of processes, with real clients."""

import os
import signal
import socket
import sys
import tempfile

from example_help import PATIENCE, Server, main, receive, receive_all, sleeps, test, until


def fnv(text, rounds):
    h = 0xcbf29ce484222325
    for _ in range(rounds):
        for byte in text:
            h = (h ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return b"%016x\n" % h


def read_line(s):
    line = b""
    while not line.endswith(b"\n"):
        more = s.recv(1)
        assert more, f"end of file after {line!r}"
        line += more
    return line


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()


# ---- threads ----


@test
def workers_answer_each_line_in_order():
    with Server("workers", 0, 10) as server:
        with server.client() as s, server.client() as other:
            other.sendall(b"one\ntwo")
            lines = [b"line %d" % i for i in range(100)]
            s.sendall(b"\n".join(lines) + b"\nlast")
            s.shutdown(socket.SHUT_WR)
            assert receive_all(s) == b"".join(fnv(line, 10) for line in [*lines, b"last"])
            assert read_line(other) == fnv(b"one", 10)
            other.sendall(b"!\r\n")
            assert read_line(other) == fnv(b"two!", 10)
        sleeps(server)


@test
def workers_read_files_in_the_other_lane():
    with tempfile.TemporaryDirectory() as folder:
        text = os.urandom(100000)
        with open(os.path.join(folder, "data"), "wb") as f:
            f.write(text)
        os.mkfifo(os.path.join(folder, "slow"))
        with Server("workers", 0, 10, cwd=folder) as server:
            with server.client() as s:
                s.sendall(b"file data\nfile none\nfile /etc/passwd\n")
                assert read_line(s) == fnv(text, 1)
                assert read_line(s) == b"error: No such file or directory\n"
                assert read_line(s) == b"error: Permission denied\n"
                # Twenty that wait for what nobody writes, and one that computes meanwhile.
                waiting = [server.client() for _ in range(20)]
                for w in waiting:
                    w.sendall(b"file slow\n")
                s.sendall(b"quick\n")
                assert read_line(s) == fnv(b"quick", 10)
                # A writer is there for all of them once: those that come later wait for the next.
                left = list(waiting)
                while left:
                    fd = os.open(os.path.join(folder, "slow"), os.O_RDWR)
                    os.write(fd, b"x")
                    os.close(fd)
                    for w in list(left):
                        w.settimeout(0.05)
                        try:
                            line = read_line(w)
                        except TimeoutError:
                            continue
                        assert line in (fnv(b"x", 1), fnv(b"", 1)), line
                        left.remove(w)
                for w in waiting:
                    w.close()


@test
def workers_whose_client_has_gone():
    with Server("workers", 0, 100000) as server:
        with server.client() as s:
            s.sendall(b"x\n")
            read_line(s)
            before = server.descriptors()
            for i in range(30):
                gone = server.client()
                gone.sendall(b"nobody will read this\n" * 3)
                if i % 2:
                    reset(gone)
                else:
                    gone.close()
            s.sendall(b"still there\n")
            assert read_line(s)
            until(lambda: server.descriptors() == before, "all descriptors closed")


@test
def workers_end_after_what_has_come():
    with Server("workers", 0, 100000) as server:
        with server.client() as s, server.client() as idle:
            s.sendall(b"one\ntwo\nthree\n")
            first = read_line(s)
            server.process.send_signal(signal.SIGTERM)
            rest = receive_all(s)
            assert len(first + rest) == 3 * 17, first + rest
            assert receive_all(idle) == b""
            s.close()
            idle.close()
            assert server.process.wait(PATIENCE) == 0


# ---- processes ----


def worker_pids(server):
    with open(f"/proc/{server.pid}/task/{server.pid}/children", encoding="ascii") as f:
        return {int(pid) for pid in f.read().split()}


@test
def prefork_answers_from_several_processes():
    with Server("prefork", 0, 3) as server:
        pids = worker_pids(server)
        assert len(pids) == 3
        clients = [server.client() for _ in range(8)]
        for i, s in enumerate(clients):
            s.sendall(b"hello %d\nsleep 20\npid\n" % i)
        seen = set()
        for i, s in enumerate(clients):
            assert read_line(s) == b"HELLO %d\n" % i
            assert read_line(s) == b"SLEEP 20\n"
            seen.add(int(read_line(s)))
        assert seen <= pids, (seen, pids)
        with server.client() as s:
            s.sendall(b"".join(b"line %d\n" % i for i in range(2000)))
            s.shutdown(socket.SHUT_WR)
            assert receive_all(s) == b"".join(b"LINE %d\n" % i for i in range(2000))
        for s in clients:
            s.close()
        sleeps(server)
        # A worker has what it needs, and nothing of the loop, its clients and other workers.
        for pid in pids:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            sockets = [link for link in links if link.startswith("socket:")]
            assert len(sockets) == 1, links
            assert not [link for link in links if link.startswith("anon_inode")], links


@test
def prefork_replaces_a_worker_that_crashes():
    with Server("prefork", 0, 2) as server:
        before = worker_pids(server)
        with server.client() as s, server.client() as other:
            for _ in range(10):
                s.sendall(b"crash\nand then\n")
                other.sendall(b"beside it\n")
                assert read_line(s) == b"failed: the worker ended with signal 9\n"
                assert read_line(s) == b"AND THEN\n"
                assert read_line(other) == b"BESIDE IT\n"
            until(lambda: len(worker_pids(server)) == 2, "two workers")
            assert worker_pids(server) != before
            # One that is idle is replaced as well.
            for pid in worker_pids(server):
                os.kill(pid, signal.SIGKILL)
                until(lambda pid=pid: pid not in worker_pids(server), "reaped")
            until(lambda: len(worker_pids(server)) == 2, "two workers")
            s.sendall(b"fine\n")
            assert read_line(s) == b"FINE\n"
        sleeps(server)


@test
def prefork_whose_client_has_gone():
    with Server("prefork", 0, 1) as server:
        with server.client() as s:
            s.sendall(b"x\n")
            assert read_line(s) == b"X\n"
            before = server.descriptors()
            gone = [server.client() for _ in range(10)]
            for i, one in enumerate(gone):
                one.sendall(b"crash\n" if i == 5 else b"sleep 10\n")
            for one in gone:
                reset(one)
            s.sendall(b"my turn\n")
            assert read_line(s) == b"MY TURN\n"
            until(lambda: server.descriptors() == before, "all descriptors closed")


@test
def prefork_ends_with_its_workers():
    with Server("prefork", 0, 2) as server:
        with server.client() as s, server.client() as idle:
            s.sendall(b"sleep 100\nlast\n")
            assert receive(s, 10) == b"SLEEP 100\n"
            server.process.send_signal(signal.SIGTERM)
            assert receive_all(s) == b"LAST\n"
            assert receive_all(idle) == b""
            s.close()
            idle.close()
            assert server.process.wait(PATIENCE) == 0
    with Server("prefork", 0, 2) as server:  # whatever ends the parent
        pids = worker_pids(server)
        server.process.kill()
        for pid in pids:
            until(lambda pid=pid: not os.path.exists(f"/proc/{pid}") or state(pid) == "Z", "ended")
        server.process.wait()
        server.end = lambda: None


def state(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


if __name__ == "__main__":
    sys.exit(main())
