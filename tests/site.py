#!/usr/bin/env python3
"""Makes the pages that `make run` serves: the sample site, and beside it, in manual/, the manual and
the comments of the functions, taken from reactor.h alone.

    site.py FOLDER

A chapter of the manual is a line in capitals; each becomes a page. A paragraph is a run of lines; what
is indented by four or more is shown as it stands: programs, tables. The api section is cut at its
"---- part ----" lines into pages, and there at blank lines into entries: a comment, and what it is
about. Every name that an entry declares becomes an anchor, and links to it everywhere else. The
search works without a server: the index is a script that the page loads.
"""

import html
import json
import os
import re
import shutil
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
NAME = re.compile(r"\b(?:reactor|REACTOR)_[A-Za-z0-9_]*[A-Za-z0-9]\b")

STYLE = """
header, main, footer { max-width: 62rem; } /* a program's longest line */
main p, main li { max-width: 46rem; }
code a { text-underline-offset: .35em; } /* clear of the underscores */
.columns { columns: 15rem; column-gap: 2rem; list-style: none; padding: 0; }
.columns li { break-inside: avoid; padding: .12rem 0; }
.entry { border-top: 1px solid var(--line); padding-top: .4rem; margin-top: 1.6rem; }
.entry pre { margin: .8rem 0; }
.entry :target, .entry:target { scroll-margin-top: 1rem; }
.entry:target pre { border-left-color: var(--warm); }
.pages { display: flex; justify-content: space-between; gap: 1rem; margin-top: 3rem; }
label { display: block; color: var(--soft); margin-top: 1.4rem; }
input[type=search] {
  font: inherit; width: 100%; padding: .45rem .7rem; margin-top: .2rem; color: var(--ink);
  background: var(--card); border: 1px solid var(--soft); border-radius: .4rem;
}
a:focus-visible, input:focus-visible, pre:focus-visible { outline: 3px solid var(--warm); outline-offset: 2px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: .4rem .8rem; }
"""

SEARCH = """
/* Shows the entries that have all words of the question, those first whose title has them. */
(function () {
  var box = document.getElementById("question"), list = document.getElementById("answers"),
      said = document.getElementById("said");
  if (!box) return;
  function rank(entry, words) {
    var title = entry[0].toLowerCase(), text = entry[2].toLowerCase(), sum = 0;
    for (var i = 0; i < words.length; i++) {
      if (title.indexOf(words[i]) >= 0) sum += 10;
      else if (text.indexOf(words[i]) < 0) return 0;
      else sum += 1;
    }
    return sum;
  }
  function show() {
    var words = box.value.toLowerCase().split(/\\s+/).filter(Boolean), found = [];
    list.textContent = "";
    said.textContent = "";
    if (!words.length) return;
    for (var i = 0; i < INDEX.length; i++) {
      var r = rank(INDEX[i], words);
      if (r) found.push([r, INDEX[i]]);
    }
    found.sort(function (a, b) { return b[0] - a[0]; });
    found.slice(0, 30).forEach(function (f) {
      var item = document.createElement("li"), link = document.createElement("a");
      link.href = f[1][1];
      link.textContent = f[1][0];
      item.appendChild(link);
      list.appendChild(item);
    });
    said.textContent = found.length ? found.length + " found" : "nothing found";
  }
  box.value = new URLSearchParams(location.search).get("q") || ""; // a link may carry a question
  box.addEventListener("input", show);
  show();
})();
"""


# ---- reading the header ----


def sections(source):
    """Text of each section, by name."""
    parts = re.split(r"^/\* ==== >> (\S+) ==== \*/\n", source, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def comment_lines(text):
    """Lines of a comment, without its marks and its common indent."""
    text = re.sub(r"^\s*/\*", "  ", text)
    text = re.sub(r"\*/\s*$", "", text)
    return [line[3:] if line.startswith("   ") else line.strip() for line in text.split("\n")]


def chapters(manual):
    """(title, lines) of each chapter; a title is a line in capitals at the left."""
    lines = comment_lines(manual[:manual.index("*/")])
    found = []
    for line in lines:
        if re.fullmatch(r"[A-Z][A-Z ,'-]+", line):
            found.append((line.capitalize(), []))
        elif found:
            found[-1][1].append(line)
    return found


def declared(code):
    """Names that a declaration makes: functions, types, constants and macros."""
    names = re.findall(r"\b(reactor_\w+)\(", code)
    names += re.findall(r"^}\s*(reactor_\w+);", code, re.M)
    names += re.findall(r"^typedef [^;{]*?\b(reactor_?\w*)(?:;|\()", code, re.M)
    names += re.findall(r"^#define (REACTOR_\w+)", code, re.M)
    names += re.findall(r"^\s+(REACTOR_\w+)\s*(?:=|,|$)", code, re.M)
    names += re.findall(r"\{ (REACTOR_\w+) =", code)
    return list(dict.fromkeys(names))


def cut_entries(text):
    """(comment lines, code) of each entry. A blank line ends one; a comment alone is prose."""
    entries, comment, code, inside = [], [], [], False

    def end():
        if comment or code:
            entries.append((list(comment), "\n".join(code)))
        comment.clear()
        code.clear()

    for line in text.split("\n"):
        if inside or (line.startswith("/*") and not code):
            if not inside:
                end()
            comment.append(line)
            inside = "*/" not in line
        elif not line.strip() and not code_is_open(code):
            end()
        else:
            code.append(line)
    end()
    return [(comment_lines("\n".join(c)) if c else [], k) for c, k in entries]


def code_is_open(code):
    text = re.sub(r"/\*.*?\*/", "", "\n".join(code), flags=re.S)
    return text.count("{") > text.count("}") or "/*" in text


def parts_of_api(api):
    """(title, prose and entries) of each part between "---- title ----" lines."""
    start = api.index("typedef struct reactor reactor;")
    end = api.index("#ifdef __cplusplus\n}")
    pieces = re.split(r"^/\* ---- ([^-\n]+) ----(?: \*/)?\n", api[start:end], flags=re.M)
    parts = [("basics", pieces[0])]
    for title, text in zip(pieces[1::2], pieces[2::2]):
        # A part may begin with prose inside the same comment as its title.
        parts.append((title, text if not text.startswith("\n   ") else "/*" + text))
    return parts


# ---- making pages ----


def slug(title):
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


class Site:
    def __init__(self, header):
        found = sections(header)
        self.chapters = chapters(found["manual"])
        self.parts = [(title, cut_entries(text)) for title, text in parts_of_api(found["api"])]
        self.rules = comment_lines(found["api"][:found["api"].index("*/") + 2])
        self.where = {}  # name: page#anchor
        self.index = []  # title, address, text: what the search looks through
        for title, entries in self.parts:
            for comment, code in entries:
                for name in declared(code):
                    self.where.setdefault(name, f"api-{slug(title)}.html#{name}")

    def linked(self, text, here=""):
        """Text as HTML, in which the names of the interface are links."""
        def link(match):
            name = match[0]
            to = self.where.get(name)
            if not to or to == here:
                return name
            return f'<a href="{to}">{name}</a>'
        return NAME.sub(link, html.escape(text, quote=False))

    def blocks(self, lines, here=""):
        """Paragraphs, lists, and what is shown as it stands."""
        out, at = [], 0
        while at < len(lines):
            line = lines[at]
            if not line.strip():
                at += 1
                continue
            end = at
            if line.startswith("  "):
                while end < len(lines) and (lines[end].startswith("  ") or not lines[end].strip()):
                    end += 1
                out.append(self.verbatim(lines[at:end]))
            elif line.startswith("- "):
                items = []
                while end < len(lines) and re.match(r"- |  \S", lines[end]):
                    if lines[end].startswith("- "):
                        items.append([])
                    items[-1].append(lines[end][2:])
                    end += 1
                out.append("<ul>" + "".join(f"<li>{self.linked(' '.join(i), here)}</li>\n"
                                            for i in items) + "</ul>")
            else:
                while end < len(lines) and lines[end].strip() and not (
                        end > at and re.match(r"- |    ", lines[end])):
                    end += 1
                text = re.sub(r"::$", ":", " ".join(part.strip() for part in lines[at:end]))
                text = re.sub(r" \(run: [^)]*\)", "", text)
                out.append(f"<p>{self.linked(text, here)}</p>")
            at = end
        return "\n".join(out)

    def verbatim(self, lines):
        while lines and not lines[-1].strip():
            lines = lines[:-1]
        indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        text = "\n".join(line[indent:] for line in lines)
        return f'<pre tabindex="0"><code>{self.linked(text)}</code></pre>'

    def entry(self, page, comment, code):
        names = declared(code)
        if not code.strip():
            return self.blocks(comment)
        if not names and not comment:
            return ""
        anchor = names[0] if names else ""
        more = "".join(f'<span id="{n}"></span>' for n in names[1:]
                       if self.where.get(n) == f"{page}#{n}")
        here = self.where.get(anchor, "")
        first = anchor and here == f"{page}#{anchor}"
        for name in names:
            if self.where.get(name) == f"{page}#{name}":
                self.index.append([name, f"{page}#{name}", " ".join(comment) + " " + code])
        return (f'<div class="entry"{f" id={chr(34)}{anchor}{chr(34)}" if first else ""}>{more}\n'
                f'<pre tabindex="0"><code>{self.linked(re.sub(r"^REACTOR_API ", "", code.strip(), flags=re.M), here)}</code></pre>\n'
                f"{self.blocks(comment, here)}\n</div>")

    def page(self, file, title, body, before=None, after=None):
        links = ""
        if before or after:
            links = '<nav class="pages" aria-label="Pages">' + "".join(
                f'<a href="{to[0]}" rel="{rel}">{arrow.format(html.escape(to[1]))}</a>' if to else "<span></span>"
                for to, rel, arrow in ((before, "prev", "← {}"), (after, "next", "{} →"))) + "</nav>"
        nav = [("./", "Manual"), ("functions.html", "Functions"), ("../", "This site")]
        current = {"index.html": "./"}.get(file, file)
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)} – reactor.h</title>
<link rel="stylesheet" href="../style.css">
<link rel="stylesheet" href="manual.css">
<link rel="icon" href="../icon.svg" type="image/svg+xml">
</head>
<body>
<a class="skip" href="#main">To the text</a>
<header>
<a class="name" href="./">reactor.h</a>
<nav aria-label="Site">
""" + "\n".join(f'<a href="{to}"{" aria-current=" + chr(34) + "page" + chr(34) if to == current else ""}>'
                f"{text}</a>" for to, text in nav) + f"""
</nav>
</header>
<main id="main">
<h1>{html.escape(title)}</h1>
{body}
{links}
</main>
<footer><p>Made from <code>reactor.h</code>, served by <code>static_server</code>.</p></footer>
</body>
</html>
"""

    def make(self):
        """Every page: file name and text."""
        pages = {}
        order = [(slug(title) + ".html", title) for title, _ in self.chapters]
        order += [("api-" + slug(title) + ".html", "API: " + title) for title, _ in self.parts]
        for i, (title, lines) in enumerate(self.chapters):
            file = order[i][0]
            self.index.append([title, file, " ".join(lines)])
            pages[file] = self.page(file, title, self.blocks(lines), i and order[i - 1] or None,
                                    order[i + 1])
        for i, (title, entries) in enumerate(self.parts, len(self.chapters)):
            file = order[i][0]
            body = "\n".join(self.entry(file, comment, code) for comment, code in entries)
            if i == len(self.chapters):
                body = self.blocks(self.rules) + body
            pages[file] = self.page(file, order[i][1], body, order[i - 1],
                                    order[i + 1] if i + 1 < len(order) else None)
        pages["functions.html"] = self.page("functions.html", "Functions, types and constants",
                                            self.listing())
        pages["index.html"] = self.page("index.html", "Manual", self.front(order))
        return pages

    def listing(self):
        functions = sorted(n for n in self.where if re.match(r"reactor_", n))
        constants = sorted(n for n in self.where if n.startswith("REACTOR_"))
        return "\n".join(
            f"<h2>{title}</h2>\n<ul class=\"columns\">\n" +
            "\n".join(f'<li><a href="{self.where[n]}"><code>{n}</code></a></li>' for n in names) +
            "\n</ul>" for title, names in (("Functions and types", functions),
                                           ("Constants and macros", constants)))

    def front(self, order):
        def items(pages):
            return "".join(f'<li><a href="{file}">{html.escape(title)}</a></li>\n'
                           for file, title in pages)
        count = len(self.chapters)
        return f"""<p class="lead">Everything that stands in the header, to be read in a browser.</p>
<label for="question">Search the manual and the functions</label>
<input type="search" id="question" autocomplete="off">
<p id="said" role="status"></p>
<ul id="answers"></ul>
<h2>Chapters</h2>
<ul class="columns">
{items(order[:count])}</ul>
<h2>Functions, by subject</h2>
<ul class="columns">
{items(order[count:])}</ul>
<script src="index.js"></script>
<script src="search.js"></script>"""


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = sys.argv[1]
    with open(os.path.join(ROOT, "reactor.h"), encoding="utf-8") as f:
        site = Site(f.read())
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(ROOT, "examples", "site"), folder)
    for name in os.listdir(folder):  # the sample pages lead to the manual, where there is one
        path = os.path.join(folder, name)
        if name.endswith(".html"):
            with open(path, encoding="utf-8") as f:
                text = f.read()
            with open(path, "w", encoding="utf-8") as f:
                f.write(text.replace("</nav>", '<a href="manual/">Manual</a>\n</nav>', 1))
    manual = os.path.join(folder, "manual")
    os.mkdir(manual)
    pages = site.make()
    pages["manual.css"] = STYLE
    pages["search.js"] = SEARCH
    index = json.dumps(site.index, ensure_ascii=False, separators=(",", ":"))
    pages["index.js"] = "var INDEX=" + index.replace("</", "<\\/") + ";\n"
    for name, text in pages.items():
        with open(os.path.join(manual, name), "w", encoding="utf-8") as f:
            f.write(text)
    print(f"{folder}: {len(site.chapters)} chapters, {len(site.where)} names")


if __name__ == "__main__":
    main()
