#!/usr/bin/env python3
"""Runs the tests that were built for Windows under wine, each on every backend compiled in.

    run.py DIRECTORY [test_x.exe script.py ...]

A script is given the directory, and ends with "N passed, M failed, K skipped". known.txt lists, with
the reason, what wine cannot show: those may fail or skip themselves, and are told as such. All
else counts as in tests/run.py.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_S = 900  # a program's, beyond that of each of its tests


def known():
    """{test: reason}, and all reasons: some have no test to go with."""
    found, reasons = {}, [""]
    with open(os.path.join(HERE, "known.txt"), encoding="utf-8") as f:
        for line in f.read().split("\n"):
            if line.startswith("# "):
                reasons.append(line[2:])
            elif line.strip():
                found[line.strip()] = reasons[-1]
    return found, reasons[1:]


def prefix(directory):
    return os.path.abspath(directory) + "-wine"


def wine(directory, program, backend=""):
    env = dict(os.environ, WINEDEBUG="-all", REACTOR_TEST_BACKEND=backend,
               REACTOR_TEST_STEPS="250",  # of test_model: each takes tens of wine's calls
               WINEPREFIX=prefix(directory))
    try:
        done = subprocess.run(["wine", os.path.join(directory, program)], env=env, timeout=LIMIT_S,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        return done.stdout.decode("utf-8", "replace").replace("\r", ""), done.returncode
    except subprocess.TimeoutExpired as e:
        return (e.stdout or b"").decode("utf-8", "replace") + "\nnot finished in time\n", 1


def script(directory, path):
    """Its numbers, and what it said."""
    env = dict(os.environ, WINEDEBUG="-all", WINEPREFIX=prefix(directory))
    done = subprocess.run([path, "--windows", directory], env=env, timeout=LIMIT_S, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = done.stdout.decode("utf-8", "replace")
    last = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", output, re.M)
    if not last:
        return (0, 1, 0), output
    numbers = tuple(int(n or 0) for n in last[-1])
    return (numbers if numbers[1] or not done.returncode else (numbers[0], 1, numbers[2])), output


def names(output, word):
    return re.findall(r"\[ " + word + r" \] (\S+)", output)


def main():
    directory = sys.argv[1]
    programs = [p for p in sys.argv[2:] if p.endswith(".exe")]
    scripts = [p for p in sys.argv[2:] if p.endswith(".py")]
    wine(directory, "backends.exe")  # the first start makes wine's own files, and talks of it
    output, status = wine(directory, "backends.exe")
    backends = [name for name in output.split() if name in ("windows", "select")]
    if status or not backends:
        print(f"{directory}: this wine does not start these programs, skipped (for 32 bit it needs "
              "wine32, which Debian has in its architecture i386)")
        return 0
    excuses, reasons = known()
    sums = [0, 0, 0, 0]
    for program in programs:
        for backend in backends:
            output, status = wine(directory, program, backend)
            good, skipped = names(output, "      OK"), names(output, " SKIPPED")
            bad = [n for n in names(output, "RUN     ") if n not in good and n not in skipped]
            if status and not bad:
                bad = ["exit status"]
            fatal = [n for n in bad if n not in excuses]
            excused = [n for n in bad + skipped if n in excuses]
            skipped = [n for n in skipped if n not in excuses]
            for i, n in enumerate((good, fatal, skipped, excused)):
                sums[i] += len(n)
            print(f"{program:<22} {backend:<8} {len(good):>3} passed, {len(skipped)} have no "
                  f"meaning here, {len(excused)} wine cannot show", flush=True)
            for n in fatal:
                at = output.find(f"[ RUN      ] {n}\n")
                print(f"    FAILED {n}\n" + "\n".join(
                    "      " + t for t in output[at:].split("\n")[1:6]), flush=True)
    for path in scripts:
        numbers, output = script(directory, path)
        for i, n in enumerate(numbers):
            sums[i] += n
        print(f"{os.path.basename(path):<31} {numbers[0]:>3} passed, {numbers[2]} have no meaning here")
        keep = output if numbers[1] else "".join(re.findall(r"^(?:not played|skipped): .*\n", output, re.M))
        print("".join("    " + line + "\n" for line in keep.splitlines()), end="", flush=True)
    for reason in reasons:
        print(f"wine cannot show: {reason}")
    print(f"{sums[0]} passed, {sums[1]} failed, {sums[2]} skipped, {sums[3]} excused")
    return 1 if sums[1] or not sums[0] else 0


if __name__ == "__main__":
    sys.exit(main())
