"""Containers from the outside: made, started, listed, entered, signalled, removed.

One process supervises each container (the command itself, or one that it left behind); all others speak to the container's
first process and read its record, so that nothing has to run when no container does.
"""

from __future__ import annotations

import os
import time

from imgbuild.errors import ConflictError, StoreError
from imgbuild.hints import TYPE_CHECKING, Any, Iterator
from imgbuild.light import signal
from imgbuild.light.contextlib import nullcontext, suppress
from imgbuild.light.pathlib import Path
from imgbuild.runtime import spec as plan
from imgbuild.runtime.names import check_name
from imgbuild.runtime.options import ExecOptions, RunOptions, parse_signal
from imgbuild.runtime.outcome import Outcome, outcome_of
from imgbuild.runtime.processes import identify, open_process, send, wait_ended
from imgbuild.runtime.records import ContainerRecord, Held, Records, record_json
from imgbuild.runtime.supervise import Streams, Wiring, screen_size, supervise
from imgbuild.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from imgbuild.linux.features import Features
    from imgbuild.runtime.logs import LogEntry, LogWriter
    from imgbuild.runtime.prepare import RunImage
    from imgbuild.runtime.signals import SignalPipe
    from imgbuild.sandbox.spec import Identity
    from imgbuild.sandbox.zygote import Sandbox, Zygote
    from imgbuild.store.store import Store

_DEFAULT_STOP_SECONDS = 10.0
_SETTLE_SECONDS = 10.0
_KILLED = 128 + signal.SIGKILL
_HOST_FILES = ("/etc/hosts", "/etc/resolv.conf")


class Container:
    """A container that this process made and will start: what it is made of, its record, and what the user should know of it."""

    def __init__(self, held: Held, image: RunImage, options: RunOptions, notice: str = "") -> None:
        self.held = held
        self.image = image
        self.options = options
        self.notice = notice

    @property
    def id(self) -> str:
        return self.held.record.id

    @property
    def name(self) -> str:
        return self.held.record.name


class ContainerRuntime:
    """The containers of one store, by their `records`; `store` opens it, where more than these is needed."""

    def __init__(self, records: Records, features: Features, clock: Callable[[], float], store: Callable[[], Store]) -> None:
        self.records = records
        self._features = features
        self._clock = clock
        self._store = store

    def create(self, image: RunImage, options: RunOptions) -> Container:
        """A new container, of which nothing runs yet. The caller holds a lease on the store; from now on the record keeps the
        image's snapshots. ConflictError where the name is taken."""
        if options.name:
            check_name(options.name)
        config = image.config.config
        plan.check_config(config)
        plan.command_line(config, options)
        stop_signal, notice = plan.stop_signal(config, options)

        def record(identifier: str, name: str) -> ContainerRecord:
            return ContainerRecord(
                id=identifier,
                name=name,
                image=image.reference,
                image_digest=image.digest,
                created=self._clock(),
                supervisor=os.getpid(),
                snapshots=image.snapshots,
                labels=tuple(sorted((dict(config.labels) | dict(options.labels)).items())),
                hostname=options.hostname or identifier[:12],
                network=options.network,
                detached=options.detach,
                auto_remove=options.auto_remove,
                stop_signal=stop_signal,
                stop_timeout=_DEFAULT_STOP_SECONDS if options.stop_timeout is None else options.stop_timeout,
            )

        return Container(self.records.create(record, options.name), image, options, notice)

    def start(
        self,
        zygote: Zygote,
        container: Container,
        streams: Streams,
        *,
        signals: SignalPipe | None = None,
        started: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Run a created container to its end. `started` is called when its command runs. The record says how it ended, also where
        that was an error of ours, which is raised; it is gone with the container where that was to be removed, or never ran."""
        held = container.held
        try:
            return self._run(zygote, container, streams, signals, started)
        except BaseException as error:
            if held.record.state == "running":
                self._record_end(container, exit_code=_KILLED, error=str(error) or type(error).__name__)
            raise
        finally:
            if container.options.auto_remove or held.record.state != "exited":
                _clear(held.directory)
                self.records.remove(held.record.id)
            held.close()

    def _run(
        self, zygote: Zygote, container: Container, streams: Streams, signals: SignalPipe | None, started: Callable[[], None]
    ) -> Outcome:
        from imgbuild.runtime.prepare import Ground, prepare

        held, options = container.held, container.options
        ground = Ground(self._store(), self._features, held.record.id, held.directory, _host_files())
        prepared = prepare(ground, container.image, options)
        spec = prepared.spec

        def running(sandbox: Sandbox) -> None:
            known = {"process": spec.process, "mounts": prepared.mounts, "cgroup": spec.cgroup_name}
            held.update(state="running", started=self._clock(), init=identify(sandbox.pid), **known)
            started()

        wiring = Wiring(options.terminal, options.interactive)
        sized = replace(spec, process=replace(spec.process, terminal_size=screen_size(streams, wiring)))
        with _log(held) if options.detach or not options.auto_remove else nullcontext() as log:
            status = supervise(
                lambda *ends: zygote.spawn(sized, *ends),
                streams,
                wiring,
                log=log,
                signals=signals,
                started=running,
            )
        outcome = outcome_of(status, f"container {held.record.name}", spec.process.argv[0], spec.limits)
        self._record_end(container, exit_code=outcome.exit_code, oom=status.oom, error=status.setup_error)
        return outcome

    def _record_end(self, container: Container, **how: Any) -> None:
        if not container.options.auto_remove:
            _note(container.held, state="exited", finished=self._clock(), init=None, supervisor=0, **how)

    def abandon(self, container: Container) -> None:
        """Remove a container that was made and will not be started."""
        self.records.remove(container.id)
        container.held.close()

    def list(self) -> tuple[ContainerRecord, ...]:
        """All containers, newest first."""
        return self.records.all()

    def inspect(self, word: str) -> dict[str, Any]:
        """All that is known of a container, as JSON values."""
        return record_json(self.records.find(word))

    def execute(
        self,
        zygote: Zygote,
        word: str,
        options: ExecOptions,
        streams: Streams,
        *,
        signals: SignalPipe | None = None,
        started: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Run a further process in a running container, to its end."""
        record = self._running(word)
        assert record.init is not None
        identity = self._identity(record, options.user) if options.user else None
        wiring = Wiring(options.terminal, options.interactive)
        process = plan.exec_process(record.process, options, identity)
        process = replace(process, terminal_size=screen_size(streams, wiring))
        init = open_process(record.init)
        if init is None:
            raise ConflictError(f"container {record.name} has just ended")
        pid = record.init[0]
        try:
            status = supervise(
                lambda *ends: zygote.enter(pid, process, *ends),
                streams,
                wiring,
                signals=signals,
                started=lambda _: started(),
            )
        finally:
            os.close(init)
        return outcome_of(status, f"the command in container {record.name}", process.argv[0], None)

    def logs(self, word: str, *, tail: int | None = None, follow: bool = False) -> Iterator[LogEntry]:
        """What a container wrote; with `follow`, until it ends."""
        from imgbuild.runtime.logs import read_log

        record = self.records.find(word)

        def supervisor() -> int | None:
            process = identify(record.supervisor) if record.supervisor and self.records.supervised(record.id) else None
            return None if process is None else open_process(process)

        return read_log(self.records.directory(record.id) / "log", tail=tail, follow=supervisor if follow else None)

    def wait(self, word: str) -> int:
        """Wait until a container has ended; its exit code."""
        record = self.records.find(word)
        settled = self.records.settle(record.id, None)
        return (settled or record).exit_code

    def stop(self, word: str, seconds: float | None = None) -> None:
        """Ask a container to end by its stop signal, and kill it where it has not after some time. Nothing where none runs."""
        record = self.records.find(word)
        init = open_process(record.init) if record.state == "running" and record.init is not None else None
        if init is not None:
            try:
                send(init, parse_signal(record.stop_signal))
                limit = record.stop_timeout if seconds is None else seconds
                if not wait_ended(init, None if limit < 0 else limit):
                    send(init, signal.SIGKILL)
                    wait_ended(init, None)
            finally:
                os.close(init)
            self.records.settle(record.id, _SETTLE_SECONDS)

    def kill(self, word: str, number: int = signal.SIGKILL) -> None:
        """Signal a running container's first process."""
        record = self._running(word)
        assert record.init is not None
        init = open_process(record.init)
        if init is None:
            raise ConflictError(f"container {record.name} has just ended")
        try:
            send(init, number)
            if number == signal.SIGKILL:
                wait_ended(init, None)
                self.records.settle(record.id, _SETTLE_SECONDS)
        finally:
            os.close(init)

    def remove(self, word: str, *, force: bool = False) -> None:
        """Remove a container with its anonymous volumes; a running one only by `force`, which kills it."""
        record = self.records.find(word)
        if record.state == "running":
            if not force:
                raise ConflictError(f"container {record.name} is running", hint=f"stop it first: imgbuild stop {record.name}; or rm -f")
            self.stop(record.id, 0)
        elif self.records.supervised(record.id):
            raise ConflictError(f"container {record.name or record.short_id} is being started or is just ending", hint="try again")
        self.records.remove(record.id)

    def _running(self, word: str) -> ContainerRecord:
        record = self.records.find(word)
        if record.state != "running" or record.init is None:
            raise ConflictError(f"container {record.name} is not running")
        return record

    def _identity(self, record: ContainerRecord, user: str) -> Identity:
        from imgbuild.rootfs.lowers import lower_of
        from imgbuild.rootfs.users import lookup_user
        from imgbuild.snapshot import DirectoryLower
        from imgbuild.snapshot.union import UnionView

        assert record.init is not None
        store = self._store()
        lowers = [lower_of(store, snapshot, self._features) for snapshot in record.snapshots]
        below = tuple(lower for lower in lowers if lower is not None)
        stack = (*below, DirectoryLower(self.records.directory(record.id) / "fs"))
        if len(below) < len(lowers):
            # One is in a form that can't be mounted by this process: what the container itself sees. A part of them would be others' users.
            stack = (DirectoryLower(Path(f"/proc/{record.init[0]}/root")),)
        with UnionView(stack, userxattr=self._features.rootless) as view:
            return lookup_user(view, user)


def _note(held: Held, **changes: Any) -> None:
    """Change the record, where that is possible: what it is about has happened, and an error would only hide that."""
    with suppress(StoreError, OSError):
        held.update(**changes)


def _clear(directory: Path) -> None:
    """Remove from a container what most leave behind, which is quicker than to leave it for the trash."""
    from imgbuild.snapshot.overlay import clear_work

    clear_work(directory / "work")
    with suppress(OSError):
        (directory / "fs").rmdir()
        for place, _, files in os.walk(directory / "stubs", topdown=False):
            for name in files:
                os.unlink(f"{place}/{name}")
            os.rmdir(place)


def _log(held: Held) -> LogWriter:
    from imgbuild.runtime.logs import LogWriter

    return LogWriter(
        held.directory / "log",
        time.time_ns,
        lambda error: _note(held, log_error=f"output is missing in the log: {error.strerror}"),
    )


def _host_files() -> dict[str, str]:
    texts = {}
    for path in _HOST_FILES:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                texts[path] = file.read()
        except OSError:
            continue
    return texts


