#!/usr/bin/env python3
"""The chat server as a process, talked to over real sockets.

REACTOR_TEST_BUILD is where chat_server is (build), REACTOR_TEST_BACKEND the backend to use (the
best). Arguments are names of tests to run, or parts of them; without any, all.
"""

import contextlib
import os
import re
import resource
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

BUILD = os.environ.get("REACTOR_TEST_BUILD", "build")
BACKEND = os.environ.get("REACTOR_TEST_BACKEND", "")
PROGRAM = os.path.join(BUILD, "tests", "chat_server")
PATIENCE = 60  # seconds for anything that must happen
LIMIT = 600  # seconds for one test: hangs end there, not what is slow

TESTS = []


def test(function):
    TESTS.append(function)
    return function


# ---- the server ----

class Server:
    """One process. Leaving its with block it is drained, must exit with 0 and have complained of
    nothing."""

    def __init__(self, *flags, port=0, **popen):
        command = [PROGRAM, "--port", str(port)] + [str(f) for f in flags]
        if BACKEND:
            command += ["--backend", BACKEND]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **popen)
        self.port = port
        self.members = []

    def __enter__(self):
        line = self.process.stdout.readline().decode()
        match = re.match(r"listening on .*:(\d+)$", line)
        assert match, f"the server said {line!r}, then {self.process.stderr.read()!r}"
        self.port = int(match.group(1))
        backend = self.process.stdout.readline().decode()
        assert not BACKEND or re.match(rf"backend {BACKEND}\b", backend), backend
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.end()
        self.process.kill()
        self.process.wait()
        complaint = self.process.stderr.read().decode("utf-8", "replace")
        if complaint:
            print(complaint)
        for m in self.members:
            m.close()
        self.process.stdout.close()
        self.process.stderr.close()
        assert kind or not complaint, "the server wrote to stderr"

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        assert status == 0, f"exit status {status}"

    def member(self, nick=None, **options):
        """A member who has been welcomed, and has a name."""
        m = Member(self.port, **options)
        self.members.append(m)
        m.guest = m.welcome()
        m.nick = m.guest
        if nick:
            m.say(f"/nick {nick}")
            m.expect(f"*** {m.guest} is now {nick}")
            m.nick = nick
        return m


class Member:
    def __init__(self, port, receive=0):
        self.socket = socket.socket()
        if receive:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""

    def send(self, data):
        self.socket.sendall(data)

    def say(self, text):
        self.send(text.encode() + b"\n")

    def more(self):
        data = self.socket.recv(1 << 16)
        self.input += data
        return bool(data)

    def raw_line(self):
        """The next line without its end, None at end of file."""
        while b"\n" not in self.input:
            if not self.more():
                assert not self.input, f"the last line has no end: {self.input!r}"
                return None
        line, self.input = self.input.split(b"\n", 1)
        return line

    def line(self):
        line = self.raw_line()
        return None if line is None else line.decode()

    def expect(self, *lines):
        for wanted in lines:
            got = self.line()
            assert got == wanted, f"expected {wanted!r}, got {got!r}"

    def lines_to(self, last):
        """All lines up to and with this one."""
        lines = []
        while not lines or lines[-1] != last:
            lines.append(self.line())
            assert lines[-1] is not None, f"{last!r} never came: {lines[-5:]!r}"
        return lines

    def welcome(self):
        line = self.line()
        match = re.match(r"\*\*\* welcome, you are (\w+), in lobby with \d+ others; ", line or "")
        assert match, f"no welcome: {line!r}"
        return match.group(1)

    def sync(self):
        """The server has read all that anybody sent before this."""
        self.say("/join #")
        self.lines_to("*** /join ROOM: a name has 1 to 20 letters (a to z), digits, _ or -")

    def silent(self):
        """Nothing is there, though the server has had the time to send it."""
        self.sync()
        assert not self.input and not select.select([self.socket], [], [], 0)[0]

    def rest(self):
        """All lines to the end of file."""
        lines = []
        while True:
            lines.append(self.line())
            if lines[-1] is None:
                return lines[:-1]

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()


def pair(server):
    """alice and bob, who have seen all of each other's arrival."""
    alice = server.member("alice")
    bob = server.member("bob")
    alice.expect(f"*** {bob.guest} has joined lobby", f"*** {bob.guest} is now bob")
    return alice, bob


class Crowd:
    """Thousands of sockets, all read all the time."""

    def __init__(self, sockets=()):
        self.poll = selectors.DefaultSelector()
        self.got = {}
        for s in sockets:
            self.add(s)

    def add(self, s):
        s.setblocking(False)
        self.got[s] = bytearray()
        self.poll.register(s, selectors.EVENT_READ)

    def turn(self, timeout, keep=None):
        """Reads what is there. keep: only so many bytes of each, from the end."""
        for key, _ in self.poll.select(timeout):
            with contextlib.suppress(BlockingIOError):
                data = key.fileobj.recv(1 << 18)
                assert data, "a member was cut off"
                got = self.got[key.fileobj]
                got += data
                if keep:
                    del got[:-keep]

    def until(self, done, keep=None):
        """Until done(bytes of it) holds for each."""
        waiting, deadline = set(self.got), time.monotonic() + LIMIT
        while waiting:
            waiting = {s for s in waiting if not done(self.got[s])}
            if waiting:
                assert time.monotonic() < deadline, f"{len(waiting)} members are still waiting"
                self.turn(0.05, keep)

    def clear(self):
        for got in self.got.values():
            got.clear()


# ---- commands ----

@test
def first_line_may_be_a_message():
    with Server() as server:
        alice = server.member()
        assert alice.guest == "guest1"
        bob = Member(server.port)
        server.members.append(bob)
        bob.say("hello")
        alice.expect("*** guest2 has joined lobby", "<guest2> hello")
        bob.welcome()
        bob.expect("<guest2> hello")


@test
def nick_is_unique_and_checked():
    rule = "*** /nick NAME: a name has 1 to 20 letters (a to z), digits, _ or -"
    with Server() as server:
        alice, bob = pair(server)
        for taken in ("alice", "ALICE", "Alice"):
            bob.say(f"/nick {taken}")
            bob.expect(f"*** {taken} is taken")
        for bad in ("", "  ", "a" * 21, "a b", "h\u00e9", "a<b", "a*", "*", "/x", "x" * 900):
            bob.say(f"/nick {bad}")
            bob.expect(rule)
        for good in ("BOB", "b", "a" * 20, "_-9", "bob"):
            old = bob.nick
            bob.say(f"/nick  {good} ")
            bob.nick = good
            bob.expect(f"*** {old} is now {good}")
            alice.expect(f"*** {old} is now {good}")
        alice.silent()
        bob.say("/quit")
        alice.expect("*** bob has left lobby")
        alice.say("/nick bob")
        alice.expect("*** alice is now bob")


@test
def guest_names_that_are_taken_are_skipped():
    with Server() as server:
        alice = server.member("guest3")
        assert server.member().guest == "guest2"
        assert server.member().guest == "guest4"
        alice.expect("*** guest2 has joined lobby", "*** guest4 has joined lobby")


@test
def who_lists_the_room():
    with Server() as server:
        alice, bob = pair(server)
        alice.say("/who")
        alice.expect("*** lobby: alice bob", "*** 2 in lobby")
        bob.say("/join den")
        alice.expect("*** bob has left lobby")
        alice.say("/who")
        alice.expect("*** lobby: alice", "*** 1 in lobby")
        bob.expect("*** you are in den, with 0 others")
        bob.say("/WHO and more")
        bob.expect("*** den: bob", "*** 1 in den")


@test
def msg_reaches_one_member_in_any_room():
    with Server() as server:
        alice, bob = pair(server)
        carol = server.member("carol")
        carol.say("/join den")
        carol.expect("*** you are in den, with 0 others")
        alice.say("/msg  CAROL  two  words ")
        alice.lines_to("[to carol] two  words ")
        carol.expect("[alice] two  words ")
        bob.lines_to("*** carol has left lobby")
        bob.silent()
        alice.say("/msg dave hello")
        alice.expect("*** nobody here is called dave")
        for bad in ("/msg", "/msg bob", "/msg bob  "):
            alice.say(bad)
            alice.expect("*** /msg NAME TEXT: for that member only, in whatever room")
        alice.say("/msg alice me")
        alice.expect("[alice] me", "[to alice] me")
        carol.silent()


@test
def me_says_what_one_does():
    with Server() as server:
        alice, bob = pair(server)
        alice.say("/me smiles")
        for m in (alice, bob):
            m.expect("* alice smiles")
        alice.say("/me ")
        alice.expect("*** /me TEXT: as in /me smiles")
        bob.silent()


@test
def rooms_are_apart():
    with Server() as server:
        alice, bob = pair(server)
        bob.say("/join #Den")
        bob.expect("*** you are in Den, with 0 others")
        alice.expect("*** bob has left lobby")
        alice.say("not for bob")
        alice.expect("<alice> not for bob")
        bob.say("not for alice")
        bob.expect("<bob> not for alice")
        alice.say("/join den")
        alice.expect("*** you are in Den, with 1 others")
        bob.expect("*** alice has joined Den")
        alice.say("here")
        for m in (alice, bob):
            m.expect("<alice> here")
        alice.say("/join DEN")
        alice.expect("*** you are in Den already")
        for bad in ("/join", "/join a b", "/join " + "r" * 21, "/join \u00e9", "/join ##"):
            alice.say(bad)
            alice.expect("*** /join ROOM: a name has 1 to 20 letters (a to z), digits, _ or -")
        bob.silent()


@test
def rooms_are_listed_and_end_with_their_last_member():
    with Server() as server:
        alice, bob = pair(server)
        bob.say("/join den")
        bob.expect("*** you are in den, with 0 others")
        alice.expect("*** bob has left lobby")
        alice.say("/rooms")
        names = alice.line()
        assert sorted(names.split()) == ["***", "den(1)", "lobby(1)", "rooms:"], names
        alice.expect("*** 2 rooms")
        bob.say("/join lobby")
        alice.expect("*** bob has joined lobby")
        alice.say("/rooms")
        alice.expect("*** rooms: lobby(2)", "*** 1 rooms")
        alice.say("/join elsewhere")
        alice.expect("*** you are in elsewhere, with 0 others")
        bob.say("/join elsewhere")
        alice.expect("*** bob has joined elsewhere")
        alice.say("/rooms")
        names = alice.line()
        assert sorted(names.split()) == ["***", "elsewhere(2)", "lobby(0)", "rooms:"], names


@test
def three_hundred_rooms():
    with Server() as server:
        members = [server.member() for _ in range(300)]
        for i, m in enumerate(members):
            m.say(f"/join room{i}")
        for i, m in enumerate(members):
            m.lines_to(f"*** you are in room{i}, with 0 others")
        members[0].say("/rooms")
        lines = members[0].lines_to("*** 301 rooms")
        assert all(len(line) <= 450 for line in lines)
        names = [n for line in lines[:-1] for n in line.split()[2:]]
        assert sorted(names) == sorted([f"room{i}(1)" for i in range(300)] + ["lobby(0)"])
        for m in members:
            m.say("/join lobby")
            m.expect(f"*** you are in lobby, with {members.index(m)} others")


@test
def quit_tells_the_room_why():
    with Server() as server:
        alice, bob = pair(server)
        bob.send(b"last\n/quit so long\nnot this\n")
        bob.expect("<bob> last", "*** you have left, goodbye")
        assert bob.line() is None
        alice.expect("<bob> last", "*** bob has left lobby (so long)")
        alice.say("/quit")
        alice.expect("*** you have left, goodbye")
        assert alice.line() is None


@test
def help_and_unknown_commands():
    with Server() as server:
        alice, bob = pair(server)
        alice.say("/help")
        text = "\n".join(alice.lines_to(
            "*** any other line is said to your room; // at its start says /"))
        for command in ("nick", "who", "msg", "me", "join", "rooms", "quit", "help"):
            assert f"*** /{command} " in text, command
        alice.say("/fly away")
        alice.expect("*** there is no /fly; /help lists what there is")
        alice.say("/")
        alice.expect("*** there is no /; /help lists what there is")
        bob.silent()
        alice.say("//path")
        bob.expect("<alice> /path")


@test
def end_of_file_leaves_and_says_the_unfinished_line():
    with Server() as server:
        alice, bob = pair(server)
        bob.send(b"one\ntwo")
        bob.socket.shutdown(socket.SHUT_WR)
        bob.expect("<bob> one", "<bob> two", "*** end of your input, goodbye")
        assert bob.line() is None
        alice.expect("<bob> one", "<bob> two", "*** bob has left lobby")


# ---- lines and bytes ----

@test
def lf_and_crlf():
    with Server() as server:
        alice, bob = pair(server)
        bob.send(b"a\nb\r\n\n\r\n\r\r\nc\rd\r\n")
        bob.send(b"e\r")
        alice.expect("<bob> a", "<bob> b", "<bob> cd")
        alice.sync()
        bob.send(b"\nf\n")
        alice.expect("<bob> e", "<bob> f")


@test
def lines_above_the_limit_are_refused_whole():
    notice = "*** a line may have 1024 bytes: this one was not sent"
    euro = "\u20ac".encode()
    with Server() as server:
        alice, bob = pair(server)
        for line in (b"x" * 1024, b"y" * 1024 + b"\r", euro * 341 + b"z"):
            bob.send(line + b"\n")
            for m in (alice, bob):
                m.expect("<bob> " + line.rstrip(b"\r").decode())
        for line in (b"x" * 1025, b"x" * 1025 + b"\r", euro * 342, b"x" * 200000,
                     b"/msg alice " + b"x" * 1024):
            bob.send(line + b"\nshort\n")
            bob.expect(notice, "<bob> short")
            alice.expect("<bob> short")
        for i in range(40):  # piece by piece
            bob.send(b"p" * 100)
            if i % 8 == 0:
                alice.sync()
        bob.expect(notice)
        bob.send(b"\nend\n")
        bob.expect("<bob> end")
        alice.expect("<bob> end")


@test
def utf8_passes_whole_however_it_is_split():
    text = "a\u00e9\u20ac\U0001f600\u0416\u05d0z"
    data = text.encode() + b"\n"
    with Server() as server:
        alice, bob = pair(server)
        for cut in range(1, len(data)):
            bob.send(data[:cut])
            alice.sync()
            bob.send(data[cut:])
            for m in (alice, bob):
                m.expect("<bob> " + text)
        for i in range(len(data)):
            bob.send(data[i:i + 1])
            alice.sync()  # which reads bob's line as well, when it comes
        bob.expect("<bob> " + text)


@test
def broken_utf8_is_replaced():
    # as Unicode recommends: each longest beginning of a character is one U+FFFD
    table = [
        (b"\x80", 1), (b"\xbf\xbf", 2), (b"\xc0\x80", 2), (b"\xc1\xbf", 2), (b"\xc3", 1),
        (b"\xe2\x82", 1), (b"\xe0\x80\x80", 3), (b"\xed\xa0\x80", 3), (b"\xf0\x9f\x98", 1),
        (b"\xf0\x80\x80\x80", 4), (b"\xf4\x90\x80\x80", 4), (b"\xf5\x80", 2), (b"\xfe", 1),
        (b"\xff\xff", 1), (b"\xff", 1), (b"\xe2\xe2\x82", 2), (b"\xf0\x9f\xc3", 2),
    ]
    with Server() as server:
        alice, bob = pair(server)
        for data, count in table:
            bob.send(b"[" + data + b"]\n")
            alice.expect("<bob> [" + "\ufffd" * count + "]")
        for data, count in table:
            bob.send(data + b"\n")  # at the very end, too
            alice.expect("<bob> " + "\ufffd" * count)
        bob.send(b"\x80" * 1024 + b"\n")
        alice.expect("<bob> " + "\ufffd" * 1024)


@test
def control_bytes_do_not_reach_others():
    with Server() as server:
        alice, bob = pair(server)
        controls = bytes(b for b in range(32) if b not in (9, 10)) + b"\x7f"
        c1 = "".join(chr(c) for c in range(0x80, 0xa0)).encode()
        bob.send(b"a" + controls + b"b\tc" + c1 + "\u00a0d".encode() + b"\n")
        alice.expect("<bob> ab c\u00a0d")
        bob.send(b"/me \x1b[2Jx\x07\n/msg alice \x1b]0;t\x07\n/quit \x9b\x1bx\n")
        alice.expect("* bob [2Jx", "[bob] ]0;t", "*** bob has left lobby (\ufffdx)")


@test
def telnet_commands_are_taken_out_and_refused():
    iac, begin, end = b"\xff", b"\xff\xfa", b"\xff\xf0"
    table = [
        (b"\xff\xfd\x03", b"\xff\xfc\x03"), (b"\xff\xfb\x18", b"\xff\xfe\x18"),  # DO, WILL
        (b"\xff\xfe\x01", b""), (b"\xff\xfc\x01", b""),  # DONT, WONT
        (b"\xff\xf1", b""), (b"\xff\xf4", b""), (b"\xff\xf9", b""),  # NOP, IP, GA
        (begin + b"\x1f\x00\x50\x00\x0a" + end, b""),  # a window of ten lines
        (begin + b"\x18\x00xterm\xff\xff" + end, b""),
        (b"\xff\xfb\x1f" + begin + b"\x1f\x00P\x00\x18" + end, b"\xff\xfe\x1f"),
        (b"\xff\xfd\xff", b"\xff\xfc\xff"),
    ]
    with Server() as server:
        alice, bob = pair(server)
        for data, answer in table:
            for cut in range(len(data)):
                bob.send(b"h\xc3" + data[:cut])  # in the middle of a character
                if cut:
                    alice.sync()
                bob.send(data[cut:] + b"\xa9\r\n")
                alice.expect("<bob> h\u00e9")
                got = bob.raw_line()
                assert got == answer + "<bob> h\u00e9".encode(), (data, cut, got)
        bob.send(b"\xff\xf4\xff\xfd\x06")  # Ctrl-C: the answer does not wait for a line
        while bob.input != b"\xff\xfc\x06":
            assert bob.more() and len(bob.input) <= 3, bob.input
        bob.input = b""
        bob.send(iac + b"x\n" + iac + b"\n" + begin + b"z" * 200 + b"\nagain\n")
        alice.expect("<bob> \ufffdx", "<bob> \ufffd", "<bob> again")


@test
def nc_is_a_client():
    if not shutil.which("nc"):
        print("nc_is_a_client: left out, there is no nc")
        return
    with Server() as server:
        alice = server.member("alice")
        nc = subprocess.Popen(["nc", "127.0.0.1", str(server.port)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
        alice.expect("*** guest2 has joined lobby")
        nc.stdin.write("/nick bob\nna\u00efve\n/quit done\n".encode())
        nc.stdin.flush()
        alice.expect("*** guest2 is now bob", "<bob> na\u00efve", "*** bob has left lobby (done)")
        lines = nc.communicate(timeout=PATIENCE)[0].decode().split("\n")
        assert lines[1:] == ["*** guest2 is now bob", "<bob> na\u00efve",
                             "*** you have left, goodbye", ""], lines


# ---- order ----

@test
def all_see_the_same_lines_in_the_same_order():
    count, lines = 8, 300
    with Server("--rate", 0) as server:
        members = [server.member() for _ in range(count)]
        for i, m in enumerate(members):  # until everybody has seen everybody
            m.say(f"/nick m{i}")
        for m in members:
            seen = set()
            while len(seen) < count:
                seen |= set(re.findall(r"is now (m\d)$", m.line()))
        for n in range(0, lines, 30):
            for i, m in enumerate(members):
                m.send(b"".join(b"%d %d\n" % (i, k) for k in range(n, n + 30)))
        heard = [[m.line() for _ in range(count * lines)] for m in members]
        assert all(h == heard[0] for h in heard)
        for i in range(count):
            mine = [line for line in heard[0] if line.startswith(f"<m{i}> ")]
            assert mine == [f"<m{i}> {i} {k}" for k in range(lines)]


@test
def replies_and_rooms_keep_their_order():
    with Server() as server:
        alice, bob = pair(server)
        bob.send(b"one\n/who\ntwo\n/msg alice psst\nthree\n/join den\nfour\n/nick rob\n"
                 b"/join lobby\nfive\n/quit\n")
        bob.expect("<bob> one", "*** lobby: alice bob", "*** 2 in lobby", "<bob> two",
                   "[to alice] psst", "<bob> three", "*** you are in den, with 0 others",
                   "<bob> four", "*** bob is now rob", "*** you are in lobby, with 1 others",
                   "<rob> five", "*** you have left, goodbye")
        alice.expect("<bob> one", "<bob> two", "[bob] psst", "<bob> three",
                     "*** bob has left lobby", "*** rob has joined lobby", "<rob> five",
                     "*** rob has left lobby")
        assert bob.line() is None


@test
def five_thousand_in_one_room():
    count = 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 200:
        print(f"five_thousand_in_one_room: only {hard - 200}, for want of descriptors")
        count = hard - 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Server("--rate", 0) as server, contextlib.ExitStack() as stack:
        crowd, sockets = Crowd(), []
        stack.callback(crowd.poll.close)
        for i in range(count):
            s = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
            stack.enter_context(s)
            sockets.append(s)
            crowd.add(s)
            if i % 100 == 99:
                crowd.turn(0, 200)
        # In whatever order they were accepted, the last one to come is seen by all.
        last = re.compile(rb"you are guest%d, |\*\*\* guest%d has joined lobby" % (count, count))
        crowd.until(lambda got: last.search(got), 200)
        crowd.clear()
        lines = 50
        for n in range(lines):
            sockets[n % 7].setblocking(True)
            sockets[n % 7].sendall(b"message %d\n" % n)
            sockets[n % 7].setblocking(False)
            if n % 10 == 9:
                crowd.until(lambda got, want=n + 1: got.count(b"\n") >= want)
        crowd.until(lambda got: got.count(b"\n") >= lines)
        assert len({bytes(got) for got in crowd.got.values()}) == 1, "not all saw the same"
        numbers = re.findall(rb"^<guest\d+> message (\d+)$", crowd.got[sockets[0]], re.M)
        assert sorted(int(n) for n in numbers) == list(range(lines))
        for sender in range(7):
            mine = [int(n) for n in numbers if int(n) % 7 == sender]
            assert mine == list(range(sender, lines, 7))
        crowd.clear()
        sockets[0].sendall(b"/who\n")
        while b"*** %d in lobby\n" % count not in crowd.got[sockets[0]]:
            crowd.turn(1)
        names = re.findall(rb"\bguest\d+\b", crowd.got[sockets[0]])
        assert len(set(names)) == len(names) == count
        server.end()


@test
def a_thousand_come_and_go_while_others_talk():
    visitors, talkers, lines = 1000, 4, 500
    with Server("--rate", 0) as server:
        alice = server.member("alice")
        talking = [server.member(f"talker{i}") for i in range(talkers)]
        alice.lines_to(f"*** {talking[-1].guest} is now {talking[-1].nick}")
        crowd = Crowd([alice.socket] + [t.socket for t in talking])
        said, open_now = 0, []
        for n in range(visitors):
            open_now.append(Member(server.port))
            if n % 3 == 0:
                open_now[-1].say("hello")
            while said < (n + 1) * lines // visitors:
                for t in talking:
                    t.socket.sendall(b"line %d\n" % said)
                said += 1
            if len(open_now) > 20:
                v = open_now.pop(n % 20)
                [lambda: v.say("/quit"), v.close, v.reset, lambda: v.say("/join den")][n % 4]()
                if n % 4 in (0, 3):
                    server.members.append(v)
            crowd.turn(0)
        for v in open_now + server.members[talkers + 1:]:
            v.close()
        crowd.until(lambda got: got.count(b" has left lobby") == visitors)
        heard = bytes(crowd.got[alice.socket]).decode().split("\n")
        for t in talking:
            mine = [line for line in heard if line.startswith(f"<{t.nick}>")]
            assert mine == [f"<{t.nick}> line {k}" for k in range(lines)], t.nick
        came = [h.split()[1] for h in heard if h.endswith(" has joined lobby")]
        went = [h.split()[1] for h in heard if " has left lobby" in h]
        assert len(came) == len(set(came)) == visitors and set(went) == set(came)
        for h in heard:
            name = re.match(r"<(guest\d+)> hello$", h)
            assert not name or heard.index(f"*** {name[1]} has joined lobby") < heard.index(h)
        crowd.poll.close()
        for m in [alice] + talking:
            m.socket.settimeout(PATIENCE)
        alice.sync()
        alice.say("/who")
        alice.expect("*** lobby: alice talker0 talker1 talker2 talker3", "*** 5 in lobby")


# ---- those who do not behave ----

@test
def who_never_reads_is_told_and_dropped():
    with Server("--max-behind", 256, "--rate", 0) as server:
        alice, bob = pair(server)
        slow = server.member("slow", receive=4096)
        alice.lines_to(f"*** {slow.guest} is now slow")
        bob.lines_to(f"*** {slow.guest} is now slow")
        n, heard, gone = 0, [], "*** slow has left lobby (too far behind)"
        while gone not in heard[-100:]:
            assert n < 40000, "nobody was dropped"
            for _ in range(20):
                alice.say(f"{n} " + "x" * 900)
                n += 1
            heard += alice.lines_to(f"<alice> {n - 1} " + "x" * 900)
        assert [int(h.split()[1]) for h in heard if h[0] == "<"] == list(range(n))
        assert bob.lines_to(heard[-1]) == heard
        alice.say("/nick slow")  # the name is free
        alice.expect("*** alice is now slow")
        seen = slow.rest()
        assert seen[-1] == "*** you are dropped: too far behind", seen[-1][:80]
        assert seen[:-1] == heard[:len(seen) - 1], "what the slow one got is not the beginning"



@test
def answers_wait_for_who_does_not_read_them():
    # Nine megabytes of answers to one packet of questions, where 256 KiB may wait for one member.
    asked = 10000
    with Server("--max-behind", 256, "--rate", 0) as server:
        alice = server.member("alice", receive=4096)
        others = [server.member() for _ in range(100)]
        alice.lines_to(f"*** {others[-1].nick} has joined lobby")
        alice.send(b"/who\n" * asked)
        others[-1].sync()
        others[-1].say("still here?")
        answers = 0
        for _ in range(asked):
            while not (line := alice.line()).endswith("*** 101 in lobby"):
                assert line.startswith(("*** lobby: ", "<guest101> still here?")), line
            answers += 1
        alice.sync()
        alice.silent()


@test
def flood_is_slowed_and_loses_nothing():
    lines, rate = 400, 200
    with Server("--rate", rate) as server:
        alice, bob = pair(server)
        began = time.monotonic()
        bob.send(b"".join(b"%d\n" % n for n in range(lines)))
        alice.say("meanwhile")
        heard = [alice.line() for _ in range(lines + 1)]
        took = time.monotonic() - began
        assert [h for h in heard if h.startswith("<bob>")] == [f"<bob> {n}" for n in range(lines)]
        assert "<alice> meanwhile" in heard[:lines]
        assert took > (lines - rate / 10 - 2) / rate, f"{took} s"  # a tenth of a second in advance


@test
def flood_of_more_than_any_buffer_arrives_whole():
    lines = 30000
    data = b"".join(b"%d\n" % n for n in range(lines))
    wanted = [f"<bob> {n}" for n in range(lines)]
    for rate in (100000, 0):
        with Server("--rate", rate) as server:
            alice, bob = pair(server)
            crowd = Crowd([alice.socket, bob.socket])
            sent = 0
            while sent < len(data):
                with contextlib.suppress(BlockingIOError):
                    sent += bob.socket.send(data[sent:sent + 8192])
                crowd.turn(0)
            bob.socket.shutdown(socket.SHUT_WR)
            crowd.poll.unregister(bob.socket)
            del crowd.got[bob.socket]
            crowd.until(lambda got: b"*** bob has left lobby\n" in got)
            crowd.poll.close()
            heard = bytes(crowd.got[alice.socket]).decode().split("\n")
            assert heard[:-2] == wanted


@test
def reset_in_the_middle_of_a_broadcast():
    with Server("--rate", 0) as server:
        alice, bob = pair(server)
        doomed = [server.member() for _ in range(50)]
        for m in (alice, bob):
            m.lines_to(f"*** {doomed[-1].nick} has joined lobby")
        heard, lines = [], 1000
        for n in range(lines):
            alice.say(f"{n} " + "x" * 200)
            if n % 20 == 10:  # his input is full of lines, and the server is sending more
                doomed[n // 20].say("bye")
                doomed[n // 20].reset()
            if n % 100 == 99:
                heard += alice.lines_to(f"<alice> {n} " + "x" * 200)
        alice.say("/who")
        heard += alice.lines_to("*** 2 in lobby")
        gone = {h.split()[1] for h in heard if " has left lobby" in h}
        assert gone == {m.nick for m in doomed}
        said = [h for h in heard if h.startswith("<alice>")]
        assert said == [f"<alice> {n} " + "x" * 200 for n in range(lines)]
        alice.say("end")
        everything = bob.lines_to("<alice> end")
        assert everything[:-1] == [h for h in heard if h not in ("*** 2 in lobby",
                                                                 "*** lobby: alice bob")]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@test
def full_descriptor_table():
    few = 64

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))

    with Server(preexec_fn=limit) as server:
        everybody = [Member(server.port) for _ in range(100)]
        server.members += everybody
        first, second = everybody[:2]
        for m in (first, second):
            m.welcome()
            m.say("hello")
        first.lines_to("<guest2> hello")
        served = everybody[:few // 2]  # surely; the others may wait
        for m in served[2:]:
            m.welcome()
        pid = server.process.pid
        if os.path.exists(f"/proc/{pid}/stat"):  # that it does not spin is not to be seen otherwise
            before = cpu_seconds(pid)
            time.sleep(0.4)
            assert cpu_seconds(pid) - before < 0.2, "busy with nothing to do"
        second.say("still served")
        first.lines_to("<guest2> still served")
        for m in served[2:]:
            m.close()
        for m in everybody[few // 2:]:
            if m.input == b"":
                m.welcome()
            m.close()  # room for the next
        gone = 0
        while gone < len(everybody) - 2:
            gone += " has left lobby" in first.line()
        first.say("/who")
        first.lines_to("*** 2 in lobby")


# ---- options and the end ----

@test
def connections_are_limited():
    with Server("--max-connections", 2) as server:
        alice, bob = pair(server)
        third = Member(server.port)
        server.members.append(third)
        alice.sync()
        alice.sync()
        assert not select.select([third.socket], [], [], 0)[0], "one too many"
        bob.say("/quit")
        third.welcome()
        third.say("at last")
        alice.lines_to("<guest3> at last")


@test
def silent_members_are_dismissed():
    with Server("--idle-timeout", 1) as server:
        alice = server.member("alice")
        began = time.monotonic()
        bob = server.member("bob")
        while select.select([bob.socket], [], [], 0.1)[0] == [] or bob.more():
            alice.say("to bob")  # listening does not count
            if b"nothing came" in bob.input:
                break
        lines = bob.rest()
        assert lines[-1] == "*** nothing came from you for 1 seconds, goodbye", lines[-1]
        assert time.monotonic() - began >= 0.99
        alice.lines_to("*** bob has left lobby (idle)")


@test
def keep_alive_is_set():
    if not os.path.exists("/proc/net/tcp"):
        return
    for flags, wanted in (((), "00"), (("--keep-alive", 100), "02")):
        with Server(*flags) as server:
            alice = server.member()
            mine, its = alice.socket.getsockname()[1], server.port
            with open("/proc/net/tcp", encoding="ascii") as f:
                rows = [line.split() for line in f if f":{its:04X} " in line.split(None, 1)[1]]
            timer = [row[5][:2] for row in rows
                     if row[1].endswith(f":{its:04X}") and row[2].endswith(f":{mine:04X}")]
            # 01: the welcome is not acknowledged yet
            assert timer and timer[0] in (wanted, "01"), timer


@test
def drain_says_goodbye():
    for how in (signal.SIGTERM, signal.SIGINT):
        with Server("--rate", 10) as server:
            members = [server.member() for _ in range(30)]
            members[0].lines_to("*** guest30 has joined lobby")
            never = server.member("never", receive=4096)  # reads nothing any more
            members[1].send(b"not a whole li")
            members[2].send(b"%s\n" % (b"x" * 1000) * 50)  # far above the rate
            members[0].say("last words")
            members[0].lines_to("<guest1> last words")
            server.end(how)
            for m in members:
                lines = m.rest()
                assert lines[-1] == "*** the server is going down, goodbye", lines[-1]
                assert not any("has left" in line for line in lines)
                assert m is members[0] or "<guest1> last words" in lines
            never.close()


@test
def drain_does_not_wait_for_who_does_not_read():
    with Server("--rate", 0, "--max-behind", 1000000) as server:
        alice = server.member("alice")
        slow = server.member("slow", receive=4096)
        for n in range(8000):
            alice.say(f"{n} " + "x" * 1000)
            if n % 20 == 19:
                alice.lines_to(f"<alice> {n} " + "x" * 1000)
        server.end()
        assert alice.rest()[-1] == "*** the server is going down, goodbye"
        slow.close()


def run(*flags, **options):
    return subprocess.run([PROGRAM, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=PATIENCE, check=False, **options)


@test
def port_in_use():
    with Server() as server:
        done = run("--port", str(server.port))
        assert done.returncode == 1 and not done.stdout
        assert re.fullmatch(rb"chat_server: 127\.0\.0\.1:\d+: Address already in use\n",
                            done.stderr), done.stderr


@test
def bad_flags():
    table = [["--prot", "1"], ["7000"], ["-p", "7000"], ["--port"], ["--port", "x"],
             ["--port", "65536"], ["--port", "-1"], ["--port", ""], ["--port", "1x"],
             ["--rate", "1000001"], ["--rate", "many"], ["--max-behind", "0"],
             ["--idle-timeout", "-5"], ["--keep-alive", "99999"], ["--max-connections", "1e3"],
             ["--max-connections"], ["--backend"], ["--backend", "carrier-pigeon"], ["--host"],
             ["--port", "0", "--rate"]]
    for flags in table:
        done = run(*flags)
        assert done.returncode == 2 and not done.stdout, (flags, done)
        assert done.stderr.startswith(b"chat_server: "), (flags, done)
        assert b"\nusage: chat_server " in done.stderr, (flags, done)
    for host in ("no.such.host", "999.1.1.1", "192.0.2.1", "h" * 300):
        done = run("--host", host, "--port", "0")
        assert done.returncode == 1 and not done.stdout, (host, done)
        assert done.stderr.count(b"\n") == 1, (host, done)
    done = run("--help")
    assert done.returncode == 0 and not done.stderr and done.stdout.startswith(b"usage: ")


@test
def endings_of_the_parent():
    """Blocked ones are heard, ignored ones stay ignored, but SIGTERM."""
    three = {signal.SIGINT, signal.SIGHUP, signal.SIGTERM}

    def ignore():
        for signum in three:
            signal.signal(signum, signal.SIG_IGN)

    def of(server, which):
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as f:
            mask = int(re.search(rf"^Sig{which}:\s+([0-9a-f]+)$", f.read(), re.M).group(1), 16)
        return {signum for signum in three if mask >> (signum - 1) & 1}

    for signum in three:
        with Server(preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, three)) as server:
            assert not of(server, "Blk") and of(server, "Cgt") == three
            server.end(signum)
    with Server(preexec_fn=ignore) as server:
        assert of(server, "Cgt") == {signal.SIGTERM}, of(server, "Cgt")
        assert of(server, "Ign") == three - {signal.SIGTERM}, of(server, "Ign")
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGHUP)
        server.member()


@test
def starts_without_standard_streams():
    with socket.socket() as s:  # nobody can say which port it took
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]

    def close_all():
        for fd in range(3):
            os.close(fd)

    command = [PROGRAM, "--port", str(port)] + (["--backend", BACKEND] if BACKEND else [])
    process = subprocess.Popen(command, preexec_fn=close_all)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                alice = Member(port)
                break
            except ConnectionRefusedError:
                assert process.poll() is None and time.monotonic() < deadline, process.poll()
                time.sleep(0.01)
        alice.welcome()
        bob = Member(port)
        bob.welcome()
        bob.say("hello")
        alice.lines_to("<guest2> hello")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        for m in (alice, bob):
            assert m.rest()[-1] == "*** the server is going down, goodbye"
            m.close()
    finally:
        process.kill()
        process.wait()


# ---- running them ----

def on_alarm(signum, frame):
    raise TimeoutError(f"not finished after {LIMIT} s")


def main():
    chosen = [t for t in TESTS
              if len(sys.argv) < 2 or any(name in t.__name__ for name in sys.argv[1:])]
    signal.signal(signal.SIGALRM, on_alarm)
    failed = 0
    for t in chosen:
        began = time.monotonic()
        signal.alarm(LIMIT)
        try:
            t()
        except Exception:  # every failure is told, and the next test run
            failed += 1
            print(f"failed: {t.__name__}")
            print(f"  on backend {BACKEND or '(the best)'}, {PROGRAM}")
            print("  " + traceback.format_exc()[-3000:].replace("\n", "\n  "), flush=True)
        signal.alarm(0)
        if "REACTOR_TEST_TIMES" in os.environ:
            print(f"{time.monotonic() - began:7.2f} s  {t.__name__}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
