"""Names that nothing has, with those that may have been meant."""

from __future__ import annotations

from imgbuild.buildfile.instructions import Arg, Buildfile
from imgbuild.buildfile.lint import written
from imgbuild.buildfile.suggest import did_you_mean, nearest
from imgbuild.errors import ImgbuildError
from imgbuild.graph.outline import BaseNeed
from imgbuild.hints import Iterable


def with_near_stage(error: ImgbuildError, need: BaseNeed, buildfile: Buildfile) -> ImgbuildError:
    """The error of a base that can't be had, with the stage of nearly its name, which may have been meant."""
    stages = [stage.origin.alias for stage in buildfile.stages if stage.origin.alias]
    near = did_you_mean(need.reference.familiar().removesuffix(":latest"), stages)
    if near is not None:
        error.hint = near.replace("did you mean ", "did you mean the stage ")
    return error


def with_near_arguments(names: Iterable[str], buildfile: Buildfile) -> list[str]:
    """The names, each with the argument that it may have been meant for."""
    declared = [word.text for item in written(buildfile) if isinstance(item, Arg) for word, _ in item.pairs]
    return [f"{name} (did you mean {near}?)" if (near := nearest(name, declared)) else name for name in names]
