"""What COPY and ADD bring into a stage, or a RUN mounts, and no command opens, while its changes have them performed: from records. Pure.

What is copied, only of stages that no image is made of: what an image holds may be opened when it runs. And only where all is known: each
RUN and TEST that stands on the files was watched (`solve.opened`), and whoever reads the stage from elsewhere names other paths.
"""

from __future__ import annotations

from imgbuild.hints import Any, Iterable, Iterator, Mapping, Sequence
from imgbuild.insight.advice import Advice, Past, counted, named, shown_bytes, took
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.insight.cache_advice import copies_context, runs_above, victim
from imgbuild.insight.opened import Part, Row, changed_alone, parts_of, within
from imgbuild.values import dataclass

_LEAST_SECONDS = 1.0
_LEAST_BYTES = 1 << 20
_SHOWN = 5
_ONBUILD = "ONBUILD of "
"""What the file of a step is called that a base's trigger is."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """That of a COPY's files nothing can be said, for a RUN of which it is not known what it opened, and why."""

    step: StepRecord
    why: str


def unopened(
    past: Past, opened: Mapping[int, Mapping[str, Any]], image: Iterable[str], unbuilt: Mapping[str, Sequence[str]]
) -> Iterator[Advice | Unknown]:
    """For each COPY, ADD and mount of the build context. `opened` has what was recorded of each step of the build when it was
    performed, by its number; `image` are the stages that the result is made of, and `unbuilt`, by stage, those that need it and are no
    part of the build."""
    final = frozenset(image)
    for step in past.build.steps:
        if copies_context(step) and step.stage not in final:
            found = _of(past.build, step, opened)
            if isinstance(found, Unknown):
                yield found
            elif found is not None:
                yield from _advice(past, step, *found, unbuilt.get(step.stage, ()))
        elif parts := parts_of(opened.get(step.number, {}), step.key):
            files = sum(part.files for part in parts.values())
            yield from _advice(past, step, files, [row for part in parts.values() for row in part.rows])


def _of(build: BuildRecord, step: StepRecord, opened: Mapping[int, Mapping[str, Any]]) -> tuple[int, list[Row]] | Unknown | None:
    """How many files a COPY has brought, and what of them nobody opened."""
    above, readers = _users(build, step)
    found: list[dict[tuple[str, str], Part]] = []
    for each in above:
        record = opened.get(each.number, {})
        if "parts" not in record:
            return Unknown(each, str(record.get("why") or "it was not recorded"))
        found.append(parts_of(record, step.key))
    if not found:
        return None
    parts = [[each[place] for each in found] for place in found[0] if all(place in each for each in found)]
    rows = [row for same in parts for row in _all(same)]
    for reader in readers:
        paths = opened.get(reader.number, {}).get("from")
        if not isinstance(paths, list) or not reader.text.startswith(("COPY", "ADD")):
            return None  # a mount of the stage shows all of it
        rows = [row for row in rows if not any(_overlap(row.place, str(path)) for path in paths)]
    return sum(same[0].files for same in parts), rows


def _users(build: BuildRecord, step: StepRecord) -> tuple[list[StepRecord], list[StepRecord]]:
    """The RUNs and TESTs that stand on a step, directly or not; and the steps that read a stage which does."""
    standing = {step.number}
    above, readers = [], []
    for each in sorted(build.steps, key=lambda other: other.number):
        if each.parent in standing:
            standing.add(each.number)
            if each.text.startswith("RUN") or each.test:
                above.append(each)
        if standing.intersection(each.reads):
            readers.append(each)
    return above, readers


def _all(parts: Sequence[Part]) -> Sequence[Row]:
    """What none of several RUNs opened of the same."""
    rows: Sequence[Row] = parts[0].rows
    for part in parts[1:]:
        rows = list(_both(rows, part.rows))
    return rows


def _both(rows: Sequence[Row], others: Sequence[Row]) -> Iterator[Row]:
    """What is in both: of two, one of which has the other, the smaller."""
    mine, theirs = {row.place: row for row in rows}, {row.place: row for row in others}
    for one, other in ((mine, theirs), (theirs, mine)):
        for place, row in one.items():
            same = other.get(place)
            if same is not None:
                if one is mine:
                    yield row._replace(listed=row.listed or same.listed)
            elif (above := next((other[up] for up in _ups(place) if up in other), None)) is not None:
                yield row._replace(listed=row.listed or above.listed)


def _ups(place: str) -> Iterator[str]:
    while "/" in place[1:]:
        place = place.rpartition("/")[0]
        yield place
    yield "/"


def _overlap(one: str, other: str) -> bool:
    return f"{one.rstrip('/')}/".startswith(f"{other.rstrip('/')}/") or f"{other.rstrip('/')}/".startswith(f"{one.rstrip('/')}/")


def _advice(past: Past, step: StepRecord, files: int, rows: Sequence[Row], unbuilt: Sequence[str] = ()) -> Iterator[Advice]:
    changed: dict[str, int] = {}
    spent: list[float] = []
    for build, each in past.same(step):
        paths = changed_alone(each)
        hit = {row.path for row in rows for path in paths if within(path, row.path)}
        if paths and all(any(within(path, row.path) for row in rows) for path in paths):
            again = [took(other) for above in runs_above(past.build, step) if (other := victim(build, each, above)) is not None]
            again += [] if copies_context(step) else [took(each)]
            spent += [sum(again)] if again else []
            changed |= {path: changed.get(path, 0) + 1 for path in hit}
    seconds, size = sum(spent), sum(row.size for row in rows)
    if seconds < _LEAST_SECONDS and size < _LEAST_BYTES:
        return
    order = sorted(rows, key=lambda row: (-changed.get(row.path, 0), -row.size, row.path))
    shown = [_shown(row) for row in order]
    count = sum(row.files for row in rows)
    copied = copies_context(step)
    ways = "by --exclude or a narrower source, or, " if copied else "by a narrower source, or, "
    if step.file.startswith(_ONBUILD):  # its line is another image's
        ways = ""
    who = "no RUN of its stage has" if copied else "it has never"
    message = f"leave out what {who} opened, {ways}if nothing else needs it, by the ignore file: {named(shown, _SHOWN)}"
    evidence = [f"of {counted(files, 'file')}, {count:,} with {shown_bytes(size)} were opened by none"]
    if spent:
        evidence.append(f"for changes of these alone, RUNs were performed in {counted(len(spent), 'build')}: {seconds:.1f} s")
    if listed := [row.path or "." for row in order if row.listed]:
        evidence.append(f"names were listed, which may count: {named(listed, _SHOWN)}")
    if unbuilt:
        evidence.append(f"not known is what is opened by stages that need this one and were not built: {named(unbuilt, _SHOWN)}")
    evidence.append("what is only looked at (test -f, the times that make compares) opens nothing")
    facts: dict[str, Any] = {
        "files": files, "unopened": count, "size": size, "builds": len(spent), "unbuilt": list(unbuilt),
        "paths": [{"path": row.path, "files": row.files, "size": row.size, "listed": row.listed} for row in order[:100]],
    }  # fmt: skip
    yield Advice("unopened", step, message, tuple(evidence), seconds, most=bool(listed or unbuilt), facts=facts)


def _shown(row: Row) -> str:
    return f"{row.path or '.'} ({counted(row.files, 'file')}, {shown_bytes(row.size)})"
