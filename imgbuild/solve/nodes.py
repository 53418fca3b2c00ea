"""The nodes of a solve, and which must be done before which. Pure.

A node is a stage's index and a number: 0 is the stage's origin, then come its steps, and behind them its tests.
"""

from __future__ import annotations

from imgbuild.graph.ops import Base, BuildGraph, RunOp, Stage
from imgbuild.hints import Iterable

Node = tuple[int, int]


def end(graph: BuildGraph, index: int) -> Node:
    """The node that a stage's result is known at."""
    return (index, len(graph.stages[index].steps))


def tests(graph: BuildGraph) -> list[Node]:
    """All tests. Nothing else needs them."""
    stages = graph.stages.items()
    return [(index, len(stage.steps) + number) for index, stage in stages for number in range(1, len(stage.tests) + 1)]


def needs(graph: BuildGraph, node: Node) -> list[Node]:
    """What must be done before a node."""
    index, number = node
    stage = graph.stages[index]
    if number == 0:
        return [end(graph, stage.parent)] if stage.parent is not None else []
    step, before = stage.step_at(number)
    return [(index, before), *(end(graph, other) for other in step.stages)]


def in_order(graph: BuildGraph) -> list[Node]:
    """Every node after what it needs, tests last. Stage numbers do not say that: images that are only read come last."""
    found: dict[Node, None] = {}
    pending = [*reversed(tests(graph)), *(end(graph, index) for index in reversed(graph.stages))]
    while pending:
        node = pending[-1]
        before = [other for other in needs(graph, node) if other not in found]
        if not before:
            found.setdefault(node)
            pending.pop()
        else:
            pending += before
    return list(found)


def stands_on(graph: BuildGraph, node: Node) -> tuple[Node | None, list[Node]]:
    """The step that a step's root file system is from, None where that is a base; and the steps that the stages which it reads end with."""
    step, before = graph.stages[node[0]].step_at(node[1])
    read = [last for other in dict.fromkeys(step.stages) if (last := _last(graph, end(graph, other))) is not None]
    return _last(graph, (node[0], before)), read


def base_of(graph: BuildGraph, stage: Stage) -> Base | None:
    """The image that a stage starts from, perhaps by way of other stages; None where that is nothing."""
    while stage.parent is not None:
        stage = graph.stages[stage.parent]
    return stage.base


def _last(graph: BuildGraph, node: Node) -> Node | None:
    """The node, or where it is a stage's origin, the last step of what that stage stands on."""
    while node[1] == 0:
        parent = graph.stages[node[0]].parent
        if parent is None:
            return None
        node = end(graph, parent)
    return node


def ordinary_runs(graph: BuildGraph, nodes: Iterable[Node]) -> tuple[int, int]:
    """How many of the nodes run a command with the rights and the network that most have, and in how many stages."""
    ops = [(index, graph.stages[index].step_at(number)[0].op) for index, number in nodes if number]
    runs = [(index, op) for index, op in ops if isinstance(op, RunOp)]
    ordinary = [index for index, op in runs if op.security != "insecure" and op.network != "none" and not op.ulimits]
    return len(ordinary), len(set(ordinary))
