"""Commands on the records of builds: list, show, read logs, remove, compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.workplace import workplace
from imgbuild.errors import ConflictError
from imgbuild.hints import Callable
from imgbuild.insight.beside import Comparison
from imgbuild.insight.builds import BuildRecord, StepRecord, find_build, find_id, find_step, listed_builds, with_steps
from imgbuild.store.history import History

if TYPE_CHECKING:
    from imgbuild.store.store import Store

Output = Callable[[StepRecord, float, int, bytes], None]
"""Is given the output of steps: the step, seconds since it began, the stream (1 or 2), and bytes."""


def list_builds(
    invocation: Invocation, limit: int | None = None, status: str | None = None, *, on_damage: Callable[[str], None] = lambda said: None
) -> tuple[BuildRecord, ...]:
    """The builds, the last one first, without their steps. `on_damage` is told of records that can't be read, and are left out."""
    with workplace(invocation, snapshots=False) as place:
        builds = listed_builds(History(place.store, on_damage), limit if status is None else None)
    return builds if status is None else tuple(build for build in builds if build.status == status)[:limit]


def show_build(invocation: Invocation, name: str) -> BuildRecord:
    """The build that a name means."""
    with workplace(invocation, snapshots=False) as place:
        return find_build(History(place.store), name)


def read_logs(
    invocation: Invocation,
    name: str,
    begin: Callable[[StepRecord], None],
    output: Output,
    end: Callable[[StepRecord, bool], None],
    *,
    number: int | None = None,
    cached: bool = False,
) -> BuildRecord:
    """Go through what the steps of a build wrote, step by step; of one step only, where a `number` is given. What cached steps wrote when
    they were performed is read where `cached` says so, or where that one was asked for. `end` is told whether there was a log that is
    gone."""
    with workplace(invocation, snapshots=False) as place:
        build = with_steps(find_build(History(place.store), name))
        for step in build.steps if number is None else (find_step(build, str(number)),):
            begin(step)
            wanted = step.outcome != "cached" or cached or number is not None
            end(step, not _read(place.store, step, output) if wanted and step.log else False)
    return build


def remove_builds(invocation: Invocation, names: tuple[str, ...], everything: bool) -> list[str]:
    """Forget builds, and the logs of the steps that they performed; the ids. Those that are running stay where all are to go."""
    with workplace(invocation, snapshots=False) as place:
        history = History(place.store)
        ids = history.ids()
        running = set(history.running())
        going = [build for build in ids if build not in running] if everything else [find_id(ids, name) for name in names]
        for build in going:
            if build in running:
                raise ConflictError(f"the build {build} is running", hint="end it first")
        history.remove(going)
    return list(dict.fromkeys(going))


def compare(invocation: Invocation, first: str, second: str) -> tuple[BuildRecord, BuildRecord, Comparison]:
    """Two builds, and how they differ."""
    from imgbuild.insight.beside import compare_builds

    with workplace(invocation, snapshots=False) as place:
        history = History(place.store)
        one, two = (with_steps(find_build(history, name)) for name in (first, second))
    return one, two, compare_builds(one, two)


def _read(store: Store, step: StepRecord, output: Output) -> bool:
    from imgbuild.store.logs import has_log, read_log

    if not has_log(store.root, step.log):
        return False
    for seconds, stream, data in read_log(store.root, step.log):
        output(step, seconds, stream, data)
    return True
