"""``bisect``: after which step of a build, or by which difference between two images, a command begins to fail. The command runs in a
container of each state that is looked at, as `run` does it; nothing of that stays."""

from __future__ import annotations

from imgbuild.engine.blame import origins
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.performed import BUILD, base_of, build_of, build_that_made, chain_of, image_of, last_step, layer_of, result_of, step_of
from imgbuild.engine.subjects import image_lowers, subject_image
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import BuildfileError, ConflictError, NotFoundError, UsageError
from imgbuild.hints import TYPE_CHECKING, Callable
from imgbuild.insight import bisect as searching
from imgbuild.insight.bisect import Verdict
from imgbuild.insight.builds import BuildRecord
from imgbuild.insight.config_changes import config_changes
from imgbuild.light.contextlib import ExitStack
from imgbuild.oci.config import ImageConfig
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import Layer
from imgbuild.snapshot.union import UnionView
from imgbuild.transfer.images import Image
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from imgbuild.runtime.containers import ContainerRuntime
    from imgbuild.sandbox.zygote import Zygote

_EMPTY = 1024
"""Bytes of a tar without an entry: nothing has changed."""


@dataclass(frozen=True, slots=True)
class BisectRequest:
    """The command, for a shell, and where it fails: after the last step of `subject`, or, where `other` is given, in that while it does not
    in `subject`. `good` and `bad` are numbers of steps after which it is known to be so. `quiet`: what it writes is not passed on."""

    command: str
    subject: str = "build:last"
    other: str | None = None
    good: int | None = None
    bad: int | None = None
    user: str = ""
    network: bool = True
    platform: str | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """A root file system on the way from good to bad. `number` is the step's, or the layer's; `text` what was done last, at `place`."""

    number: int
    text: str
    place: str
    layers: tuple[Layer, ...]
    config: ImageConfig | None


@dataclass(frozen=True, slots=True)
class Tested:
    """A state that was tested; `code` is the command's, None where it could not be run: `problem` says why."""

    state: State
    verdict: Verdict
    code: int | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The first bad state, or those that may be it; `before` is the last good one. `what` the numbers count: step, layer or difference."""

    first: tuple[State, ...]
    before: State
    what: str


def bisect(invocation: Invocation, request: BisectRequest, on_tested: Callable[[Tested], None]) -> Found:
    """Find it. NotFoundError where the command does not fail in the end, ConflictError where it never succeeds. Call it from the main
    thread."""
    with ExitStack() as stack:
        place = stack.enter_context(workplace(invocation, sandboxes=True))
        stack.enter_context(place.store.lease())
        zygote = place.zygote
        what, states = _between(place, request) if request.other is not None else _states(place, request)
        return _Bisection(place, zygote, request, states, on_tested).run(what, back=request.other is None and request.good is None)


class _Bisection:
    """The states of a line, tested where that is asked for, and once."""

    def __init__(
        self, place: Workplace, zygote: Zygote, request: BisectRequest, states: list[State], on_tested: Callable[[Tested], None]
    ) -> None:
        from imgbuild.engine.containers import container_runtime

        self._place = place
        self._zygote = zygote
        self._request = request
        self._states = states
        self._on_tested = on_tested
        self._runtime: ContainerRuntime = container_runtime(place)

    def run(self, what: str, *, back: bool) -> Found:
        """`back`: where the first state is not good, the last good one is looked for."""
        end = len(self._states) - 1
        if end < 1:
            raise NotFoundError("there is nothing between the first and the last state", hint="name a build or an image with steps")
        last = self._test(end)
        if last != "bad":
            said = "succeeds" if last == "good" else "can't be tested"
            hint = "--bad names one after which it fails"
            raise NotFoundError(f"the command {said} in the end, {_after(what, self._states[end])}", hint=hint)
        first = self._test(0)
        if first == "good":
            numbers = searching.search(0, end, self._test)
        elif back:
            numbers = searching.search_back(end, lambda number: first if number == 0 else self._test(number))
        else:
            numbers = ()
        if not numbers:
            hint = "name another --good" if self._request.good is not None else "name a state in which it does"
            raise ConflictError(f"the command does not succeed before that, either: {_after(what, self._states[0])}", hint=hint)
        return Found(tuple(self._states[number] for number in numbers), self._states[numbers[0] - 1], what)

    def _test(self, number: int) -> Verdict:
        tested = self._performed(self._states[number])
        self._on_tested(tested)
        return tested.verdict

    def _performed(self, state: State) -> Tested:
        from imgbuild.runtime.options import RunOptions
        from imgbuild.runtime.prepare import RunImage
        from imgbuild.runtime.supervise import Streams

        if not state.layers:
            return Tested(state, "skip", None, "there is nothing to run it with")
        lowers = image_lowers(self._place, state.layers)
        options = RunOptions(
            command=("-c", self._request.command), entrypoint=("/bin/sh",), user=self._request.user, auto_remove=True,
            network="host" if self._request.network else "none",
        )  # fmt: skip
        with UnionView(lowers, userxattr=self._place.features.rootless) as view:
            config = _fitting(state.config, view)
        streams = Streams(None, None, None) if self._request.quiet else Streams(None, 2, 2)
        try:
            container = self._runtime.create(RunImage("bisect", "", config, lowers), options)
            outcome = self._runtime.start(self._zygote, container, streams)
        except BuildfileError as error:  # no such user here
            return Tested(state, "skip", None, error.message)
        if outcome.setup_failed:
            return Tested(state, "skip", None, outcome.message)
        return Tested(state, searching.verdict_of(outcome.exit_code), outcome.exit_code, outcome.message)


def _fitting(config: ImageConfig | None, view: UnionView) -> ImageConfig:
    """The config of the image, as far as this state can have it: a user or a directory that is made later is not there yet."""
    from imgbuild.engine.machine import this_platform
    from imgbuild.rootfs.users import lookup_user

    if config is None:
        return ImageConfig(this_platform())
    run = replace(config.config, volumes=())
    try:
        lookup_user(view, run.user)
    except BuildfileError:
        run = replace(run, user="")
    if run.working_dir and view.stat(run.working_dir) is None:
        run = replace(run, working_dir="")
    return replace(config, config=run)


def _after(what: str, state: State) -> str:
    return f"after {what} {state.number}, {state.text}" if state.number else state.text


def _states(place: Workplace, request: BisectRequest) -> tuple[str, list[State]]:
    """What stands after each step that made a layer, from the base on."""
    word = request.subject
    if word.startswith(BUILD):
        name, _, number = word.removeprefix(BUILD).partition("/")
        build = build_of(place, name)
        return "step", _within(_steps(place, build, number, request.platform), request)
    image = subject_image(place, word, request.platform)
    made = build_that_made(place, image.descriptor.digest)
    if made is not None:
        return "step", _within(_steps(place, made, "", request.platform), request)
    return "layer", _within(_image_states(place, image, word), request)


def _steps(place: Workplace, build: BuildRecord, number: str, platform: str | None) -> list[State]:
    config: ImageConfig | None = None
    if build.digest:
        config = result_of(place, build, platform).config
    elif len(build.bases) == 1:
        config = image_of(place, Digest(build.bases[0]["digest"]), f"the base {build.bases[0]['name']}").config
    chain = chain_of(build, step_of(build, number) if number else last_step(place, build, platform))
    layers = base_of(place, build, chain)
    states = [State(0, "the base of the build", "", layers, config)]
    for step in chain:
        if step.layer is None or step.test:
            continue
        layers = (*layers, layer_of(place, step))
        where = f"{step.file.removeprefix(build.context.rstrip('/') + '/')}:{step.line}"
        if not 0 < step.layer.uncompressed <= _EMPTY:
            states.append(State(step.number, step.text, where, layers, config))
    return states


def _image_states(place: Workplace, image: Image, word: str) -> list[State]:
    known = origins(place, image, word)
    return [
        State(each.number, each.instruction or each.diff_id, each.place, image.layers[: each.number], image.config) for each in known
    ]  # fmt: skip


def _within(states: list[State], request: BisectRequest) -> list[State]:
    """Those from --good to --bad."""
    numbers = [state.number for state in states]
    for option, wanted in (("good", request.good), ("bad", request.bad)):
        if wanted is not None and wanted not in numbers:
            known = ", ".join(map(str, numbers))
            raise NotFoundError(f"--{option} {wanted}: nothing that changed a file has this number", hint=f"the numbers are: {known}")
    first = 0 if request.good is None else numbers.index(request.good)
    last = len(states) - 1 if request.bad is None else numbers.index(request.bad)
    if first >= last and (request.good, request.bad) != (None, None):
        raise UsageError("--good is to be before --bad")
    return states[first : last + 1]


def _between(place: Workplace, request: BisectRequest) -> tuple[str, list[State]]:
    """From one image to another, one difference after another: the configs, then the layers that differ, the lowest first. What is between
    the two has the new layers below and the old ones above."""
    if request.good is not None or request.bad is not None:
        raise UsageError("--good and --bad are for the steps of one build")
    assert request.other is not None
    old, new = (subject_image(place, word, request.platform) for word in (request.subject, request.other))
    texts = [[each.instruction or each.diff_id for each in origins(place, image, "the image")] for image in (old, new)]
    places = [each.place for each in origins(place, new, request.other)]
    pieces = list(searching.parts([each.diff_id for each in old.layers], [each.diff_id for each in new.layers], *texts))
    config = old.config
    states = [State(0, request.subject, "", old.layers, config)]
    if changed := config_changes(old.config, new.config):
        config = new.config
        names = ", ".join(f"{each.field} {each.key}".strip() for each in changed)
        states.append(State(1, f"config: {names}", "", old.layers, config))
    layers: tuple[Layer, ...] = ()
    for part in pieces:
        layers += new.layers[part.new : part.new_end]
        if part.same:
            continue
        text = "; ".join(texts[1][part.new : part.new_end]) or "without " + "; ".join(texts[0][part.old : part.old_end])
        where = places[part.new] if part.new < part.new_end else ""
        states.append(State(len(states), text, where, layers + old.layers[part.old_end :], config))
    return "difference", states
