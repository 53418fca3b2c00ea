"""A bake from end to end: build files, targets, and their builds side by side on one store."""

from __future__ import annotations

import secrets

from imgbuild.bake.overrides import parse_override
from imgbuild.bake.project import Project
from imgbuild.bake.select import Selection, select
from imgbuild.bake.target import Target
from imgbuild.engine.bake_files import load_project
from imgbuild.engine.bake_requests import request_of
from imgbuild.engine.build import DEFAULT_PARALLEL, BuildResult, OnEvent, build_planned
from imgbuild.engine.elsewhere import brought_in, is_elsewhere
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.request import BuildPlan, BuildRequest, make_plan
from imgbuild.engine.result_files import metadata, write_text
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ContextError, ImgbuildError, UsageError
from imgbuild.hints import Any, Hashable, Iterator, Mapping
from imgbuild.light import json, threading
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.light.functools import partial
from imgbuild.solve.events import Notice, StepFinished, StepMissed, StepOutput, StepStarted, StepWaiting
from imgbuild.solve.memory import Memory
from imgbuild.solve.workers import Crew, Workers, beside
from imgbuild.store.locks import Interrupted
from imgbuild.values import dataclass, replace

_JOIN_SECONDS = 5.0
_KEY_OF_OPTION = {
    "--tag": "tags", "--secret": "secret", "--output": "output", "--platform": "platforms", "--build-context": "contexts",
    "--label": "labels", "--build-arg": "args", "--ssh": "ssh", "--network": "network", "--add-host": "extra-hosts",
    "--ulimit": "ulimits", "--shm-size": "shm-size", "--allow": "entitlements", "--annotation": "annotations",
}  # fmt: skip
"""The key of a target that is to blame for what is said of an option."""


@dataclass(frozen=True, slots=True)
class BakeRequest:
    """What ``imgbuild bake`` was asked for, as its options say it."""

    targets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    parallel: int | None = None
    metadata_file: str | None = None
    replay_logs: bool = False


@dataclass(frozen=True, slots=True)
class _Planned:
    """A target with its build, checked before anything is started."""

    target: Target
    request: BuildRequest
    plan: BuildPlan
    keep: bool


def declared(invocation: Invocation, request: BakeRequest, on_event: OnEvent) -> Project:
    """What the build files declare."""
    return load_project(invocation, request.files, request.variables, lambda text: on_event(Notice(text)))


def selected(invocation: Invocation, request: BakeRequest, on_event: OnEvent) -> Selection:
    """The targets that are meant, complete."""
    project = declared(invocation, request, on_event)
    overrides = [parse_override(text, project.targets, invocation.environ) for text in request.overrides]
    return select(project, request.targets, overrides)


def requests(invocation: Invocation, request: BakeRequest, on_event: OnEvent) -> dict[str, BuildRequest]:
    """What each target that was asked for asks of a build."""
    selection = selected(invocation, request, on_event)
    return {
        name: request_of(target, request.allow, lambda text: on_event(Notice(text)))
        for name, target in selection.targets.items()
        if name in selection.asked
    }


def bake(invocation: Invocation, request: BakeRequest, on_event: OnEvent) -> dict[str, BuildResult]:
    """Build all targets that are meant; the results of those that were asked for, by name, in their order.

    The first failure ends the others, and is raised; what was complete before keeps its name.
    """
    selection = selected(invocation, request, on_event)
    builds = {name: request_for(request, selection, name, on_event) for name in selection.targets}
    with ExitStack() as stack:
        place: Workplace | None = None
        if any(is_elsewhere(build.context) for build in builds.values()):
            place = _opened(invocation, stack, on_event)
            for name, build in builds.items():
                with of_target(selection.targets[name]):
                    builds[name] = stack.enter_context(brought_in(place, build, on_event))
        planned = {name: _planned(invocation, build, selection, name) for name, build in builds.items()}
        _check_results(planned)
        place = place or _opened(invocation, stack, on_event)
        results = _Bake(place, planned, on_event).run(request.parallel or place.settings.parallelism or DEFAULT_PARALLEL)
    asked = {name: results[name] for name in planned if name in selection.asked}
    if request.metadata_file:
        write_text(request.metadata_file, json.dumps({name: metadata(result) for name, result in asked.items()}, indent=2) + "\n")
    return asked


def _check_results(planned: Mapping[str, _Planned]) -> None:
    """UsageError where two targets would leave their results in one place, so that which of them is there at the end is chance."""
    taken: dict[str, str] = {}
    for name, each in planned.items():
        if not each.keep:
            continue
        places = {f"the tag {tag.familiar()}": "tags" for tag in each.plan.names}
        files = [output for output in each.plan.outputs if output.dest and output.kind != "local"]
        places |= {"stdout" if output.dest == "-" else f"the file {output.dest}": "output" for output in files}
        for place, key in places.items():
            if place in taken:
                raise UsageError(f"the targets {taken[place]} and {name} both make {place}", at=each.target.at(key), hint="only one can")
            taken[place] = name


def _opened(invocation: Invocation, stack: ExitStack, on_event: OnEvent) -> Workplace:
    place = stack.enter_context(workplace(invocation, sandboxes=True))
    stack.enter_context(place.store.lease())
    if place.notice:
        on_event(Notice(place.notice))
    return place


def request_for(request: BakeRequest, selection: Selection, name: str, on_event: OnEvent) -> BuildRequest:
    target = selection.targets[name]
    with of_target(target):
        build = request_of(target, request.allow, lambda text: on_event(Notice(text)))
        return replace(build, parallel=request.parallel, replay_logs=request.replay_logs)


def _planned(invocation: Invocation, build: BuildRequest, selection: Selection, name: str) -> _Planned:
    target = selection.targets[name]
    with of_target(target):
        return _Planned(target, build, make_plan(invocation, build), name in selection.asked)


@contextmanager
def of_target(target: Target) -> Iterator[None]:
    """Errors inside name the target, and the key that they are about."""
    try:
        yield
    except ImgbuildError as error:
        option = error.message.split()[0].removesuffix(":")
        key = _KEY_OF_OPTION.get(option, "context" if isinstance(error, ContextError) else "")
        if error.at is None:
            error.message = f"target {target.name}: {error.message}"
        raise error.located(target.at(key)) from None


class _Bake:
    """Builds planned targets, each after those that it reads."""

    def __init__(self, place: Workplace, planned: Mapping[str, _Planned], on_event: OnEvent) -> None:
        self._place = place
        self._planned = planned
        self._numbers = _Numbers(on_event)
        self._build_id = secrets.token_hex(8)
        self._results: dict[str, BuildResult] = {}
        self._failures: list[ImgbuildError] = []

    def run(self, width: int) -> Mapping[str, BuildResult]:
        """The results; the first failure where one is."""
        if len(self._planned) == 1:
            for name in self._planned:
                self._build(name, None)
            return self._results
        # The last moment with one thread.
        self._place.start_zygote()
        crew, workers = Crew(width, Memory(self._place.settings.memory)), Workers(width)
        tasks: dict[Hashable, partial[None]] = {name: partial(self._task, name, crew) for name in self._planned}
        needs: dict[Hashable, tuple[str, ...]] = {name: each.target.linked() for name, each in self._planned.items()}
        try:
            beside(lambda: workers.run(tasks, needs))
        except BaseException as error:
            hurried = not isinstance(error, Exception)
            crew.stop(hurried=hurried)
            workers.stop()
            workers.join(_JOIN_SECONDS if hurried else None)
            # A build that was stopped for another one's sake is not what went wrong.
            real = [failure for failure in self._failures if not isinstance(failure, Interrupted)]
            if not hurried and real:
                raise real[0] from None
            raise
        return self._results

    def _task(self, name: str, crew: Crew) -> None:
        try:
            crew.check()
            self._build(name, crew)
        except ImgbuildError as error:
            self._failures.append(error)
            crew.stop(hurried=False)
            raise
        except BaseException:
            crew.stop(hurried=False)
            raise

    def _build(self, name: str, crew: Crew | None) -> None:
        planned = self._planned[name]
        try:
            self._results[name] = build_planned(
                self._place,
                planned.request,
                self._plan(planned),
                partial(self._numbers.on_event, name),
                build_id=self._build_id,
                crew=crew,
                keep=planned.keep,
                target=name,
                shown=partial(self._numbers.number, name),
            )
        except ImgbuildError as error:
            error.message = f"target {name}: {error.message}"
            raise

    def _plan(self, planned: _Planned) -> BuildPlan:
        """The plan, where what other targets left is no longer a name."""
        contexts = dict(planned.plan.contexts)
        for name, context in contexts.items():
            if context.kind == "stored" and context.value in self._results:
                contexts[name] = replace(context, value=self._results[context.value].digest, target=context.value)
        return replace(planned.plan, contexts=contexts)


class _Numbers:
    """Events of several builds as those of one: steps with numbers of their own, and the target's name before theirs."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], int] = {}

    def on_event(self, target: str, event: object) -> None:
        match event:
            case StepStarted(number, name):
                shown = f"[{target} {name.removeprefix('[')}" if name.startswith("[") else f"[{target}] {name}"
                event = replace(event, number=self.number(target, number), name=shown)
            case StepOutput(number) | StepWaiting(number) | StepFinished(number):
                event = replace(event, number=self.number(target, number))
            case StepMissed(number, causes):
                own = tuple(self._renamed(target, cause) for cause in causes)
                event = replace(event, number=self.number(target, number), causes=own)
            case Notice(text):
                event = Notice(f"{target}: {text}")
        self._on_event(event)

    def _renamed(self, target: str, cause: Any) -> Any:
        """A cause that names a step, by the number that this has here."""
        digits = cause.subject.removeprefix("#")
        if cause.kind != "parent" or digits == cause.subject:
            return cause
        return replace(cause, subject=f"#{self.number(target, int(digits))}")

    def number(self, target: str, number: int) -> int:
        """What a step of a target is called here."""
        with self._lock:
            return self._known.setdefault((target, number), len(self._known) + 1)
