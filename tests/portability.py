#!/usr/bin/env python3
"""The behaviour tests and the analyzers with every compiler, C library, machine and kernel at hand.

portability.py [PART ...] runs all parts, or these. A part whose tools are not installed is skipped
and says so; `make setup-all` installs them. Each part builds in a directory of its own under
build/portability. Programs for other machines are linked statically and use tests/portable's
cmocka.h, so that neither their libraries nor a sysroot has to be there.
"""

import concurrent.futures
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(os.environ.get("B", "build"), "portability")
TCC = " ".join(glob.glob("/usr/lib/*/tcc/libtcc1.a") + glob.glob("/usr/lib/tcc/libtcc1.a"))
STATIC = ["CPPFLAGS=-Itests/portable", "CMOCKA=", "LDFLAGS=-static"]
WIDE = ["CPPFLAGS=-Itests/portable -D_TIME_BITS=64 -D_FILE_OFFSET_BITS=64"]

# name: the compiler, what else is needed, variables for make
PROGRAMS = {
    "gcc": ("gcc", None, ["OPT=-O3 -g", "CFLAGS=-funsigned-char"]),
    "clang": ("clang", None, ["OPT=-O3 -g"]),
    "musl": ("musl-gcc", None, STATIC),
    # Linked by gcc, for tcc's linker has no --wrap. It knows none of the warnings.
    "tcc": ("tcc", "gcc", ["LINK=gcc -z noexecstack", "LDFLAGS=" + TCC, "WARN=-Wall", "STD=", "DEPS=",
                           "CPPFLAGS=-include tests/portable/tcc.h"]),
    "i686": ("i686-linux-gnu-gcc", None, STATIC),
    "time64": ("i686-linux-gnu-gcc", None, STATIC + WIDE),
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm", STATIC),
    "s390x": ("s390x-linux-gnu-gcc", "qemu-s390x", STATIC),
    "old-kernel": ("gcc", None, ["IMPLEMENTATION=tests/portable/old_kernel.c"]),
}

# The examples as processes, on epoll only. test_static wants a kernel with openat2, which qemu's is
# not.
SCRIPTS = {
    "i686": ["tests/test_echo.py", "tests/test_chat.py", "tests/test_static.py"],
    "s390x": ["tests/test_echo.py", "tests/test_chat.py"],
}

# Those of the header, which an example includes but that are not part of it.
HEADERS = ("arpa/inet errno fcntl limits net/if netinet/in netinet/tcp poll pthread signal stdio "
           "stdlib string sys/ioctl sys/socket sys/stat sys/syscall sys/types sys/uio sys/un time "
           "unistd").split()
EXAMPLES = sorted(f"examples/{name}" for name in os.listdir(f"{ROOT}/examples")
                  if name.endswith(".c"))
EXAMPLE_FLAGS = ["-D_GNU_SOURCE", "-DREACTOR_IMPLEMENTATION_INCLUDED"]
for header in HEADERS:
    EXAMPLE_FLAGS += ["-include", header + ".h"]

FANALYZER = ["gcc", "-std=gnu11", "-O1", "-fanalyzer", "-Wall", "-Wextra", "-c", "-o", os.devnull]
CLANG = ["clang", "--analyze", "-Werror", "-std=gnu11", "-Xclang", "-analyzer-output=text"]
CPPCHECK = ["cppcheck", "-q", "-j2", "--std=c11", "--enable=warning,performance,portability",
            "--error-exitcode=1", "--max-configs=1", "-D__linux__", "-D__x86_64__", "-D__GNUC__=12",
            "-DREACTOR_IMPLEMENTATION", "-DCLOCK_MONOTONIC=1", "-DSA_RESTART=1",
            "-DMSG_NOSIGNAL=1"]

# name: commands, the first word of the first one is the tool. The header by itself, then the
# examples by themselves: together they are too much for an analyzer to follow.
ANALYZERS = {
    "fanalyzer": [FANALYZER + ["tests/reactor_all.c"]] +
                 [FANALYZER + EXAMPLE_FLAGS + [example] for example in EXAMPLES],
    "clang-analyzer": [CLANG + ["-Xclang", "-analyzer-opt-analyze-headers", "tests/reactor_all.c"],
                       CLANG + EXAMPLE_FLAGS + EXAMPLES],
    "cppcheck": [CPPCHECK + ["tests/reactor_all.c"] + EXAMPLES],
}

# Not believed: gcc 12 forgets what is stored through a pointer that it cannot follow, such as a
# connection found by its handle in a loop, and calls that a leak, of nothing that it could name. What
# is not stored at all leaks by the name of its variable.
LOST = re.compile(r": warning: leak of \W<unknown>\W .*Wanalyzer-malloc-leak")


def call(command, **environment):
    """(exit status, what it said)"""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, **environment))
    return done.returncode, done.stdout.decode("utf-8", "replace")


def emulated(build, runner):
    """A directory like build, with scripts that run what is there."""
    build = os.path.join(ROOT, build)
    os.makedirs(f"{build}/run/tests", exist_ok=True)
    for source in EXAMPLES + ["tests/backends.c"]:
        name = "tests/" + os.path.basename(source)[:-2]
        with open(f"{build}/run/{name}", "w", encoding="utf-8") as f:
            f.write(f'#!/bin/sh\nexec {runner} {shlex.quote(f"{build}/{name}")} "$@"\n')
        os.chmod(f.name, 0o755)
    return f"{build}/run"


def test(name):
    compiler, other, variables = PROGRAMS[name]
    runner = other if other and other.startswith("qemu") else ""
    build = f"{BUILD}/{name}"
    make = ["make", "--no-print-directory", "-s", "-j2", "programs", f"B={build}", f"CC={compiler}"]
    status, said = call(make + ["QUIET=@"] + variables)
    if status:
        return status, said
    programs = sorted(f"{build}/tests/{source[:-2]}" for source in os.listdir(f"{ROOT}/tests")
                      if re.fullmatch(r"test_\w+\.c", source))
    environment = {"REACTOR_TEST_RUNNER": runner} if runner else {}
    if name == "old-kernel":
        environment["REACTOR_TEST_OLD_KERNEL"] = "1"
    status, said = call(["tests/run.py", "--build", build] + programs, **environment)
    if name in SCRIPTS and status == 0:
        tests = said.strip().split("\n")[-1]
        build = emulated(build, runner) if runner else build
        status, said = call(["tests/run.py", "--build", build, "--backend", "epoll"] +
                            SCRIPTS[name])
        said += f"{tests}, examples: " + said.strip().split("\n")[-1]
    return status, said


def analyze(name):
    for command in ANALYZERS[name]:
        status, said = call(command)
        told = said.strip()
        if command[0] == "gcc":
            told = [line for line in said.splitlines()
                    if ": warning: " in line and not LOST.search(line)]
        if status or told:
            return status or 1, said
    return 0, f"{len(EXAMPLES) + 1} sources, no findings\n"


def run(name):
    needed = PROGRAMS[name][:2] if name in PROGRAMS else ANALYZERS[name][0][:1]
    missing = [tool for tool in needed if tool and not shutil.which(tool)]
    began = time.monotonic()
    if missing:
        return None, f"{missing[0]} is not installed, skipped\n", 0
    status, said = (test if name in PROGRAMS else analyze)(name)
    return status, said, time.monotonic() - began


def main():
    known = list(PROGRAMS) + list(ANALYZERS)
    wanted = sys.argv[1:] or known
    for name in wanted:
        if name not in known:
            sys.exit(f"portability: no part {name}; there are: {' '.join(known)}")
    passed = failed = skipped = 0
    # Two at a time: most of what they do is to wait.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = {pool.submit(run, name): name for name in wanted}
        for done in concurrent.futures.as_completed(running):
            name = running[done]
            status, said, seconds = done.result()
            passed, failed, skipped = (passed + (status == 0), failed + bool(status),
                                       skipped + (status is None))
            if status:
                print(f"portability: {name}: FAILED\n" +
                      "".join(f"    {line}\n" for line in said.splitlines()[-150:]), end="")
                print(f"  repeat with: make portability PARTS={name}", flush=True)
            else:
                last = said.strip().split("\n")[-1]
                print(f"portability: {name}: {last}" + (f", {seconds:.0f} s" if seconds else ""),
                      flush=True)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
