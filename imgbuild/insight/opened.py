"""What the record of a RUN says of the files of the build context that it has not opened (`solve.opened` wrote it). Pure."""

from __future__ import annotations

from imgbuild.hints import Any, Mapping, NamedTuple
from imgbuild.insight.builds import StepRecord
from imgbuild.values import dataclass


class Row(NamedTuple):
    """Something that nobody opened, by its path in the build context (a directory with all that is in it), and its place in the stage;
    `listed`: names in it, or in the directory that it is in, were."""

    path: str
    place: str
    files: int
    size: int
    listed: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a COPY, as the record of a RUN above it has it."""

    files: int
    rows: tuple[Row, ...]
    more: int
    """Of the rows, which are not recorded."""


def parts_of(record: Mapping[str, Any], key: str) -> dict[tuple[str, str], Part]:
    """Of a RUN's record, what it says of a COPY, by source and target; nothing of what has another form."""
    found = {}
    for part in parts if isinstance(parts := record.get("parts"), list) else ():
        try:
            if part["key"] == key:
                rows = tuple(_row(part["source"], part["target"], *row) for row in part["unopened"])
                found[part["source"], part["target"]] = Part(int(part["files"]), rows, int(part.get("more", 0)))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _row(source: str, target: str, path: str, files: int, size: int, listed: bool) -> Row:
    return Row(_joined(source, path), _joined(target, path), int(files), int(size), bool(listed))


def _joined(directory: str, path: str) -> str:
    return f"{directory.rstrip('/')}/{path}" if directory and path else directory or path


def needless(run: StepRecord, copy: StepRecord) -> bool | None:
    """Whether a RUN opened none of the files for whose changes alone the COPY below it was performed; None where that is not known, or the
    names of any were listed, or it is gone."""
    paths, parts = changed_alone(copy), parts_of(run.opened, copy.key).values()
    found = [[row for part in parts for row in part.rows if within(path, row.path)] for path in paths]
    gone = any("removed" in str(cause.get("what")) for cause in copy.differs or copy.causes)
    if not paths or not parts or gone or any(row.listed for rows in found for row in rows):
        return None
    return True if all(found) else None if any(part.more for part in parts) else False


def changed_alone(step: StepRecord) -> list[str]:
    """The files for whose changes a COPY was performed; none where it was for anything else as well, or not all are known."""
    causes = step.differs or step.causes
    alone = step.outcome == "done" and not step.more and all(each.get("kind") == "file" and not each.get("where") for each in causes)
    return [str(each.get("subject", "")) for each in causes] if alone else []


def within(path: str, directory: str) -> bool:
    return not directory or path == directory or path.startswith(f"{directory}/")
