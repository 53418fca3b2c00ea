"""make bench: times the rows of `workloads`, interleaved, and writes the table and the picture that the README shows.

    python -m benchmarks [--rounds N] [--only REGEX] [--peers docker,buildah,buildkit,crun] [--store DIR] [--growth] [--big] [--no-readme]

The store is on XFS on a loop device. In each round every row is done by everybody, one after another, in another order each time; short
ones several times. A ratio is only made between images that hold the same files. What is warm is the same for all: bases, the page cache,
and some of the free memory. So the disk is not waited for before something is timed: what is clean may be gone from the page cache a moment
later.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from demo import rootfs
from demo.machine import MachineError

from benchmarks import fixtures, growth, overhead, peers, tools, workloads
from benchmarks.contents import Contents, contents_of
from benchmarks.disk import Interrupted, interruptible, workspace
from benchmarks.measure import CommandFailed, Launcher
from benchmarks.plot import picture
from benchmarks.results import OURS, Growth, Overhead, Result, growth_table, overhead_table, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
_BEGIN, _END = "<!-- benchmark -->", "<!-- /benchmark -->"


def say(text: str) -> None:
    """To who waits; the results go to stdout."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name matches")
    parser.add_argument("--peers", default="docker,buildah,buildkit,crun")
    parser.add_argument("--store", help="put everything below this directory, instead of on a disk of its own")
    parser.add_argument("--growth", action="store_true", help="also the table of growth")
    parser.add_argument("--big", action="store_true", help="growth with layers of up to 10 GiB")
    parser.add_argument("--no-readme", action="store_true", help="print only: leave the files as they are, as --only does, too")
    options = parser.parse_args()
    try:
        with interruptible(), workspace(options.store) as (directory, where), contextlib.ExitStack() as stack:
            launcher = stack.enter_context(Launcher())
            taking_part = peers.installed(directory, options.peers.split(","), stack)
            load = os.getloadavg()
            place = workloads.Place(directory, directory / "contexts")
            say("making contexts")
            fixtures.contexts(place.contexts)
            base = directory / "busybox.tar"
            fixtures.busybox(base)
            for tool in taking_part:
                tool.load(base, "busybox")
            grow = partial(growth.growths, launcher, taking_part[0], directory / "growth", only=options.only, say=say)
            # What is measured of imgbuild alone comes first: memory that the peers' work fills and frees costs its next user time.
            growths = list(grow(growth.KINDS)) if options.growth or options.big else []
            overheads = overhead.overheads(launcher, place, base, directory / "overhead", only=options.only, say=say)
            results = _rows(place, launcher, taking_part, options.rounds, options.only)
            growths += grow(growth.BIG) if options.big else []
            facts = _facts(taking_part, where, options.rounds, load)
    except Interrupted as error:
        raise SystemExit(f"ended by {error}") from None
    shown = [tool.name for tool in taking_part if not tool.reference]
    _write(results, growths, overheads, shown, facts, readme=not (options.no_readme or options.only))


def _rows(place: workloads.Place, launcher: Launcher, taking_part: Sequence[Any], rounds: int, only: str) -> list[Result]:
    directory = place.directory
    chosen = [row for row in workloads.rows(place) if re.search(only, row.name)]
    with contextlib.ExitStack() as stack:
        if any("app" in row.name for row in chosen):
            say("making the Python base and fetching wheels")
            try:
                _python(directory, place, taking_part)
            except (CommandFailed, MachineError, OSError) as error:
                say(f"rows of the Python app are left out: {error}")
                chosen = [row for row in chosen if "app" not in row.name]
        if any(row.name.startswith("pull") for row in chosen):
            url = stack.enter_context(tools.registry(directory / "pulled"))
            place.pulled = f"{url}/python-like:1"
            fixtures.python_like(directory / "python-like.tar", directory / "busybox.tar")
            _push_pulled(directory, place.pulled)
        references = tuple(tool.name for tool in taking_part if tool.reference)
        results = [Result(row.name, row.target, row.seconds, row.beyond, row.why, references) for row in chosen]
        for number in range(rounds):
            for row, result in zip(chosen, results, strict=True):
                for turn in range(row.times if number < row.rounds else 0):
                    _round(row, result, taking_part, number * row.times + turn, directory, launcher)
            say(f"round {number + 1} of {rounds} done, load {os.getloadavg()[0]:.1f}")
    return results


def _push_pulled(directory: Path, name: str) -> None:
    """By a store of its own, which leaves nothing where it will be pulled to."""
    maker = tools.Imgbuild(directory / "pusher")
    maker.load(directory / "python-like.tar", "python-like")
    # gzip, which all of them know
    maker.do(str(Path(sys.executable).with_name("imgbuild")), "push", "--compression", "gzip", "python-like", name)
    maker.account.close()


def _python(directory: Path, place: workloads.Place, taking_part: Sequence[Any]) -> None:
    fixtures.python_app(place.contexts)
    base = rootfs.debian(ROOT / ".demo" / "bases", say)
    maker = tools.Imgbuild(directory / "maker")
    maker.load(base.tar, "debian")
    context = directory / "python"
    context.mkdir()
    install = "apt-get update && apt-get install -y --no-install-recommends python3-venv"
    (context / "Buildfile").write_text(f"FROM debian\nRUN {install} && rm -rf /var/lib/apt/lists/* /var/cache/apt/*\n")
    command = maker.build(context / "Buildfile", context, "python")[0]
    maker.do(*command.argv, "--output", f"type=tar,dest={directory / 'python.tar'}")
    maker.account.close()
    for tool in taking_part:
        if not tool.reference:
            tool.load(directory / "python.tar", "python")


def _round(
    row: workloads.Row, result: Result, taking_part: Sequence[Any], number: int, directory: Path, launcher: Launcher
) -> None:
    """One row by everybody; who failed once is left out of it from then on."""
    found: dict[str, Contents] = {}
    turn = number % len(taking_part)
    for tool in [*taking_part[turn:], *taking_part[:turn]]:
        if tool.name in result.failed or (tool.reference and row.beyond is None) or (row.launches and not tool.launches):
            continue
        try:
            with row.timed(tool, number) as commands:
                sample = launcher.run(commands, tool.account, directory / "log", tool.daemons())
            result.samples.setdefault(tool.name, []).append(sample)
            say(f"{row.name}: {tool.name}: {sample.seconds:.3f} s, CPU {sample.cpu or 0:.2f} s, {sample.peak / 1e6:.0f} MB")
            if row.tag and number == 0 and not tool.reference:
                archive = directory / "image.tar"
                tool.save(row.tag, archive)
                found[tool.name] = contents_of(archive)
                archive.unlink()
        except CommandFailed as error:
            say(f"{row.name}: {tool.name} failed: {error}")
            result.failed[tool.name] = str(error)
    if found:
        ours = found.get(OURS)
        result.different = tuple(name for name, contents in found.items() if contents != ours)
        for name in result.different:
            say(f"{row.name}: {name} has {found[name]}, {OURS} {ours}")


def _facts(taking_part: Sequence[Any], where: str, rounds: int, load: tuple[float, float, float]) -> dict[str, Any]:
    kernel = ".".join(platform.release().split(".")[:2])
    return {
        "versions": {tool.name: tool.version() for tool in taking_part},
        "machine": f"{platform.machine()}, Linux {kernel}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
        "where": where,
        "rounds": rounds,
        "load": [round(load[0], 1), round(os.getloadavg()[0], 1)],
    }


def _write(
    results: list[Result], growths: list[Growth], overheads: list[Overhead], names: list[str], facts: dict[str, Any], *, readme: bool
) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    caption = f"{versions}; {facts['machine']}; {facts['where']}; {facts['date']}"
    text = table(results, names)
    about = f"{caption}; {facts['rounds']} rounds, load {facts['load'][0]} to {facts['load'][1]}.\n"
    print(text)
    if growths:
        print(growth_table(growths))
    cost = overhead_table(overheads) if overheads else ""
    print(f"{cost}\n{about}")
    if not readme:
        return
    RESULTS.mkdir(exist_ok=True)
    everything = {"facts": facts, "rows": results, "growth": growths, "overhead": overheads}
    (RESULTS / "results.json").write_text(json.dumps(everything, indent=1, default=asdict) + "\n")
    (RESULTS / "plot.svg").write_text(picture(results, caption))
    if growths:
        (RESULTS / "growth.md").write_text(growth_table(growths))
    grown = (RESULTS / "growth.md").read_text() if (RESULTS / "growth.md").exists() else ""
    kind = "Growth is processor seconds of imgbuild alone. " if grown else ""
    page = (ROOT / "README.md").read_text()
    if _BEGIN in page:
        before, _, rest = page.partition(_BEGIN)
        after = rest.partition(_END)[2]
        shown = "![ratios to the fastest peer](tests/benchmarks/results/plot.svg)"
        (ROOT / "README.md").write_text(f"{before}{_BEGIN}\n{shown}\n\n{text}\n{grown}\n{cost}\n{kind}{about}{_END}{after}")


main()
