"""The rows of the table: what is prepared, what is timed, and what is to be reached."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import tools
from benchmarks.measure import Command

Timed = Iterator[list[Command]]

_SHORT = 7
"""How often what takes a moment is done in a round: the machine's other work weighs more there."""


@dataclass(frozen=True, slots=True)
class Row:
    """`timed` is a context: what comes before the yield is prepared, what it yields is timed. `target`: the ratio to the fastest peer
    that is to be reached; `seconds`: a bound for the median itself, `beyond`: for the median less that of the reference. `rounds` at most,
    in each of them so many `times`. `tag`: the image whose contents are compared. `launches`: only for those that have containers.
    `why`: said where it is not reached."""

    name: str
    timed: Callable[[Any, int], contextlib.AbstractContextManager[list[Command]]]
    target: float | None = None
    seconds: float | None = None
    beyond: float | None = None
    rounds: int = 1_000
    times: int = 1
    tag: str = ""
    launches: bool = False
    why: str = ""


@dataclass(slots=True)
class Place:
    """Where everything is."""

    directory: Path
    contexts: Path
    pulled: str = ""
    edits: int = field(default=0)

    def file(self, name: str) -> Path:
        return self.contexts / f"{name}.Buildfile"

    def context(self, name: str) -> Path:
        return self.contexts / name


def rows(place: Place) -> list[Row]:
    """All rows that need no more than busybox, then those of the Python app, in the order of the table."""

    @contextlib.contextmanager
    def cold(tool: Any, number: int, name: str) -> Timed:
        tool.fresh()
        yield tool.build(place.file(name), place.context(name), f"bench-{name}")

    @contextlib.contextmanager
    def pushed(tool: Any, number: int, name: str) -> Timed:
        tool.fresh()
        with tools.registry(place.directory / "registry") as url:
            yield tool.build(place.file(name), place.context(name), "", push=f"{url}/bench-{name}:1")

    @contextlib.contextmanager
    def again(tool: Any, number: int, name: str) -> Timed:
        build = tool.build(place.file(name), place.context(name), f"bench-{name}")
        for command in build:
            tool.do(*command.argv)
        yield build

    @contextlib.contextmanager
    def edited(tool: Any, number: int, name: str, file: str) -> Timed:
        with again(tool, number, name) as build:
            place.edits += 1
            (place.context(name) / file).write_text(f"changed {place.edits}\n")
            yield build

    def of(what: Callable[..., Any], *arguments: str) -> Callable[[Any, int], Any]:
        return lambda tool, number: what(tool, number, *arguments)

    @contextlib.contextmanager
    def run(tool: Any, number: int) -> Timed:
        yield tool.run("busybox", "true")

    @contextlib.contextmanager
    def execute(tool: Any, number: int) -> Timed:
        tool.start("busybox", "bench-waiting")
        try:
            yield tool.execute("bench-waiting", "true")
        finally:
            tool.stop("bench-waiting")

    @contextlib.contextmanager
    def pull(tool: Any, number: int) -> Timed:
        tool.forget(place.pulled)
        yield tool.run(place.pulled, "true")

    return [
        Row(
            "one RUN: cold",
            of(cold, "one"),
            0.45,
            times=_SHORT,
            tag="bench-one",
            why="two thirds are Python's start and the code of some 190 modules; next: the Buildfile lowered by another process",
        ),
        Row(
            "one RUN: cached",
            of(again, "one"),
            0.8,
            times=_SHORT,
            why="Python's start is most of it, buildah's none; next: fewer modules",
        ),
        Row(
            "20 RUN: cold",
            of(cold, "many"),
            0.2,
            times=2,
            tag="bench-many",
            why="a step is two forks of Python with their pages, the end of its namespaces, and its capture; next: a smaller zygote",
        ),
        Row("20 RUN: cached", of(again, "many"), 0.7, times=_SHORT, why="Python's start is most of it; next: fewer modules"),
        Row(
            "20 steps: edit of the last COPY",
            of(edited, "edit", "f"),
            0.6,
            times=_SHORT,
            why="two thirds are Python's start and the code of 180 modules; next: fewer and smaller modules",
        ),
        Row(
            "four parallel stages: cold",
            of(cold, "stages"),
            0.75,
            tag="bench-stages",
            why="one second of it is sleep, which by itself is 0.8 of the fastest peer's time; four commands begin on two cores at once; "
            "next: a sandbox that is ready for each of them",
        ),
        Row("four parallel stages: cached", of(again, "stages"), times=_SHORT),
        Row(
            "COPY of 20,000 files: cold",
            of(cold, "files"),
            0.1,
            rounds=3,
            times=2,
            tag="bench-files",
            why="five calls for each file and its digest are a third of it, the compressor a quarter; next: the walk by several processes",
        ),
        Row(
            "COPY of 20,000 files: unchanged",
            of(again, "files"),
            0.35,
            rounds=4,
            why="one walk and one stat for each file; next: the walk by several processes",
        ),
        Row("COPY of 20,000 files: one changed", of(edited, "files", "src/d7/e3/f5.txt"), 0.5, rounds=3),
        Row("COPY of 20,000 files: cold and push", of(pushed, "files"), rounds=2),
        Row("RUN that writes 512 MiB: cold and push", of(pushed, "step"), 0.6, rounds=2),
        Row("COPY of a 512 MiB file: cold and push", of(pushed, "large"), 0.6, rounds=2),
        Row("COPY of a 512 MiB file: unchanged", of(again, "large"), 0.8, why="Python's start is most of it; next: fewer modules"),
        Row(
            "Python app: cold and push",
            of(pushed, "app"),
            0.8,
            rounds=3,
            why="pip itself is most of it, the same for all; next: what comes before and after it",
        ),
        Row(
            "Python app: edit of the app",
            of(edited, "app", "app/__main__.py"),
            0.6,
            times=_SHORT,
            why="two thirds are Python's start and the byte code of 180 modules; next: fewer and smaller modules",
        ),
        Row(
            "pull of 300 MB, and a first command",
            pull,
            0.2,
            rounds=3,
            times=2,
            why="gunzip and two hashes are two thirds of its processor time, Python's start and imports an eighth; next: fewer modules",
        ),
        Row(
            "run --rm true",
            run,
            0.3,
            beyond=0.04,
            times=_SHORT,
            launches=True,
            why="Python's start and imports are most of it; next: fewer modules",
        ),
        Row("exec true", execute, seconds=0.06, times=_SHORT, launches=True, why="Python's start is half of it; next: fewer modules"),
    ]
