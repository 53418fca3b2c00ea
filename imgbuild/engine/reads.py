"""What a build reads of this machine, as far as a change of it makes another build: for who watches it.

That are its Buildfile with all that it includes, its ignore files, and of the directories that are its contexts what COPY, ADD and bind
mounts name. Not the values of secrets, which are in no key, and nothing that is fetched.
"""

from __future__ import annotations

import os

from imgbuild.context.ignore import Ignore
from imgbuild.context.reach import Reach, SourceWord
from imgbuild.engine.contexts import layout_place
from imgbuild.engine.includes import included_files
from imgbuild.engine.replay import NAMES
from imgbuild.engine.request import BuildPlan, BuildRequest
from imgbuild.engine.source import BuildSource
from imgbuild.engine.step_options import keyed_files
from imgbuild.graph.ops import BuildGraph, CopyOp, RunOp, Step
from imgbuild.hints import Any, Callable, Iterator, Mapping
from imgbuild.light.pathlib import Path
from imgbuild.values import asdict, dataclass


@dataclass(frozen=True, slots=True)
class ContextReads:
    """What is read of one directory: `name` is "" for the build context, `buildfile` the path of the Buildfile whose ignore file counts."""

    root: str
    name: str = ""
    buildfile: str = ""
    words: tuple[SourceWord, ...] = ()

    def reach(self) -> Reach:
        """The same, to be asked; ContextError for an ignore file that can't be read."""
        ignore = Ignore.load(Path(self.root), Path(self.buildfile) if self.buildfile else None)
        return Reach(os.path.realpath(self.root), ignore, self.words)


@dataclass(frozen=True, slots=True)
class Reads:
    """What a build reads: single files by their paths, there or not; `contexts` is None where that is not known yet. `unwatched` names
    what is read and can't be watched."""

    files: tuple[str, ...] = ()
    contexts: tuple[ContextReads, ...] | None = None
    unwatched: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)


OnReads = Callable[[Reads], None]
"""Is called before anything is read, and again before a context is; what it was told is not read before it returns."""


def parse_reads(fields: Mapping[str, Any]) -> Reads:
    """What `Reads.fields` was made of."""
    contexts = fields["contexts"]
    return Reads(
        files=tuple(fields["files"]),
        contexts=None if contexts is None else tuple(map(_parse_context, contexts)),
        unwatched=tuple(fields["unwatched"]),
    )


def _parse_context(fields: Mapping[str, Any]) -> ContextReads:
    words = tuple(SourceWord(word["source"], word["parents"], tuple(word["exclude"])) for word in fields["words"])
    return ContextReads(fields["root"], fields["name"], fields["buildfile"], words)


def first_reads(request: BuildRequest, environ: Mapping[str, str]) -> Reads:
    """What is read before the contexts: the Buildfile, or where it would be, what it includes, the ignore files, and secrets."""
    secrets = keyed_files(request.secrets, environ).values()
    return Reads(tuple(dict.fromkeys((*_first_files(request), *map(os.path.abspath, secrets)))))


def all_reads(request: BuildRequest, environ: Mapping[str, str], plan: BuildPlan, graph: BuildGraph) -> Reads:
    """What the steps of a graph read, too; of secrets, only those that they mount."""
    words: dict[str, dict[SourceWord, None]] = {}
    for step in _steps(graph):
        for context, word in _words(step):
            words.setdefault(context, {})[word] = None
    contexts = []
    mounted = {mount.id for step in _steps(graph) if isinstance(step.op, RunOp) for mount in step.op.mounts if mount.kind == "secret"}
    secrets = [path for name, path in keyed_files(request.secrets, environ).items() if name in mounted]
    files = [*_first_files(request), *map(os.path.abspath, secrets)]
    unwatched = []
    for name, found in words.items():
        if not name:
            buildfile = str(plan.source.file) if plan.source.file is not None else ""
            contexts.append(ContextReads(os.path.abspath(plan.source.context), "", buildfile, tuple(found)))
        elif plan.contexts[name].kind == "directory":
            root = os.path.abspath(plan.contexts[name].value)
            contexts.append(ContextReads(root, name, "", tuple(found)))
            files += [root, f"{root}/.dockerignore"]
        else:
            unwatched.append(name)
    for stage in graph.stages.values():
        image = plan.contexts.get(stage.base.name) if stage.base is not None else None
        if image is not None and image.kind == "layout":
            files.append(os.path.abspath(layout_place(image)[0] / "index.json"))
    return Reads(tuple(dict.fromkeys(files)), tuple(contexts), tuple(dict.fromkeys(unwatched)))


def _first_files(request: BuildRequest) -> Iterator[str]:
    context = os.path.abspath(request.context)
    yield context
    if request.file is not None:
        candidates = [os.path.abspath(request.file), os.path.join(context, request.file)]
    else:
        candidates = [f"{context}/{name}" for name in NAMES]
    for path in candidates:
        yield path
        if os.path.isfile(path):
            yield f"{path}.dockerignore"
            yield from _included(Path(request.context), Path(path))
            if os.path.exists(f"{path}.dockerignore"):
                return
            break
    yield f"{context}/.dockerignore"


def _included(context: Path, buildfile: Path) -> tuple[str, ...]:
    try:
        text = buildfile.read_bytes()
    except OSError:
        return ()
    return included_files(BuildSource(context, text, str(buildfile), Ignore(), buildfile))


def _steps(graph: BuildGraph) -> Iterator[Step]:
    for stage in graph.stages.values():
        yield from stage.steps
        yield from (test.step for test in stage.tests)


def _words(step: Step) -> Iterator[tuple[str, SourceWord]]:
    """What a step reads of contexts, by the name of the context."""
    if isinstance(step.op, CopyOp) and step.op.stage is None:
        for source in step.op.sources:
            yield step.op.context, SourceWord(source, step.op.parents, step.op.exclude)
    elif isinstance(step.op, RunOp):
        for mount in step.op.mounts:
            if mount.stage is None and (mount.kind == "bind" or mount.context):
                yield mount.context, SourceWord(mount.source)

