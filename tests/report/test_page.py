"""The page as a text: whatever is in a record is shown and never markup, the same record gives the same page, and all cases have words."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgbuild.report
from imgbuild.cli.causes import cause_text
from imgbuild.insight.beside import compare_builds
from imgbuild.insight.builds import BuildRecord, Problem, StepLayerRecord, StepRecord, Usage
from imgbuild.insight.cause import Cause
from imgbuild.report import LogLine, Report, ReportLayer, ReportLog
from imgbuild.report.ansi import Style, runs
from imgbuild.report.files import tree_of
from imgbuild.report.ledger import events_of
from imgbuild.report.markup import element, escaped, short, visible
from imgbuild.report.page import Assets, render
from imgbuild.report.quantities import count_text, moment_text, seconds_text, share_text, size_text
from imgbuild.report.timeline import Bar, bars, ticks
from imgbuild.values import replace

ROOM = Path(imgbuild.report.__file__).parent
ASSETS = Assets(*((ROOM / name).read_text() for name in ("page.css", "page.js")))
VOID = {"meta", "link", "br", "input", "col"}
EVIL = "</script><script>hit()</script>\"'><img src=x onerror=hit()>&amp;\x1b]0;t\x07\u202eevil\x00\udcff"


@dataclass
class Parsed(HTMLParser):
    """What a page is made of."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    raw: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            kind = self.elements[-1][1].get("type") or self.open[-1]
            self.raw[kind] = self.raw.get(kind, "") + data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def parsed(report: Report) -> Parsed:
    page = render(report, lambda cause: f"because of {cause.kind} {cause.subject}", ASSETS)
    page.encode()
    found = Parsed()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def step(number: int, **more: object) -> StepRecord:
    known: dict[str, object] = {
        "number": number, "stage": "s", "position": number, "name": f"[s {number}/3] RUN echo {number}", "outcome": "done", "seconds": 1.0,
        "started": float(number - 1), "parent": number - 1 or None, "build": "b1", "key": f"k{number}", "line": number,
    }  # fmt: skip
    return StepRecord(**{**known, **more})  # type: ignore[arg-type]


def build(*steps: StepRecord, **more: object) -> BuildRecord:
    known: dict[str, object] = {"id": "b1", "status": "done", "started": 1e9, "ended": 1e9 + 4, "names": ("x:latest",), "steps": steps}
    return BuildRecord(**{**known, **more})  # type: ignore[arg-type]


def hostile() -> Report:
    """A record each of whose texts wants to be something else."""
    usage = Usage(wall_seconds=1.0, peak_memory=10, oom_kills=2, throttled=3, throttled_seconds=0.5)
    first = step(
        1, name=f"[{EVIL} 1/3] RUN {EVIL}", stage=EVIL, file=EVIL, outcome="failed", log="b1/1", usage=usage, base="sha256:1",
        layer=StepLayerRecord(EVIL, EVIL, 5, 10, 2), error=Problem(EVIL), platform=EVIL,
        causes=({"kind": EVIL, "subject": EVIL, "unknown": 1},), differs=({"kind": "file", "subject": EVIL},),
        against={"build": EVIL, "number": EVIL},
    )  # fmt: skip
    error = Problem(EVIL, EVIL, EVIL, EVIL, EVIL, 1, EVIL, 1, 1, EVIL, 3, 5)
    record = build(
        first, step(2, outcome=EVIL, name=EVIL, reads=(1,)), id=EVIL, status=EVIL, buildfile=EVIL, context=EVIL, target=EVIL, names=(EVIL,),
        platforms=(EVIL,), bake=EVIL, bake_target=EVIL, same=EVIL, options={EVIL: [EVIL]}, args={EVIL: EVIL}, secrets=(EVIL,), version=EVIL,
        bases=({"name": EVIL, "digest": "sha256:1"},), digest=EVIL, image=EVIL, notices=(EVIL,), error=error,
        warnings=({"rule": EVIL, "message": EVIL, "file": EVIL, "line": 1, "end_line": 1, "source": EVIL},),
    )  # fmt: skip
    before = build(step(1, name=EVIL), id=EVIL, status=EVIL, names=(EVIL, "y"))
    files = tree_of([(f"d/{EVIL}", 10), (EVIL, 3)], 100)
    layer = ReportLayer(1, 1, EVIL, EVIL, 5, 10, files)
    log = ReportLog(1, EVIL, (LogLine(0.1, EVIL + "\x1b[31m" + EVIL),), (LogLine(0.2, EVIL * 100),), 5, 100)
    return Report(record, before, compare_builds(before, record), (layer,), True, (log,))


def test_whatever_a_record_says_is_text() -> None:
    found = parsed(hostile())
    assert [attributes for tag, attributes in found.elements if tag == "script"] == [{"type": "application/json", "id": "files"}, {}]
    assert not [tag for tag, _ in found.elements if tag in ("img", "iframe", "object", "embed", "base", "style") and tag != "style"]
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset", "xlink:href")], tag
        assert (attributes.get("href") or "#").startswith("#") or tag == "link"
    assert found.raw["script"] == ASSETS.script
    assert "<img src=x onerror=hit()>" in found.text
    for hidden in ("\x1b", "\x00", "\u202e", "\x07", "\udcff"):
        assert hidden not in "".join([*found.texts, *found.raw.values()])
    assert "\\x1b" in found.text
    assert "\\u202eevil\\x00\\xff" in found.text
    names = json.dumps(json.loads(found.raw["application/json"]))
    assert "</script><script>hit()" in names  # as a name
    assert "</script" not in found.raw["application/json"]


def test_nothing_else_may_run_or_load() -> None:
    found = parsed(hostile())
    (policy,) = [attributes["content"] for tag, attributes in found.elements if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for name, text in (("style-src", found.raw["style"]), ("script-src", found.raw["script"])):
        assert rules[name] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert not re.search(r"https?:|@import|url\((?!#)", ASSETS.style)
    assert not re.search(r"https?:|innerHTML|eval\(|fetch\(|XMLHttp|import\(", ASSETS.script)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_text(text: str) -> None:
    found = Parsed()
    page = element("p", text, title=text)
    found.feed(page)
    found.close()
    page.encode()
    assert "".join(found.texts) == visible(text)
    assert found.elements == [("p", {"title": visible(text)})]


def test_an_installed_package_has_what_is_no_code() -> None:
    package = ROOM.parent
    found = {path.relative_to(package) for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    settings = tomllib.loads((package.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {Path(name).relative_to("imgbuild") for name in settings["script-files"]}
    for room, names in settings["package-data"].items():
        shipped |= {Path(*room.split(".")[1:], name) for name in names}
    assert found == shipped


def test_the_same_record_is_the_same_page() -> None:
    words = str
    assert render(hostile(), words, ASSETS) == render(hostile(), words, ASSETS)


def test_every_reference_leads_somewhere() -> None:
    log = ReportLog(2, "b1", (LogLine(0.0, "text"),))
    failed = step(2, outcome="failed", log="b1/2", error=Problem("no"))
    record = build(step(1), failed, step(3, outcome="cached"), status="failed", error=Problem("no"))
    for report in (Report(record, logs=(log,)), hostile()):
        found = parsed(report)
        ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for _, attributes in found.elements:
            if (to := attributes.get("href")) and to.startswith("#"):
                assert to[1:] in ids, to
            for name in ("aria-labelledby", "aria-describedby"):
                assert attributes.get(name) is None or attributes[name] in ids


def test_headings_and_landmarks() -> None:
    found = parsed(hostile())
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tags = [tag for tag, _ in found.elements]
    assert (tags.count("main"), tags.count("header"), tags.count("footer")) == (1, 1, 1)
    for tag, attributes in found.elements:
        if tag in ("nav", "section") or attributes.get("role") in ("region", "img", "group"):
            assert attributes.get("aria-label") or attributes.get("aria-labelledby"), (tag, attributes)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report(build(step(1, outcome="cached"), step(2, outcome="cached"))), "Nothing was performed: all 2 steps were found in the cache"),
        (Report(build()), "The build has no steps."),
        (Report(build(status="failed")), "No step was reached."),
        (Report(build(), of_image=True), "The image has no layers."),
        (Report(build(step(1))), "No layer was made."),
        (Report(build(step(1)), layers=(ReportLayer(1, 1, "RUN x", "sha256:1", 5, 10, None),)), "not kept"),
        (Report(build(step(1, log="b1/1")), logs=(ReportLog(1, "b1", gone=True),)), "This log is no longer kept."),
        (
            Report(build(step(1), platforms=("a/b", "c/d")), layers=(ReportLayer(1, 1, "RUN x", "sha256:1", 5, 10, None),), of_image=True),
            "in 1 layer, for one of 2 platforms",
        ),
        (Report(build(step(1))), "No earlier build of this is recorded."),
        (Report(build(step(1))), "The steps wrote nothing."),
        (Report(build(step(1), step(2, outcome="running"), status="running")), "Total – not over yet"),
        (Report(build(step(1), step(2, outcome="running"), status="running")), "Performed 1 1 not over yet"),
        (Report(build(step(1))), "It is not recorded (yet) why steps were performed."),
        (Report(build(step(1, outcome="cached"))), "Every step that was reached was found in the cache."),
        (Report(build(step(1, log="b0/1", build="b0")), logs=(ReportLog(1, "b0", (LogLine(0, "x"),)),)), "1 line of build b0"),
    ],
)
def test_cases_have_words(report: Report, words: str) -> None:
    assert words in parsed(report).text


def test_a_failure_is_told_with_its_line() -> None:
    words = "last \x1b[31mwords\x1b[0m"
    error = Problem("it failed", words, "a note", "a hint", "step-failed", 1, "Buildfile", 3, 3, "RUN gzpi -k /x", 5, 9)
    record = build(step(1, outcome="failed", error=error, log="b1/1"), status="failed", error=error)
    found = parsed(Report(record, logs=(ReportLog(1, "b1", (LogLine(0, "out"),)),)))
    for words in ("Why it failed", "it failed", "Buildfile:3", "last words", "Note a note", "Hint a hint", "Log of step #1"):
        assert words in found.text
    page = render(Report(record), str, ASSETS)
    assert 'last <span class="c1">words</span>' in page
    assert "RUN <mark>gzpi</mark> -k /x" in page


def test_steps_that_only_stand_on_others_are_told_with_them() -> None:
    steps = (
        step(1, causes=({"kind": "file", "subject": "a"},)),
        step(2, causes=({"kind": "parent", "subject": "#1"},)),
        step(3, causes=({"kind": "parent", "subject": "#2"},)),
    )
    text = parsed(Report(build(*steps))).text
    assert "because of file a and with it #2 , #3" in text
    assert "because of parent" not in text


def test_long_logs_say_what_is_left_out() -> None:
    log = ReportLog(1, "b1", (LogLine(0, "first"),), (LogLine(9, "last"), LogLine(9, "x" * 2500)), 1234, 5_000_000)
    text = parsed(Report(build(step(1, log="b1/1")), logs=(log,))).text
    assert "1,234 lines, 5.0 MB, left out here" in text
    assert "500 more characters" in text
    assert "imgbuild builds log --step 1 --raw b1" in text


def test_colors() -> None:
    style = Style()
    assert list(runs("a\x1b[1;31mb\x1b[22mc\x1b[0md", style)) == [("", "a"), ("b c1", "b"), ("c1", "c"), ("", "d")]
    assert list(runs("\x1b[38;5;196mx", style)) == [("c9", "x")]
    assert list(runs("y\x1b[38;2;0;120;0mz\x1b[39m", style)) == [("c9", "y"), ("c2", "z")]
    assert list(runs("\x1b[4mu\x1b[24m\x1b[97mv\x1b[m\x1b[2K\x1b", style)) == [("u", "u"), ("c15", "v")]
    assert list(runs("\x1b[48;5;1mx\x1b[999999999999mz\x1b[38mq", style)) == [("", "x"), ("", "z"), ("", "q")]
    assert list(runs("a\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x1b(Bd\x1b", Style())) == [("", "abcd")]
    assert list(runs("", style)) == []


@settings(deadline=None)
@given(st.text(alphabet="\x1b[0123456789;:mK a", max_size=80))
def test_no_escape_sequence_is_left(text: str) -> None:
    assert all("\x1b" not in part for _, part in runs(text, Style()))


def test_parts_of_a_bar() -> None:
    one = step(1, started=1.0, seconds=2.0, waited=0.5, capture=1.0)
    assert bars(one, 10.0) == [Bar("wait", 10, 5), Bar("work", 15, 15), Bar("capture", 30, 10)]
    assert bars(replace(one, outcome="cached"), 10.0) == [Bar("wait", 10, 5), Bar("work", 15, 15)]
    assert bars(replace(one, seconds=0.0, waited=0.0, capture=None), 10.0) == []
    assert bars(replace(one, started=9.5, waited=0.0, capture=None), 10.0) == [Bar("work", 95, 5)]


@settings(deadline=None)
@given(st.floats(0.001, 1e6))
def test_ticks_are_few_and_even(whole: float) -> None:
    found = ticks(whole)
    assert found[0] == 0
    assert 2 <= len(found) <= 7
    assert found[-1] <= whole * 1.000001


def test_quantities() -> None:
    assert [size_text(size) for size in (None, 0, 999, 1000, 12_345_678, 999_999, 10**20)] == [
        "–", "0 B", "999 B", "1.0 kB", "12.3 MB", "1.0 MB", "100 EB",
    ]  # fmt: skip
    assert [seconds_text(each) for each in (None, 0, 0.0123, 0.5, 12.34, 60, 3725)] == [
        "–", "0 ms", "12 ms", "0.50 s", "12.3 s", "1 min 00 s", "1 h 02 min",
    ]  # fmt: skip
    counts = (count_text(1, "layer"), count_text(1234, "layer"), count_text(2, "process", "processes"))
    assert counts == ("1 layer", "1,234 layers", "2 processes")
    assert (share_text(1, 1000), share_text(1, 2), share_text(1, 0)) == ("< 1 %", "50 %", "0 %")
    assert (moment_text(0), moment_text(1e20)) == ("1970-01-01 00:00:00 UTC", "–")
    assert events_of(Usage(oom_kills=1, throttled=2, throttled_seconds=1.5)) == ["1 process killed for memory", "throttled 2 times, 1.50 s"]
    assert events_of(None) == events_of(Usage()) == []
    assert (short("a  b\nc", 10), short("abcdef", 4), escaped("<a b='c'>")) == ("a b c", "abc…", "&lt;a b=&#39;c&#39;&gt;")


def test_a_thousand_steps_make_a_page_of_a_few_megabytes() -> None:
    steps = [step(number, causes=({"kind": "file", "subject": "a"},)) for number in range(1, 1001)]
    page = render(Report(build(*steps)), lambda cause: cause.subject, ASSETS)
    assert len(page) < 4 << 20


def test_a_cause_of_another_version_is_said_as_far_as_it_is_known() -> None:
    said = []
    render(Report(build(step(1, causes=({"kind": "env", "later": 1},)))), lambda cause: said.append(cause) or "", ASSETS)  # type: ignore[func-returns-value]
    assert said == [Cause("env")]


@pytest.mark.parametrize("bad", [None, "x", "", -1, 1e300, True, [], [1], {}, {"kind": "file"}])
def test_causes_and_warnings_of_any_type(bad: object) -> None:
    cause = {"kind": "file", "subject": "a", "what": "content", "where": "", "old": "1", "new": "2", "old_size": 1, "new_size": 2}
    warning = {"rule": "r", "message": "m", "file": "Buildfile", "line": 1, "end_line": 2, "source": "RUN true"}
    causes = [{**cause, name: bad} for name in cause]
    steps = tuple(StepRecord(number, "a", outcome="done", causes=(each,), differs=(each,)) for number, each in enumerate(causes, 1))
    build = BuildRecord("1", "done", steps=steps, warnings=tuple({**warning, name: bad} for name in warning))
    assert "RUN true" in render(Report(build), cause_text, ASSETS)
