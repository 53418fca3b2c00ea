"""What is noted of every build that gets as far as the store, for `imgbuild builds`: what it was asked for, and how it ended."""

from __future__ import annotations

import os
import time

from imgbuild import __version__
from imgbuild.engine.request import BuildPlan, BuildRequest
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import ImgbuildError
from imgbuild.graph.options import PROXY_ARGUMENTS, proxy_passwords
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Iterator
from imgbuild.light import threading
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.functools import partial
from imgbuild.solve.chronicle import Chronicle
from imgbuild.store.journal import DIRECTORY, FORM, JOURNAL, new_id
from imgbuild.store.locks import Interrupted

if TYPE_CHECKING:
    from imgbuild.engine.build import BuildResult, OnEvent
    from imgbuild.engine.explained import Explaining
    from imgbuild.graph.ops import BuildGraph
    from imgbuild.solve.nodes import Node
    from imgbuild.solve.state import Wanted

_OPTIONS = (
    "no_cache", "no_cache_filter", "pull", "outputs", "allow", "hosts", "network", "shm_size", "ulimits", "cgroup_parent", "memory",
    "memory_swap", "cpu_period", "cpu_quota", "labels", "annotations", "platforms", "source_date_epoch", "compression", "parallel",
    "contexts",
)  # fmt: skip
"""What of a request is recorded as it was given, where it was."""
_TRIMMED = f"{DIRECTORY}/trimmed"
"""A file that was last written when the history was trimmed."""
_TRIM_SECONDS = 3600.0


@contextmanager
def recorded(
    place: Workplace,
    request: BuildRequest,
    on_event: OnEvent,
    *,
    build: str = "",
    bake: str = "",
    name: str = "",
    shown: Callable[[int], int] | None = None,
) -> Iterator[Chronicle]:
    """Notes what happens inside, and how it ends. `bake` is the id of what several builds belong to, `name` the target's in its file, and
    `shown` makes of a step's number the one that it has there."""
    asked = BuildRequest()
    options = {option: getattr(request, option) for option in _OPTIONS if getattr(request, option) != getattr(asked, option)}
    if request.contexts:
        options["contexts"] = tuple(map(_named_context, request.contexts))
    header: dict[str, object] = {
        "form": FORM, "id": build or new_id(), "version": __version__, "context": _context(request.context),
        "buildfile": request.file or "", "target": request.target, "options": options,
    }  # fmt: skip
    if bake:
        header["bake"] = {"id": bake, "target": name}
    store, most = place.store, place.settings.history_log
    kept = "records" not in place.invocation.disabled()
    chronicle = Chronicle(str(store.root), header, on_event, clock=store.clock, most_log=most, shown=shown, kept=kept)
    try:
        yield chronicle
    except BaseException as error:
        failed = isinstance(error, Exception) and not isinstance(error, Interrupted)
        chronicle.end("failed" if failed else "canceled", {}, error if isinstance(error, ImgbuildError) else None)
        raise
    if chronicle.kept_logs and _is_due(place, chronicle):
        with suppress(ImgbuildError):
            trim_history(place)


def trim_history(place: Workplace) -> int:
    """Forget the builds that the settings do not keep; how many."""
    from imgbuild.store.history import History

    with suppress(OSError):
        (place.store.root / _TRIMMED).write_bytes(b"")
    since = place.store.clock() - place.settings.history_age
    return History(place.store).trim(since=since, size=place.settings.history_size)


def note_plan(chronicle: Chronicle, request: BuildRequest, plan: BuildPlan) -> None:
    """What is known of the build when its request has been checked. Of secrets and agents, only the ids; no values of proxies."""
    given = {word.partition("=")[0] for word in request.build_args}
    shown = {name: value for name, value in plan.options.build_args.items() if name in given and name not in PROXY_ARGUMENTS}
    options = chronicle.header["options"]
    if plan.secrets:
        shown, options = _without(plan, shown), _without(plan, options)
    facts = {
        "options": options, "args": shown, "secrets": sorted(plan.secrets), "ssh": sorted(plan.agents),
        "names": [name.familiar() for name in plan.names],
    }  # fmt: skip
    platforms = [str(target.platform) for target in plan.targets]
    chronicle.note(buildfile=_buildfile(plan), platforms=platforms, **{name: value for name, value in facts.items() if value})
    passwords = (password.encode() for password in proxy_passwords(plan.options.build_args))
    chronicle.hide((*(secret.data for secret in plan.secrets.values()), *passwords))


def _without(plan: BuildPlan, value: Any) -> Any:
    """What was asked for, without the bytes of secrets."""
    from imgbuild.solve.redaction import redacted_text

    if isinstance(value, str):
        return redacted_text(value, [secret.data for secret in plan.secrets.values()])
    if isinstance(value, dict):
        return {name: _without(plan, inner) for name, inner in value.items()}
    return tuple(_without(plan, inner) for inner in value) if isinstance(value, tuple) else value


def subject_of(request: BuildRequest, plan: BuildPlan) -> dict[str, str]:
    """What a record says of a build that tells builds of the same thing."""
    return {"buildfile": _buildfile(plan), "context": _context(request.context), "target": request.target}


def note_result(chronicle: Chronicle, result: BuildResult) -> None:
    """How the build ended, if it ended well."""
    chronicle.end("done", {"image": result.image_id, "digest": result.digest, "size": result.descriptor.size})


class Explainer:
    """Knows why steps are performed, from what was recorded of earlier builds: read when the first one is."""

    def __init__(self, place: Workplace, graph: BuildGraph, chronicle: Chronicle) -> None:
        self._place = place
        self._graph = graph
        self._chronicle = chronicle
        self._first: bool | None = None
        self._explaining: Explaining | None = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Read what will be needed; a store's first build needs nothing."""
        if self._chronicle.kept:
            with self._lock:
                if self._first is None:
                    self._first = _is_first(self._place, self._chronicle)
                if not self._first:
                    self._made()

    def look(self, number: int, node: Node, wanted: Wanted, why: str) -> Callable[[], object]:
        """Look for why a step was not found, and note it; returns what tells it."""
        if not self._chronicle.kept:
            return lambda: None
        self.prepare()
        if self._first and not wanted.step.no_cache and why == "record":
            return _of_first(self._chronicle, number)
        from imgbuild.solve.remembered import Miss

        with self._lock:
            explaining = self._made()
        return explaining.missed(Miss(number, node, wanted, why))

    def _made(self) -> Explaining:
        if self._explaining is None:
            from imgbuild.engine.explained import Explaining

            self._explaining = Explaining(self._place.store, self._graph, self._chronicle)
        return self._explaining


def _is_first(place: Workplace, chronicle: Chronicle, *own: str) -> bool:
    """Whether there has been no build in this store that got to steps: then there is nothing to read before a step's cause is known.
    Each leaves something here, and the first that ended well the mark of the last trim. `own`: what else is of this one."""
    try:
        return set(os.listdir(place.store.root / DIRECTORY)) <= {chronicle.build, *own}
    except OSError:
        return False


def _of_first(chronicle: Chronicle, number: int) -> Callable[[], object]:
    from imgbuild.insight.cause import Cause, cause_fields
    from imgbuild.solve.events import StepMissed

    cause = Cause("first")
    chronicle.missed(number, causes=[cause_fields(cause)], differs=[], more=0, against=None)
    return partial(chronicle.on_event, StepMissed(number, (cause,), 0))


def _is_due(place: Workplace, chronicle: Chronicle) -> bool:
    """Whether it is long ago that the history was trimmed. A store that nobody prunes is bounded, too."""
    mark = place.store.root / _TRIMMED
    try:
        return time.time() - os.stat(mark).st_mtime > _TRIM_SECONDS
    except OSError:
        if not _is_first(place, chronicle, os.path.basename(JOURNAL)):
            return True
    with suppress(OSError):  # there is nothing to forget yet
        mark.write_bytes(b"")
    return False


def _buildfile(plan: BuildPlan) -> str:
    source = plan.source
    return os.path.realpath(source.file) if source.file is not None and not source.fetched else source.name


def _context(context: str) -> str:
    """The context's path, or what may be shown of its URL."""
    if context == "-" or os.path.exists(context):
        return context if context == "-" else os.path.realpath(context)
    return _shown(context)


def _named_context(word: str) -> str:
    name, equals, place = word.partition("=")
    return f"{name}{equals}{_shown(place)}"


def _shown(place: str) -> str:
    if "://" not in place:
        return place
    from imgbuild.registry.redaction import shown_url

    return shown_url(place)
