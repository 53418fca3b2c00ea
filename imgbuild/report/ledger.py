"""What each step cost: a table, which the page's script lets readers sort."""

from __future__ import annotations

from imgbuild.hints import Callable, Iterable, Sequence
from imgbuild.insight.builds import BuildRecord, StepRecord, Usage
from imgbuild.report.markup import Html, element
from imgbuild.report.quantities import count_text, seconds_text, size_text
from imgbuild.report.steps import outcome_badge, step_link
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A number of a step: its head, what that means, the number (None: not known), and how it is written. `summed`: a sum of them means
    something."""

    head: str
    means: str
    value: Callable[[StepRecord], float | None]
    text: Callable[[float | None], str]
    summed: bool = True


def _cpu(step: StepRecord) -> float | None:
    usage = step.usage
    if usage is None or usage.cpu_seconds is not None:
        return None if usage is None else usage.cpu_seconds
    return None if usage.cpu_user is None or usage.cpu_system is None else usage.cpu_user + usage.cpu_system


def _used(name: str) -> Callable[[StepRecord], float | None]:
    return lambda step: getattr(step.usage, name) if step.usage is not None else None


def _made(name: str) -> Callable[[StepRecord], float | None]:
    return lambda step: getattr(step.layer, name) if step.layer is not None else None


def _entries(count: float | None) -> str:
    return count_text(None if count is None else int(count))


COLUMNS: tuple[Column, ...] = (
    Column("Time", "how long it was looked up and performed, waiting included", lambda step: step.seconds, seconds_text),
    Column("Waited", "for memory that other steps used", lambda step: step.waited or None, seconds_text),
    Column("Wall", "of its process", _used("wall_seconds"), seconds_text),
    Column("CPU", "of its processes, in user mode and in the kernel", _cpu, seconds_text),
    Column("Peak", "of its memory", _used("peak_memory"), size_text, summed=False),
    Column("Read", "of disks", _used("bytes_read"), size_text),
    Column("Written", "to disks", _used("bytes_written"), size_text),
    Column("Received", "from a network of its own", _used("network_received"), size_text),
    Column("Sent", "to a network of its own", _used("network_sent"), size_text),
    Column("Files", "entries of its layer: files, directories, deletions", _made("entries"), _entries),
    Column("Layer", "as a tar", _made("uncompressed"), size_text),
    Column("Stored", "compressed", _made("size"), size_text),
    Column("Capture", "of its layer, beside the steps that follow", lambda step: step.capture, seconds_text),
)


def ledger(build: BuildRecord) -> Html:
    """The section's content."""
    known = [
        column
        for column in COLUMNS
        if column.head in ("Time", "Wall", "CPU") or any(column.value(step) is not None for step in build.steps)
    ]
    heads = [
        _head("Step", "", "text"),
        _head("Outcome", "", "text"),
        *(_head(c.head, c.means, "number") for c in known),
        _head("Events", "", "text"),
    ]
    table = element(
        "table",
        element("thead", element("tr", heads)),
        element("tbody", [_row(step, known, build) for step in build.steps]),
        element("tfoot", _totals(build.steps, known)),
        id="ledger-table",
        class_="sortable",
    )
    note = element("p", "Of a cached step, all but its time is what it cost when it was performed.", class_="note", id="ledger-note")
    region = element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Costs of steps", aria_describedby="ledger-note")
    return element("div", note, region)


def events_of(usage: Usage | None) -> list[str]:
    """What happened to a step, in words."""
    if usage is None:
        return []
    killed = [f"{count_text(usage.oom_kills, 'process', 'processes')} killed for memory"] if usage.oom_kills else []
    held = [f"throttled {count_text(usage.throttled, 'time')}, {seconds_text(usage.throttled_seconds or 0.0)}"] if usage.throttled else []
    return killed + held


def _head(word: str, means: str, kind: str) -> Html:
    return element("th", word, scope="col", class_="n" if kind == "number" else None, data_sort=kind, title=means or None)


def _row(step: StepRecord, columns: Sequence[Column], build: BuildRecord) -> Html:
    other = step.build[:8] if step.outcome == "cached" and step.build not in ("", build.id) else ""
    events = events_of(step.usage)
    return element(
        "tr",
        element("th", step_link(step, 64, line=True), *_links(step), scope="row", data_v=step.number),
        element("td", outcome_badge(step.outcome, other), data_v=step.outcome),
        [_number(column, column.value(step)) for column in columns],
        element("td", "; ".join(events), class_="events" if events else None, data_v="; ".join(events)),
        id=f"step-{step.number}",
        tabindex=-1,
    )


def _links(step: StepRecord) -> Iterable[Html]:
    if step.log:
        yield element("a", "log", href=f"#log-{step.number}", class_="to-log", aria_label=f"Log of step {step.number}")


def _number(column: Column, value: float | None) -> Html:
    return element("td", column.text(value), class_="n" if value is not None else "n none", data_v="" if value is None else f"{value:.6f}")


def _totals(steps: Sequence[StepRecord], columns: Sequence[Column]) -> Html:
    return element("tr", element("th", "All", scope="row"), element("td"), [_total(steps, column) for column in columns], element("td"))


def _total(steps: Sequence[StepRecord], column: Column) -> Html:
    found = [value for value in map(column.value, steps) if value is not None]
    if not found:
        return element("td", column.text(None), class_="n none")
    word = None if column.summed else "max "
    return element(
        "td", element("span", word, class_="place") if word else None, column.text(sum(found) if column.summed else max(found)), class_="n"
    )
