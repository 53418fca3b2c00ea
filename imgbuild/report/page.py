"""The page as a whole: sections, style and script in one text, under a policy that lets nothing else in."""

from __future__ import annotations

import hashlib
from binascii import b2a_base64

from imgbuild.hints import Iterator
from imgbuild.insight.timing import Timing, timing
from imgbuild.report import CauseWords, Report
from imgbuild.report.changes import changes
from imgbuild.report.graph import graph
from imgbuild.report.head import failure, summary, title_of, warnings
from imgbuild.report.ledger import ledger
from imgbuild.report.logs import logs
from imgbuild.report.markup import Html, element, joined, visible
from imgbuild.report.timeline import timeline
from imgbuild.report.treemap import treemap
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Assets:
    """The style sheet and the script."""

    style: str
    script: str


def render(report: Report, words: CauseWords, assets: Assets) -> str:
    """The HTML. All of it is characters that UTF-8 has."""
    sections = list(_sections(report, words))
    nav = element(
        "nav", element("ul", [element("li", element("a", title, href=f"#{name}")) for name, title, _ in sections]), aria_label="Sections"
    )
    theme = element("button", "Theme: auto", type="button", id="theme", class_="js")
    head = element("header", element("p", element("b", "imgbuild"), " report", class_="brand"), nav, theme, class_="top")
    found = element("section", summary(report, timing(report.build.steps)), id="summary", aria_label="Summary")
    main = element("main", found, [_section(*each) for each in sections], id="main", tabindex=-1)
    version = f"imgbuild {report.build.version}" if report.build.version else "imgbuild"
    foot = element("footer", element("p", f"Made of the record of build {report.build.id} by {version}. This page loads nothing."))
    skip = element("a", "Skip to content", href="#main", class_="skip")
    body = element("body", skip, head, main, foot, _patterns(), Html(f"<script>{assets.script}</script>"))
    return f"<!DOCTYPE html>\n{element('html', _head(report, assets), body, lang='en')}\n"


def policy(assets: Assets) -> str:
    """The Content-Security-Policy: our own style and script, known by their digests, and nothing else from anywhere."""
    return (
        f"default-src 'none'; style-src '{_digest(assets.style)}'; script-src '{_digest(assets.script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{b2a_base64(hashlib.sha256(text.encode()).digest(), newline=False).decode()}"


def _head(report: Report, assets: Assets) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy(assets)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{visible(title_of(report.build))} – {report.build.status} – imgbuild"),
        element("link", rel="icon", href="data:,"),  # else browsers ask the page's place for one
        Html(f"<style>{assets.style}</style>"),
    )


def _sections(report: Report, words: CauseWords) -> Iterator[tuple[str, str, Html]]:
    build = report.build
    found = timing(build.steps)
    if (error := failure(build)) is not None:
        yield "failure", "Why it failed" if build.status == "failed" else "How it ended", error
    performed = any(step.outcome != "cached" for step in build.steps)
    if build.steps:
        yield "timeline", "Timeline", timeline(build, found)
        yield "graph", "Graph", graph(build, found if performed else Timing())  # the time of looking up is no path to be shortened
    else:
        yield "steps", "Steps", element("p", "The build has no steps." if build.status == "done" else "No step was reached.", class_="note")
    yield "changes", "What changed", changes(report, words)
    yield "layers", "Layers", treemap(report)
    if build.steps:
        yield "ledger", "Ledger", ledger(build)
    if (said := warnings(build)) is not None:
        yield "warnings", "Warnings", said
    if build.steps:
        yield "logs", "Logs", logs(report)


def _section(name: str, title: str, content: Html) -> Html:
    return element("section", element("h2", title, id=f"{name}-head"), content, id=name, aria_labelledby=f"{name}-head")


def _patterns() -> Html:
    """Hatches, which tell parts of bars apart without colors."""
    dense = element(
        "pattern",
        element("path", d="M-1 1L1 -1M0 6L6 0M5 7L7 5", class_="hatch"),
        id="hatch",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
    )
    dots = element(
        "pattern", element("circle", cx=2, cy=2, r=0.9, class_="dot"), id="dots", width=4, height=4, patternUnits="userSpaceOnUse"
    )
    return element("svg", element("defs", joined((dense, dots))), width=0, height=0, aria_hidden="true", class_="patterns")
