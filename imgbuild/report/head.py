"""What a reader wants to know first: what was built, how it ended, what it took; of a failure, why."""

from __future__ import annotations

from imgbuild.hints import Any, Iterator, Mapping
from imgbuild.insight.builds import BuildRecord
from imgbuild.insight.timing import Timing
from imgbuild.report import Report
from imgbuild.report.ansi import Style
from imgbuild.report.logs import painted
from imgbuild.report.markup import Child, Html, element, short
from imgbuild.report.quantities import UNKNOWN, count_text, moment_code, moment_text, seconds_text, share_text, size_text

_ICONS = {"done": "✓", "failed": "✕", "canceled": "⊘", "interrupted": "⊘", "running": "…"}


def title_of(build: BuildRecord) -> str:
    """What the build is known by: its names, else its target or its Buildfile."""
    target = build.bake_target or build.target
    name = ", ".join(build.names) or build.buildfile.rpartition("/")[2] or build.context or "a build"
    return f"{name} ({target})" if target else name


def summary(report: Report, found: Timing) -> Html:
    """The head of the page: title, status, numbers."""
    build = report.build
    status = element(
        "span",
        element("i", _ICONS.get(build.status, "?"), aria_hidden="true"),
        f" {build.status or 'unknown'}",
        class_=f"status s-{build.status if build.status in _ICONS else 'other'}",
    )
    when = element("time", moment_text(build.started), datetime=moment_code(build.started))
    line = element("p", "build ", element("code", build.id), " · ", when, class_="sub")
    tiles = element(
        "dl",
        [
            element("div", element("dt", name), element("dd", value, element("small", more) if more else None))
            for name, value, more in _tiles(report, found)
        ],
        class_="tiles",
    )
    facts = [element("div", element("dt", name), element("dd", value)) for name, value in _facts(build)]
    return element(
        "div",
        element("div", element("h1", short(title_of(build), 200)), status, class_="title"),
        line,
        tiles,
        element("dl", facts, class_="about"),
    )


def _tiles(report: Report, found: Timing) -> Iterator[tuple[str, str, str]]:
    build = report.build
    running = build.status == "running"
    yield "Total", UNKNOWN if running else seconds_text(build.seconds), "not over yet" if running else ""
    if found.path and not running:
        yield "Critical path", seconds_text(found.path_seconds), count_text(len(found.path), "step")
        yield "Parallelism", f"{found.parallelism:.1f}×", f"{found.most} at most"
    cached = sum(step.outcome == "cached" for step in build.steps)
    yield "Cached", f"{cached} of {len(build.steps)}", share_text(cached, len(build.steps)) if build.steps else ""
    performed = sum(step.outcome == "done" for step in build.steps)
    others = len(build.steps) - cached - performed
    yield "Performed", str(performed), f"{others} {'not over yet' if running else 'did not end well'}" if others else ""
    if report.of_image and report.layers:
        of = f", for one of {len(build.platforms)} platforms" if len(build.platforms) > 1 else ""
        yield "Image", size_text(sum(layer.size for layer in report.layers)), f"in {count_text(len(report.layers), 'layer')}{of}"
    if found.waited:
        yield "Waited", seconds_text(found.waited), "for memory"
    if build.warnings:
        yield "Warnings", str(len(build.warnings)), ""


def _facts(build: BuildRecord) -> Iterator[tuple[str, Child]]:
    """What was asked for; a text that could be long is one that is cut."""
    options = ", ".join(f"{name.replace('_', '-')} {_option(value)}".rstrip() for name, value in build.options.items())
    bases = [
        element("span", base.get("name", ""), " ", element("code", base.get("digest", "")[:19], class_="place"), class_="item")
        for base in build.bases
    ]
    code = [
        ("Buildfile", build.buildfile),
        ("Context", build.context),
        ("Digest", build.digest),
        ("Image", build.image),
        ("Arguments", ", ".join(f"{name}={value}" for name, value in build.args.items())),
        ("Options", options),
        ("Secrets", ", ".join(build.secrets)),
        ("The same as build", build.same),
    ]
    yield from ((name, element("code", short(value, 600))) for name, value in code[:2] if value)
    if build.platforms:
        yield "Platforms", ", ".join(build.platforms)
    if bases:
        yield "Bases", bases
    yield from ((name, element("code", short(value, 600))) for name, value in code[2:] if value)
    if build.bake:
        yield "Bake", element("code", f"{build.bake_target} of {build.bake}")


def failure(build: BuildRecord) -> Html | None:
    """Why a build ended without a result."""
    error = build.error
    if error is None:
        return None
    failed = [step for step in build.steps if step.outcome == "failed" and step.error is not None and step.error.message == error.message]
    place = element("p", element("code", _place(error.file, error.line, error.end_line)), class_="place") if error.file else None
    links = [
        element(
            "p",
            element("a", f"Log of step #{step.number}", href=f"#log-{step.number}"),
            " · ",
            element("a", "its costs", href=f"#step-{step.number}"),
        )
        for step in failed
        if step.log
    ]
    return element(
        "div",
        element("p", error.message, class_="message"),
        place,
        source_lines(error.source, error.line, error.column, error.end_column) if error.source else None,
        _last_lines(error.detail.rstrip("\n")) if error.detail else None,
        [element("p", element("b", "Note "), line) for line in error.notes.splitlines()],
        element("p", element("b", "Hint "), error.hint) if error.hint else None,
        links,
    )


def _last_lines(text: str) -> Html:
    return element("pre", painted(text, Style()), class_="detail", tabindex=0, role="region", aria_label="Last lines of output")


def source_lines(source: str, first: int, column: int = 0, end_column: int = 0) -> Html:
    """Lines of a Buildfile with their numbers; what is meant of the first is marked."""
    shown = []
    for number, line in enumerate(source.split("\n"), first):
        text: Child = line
        if number == first and 0 < column <= len(line):
            end = end_column - 1 if column < end_column <= len(line) + 1 else len(line)
            text = [line[: column - 1], element("mark", line[column - 1 : end]), line[end:]]
        shown.append(element("span", element("span", f"{number:>4} ", class_="no"), text, "\n", class_="src"))
    return element("pre", shown, class_="source", tabindex=0, role="region", aria_label="Lines of the Buildfile", translate="no")


def warnings(build: BuildRecord) -> Html | None:
    """What lint said, with its lines, and all else that was to be known."""
    if not build.warnings and not build.notices:
        return None
    notices = [element("li", element("p", notice)) for notice in build.notices]
    return element("ul", [_warning(each) for each in build.warnings], notices, class_="warnings")


def _warning(found: Mapping[str, Any]) -> Html:
    line, end_line = (value if type(value := found.get(name)) is int else 0 for name in ("line", "end_line"))
    place = element("code", _place(str(found.get("file", "")), line, end_line))
    words = element("p", place, " ", element("b", str(found.get("rule", ""))), " ", str(found.get("message", "")))
    return element("li", words, source_lines(str(found["source"]), line) if found.get("source") else None)


def _place(file: str, line: int, end_line: int) -> str:
    last = f"-{end_line}" if end_line > line else ""
    return f"{file}:{line}{last}" if line else file


def _option(value: object) -> str:
    if value is True:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
