"""`imgbuild report`: the page of a build in a real browser: read, searched and walked through by keys, at any width, in both themes."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from imgbuild.report.squarify import Rectangle, squarify

from .browser import Browser, available, started
from .harness import Bench, copied

WIDTHS = (400, 1000, 2000)
THEMES = ("light", "dark")
PAGES = ("many", "cached", "failed", "bare")

_STAGE = """FROM busybox AS {name}
WORKDIR /{name}
COPY {name} /{name}/in
RUN i=0; while [ $i -lt 40 ]; do echo "{name} line $i"; i=$((i+1)); done; mkdir -p out/a/b out/c; for i in 1 2 3 4 5 6; do
dd if=/dev/zero of=out/a/b/f$i bs=1k count=$((i*7)) 2>/dev/null; dd if=/dev/zero of=out/c/g$i bs=1k count=$i 2>/dev/null; done
RUN printf '\\033[1;32mok\\033[0m {name} \\033[31mneedle\\033[0m\\n'
RUN echo more > /{name}/more
RUN echo yet more > /{name}/yet
""".replace("; do\ndd", "; do dd")
STAGES = ("deps", "front", "back", "docs")
MANY = "".join(_STAGE.format(name=name) for name in STAGES) + "FROM busybox\n"
MANY += "".join(f"COPY --from={name} /{name} /srv/{name}\n" for name in STAGES)
MANY += "ARG VERSION=1\nRUN echo $VERSION > /version\nMAINTAINER nobody\nTEST test -s /version\n"
FAILED = MANY + "RUN echo before; gzpi -k /version\n"
STEPS = 6 * len(STAGES) + len(STAGES) + 2


@dataclass(frozen=True)
class Reported:
    """A store with builds of all kinds, and the page of each."""

    bench: Bench
    pages: dict[str, Path]


@pytest.fixture(scope="module")
def reported(template: Bench, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    bench = copied(template, tmp_path_factory.mktemp("report") / "bench")
    bench.write({f"{name}/file": "one\n" for name in STAGES})
    pages = {name: bench.place / f"{name}.html" for name in PAGES}
    bench.build(MANY)
    bench.write({"front/file": "two\n", "back/more": "new\n"})
    for name, text, options, code in (
        ("many", MANY, ("--build-arg", "VERSION=2"), 0),
        ("cached", MANY, ("--build-arg", "VERSION=2"), 0),
        ("failed", FAILED, ("--build-arg", "VERSION=2"), 1),
        ("bare", "FROM scratch\nENV A=1\n", (), 0),
    ):
        bench.build(text, *options, code=code)
        assert bench.run("report", "-o", pages[name]).out == f"{pages[name]}\n"
    return Reported(bench, pages)


pytestmark = pytest.mark.xdist_group("browser")  # one for all of them


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not available():
        pytest.skip("needs Debian's chromium and chromium-driver")  # which in CI is a failure
    with started(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


def _text(browser: Browser, selector: str) -> str:
    text: str = browser.run("return document.querySelector(arguments[0]).textContent", selector)
    return " ".join(text.split())


@pytest.mark.parametrize(("page", "width", "theme"), list(product(PAGES, WIDTHS, THEMES)))
def test_it_can_be_read(reported: Reported, browser: Browser, page: str, width: int, theme: str) -> None:
    browser.open(reported.pages[page], width, theme)
    assert browser.problems() == []
    assert [address for address in browser.requests() if not address.startswith(("file:", "data:,"))] == []
    assert browser.run("return document.documentElement.scrollWidth") <= width
    dark = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part < 60)")
    assert dark == (theme == "dark")
    browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(_CONTRAST) == []


_CONTRAST = """
// Each text with less contrast to what is behind it than WCAG 2 wants of AA (1.4.3), and how much it is.
const parse = (color) => { const parts = color.match(/[\\d.]+/g).map(Number); return parts.length < 4 ? [...parts, 1] : parts; };
const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
const light = (color) => {
  const [r, g, b] = color.slice(0, 3).map((part) => part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {  // the color that is seen there
  const box = element.closest('.node, .base');
  if (box) return parse(getComputedStyle(box.querySelector('.box')).fill);
  if (!element) return [255, 255, 255, 1];
  const color = parse(getComputedStyle(element).backgroundColor);
  return color[3] === 1 || !element.parentElement ? color : over(color, behind(element.parentElement));
};
const found = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('script, style, title')) continue;
  const style = getComputedStyle(element);
  const vector = element.namespaceURI.endsWith('svg');
  const ground = behind(element);
  const color = parse(vector ? style.fill : style.color);
  color[3] *= Number(style.opacity);
  const [one, other] = [light(over(color, ground)), light(ground)].sort((a, b) => b - a);
  const ratio = (one + 0.05) / (other + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const sign = /^[↕◆]$/u.test(walker.currentNode.data.trim());  // what is no text has to have 3 (1.4.11)
  const words = walker.currentNode.data.slice(0, 30);
  if (ratio < (large || sign ? 3 : 4.5)) found.add(`${element.tagName}.${element.getAttribute('class')}: ${words} ${ratio.toFixed(2)}`);
}
return [...found];
"""


def test_what_it_tells(reported: Reported, browser: Browser) -> None:
    browser.open(reported.pages["many"], 1000, "light")
    summary = _text(browser, "#summary")
    assert "x:latest" in summary
    assert "✓ done" in summary
    assert f"of {STEPS}" in summary
    assert "stage-4 1/5 · Buildfile:" in _text(browser, "#ledger")
    rows = browser.run("return [...document.querySelectorAll('#ledger-table tbody tr')].map((row) => row.id)")
    assert rows == [f"step-{number}" for number in range(1, STEPS + 1)]
    nodes = browser.run("return [...document.querySelectorAll('#graph-svg .node')].map((node) => node.getAttribute('class').split(' ')[1])")
    assert len(nodes) == STEPS
    assert {"o-done", "o-cached"} == set(nodes)
    assert browser.run("return document.querySelectorAll('.timeline li.critical').length") > 3
    changes = _text(browser, "#changes")
    assert "front/file changed (content, 4 → 4 bytes)" in changes
    assert "back/more added (4 bytes)" in changes
    assert 'ARG VERSION changed ("1" → "2")' in changes
    assert "Compared with build" in changes
    assert "f6" in _text(browser, "#layers table")
    assert "MaintainerDeprecated" in _text(browser, "#warnings")
    assert "MAINTAINER nobody" in _text(browser, "#warnings")
    assert "docs line 39" in _text(browser, "#logs")


def test_a_failure(reported: Reported, browser: Browser) -> None:
    browser.open(reported.pages["failed"], 1000, "light")
    failure = _text(browser, "#failure")
    assert "Why it failed" in failure
    assert "'gzpi' was not found in PATH" in failure
    assert "Hint did you mean gzip?" in failure
    assert browser.run("return document.querySelector('#failure .source mark').textContent") == "gzpi"
    browser.run("document.querySelector('#failure a[href^=\"#log-\"]').click()")
    browser.until("return document.activeElement.tagName === 'SUMMARY' && document.activeElement.parentElement.open")
    assert "before" in browser.run("return document.activeElement.parentElement.textContent")


def test_on_paper(reported: Reported, browser: Browser) -> None:
    browser.open(reported.pages["failed"], 760, "dark")
    browser.run("document.querySelector('#theme').click(); document.querySelector('#theme').click()")
    assert browser.run("return document.documentElement.dataset.theme") == "dark"
    browser.command("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.run("return getComputedStyle(document.body).color") == "rgb(26, 30, 35)"
    assert not browser.run("return ['.top', '#find-form', '.hint'].some((each) => document.querySelector(each).checkVisibility())")
    assert browser.run("return document.querySelector('#failure').checkVisibility()")
    browser.command("Emulation.setEmulatedMedia", media="")
    browser.run("localStorage.clear()")


def test_without_scripts(reported: Reported, browser: Browser) -> None:
    for page in PAGES:
        browser.open(reported.pages[page], 400, "light", scripts=False)
        shown = browser.command("Accessibility.getFullAXTree")["nodes"]
        names = {node["name"]["value"] for node in shown if not node["ignored"] and node.get("name")}
        assert {"What changed", "Layers", "The build has no steps."} <= names or page != "bare"
        assert {"Timeline", "Graph", "What changed", "Layers", "Ledger", "Logs"} <= names or page == "bare"
        assert not names & {"Theme: auto", "Previous match"}
        assert ("Layers by the size of their files; the table below says the same" in names) == (page != "bare")
    browser.open(reported.pages["many"], 400, "light")  # with them again, for the others


_FOCUSED = """
// Where what has the focus stands among all elements, and whether it shows; null at the end.
const it = document.activeElement;
if (it === document.body) return null;
window.order ??= [...document.querySelectorAll('*')];
const style = getComputedStyle(it.matches('.node') ? it.querySelector('.box') : it);
return [order.indexOf(it), style.outlineStyle !== 'none' || parseFloat(style.strokeWidth) >= 4, it.outerHTML.slice(0, 80)];
"""


def test_keys(reported: Reported, browser: Browser) -> None:
    browser.open(reported.pages["many"], 1000, "light")
    active = "const it = document.activeElement; return it.id || it.getAttribute('class') || it.textContent"
    browser.press("Tab")
    assert browser.run(active) == "skip"
    assert browser.run("return document.activeElement.getBoundingClientRect().top >= 0")
    browser.press("Enter", "Tab")
    assert browser.run("return document.querySelector('main').contains(document.activeElement)")

    browser.run("document.querySelector('#theme').focus()")
    browser.press("Enter", "Enter")
    browser.until("return document.documentElement.dataset.theme === 'dark'")
    assert browser.run("return document.querySelector('#theme').textContent") == "Theme: dark"
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 23)"
    browser.press("Enter")

    # All that takes the focus shows it, and comes in the order in which it stands.
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    seen = []
    for _ in range(400):
        browser.press("Tab")
        at = browser.run(_FOCUSED)
        if at is None:
            break
        assert at[1], at
        seen.append(at[0])
    assert len(seen) > 50
    assert seen == sorted(seen)


def test_keys_in_pictures_and_tables(reported: Reported, browser: Browser) -> None:
    browser.open(reported.pages["many"], 1000, "light")
    label = "return document.activeElement.getAttribute('aria-label')"
    browser.run("document.querySelector('#graph-svg .node').focus()")
    assert browser.run(label).startswith("step 1,")
    browser.press("ArrowDown")
    assert not browser.run(label).startswith("step 1,")
    browser.press("ArrowUp", "ArrowRight", "ArrowLeft")
    assert browser.run(label).startswith("step 1,")
    browser.run("window.moved = new Promise((done) => addEventListener('hashchange', () => setTimeout(done)))")
    browser.press("Enter")
    assert browser.run("return moved.then(() => document.activeElement.id)") == "step-1"

    browser.run("document.querySelector('#treemap .tile').focus()")
    first = browser.run(label)
    browser.press("ArrowRight")
    assert browser.run(label) != first
    browser.press("ArrowLeft", "Enter")
    depth = "return document.querySelectorAll('#crumbs li').length"
    opened = browser.run(depth)
    assert opened > 1
    browser.press("Enter")
    assert browser.run(depth) == opened + 1
    browser.press(*["Backspace"] * (opened - 1), "Escape")
    assert browser.run(depth) == 1
    assert browser.run(label) == first

    values = "return [...document.querySelectorAll('#ledger-table tbody tr')].map((row) => Number(row.children[2].dataset.v))"
    browser.run("document.querySelector('#ledger-table thead button').focus()")
    browser.press("ArrowRight", "ArrowRight", "Enter")
    assert browser.run("return document.activeElement.parentElement.getAttribute('aria-sort')") == "descending"
    assert browser.run(values) == sorted(browser.run(values), reverse=True)
    browser.press("Enter")
    assert browser.run(values) == sorted(browser.run(values))


def test_areas_are_those_that_are_computed_here(reported: Reported, browser: Browser) -> None:
    browser.open(reported.pages["many"], 1000, "light")
    for sizes in ([7, 5, 3, 2, 2, 1], [1000, 1], [5] * 11, list(range(40, 0, -1))):
        drawn = browser.run("return document.querySelector('#treemap').squarify(arguments[0], [0, 0, 640, 300])", sizes)
        assert [pytest.approx(tuple(place)) for place in squarify(sizes, Rectangle(0, 0, 640, 300))] == [tuple(place) for place in drawn]


def test_logs_are_searched(reported: Reported, browser: Browser) -> None:
    browser.open(reported.pages["many"], 1000, "light")
    browser.press("/", *"NEEDLE")
    browser.until("return [...CSS.highlights.get('found')].join() === 'needle,needle,needle,needle'")  # whatever its color is
    assert browser.run("return document.querySelector('#find-count').textContent") == "4 lines"
    browser.press("Enter")
    assert browser.run("return document.querySelector('#find-count').textContent") == "1 of 4 lines"
    first = browser.run("return document.querySelector('.l.now').closest('details').id")
    assert browser.run("return document.querySelector('.l.now').checkVisibility()")
    browser.press("Enter")
    assert browser.run("return document.querySelector('.l.now').closest('details').id") != first
    browser.press("Shift+Enter", "Shift+Enter")
    assert browser.run("return document.querySelector('#find-count').textContent") == "4 of 4 lines"
    browser.run("document.querySelector('#find-only').click()")
    visible = "return [...document.querySelectorAll('.log .l')].filter((line) => line.checkVisibility()).length"
    assert browser.run(visible) == 4
    browser.run("document.querySelector('#find').focus()")
    browser.press("Escape", *"no such words")
    browser.until("return document.querySelector('#find-count').textContent === 'nothing found'")
    browser.press("Escape")
    assert browser.run("return document.querySelectorAll('.hit, .now').length") == 0


def test_hostile_names_and_logs_are_inert(bench: Bench, browser: Browser) -> None:
    bench.write(
        {
            "Buildfile": "FROM busybox\nLABEL a=\"<script>hit=1</script>\"\nRUN --network=none <<'E'\n"
            "mkdir -p '/x/<' '/x/a\"b'\nhead -c 900 /dev/zero > '/x/</script><script>hit=2<'\n"
            "echo 1 > '/x/a\"b/<img src=x onerror=hit=3>'\n"
            "head -c 800 /dev/zero > \"$(printf '/x/\\377\\001\\342\\200\\256')\"\n"
            "printf '<script>hit=4</script>\\033]0;title\\007\\033[31m<b>\\342\\200\\256\\377\\n'\n"
            "echo '</pre></details><script>hit=5</script>'\n"
            "E\nRUN echo '<img src=x onerror=hit=6>' && false\n",
            "<img src=x onerror=hit=7>": "",
        }
    )
    bench.build(None, "--target", "", "--build-arg", "A=<script>hit=8</script>", code=1)
    page = bench.place / "report.html"
    bench.run("report", "-o", page)
    browser.open(page, 1000, "light")
    browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
    for _ in range(4):
        browser.run("document.querySelector('#treemap .tile.opens')?.click()")
    assert browser.problems() == []
    assert browser.run("return [typeof hit, document.images.length, document.scripts.length]") == ["undefined", 0, 2]
    assert "<script>hit=4</script><b>" in _text(browser, "#logs")
    assert "</pre></details><script>hit=5</script>" in _text(browser, "#logs")
    assert "</script><script>hit=2<" in _text(browser, "#layers table")
    assert "\\xff\\x01\\u202e" in _text(browser, "#layers table")
    assert not re.search("[\u202e\x1b\x07\x01]", page.read_text())


def test_where_it_goes(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo hello\n")
    assert bench.run("report").out == "report.html\n"
    page = bench.context / "report.html"
    written = page.read_bytes()
    assert stat.S_IMODE(page.stat().st_mode) == 0o644
    assert bench.run("report", "last", "-o", "-").out.encode() == written  # the same record, the same page
    (bench.context / "link.html").symlink_to("report.html")
    page.write_text("old")
    held = page.open()
    bench.run("report", "last", "-o", "link.html")
    assert page.read_bytes() == written
    assert held.read() == "old"  # another file took its place
    assert [path.name for path in bench.context.iterdir() if path.name.startswith(".")] == []
    build = bench.run("builds", "ls", "-q").out.split()[0]
    bench.build("FROM busybox\nRUN echo other\n")
    assert bench.run("report", build[:10], "-o", "-").out.encode() == written
    assert bench.run("report", "last~1", "-o", "-").out.encode() == written


def test_what_is_gone_is_said(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo hello; echo > /x\n")
    bench.run("rmi", "x")
    bench.run("prune", "--all")
    page = bench.run("report", "-o", "-").out
    assert "not kept" in page
    assert "hello" in page


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nothing",), 13, "there is no build nothing"),
        (("last~999",), 13, "there is no build last~999"),
        (("-o", "."), 2, "is a directory"),
        (("-o", ""), 2, "--output needs a name"),
        (("-o", "no/such/report.html"), 21, "no/such"),
        (("last", "more"), 2, "unexpected extra argument"),
    ],
)
def test_refused(shared: Bench, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = shared.run("report", *arguments, code=code)
    assert words in done.err


def test_many_files_make_a_small_page(bench: Bench) -> None:
    loop = "i=0; while [ $i -lt 300 ]; do mkdir $i; (cd $i; touch $(seq 1 100)); echo $i > $i/1; i=$((i+1)); done"
    bench.build(f"FROM busybox\nWORKDIR /many\nRUN {loop}\n")
    page = bench.run("report", "-o", "-").out
    assert "30,000" in page
    assert len(page) < 1_000_000


def test_long_logs_make_a_small_page(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN seq 1 400000; head -c 300000 /dev/zero | tr '\\0' x\n")
    page = bench.run("report", "-o", "-").out
    assert "left out here" in page
    assert "more characters" in page
    assert len(page) < 1_000_000
