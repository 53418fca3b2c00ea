"""What it costs that imgbuild can say why: the same work with and without records, causes, logs and the ledger, in turns."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from benchmarks import tools, workloads
from benchmarks.measure import Launcher, Sample
from benchmarks.results import Overhead

ROWS = {"one RUN: cold": 41, "20 RUN: cold": 41, "20 steps: edit of the last COPY": 61, "COPY of 20,000 files: one changed": 15}
"""Rows of the table, and how often each is done both ways."""


def overheads(
    launcher: Launcher, place: workloads.Place, base: Path, directory: Path, *, only: str, say: Callable[[str], None]
) -> list[Overhead]:
    """Measure the rows whose name matches; `base` is the archive of busybox."""
    directory.mkdir()
    ways = (tools.Imgbuild(directory / "with"), tools.Imgbuild(directory / "without", without="records"))
    chosen = [row for row in workloads.rows(place) if row.name in ROWS and re.search(only, row.name)]
    found = []
    for tool in ways if chosen else ():
        tool.load(base, "busybox")
    for row in chosen:
        samples: tuple[list[Sample], list[Sample]] = ([], [])
        for number in range(ROWS[row.name]):
            for way in (0, 1) if number % 2 else (1, 0):
                with row.timed(ways[way], number) as commands:
                    samples[way].append(launcher.run(commands, ways[way].account, directory / "log"))
        found.append(Overhead(row.name, *([sample.seconds for sample in each] for each in samples)))
        say(f"{row.name}: {found[-1].ratio():.3f} with records")
    for tool in ways:
        tool.account.close()
    return found
