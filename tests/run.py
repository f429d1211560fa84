#!/usr/bin/env python3
"""Runs test programs, each of them once on every backend, and adds up what they say.

One runs on each core, and more of them while cores are idle, for many tests wait most of the time.
A program is cmocka's output, or, for scripts, a last line "N passed, M failed". Two comments at the
start of a line in a test's source are read here:
    /* backends: one */         it does not depend on the backend: run it once
    /* sanitizers: none */      leave it out of asan, ubsan and tsan
REACTOR_TEST_RUNNER, such as "qemu-s390x", runs programs that this machine cannot.
A line tells of each program that has ended, and how many are to come; a failure shows the whole
output and the command that repeats it. How long each takes is kept in the build directory: the
longest begin first, and the first line says how long all will take about. Nothing fails for being
slow: the limit is for programs that hang.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

LIMIT_S = 3600  # far more than any takes, however busy the machine is
JOBS = max(2, os.cpu_count() or 2)
MOST = 6 * JOBS  # at a time, however much they wait: each has processes and memory of its own
LOOK_S = 0.5  # so often is looked whether cores are idle
KEEP = 400  # lines of a failing program that are shown at most


def marker(source, text):
    try:
        with open(source, encoding="utf-8") as f:
            return re.search(r"^/\* " + text + r"\b", f.read(), re.M) is not None
    except OSError:
        return False


def environment(build, backend):
    """Little, and the same everywhere; what a developer sets on purpose is handed on."""
    env = {k: v for k, v in os.environ.items()
           if k in ("PATH", "TMPDIR") or k.startswith("REACTOR_TEST_")}
    env.update(LC_ALL="C", REACTOR_TEST_BUILD=build)
    env.pop("REACTOR_TEST_BACKEND", None)
    if backend:
        env["REACTOR_TEST_BACKEND"] = backend
    env["ASAN_OPTIONS"] = "detect_leaks=1:allocator_may_return_null=1:abort_on_error=0"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1"
    env["TSAN_OPTIONS"] = "halt_on_error=0:second_deadlock_stack=1"
    return env


def count(output, status):
    """(passed, failed, skipped, names of the failed). What was begun and neither passed nor was
    skipped has failed, so a crash in the middle counts as well."""
    begun = re.findall(r"\[ RUN      \] (\S+)", output)
    if not begun:
        last = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", output, re.M)
        if not last:
            return 0, 1, 0, ["ended without a result"]
        passed, failed, skipped = (int(n or 0) for n in last[-1])
        names = re.findall(r"^failed: (.*)$", output, re.M)
        if status and not failed:
            failed, names = 1, ["exit status"]
        return passed, failed, skipped, names
    good = re.findall(r"\[       OK \] (\S+)", output)
    skipped = set(re.findall(r"\[  SKIPPED \] (\S+)", output)) & set(begun)
    bad = [name for name in begun if name not in good and name not in skipped]
    if status and not bad:
        bad = ["exit status"]  # a group's teardown, a leak that a sanitizer found
    return len(good), len(bad), len(skipped), bad


def shortened(output):
    """Without the tests that passed and said nothing, and never endless."""
    output = re.sub(r"\[ RUN      \] (\S+)\n\[       OK \] \1\n", "", output)
    lines = output.rstrip("\n").split("\n")
    if len(lines) > KEEP:
        lines = lines[:KEEP // 4] + ["   ..."] + lines[-KEEP * 3 // 4:]
    return lines


class IdleCores:
    """Whether at least half a core was idle of late. Where the kernel does not tell, none was."""

    def __init__(self):
        self.when, self.ticks = time.monotonic(), self.idle_ticks()

    @staticmethod
    def idle_ticks():
        try:
            with open("/proc/stat", encoding="ascii") as f:
                return int(f.readline().split()[4])
        except (OSError, ValueError, IndexError):
            return 0

    def seen(self):
        """Looks anew if it was long enough ago; each look finds place for one program."""
        now = time.monotonic()
        if now - self.when < LOOK_S:
            return False
        ticks = self.idle_ticks()
        idle = (ticks - self.ticks) / os.sysconf("SC_CLK_TCK") / (now - self.when)
        self.when, self.ticks = now, ticks
        return idle >= 0.5


def signals_as_usual():
    """What the parent ignored or blocked, the tests would inherit: a shell ignores SIGINT for what it
    runs in the background, nohup SIGHUP. This program goes on ignoring them, by a handler, which its
    children do not inherit."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD):
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


def run(program, backend, build, prefix):
    began = time.monotonic()
    process = subprocess.Popen(
        ([] if program.endswith(".py") else prefix) + [program],
        env=environment(build, backend), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    watchdog = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    lines = []
    for line in process.stdout:
        if line.startswith(b"progress: "):
            print(line.decode("utf-8", "replace")[len("progress: "):], end="", flush=True)
        else:
            lines.append(line)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status = os.waitstatus_to_exitcode(status)
    ended = "" if watchdog.is_alive() else f"not finished after {LIMIT_S} s"
    watchdog.cancel()
    output = b"".join(lines)
    try:  # what a failed test may have left running
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    if status < 0 and not ended:
        ended = "killed by " + signal.Signals(-status).name
    elif status and not ended:
        ended = f"exit status {status}"
    output = output.decode("utf-8", "replace")
    return output, status, ended, time.monotonic() - began, usage.ru_utime + usage.ru_stime


def backends_of(build, prefix):
    """Those that work here, and of the others why not."""
    out = subprocess.run(prefix + [f"{build}/tests/backends"], check=True, stdout=subprocess.PIPE)
    lines = [line.split(" ", 1) for line in out.stdout.decode().splitlines()]
    return [line[0] for line in lines if len(line) == 1], [line for line in lines if len(line) > 1]


def sanitizer_prefix(build):
    """Older thread sanitizers cannot place their shadow where addresses are much randomised."""
    if not os.path.exists(f"{build}/tests/backends"):
        return []
    plain = subprocess.run([f"{build}/tests/backends"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    return ["setarch", os.uname().machine, "-R"] if plain.returncode else []


def durations(path):
    """{a job's name: [seconds that it took when it was run last, seconds of a core in that]}"""
    try:
        with open(path, encoding="utf-8") as f:
            return {key: both for key, both in json.load(f).items() if len(both) == 2}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def announce(jobs, alone, took):
    """How long it will take about, from those whose time is known."""
    known = [key for key in map(" ".join, jobs + alone) if key in took]
    if len(known) * 2 < len(jobs) + len(alone) or not known:
        print(f"{len(jobs) + len(alone)} programs", flush=True)
        return
    together = [took[key] for key in map(" ".join, jobs) if key in took]
    walls, cores = [wall for wall, _ in together], [core for _, core in together]
    seconds = max([sum(walls) / MOST, sum(cores) / JOBS] + walls)
    seconds += sum(took[key][0] for key in map(" ".join, alone) if key in took)
    print(f"{len(jobs) + len(alone)} programs, about {seconds:.0f} s if the machine is as busy as last"
          " time", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", default="build")
    arguments.add_argument("--backend", default="", help="this one only")
    arguments.add_argument("programs", nargs="*")
    a = arguments.parse_args()
    signals_as_usual()

    flavour = os.path.basename(a.build)
    sanitized = flavour in ("asan", "ubsan", "tsan")
    runner = shlex.split(os.environ.get("REACTOR_TEST_RUNNER", ""))
    prefix = runner or sanitizer_prefix(a.build)
    todo, alone = [], []
    works, refused = [], []
    if os.path.exists(f"{a.build}/tests/backends"):
        works, refused = backends_of(a.build, prefix)
    for program in a.programs:
        path = program if "/" in program else "./" + program
        name = re.sub(r"\.py$", "", os.path.basename(program))
        if program.endswith(".sh"):  # uses all cores itself
            alone.append(("build", path, ""))
            continue
        source = program if program.endswith(".py") else f"tests/{name}.c"
        if sanitized and marker(source, "sanitizers: none"):
            continue
        if marker(source, "backends: one") or marker(source, "backends:one"):
            todo.append((name, path, ""))
            continue
        todo += [(name, path, b) for b in works if a.backend in ("", b)]
    for name, why in refused:
        if a.backend in ("", name):
            print(f"backend {name} is refused here ({why}): its tests were left out")
    known = works + [name for name, _ in refused]
    if works and a.backend in ("", "kqueue") and "kqueue" not in known:
        print("kqueue: skipped, KQUEUE_CFLAGS and KQUEUE_LIBS are not set")
    if a.backend and a.backend not in known:
        print(f"backend {a.backend} is not compiled in: its tests were left out")

    passed = failed = skipped = told = 0
    memory = f"{a.build}/tests/durations.json"
    took = durations(memory)
    # The longest first; a script drives processes, and takes longer than a program that is unknown.
    unknown = {True: [60, 0], False: [0, 0]}
    todo.sort(key=lambda job: -took.get(" ".join(job), unknown[job[1].endswith(".py")])[0])
    if len(todo) + len(alone) > 1:
        announce(todo, alone, took)

    def tell(job, result):
        nonlocal passed, failed, skipped, told
        name, path, backend = job
        output, status, ended, seconds, core_seconds = result
        told += 1
        took[" ".join(job)] = [round(seconds, 1), round(core_seconds, 1)]
        left = len(todo) + len(alone) - told
        p, f, s, names = count(output, status)
        passed, failed, skipped = passed + p, failed + f, skipped + s
        line = f"{name:<20} {backend:<9} {p:>4} passed"
        if s:
            line += f", {s} skipped"
        for reason in dict.fromkeys(re.findall(r"^libkqueue cannot .*$", output, re.M)):
            print(f"{'':<20} {reason}")
        if not f:
            print(f"{line:<60}{seconds:6.1f} s" + (f", {left} to come" if left else ""), flush=True)
            return
        command = f"REACTOR_TEST_BACKEND={backend} {path}" if backend else path
        shown = "; ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        print(f"{line}, {f} FAILED: {shown}" + (f" ({ended})" if ended else ""))
        print("\n".join("    " + text for text in shortened(output)))
        print(f"  repeat with: {command}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(MOST) as pool:
        waiting, running, idle = todo[:], {}, IdleCores()
        while waiting or running:
            while waiting and (len(running) < JOBS or len(running) < MOST and idle.seen()):
                job = waiting.pop(0)
                running[pool.submit(run, job[1], job[2], a.build, prefix)] = job
            ended, _ = concurrent.futures.wait(running, LOOK_S if waiting else None,
                                               concurrent.futures.FIRST_COMPLETED)
            for done in ended:
                tell(running.pop(done), done.result())
    for job in alone:
        tell(job, run(job[1], job[2], a.build, []))
    try:
        with open(memory, "w", encoding="utf-8") as f:
            json.dump(took, f)
    except OSError:
        pass  # only the next run's forecast needs it
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
