#!/usr/bin/env python3
"""Compiles what README.md and the manual at the top of reactor.h show, and runs the programs in it.

A snippet is, in README.md, a block fenced as ```c; in the manual, lines indented by eight or more
after a line that ends in "::". Each is compiled as C99 and as C++11 with -Wall -Wextra -Werror.

  A program, which has an "int main", is also linked and run, for a minute at most. If it calls
  reactor_listen it is taken for an echo server: a client connects to the port that stands in the
  source, sends "ping", must get it back, and ends it with SIGTERM. Otherwise it must exit with 0.
  An HTML comment before the block says otherwise (in the manual: the same words in parentheses
  before the "::"):
      <!-- run: exits -->     must exit with 0
      <!-- run: echo 7000 --> an echo server on port 7000
      <!-- run: serves 7000 --> a connection to port 7000 is accepted
      <!-- run: no -->        only compiled and linked
  The port in the source is replaced by a free one, so that nothing on the machine is in the way.

  A fragment is compiled at file scope or inside a function, whichever fits, with the names below
  (PRELUDE) declared. One that brings REACTOR_IMPLEMENTATION is compiled by itself.

It also checks that README.md has at most 150 lines, that every macro which configures the header is
named in README.md and in the manual, and that every public function has a comment.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
SECONDS = 60
WARN = ["-Wall", "-Wextra", "-Werror", "-pthread", "-I" + ROOT]
LANGUAGES = [
    ("C99", [os.environ.get("CC", "cc"), "-std=c99", "-x", "c"]),
    # A handler that names only some of its members is good C; g++ would have them all.
    ("C++11", [os.environ.get("CXX", "g++"), "-std=c++11", "-x", "c++",
               "-Wno-missing-field-initializers"]),
]

# What fragments may take for granted; whatever one declares itself is left out.
PRELUDE = """
extern reactor *r;
extern reactor_conn c;
extern reactor_conn other;
extern reactor_conn peer;
extern reactor_listener l;
extern reactor_timer t;
extern reactor_timer timer;
extern reactor_socket fd;
extern reactor_file file;
extern reactor_buffer *b;
extern reactor_options options;
extern reactor_key keys[64];
extern const void *data;
extern void *user;
extern void *state;
extern size_t len;
extern int n;
extern int e;
extern int result;
extern reactor_handler echo;
extern reactor_handler handler;
extern reactor_handler h;
extern reactor_io_fn on_io;
extern reactor_io_fn on_ready;
extern reactor_io_fn on_readable;
extern reactor_io_fn on_event;
extern reactor_timer_fn on_timer;
extern reactor_timer_fn on_tick;
extern reactor_signal_fn on_signal;
extern reactor_task_fn on_task;
extern reactor_task_fn on_post;
extern reactor_task_fn task;
extern reactor_done_fn on_done;
extern reactor_free_fn on_free;
extern reactor_line_fn on_line;
"""


class Snippet:
    def __init__(self, where, text, run):
        self.where = where
        self.text = text
        self.run = run
        self.is_program = re.search(r"\bint\s+main\s*\(", text) is not None


def from_readme(text):
    found = []
    run = ""
    lines = text.split("\n")
    i = 0
    while i < len(lines):
        line = lines[i].strip()
        directive = re.match(r"<!--\s*run:\s*(.*?)\s*-->$", line)
        if directive:
            run = directive.group(1)
        elif re.match(r"```c\s*$", line):
            begin = i + 1
            while i + 1 < len(lines) and not lines[i + 1].strip().startswith("```"):
                i += 1
            found.append(Snippet(f"README.md:{begin + 1}", "\n".join(lines[begin:i + 1]), run))
            i += 1
            run = ""
        elif line:
            run = ""
        i += 1
    return found


def from_manual(header):
    """The header's text up to the api section, which may lack a manual."""
    lines = header.split("\n")
    end = next(i for i, line in enumerate(lines) if "==== >> api ====" in line)
    begin = next((i for i, line in enumerate(lines) if "==== >> manual ====" in line), end)
    found = []
    i = begin
    while i < end:
        match = re.match(r"(.*)::\s*$", lines[i])
        i += 1
        if not match:
            continue
        run = re.search(r"\(run:\s*(.*?)\)", match.group(1))
        first = i
        block = []
        while i < end and (not lines[i].strip() or lines[i].startswith(" " * 8)):
            block.append(lines[i][8:])
            i += 1
        text = "\n".join(block).strip("\n")
        # Commands are shown in the same way; a line of C has one of these characters.
        if text and not text.lstrip().startswith("$") and re.search(r"[;{#]", text):
            found.append(Snippet(f"reactor.h:{first + 1}", text, run.group(1) if run else ""))
    return found


def compiled(command, source, directory):
    path = os.path.join(directory, "snippet.c")
    with open(path, "w", encoding="utf-8") as f:
        f.write(source)
    done = subprocess.run(command + [path, "-o", os.path.join(directory, "snippet")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0, done.stdout.decode("utf-8", "replace")


def sources_of(fragment):
    """The ways to read a fragment; one of them must compile."""
    if "REACTOR_IMPLEMENTATION" in fragment:
        return [fragment + "\n"]
    declared = re.compile(r"^extern .*?(\w+)(?:\[\d+\])?;$")
    prelude = ['#include "reactor.h"', "#include <errno.h>", "#include <stdio.h>",
               "#include <stdlib.h>", "#include <string.h>", "#include <unistd.h>"]
    for line in PRELUDE.strip().split("\n"):
        name = declared.match(line).group(1)
        own = r"(?m)^\s*(?:static |const )*(?:reactor\w*|void|int|size_t|char)\s[\s*]*" + name
        if not re.search(own + r"\s*(?:[(\[][^;]*\{|=|;|\[)", fragment):
            prelude.append(line)
    top = "\n".join(prelude) + "\n"
    hoisted = "\n".join(re.findall(r"^\s*#include .*$", fragment, re.M))
    body = re.sub(r"(?m)^\s*#include .*$", "", fragment)
    kind, end = ("void", "") if re.search(r"\breturn;", body) else ("int", "    return 0;\n")
    inside = f"{top}{hoisted}\n{kind} snippet(void);\n{kind} snippet(void) {{\n{body}\n{end}}}\n"
    ways = [top + fragment + "\n", inside]
    above, below = split(body)
    if above and below:  # a callback, and the call that uses it
        ways.append(f"{top}{hoisted}\n{above}\n{kind} snippet(void);\n"
                    f"{kind} snippet(void) {{\n{below}\n{end}}}\n")
    return ways


def split(body):
    """Definitions, which begin in column 0 and end where their braces do, and all the rest."""
    above, below, inside = [], [], False
    depth = 0
    for line in body.split("\n"):
        inside = inside or re.match(r"(static|typedef|struct \w+ \{|enum|#|reactor_\w+ \w+\(.*\{)", line)
        (above if inside else below).append(line)
        depth += line.count("{") - line.count("}")
        if depth == 0 and re.search(r"[;}]\s*(/[/*].*)?$|^#", line):
            inside = False
    return "\n".join(above), "\n".join(below).strip("\n")


def check_fragment(snippet, directory):
    for name, command in LANGUAGES:
        complaints = []
        for source in sources_of(snippet.text):
            good, said = compiled(command + WARN + ["-Wno-unused", "-c"], source, directory)
            if good:
                break
            complaints.append(said)
        else:
            return f"as {name}:\n" + min(complaints, key=lambda text: text.count("error:"))
    return ""


def free_port():
    """Not of those that connections get, which come and go."""
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randrange(20000, 32000)))
                return s.getsockname()[1]
            except OSError:
                continue


def connect(port, deadline, process):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                return None
            time.sleep(0.02)


def try_server(process, port, echoes):
    deadline = time.monotonic() + SECONDS
    client = connect(port, deadline, process)
    if client is None:
        return f"nobody answers at port {port}"
    with client:
        if not echoes:
            return ""
        try:
            client.sendall(b"ping\n")
            got = b""
            while len(got) < 5:
                piece = client.recv(100)
                if not piece:
                    break
                got += piece
        except OSError as e:
            return f"no echo: {e}"
        return "" if got == b"ping\n" else f"sent ping, got {got!r}"


def run_program(directory, how, port):
    process = subprocess.Popen([os.path.join(directory, "snippet")], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        if how == "exits":
            process.wait(SECONDS)
            fault = "" if process.returncode == 0 else f"exit status {process.returncode}"
        else:
            fault = try_server(process, port, how == "echo")
            if not fault and process.poll() not in (None, 0):
                fault = f"ended with status {process.returncode}"
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        fault = f"not finished after {SECONDS} seconds"
    finally:
        process.kill()
        said = process.communicate()[0].decode("utf-8", "replace")
    return f"{fault}\n{said}" if fault else ""


def check_program(snippet, directory):
    how = snippet.run.split()
    if not how:
        served = re.search(r'reactor_listen\([^"]*"[^"]*:(\d+)"', snippet.text)
        how = ["echo", served.group(1)] if served else ["exits"]
    text, port = snippet.text, 0
    if how[0] in ("echo", "serves"):
        port = free_port()
        if len(how) < 2 or how[1] not in text:
            return f"its source has no port {' '.join(how[1:])} to be replaced"
        text = re.sub(r"\b" + how[1] + r"\b", str(port), text)
    elif how[0] not in ("exits", "no"):
        return f"unknown directive: run: {snippet.run}"
    for name, command in LANGUAGES:
        good, said = compiled(command + WARN, text + "\n", directory)
        fault = said if not good else "" if how[0] == "no" else \
            run_program(directory, how[0], port)
        if fault:
            return f"as {name}:\n{fault}"
    return ""


def named_in(text):
    """The REACTOR_ names in it; REACTOR_USE_POLL|EPOLL and REACTOR_MALLOC/REALLOC name several."""
    names = set(re.findall(r"\bREACTOR_[A-Z0-9_]+\b", text))
    for head, tail in re.findall(r"\b(REACTOR_(?:USE_|NO_)?)[A-Z0-9_]+((?:[|/][A-Z0-9_]+)+)", text):
        names.update(head + word for word in re.split(r"[|/]", tail) if word)
    return names


def macros_of(header):
    """What the preprocessor asks for in api and config, but not the header's own."""
    begin = max(header.find("==== >> api ===="), 0)
    end = header.index("==== >> util ====") if "==== >> util ====" in header else len(header)
    asked = set()
    code = header[begin:end].replace("\\\n", " ")
    for line in re.findall(r"^\s*#\s*(?:el)?if.*$", code, re.M):
        asked.update(re.findall(r"\bREACTOR_[A-Z0-9][A-Z0-9_]*\b", line))
    # Some parts can be left out where they begin.
    asked.update(re.findall(r"\bREACTOR_NO_[A-Z]+\b", header))
    return {name for name in asked if not name.startswith("REACTOR__")
            and not name.endswith("_INCLUDED")}


def undocumented(header):
    """Public functions without a comment: none above them, nor above their group, which ends at an
    empty line."""
    api = header[header.index("==== >> api ===="):]
    api = api[:api.index("==== >> config ====")] if "==== >> config ====" in api else api
    api = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"\n\s*\n", "\n", m.group()), api, flags=re.S)
    missing = []
    for group in re.split(r"\n\s*\n", api):
        commented = False
        for piece in re.findall(r"/\*.*?\*/|REACTOR_API[^;]*;", group, re.S):
            if piece.startswith("/*"):
                commented = True
            elif not commented:
                missing.append(re.search(r"(reactor_\w+)\s*\(", piece).group(1))
    return missing


def main():
    with open(os.path.join(ROOT, "reactor.h"), encoding="utf-8") as f:
        header = f.read()
    manual = header[:header.index("==== >> api ====")]
    has_manual = "==== >> manual ====" in manual
    readme = ""
    if os.path.exists(os.path.join(ROOT, "README.md")):
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
            readme = f.read()
    faults = []
    for name in undocumented(header):
        faults.append(f"reactor.h: {name} has no comment above it")
    for there, what, text in ((readme, "README.md", readme), (has_manual, "the manual", manual)):
        if not there:
            print(f"docs: {what} is not there yet")
            continue
        for macro in sorted(macros_of(header) - named_in(text)):
            faults.append(f"{what} does not name {macro}")
    if readme.count("\n") > 150:
        faults.append(f"README.md has {readme.count(chr(10))} lines; 150 are enough")
    snippets = from_readme(readme) + from_manual(header)
    programs = [s for s in snippets if s.is_program]
    with tempfile.TemporaryDirectory() as directory:
        for snippet in snippets:
            check = check_program if snippet.is_program else check_fragment
            fault = check(snippet, directory)
            if fault:
                faults.append(f"{snippet.where}: {fault}")
    for fault in faults:
        print(fault)
    print(f"docs: {len(programs)} programs, {len(snippets) - len(programs)} fragments, "
          f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
