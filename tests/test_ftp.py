#!/usr/bin/env python3
"""examples/ftp_server with real clients: ftplib, curl and lftp; active and passive, IPv4 and IPv6,
several at once; and with clients that no program would write."""

import ftplib
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from example_help import PATIENCE, Server, Skipped, main, receive_all, sleeps, test, until

CONTENT = os.urandom(1_000_001)
TEXT = b"one\ntwo\r\nthree\n\nlast"


class Folder:
    """A folder with files, and what must not be reached beside it."""

    def __enter__(self):
        self.place = tempfile.TemporaryDirectory()
        self.outside = os.path.join(self.place.name, "outside")
        self.root = os.path.join(self.place.name, "root")
        os.makedirs(os.path.join(self.root, "sub", "deep"))
        os.makedirs(self.outside)
        self.write("big", CONTENT)
        self.write("text", TEXT)
        self.write("sub/small", b"small")
        self.write("empty", b"")
        self.write("../outside/secret", b"secret")
        os.symlink("../outside", os.path.join(self.root, "link"))
        os.symlink("../outside/secret", os.path.join(self.root, "file-link"))
        os.mkfifo(os.path.join(self.root, "pipe"))
        return self

    def __exit__(self, *what):
        self.place.cleanup()

    def write(self, name, data):
        with open(os.path.join(self.root, name), "wb") as f:
            f.write(data)

    def read(self, name):
        with open(os.path.join(self.root, name), "rb") as f:
            return f.read()


def ftp_server(folder, *flags, host="127.0.0.1"):
    return Server("ftp_server", "--root", folder.root, "--port", 0, "--host", host,
                  "--writer", "ann", *flags, env=dict(os.environ, FTP_PASSWORD="s3cret"))


def client(server, user="ann", passive=True):
    ftp = ftplib.FTP(timeout=PATIENCE)
    ftp.connect(server.host.strip("[]"), server.port)
    ftp.login(user, "s3cret" if user == "ann" else "me@")
    ftp.set_pasv(passive)
    return ftp


def fetch(ftp, name, rest=None):
    got = io.BytesIO()
    ftp.retrbinary(f"RETR {name}", got.write, rest=rest)
    return got.getvalue()


def refused(code, call, *arguments):
    try:
        answer = call(*arguments)
    except ftplib.Error as e:
        assert str(e).startswith(code), f"{e} instead of {code}"
    else:
        raise AssertionError(f"{answer} instead of {code}")


def everything(ftp, folder):
    """Each command once, as a client means it."""
    assert fetch(ftp, "big") == CONTENT
    assert fetch(ftp, "empty") == b""
    assert fetch(ftp, "big", rest=700_000) == CONTENT[700_000:]
    assert ftp.size("big") == len(CONTENT)
    assert ftp.sendcmd("MDTM big").startswith("213 20")
    assert sorted(ftp.nlst()) == ["big", "empty", "file-link", "link", "pipe", "sub", "text"]
    lines = []
    ftp.retrlines("LIST", lines.append)
    assert len(lines) == 7 and any(line.startswith("d") and line.endswith(" sub") for line in lines)
    assert ftp.cwd("sub") and ftp.pwd() == "/sub"
    assert fetch(ftp, "small") == b"small"
    ftp.storbinary("STOR new", io.BytesIO(CONTENT))
    assert folder.read("sub/new") == CONTENT
    ftp.storbinary("APPE new", io.BytesIO(b"more"))
    assert folder.read("sub/new") == CONTENT + b"more"
    ftp.storbinary("STOR new", io.BytesIO(b"MIDDLE"), rest=5)
    assert folder.read("sub/new") == CONTENT[:5] + b"MIDDLE" + CONTENT[11:] + b"more"
    ftp.storbinary("STOR new", io.BytesIO(b"short"))
    assert folder.read("sub/new") == b"short"
    ftp.rename("new", "../renamed")
    assert folder.read("renamed") == b"short"
    ftp.delete("/renamed")
    assert ftp.mkd('a "b"') == '/sub/a "b"'
    ftp.rmd('a "b"')
    ftp.cwd("..")
    assert ftp.pwd() == "/"
    ftp.voidcmd("CDUP")
    assert ftp.pwd() == "/"
    assert ftp.sendcmd("SYST").startswith("215 UNIX")
    assert "REST STREAM" in ftp.sendcmd("FEAT")
    assert ftp.quit().startswith("221")


@test
def passive():
    with Folder() as folder, ftp_server(folder) as server:
        before = server.descriptors()
        everything(client(server), folder)
        until(lambda: server.descriptors() == before, "all descriptors closed")
        sleeps(server)


@test
def active():
    with Folder() as folder, ftp_server(folder) as server:
        everything(client(server, passive=False), folder)


@test
def ipv6():
    if not socket.has_ipv6:
        raise Skipped("no IPv6")
    for way in (True, False):
        with Folder() as folder:
            try:
                socket.create_server(("::1", 0), family=socket.AF_INET6).close()
            except OSError as e:
                raise Skipped(f"no IPv6: {e}") from e
            with ftp_server(folder, host="::1") as server:
                ftp = client(server, passive=way)
                refused("522", ftp.sendcmd, "PASV")
                everything(ftp, folder)


@test
def text_has_the_line_ends_of_the_network():
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server)
        got = io.BytesIO()
        ftp.voidcmd("TYPE A")
        with ftp.transfercmd("RETR text") as data:
            got = receive_all(data)
        ftp.voidresp()
        assert got == TEXT.replace(b"\n", b"\r\n"), got
        with ftp.transfercmd("STOR up") as data:
            for i in range(20000):
                data.sendall(b"line %d\r" % i)
                data.sendall(b"\n")
            data.sendall(b"a\rb\r\r\nc\r")
        ftp.voidresp()
        assert folder.read("up") == b"".join(b"line %d\n" % i for i in range(20000)) + b"a\rb\r\nc\r"
        refused("550", ftp.sendcmd, "SIZE text")
        refused("504", ftp.sendcmd, "REST 5")


@test
def anonymous_may_only_read():
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server, "anonymous")
        assert fetch(ftp, "big") == CONTENT
        for command in ("DELE big", "MKD x", "RMD sub", "RNFR big", "STOR x", "APPE big"):
            refused("550", ftp.sendcmd, command)
        ftp.quit()
        stranger = ftplib.FTP(timeout=PATIENCE)
        stranger.connect("127.0.0.1", server.port)
        refused("530", stranger.sendcmd, "LIST")
        refused("530", stranger.login, "ann", "guess")
        refused("530", stranger.login, "ann", "s3cret ")
        refused("530", stranger.login, "bob", "s3cret")
        try:
            stranger.voidcmd("NOOP")
        except (EOFError, OSError):
            pass
        else:
            raise AssertionError("a fourth try")
        assert folder.read("big") == CONTENT


@test
def nobody_leaves_the_folder():
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server)
        ftp.voidcmd("TYPE I")
        for path in ("../outside/secret", "/../outside/secret", "sub/../../outside/secret",
                     "link/secret", "file-link", "sub/deep/../../link/secret", "//link//secret"):
            refused("550", ftp.sendcmd, f"SIZE {path}")
            ftp.sendcmd("EPSV")
            refused("550", ftp.sendcmd, f"RETR {path}")
            refused("550", ftp.sendcmd, f"CWD {path}")
        for path in ("link", "../outside", "link/..//link"):
            refused("550", ftp.cwd, path)
        ftp.sendcmd("EPSV")
        refused("550", ftp.sendcmd, "STOR link/new")
        refused("550", ftp.sendcmd, "STOR file-link")
        refused("550", ftp.sendcmd, "DELE link/secret")
        refused("550", ftp.sendcmd, "MKD link/x")
        ftp.sendcmd("RNFR big")
        refused("550", ftp.sendcmd, "RNTO link/big")
        ftp.sendcmd("EPSV")
        refused("550", ftp.sendcmd, "RETR pipe")
        refused("550", ftp.sendcmd, "RETR " + "x" * 300)
        refused("550", ftp.sendcmd, "SIZE " + "x/" * 900)
        assert os.listdir(folder.outside) == ["secret"]
        ftp.quit()


@test
def nobody_is_sent_to_a_third_party():
    with Folder() as folder, ftp_server(folder) as server, \
            socket.create_server(("127.0.0.1", 0)) as other:
        ftp = client(server)
        port = other.getsockname()[1]
        for command in (f"PORT 127,0,0,2,{port // 256},{port % 256}", "PORT 127,0,0,1,0,25",
                        f"EPRT |1|127.0.0.9|{port}|", "EPRT |1|127.0.0.1|80|",
                        f"EPRT |2|::1|{port}|"):
            refused("500", ftp.sendcmd, command)
            refused("425", ftp.sendcmd, "LIST")
        for command in ("PORT 1,2,3", "PORT 127,0,0,1,300,1", "EPRT x", "EPRT |1|127.0.0.1|x|"):
            refused("501", ftp.sendcmd, command)
        refused("522", ftp.sendcmd, f"EPRT |3|127.0.0.1|{port}|")
        ftp.quit()


@test
def a_data_connection_from_elsewhere_is_not_taken():
    with Folder() as folder, ftp_server(folder, host="0.0.0.0") as server:
        ftp = client(server)
        _, port = ftplib.parse229(ftp.sendcmd("EPSV"), ("127.0.0.1", 0))
        with socket.socket() as thief:
            thief.settimeout(PATIENCE)
            thief.bind(("127.0.0.9", 0))
            try:
                thief.connect(("127.0.0.1", port))
                assert thief.recv(10) == b""
            except ConnectionResetError:
                pass
            ftp.voidcmd("TYPE I")
            ftp.putcmd("RETR big")
            ftp.getresp()
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as own:
                assert receive_all(own) == CONTENT
            assert ftp.voidresp().startswith("226")


@test
def transfers_that_break():
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server)
        before = server.descriptors()
        for _ in range(20):
            data = ftp.transfercmd("RETR big")
            data.recv(1000)
            data.close()
            refused("426", ftp.voidresp)
        data = ftp.transfercmd("RETR big")
        data.recv(1000)
        assert ftp.abort().startswith("426")
        assert ftp.getresp().startswith("226")
        data.close()
        assert fetch(ftp, "big") == CONTENT
        until(lambda: server.descriptors() == before, "all descriptors closed")
        data = ftp.transfercmd("RETR big")  # the session ends in the middle
        ftp.close()
        data.close()
        until(lambda: server.descriptors() == before - 1, "all descriptors closed")


@test
def nobody_connects():
    """A port that refuses."""
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            ftp.sendport("127.0.0.1", closed.getsockname()[1])
            ftp.putcmd("RETR big")
            assert ftp.getresp().startswith("150")
            refused("425", ftp.voidresp)
        assert fetch(ftp, "big") == CONTENT


@test
def commands_wait_for_the_transfer():
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server)
        _, port = ftplib.parse229(ftp.sendcmd("EPSV"), ("127.0.0.1", 0))
        ftp.voidcmd("TYPE I")
        ftp.sock.sendall(b"RETR big\r\nPWD\r\nSIZE text\r\nNOOP\r\n")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as data:
            assert receive_all(data) == CONTENT
        answers = [ftp.getresp()[:3] for _ in range(5)]
        assert answers == ["150", "226", "257", "213", "200"], answers


@test
def a_listing_longer_than_all_queues():
    with Folder() as folder, ftp_server(folder) as server:
        os.mkdir(os.path.join(folder.root, "many"))
        names = [f"{i:05}-" + "n" * 100 for i in range(5000)]
        for name in names:
            os.close(os.open(os.path.join(folder.root, "many", name), os.O_CREAT))
        ftp = client(server)
        assert sorted(ftp.nlst("many")) == names
        lines = []
        ftp.retrlines("LIST -la many", lines.append)
        assert len(lines) == 5000


@test
def nonsense():
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server)
        for line, code in ((b"\r\n", "502"), (b"XYZ\r\n", "502"), (b"CWD\r\n", "501"),
                           (b"TYPE E\r\n", "504"), (b"MODE B\r\n", "504"), (b"STRU R\r\n", "504"),
                           (b"PWD\0x\r\n", "501"), (b"REST -1\r\n", "501"), (b"RNTO x\r\n", "503"),
                           (b"OPTS x\r\n", "501"), (b"NOOP\n", "200"), (b"noop\r\n", "200"),
                           (b"\xff\xf4\xff\xf2ABOR\r\n", "226"), (b"MKD a\rb\r\n", "257")):
            ftp.sock.sendall(line)
            try:
                answer = ftp.getresp()
            except ftplib.Error as e:
                answer = str(e)
            assert answer.startswith(code), f"{line}: {answer}"
        ftp.sock.sendall(b"x" * 5000)
        try:
            answer = ftp.getresp()
        except ftplib.Error as e:
            answer = str(e)
        assert answer.startswith("500"), answer


@test
def many_at_once():
    with Folder() as folder, ftp_server(folder) as server:
        failures = []

        def one(i):
            try:
                ftp = client(server, passive=i % 2 == 0)
                for k in range(2):
                    ftp.storbinary(f"STOR up-{i}-{k}", io.BytesIO(CONTENT[i:]))
                    assert fetch(ftp, f"up-{i}-{k}") == CONTENT[i:]
                    ftp.delete(f"up-{i}-{k}")
                ftp.quit()
            except Exception as e:  # told by the test's own thread
                failures.append(e)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failures, failures


@test
def no_more_than_max_sessions():
    with Folder() as folder, ftp_server(folder, "--max-sessions", 2) as server:
        first, second = client(server), client(server)
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as third:
            third.settimeout(0.2)
            try:
                assert third.recv(100)[:3] == b"421"
            except TimeoutError:
                pass  # it waits to be accepted
            first.quit()
            third.settimeout(PATIENCE)
            assert third.recv(100)[:3] == b"220"
            second.quit()


@test
def a_transfer_is_finished_before_the_server_ends():
    with Folder() as folder, ftp_server(folder) as server:
        ftp = client(server)
        ftp.voidcmd("TYPE I")
        with ftp.transfercmd("STOR up") as data:
            data.sendall(CONTENT[:1000])
            server.process.terminate()
            data.sendall(CONTENT[1000:])
        assert ftp.voidresp().startswith("226")
        assert folder.read("up") == CONTENT


@test
def curl():
    if not shutil.which("curl"):
        raise Skipped("curl is not installed")
    with Folder() as folder, ftp_server(folder) as server:
        url = f"ftp://127.0.0.1:{server.port}"

        def run(*arguments):
            done = subprocess.run(["curl", "-sS", "--max-time", "30", *arguments],
                                  capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert run(f"{url}/big") == CONTENT
        assert run("--ftp-port", "127.0.0.1", f"{url}/big") == CONTENT
        assert run("--disable-epsv", f"{url}/big") == CONTENT
        assert run("--disable-eprt", "--ftp-port", "127.0.0.1", f"{url}/big") == CONTENT
        assert run("-r", "100-", f"{url}/big") == CONTENT[100:]
        assert b" sub\n" in run(f"{url}/")
        assert b"small" in run("-l", f"{url}/sub/")
        run("-u", "ann:s3cret", "-T", os.path.join(folder.root, "big"), f"{url}/sub/copy")
        assert folder.read("sub/copy") == CONTENT
        with open(os.path.join(folder.root, "sub/copy"), "r+b") as f:
            f.truncate(300_000)
        run("-u", "ann:s3cret", "-C", "-", "-T", os.path.join(folder.root, "big"), f"{url}/sub/copy")
        assert folder.read("sub/copy") == CONTENT


@test
def lftp():
    if not shutil.which("lftp"):
        raise Skipped("lftp is not installed")
    with Folder() as folder, ftp_server(folder) as server, tempfile.TemporaryDirectory() as home:
        script = (f"set net:timeout 20; set net:max-retries 1; set ftp:ssl-allow no; "
                  f"open -u ann,s3cret 127.0.0.1:{server.port}; "
                  f"mirror --parallel=4 -x link -x pipe / {home}/copy; "
                  f"mirror -R --parallel=4 {home}/copy /uploaded; "
                  f"pget -n 4 big -o {home}/pieces; ls; bye")
        done = subprocess.run(["lftp", "-c", script], capture_output=True, check=False,
                              timeout=60, env=dict(os.environ, HOME=home, TERM="dumb"))
        assert done.returncode == 0, done.stderr
        for place in (os.path.join(home, "copy"), os.path.join(folder.root, "uploaded")):
            with open(os.path.join(place, "big"), "rb") as f:
                assert f.read() == CONTENT
            with open(os.path.join(place, "sub", "small"), "rb") as f:
                assert f.read() == b"small"
        with open(os.path.join(home, "pieces"), "rb") as f:
            assert f.read() == CONTENT


if __name__ == "__main__":
    sys.exit(main())
