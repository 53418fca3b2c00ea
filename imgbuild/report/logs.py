"""What steps wrote, line by line, with its colors and times; the page's script searches it."""

from __future__ import annotations

from imgbuild.hints import Iterable, Iterator
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.report import LogLine, Report, ReportLog
from imgbuild.report.ansi import Style, runs
from imgbuild.report.markup import Html, element, escaped, joined, short
from imgbuild.report.quantities import count_text, size_text
from imgbuild.report.steps import icon, outcome_class, place_of

MOST_LINE = 2000
"""Characters of a line that are shown."""


def logs(report: Report) -> Html:
    """The section's content."""
    shown = [log for log in report.logs if log.head or log.gone]
    if not shown:
        return element("p", "The steps wrote nothing.", class_="note")
    steps = {step.number: step for step in report.build.steps}
    failed = {step.number for step in report.build.steps if step.outcome == "failed"}
    only = len(shown) == 1
    return element("div", _search(), [_log(log, steps[log.step], report.build, log.step in failed or only) for log in shown], id="log-all")


def _search() -> Html:
    """What only a script can do is there only with it."""
    field = element("input", type="search", id="find", autocomplete="off", spellcheck="false", placeholder="text  ( / )")
    return element(
        "form",
        element("label", "Search logs ", field),
        element("button", "↑", type="button", id="find-before", aria_label="Previous match"),
        element("button", "↓", type="button", id="find-next", aria_label="Next match"),
        element("label", element("input", type="checkbox", id="find-only"), " only matching lines"),
        element("output", id="find-count", for_="find", aria_live="polite"),
        role="search",
        class_="find js",
        id="find-form",
    )


def _log(log: ReportLog, step: StepRecord, build: BuildRecord, opened: bool) -> Html:
    count = len(log.head) + len(log.tail) + log.lines_left_out
    facts = "no longer kept" if log.gone else count_text(count, "line")
    other = f" of build {log.build[:8]}" if log.build not in ("", build.id) else ""
    summary = element(
        "summary",
        element("i", icon(step.outcome), aria_hidden="true", class_=f"shape {outcome_class(step.outcome)}"),
        element("span", f"#{step.number}", class_="num"),
        element("code", short(step.text, 160)),
        element("span", f"{place_of(step)} · {step.outcome} · {facts}{other}", class_="place"),
    )
    style = Style()
    note = _left_out(log, step, build) if log.lines_left_out else None
    command = f"imgbuild builds log --step {log.step} --raw {build.id}"
    body = (
        element("p", "This log is no longer kept.", class_="note")
        if log.gone
        else element(
            "pre",
            _lines(log.head, style),
            note,
            _lines(log.tail, style),
            tabindex=0,
            role="region",
            aria_label=f"Log of step {log.step}",
            translate="no",
        )
    )
    cut = element("p", "All of it: ", element("code", command), class_="hint") if log.lines_left_out else None
    return element("details", summary, body, cut, class_="log", id=f"log-{log.step}", open=opened)


def _left_out(log: ReportLog, step: StepRecord, build: BuildRecord) -> Html:
    return element("span", f"… {count_text(log.lines_left_out, 'line')}, {size_text(log.bytes_left_out)}, left out here …", class_="cut")


def _lines(lines: Iterable[LogLine], style: Style) -> Html:
    """Each line in an element of its own, with its time where that is another one than before."""
    return joined(_line(line.text, time, style) for line, time in _timed(lines))


def _timed(lines: Iterable[LogLine]) -> Iterator[tuple[LogLine, str]]:
    last = None
    for line in lines:
        time = f"{line.seconds:.1f}"
        yield line, time if time != last else ""
        last = time


def _line(text: str, time: str, style: Style) -> Html:
    left = len(text) - MOST_LINE
    cut = f'<span class="cut">… {left:,} more characters</span>' if left > 0 else ""
    mark = f' data-t="{time}"' if time else ""
    return Html(f'<span class="l"{mark}>{painted(text[:MOST_LINE], style)}{cut}\n</span>')


def painted(text: str, style: Style) -> Html:
    """A text with its colors."""
    return Html("".join(_run(classes, part) for classes, part in runs(text, style)))


def _run(classes: str, text: str) -> str:
    return f'<span class="{classes}">{escaped(text)}</span>' if classes else escaped(text)
