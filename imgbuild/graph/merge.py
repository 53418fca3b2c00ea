"""Several graphs as one: a build for several platforms. Stages that are the same in all of them are there once."""

from __future__ import annotations

from imgbuild.graph.ops import BuildGraph, CopyOp, Op, RunOp, Stage, Step
from imgbuild.hints import Iterable
from imgbuild.values import replace


def merge(graphs: Iterable[BuildGraph]) -> BuildGraph:
    """One graph with the targets of all, in their order."""
    stages: dict[int, Stage] = {}
    alike: dict[tuple[int, str], list[int]] = {}
    targets: list[int] = []
    for graph in graphs:
        numbers: dict[int, int] = {}
        for index in _in_order(graph):
            stage = _renumbered(graph.stages[index], numbers)
            known = alike.setdefault((index, stage.name), [])
            same = next((number for number in known if replace(stages[number], index=index) == stage), None)
            if same is None:
                same = len(stages)
                stages[same] = replace(stage, index=same)
                known.append(same)
            numbers[index] = same
        targets += [numbers[target] for target in graph.targets]
    return BuildGraph(stages, tuple(targets))


def _in_order(graph: BuildGraph) -> list[int]:
    """The stages, each after those that it needs."""
    found: dict[int, None] = {}
    pending = sorted(graph.stages, reverse=True)
    while pending:
        stage = graph.stages[pending[-1]]
        every = (*stage.steps, *(test.step for test in stage.tests))
        needs = {number for step in every for number in step.stages} | ({stage.parent} if stage.parent is not None else set())
        missing = [number for number in sorted(needs) if number not in found]
        if missing:
            pending += missing
        else:
            found.setdefault(pending.pop())
    return list(found)


def _renumbered(stage: Stage, numbers: dict[int, int]) -> Stage:
    parent = None if stage.parent is None else numbers[stage.parent]
    steps = tuple(_step(step, numbers) for step in stage.steps)
    tests = tuple(replace(test, step=_step(test.step, numbers)) for test in stage.tests)
    return replace(stage, parent=parent, steps=steps, tests=tests)


def _step(step: Step, numbers: dict[int, int]) -> Step:
    return replace(step, op=_op(step.op, numbers)) if step.stages else step


def _op(op: Op, numbers: dict[int, int]) -> Op:
    match op:
        case RunOp():
            mounts = (mount if mount.stage is None else replace(mount, stage=numbers[mount.stage]) for mount in op.mounts)
            return replace(op, mounts=tuple(mounts))
        case CopyOp(stage=stage) if stage is not None:
            return replace(op, stage=numbers[stage])
        case _:
            return op
