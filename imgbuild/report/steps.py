"""Steps as every part of the page shows them: their shape and word for how they ended, their place and instruction, the way to them."""

from __future__ import annotations

from imgbuild.hints import Mapping
from imgbuild.insight.builds import StepRecord
from imgbuild.report.markup import Html, element, one_line, short
from imgbuild.report.quantities import seconds_text

_ICONS: Mapping[str, str] = {"done": "●", "cached": "○", "failed": "✕", "canceled": "⊘", "interrupted": "⊘", "running": "…"}
"""Told apart by their shapes, too, and never by a color alone."""


def outcome_class(outcome: str) -> str:
    """The name that colors go by."""
    return f"o-{outcome}" if outcome in _ICONS else "o-other"


def icon(outcome: str) -> str:
    """The shape."""
    return _ICONS.get(outcome, "?")


def outcome_badge(outcome: str, extra: str = "") -> Html:
    """The shape and the word."""
    more = element("span", f" {extra}", class_="of") if extra else None
    return element("span", element("i", icon(outcome), aria_hidden="true"), f" {outcome}", more, class_=f"badge {outcome_class(outcome)}")


def place_of(step: StepRecord) -> str:
    """Where in its stage the step is: ``build 2/5``."""
    return step.name.partition("] ")[0].removeprefix("[") if step.name.startswith("[") and "] " in step.name else step.stage


def step_link(step: StepRecord, most: int = 120, *, critical: bool = False, line: bool = False) -> Html:
    """Its number, place and instruction, leading to its row of the ledger; with its `line` of the Buildfile, where that is asked for."""
    written = f" · {step.file.rpartition('/')[2]}:{step.line}" if line and step.line else ""
    return element(
        "a",
        element("span", f"#{step.number}", class_="num"),
        " ",
        element("code", short(step.text, most), title=one_line(step.text)[:2000] if len(one_line(step.text)) > most else None),
        " ",
        element("span", place_of(step) + written, class_="place"),
        element("span", " critical path", class_="sr") if critical else None,
        href=f"#step-{step.number}",
        class_="step",
    )


def number_link(number: int, title: str = "") -> Html:
    """Its number alone."""
    return element("a", f"#{number}", href=f"#step-{number}", title=title or None)


def sentence(step: StepRecord) -> str:
    """All that a picture of it says, for who does not see it."""
    parts = [f"step {step.number}, {place_of(step)}: {short(step.text, 100)}; {step.outcome}"]
    if step.outcome != "cached" or step.seconds:
        parts.append(f"started at {seconds_text(step.started)}, took {seconds_text(step.seconds)}")
    if step.waited:
        parts.append(f"of which it waited {seconds_text(step.waited)}")
    if step.outcome == "done" and step.capture:
        parts.append(f"capture {seconds_text(step.capture)}")
    return ", ".join(parts)
