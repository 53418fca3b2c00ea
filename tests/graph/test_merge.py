"""Graphs for several platforms as one: what is the same is there once, and what differs is not mixed up."""

from __future__ import annotations

from imgbuild.buildfile.parser import parse
from imgbuild.graph.lower import lower
from imgbuild.graph.merge import merge
from imgbuild.graph.ops import BuildGraph, CopyOp, RunOp
from imgbuild.graph.options import LowerOptions
from imgbuild.oci.platform import Platform

MACHINE = Platform("linux", "amd64")
OTHER = Platform("linux", "arm64")


def merged(text: str, *platforms: Platform) -> BuildGraph:
    buildfile = parse(text.encode(), "Buildfile")
    options = (LowerOptions(platform, build_platform=MACHINE, explicit=True, several=True) for platform in platforms)
    return merge(lower(buildfile, each, {}) for each in options)


def test_targets_are_in_the_order_of_the_platforms() -> None:
    graph = merged("FROM scratch\nCOPY a /\n", OTHER, MACHINE)
    assert [str(graph.stages[number].platform) for number in graph.targets] == ["linux/arm64", "linux/amd64"]
    assert list(graph.stages) == [0, 1]
    assert all(graph.stages[number].index == number for number in graph.stages)


def test_references_follow_their_stages() -> None:
    text = "FROM scratch AS a\nCOPY a /\nFROM scratch AS b\nARG TARGETARCH\nCOPY $TARGETARCH /\nFROM a AS c\nCOPY --from=b /x /\n"
    text += "RUN --mount=from=b,target=/b --mount=target=/c x\nTEST --mount=from=b,target=/b y\n"
    graph = merged(text, MACHINE, OTHER)
    for number, platform in zip(graph.targets, (MACHINE, OTHER), strict=True):
        target = graph.stages[number]
        copy, run = (step.op for step in target.steps)
        assert isinstance(copy, CopyOp) and isinstance(run, RunOp)
        (test,) = target.tests
        assert isinstance(test.step.op, RunOp)
        read = {copy.stage, run.mounts[0].stage, test.step.op.mounts[0].stage}
        (source,) = (graph.stages[each] for each in read if each is not None)
        op = source.steps[0].op
        assert isinstance(op, CopyOp) and op.sources == (platform.architecture,)
        assert run.mounts[1].stage is None
        assert run.platform == str(platform)
        assert target.parent is not None and graph.stages[target.parent].name == "a"


def test_one_platform_twice_is_one() -> None:
    graph = merged("FROM scratch AS a\nCOPY a /\nFROM scratch\nCOPY --from=a / /\n", MACHINE, MACHINE)
    assert len(graph.stages) == 2
    assert graph.targets[0] == graph.targets[1]
