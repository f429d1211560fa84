"""The section http: static_server beside nginx and lighttpd, by CPU time and memory.

All serve the same generated files on loopback, without access logs or compression and with limits
out of the way (65,535 requests on a connection are the most that lighttpd can be told, and more
than any gets here); everything else is as it comes. One is loaded at a time, the others sleep. Run
as a program, this file holds idle connections.
"""

import os
import pwd
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

IDLE = 5000
FILES = {"1k.bin": 1 << 10, "64k.bin": 1 << 16, "10m.bin": 10 << 20}
# title: target, status, connections, what wrk is told besides.
LOADS = {
    "1 KB": ("/1k.bin", 200, 64, []),
    "64 KB": ("/64k.bin", 200, 64, []),
    "10 MB": ("/10m.bin", 200, 8, []),
    "404": ("/missing", 404, 64, []),
    "close": ("/1k.bin", 200, 64, ["-H", "Connection: close"]),
    "16 pipelined": ("/1k.bin", 200, 64, ["-s", "pipelined.lua"]),
}
PIPELINED = """
local sixteen
function init(args)
    sixteen = string.rep(wrk.format("GET"), 16)
end
function request()
    return sixteen
end
"""
NGINX = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid {place}/{name}.pid;
error_log {place}/{name}.log crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    log_not_found off;
    sendfile on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path {place}/{name}.body;
    proxy_temp_path {place}/{name}.proxy;
    fastcgi_temp_path {place}/{name}.fastcgi;
    uwsgi_temp_path {place}/{name}.uwsgi;
    scgi_temp_path {place}/{name}.scgi;
    {more}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {place}/root;
    }}
}}
"""
LIGHTTPD = """
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{place}/root"
server.errorlog = "{place}/{name}.log"
server.listen-backlog = 4096
server.max-fds = {files}
server.max-connections = {connections}
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 3600
mimetype.assign = (".bin" => "application/octet-stream")
"""
# name: title, program, template of its configuration, what is added to that.
SERVERS = {
    "cached": ("nginx, open_file_cache", "nginx", NGINX, "open_file_cache max=1000;"),
    "nginx": ("nginx", "nginx", NGINX, ""),
    "lighttpd": ("lighttpd", "lighttpd", LIGHTTPD, ""),
    "static": ("static_server", None, None, ""),
}
BASE = "cached"  # what the others are compared with


def program(name):
    """Where a server or tool of the system is; their directory is not on every user's path."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=path + ":/usr/sbin:/usr/local/sbin")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def family(pid):
    """A process and all below it."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [pid] + [p for child in f.read().split() for p in family(int(child))]


def ask(sock, target, close=False):
    """One request; status and length of the answer's content."""
    fields = "Host: localhost\r\n" + "Connection: close\r\n" * close
    sock.sendall(f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise OSError("closed before it answered")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    length, have = int(fields[b"content-length"]), len(body)
    while have < length:
        more = sock.recv(1 << 20)
        if not more:
            raise OSError("closed within an answer")
        have += len(more)
    return int(head.split()[1]), have


class Server:
    """One of them, on the first CPU."""

    def __init__(self, bench, name, place, limit):
        self.bench, self.name = bench, name
        title, what, template, more = SERVERS[name]
        self.holder = None

        def before_exec():
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            os.sched_setaffinity(0, {bench.cpus[0]})

        connections = limit - 200
        if template is None:
            self.port = 0
            command = [os.path.join(bench.BUILD, "static_server"), "--root", place + "/root",
                       "--port", "0", "--idle-timeout", "3600",
                       "--max-connections", str(connections)]
        else:
            self.port = free_port()
            user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
            path = f"{place}/{name}.conf"
            with open(path, "w", encoding="utf-8") as f:
                f.write(template.format(place=place, name=name, port=self.port, files=limit,
                                        connections=connections, more=more, user=user))
            command = [program(what), *(["-e", "stderr", "-c", path] if what == "nginx" else
                                        ["-D", "-f", path])]
        self.child = bench.start(command, preexec_fn=before_exec)
        if not self.port:
            said = self.child.stdout.readline().strip()
            self.port = int(said.rpartition(":")[2] or 0)
        self.wait_until_it_answers(title)
        self.pids = family(self.child.pid)

    def wait_until_it_answers(self, title):
        deadline = time.monotonic() + 10
        while True:
            try:
                for target, status, _, _ in LOADS.values():
                    length = FILES.get(target[1:])
                    with socket.create_connection(("127.0.0.1", self.port), timeout=10) as s:
                        got = ask(s, target, True)
                    if got[0] != status or length not in (None, got[1]):
                        raise self.bench.Failed(f"{title}: {target} gives {got[0]}, {got[1]} bytes")
                return
            except OSError as why:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise self.bench.Failed(f"{title} did not start: {why}") from None
                time.sleep(0.02)

    def cpu(self):
        """Nanoseconds of all its processes: clock_getcpuclockid's number for each."""
        return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in self.pids)

    def memory(self):
        """Bytes, pages shared between processes once."""
        total = 0
        for pid in self.pids:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
        return total

    def hold(self, many):
        """Has a helper open connections, each of which asks once and then is silent."""

        def before_exec():
            resource.setrlimit(resource.RLIMIT_NOFILE, (many + 100, many + 100))
            os.sched_setaffinity(0, {self.bench.cpus[-1]})

        self.holder = self.bench.start([sys.executable, os.path.abspath(__file__), str(self.port),
                                        str(many)], stdin=subprocess.PIPE, preexec_fn=before_exec)
        if not self.holder.stdout.readline():
            raise self.bench.Failed(f"{SERVERS[self.name][0]} does not hold {many} connections")

    def load(self, title, place, seconds):
        """Runs wrk; microseconds of CPU time per request."""
        target, status, connections, more = LOADS[title]
        began = self.cpu()
        text = self.bench.output_of(
            [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10", *more,
             f"http://127.0.0.1:{self.port}{target}"],
            preexec_fn=self.bench.scheduled(self.bench.cpus[-1], False), cwd=place)
        took = self.cpu() - began
        requests, refused, errors = 0, 0, []
        for line in text.splitlines():
            words = line.split()
            if " requests in " in line:
                requests = int(words[0])
            elif "Non-2xx" in line:
                refused = int(words[-1])
            elif "Socket errors" in line:
                errors = [int(word.rstrip(",")) for word in words[3::2]]
        if not requests or refused != (requests if status == 404 else 0) or any(errors):
            raise self.bench.Failed(f"{SERVERS[self.name][0]}, {title}: {requests} requests, "
                                    f"{refused} refused, errors {errors}")
        return took / 1000 / requests

    def end(self):
        if self.holder:
            self.bench.reap(self.holder)
        self.bench.reap(self.child)


def hold(port, many):
    """The helper's work: ends when it is told, or when who started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    held = []
    for _ in range(many):
        s = socket.socket()
        s.settimeout(20)
        # A source of their own leaves the usual one's ports to the load.
        s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        s.bind(("127.0.0.2", 0))
        s.connect(("127.0.0.1", port))
        ask(s, "/1k.bin")
        held.append(s)
    print("holding", flush=True)
    sys.stdin.read()


def missing():
    """Packages that would be needed and are not there."""
    return [name for name in ("nginx", "lighttpd", "wrk") if not program(name)]


def measure(bench, title):
    absent = missing()
    if absent:
        print(f"Not installed, so left out: what needs {', '.join(absent)}. Only the benchmark "
              f"uses them:\n  apt-get install {' '.join(absent)}\n")
    if "wrk" in absent:
        return
    names = [name for name, what in SERVERS.items() if what[1] not in absent]
    limit = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    idle = min(IDLE, limit - 500)
    with tempfile.TemporaryDirectory(prefix="bench-http-") as place:
        os.chmod(place, 0o755)
        os.mkdir(place + "/root")
        for name, length in FILES.items():
            with open(f"{place}/root/{name}", "wb") as f:
                f.write(os.urandom(length))
        with open(place + "/pipelined.lua", "w", encoding="ascii") as f:
            f.write(PIPELINED)
        try:
            memory(bench, title, names, place, limit, idle)
            requests(bench, title, names, place, limit, idle)
        finally:
            bench.clean_up()  # before what they use is gone


def memory(bench, title, names, place, limit, idle):
    rows = []
    for name in names:
        server = Server(bench, name, place, limit)
        before = server.memory()
        server.hold(idle)
        time.sleep(1.5)  # some tidy up once a second
        after = server.memory()
        server.end()
        rows.append([SERVERS[name][0], f"{before / 1024:.0f}", f"{after / 1024:.0f}",
                     f"{(after - before) / idle:.0f}"])
    bench.table(f"{title}: memory",
                ["", "KiB at first", f"with {idle:,} idle", "bytes/connection"], rows,
                "Proportional set size of all processes. Each connection has asked once for 1 KB. "
                f"nginx has the places\nof {limit - 200:,} connections from the start; they are "
                "in its first column, not in its last.")


def requests(bench, title, names, place, limit, idle):
    running = [Server(bench, name, place, limit) for name in names]
    for beside in (0, idle):
        cost = {}
        if beside:
            for server in running:
                server.hold(beside)
        for turn in range(bench.options.rounds):
            first = turn % len(running)
            for load in LOADS:
                for server in running[first:] + running[:first]:
                    took = server.load(load, place, 1 if bench.options.quick else 2)
                    cost.setdefault((load, server.name), []).append(took)
        rows = []
        for name in names:
            row = [SERVERS[name][0]]
            for load in LOADS:
                if BASE in names:
                    row += bench.median_and_ratio(cost[load, name], cost[load, BASE], "{:.2f}")
                else:
                    row += [f"{statistics.median(cost[load, name]):.2f}", "-"]
            rows.append(row)
        bench.table(f"{title}: CPU time, µs per request, {beside:,} idle connections beside",
                    ["ratio to the first"] + [h for load in LOADS for h in (load, "ratio")], rows)
    for server in running:
        server.end()
    print("wrk, one thread, 64 connections, 8 for 10 MB. Time of all of the server's processes, in "
          "the kernel\nand out of it. Close: 1 KB with Connection: close. 16 pipelined: 1 KB.\n")


if __name__ == "__main__":
    try:
        hold(int(sys.argv[1]), int(sys.argv[2]))
    except OSError:
        sys.exit(1)  # whoever waits for the line says so
