"""What ``imgbuild explain`` asks: a build's record, with the causes that were found while it ran."""

from __future__ import annotations

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.workplace import workplace
from imgbuild.errors import NotFoundError
from imgbuild.insight.builds import BuildRecord, StepRecord, find_build
from imgbuild.store.history import History


def explained_build(invocation: Invocation, name: str, number: int | None = None) -> tuple[BuildRecord, tuple[StepRecord, ...]]:
    """The build that a name means, and its steps, or the one with that number; NotFoundError where there is none."""
    with workplace(invocation, snapshots=False) as place:
        build = find_build(History(place.store), name)
    if number is None:
        return build, build.steps
    step = build.step(number)
    if step is None:
        raise NotFoundError(f"the build {build.id} has no step {number}", hint=f"it has {len(build.steps)}")
    return build, (step,)
