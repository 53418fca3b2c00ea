"""Why steps were performed, and what else is not as in the build before."""

from __future__ import annotations

from imgbuild.hints import Iterator, Sequence
from imgbuild.insight.beside import Comparison, StepPair
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.insight.cause import Cause
from imgbuild.insight.causes import recorded_causes
from imgbuild.report import CauseWords, Report
from imgbuild.report.markup import Child, Html, element, short
from imgbuild.report.quantities import count_text, moment_text, seconds_text
from imgbuild.report.steps import number_link, step_link

_FEW, _MOST = 3, 60
"""Causes of one step that are said at once, and that are listed."""
_LISTED = 10
"""Steps that came or went that are shown without being asked for."""
_WORDS = {"key": "with another key", "text": "another instruction", "added": "new", "removed": "no longer there"}


def changes(report: Report, words: CauseWords) -> Html:
    """The section's content."""
    roots, with_them = _grouped(report.build.steps)
    why = element("ul", [_why(step, with_them.get(step.number, []), words) for step in roots], class_="causes") if roots else None
    if why is None and report.build.steps:
        found = all(step.outcome == "cached" for step in report.build.steps)
        text = "Every step that was reached was found in the cache." if found else "It is not recorded (yet) why steps were performed."
        why = element("p", text, class_="note")
    head = element("h3", "Why steps were performed") if why else None
    return element("div", head, why, element("h3", "Since the build before"), list(_since(report)))


def _grouped(steps: Sequence[StepRecord]) -> tuple[list[StepRecord], dict[int, list[StepRecord]]]:
    """Steps with causes of their own, and, by their numbers, those that were performed only because they stand on one of them."""
    missed = {step.number: step for step in steps if step.causes}
    below: dict[int, int] = {}
    for number, step in missed.items():
        cause = step.causes[0]
        on = str(cause.get("subject", "")).removeprefix("#")
        if len(step.causes) == 1 and cause.get("kind") == "parent" and on.isdigit() and int(on) in missed and int(on) < number:
            below[number] = below.get(int(on), int(on))
    with_them: dict[int, list[StepRecord]] = {}
    for number, root in below.items():
        with_them.setdefault(root, []).append(missed[number])
    return [step for number, step in missed.items() if number not in below], with_them


def _why(step: StepRecord, with_it: Sequence[StepRecord], words: CauseWords) -> Html:
    said = recorded_causes(step.causes)
    every = recorded_causes(step.differs) or (said if len(said) > _FEW else [])
    left = max(0, len(said) - _FEW) + (step.more if said == every or not step.differs else 0)
    text = "; ".join(_said(cause, words) for cause in said[:_FEW]) + (f"; and {left:,} more" if left else "")
    others: list[Child] = []
    for other in with_it:
        others += [", " if others else None, number_link(other.number, short(other.text, 100))]
    return element(
        "li",
        step_link(step, 80),
        element("span", text, class_="why"),
        element("span", "and with it ", others, class_="with") if others else None,
        _all(step, every, words),
    )


def _said(cause: Cause, words: CauseWords) -> str:
    return words(cause).replace(" -> ", " → ")


def _all(step: StepRecord, every: Sequence[Cause], words: CauseWords) -> Html | None:
    if not every or every == [Cause("parent")]:
        return None
    against = step.against
    compared = f", compared with #{against.get('number')} of build {against.get('build')}" if against else ""
    left = len(every) - _MOST + step.more if len(every) > _MOST else step.more
    items = [
        element("li", _said(cause, words) if cause.kind != "parent" or cause.subject else "the step before it") for cause in every[:_MOST]
    ]
    items += [element("li", f"and {left:,} more", class_="place")] if left > 0 else []
    count = len(every) + step.more
    head = f"{count_text(count, 'field')} {'differs' if count == 1 else 'differ'}{compared}"
    return element("details", element("summary", head), element("ul", items))


def _since(report: Report) -> Iterator[Html]:
    before, found = report.before, report.comparison
    if before is None or found is None:
        yield element("p", "No earlier build of this is recorded.", class_="note")
        return
    facts = f"{before.status}, {seconds_text(before.seconds)}, {moment_text(before.started)}"
    yield element("p", "Compared with build ", element("code", before.id), f" ({facts}): {_counted(found)}.")
    if found.changes:
        heads = element("tr", [element("th", head, scope="col") for head in ("What", "Before", "Now")])
        rows = [
            element("tr", element("th", change.name, scope="row"), _value(change.first), _value(change.second)) for change in found.changes
        ]
        table = element("table", element("thead", heads), element("tbody", rows), class_="facts")
        yield element("div", table, class_="scroll", tabindex=0, role="region", aria_label="What differs")
    listed = [pair for pair in found.steps if pair.what in ("text", "added", "removed")]
    if listed:
        pairs = element("ul", [_pair(pair, report.build) for pair in listed], class_="pairs")
        summary = element("summary", f"{count_text(len(listed), 'step')} that came, went or became another")
        yield pairs if len(listed) <= _LISTED else element("details", summary, pairs)


def _counted(found: Comparison) -> str:
    counts = {what: sum(pair.what == what for pair in found.steps) for what in ("same", *_WORDS)}
    said = [f"{count_text(counts['same'], 'step')} the same"]
    return ", ".join([*said, *(f"{counts[what]:,} {word}" for what, word in _WORDS.items() if counts[what])])


def _value(text: str) -> Html:
    return element("td", element("code", short(text, 300)) if text else element("span", "none", class_="place"))


def _pair(pair: StepPair, build: BuildRecord) -> Html:
    new = step_link(pair.second, 80) if pair.second is not None and build.step(pair.second.number) is not None else None
    old = element("del", element("code", short(pair.first.text, 80))) if pair.first is not None else None
    return element("li", element("span", _WORDS[pair.what], class_="place"), " ", old, " → " if old and new else None, new)
