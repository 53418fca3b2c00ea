"""Containers, for the command line and for programs: `run`, `execute`, and what is done with containers that are there."""

from __future__ import annotations

import os
import time

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import UsageError
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Iterator
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.light.functools import partial
from imgbuild.linux.emulation import runs
from imgbuild.linux.features import Features, probe
from imgbuild.oci.platform import Platform, normalize, parse_platform
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.runtime.options import ExecOptions, RunOptions
from imgbuild.runtime.outcome import Outcome
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from imgbuild.runtime.containers import Container, ContainerRuntime
    from imgbuild.runtime.logs import LogEntry
    from imgbuild.runtime.prepare import RunImage
    from imgbuild.runtime.records import ContainerRecord
    from imgbuild.runtime.supervise import Streams
    from imgbuild.sandbox.zygote import Zygote
    from imgbuild.store.store import Store
    from imgbuild.transfer.images import Image

OnEvent = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Which image to run, and how. `pull`: missing, always, newer or never."""

    image: str
    options: RunOptions
    pull: str = "missing"
    platform: str = ""
    cidfile: str = ""


class _CannotStart(Exception):
    """The command of a detached container never ran."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def run(invocation: Invocation, request: RunRequest, on_event: OnEvent = lambda _: None) -> Outcome:
    """Run a container in the foreground, with this process's standard streams, to its end. Call it from the main thread."""
    from imgbuild.runtime.signals import SignalPipe
    from imgbuild.runtime.supervise import Streams

    with workplace(invocation, sandboxes=True, begin=partial(_expect, request.options)) as place:
        runtime = container_runtime(place)
        container = _create(place, runtime, request, on_event)
        with SignalPipe() as signals:
            return runtime.start(place.zygote, container, Streams(), signals=signals)


def run_detached(invocation: Invocation, request: RunRequest, on_event: OnEvent = lambda _: None) -> tuple[str, Outcome]:
    """Start a container and leave its supervisor behind: the container's id, and the outcome where its command never ran."""
    from imgbuild.runtime.detach import detached

    invocation = _anchored(invocation)

    def supervise(report: Callable[[str], None]) -> None:
        from imgbuild.runtime.signals import SignalPipe
        from imgbuild.runtime.supervise import Streams

        with workplace(invocation, sandboxes=True, begin=partial(_expect, request.options)) as place:
            runtime = container_runtime(place)
            container = _create(place, runtime, request, on_event)
            with SignalPipe() as signals:
                streams = Streams(None, None, None)
                outcome = runtime.start(place.zygote, container, streams, signals=signals, started=lambda: report(container.id))
            if outcome.setup_failed:
                raise _CannotStart(outcome)

    try:
        return detached(supervise), Outcome(0)
    except _CannotStart as error:
        return "", error.outcome


def execute(invocation: Invocation, name: str, options: ExecOptions) -> Outcome:
    """Run a command in a running container, with this process's standard streams; with `detach`, leave it behind."""
    from imgbuild.runtime.supervise import Streams

    if not options.detach:
        return _execute(invocation, name, options, Streams(), lambda: None)
    from imgbuild.runtime.detach import detached

    invocation = _anchored(invocation)

    def supervise(report: Callable[[str], None]) -> None:
        outcome = _execute(invocation, name, options, Streams(None, None, None), lambda: report(name))
        if outcome.setup_failed:
            raise _CannotStart(outcome)

    try:
        detached(supervise)
    except _CannotStart as error:
        return error.outcome
    return Outcome(0)


def containers(invocation: Invocation) -> tuple[ContainerRecord, ...]:
    """All containers, newest first, the ended ones too."""
    with _opened(invocation) as runtime:
        return runtime.list()


def inspect(invocation: Invocation, name: str) -> dict[str, Any]:
    """All that is known of a container, as JSON values."""
    with _opened(invocation) as runtime:
        return runtime.inspect(name)


def logs(invocation: Invocation, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[LogEntry]:
    """What a container has written; with `follow`, until it ends."""
    with _opened(invocation) as runtime:
        entries = runtime.logs(name, tail=tail, follow=follow)
    yield from entries


def wait(invocation: Invocation, name: str) -> int:
    """Wait until a container has ended: its exit code."""
    with _opened(invocation) as runtime:
        return runtime.wait(name)


def stop(invocation: Invocation, name: str, seconds: float | None = None) -> None:
    """Ask a container to end, and kill it where it does not listen."""
    with _opened(invocation, name) as runtime:
        runtime.stop(name, seconds)


def kill(invocation: Invocation, name: str, number: int) -> None:
    """Signal a container's first process."""
    with _opened(invocation, name) as runtime:
        runtime.kill(name, number)


def remove(invocation: Invocation, name: str, *, force: bool = False) -> None:
    """Remove a container and its anonymous volumes."""
    with _opened(invocation, name) as runtime:
        runtime.remove(name, force=force)


def _execute(
    invocation: Invocation, name: str, options: ExecOptions, streams: Streams, started: Callable[[], None]
) -> Outcome:
    from imgbuild.runtime.signals import SignalPipe
    from imgbuild.sandbox.zygote import Zygote

    invocation = _beside(invocation, name)
    with ExitStack() as stack:
        features = probe(invocation.disabled())
        zygote = stack.enter_context(Zygote.start(features, enters_others=True))
        runtime = _known(stack, invocation, features)
        signals = stack.enter_context(SignalPipe())
        return runtime.execute(zygote, name, options, streams, signals=signals, started=started)


def _create(place: Workplace, runtime: ContainerRuntime, request: RunRequest, on_event: OnEvent) -> Container:
    if request.cidfile and os.path.lexists(request.cidfile):
        raise UsageError(f"the file {request.cidfile} for the container's id exists", hint="remove it, or give another --cidfile")
    with place.store.lease():
        container = runtime.create(_image(place, request, on_event), request.options)
    if request.cidfile:
        try:
            with open(request.cidfile, "x", encoding="ascii") as file:
                file.write(container.id)
        except OSError as error:
            runtime.abandon(container)
            raise UsageError(f"can't write the file {request.cidfile} for the container's id", detail=error.strerror) from None
    if container.notice:
        from imgbuild.solve.events import Notice

        on_event(Notice(container.notice))
    return container


def _image(place: Workplace, request: RunRequest, on_event: OnEvent) -> RunImage:
    from imgbuild.rootfs.noted import noted_lowers
    from imgbuild.runtime.prepare import RunImage

    image = _local_image(place, request)
    if image is None:
        image = _pulled_image(place, request, parse_reference(request.image), on_event)
    lowers = noted_lowers(place.store, image.layers, place.features)
    if lowers is None:
        from imgbuild.rootfs.materialize import materialize
        from imgbuild.rootfs.noted import note_lowers

        lowers = materialize(place.store, image.layers, features=place.features)
        note_lowers(place.store, image.layers, place.features, lowers)
    name = image.reference.familiar() if image.reference is not None else request.image
    return RunImage(name, image.descriptor.digest, image.config, lowers)


def _local_image(place: Workplace, request: RunRequest) -> Image | None:
    """The common case, without what speaks to registries: the image is here, by name or ID, and may be used as it is."""
    from imgbuild.engine.lookup import find_local
    from imgbuild.transfer.images import check_platform, read_image

    platform = _platform(request)
    reference: Reference | None = None
    descriptor = find_local(place.store, request.image)
    if descriptor is None:
        reference = parse_reference(request.image)
        descriptor = place.store.tags.get(reference) if request.pull in ("missing", "never") else None
    if descriptor is None:
        return None
    image = read_image(place.store, descriptor, platform, reference)
    check_platform(image, platform, request.image)
    return image if image.complete(place.store) else None


def _pulled_image(place: Workplace, request: RunRequest, reference: Reference, on_event: OnEvent) -> Image:
    from imgbuild.engine.registries import make_puller
    from imgbuild.transfer.pull import PullPolicy

    puller = make_puller(place, on_event, offline=request.pull == "never", lowers=True)
    return puller.pull(reference, _platform(request), PullPolicy(request.pull))


def _platform(request: RunRequest) -> Platform:
    machine = normalize("linux", os.uname().machine)
    wanted = parse_platform(request.platform, machine) if request.platform else machine
    if not machine.accepts(wanted) and not runs(os.uname().machine, wanted.architecture):
        raise UsageError(
            f"--platform {request.platform}: this machine is {machine}, and has no binfmt_misc handler for such programs",
            hint="install one (Debian, Ubuntu: apt-get install qemu-user-static binfmt-support)",
        )
    return wanted


def _expect(options: RunOptions, zygote: Zygote) -> None:
    """Let the container's sandbox be made while we look for the image, where it is as most are."""
    rights = options.cap_add or options.cap_drop or options.rlimits
    if options.network == "host" and not (rights or options.sysctl):
        zygote.expect(1)


def container_runtime(place: Workplace) -> ContainerRuntime:
    """The containers of a workplace's store."""
    from imgbuild.runtime.containers import ContainerRuntime
    from imgbuild.runtime.records import Records

    store = place.store
    records = Records(store.root / "containers", store.discard, store.clock)
    return ContainerRuntime(records, place.features, store.clock, lambda: store)


def _known(stack: ExitStack, invocation: Invocation, features: Features) -> ContainerRuntime:
    """The containers, of a store that is not opened for that, where there surely is one."""
    uid = os.geteuid()
    root = invocation.store_root(uid)
    if invocation.config_path(uid) is not None or not (root / "oci-layout").is_file():
        return container_runtime(stack.enter_context(workplace(invocation, snapshots=False)))
    from imgbuild.runtime.containers import ContainerRuntime
    from imgbuild.runtime.records import Records
    from imgbuild.store.temporary import Scratch

    def opened() -> Store:
        from imgbuild.store.store import Store

        return stack.enter_context(Store.open(root))

    return ContainerRuntime(Records(root / "containers", Scratch(root).discard, time.time), features, time.time, opened)


@contextmanager
def _opened(invocation: Invocation, beside: str = "") -> Iterator[ContainerRuntime]:
    with workplace(_beside(invocation, beside) if beside else invocation, snapshots=False) as place:
        yield container_runtime(place)


def _anchored(invocation: Invocation) -> Invocation:
    """For a process that will leave this directory: the store by its absolute path."""
    return replace(invocation, root=os.path.abspath(invocation.store_root(os.geteuid())))


def _beside(invocation: Invocation, name: str) -> Invocation:
    """Without root: enter the user namespace that the container lives in, where we may signal and enter all its processes.

    One of our own would be a sibling of that, without any right there. Nothing happens where there is no such container.
    """
    uid = os.geteuid()
    if uid == 0:
        return invocation
    from imgbuild.linux import userns
    from imgbuild.runtime.records import Records
    from imgbuild.store.temporary import Scratch

    root, config = invocation.store_root(uid), invocation.config_path(uid)
    if not (root / "containers").is_dir():
        return invocation
    record = Records(root / "containers", Scratch(root).discard, time.time).find(name)
    if record.state == "running" and record.supervisor:
        userns.join(record.supervisor)
    return replace(invocation, root=str(root), config=str(config) if config is not None else None)
