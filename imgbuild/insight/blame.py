"""Who wrote a path of an image: its layers by what they say of it, and by the instructions that made them. Pure."""

from __future__ import annotations

from typing import Any

from imgbuild.hints import Iterable, Iterator
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.oci.digest import DiffID
from imgbuild.snapshot.traces import Trace
from imgbuild.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a layer comes from. `number` counts from 1, the lowest; `instruction` and `created` are the history's. Of one that was made
    here, `build` and `step` are where it was seen last, `performed` both as they were recorded, `place` the line of its Buildfile, and
    `record` what its key was made from, while that is known."""

    number: int
    diff_id: DiffID
    instruction: str = ""
    created: str = ""
    build: str = ""
    step: int = 0
    place: str = ""
    record: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    performed: tuple[BuildRecord, StepRecord] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Blamed:
    """One thing that a layer did to a path: it wrote it, or deleted it with `at`, itself or what it was in. `source` is what a COPY or ADD
    took it from, "" where that is not known; `via` is who wrote it there, where that was another stage."""

    path: str
    trace: Trace
    origin: Origin
    source: str = ""
    via: Blamed | None = None


def decisive(found: Iterable[Trace]) -> Iterator[Trace]:
    """Traces, topmost first, without those of a directory that a layer only names on the way to something else."""
    held: Trace | None = None
    for trace in found:
        if held is not None and not _repeats(held, trace):
            yield held
        held = trace
    if held is not None:
        yield held


def _repeats(upper: Trace, lower: Trace) -> bool:
    one, other = upper.node, lower.node
    if one is None or other is None:
        return False
    return one.mode >> 12 == 4 and (one.mode, one.uid, one.gid) == (other.mode, other.uid, other.gid)


def copied_from(record: dict[str, Any], text: str, path: str) -> str:
    """What a COPY or ADD, of that record and text, took a path from: files of the build context by their paths, of a stage as
    ``PATH of --from=STAGE``. "" where that can't be said."""
    if record.get("op") != "CopyOp":
        return ""
    fields = record["fields"]
    whence = next((word for word in text.split() if word.startswith("--from=")), "")
    suffix = f" of {whence}" if whence else ""
    for document in fields.get("documents", ()):
        if path in _places(fields["destination"], document["name"]):
            return f"the heredoc {document['name']}"
    exact, below = [], []
    for key in record.get("inputs", {}):
        source, name = _input(key.partition(" ")[2])
        if name and path in _places(fields["destination"], name):
            exact.append(source)
        elif not name and not fields.get("parents") and (rest := _below(fields["destination"], path)) is not None:
            below.append(f"{source.rstrip('/')}/{rest}".strip("/") or ".")
    if fields.get("parents") and not exact:
        rest = _below(fields["destination"], path)
        below = [rest] if rest else []
    found = exact[-1:] or (below if len(below) == 1 else [])
    if found and not fields.get("unpack"):
        return _absolute(found[0], bool(whence)) + suffix
    urls = [word for word in text.split() if "://" in word or word.startswith("git@")]
    return urls[0] if len(urls) == 1 else ""


def _input(words: str) -> tuple[str, str]:
    """The source and the name of an input: the name, where there is one, is the end of the source, said once more."""
    for at in range(len(words) - 1, 0, -1):
        source, name = words[:at], words[at + 1 :]
        if words[at] == " " and name and source.rpartition("/")[2] == name:
            return source, name
    return words, ""


def _places(destination: str, name: str) -> tuple[str, ...]:
    inside = f"{destination.rstrip('/')}/{name}"
    return (inside,) if destination.endswith("/") else (destination, inside)


def _below(destination: str, path: str) -> str | None:
    top = destination.rstrip("/")
    if path == (top or "/"):
        return ""
    return path[len(top) + 1 :] if path.startswith(f"{top}/") else None


def _absolute(path: str, is_absolute: bool) -> str:
    return f"/{path.lstrip('/')}" if is_absolute else path
