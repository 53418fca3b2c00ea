"""When steps ran: a bar each, of waiting, work and the capture beside what follows, with the critical path marked."""

from __future__ import annotations

import math

from imgbuild.hints import Iterator, Sequence
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.insight.timing import Timing
from imgbuild.report.markup import Html, element
from imgbuild.report.quantities import number_text, seconds_text
from imgbuild.report.steps import icon, outcome_class, sentence, step_link
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a step's time, in parts of a hundred of the whole: "wait", "work" or "capture"."""

    kind: str
    start: float
    width: float


def length(build: BuildRecord) -> float:
    """The seconds that the timeline is long."""
    ends = [step.started + step.seconds + (_capture(step) or 0.0) for step in build.steps]
    return max([build.seconds, *ends, 0.001])


def bars(step: StepRecord, whole: float) -> list[Bar]:
    """The parts of a step. A capture starts when its step ends."""
    waited = min(max(step.waited, 0.0), max(step.seconds, 0.0))
    spans = [
        ("wait", step.started, waited),
        ("work", step.started + waited, max(0.0, step.seconds - waited)),
        ("capture", step.started + step.seconds, _capture(step) or 0.0),
    ]
    return [_bar(kind, start, seconds, whole) for kind, start, seconds in spans if seconds > 0]


def ticks(whole: float, most: int = 6) -> list[float]:
    """Round numbers of seconds from 0 to the end, no more than `most` after the first."""
    rough = whole / most
    power = 10.0 ** math.floor(math.log10(rough))
    unit = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * unit for number in range(int(whole / unit + 1e-9) + 1)]


def timeline(build: BuildRecord, found: Timing) -> Html:
    """The section's content."""
    if all(step.outcome == "cached" for step in build.steps):
        count = "the one step" if len(build.steps) == 1 else f"all {len(build.steps)} steps"
        text = f"Nothing was performed: {count} were found in the cache, in {seconds_text(build.seconds)}."
        return element("p", text.replace("step were", "step was"), class_="note")
    whole = length(build)
    critical = {step.number for step in found.path}
    at = ticks(whole)
    rows = [_row(step, whole, at, step.number in critical) for step in build.steps]
    return element(
        "div",
        element("div", _axis(at, whole), class_="axis", aria_hidden="true"),
        element("ol", rows, class_="rows"),
        _legend(build),
        class_="timeline",
    )


def _row(step: StepRecord, whole: float, at: Sequence[float], critical: bool) -> Html:
    return element(
        "li",
        element(
            "div",
            element("i", icon(step.outcome), aria_hidden="true", class_=f"shape {outcome_class(step.outcome)}"),
            step_link(step, 90, critical=critical),
            class_="label",
        ),
        element(
            "svg",
            list(_drawn(step, whole, at)),
            class_=f"track {outcome_class(step.outcome)}",
            width="100%",
            height=25,
            role="img",
            aria_label=sentence(step),
        ),
        element("span", seconds_text(step.seconds), class_="took", aria_hidden="true"),
        class_=" ".join([*(["critical"] if critical else []), *(["found"] if step.outcome == "cached" else [])]) or None,
    )


def _drawn(step: StepRecord, whole: float, at: Sequence[float]) -> Iterator[Html]:
    yield element("title", sentence(step))
    for seconds in at:
        place = f"{number_text(100 * seconds / whole)}%"
        yield element("line", x1=place, x2=place, y1=0, y2=25, class_="grid")
    for bar in bars(step, whole):
        yield element(
            "rect", x=f"{number_text(bar.start)}%", width=f"{number_text(bar.width)}%", y=6, height=13, rx=1.5, class_=f"bar {bar.kind}"
        )
    if not step.seconds:
        yield element("circle", cx=f"{number_text(100 * step.started / whole)}%", cy=12.5, r=2.5, class_="moment")


def _axis(at: Sequence[float], whole: float) -> Html:
    marks = [
        element(
            "text",
            seconds_text(seconds) if seconds else "0",
            x=f"{number_text(100 * seconds / whole)}%",
            y=11,
            text_anchor="start" if not seconds else "end" if seconds > 0.96 * whole else "middle",
        )
        for seconds in at
    ]
    return element("svg", marks, width="100%", height=14)


def _legend(build: BuildRecord) -> Html:
    shown = [("work", "work"), ("capture", "capture of the layer, beside what follows")]
    if any(step.waited for step in build.steps):
        shown.insert(1, ("wait", "waiting for memory"))
    keys = [
        element(
            "li",
            element(
                "svg",
                element("rect", width=26, height=12, rx=1.5, class_=f"bar {kind}"),
                width=26,
                height=12,
                class_="o-done",
                aria_hidden="true",
            ),
            f" {word}",
        )
        for kind, word in shown
    ]
    keys.append(element("li", element("span", "◆", class_="diamond", aria_hidden="true"), " on the critical path"))
    return element("ul", keys, class_="legend")


def _bar(kind: str, start: float, seconds: float, whole: float) -> Bar:
    first = min(max(100 * start / whole, 0.0), 100.0)
    return Bar(kind, first, min(100 * seconds / whole, 100.0 - first))


def _capture(step: StepRecord) -> float | None:
    return step.capture if step.outcome == "done" else None
