#!/usr/bin/env python3
"""Measures reactor.h beside a hand-written epoll loop, libuv, libev and libevent, and
static_server beside nginx and lighttpd; prints tables.

Every figure is a median over rounds that take turns between the programs, so that what else the
machine does meets all of them; a ratio is the median of each round's ratio to the hand-written
loop, or to nginx with open_file_cache. Counts (system calls, instructions, allocations) are the
difference of two runs of different lengths, so start and end are not in them. Nothing here passes
or fails.
"""

import argparse
import concurrent.futures
import contextlib
import mmap
import os
import platform
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import http_servers

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(TOP, os.environ.get("B", "build"), "bench")
CC = shlex.split(os.environ.get("CC", "cc"))
FLAGS = "-std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -pthread".split()

# Headers of the others, by the Debian package that has them. They are for the benchmark only.
LIBRARIES = {
    "uv": ("libuv1-dev", "uv.h", "-luv"),
    "ev": ("libev-dev", "ev.h", "-lev"),
    "event": ("libevent-dev", "event2/event.h", "-levent_core"),
    "uring": ("linux-libc-dev", "linux/io_uring.h", None),
}
# name: source, what it needs, flags, title. The first is what the others are compared with.
SERVERS = {
    "epoll": ("server_epoll.c", None, [], "hand-written"),
    "level": ("server_epoll.c", None, ["-DLEVEL"], "hand-written, level"),
    "uring": ("server_uring.c", "uring", [], "hand-written, io_uring"),
    "stream": ("server_stream.c", None, [], "reactor.h stream"),
    "before": ("server_stream.c", "before", [], "before"),
    "watcher": ("server_watcher.c", None, [], "reactor.h watcher"),
    "uv": ("server_uv.c", "uv", [], "libuv stream"),
    "ev": ("server_ev.c", "ev", ["-fno-strict-aliasing"], "libev io"),
    "event": ("server_event.c", "event", [], "libevent event"),
    "bufferevent": ("server_bufferevent.c", "event", [], "libevent bufferevent"),
}
# The same for datagrams; the first two are what the others are compared with.
UDP_SERVERS = {
    "udp_uv": ("server_udp_uv.c", "uv", [], "libuv uv_udp"),
    "udp_raw": ("server_udp_raw.c", None, [], "hand-written"),
    "udp_uv_many": ("server_udp_uv.c", "uv", ["-DMANY"], "libuv, UV_UDP_RECVMMSG"),
    "udp": ("server_udp.c", None, [], "reactor.h"),
    "udp_plain": ("server_udp.c", None, ["-DPLAIN"], "reactor.h, offload -1"),
}
NAMES = {"wheel": "bare wheel", "held": "wheel, handles", "hand": "hand-written",
         "reactor": "reactor.h", "ev": "libev", "uv": "libuv", "outside": "reactor.h, outside"}

children = []
backends_here = []
available = set()
cpus = sorted(os.sched_getaffinity(0))[:2]
options = None


class Failed(Exception):
    """A measurement that could not be made; the others go on."""


# ---- processes ----


def scheduled(cpu, batch):
    """Pins a child. Batch: neither server nor client preempts the other on the CPU they share."""

    def before_exec():
        os.sched_setaffinity(0, {cpu})
        if batch:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    return before_exec


def start(command, **more):
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)
    children.append(child)
    return child


def reap(child, pid=None, nudge=None):
    """Ends a child; pid is what runs below it and has to end first, nudge helps it to notice."""
    if child.poll() is None:
        os.kill(pid or child.pid, signal.SIGTERM)
        while nudge and child.poll() is None and nudge():
            pass
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for stream in (child.stdin, child.stdout):
        if stream:
            stream.close()
    children.remove(child)


def output_of(command, **more):
    child = start(command, **more)
    try:
        text = child.communicate(timeout=1800)[0]
        if child.returncode:
            raise Failed(f"{os.path.basename(command[0])} ended with status {child.returncode}")
        return text
    finally:
        reap(child)


running_servers = []


class Server:
    """An echo server, maybe below strace or valgrind."""

    def __init__(self, name, batch=False, below=(), **more):
        self.child = start([*below, os.path.join(BUILD, "server_" + name)],
                           preexec_fn=scheduled(cpus[0], batch), **more)
        said = self.child.stdout.readline().split()
        if len(said) != 2:
            reap(self.child)
            raise Failed(f"server {name} did not start")
        self.port, self.pid = said
        running_servers.append(self)
        self.batch = batch
        self.idle_fds = self.fds()

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def command(self, connections, active, size, warmup, messages, how):
        return [os.path.join(BUILD, "client"), self.port, self.pid, str(connections), str(active),
                str(size), str(warmup), str(messages), how]

    def load(self, *what):
        """Runs the client; afterwards the server has let go of its connections."""
        cpu = cpus[0] if self.batch else cpus[-1]
        text = output_of(self.command(*what), preexec_fn=scheduled(cpu, self.batch))
        deadline = time.monotonic() + 20
        while self.fds() > self.idle_fds and time.monotonic() < deadline:
            time.sleep(0.002)
        return [int(word) for word in text.split()]

    def end(self):
        """The server itself is told, so that what it runs below writes its report."""
        running_servers.remove(self)
        reap(self.child, int(self.pid), self.nudge)

    def nudge(self):
        """Valgrind looks for signals now and then, but not while a ring waits: it gets work."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", int(self.port)), 1).close()
            return True
        return False


def clean_up():
    for server in list(running_servers):
        server.end()
    for child in list(children):
        reap(child)


# ---- building ----


def look_for_libraries():
    missing = []
    for name, (package, header, _) in LIBRARIES.items():
        found = subprocess.run([*CC, "-E", "-x", "c", "-"], input=f"#include <{header}>\n",
                               text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               check=False)
        if found.returncode == 0:
            available.add(name)
        else:
            missing.append(package)
    missing += [tool for tool in ("strace", "valgrind") if not shutil.which(tool)]
    if missing:
        print(f"Not installed, so left out: what needs {', '.join(missing)}. Only the benchmark "
              f"uses them:\n  apt-get install {' '.join(missing)}\n")


def look_for_backends():
    """Those of reactor.h that work here; the server stream_x has x alone compiled in."""
    os.makedirs(BUILD, exist_ok=True)
    out = os.path.join(BUILD, "backends")
    sources = [os.path.join(TOP, "tests", name) for name in ("backends.c", "reactor_all.c")]
    subprocess.run([*CC, "-pthread", *sources, "-o", out], check=True)
    for name in output_of([out]).splitlines():
        if " " in name:  # what follows is why it is refused
            continue
        backends_here.append(name)
        only = [f"-DREACTOR_USE_{name.upper()}"]
        SERVERS["stream_" + name] = ("server_stream.c", None, only, name)
        SERVERS["before_" + name] = ("server_stream.c", "before", only, name + " before")


def look_for_another_build():
    """An older header, whose servers are called before and before_x."""
    if not options.before:
        return
    available.add("before")
    header = os.path.abspath(options.before)
    for name, (source, needs, flags, title) in SERVERS.items():
        if needs == "before":
            SERVERS[name] = (source, needs, [*flags, f'-DBENCH_HEADER="{header}"'], title)


def compile_one(job):
    source, out, flags = job
    done = subprocess.run([*CC, *FLAGS, os.path.join(HERE, source), "-o", os.path.join(BUILD, out),
                           *flags], text=True, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {source} does not compile\n{done.stderr}")


def build(wanted):
    os.makedirs(BUILD, exist_ok=True)
    others = [flag for name in ("ev", "uv") if name in available
              for flag in (f"-DHAVE_{name.upper()}", LIBRARIES[name][2], "-fno-strict-aliasing")]
    jobs = []
    if wanted & {"echo", "calls", "instructions", "heap", "backends"}:
        jobs.append(("client.c", "client", []))
        for name, (source, needs, flags, _) in SERVERS.items():
            alone = name.startswith(("stream_", "before_"))
            named = "backends" in wanted or name in (options.servers or ())
            if (needs is None or needs in available) and (not alone or named):
                library = LIBRARIES.get(needs, (None, None, None))[2]
                libs = [library] if library else []
                jobs.append((source, "server_" + name, [*flags, *libs]))
    if "udp" in wanted:
        jobs.append(("client_udp.c", "client_udp", []))
        jobs += [(source, "server_" + name, [*flags, *(["-luv"] if needs else [])])
                 for name, (source, needs, flags, _) in UDP_SERVERS.items()
                 if needs is None or needs in available]
    if "heap" in wanted:
        jobs.append(("count.c", "count.so", ["-shared", "-fPIC"]))
    if "timers" in wanted:
        jobs.append(("timers.c", "timers", others))
    if "post" in wanted:
        jobs.append(("post.c", "post", others))
    if "work" in wanted:
        jobs.append(("work.c", "work", others))
    if "backends" in wanted:
        jobs.append(("dispatch.c", "dispatch", ["-DREACTOR_USE_ALL"]))
    if "changes" in wanted:
        jobs.append(("changes.c", "changes", []))
    if "http" in wanted:
        jobs.append((os.path.join(TOP, "examples", "static_server.c"), "static_server", []))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, jobs))


def runs(name):
    """Whether a server can start here: a container may forbid io_uring."""
    with contextlib.suppress(Failed):
        Server(name).end()
        return True
    return False


def servers():
    return [name for name, what in SERVERS.items()
            if (what[1] is None or what[1] in available)
            and (name == "epoll" or name in options.servers if options.servers is not None
                 else not name.startswith(("stream_", "before_")))
            and runs(name)]


# ---- tables ----


def table(title, head, rows, note=""):
    print(f"== {title} ==")
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    if note:
        print(note)
    print(flush=True)


def median_and_ratio(values, base, form="{:.0f}"):
    """Two cells: the median, and the median of the ratios round by round."""
    ratio = statistics.median(v / b if b else 0 for v, b in zip(values, base))
    return [form.format(statistics.median(values)), f"{ratio:.2f}"]


def machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        found = re.search(r"^model name\s*:\s*(.*)$", info.read(), re.M)
        if found:
            model = found[1]
    compiler = subprocess.run([*CC, "--version"], text=True, stdout=subprocess.PIPE, check=True)
    print(f"{model}, {os.cpu_count()} CPUs; {platform.system()} {platform.release()}; "
          f"{compiler.stdout.splitlines()[0]}, -O2; load {os.getloadavg()[0]:.1f}")
    print(f"{options.rounds} rounds; server on CPU {cpus[0]}, client on CPU {cpus[-1]}\n")


# ---- sections ----


def loads_of_echo():
    scale = 0.2 if options.quick else 1
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    many = min(10000, limit - 200)
    return [
        ("64 B x 64", False, (64, 64, 64, 20000, int(200000 * scale), "free")),
        ("in turns", True, (64, 64, 64, 6400, int(200000 * scale), "turns")),
        ("16 KB x 64", False, (64, 64, 16384, 5000, int(60000 * scale), "free")),
        (f"1,000 of {many:,}", False, (many, 1000, 64, 20000, int(150000 * scale), "free")),
        ("64 B x 1", False, (1, 1, 64, 2000, int(60000 * scale), "free")),
        ("visits", False, (64, 64, 64, 2000, int(40000 * scale), "visits")),
    ]


def echo_of(names, loads):
    """Nanoseconds of CPU per message, a list over the rounds by load and server."""
    cost = {}
    running = {(name, batch): Server(name, batch) for name in names for batch in (False, True)}
    for turn in range(options.rounds):
        for title, batch, load in loads:
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                messages, cpu, _, _ = running[name, batch].load(*load)
                cost.setdefault((title, name), []).append(cpu / messages)
    for server in running.values():
        server.end()
    return cost


def echo():
    """CPU time of an echo server for each message"""
    loads, names = loads_of_echo(), servers()
    cost = echo_of(names, loads)
    head = ["ns per message"] + [h for title, _, _ in loads for h in (title, "ratio")]
    rows = [[SERVERS[name][3]] + [cell for title, _, _ in loads for cell in
                                  median_and_ratio(cost[title, name], cost[title, "epoll"])]
            for name in names]
    table(echo.__doc__, head, rows,
          "In turns: 64 B x 64, client and server on one CPU, neither preempting the other: every "
          "wait finds 64\nmessages. The others: two CPUs, each connection sends again as soon as "
          "its answer is there.\nVisits: a connection for each message, 64 at a time.")


def strace_calls(path):
    """Calls by name, of a strace -c report."""
    calls = {}
    with open(path, encoding="utf-8") as report:
        for line in report:
            words = line.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
                calls[words[-1]] = int(words[3])
    return calls


def server_difference(name, below, report, lengths, read):
    """What a server did more of in the longer of two runs, per message."""
    seen = []
    for length in lengths:
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "report")
            server = Server(name, True, [*below, report + path] if report.endswith("=") else
                            [*below, report, path], stderr=subprocess.DEVNULL)
            server.load(64, 64, 64, 640, length, "turns")
            server.end()
            seen.append(read(path))
    span = lengths[1] - lengths[0]
    return {key: (seen[1][key] - seen[0].get(key, 0)) / span for key in seen[1]}


def calls():
    """System calls of an echo server for each message, 64 connections"""
    if not shutil.which("strace"):
        return
    rows = []
    for name in servers():
        per = server_difference(name, ["strace", "-f", "-c"], "-o", (6400, 70400), strace_calls)
        detail = ", ".join(f"{call} {n:.3f}" for call, n in sorted(per.items(), key=lambda x: -x[1])
                           if n > 0.0005)
        rows.append([SERVERS[name][3], f"{sum(per.values()):.3f}", detail])
    width = max(len(row[2]) for row in rows)
    for row in rows:
        row[2] = row[2].ljust(width)
    table(calls.__doc__, ["", "calls", "of which".ljust(width)], rows,
          "strace -c, in turns: every wait finds 64 messages.")


def callgrind_functions(path):
    """Instructions by function, those of its callees not included."""
    done = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no",
                           "--show-percs=no", path], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Failed("callgrind wrote no report")
    functions = {}
    for line in done.stdout.splitlines():
        found = re.match(r"\s*([\d,]+)\s+(\S.*)$", line)
        if not found or "PROGRAM TOTALS" in line:
            continue
        where = re.sub(r"\s*\[.*\]$", "", found[2])
        function = where.rsplit("/", 1)[-1]
        functions[function] = functions.get(function, 0) + int(found[1].replace(",", ""))
    with open(path, encoding="utf-8") as profile:
        functions["all"] = int(re.search(r"^(?:totals|summary): (\d+)", profile.read(), re.M)[1])
    return functions


def instructions():
    """User instructions of an echo server for each message, 64 connections"""
    if not shutil.which("valgrind"):
        return
    lengths = (6400, 32000) if options.quick else (19200, 121600)
    rows, details = [], []
    names = servers()
    for name in names:
        per = server_difference(name, ["valgrind", "-q", "--tool=callgrind"],
                                "--callgrind-out-file=", lengths, callgrind_functions)
        total = per.pop("all")
        rows.append([SERVERS[name][3], total])
        top = [item for item in sorted(per.items(), key=lambda x: -x[1]) if item[1] >= 0.05]
        details.append((SERVERS[name][3], total, top))
    base = rows[0][1]
    rows = [[title, f"{total:.1f}", f"{total / base:.2f}"] for title, total in rows]
    table(instructions.__doc__, ["", "instructions", "ratio"], rows,
          "callgrind, libc included, in turns: every wait finds 64 messages.")
    if options.functions:
        for title, total, top in details:
            print(f"-- {title}: {total:.1f}, by function, callees not included")
            for function, n in top:
                print(f"{n:8.2f}  {function}")
        print()


def load_datagrams(server, *what):
    """Runs the client of datagrams; messages, the server's CPU and so on."""
    cpu = cpus[0] if server.batch else cpus[-1]
    command = [os.path.join(BUILD, "client_udp"), server.port, server.pid, *map(str, what)]
    return [int(word) for word in output_of(command, preexec_fn=scheduled(cpu, server.batch)).split()]


def datagram_counts(name, below, report, lengths, read):
    """What a server of datagrams did more of in the longer of two runs, per datagram."""
    seen = []
    for length in lengths:
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "report")
            server = Server(name, True, [*below, report + path] if report.endswith("=") else
                            [*below, report, path], stderr=subprocess.DEVNULL)
            load_datagrams(server, 64, 640, length, "turns")
            server.end()
            seen.append(read(path))
    span = lengths[1] - lengths[0]
    return {key: (seen[1][key] - seen[0].get(key, 0)) / span for key in seen[1]}


def udp():
    """Echo of datagrams, one client with 64 in flight: CPU time of the server for each"""
    names = [name for name, what in UDP_SERVERS.items() if what[1] is None or what[1] in available]
    count = 30000 if options.quick else 200000
    loads = [("64 B in turns", True, (64, 2000, count, "turns")),
             ("1,200 B in turns", True, (1200, 2000, count, "turns")),
             ("64 B", False, (64, 2000, count, "window")),
             ("1,200 B", False, (1200, 2000, count, "window"))]
    cost = {}
    running = {(name, batch): Server(name, batch) for name in names for batch in (False, True)}
    for turn in range(options.rounds):
        for title, batch, load in loads:
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                messages, cpu, _, _ = load_datagrams(running[name, batch], *load)
                cost.setdefault((title, name), []).append(cpu / messages)
    for server in running.values():
        server.end()
    rows = []
    for name in names:
        row = [UDP_SERVERS[name][3]]
        for title, _, _ in loads:
            row += median_and_ratio(cost[title, name], cost[title, names[0]])
        row += ["-", "-"]
        if shutil.which("strace"):
            per = datagram_counts(name, ["strace", "-f", "-c"], "-o", (6400, 70400), strace_calls)
            row[-2] = f"{sum(per.values()):.3f}"
        if shutil.which("valgrind"):
            per = datagram_counts(name, ["valgrind", "-q", "--tool=callgrind"],
                                  "--callgrind-out-file=", (6400, 70400), callgrind_functions)
            row[-1] = f"{per['all']:.1f}"
        rows.append(row)
    table(udp.__doc__, ["ns per datagram"] + [h for title, _, _ in loads for h in (title, "ratio")]
          + ["calls", "instructions"], rows,
          "In turns: client and server on one CPU, each wait finds 64. Ratio to the first line. "
          "Calls: system\ncalls, strace -c, and instructions: user's, callgrind, both in turns, 64 B.")


def lines_of(command, **more):
    """Figures by name and column, a list over the rounds each, of a program that prints such."""
    figures = {}
    for line in output_of(command, **more).splitlines():
        name, *values = line.split()
        for i, value in enumerate(values):
            figures.setdefault(name, {}).setdefault(i, []).append(float(value))
    return figures


def timers():
    """Timers, nanoseconds per operation"""
    columns = [(0, "insert"), (4, "again"), (1, "reset"), (3, "cancel"),
               (2, "reset, random"), (5, "cancel, random"), (6, "insert after that"), (7, "fire")]
    kinds = {"random": "random within 20 to 60 s", "rising": "rising, as idle timeouts are"}
    for count in (10000, 100000, 1000000):
        rounds = options.rounds * (1 if count == 1000000 else 5)
        for kind, words in kinds.items():
            got = lines_of([os.path.join(BUILD, "timers"), str(count), str(rounds), kind],
                           preexec_fn=scheduled(cpus[0], False))
            rows = [[NAMES[name]] + [cell for i, _ in columns for cell in
                                     median_and_ratio(got[name][i], got["wheel"][i], "{:.1f}")]
                    for name in got]
            table(f"{timers.__doc__}: {count:,}, deadlines {words}",
                  ["ratio to the wheel"] + [h for _, c in columns for h in (c, "ratio")], rows)
    print("In order of making; \"random\": in random order. Again: after all were cancelled.\n"
          "reactor.h: inside a callback, the turn that follows included; outside: each call reads "
          "the clock.\nlibev: ev_timer_again.\n")


def changes():
    """Changes of interest: system calls and changes told, for each turn"""
    kinds = {"none": "nothing changes", "back": "changed there and back", "modify": "changed",
             "again": "set to what it is", "readd": "removed and added"}
    rows = []
    lengths = (1000, 3000)
    for kind, title in kinds.items():
        told, seen = [], []
        for length in lengths:
            command = [os.path.join(BUILD, "changes"), kind, str(length)]
            with tempfile.TemporaryDirectory() as place:
                path = os.path.join(place, "report")
                if shutil.which("strace"):
                    command = ["strace", "-f", "-c", "-o", path, *command]
                told.append(int(output_of(command)))
                seen.append(strace_calls(path) if os.path.exists(path) else {})
        span = lengths[1] - lengths[0]
        per = {call: (seen[1][call] - seen[0].get(call, 0)) / span for call in seen[1]}
        rows.append([title, f"{(told[1] - told[0]) / span:g}",
                     f"{per.get('epoll_ctl', 0):g}" if per else "-",
                     f"{sum(per.values()) - per.get('epoll_ctl', 0):g}" if per else "-"])
    table(changes.__doc__, ["", "told", "epoll_ctl", "other calls"], rows,
          "The other call of each turn is the wait.")


def post():
    """Tasks from another thread"""
    columns = ["burst, one CPU", "two CPUs", "posting", "own thread", "round trip"]
    bursts, trips = (20, 2000) if options.quick else (100, 10000)
    got = lines_of([os.path.join(BUILD, "post"), str(bursts), str(trips), str(options.rounds),
                    str(cpus[0]), str(cpus[-1])])
    rows = [[NAMES[name]] + [cell for i in range(len(columns)) for cell in
                             median_and_ratio(got[name][i], got["hand"][i], "{:.1f}")]
            for name in got]
    table(post.__doc__, ["ns"] + [h for c in columns for h in (c, "ratio")], rows,
          "Burst: per task of 10,000, first post to last task, the loop asleep at first; posting: "
          "of two CPUs,\nuntil the last post returned. Own thread: posting only. Round trip: "
          "two sleeping loops on two CPUs.\nAll but reactor.h: an array below a mutex, "
          "swapped out whole, one wake-up when it was empty\n(eventfd, ev_async_send, "
          "uv_async_send).")


def work():
    """Jobs on threads"""
    columns = ["burst, CPU", "time", "single, CPU", "time"]
    bursts, singles = (20, 2000) if options.quick else (100, 10000)
    got = lines_of([os.path.join(BUILD, "work"), str(bursts), str(singles), str(options.rounds)])
    base = got.get("uv", got["reactor"])
    rows = [[NAMES[name]] + [cell for i in range(len(columns)) for cell in
                             median_and_ratio(got[name][i], base[i], "{:.1f}")]
            for name in got]
    table(work.__doc__, ["ns"] + [h for c in columns for h in (c, "ratio")], rows,
          "Per job. Burst: 10,000 jobs that do nothing, from the first call to the last that is "
          "told. Single:\neach begun when the last one was told. CPU: of all threads. libuv: "
          "uv_queue_work, as many threads.")


def heap():
    """Heap of an echo server"""
    many = min(10000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)
    rows = []
    for name in servers():
        with tempfile.NamedTemporaryFile() as shared:
            shared.write(bytes(mmap.PAGESIZE))
            shared.flush()
            page = mmap.mmap(shared.fileno(), mmap.PAGESIZE)

            def counts(page=page):
                return struct.unpack_from("qqq", page, 0)

            def server(shared=shared, name=name):
                environment = dict(os.environ, BENCH_COUNTS=shared.name,
                                   LD_PRELOAD=os.path.join(BUILD, "count.so"))
                return Server(name, env=environment)

            idle = []
            for spoken in (0, many):
                one = server()
                idle.append(held(one, many, spoken, counts))
                one.end()
            one = server()
            per_run = []
            for length in (20000, 40000, 80000):
                before = counts()[0]
                one.load(64, 64, 64, 640, length, "free")
                per_run.append(counts()[0] - before)
            one.end()
            page.close()
        # The first run may still grow what is kept.
        rows.append([SERVERS[name][3], f"{idle[0]:.0f}", f"{idle[1]:.0f}",
                     f"{max(0, per_run[2] - per_run[1]) / 40000:.3f}"])
    table(heap.__doc__, ["", "bytes/connection", "having spoken", "allocations/message"], rows,
          f"Of {many:,} idle accepted connections: bytes of heap, malloc's own eight per block "
          "included, what the server\nhad before not; tables that double in size are counted "
          "whole. Allocations in the steady state, 64 connections.")


def held(server, many, spoken, counts):
    """Heap bytes per connection, while a client holds that many."""
    before = counts()[1]
    child = start(server.command(many, many, 64, spoken, 0, "hold"), stdin=subprocess.PIPE,
                  preexec_fn=scheduled(cpus[-1], False))
    try:
        if not child.stdout.readline():
            raise Failed("client did not connect")
        deadline = time.monotonic() + 20
        while server.fds() < server.idle_fds + many and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        return (counts()[1] - before) / many
    finally:
        reap(child)
        deadline = time.monotonic() + 20
        while server.fds() > server.idle_fds and time.monotonic() < deadline:
            time.sleep(0.01)


def backends():
    """Each backend of reactor.h by itself"""
    loads, names = loads_of_echo(), ["stream_" + each for each in backends_here]
    names = [name for name in ["epoll", "uring", *names] if runs(name)]
    cost = echo_of(names, loads)
    rows = [[SERVERS[name][3]] + [cell for title, _, _ in loads for cell in
                                  median_and_ratio(cost[title, name], cost[title, "epoll"])]
            for name in names]
    table(f"{backends.__doc__}: echo over streams, CPU time for each message",
          ["ns per message"] + [h for title, _, _ in loads for h in (title, "ratio")], rows)
    got, counted = {}, {}
    for _ in range(options.rounds):
        for each in backends_here:
            for name, columns in lines_of([os.path.join(BUILD, "dispatch"), each, "1"],
                                          preexec_fn=scheduled(cpus[0], False)).items():
                for i, values in columns.items():
                    got.setdefault(name, {}).setdefault(i, []).extend(values)
    for name in names:
        counted[name] = ["-", "-"]
        if shutil.which("strace"):
            per = server_difference(name, ["strace", "-f", "-c"], "-o", (6400, 70400), strace_calls)
            counted[name][0] = f"{sum(per.values()):.3f}"
        if not shutil.which("valgrind"):
            continue
        with contextlib.suppress(Failed):
            per = server_difference(name, ["valgrind", "-q", "--tool=callgrind"],
                                    "--callgrind-out-file=", (6400, 32000), callgrind_functions)
            counted[name][1] = f"{per['all']:.1f}"
    rows = []
    for name in names:
        own = got.get(name[7:], {}) if name.startswith("stream_") else {}
        rows.append([SERVERS[name][3]] + counted[name])
        rows[-1][1:1] = [f"{statistics.median(own[i]):.0f}" if own else "-" for i in range(4)]
    table(f"{backends.__doc__}: watchers, and what a message costs",
          ["", "10 of 1,000", "all 1,000", "remove+add", "modify", "calls", "instructions"], rows,
          "ns of CPU for each event, wait included, with so many descriptors readable; for each "
          "removal with adding\nagain, and each change of interest, told to the kernel included. "
          "Calls and instructions: for each echoed\nmessage, 64 connections, in turns.")


def size():
    """The implementation compiled"""
    variants = [("whole, default backends", []),
                ("whole, every backend", ["-DREACTOR_USE_ALL"])]
    variants += [(f"{backend} only", [f"-DREACTOR_USE_{backend.upper()}"])
                 for backend in backends_here]
    variants += [("without signals", ["-DREACTOR_NO_SIGNALS"]),
                 ("without net", ["-DREACTOR_NO_NET"]),
                 ("without work", ["-DREACTOR_NO_WORK"]),
                 ("epoll only, without both",
                  ["-DREACTOR_USE_EPOLL", "-DREACTOR_NO_SIGNALS", "-DREACTOR_NO_NET"])]
    rows = []
    out = os.path.join(BUILD, "size.o")
    for title, flags in variants:
        row = [title]
        for level in ("-O2", "-Os"):
            command = [*CC, level, "-std=gnu11", "-DREACTOR_IMPLEMENTATION", *flags, "-x", "c",
                       "-c", os.path.join(TOP, "reactor.h"), "-o", out]
            took = []
            for _ in range(options.rounds):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run(command, check=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            sizes = subprocess.run(["size", out], text=True, stdout=subprocess.PIPE, check=True)
            text, data, bss = sizes.stdout.splitlines()[1].split()[:3]
            row += [f"{statistics.median(took):.2f}", text, f"{data}+{bss}"]
        rows.append(row)
    table(size.__doc__, ["", "-O2: s", "text", "data+bss", "-Os: s", "text", "data+bss"], rows,
          "Seconds are the compiler's CPU time; text includes constants.")


def http():
    """Static files over HTTP"""
    http_servers.measure(sys.modules[__name__], http.__doc__)


SECTIONS = {f.__name__: f for f in
            (echo, udp, calls, instructions, backends, timers, changes, post, work, heap, size,
             http)}


def main():
    global options
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="environment: ROUNDS, CC, B (build directory)")
    parser.add_argument("sections", nargs="*", metavar="section",
                        help=f"of {', '.join(SECTIONS)}; all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter ones")
    parser.add_argument("--rounds", type=int, help="7, quick 3", default=None)
    parser.add_argument("--servers", type=lambda text: text.split(","), metavar="A,B",
                        help=f"only these of {', '.join(SERVERS)}, stream_<backend>, "
                             "before_<backend>, and epoll")
    parser.add_argument("--before", metavar="FILE",
                        help="another version of reactor.h, to be measured beside this one")
    parser.add_argument("--functions", action="store_true",
                        help="with instructions: also by function")
    options = parser.parse_args()
    look_for_backends()
    look_for_another_build()
    unknown = set(options.sections) - set(SECTIONS)
    unknown |= set(options.servers or ()) - set(SERVERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.rounds is None:
        options.rounds = int(os.environ.get("ROUNDS", 3 if options.quick else 7))
    wanted = options.sections or list(SECTIONS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    status = 0
    try:
        look_for_libraries()
        machine()
        build(set(wanted))
        for name in wanted:
            try:
                SECTIONS[name]()
            except Failed as why:
                print(f"bench: {name}: {why}", file=sys.stderr)
                status = 1
            finally:
                clean_up()
    except KeyboardInterrupt:
        status = 130
    finally:
        clean_up()
    return status


if __name__ == "__main__":
    sys.exit(main())
