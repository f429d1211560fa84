#!/usr/bin/env python3
"""Checks that reactor.h keeps to its layers.

    layers.py [reactor.h]     check the header
    layers.py --self-test     check that each rule below fires on a small broken input

The file is cut into sections by its banners. The rules:

  order      manual, api, config, util, core come first and in this order, the backends follow,
             then timer and the rest; a licence is last; no section occurs twice
  comment    3 to 12 lines of comment right below each banner (manual, api, licence exempt)
  name       a private function, type or table is called reactor__<section>_x, a private macro or
             constant REACTOR__<SECTION>_X; config and util may use plain REACTOR__X
  home       what is named after a section is defined in it
  up         a section uses what stands above it or is its own, never what comes below; that holds
             for public functions too
  backend    a backend uses config, util, core and itself, io_uring also epoll
  asked      config's question whether any backend is asked for names the macro of each, or with
             that macro alone the defaults would be compiled in besides
  net        uses config, util and itself, and knows no reactor
  timer      uses config, util, core and itself, and touches no descriptor
  callback   the user's functions are called in reactor__loop_call_x, a watcher's also in
             reactor__core_dispatch and dispatch_special, on_slow in reactor__loop_end; nowhere else
  if         no #if inside a function, but in config and the backends
  length     no function above 80 lines
"""

import os
import re
import statistics
import sys

FIRST = ["manual", "api", "config", "util", "core"]
LAST = ["timer", "wake", "loop", "signal", "work", "child", "net", "resolve", "stream", "spawn",
        "datagram"]  # others may join them
BUILT_ON = {"io_uring": ("epoll",)}  # a backend that goes on from another
EXEMPT = ("manual", "api", "licence", "license")
LIMIT, SMELL = 80, 40
CALLERS = re.compile(r"reactor__loop_call_\w+$|reactor__core_dispatch(_special)?$|reactor__loop_end$")
# free_fn is no callback of the loop: any thread may drop the last reference to a buffer.
CALL = re.compile(r"(?:->|\.|\*)\s*(on_\w+|fn|done)\s*\)?\s*\(|(?<![\w>.])(fn|done)\s*\(")
TOUCHES = re.compile(r"\b(close|read|write|readv|writev|recv\w*|send\w*|ioctl|fcntl|select|poll|"
                     r"ppoll|epoll_\w+|timerfd_\w+|eventfd|kevent|kqueue|io_uring_\w+|syscall)"
                     r"\s*\(")
BANNER = re.compile(r"^/\* ==== >> ([a-z0-9_]+) ==== \*/$")


def bare(text):
    """The text with comments and literals blanked, every character and line in its place."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, blank, text, flags=re.S)


class Header:
    def __init__(self, text):
        self.text = text
        self.lines = text.split("\n")
        self.code = bare(text).split("\n")
        self.faults = []
        self.info = []
        self.sections = []  # (name, line of the banner), lines counted from 0
        for i, line in enumerate(self.lines):
            match = BANNER.match(line)
            if match:
                self.sections.append((match.group(1), i))
        self.names = [name for name, _ in self.sections]
        self.of_line = []
        current = None
        banners = {line: name for name, line in self.sections}
        for i in range(len(self.lines)):
            current = banners.get(i, current)
            self.of_line.append(current)
        self.backends = self.find_backends()
        self.functions = self.find_functions()

    def fault(self, rule, line, text):
        self.faults.append((line + 1, rule, text))

    def find_backends(self):
        if "core" not in self.names or "timer" not in self.names:
            return []
        return self.names[self.names.index("core") + 1:self.names.index("timer")]

    def find_functions(self):
        """[(name, first line, last line)], by clang-format's layout: a definition begins in
        column 0 and ends with a brace there, or on its own line."""
        found = []
        i = 0
        while i < len(self.code):
            line = self.code[i]
            if not re.match(r"[A-Za-z]", line) or line.startswith(("typedef", "extern", "#")):
                i += 1
                continue
            text, end = line, i  # the signature, up to its brace or semicolon
            while not re.search(r"[{;]", text) and end + 1 < len(self.code) and end < i + 12:
                end += 1
                text += " " + self.code[end]
            match = re.match(r"[^{;=]*?(\w+)\s*\([^{;]*\)\s*\{", text)
            if not match:
                i += 1
                continue
            last = end
            if text.count("{") != text.count("}"):
                while last + 1 < len(self.code) and not self.code[last].startswith("}"):
                    last += 1
            found.append((match.group(1), i, last))
            i = last + 1
        return found

    def owner(self, name):
        """The section that a private name carries, the longest that fits."""
        rest = name[len("reactor__"):].lower()
        fits = [s for s in self.names if rest == s or rest.startswith(s + "_")]
        return max(fits, key=len) if fits else None

    def check(self):
        self.check_order()
        self.check_comments()
        self.check_names()
        self.check_public()
        self.check_functions()
        self.check_asked()
        for i, line in enumerate(self.code):
            if self.of_line[i] == "timer" and TOUCHES.search(line):
                self.fault("timer", i, "a call that touches a descriptor: " + line.strip())
            if self.of_line[i] == "net" and re.search(r"\breactor\b\s*\*", line):
                self.fault("net", i, "net knows no reactor: " + line.strip())
        self.faults.sort()
        return self.faults

    def check_order(self):
        seen = set()
        for name, line in self.sections:
            if name in seen:
                self.fault("order", line, f"section {name} occurs twice")
            seen.add(name)
        fixed = [n for n in self.names if n in FIRST]
        if fixed != [n for n in FIRST if n in self.names]:
            self.fault("order", 0, "the first sections are " + ", ".join(FIRST))
        elif self.names[:len(fixed)] != fixed:
            self.fault("order", 0, "something stands among " + ", ".join(fixed))
        for name, line in self.sections:
            if name in LAST and name in self.backends:
                self.fault("order", line, f"section {name} stands among the backends")
            if name.startswith("licen") and name != self.names[-1]:
                self.fault("order", line, "the licence comes last")

    def check_comments(self):
        for name, line in self.sections:
            if name in EXEMPT:
                continue
            text = "\n".join(self.lines[line + 1:line + 40])
            match = re.match(r"/\*.*?\*/", text, re.S)
            size = match.group().count("\n") + 1 if match else 0
            if not 3 <= size <= 12:
                self.fault("comment", line, f"section {name} opens with {size} lines of comment, "
                           "not 3 to 12")

    def allowed(self, section, owner):
        """Whether a section may use a private name of another: None, or the rule broken."""
        if section == owner:
            return None
        if self.names.index(owner) > self.names.index(section):
            return "up"
        basis = ("config", "util")
        if section in self.backends and owner not in basis + ("core",) + BUILT_ON.get(section, ()):
            return "backend"
        if section == "net" and owner not in basis:
            return "net"
        if section == "timer" and owner not in basis + ("core",):
            return "timer"
        return None

    def check_names(self):
        first = set()
        for i, line in enumerate(self.code):
            section = self.of_line[i]
            for name in re.findall(r"\b(?:reactor__|REACTOR__)\w+", line):
                owner = self.owner(name)
                new = name not in first
                first.add(name)
                if section is None:
                    self.fault("home", i, f"{name} stands before the first banner")
                elif owner is None:
                    if new and (name.islower() or section not in ("config", "util")):
                        self.fault("name", i, f"{name} carries no section")
                elif section == "config" and name.isupper():
                    continue  # config decides for all, under names of those it decides for
                elif section != owner and new and not self.declared_in(name, owner):
                    self.fault("home", i, f"{name} is defined in {section}, not in {owner}")
                else:
                    rule = self.allowed(section, owner)
                    if rule:
                        self.fault(rule, i, f"{section} uses {name} of {owner}")

    def declared_in(self, name, section):
        """Here or in config, that is."""
        pattern = re.compile(r"\b" + name + r"\b")
        return any(self.of_line[i] in (section, "config") and pattern.search(line)
                   for i, line in enumerate(self.code))

    def check_asked(self):
        macro = re.compile(r"defined\((REACTOR_USE_\w+)\)")
        asked = {name for i, line in enumerate(self.code) if self.of_line[i] == "config"
                 for name in macro.findall(line)}
        for i, line in enumerate(self.code):
            for name in macro.findall(line) if self.of_line[i] in self.backends else ():
                if name not in asked:
                    self.fault("asked", i, f"config does not know of {name}")
                    asked.add(name)

    def check_public(self):
        home = {}
        for name, begin, _ in self.functions:
            if name.startswith("reactor_") and not name.startswith("reactor__"):
                home.setdefault(name, self.of_line[begin])
        for i, line in enumerate(self.code):
            section = self.of_line[i]
            if section in (None, "manual", "api"):
                continue
            for name in re.findall(r"\b(reactor_[a-z]\w*)\s*\(", line):
                owner = home.get(name)
                if owner in self.names:
                    rule = self.allowed(section, owner)
                    if rule:
                        self.fault(rule, i, f"{section} calls {name} of {owner}")

    def check_functions(self):
        sizes = []
        for name, begin, end in self.functions:
            section = self.of_line[begin]
            size = end - begin + 1
            sizes.append((size, name, begin))
            if size > LIMIT:
                self.fault("length", begin, f"{name} has {size} lines")
            elif size > SMELL:
                self.info.append(f"line {begin + 1}: {name} has {size} lines")
            for i in range(begin, end + 1):
                line = self.code[i]
                if re.match(r"\s*#\s*(if|ifdef|ifndef|elif|else)\b", line) and \
                        section != "config" and section not in self.backends:
                    self.fault("if", i, f"{line.strip()} inside {name}")
                # A dump's line function is not a callback of the loop: the caller is inside it.
                may_call = CALLERS.match(name) or "_dump" in name
                if i > begin and CALL.search(line) and not may_call:
                    self.fault("callback", i, f"{name} calls the user: {line.strip()}")
        if sizes:
            size, name, _ = max(sizes)
            comments = sum(1 for text, code in zip(self.lines, self.code)
                           if text.strip() and (not code.strip() or "/*" in text))
            filled = sum(1 for text in self.lines if text.strip())
            median = statistics.median(size for size, _, _ in sizes)
            self.info.append(f"{len(sizes)} functions, median {median:g} lines, longest {size} "
                             f"({name}); {100 * comments // filled} % of the lines are comments")


SOUND = """/* ==== >> api ==== */
REACTOR_API int reactor_now(const reactor *r);
/* ==== >> config ==== */
/* one
   two
   three */
#define REACTOR__ANY 1
#if !defined(REACTOR_USE_POLL) && \\
    !defined(REACTOR_USE_EPOLL)
#define REACTOR_USE_POLL
#endif
/* ==== >> util ==== */
/* one
   two
   three */
static int reactor__util_one(void) { return REACTOR__ANY; }
/* ==== >> core ==== */
/* one
   two
   three */
static int reactor__core_two(void) {
    return reactor__util_one(); /* reactor__net_five is only mentioned */
}
static void reactor__core_dispatch(int (*fn)(void)) {
    fn();
}
/* ==== >> poll ==== */
/* one
   two
   three */
static int reactor__poll_wait(void) {
#ifdef __linux__
    return reactor__core_two();
#else
    return 0;
#endif
}
/* ==== >> epoll ==== */
/* one
   two
   three */
#if defined(REACTOR_USE_EPOLL)
static int reactor__epoll_wait(void) { return reactor__core_two(); }
#endif
/* ==== >> timer ==== */
/* one
   two
   three */
static int reactor__timer_three(void) { return reactor__util_one(); }
/* ==== >> loop ==== */
/* one
   two
   three */
static int reactor__loop_call_data(const reactor_handler *h) {
    return h->on_data();
}
int reactor_now(const reactor *r) {
    return reactor__timer_three();
}
/* ==== >> net ==== */
/* one
   two
   three */
static int reactor__net_five(void) { return reactor__util_one(); }
/* ==== >> stream ==== */
/* one
   two
   three */
static int reactor__stream_six(const reactor_handler *h) {
    if (h->on_data) return reactor__net_five();
    return reactor__loop_call_data(h) + reactor_now(0);
}
"""

LONG = "static int reactor__util_long(void) {\n" + "    (void)0;\n" * 79 + "}\n"

BROKEN = [  # rule, what to replace, by what
    ("asked", "#if defined(REACTOR_USE_EPOLL)", "#if defined(REACTOR_USE_OTHER)"),
    ("asked", " && \\\n    !defined(REACTOR_USE_EPOLL)", ""),
    ("order", "==== >> poll ====", "==== >> epoll ===="),
    ("order", "==== >> config ====", "==== >> extra ===="),
    ("comment", "/* one\n   two\n   three */\nstatic int reactor__util_one",
     "static int reactor__util_one"),
    ("comment", "/* one\n   two\n   three */\nstatic int reactor__net_five",
     "/* one */\nstatic int reactor__net_five"),
    ("name", "static int reactor__core_two",
     "static int reactor__other;\nstatic int reactor__core_two"),
    ("name", "static int reactor__core_two",
     "#define REACTOR__OTHER 1\nstatic int reactor__core_two"),
    ("home", "static int reactor__core_two",
     "static int reactor__net_no;\nstatic int reactor__core_two"),
    ("home", "static int reactor__net_five",
     "static int reactor__core_late;\nstatic int reactor__net_five"),
    ("up", "reactor__core_two(void) {", "reactor__core_two(void) {\n    reactor__net_five();"),
    ("up", "reactor__core_two(void) {", "reactor__core_two(void) {\n    reactor_now(0);"),
    ("backend", "reactor__epoll_wait(void) { return reactor__core_two",
     "reactor__epoll_wait(void) { return reactor__poll_wait"),
    ("net", "reactor__net_five(void) { return reactor__util_one",
     "reactor__net_five(void) { return reactor__core_two"),
    ("net", "reactor__net_five(void)", "reactor__net_five(reactor *r)"),
    ("timer", "reactor__timer_three(void) { return reactor__util_one",
     "reactor__timer_three(void) { return reactor__poll_wait"),
    ("timer", "reactor__timer_three(void) { return",
     "reactor__timer_three(void) { return close(3) +"),
    ("callback", "    return reactor__loop_call_data(h)", "    h->on_eof(h);\n    return 0"),
    ("callback", "    return reactor__loop_call_data(h)", "    return (*h->fn)(h)"),
    ("callback", "    return reactor__loop_call_data(h)", "    return fn(h)"),
    ("if", "reactor__core_two(void) {", "reactor__core_two(void) {\n#ifdef __linux__\n#endif"),
    ("length", "static int reactor__util_one", LONG + "static int reactor__util_one"),
]


def self_test():
    wrong = 0
    faults = Header(SOUND).check()
    if faults:
        print("self-test: the sound input is refused:", faults)
        wrong += 1
    for rule, old, new in BROKEN:
        assert old in SOUND, old
        faults = Header(SOUND.replace(old, new, 1)).check()
        if rule not in [r for _, r, _ in faults]:
            print(f"self-test: rule {rule} did not fire on: {new[:70]!r}; got {faults}")
            wrong += 1
    missing = set(re.findall(r"^  ([a-z]+) ", __doc__, re.M)) - {rule for rule, _, _ in BROKEN}
    if missing:
        print("self-test: no broken input for", ", ".join(sorted(missing)))
        wrong += 1
    print(f"layers: self-test of {len(BROKEN)} broken inputs, {wrong} wrong")
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../reactor.h")
    with open(path, encoding="utf-8") as f:
        header = Header(f.read())
    faults = header.check()
    for line, rule, text in faults:
        print(f"{path}:{line}: {rule}: {text}")
    for text in header.info:
        print("layers: " + text)
    print(f"layers: {len(header.sections)} sections, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
