#!/usr/bin/env python3
"""The pages that tests/site.py makes: every link leads somewhere, every function is found, the colours
can be read; and, where chromium is installed, static_server serves them to a real browser, in which
the search works and nothing is wider than the window.

/* backends: one */
"""

import html.parser
import os
import re
import shutil
import subprocess
import sys
import tempfile

from example_help import PATIENCE, Server, Skipped, main, test

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(HERE, "..", "reactor.h")
VOID = {"meta", "link", "input", "img", "br"}


class Page(html.parser.HTMLParser):
    """Anchors and links of a page; complains of tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.open, self.labels, self.title = [], [], [], set(), ""
        with open(path, encoding="utf-8") as f:
            self.feed(f.read())
        assert not self.open, f"{path}: not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        self.links += [found[name] for name in ("href", "src") if name in found]
        if tag == "img":
            assert found.get("alt"), "an image without a text"
        if tag == "label":
            self.labels.add(found["for"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()


class Site:
    def __enter__(self):
        self.place = tempfile.TemporaryDirectory()
        self.root = os.path.join(self.place.name, "site")
        subprocess.run([sys.executable, "-B", os.path.join(HERE, "site.py"), self.root], check=True,
                       stdout=subprocess.DEVNULL)
        self.pages = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.endswith(".html"):
                    path = os.path.join(folder, name)
                    self.pages[os.path.relpath(path, self.root)] = Page(path)
        return self

    def __exit__(self, *what):
        self.place.cleanup()


@test
def every_link_leads_somewhere():
    with Site() as site:
        for name, page in site.pages.items():
            assert len(page.ids) == len(set(page.ids)), f"{name}: an id twice"
            assert page.labels <= set(page.ids)
            for link in page.links:
                path, _, anchor = link.partition("#")
                to = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
                if os.path.isdir(os.path.join(site.root, to)):
                    to = os.path.normpath(os.path.join(to, "index.html"))
                assert os.path.exists(os.path.join(site.root, to)), f"{name}: {link}"
                assert not anchor or anchor in site.pages[to].ids, f"{name}: {link}"


@test
def every_function_is_found():
    with open(HEADER, encoding="utf-8") as f:
        source = f.read()
    api = source[:source.index("==== >> config")]
    functions = set(re.findall(r"^REACTOR_API [^;(]*?\b(reactor_\w+)\(", api, re.M))
    assert len(functions) > 80
    with Site() as site:
        anchors = {i for page in site.pages.values() for i in page.ids}
        assert functions <= anchors, functions - anchors
        with open(os.path.join(site.root, "manual", "index.js"), encoding="utf-8") as f:
            index = f.read()
        missing = [f for f in functions if f'["{f}",' not in index]
        assert not missing, missing


def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@test
def text_can_be_read_in_light_and_dark():
    """Contrast of at least 4.5, which is what WCAG 2.1 asks for at level AA (1.4.3)."""
    with open(os.path.join(HERE, "..", "examples", "site", "style.css"), encoding="utf-8") as f:
        schemes = re.findall(r":root \{(.*?)\}", f.read(), re.S)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink in ("ink", "soft", "accent"):
            for paper in ("paper", "card", "code"):
                a, b = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
                assert (a + 0.05) / (b + 0.05) >= 4.5, f"{ink} on {paper}: {colours}"


# Loads pages in frames of several widths, and says which of them are wider than their frame.
PROBE = """<!DOCTYPE html><meta charset="utf-8"><title>probe</title><body><script>
var pages = %s, widths = [360, 800, 1400], left = pages.length * widths.length, bad = [];
pages.forEach(function (page) { widths.forEach(function (width) {
  var frame = document.createElement("iframe");
  frame.width = width; frame.height = 600; frame.src = page;
  frame.onload = function () {
    var root = frame.contentDocument.documentElement;
    if (!frame.contentDocument.querySelector("h1")) bad.push(page + " has no heading");
    if (root.scrollWidth > root.clientWidth) bad.push(page + " at " + width);
    if (--left === 0) document.body.textContent = "bad: [" + bad.join(", ") + "]";
  };
  document.body.appendChild(frame);
}); });
</script>"""


def browse(url):
    """The page as it is after its scripts have run."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", f"--user-data-dir={profile}", "--virtual-time-budget=20000",
             "--dump-dom", url], capture_output=True, timeout=4 * PATIENCE, check=False)
    return done.stdout.decode("utf-8", "replace")


@test
def in_a_browser():
    if not shutil.which("chromium"):
        raise Skipped("chromium is not installed")
    with Site() as site:
        names = sorted(site.pages)
        with open(os.path.join(site.root, "probe.html"), "w", encoding="utf-8") as f:
            f.write(PROBE % repr(names))
        with Server("static_server", "--root", site.root, "--port", 0) as server:
            url = f"http://127.0.0.1:{server.port}"
            assert "bad: []" in browse(f"{url}/probe.html"), browse(f"{url}/probe.html")[-2000:]
            page = browse(f"{url}/manual/?q=reactor_drain")
            answers = re.findall(r'<li><a href="([^"]*)">([^<]*)</a></li>', page.split("answers")[1])
            assert answers[0][1] == "reactor_drain", answers[:5]
            assert "nothing found" in browse(f"{url}/manual/?q=xyzzyx")


if __name__ == "__main__":
    sys.exit(main())
