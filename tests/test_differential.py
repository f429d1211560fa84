#!/usr/bin/env python3
"""One behaviour on every backend: the same scenarios are played by tests/differential.c on each of
those compiled in, and the traces compared.

/* backends: one */

With what is written: the files in tests/scenarios, whose lines are
    # remark
    == title                            begins a scenario
    step                                as tests/differential.c describes them
      outcome                           indented: what the step above must bring, line by line
      @select,poll: outcome             the same on these backends only: a difference that the
      @-select,poll: outcome            manual owns up to; or on all but these
A title with alternatives, "== end of file {unix,tcp}", stands for one scenario with each of them
in the place of every {} below it; "@tcp:" then is an outcome of that one only. Windows' two backends
are called windows and winselect here, and win is both.

With one another: random scenarios from a seed. One that differs is played again with fewer and
fewer steps until none can be left out, and shown.

    tests/test_differential.py [--seed S] [--count N] [--file NAME] [--write] [--windows DIR] [word...]
plays only those whose title has all the words. --write puts the first backend's outcome into the
files, to be read before it is believed. REACTOR_TEST_BUILD is where the programs are (build),
REACTOR_TEST_BACKEND the one to compare with the first; REACTOR_TEST_SEED and REACTOR_TEST_COUNT are
the seed (1) and number of random scenarios. --windows plays those that can be on Windows with DIR's
differential.exe under wine, the random ones compared with the first backend here; the outcomes that
wine cannot show are in tests/win32/known.txt.
"""

import argparse
import collections
import concurrent.futures
import difflib
import glob
import os
import random
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("REACTOR_TEST_BUILD", "build") + "/tests/differential"
COUNT = 100       # random scenarios, of either kind
SHOWN = 10        # failures shown whole
LIMIT_S = 1800    # for all the scenarios of one backend
NOT_ON_WINDOWS = [
    (r"(pair|listen \w+) unix|unix:|nothere", "unix sockets"),
    (r"pair pipe", "pipes that can be watched"),
    (r"pair dgram", "pairs of datagram sockets"),
    (r"open (\w+) (null|file)\n(.*\n)*(add|pull|connect \w+|attach \w+) \1\b", "files that can be watched"),
    (r"(un)?signal (USR|HUP)|raise", "signals of a program's own"),
    (r"dup ", "duplicates of sockets"),
]
COMMANDS = {}     # how to play on a backend, where it is not PROGRAM's
BAD = re.compile(r"^  .*(HUNG|LEAKED|DIED|wrong at|WRONG|another)", re.M)


# ---- playing ----

def backends():
    names = subprocess.run([PROGRAM, "--list"], check=True, stdout=subprocess.PIPE).stdout
    return names.decode().split()


def seen(backend, text):
    """Without what cannot be seen: wine's recv tells a reset as an end of file."""
    if backend not in COMMANDS:
        return text
    return re.sub(r"^  (\w+) eof\n(?=  \1 close -ECONNRESET)", "", text, flags=re.M)


def loosely(text):
    """Without what differs on Windows: how a reset is called, which hang-ups are told, and what the
    shutdown of a dead socket says."""
    text = re.sub(r"^(shutdown \w+.*)\n  -ENOTCONN$", r"\1", text, flags=re.M)
    return seen("windows", re.sub(r"(\|ERROR)?\|HANGUP", "", text.replace("-EPIPE", "-ECONNRESET")))


def split(text):
    """{title: transcript} of what the program printed; a title is unique in what it was given."""
    parts = re.split(r"^== (.*)\n", text, flags=re.M)
    return {parts[i]: parts[i + 1].rstrip("\n") + "\n" for i in range(1, len(parts), 2)}


def play(backend, scenarios):
    """{title: transcript}; scenarios is a list of (title, steps). One that ends the program has that
    in its transcript, and the rest is played by a new one."""
    done, todo = {}, list(scenarios)
    while todo:
        script = "".join(f"== {title}\n" + "".join(s + "\n" for s in steps)
                         for title, steps in todo)
        process = subprocess.Popen(COMMANDS.get(backend, [PROGRAM, backend]), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(script.encode(), LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        played = split(seen(backend, out.decode("utf-8", "replace").replace("\r", "")))
        if process.returncode and played:
            last = list(played)[-1]
            lines = err.decode("utf-8", "replace").splitlines()[:60]
            played[last] += f"  DIED: {process.returncode}\n" + "".join(f"  {x}\n" for x in lines)
        elif process.returncode:
            played = {title: f"  DIED: {process.returncode}\n" for title, _ in todo}
        done.update(played)
        if not process.returncode:
            break
        todo = [(title, steps) for title, steps in todo if title not in played]
    return done


def play_all(names, scenarios):
    """{backend: {title: transcript}}, two backends at a time."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(lambda n: play(n, scenarios), names)))


def differing(traces):
    """Two backends of {backend: transcript} that differ, or one that says itself that it failed."""
    names = list(traces)
    for name in names:
        if traces[name] != traces[names[0]]:
            return names[0], name
    for name in names:
        if BAD.search(traces[name]):
            return name, name
    return None


def show_diff(title, want, got, wanted_by, got_by):
    print(f"---- {title}")
    if want == got:
        print(want)
        return
    sys.stdout.writelines(difflib.unified_diff(
        want.splitlines(True), got.splitlines(True), wanted_by, got_by, n=12))
    print(flush=True)


# ---- what is written ----

def of_alternative(line, one, names):
    """A line as it is for one of the alternatives, None if it is for others."""
    match = re.match(r"^  @([\w,]+): (.*)$", line)
    if match and set(match[1].split(",")) <= set(names):
        return "  " + match[2] if one in match[1].split(",") else None
    return line.replace("{}", one)


def scenarios_of(path):
    """[(title, [lines])] with the alternatives put in, and the remarks left out."""
    found, title, lines = [], None, []

    def finish():
        if title is None:
            return
        match = re.search(r"\{(.*?)\}", title)
        if not match:
            found.append((title, lines))
            return
        names = match[1].split(",")
        for one in names:
            mine = [x for x in (of_alternative(x, one, names) for x in lines) if x is not None]
            found.append((title.replace(match[0], one), mine))

    with open(path, encoding="utf-8") as f:
        for line in f:
            line = line.rstrip()
            if line.startswith("== "):
                finish()
                title, lines = line[3:], []
            elif line and not line.startswith("#") and title is not None:
                lines.append(line)
    finish()
    return found


def steps_of(lines):
    return [x for x in lines if not x.startswith(" ") and x != "(end)"]


def expected(lines, backend):
    out, called = [], {backend} | ({"win"} & {backend[:3]})
    for line in lines:
        match = re.match(r"^  @(-?)([a-z_,]+): (.*)$", line)
        if not match:
            out.append(line)
        elif bool(called & set(match[2].split(","))) != bool(match[1]):
            out.append("  " + match[3])
    return seen(backend, "".join(x + "\n" for x in out))


def write_back(path, got):
    """Puts the outcomes into a file, where they have no alternatives of backends."""
    with open(path, encoding="utf-8") as f:
        blocks = re.split(r"^(?=== )", f.read(), flags=re.M)
    for i, block in enumerate(blocks):
        title = block.split("\n", 1)[0][3:]
        match = re.search(r"\{(.*?)\}", title)
        first = title.replace(match[0], match[1].split(",")[0]) if match else title
        if first not in got or re.search(r"^  @", block, re.M):
            continue
        tail = re.search(r"(\n(#.*)?)*$", block)[0]
        steps = [x for x in block[:len(block) - len(tail)].split("\n") if not x.startswith(" ")
                 and x != "(end)"]
        out, want = [steps[0]], got[first].splitlines()
        for step in steps[1:]:
            out.append(step)
            if not step or step.startswith("#"):
                continue
            del want[0]
            while want and want[0].startswith("  "):
                out.append(want.pop(0))
        blocks[i] = "\n".join(out + want) + (tail or "\n")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(blocks)


def not_on_windows(steps):
    text = "\n".join(steps) + "\n"
    return next((why for what, why in NOT_ON_WINDOWS if re.search("^(?:on .* )?" + what, text, re.M)), None)


def excused():
    with open(f"{HERE}/win32/known.txt", encoding="utf-8") as f:
        return set(f.read().split("\n"))


def leave_out(found):
    """Those that can be on Windows, and how many cannot for which reason."""
    reasons = [not_on_windows(steps_of(lines)) for _, lines in found]
    left = [f for f, why in zip(found, reasons) if not why]
    return left, collections.Counter(why for why in reasons if why)


def written(a, names):
    passed, failed, missing = 0, [], collections.Counter()
    excuses = excused() if a.windows else ()
    for path in sorted(glob.glob(f"{HERE}/scenarios/*.txt")):
        subject = os.path.basename(path)[:-4]
        if a.file and a.file != subject:
            continue
        found = [(title, lines) for title, lines in scenarios_of(path)
                 if all(w in title for w in a.words)]
        if a.windows:
            found, without = leave_out(found)
            missing += without
        titles = [title for title, _ in found]
        for title in {t for t in titles if titles.count(t) > 1}:
            failed.append(f"{subject}: {title}: two have this title")
        todo = [(title, steps_of(lines)) for title, lines in found]
        got = play_all(names, todo)
        if a.write:
            write_back(path, got[names[0]])
            continue
        for title, lines in found:
            bad = [n for n in names if got[n].get(title) != expected(lines, n)]
            passed += not bad
            if not bad:
                continue
            if f"{subject}: {title}" in excuses:
                missing["(wine cannot show it)"] += 1
                continue
            failed.append(f"{subject}: {title} ({', '.join(bad)})")
            if len(failed) <= SHOWN:
                show_diff(f"{subject}: {title}", expected(lines, bad[0]),
                          got[bad[0]].get(title, "(not played)\n"), "written", bad[0])
    return passed, failed, missing


# ---- random ones ----

class Script:
    """Random steps. Names are used again, so that the new meet what is left of the old."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.steps = []

    def one(self, *what):
        return what[self.random.randrange(len(what))]

    def chance(self, n):
        return self.random.randrange(n) == 0

    def add(self, step):
        self.steps.append(step)

    def interest(self):
        events = self.one("0", "READ", "READ", "READ", "WRITE", "WRITE", "READ|WRITE", "READ|WRITE")
        if self.chance(4):
            events += self.one("|EDGE", "|ONESHOT", "|EDGE|ONESHOT") if events != "0" else ""
        return events if not self.chance(60) else events + "|BAD"


class Descriptors(Script):
    """Watchers, timers that are due, tasks and signals; one turn at a time."""

    PAIRS = ("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")

    def __init__(self, seed):
        super().__init__(seed)
        self.kinds = {}      # of the pairs that are open
        self.closed = set()  # ends of these
        self.serial = 0
        if self.chance(8):
            self.add(f"loop batch={self.one(16, 64)}")
        for _ in range(self.random.randrange(5, 50)):
            self.step()
        for _ in range(2):
            self.add("turn")

    def fresh(self, prefix):
        self.serial += 1
        return f"{prefix}{self.serial}"

    def step(self):
        pair = self.one(*self.PAIRS)
        if pair not in self.kinds:
            return self.open(pair)
        name = self.one(*pair)
        kind = self.kinds[pair]
        if name in self.closed or (kind in ("null", "file") and name == pair[1]):
            name = pair[0] if name == pair[1] else pair[1]
        if name in self.closed:
            return self.forget(pair)
        self.one(self.watch, self.watch, self.io, self.io, self.io, self.turn, self.turn,
                 self.turn, self.other)(pair, name, kind)

    def open(self, pair):
        kind = self.one("unix", "unix", "unix", "tcp", "tcp", "pipe", "pipe", "dgram", "null", "file")
        self.kinds[pair] = kind
        if kind in ("null", "file"):
            self.add(f"open {pair[0]} {kind}")
            self.closed.add(pair[1])
        else:
            self.add(f"pair {kind} {pair[0]} {pair[1]}")
        for name in pair:
            if name not in self.closed and not self.chance(3):
                self.add(f"add {name} {self.interest()}")

    def forget(self, pair):
        del self.kinds[pair]
        self.closed -= set(pair)

    def watch(self, _pair, name, _kind):
        verb = self.one("add", "modify", "modify", "modify", "remove", "rewatch", "find", "pull")
        if verb in ("add", "modify", "pull"):
            self.add(f"{verb} {name} {self.interest()}")
        elif verb == "rewatch":
            self.add(f"rewatch {name} {self.one('1', '2', 'none')}")
        else:
            self.add(f"{verb} {name}")

    def io(self, pair, name, kind):
        if kind in ("null", "file"):
            return
        what = self.random.randrange(14)
        if what < 5:
            self.add(f"write {name} {self.one('x', 'hello', '*3000')}")
        elif what < 9:
            self.add(self.one(f"gulp {name}", f"read {name} 3", f"gulp {name}"))
        elif what == 9 and kind != "dgram":
            self.add(f"fill {name}")
        elif what == 10 and kind in ("unix", "tcp"):
            self.add(f"shutdown {name} {self.one('WRITE', 'WRITE', 'READ', 'BOTH')}")
        elif what == 11 and kind == "tcp":
            self.add(self.one(f"urgent {name}", f"close {name}", f"abort {name}"))
            if not self.steps[-1].startswith("urgent"):
                self.steps.insert(-1, f"remove {name}")
                self.closed.add(name)
        elif what == 12:
            self.add(f"remove {name}")
            self.add(f"close {name}")
            self.closed.add(name)

    def turn(self, *_):
        self.add(self.one("turn", "turn", "turn 2", "select", "select 1000"))

    def other(self, _pair, name, _kind):
        t, u = self.fresh("t"), self.fresh("t")
        self.add(self.one(
            f"after {t} 0", f"defer {t} {u}", f"post {t} {u}", f"thread {t} {u}", "wake",
            f"after {t} 100000", "signal USR1", "raise USR2", f"on {name} gulp {name}",
            f"on {name} #1 remove {name}", f"on {name} #1 modify {name} {self.interest()}",
            f"on {name} #2 defer {t}", f"on {name} #1 after {t} 0", "stop", f"off {name}"))
        if self.steps[-1] == "raise USR2":
            self.steps.insert(-1, "signal USR2")


class Streams(Script):
    """Connections of all kinds with each other and with plain sockets, always run until quiet."""

    def __init__(self, seed):
        super().__init__(seed)
        self.serial = 0
        self.names = []   # connections
        self.ends = []    # plain sockets
        self.options()
        for _ in range(self.random.randrange(5, 40)):
            self.step()
        self.add("run")
        for end in self.ends:
            self.add(f"gulp {end}")

    def options(self):
        how = self.one("", "", " eat=line", " eat=none", " eat=2", " handler=no-eof",
                       " handler=no-data", " high=10 low=2")
        self.add(f"listen l {self.one('tcp', 'tcp', 'unix')}{how}")

    def fresh(self, prefix):
        self.serial += 1
        return f"{prefix}{self.serial}"

    def settle(self):
        if not self.chance(4):
            self.add("run")

    def step(self):
        what = self.random.randrange(16)
        if what < 3 or not self.names:
            self.begin()
        elif what < 7:
            self.add(f"write {self.one(*self.names)} {self.one('hi', 'line%sn' % chr(92), '*5000')}")
        elif what < 9 and self.ends:
            self.peer(self.one(*self.ends))
        elif what < 12:
            self.add(self.one("pause {}", "resume {}", "resume {}", "shutdown {}", "alive {}",
                              "notify {} 0", "input {}").format(self.one(*self.names)))
        elif what == 12:
            self.add(f"{self.one('close', 'close', 'abort')} {self.one(*self.names)}")
        elif what == 13:
            name, event = self.one(*self.names), self.one("data", "eof", "open", "writable", "close")
            self.add(f"on {name}.{event} #1 " + self.one(
                f"write {name} back", f"close {name}", f"shutdown {name}", f"pause {name}",
                f"abort {name}", f"resume {name}", f"notify {name} 100", f"input {name}",
                f"handler {name} no-eof"))
        elif what == 14:
            t = self.fresh("t")
            name = self.one(*self.names)
            self.add(f"defer {t}")
            self.add(f"on {t} {self.one('close', 'abort', 'pause', 'resume', 'shutdown')} {name}")
        else:
            self.add(f"eat {self.one(*self.names)} {self.one('all', 'line', 'none', '1')}")
        self.settle()

    def begin(self):
        c, p = self.fresh("c"), self.fresh("p")
        how = self.one("", "", "", " eat=line", " eat=none", " handler=no-eof", " handler=no-data")
        kind = self.random.randrange(4)
        if kind == 0:
            self.add(f"connect {c} {self.one('l', 'l', 'refused', 'refused,l')}{how}")
            self.add("run")  # in which order two are accepted is the kernel's
        else:
            q = self.fresh("q")
            self.add(f"pair {self.one('unix', 'tcp')} {p} {q}")
            self.add(f"attach {c} {q}{how}")
            self.ends.append(p)
        self.names.append(c)
        if kind == 0:
            self.names.append("l1")

    def peer(self, end):
        what = self.random.randrange(8)
        if what < 4:
            self.add(f"write {end} {self.one('yes', 'a%snb' % chr(92), '*3000')}")
            self.add("run")  # what was written in two pieces may be read in one
        elif what < 6:
            self.add(f"gulp {end}")
        elif what == 6:
            self.add(f"shutdown {end}")
        else:
            self.add(f"{self.one('close', 'abort')} {end}")
            self.ends.remove(end)


def for_windows(steps):
    """What can be there; without what wine does not tell: resets, which its recv makes ends of file, and
    those of a paused one whose peer has ended before; and without filling, for what fits differs."""
    text = "\n".join(steps)
    for what, instead in ((r"^pair \w+", "pair tcp"), (r"^(listen \w+) unix", r"\1 tcp"),
                          (r"^(on .*)?(open|raise|signal|pause|fill) .*\n?", ""), (r"\babort\b", "close"),
                          (r"^(shutdown \w+) \w+", r"\1 WRITE"),
                          (r"^close (\w+)$", r"gulp \1\nclose \1")):
        text = re.sub(what, instead, text, flags=re.M)
    return text.split("\n")


def shrunk(steps, fails):
    """Without the steps that the failure does not need: ever smaller parts are left out."""
    size = max(1, len(steps) // 2)
    while True:
        at, less = 0, False
        while at < len(steps):
            fewer = steps[:at] + steps[at + size:]
            if fewer and fails(fewer):
                steps, less = fewer, True
            else:
                at += size
        if size == 1 and not less:
            return steps
        size = max(1, size // 2)


def alike(fewer, whole):
    """Whether fewer steps fail as all do: a signal whose watcher was left out ends the program."""
    died = [any("  DIED: " in text for text in traces.values()) for traces in (fewer, whole)]
    return differing(fewer) is not None and died[0] == died[1]


def randomly(names, seed, count, mend):
    kinds = {"descriptors": Descriptors, "streams": Streams}
    made = [(f"random {kind} {seed + i}", mend(make(seed + i).steps))
            for i in range(count) for kind, make in kinds.items()]
    got = {name: {} for name in names}
    for at in range(0, len(made), 100):  # so that the time limit is for few
        for name, traces in play_all(names, made[at:at + 100]).items():
            got[name].update(traces if not COMMANDS else
                             {title: loosely(t) for title, t in traces.items()})
    failed = []
    for title, steps in made:
        two = differing({n: got[n].get(title, "  DIED: not played\n") for n in names})
        if not two:
            continue

        def traces(fewer, two=two, title=title):
            played = {n: play(n, [(title, fewer)]).get(title, "") for n in dict.fromkeys(two)}
            return {n: loosely(t) for n, t in played.items()} if COMMANDS else played
        failed.append(f"{title} ({two[1]})")
        if len(failed) > SHOWN:
            continue
        if COMMANDS and count > 1:  # a start of wine takes long
            show_diff(title, got[two[0]].get(title, ""), got[two[1]].get(title, ""), *two)
            print(f"with fewer steps: {sys.argv[0]} --windows ... --seed {title.split()[-1]} --count 1")
            continue
        whole = traces(steps)
        if not differing(whole):
            print(f"---- {title}: differs only now and then")
            show_diff(title, got[two[0]].get(title, ""), got[two[1]].get(title, ""), *two)
            continue
        fewer = shrunk(steps, lambda s: alike(traces(s), whole))
        last = traces(fewer)
        show_diff(f"{title}, {len(fewer)} of {len(steps)} steps", last[two[0]], last[two[1]], *two)
        number = title.split()[-1]
        print(f"repeat with: REACTOR_TEST_SEED={number} REACTOR_TEST_COUNT=1 {sys.argv[0]}")
    return len(made) - len(failed), failed


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--seed", type=int,
                           default=int(os.environ.get("REACTOR_TEST_SEED") or 0))
    arguments.add_argument("--count", type=int,
                           default=int(os.environ.get("REACTOR_TEST_COUNT") or COUNT))
    arguments.add_argument("--file", default="", help="of tests/scenarios, without .txt")
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--windows", default="")
    arguments.add_argument("words", nargs="*")
    a = arguments.parse_args()

    names = backends()
    only = os.environ.get("REACTOR_TEST_BACKEND")
    if only:
        names = list(dict.fromkeys([names[0], only]))
    reference, mend = [], list
    if a.windows:
        program = f"{a.windows}/differential.exe"
        COMMANDS["windows"] = ["wine", program, "windows"]
        COMMANDS["winselect"] = ["wine", program, "select"]
        reference, names, mend = names[:1], list(COMMANDS), for_windows
    began = time.monotonic()
    passed, failed, missing = written(a, names)
    print(f"written: {passed} alike on {' '.join(names)}, {time.monotonic() - began:.1f} s")
    if not (a.write or a.words or a.file) and a.count:
        seed = a.seed or 1
        began = time.monotonic()
        p, f = randomly(reference + names, seed, a.count, mend)
        print(f"random: {p} alike, from seed {seed}, {time.monotonic() - began:.1f} s")
        passed, failed = passed + p, failed + f
    for why, n in missing.items():
        print(f"not played: {n} {why if why[0] == '(' else 'need ' + why}")
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed" +
          (f", {sum(missing.values())} skipped" if missing else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
