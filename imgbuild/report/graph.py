"""What needs what: stages as lanes, steps as boxes, drawn as SVG whose boxes are links, and the same as a table."""

from __future__ import annotations

from imgbuild.hints import Iterator, Mapping
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.insight.timing import Timing
from imgbuild.report.lanes import Item, places
from imgbuild.report.markup import Html, element, one_line, short
from imgbuild.report.quantities import number_text, seconds_text
from imgbuild.report.routes import Drawing, Measures, drawing, path_of
from imgbuild.report.squarify import Rectangle
from imgbuild.report.steps import icon, outcome_badge, outcome_class, place_of, sentence, step_link

_WIDTHS = (360, 300, 250, 198)
"""Of boxes, where there are so many lanes; where there are more, 210 again."""
_LETTER, _SMALL = 7.25, 6.3
"""How wide a letter is in the two sizes."""


def items_of(build: BuildRecord) -> list[Item]:
    """The steps, and the images that their stages start from."""
    names = {base.get("digest", ""): base.get("name", "") for base in build.bases}
    known = {step.number for step in build.steps}
    bases: dict[str, str] = {}
    steps = []
    for step in sorted(build.steps, key=lambda step: step.number):
        needs = [f"#{other}" for other in (step.parent, *step.reads) if other in known and other < step.number]
        if step.parent is None and step.base in names:
            bases.setdefault(step.base, f"{step.platform} {step.stage}")
            needs.insert(0, step.base)
        chain = f"{step.platform} {step.stage}"
        # A TEST runs beside the steps that follow it.
        steps.append(Item(f"#{step.number}", f"{chain} TEST {step.number}" if step.test else chain, tuple(dict.fromkeys(needs))))
    return [*(Item(digest, chain) for digest, chain in bases.items()), *steps]


def graph(build: BuildRecord, found: Timing) -> Html:
    """The section's content."""
    items = items_of(build)
    placed = places(items)
    lanes = 1 + max(place.lane for place in placed.values())
    measures = Measures(box_width=_WIDTHS[lanes - 1] if lanes <= len(_WIDTHS) else 210)
    heads = _heads(build)
    drawn = drawing(placed, [(need, item.name) for item in items for need in item.needs], heads.values(), measures)
    names = {base.get("digest", ""): base.get("name", "") for base in build.bases}
    critical = {f"#{step.number}" for step in found.path}
    picture = element(
        "svg",
        _lines(drawn, critical),
        _labels(drawn, heads),
        _bases(drawn, names),
        _boxes(build, drawn, critical),
        viewBox=f"0 0 {number_text(drawn.width)} {number_text(drawn.height)}",
        width=number_text(drawn.width),
        height=number_text(drawn.height),
        role="group",
        aria_label="The graph of steps; the table below says the same",
        id="graph-svg",
    )
    hint = element("p", "Arrow keys go from step to step, Enter leads to its costs.", class_="hint js")
    return element(
        "div",
        element("div", picture, class_="scroll graph", tabindex=0, role="region", aria_label="Graph, to be scrolled"),
        _legend(build, found),
        hint,
        _table(build, found),
        class_="graph-all",
    )


def _heads(build: BuildRecord) -> dict[str, str]:
    """The first step of each stage, by the stage's name; with its platform, where there are several."""
    several = len({step.platform for step in build.steps}) > 1
    heads: dict[str, str] = {}
    for step in build.steps:
        if not step.test:
            heads.setdefault(f"{step.stage} ({step.platform})" if several else step.stage, f"#{step.number}")
    return heads


def _lines(drawn: Drawing, critical: set[str]) -> Iterator[Html]:
    for strong in (False, True):
        for line in drawn.lines:
            if strong == (line.start in critical and line.end in critical):
                yield element("path", d=path_of(line.points), class_="edge strong" if strong else "edge")


def _labels(drawn: Drawing, heads: Mapping[str, str]) -> Iterator[Html]:
    for stage, name in heads.items():
        box = drawn.boxes[name]
        most = int(box.width / _SMALL)
        yield element("text", short(stage, most), x=number_text(box.x + 2), y=number_text(box.y - 6), class_="stage")


def _bases(drawn: Drawing, names: Mapping[str, str]) -> Iterator[Html]:
    for digest, name in names.items():
        if digest in drawn.boxes:
            box = drawn.boxes[digest]
            text = short(name or digest, int((box.width - 40) / _LETTER))
            yield element(
                "g",
                _rectangle(box, box.height / 2),
                element("text", text, x=number_text(box.x + box.width / 2), y=number_text(box.y + 24), text_anchor="middle", class_="what"),
                element("title", f"base image {name} {digest}"),
                class_="base",
            )


def _boxes(build: BuildRecord, drawn: Drawing, critical: set[str]) -> Iterator[Html]:
    for step in build.steps:
        name = f"#{step.number}"
        box = drawn.boxes[name]
        text = short(step.text, int((box.width - 34) / _LETTER))
        took = "" if step.outcome == "cached" else f" · {seconds_text(step.seconds)}"
        below = short(f"{name} · {place_of(step)}{took}", int((box.width - 34) / _SMALL))
        classes = f"node {outcome_class(step.outcome)}{' critical' if name in critical else ''}"
        yield element(
            "a",
            element("title", f"{sentence(step)}\n{one_line(step.text)[:1000]}"),
            _rectangle(box, 5),
            element("rect", x=number_text(box.x), y=number_text(box.y), width=5, height=number_text(box.height), class_="mark"),
            element("text", icon(step.outcome), x=number_text(box.x + 17), y=number_text(box.y + 25), text_anchor="middle", class_="shape"),
            element("text", text, x=number_text(box.x + 29), y=number_text(box.y + 17), class_="what"),
            element("text", below, x=number_text(box.x + 29), y=number_text(box.y + 32), class_="where"),
            href=f"#step-{step.number}",
            class_=classes,
            aria_label=sentence(step) + (", on the critical path" if name in critical else ""),
        )


def _rectangle(box: Rectangle, round_: float) -> Html:
    return element(
        "rect",
        x=number_text(box.x),
        y=number_text(box.y),
        width=number_text(box.width),
        height=number_text(box.height),
        rx=number_text(round_),
        class_="box",
    )


def _legend(build: BuildRecord, found: Timing) -> Html:
    words = {"cached": "found in the cache", "done": "performed"}
    outcomes = [
        outcome
        for outcome in ("cached", "done", "failed", "canceled", "interrupted", "running")
        if any(step.outcome == outcome for step in build.steps)
    ]
    keys = [
        element(
            "li",
            element("i", icon(outcome), class_=f"shape {outcome_class(outcome)}", aria_hidden="true"),
            f" {words.get(outcome, outcome)}",
        )
        for outcome in outcomes
    ]
    if found.path:
        line = element("svg", element("path", d="M1 6H25", class_="edge strong"), width=26, height=12, aria_hidden="true")
        keys.append(element("li", line, " critical path"))
    return element("ul", keys, class_="legend")


def _table(build: BuildRecord, found: Timing) -> Html:
    critical = {step.number for step in found.path}
    rows = [
        element(
            "tr",
            element("th", step_link(step), scope="row"),
            element("td", outcome_badge(step.outcome)),
            element("td", _needs(build, step)),
            element("td", "yes" if step.number in critical else ""),
        )
        for step in build.steps
    ]
    heads = [element("th", head, scope="col") for head in ("Step", "Outcome", "Stands on, and reads", "On the critical path")]
    table = element("table", element("thead", element("tr", heads)), element("tbody", rows))
    return element(
        "details",
        element("summary", "The graph as a table"),
        element("div", table, class_="scroll", tabindex=0, role="region", aria_label="The graph as a table"),
    )


def _needs(build: BuildRecord, step: StepRecord) -> str:
    names = {base.get("digest", ""): base.get("name", "") for base in build.bases}
    below = f"#{step.parent}" if step.parent is not None else names.get(step.base) or ("an image" if step.base else "nothing")
    return ", ".join([below, *(f"reads #{other}" for other in step.reads)])
