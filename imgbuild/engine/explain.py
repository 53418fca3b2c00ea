"""What ``imgbuild explain`` asks: a build's record, with the causes that were found while it ran."""

from __future__ import annotations

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.workplace import workplace
from imgbuild.insight.builds import BuildRecord, StepRecord, find_build, find_step, with_steps
from imgbuild.store.history import History


def explained_build(invocation: Invocation, name: str, number: str | None = None) -> tuple[BuildRecord, tuple[StepRecord, ...]]:
    """The build that a name means, and its steps, or the one with that number; NotFoundError where there is none."""
    with workplace(invocation, snapshots=False) as place:
        build = with_steps(find_build(History(place.store), name))
    return build, build.steps if number is None else (find_step(build, number),)
