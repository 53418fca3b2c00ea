"""Secrets in what a build is told: instructions, variables, labels, annotations, all of which images and records keep."""

from __future__ import annotations

from imgbuild.errors import LeakError, Span
from imgbuild.graph.key import key_record
from imgbuild.graph.ops import BuildGraph, Stage
from imgbuild.hints import TYPE_CHECKING, Any, Iterator
from imgbuild.layer.leaks import Leaks
from imgbuild.oci.config import run_config_json
from imgbuild.store.rows import parse_record
from imgbuild.values import asdict, replace

if TYPE_CHECKING:
    from imgbuild.engine.request import BuildPlan


def check_words(leaks: Leaks, graph: BuildGraph, plan: BuildPlan) -> None:
    """LeakError, before anything is performed, where a secret is written out in what will be recorded, or in the image's config."""
    for text, what, span in _words(graph, plan):
        sign = leaks.sign_in(text.encode("utf-8", "surrogateescape"))
        if sign is not None:
            raise LeakError(
                f"{what} has the secret {sign.secret!r} in it{sign.how}, which would be in the image or in the build's records",
                at=_hidden(leaks, span),
                hint="mount it where it is read, and write it nowhere else; "
                f"if it is meant, or only a common word: --allow secret.leak={sign.secret}",
            )


def _hidden(leaks: Leaks, span: Span | None) -> Span | None:
    """The place, in a text that can be shown."""
    if span is None:
        return None
    return replace(span, source=replace(span.source, lines=tuple(map(leaks.hidden, span.source.lines))))


def _words(graph: BuildGraph, plan: BuildPlan) -> Iterator[tuple[str, str, Span | None]]:
    """All texts, what they are of, and where they stand."""
    for stage in graph.stages.values():
        for line in stage.lines:
            yield line.created_by, "this instruction", line.span
        for step in (*stage.steps, *(test.step for test in stage.tests)):
            yield from ((text, "this step", step.span) for text in _strings(parse_record(key_record(step.op, "", {}))))
    for target in graph.targets:
        yield from ((text, "the image's config", None) for text in _of_image(graph, graph.stages[target]))
    outputs = (annotation for output in plan.outputs for annotation in output.annotations)
    yield from ((text, "an annotation", None) for each in (*plan.annotations, *outputs) for text in (each.key, each.value))


def _of_image(graph: BuildGraph, stage: Stage) -> Iterator[str]:
    yield from _strings(run_config_json(stage.config))
    yield stage.author
    while stage.parent is not None:
        stage = graph.stages[stage.parent]
    if stage.base is not None:
        yield from (text for entry in stage.base.history for text in _strings(asdict(entry)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
