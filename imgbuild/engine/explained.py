"""Says of every step that is performed why it was not found: as its record differs from that of the same step in an earlier build.

A build in which all is cached does not import this. Nothing here ever fails a build: what can't be read is not known.
"""

from __future__ import annotations

import time
from itertools import islice

from imgbuild.errors import CorruptError, StoreError
from imgbuild.graph.ops import BuildGraph, CopyOp, RunOp, Step
from imgbuild.hints import TYPE_CHECKING, Callable, Iterable, Iterator
from imgbuild.insight.cause import Cause, cause_fields
from imgbuild.insight.causes import Words, record_causes
from imgbuild.insight.earlier import EarlierBuild, EarlierStep, parse_earlier
from imgbuild.insight.lineage import Place, predecessors, text_of
from imgbuild.light import json, threading
from imgbuild.light.contextlib import suppress
from imgbuild.light.functools import partial
from imgbuild.solve.chronicle import Chronicle
from imgbuild.solve.events import StepMissed
from imgbuild.solve.nodes import Node, base_of, stands_on
from imgbuild.solve.remembered import Miss
from imgbuild.store.journal import lately
from imgbuild.store.records import admitted
from imgbuild.store.rows import StepRow, parse_record
from imgbuild.store.store import Store
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.insight.trees import Change
    from imgbuild.store.evidence import Tombstone

_BUILDS = 8
"""Earlier builds that are looked into, the last one first."""
_PAGES = (2, 6, 24)
"""How many are read at once."""
_MOST = 1000
"""Causes of one step that are recorded; more are counted, up to a number that takes no time."""
_COUNTED = 9000

_ABSENT = {"cache": "no-cache", "parent": "remade", "layer": "layer", "leak": "leak"}
_ENDINGS = ("failed", "canceled", "interrupted")


@dataclass(frozen=True, slots=True)
class Before:
    """A step of an earlier build, and that build."""

    build: EarlierBuild
    step: EarlierStep


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step is not found: the causes, how many `more` there are, and with what it was compared."""

    causes: tuple[Cause, ...]
    more: int = 0
    before: Before | None = None


class Past:
    """The earlier builds of one Buildfile, and which of their steps a graph's steps were. Not for several threads at once."""

    def __init__(self, store: Store, graph: BuildGraph, builds: Iterable[EarlierBuild], buildfile: str) -> None:
        self._store = store
        self._buildfile = buildfile
        self._graph = graph
        self._source = islice(builds, _BUILDS)
        self._read: list[EarlierBuild] = []
        self._nodes = [(index, number) for index, stage in graph.stages.items() for number in range(1, len(stage.steps + stage.tests) + 1)]
        self._pairs: dict[str, dict[int, int]] = {}

    def explain(self, miss: Miss) -> Explanation:
        """In which fields the step differs from what it was; unknown where what is kept for that can't be read."""
        try:
            return self._explained(miss)
        except (StoreError, CorruptError):
            return Explanation((Cause("unknown"),))

    def _explained(self, miss: Miss) -> Explanation:
        key = miss.wanted.key
        if miss.wanted.step.no_cache:
            return Explanation((Cause("no-cache"),))
        if miss.why in _ABSENT:
            return Explanation((Cause(_ABSENT[miss.why]),))
        if (stone := self._store.evidence.tombstone(key)) is not None:
            return Explanation((_evicted("evicted", stone),))
        if next(self._builds(), None) is None:
            from imgbuild.store.history import History

            return Explanation((Cause("first", what="forgotten" if History(self._store).has_forgotten(self._buildfile) else ""),))
        unknown: Explanation | None = None
        for before in self._befores(miss.node):
            if before.step.key == key:
                ended = before.step.outcome in _ENDINGS, before.build.status in _ENDINGS  # a layer is made after its step has ended
                ending = before.step.outcome if ended[0] else "interrupted"
                return Explanation((Cause("failed", what=ending) if any(ended) else Cause("lost"),), 0, before)
            row = self._store.index.step(before.step.key)
            if row is not None:
                return self._compared(miss, before, row)
            if unknown is None:
                unknown = Explanation((self._unrecorded(miss, before),), 0, before)
        return unknown or Explanation((Cause("new"),))

    def before(self, node: Node) -> Before | None:
        """What a step was in the last build that had it."""
        try:
            return next(self._befores(node), None)
        except (StoreError, CorruptError):
            return None

    def seconds(self, node: Node) -> float | None:
        """How long the step took when it last ended well, as far as that is known."""
        with suppress(StoreError, CorruptError):
            for before in self._befores(node):
                if before.step.outcome == "done":
                    return before.step.seconds
                if before.step.outcome == "cached" and before.step.wall is not None:
                    return before.step.wall
        return None

    def _befores(self, node: Node) -> Iterator[Before]:
        number = self._nodes.index(node)
        for build in self._builds():
            if build.id not in self._pairs:
                old = [Place(step.number, _stage(step.platform, step.stage), step.position, step.text) for step in build.steps if step.key]
                new = [self._place(at, *other) for at, other in enumerate(self._nodes)]
                self._pairs[build.id] = predecessors(old, new)
            found = self._pairs[build.id].get(number)
            step = build.step(found) if found is not None else None
            if step is not None:
                yield Before(build, step)

    def _builds(self) -> Iterator[EarlierBuild]:
        """The earlier builds, each read when it is asked for: the last one tells of nearly all steps."""
        yield from self._read
        for build in self._source:
            self._read.append(build)
            yield build

    def _place(self, at: int, index: int, number: int) -> Place:
        stage = self._graph.stages[index]
        return Place(at, _stage(str(stage.platform), stage.name), number, text_of(stage.step_at(number)[0].name))

    def _compared(self, miss: Miss, before: Before, row: StepRow) -> Explanation:
        def differ(old: str, new: str) -> Iterable[Change]:
            from imgbuild.insight.trees import changes
            from imgbuild.store.evidence import fetch_from

            stored = self._store.evidence.node
            return changes(old, new, stored, fetch_from(miss.wanted.kept, stored))

        was = Words(before.step.text, frozenset(json.loads(row.usage).get("arguments", ())), _base(before))
        found = record_causes(row.fields(), parse_record(miss.wanted.record), was, self._words(miss.node), differ)
        first = tuple(islice(found, _MOST))
        return Explanation(first, sum(1 for _ in islice(found, _COUNTED)), before)

    def _words(self, node: Node) -> Words:
        step = self._graph.stages[node[0]].step_at(node[1])[0]
        return Words(text_of(step.name), frozenset(step.arguments), _base_now(self._graph, node), tuple(self._sources(step)))

    def _sources(self, step: Step) -> Iterator[str]:
        """What a step reads beside its parent, by name."""
        if isinstance(step.op, CopyOp):
            yield self._origin(step.op.stage, step.op.context)
        elif isinstance(step.op, RunOp):
            yield from (self._origin(mount.stage, mount.context) for mount in step.op.mounts)

    def _origin(self, stage: int | None, context: str) -> str:
        if stage is not None:
            return f"stage {self._graph.stages[stage].name}"
        return f"context {context}" if context else ""

    def _unrecorded(self, miss: Miss, before: Before) -> Cause:
        """The cause where the step of before has no record, as one that never ended well, or whose layer could not be made."""
        if before.step.outcome in _ENDINGS:
            return Cause("failed", what=before.step.outcome)
        if (stone := self._store.evidence.tombstone(before.step.key)) is not None:
            return _evicted("unknown", stone)
        text = self._words(miss.node).text
        if before.step.text != text:
            return Cause("instruction", old=before.step.text, new=text)
        return Cause("failed", what="interrupted") if before.build.status in _ENDINGS else Cause("unknown")


class Naming:
    """Chooses what is said of each miss of a build, in their order: nothing that was said of a step that this one stands on. `key_of` gives
    the keys of steps that were found."""

    def __init__(self, graph: BuildGraph, past: Past, key_of: Callable[[Node], str]) -> None:
        self._graph = graph
        self._past = past
        self._key_of = key_of
        self._own: dict[Node, frozenset[Cause]] = {}
        self._roots: dict[Node, Node] = {}
        self._numbers: dict[Node, int] = {}

    def named(self, node: Node, number: int, found: Explanation) -> tuple[Cause, ...]:
        """What is to be said; where nothing of its own is left, that it stands on another one."""
        below, read = stands_on(self._graph, node)
        on = [other for other in (below, *read) if other is not None]
        known = frozenset().union(*(self._own.get(other, frozenset()) for other in on))
        self._own[node] = known | {cause for cause in found.causes if cause.kind not in _GENERAL}
        self._numbers[node] = number
        said = tuple(cause for cause in found.causes if cause.kind != "parent" and cause not in known)
        if said:
            self._roots[node] = node
            return said
        root = next((self._roots[other] for other in on if other in self._roots), None)
        if root is None:
            return (Cause("parent", self._other(below), "cached"),)
        self._roots[node] = root
        return (Cause("parent", f"#{self._numbers[root]}"),)

    def _other(self, below: Node | None) -> str:
        """The lowest step that is another one than before, though it was found."""
        changed, node = below, below
        while node is not None:
            before = self._past.before(node)
            if before is None or before.step.key != self._key_of(node):
                changed = node
            node = stands_on(self._graph, node)[0]
        return text_of(self._graph.stages[changed[0]].step_at(changed[1])[0].name) if changed is not None else "the base"


_GENERAL = frozenset(("parent", "first", "new", "no-cache", "remade", "layer", "leak", "evicted", "failed", "lost", "unknown"))
"""Causes that are no field: each step has its own."""


class Explaining:
    """Explains the misses of one build while it runs, from any thread: names them as events, and in the build's record."""

    def __init__(self, store: Store, graph: BuildGraph, chronicle: Chronicle) -> None:
        self._store = store
        self._chronicle = chronicle
        build = parse_earlier(chronicle.header)
        self._past = Past(store, graph, earlier_builds(store, build), build.buildfile)
        self._naming = Naming(graph, self._past, chronicle.key)
        self._lock = threading.Lock()

    def missed(self, miss: Miss) -> Callable[[], object]:
        """Look for the causes of a miss, and note them; returns what tells them."""
        with self._lock:
            found = self._past.explain(miss)
            said = self._naming.named(miss.node, miss.number, found)
        if any(cause.kind == "evicted" for cause in found.causes):
            with suppress(StoreError):
                self._store.evidence.exhume(miss.wanted.key)
        before, differs = found.before, found.causes if found.causes != said else ()
        self._chronicle.missed(
            miss.number,
            causes=[cause_fields(cause) for cause in said],
            differs=[cause_fields(cause) for cause in differs],
            more=found.more,
            against={"build": before.build.id, "number": before.step.number} if before is not None else None,
        )
        return partial(self._chronicle.on_event, StepMissed(miss.number, said, found.more if said == found.causes else 0))


def earlier_builds(store: Store, build: EarlierBuild, before: float | None = None) -> Iterator[EarlierBuild]:
    """The builds of what a build builds, the last one first, as far as they got to steps: those of the same target, else of any. A
    Buildfile that is in no file of its own is told from others by its context. `before`: only those that started before that time."""
    others, known = list[EarlierBuild](), set[str]()
    subject = (build.target, build.bake_target)
    # The last one has mostly been said and not been taken in, and tells all there is to tell.
    for other in _lately(store) if before is None else ():
        if other.id in known or other.buildfile != build.buildfile or not _is_like(other, build):
            continue
        if (other.target, other.bake_target) == subject:
            known.add(other.id)
            yield other
    from imgbuild.store.history import History

    history = History(store)
    for size in _PAGES:
        page = [parse_earlier(record) for record in history.recent(size, buildfile=build.buildfile, before=before)]
        for other in page:
            if other.id in known or not _is_like(other, build):
                continue
            if (other.target, other.bake_target) == subject:
                known.add(other.id)
                yield other
            else:
                others.append(other)
        if len(page) < size:
            break
        before = page[-1].started
    if not known:
        yield from others


def _lately(store: Store) -> Iterator[EarlierBuild]:
    for value in lately(store.root):
        if (record := admitted(value)) is not None:
            yield parse_earlier(record)


def _is_like(other: EarlierBuild, build: EarlierBuild) -> bool:
    """Whether it is another build that got to steps, of what may be the same Buildfile."""
    if other.id == build.id or not any(step.key for step in other.steps):
        return False
    return build.buildfile.startswith("/") or other.context == build.context


_SCRATCH = ("scratch", "none")


def _base_now(graph: BuildGraph, node: Node) -> tuple[str, str] | None:
    """The image that a step stands on, by name and digest, where no step is between."""
    if stands_on(graph, node)[0] is not None:
        return None
    base = base_of(graph, graph.stages[node[0]])
    return (base.name, base.digest) if base is not None else _SCRATCH


def _base(before: Before) -> tuple[str, str] | None:
    if before.step.stands:
        return None
    digest = before.step.base
    return (before.build.bases.get(digest, ""), digest) if digest else _SCRATCH


def _stage(platform: str, name: str) -> str:
    return f"{platform} {name}"


def _evicted(kind: str, stone: Tombstone) -> Cause:
    return Cause(kind, old=time.strftime("%Y-%m-%d %H:%M", time.localtime(stone.evicted)), new=stone.policy)
