"""Performs a RUN: from an op and a root file system to a committed lower, within its limits, or to an error in words."""

from __future__ import annotations

import math
import os
import select
import time

from imgbuild.errors import SandboxError
from imgbuild.graph.ops import RunOp, Step, TestOp
from imgbuild.graph.options import proxy_passwords
from imgbuild.hints import TYPE_CHECKING, Callable, Mapping
from imgbuild.light import signal
from imgbuild.light.contextlib import ExitStack
from imgbuild.light.functools import partial
from imgbuild.linux.emulation import architecture_of, runs_itself
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.rootfs.stubs import StubShelf, StubTarget
from imgbuild.rootfs.users import lookup_user
from imgbuild.sandbox.spec import ExitStatus, Limits, Process, SandboxSpec, Usage
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.overlay import overlay_filesystem
from imgbuild.solve.commit import commit
from imgbuild.solve.etc import etc_mounts
from imgbuild.solve.events import Notice, OnEvent
from imgbuild.solve.log import StepLog
from imgbuild.solve.machine import devices_of, disk_of
from imgbuild.solve.mounts import StepMounts
from imgbuild.solve.rooms import Rooms
from imgbuild.values import dataclass, field, replace

if TYPE_CHECKING:
    from pathlib import Path

    from imgbuild.sandbox.watch import Watch
    from imgbuild.sandbox.zygote import Sandbox
    from imgbuild.snapshot import Lowers
    from imgbuild.snapshot.snapshotter import Active
    from imgbuild.solve.opened import Opening

_BLOCK = 1 << 16
_OWN_MOUNTS = ("/proc", "/sys", "/dev")
_LOOK_MILLISECONDS = 200
"""How often a silent step is looked at for a limit of time or the end of the build."""
_WATCH_MILLISECONDS, _BUSY_MILLISECONDS = 100, 10
"""How often one is whose files are watched, and one that opens many: the kernel holds so many events (fs.inotify.max_queued_events)."""
_DRAIN_SECONDS = 0.01

Output = Callable[[int, bytes], None]
"""What receives a step's output: the stream's number (1 or 2) and bytes."""

Silent = tuple[float, Callable[[float], None]]
"""After how many seconds a step counts as silent, and who is told for how long it has been."""


@dataclass(frozen=True, slots=True)
class RunJob:
    """A RUN that is to be performed: its step, what it runs on, how to reach the stages that its mounts read, where the mount points are
    that images lack, and the `inputs` of its record. `started` is called when its process is there, `spent` with what each
    attempt cost. `shape` makes of its sandbox the one that is used. `opening` is what notes what it opens, if anything does."""

    step: Step
    op: RunOp
    lowers: Lowers
    stage_lowers: Callable[[int], Lowers]
    shelf: StubShelf
    output: Output
    stopped: Callable[[], bool]
    inputs: Mapping[str, str] = field(default_factory=dict)
    started: Callable[[], None] = lambda: None
    on_event: OnEvent = lambda event: None
    spent: Callable[[Usage], None] = lambda usage: None
    shape: Callable[[SandboxSpec], SandboxSpec] = lambda spec: spec
    opening: Opening | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended: `expired` is "timeout" or "idle-timeout" where we killed it for that; `mounts` are where the step's own were,
    and whether they were read-only."""

    status: ExitStatus
    expired: str = ""
    mounts: tuple[tuple[str, bool], ...] = ()


def perform_run(rooms: Rooms, job: RunJob) -> tuple[DirectoryLower | None, Usage]:
    """Run the command until it succeeds or has used up its retries; the committed lower, and what it cost. A test commits none."""
    foreign = not runs_itself(rooms.features.machine, architecture_of(job.op.platform))
    if foreign:
        from imgbuild.solve.emulation import check_foreign

        try:
            check_foreign(rooms, job)
        except SandboxError as error:
            raise error.located(job.step.span) from None
    attempts = job.op.limits.retry + 1
    for attempt in range(1, attempts + 1):
        with rooms.snapshotter.prepare(job.lowers, "run") as active, StepLog(active.directory / "log", hidden(rooms, job.op)) as log:
            with StepMounts(rooms, job.op, job.inputs, job.stage_lowers, active.directory / "mounts", job.stopped) as mounts:
                ended = run_once(rooms, job, active, mounts, log)
            if ended.status.code == 0 and ended.status.signal is None and not ended.expired:
                if not isinstance(job.op, TestOp):
                    return commit(rooms, active, job.op.epoch), ended.status.usage
                if job.opening is not None:  # what it wrote is about to go
                    job.opening.facts(active.upper)
                return None, ended.status.usage
            last = attempt == attempts or job.stopped() or bool(ended.status.setup_error)
            if last and job.op.keep:
                _keep(rooms, job, active)
            if last and foreign and "is a program for" in (ended.status.setup_error or ""):
                from imgbuild.solve.emulation import no_handler

                raise no_handler(rooms, job.op.platform).located(job.step.span)
            if last:
                from imgbuild.solve.failing import failure

                raise failure(rooms, job, active, ended, log, foreign=foreign)
        job.output(2, f"imgbuild: attempt {attempt} of {attempts} failed, trying again\n".encode())
    raise AssertionError("the last attempt ends it")


def run_once(rooms: Rooms, job: RunJob, active: Active, mounts: StepMounts, log: StepLog) -> Ended:
    """Run the command once, on an active snapshot, to its end."""
    watch = job.opening.attempt() if job.opening is not None else None
    spec = job.shape(step_spec(rooms, job, active, mounts))
    if watch is not None:
        spec = replace(spec, watched=watch.directories, watched_after=watch.after)
    with ExitStack() as stack:
        (out_read, out_write), (err_read, err_write) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, out_read)
        stack.callback(os.close, err_read)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            sandbox = rooms.zygote().spawn(spec, null, out_write, err_write, watch.listener if watch is not None else None)
        finally:
            for fd in (null, out_write, err_write):
                os.close(fd)
        job.started()

        def receive(stream: int, data: bytes) -> None:
            log.add(data)
            job.output(stream, data)

        expired = _drain(
            sandbox, {out_read: 1, err_read: 2}, job, receive, (rooms.silence, partial(_say_waiting, rooms, sandbox, job)), watch
        )
        status = sandbox.wait()
        assert status is not None, "a wait without a timeout ends with the process"
        if watch is not None:
            watch.end(sandbox.begun)
        if spec.network == "none":  # a network of its own, that leads nowhere
            status = replace(status, usage=replace(status.usage, network_received=0, network_sent=0))
        job.spent(status.usage)
        return Ended(status, expired, tuple((mount.target, mount.read_only) for mount in spec.mounts))


def _keep(rooms: Rooms, job: RunJob, active: Active) -> None:
    """Copy out what the step was told to save, and say where it is."""
    from imgbuild.solve.keep import keep_files

    say = partial(_say, job)
    parent = rooms.failures or rooms.store.root / "failed"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        directory = _new_directory(parent, f"line-{job.step.span.line}")
        with rooms.view((*job.lowers, DirectoryLower(active.upper))) as view:
            missing = keep_files(view, job.op.keep, directory)
    except OSError as error:
        # The step's own failure is what counts.
        say(f"--on-failure: can't save to {parent}: {error.strerror}")
        return
    for path in missing:
        say(f"--on-failure: the step left no {path}")
    if len(missing) < len(job.op.keep):
        say(f"--on-failure: saved to {directory}")
    else:
        directory.rmdir()


def _new_directory(parent: Path, name: str) -> Path:
    """A directory that was not there: `name`, or with a number behind it."""
    number = 1
    while True:
        directory = parent / (name if number == 1 else f"{name}.{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            number += 1
            continue
        return directory


def _say(job: RunJob, text: str) -> None:
    """A line of our own among the step's output."""
    job.output(2, f"imgbuild: {text}\n".encode("utf-8", "surrogateescape"))


def step_spec(rooms: Rooms, job: RunJob, active: Active, mounts: StepMounts) -> SandboxSpec:
    """The sandbox that a step runs in."""
    op = job.op
    etc = etc_mounts(replace(rooms.host, hostname=op.hostname), zip(op.hosts, op.addresses, strict=True))
    insecure = op.security == "insecure"
    devices = devices_of(op.devices, partial(_say, job), insecure=insecure)
    own = [Mount(Bind(path), path, read_only=True) for path, _ in devices]
    if op.shm_size is not None:
        memory = Filesystem("tmpfs", (("mode", "1777"), ("size", str(op.shm_size))), source="shm")
        own.append(Mount(memory, "/dev/shm", nosuid=True, nodev=True, noexec=True))
    targets = [StubTarget(path) for path in _OWN_MOUNTS]
    targets += [StubTarget(mount.target, is_directory=False) for mount in etc]
    targets += mounts.targets
    with rooms.view(job.lowers) as view:
        identity = lookup_user(view, op.user)
        stubs = job.shelf.stubs(view, targets)
    resolved = stubs.targets[len(_OWN_MOUNTS) :]
    placed = [replace(mount, target=target) for mount, target in zip([*etc, *mounts.mounts], resolved, strict=True)]
    # A mount below another one must come after it. What is below /dev stands on the sandbox's own, whose places it makes.
    placed = sorted([*placed, *own], key=lambda mount: mount.target.count("/"))
    process = Process(
        argv=op.argv,
        env=_environment(op, identity.home, mounts.environment),
        cwd=op.cwd,
        identity=identity,
        rlimits=op.ulimits,
    )
    lowers = stubs.over(job.lowers)
    root = overlay_filesystem(lowers, active.upper, active.work, features=rooms.features) if lowers else Bind(str(active.upper))
    return SandboxSpec(
        root=root,
        process=process,
        mounts=tuple(placed),
        hostname=op.hostname,
        network="none" if op.network == "none" else "host",
        limits=_limits(rooms, op),
        privileged=insecure,
        cgroup_parent=op.cgroup_parent,
        devices=devices,
    )


def _limits(rooms: Rooms, op: RunOp) -> Limits:
    asked = op.limits
    limits = Limits(
        memory=asked.memory,
        memory_swap=asked.memory_swap,
        cpus=asked.cpus,
        pids=asked.pids,
        io_weight=asked.io_weight,
        io_read_bps=asked.io_read_bps,
        io_write_bps=asked.io_write_bps,
        io_read_iops=asked.io_read_iops,
        io_write_iops=asked.io_write_iops,
    )
    return replace(limits, io_device=disk_of(rooms.store.root)) if limits.limits_io else limits


def hidden(rooms: Rooms, op: RunOp) -> tuple[bytes, ...]:
    """What is kept of no output: secrets, and passwords for proxies."""
    given = dict(entry.split("=", 1) for entry in op.proxy)
    return (*(secret.data for secret in rooms.secrets.values()), *(password.encode() for password in proxy_passwords(given)))


def _environment(op: RunOp, home: str, secrets: tuple[str, ...]) -> tuple[str, ...]:
    """What the step sees: its own variables first in rank, then the proxies, then what a process can expect."""
    env = {"HOME": home, "SOURCE_DATE_EPOCH": str(op.epoch)}
    for entry in (*op.proxy, *op.env, *secrets):
        name, _, value = entry.partition("=")
        env[name] = value
    return tuple(f"{name}={value}" for name, value in env.items())


def _drain(
    sandbox: Sandbox,
    streams: dict[int, int],
    job: RunJob,
    receive: Callable[[int, bytes], None],
    silent: Silent,
    watch: Watch | None = None,
) -> str:
    """Pass output on until both streams end. Says in a word which limit of time it killed the sandbox for, if any. `silent` is
    told once that the step has written nothing for so long; `watch` is drained meanwhile."""
    silence, on_silence = silent
    limits = job.op.limits
    start = heard = drained = time.monotonic()
    expired = ""
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN)
    left = set(streams)
    while left:
        for fd, _ in poll.poll(_LOOK_MILLISECONDS if watch is None else _BUSY_MILLISECONDS if watch.busy else _WATCH_MILLISECONDS):
            data = os.read(fd, _BLOCK)
            if data:
                heard = time.monotonic()
                receive(streams[fd], data)
            else:
                poll.unregister(fd)
                left.discard(fd)
        now = time.monotonic()
        if watch is not None and now - drained >= _DRAIN_SECONDS:
            drained = now
            if not watch.has_begun and sandbox.wait(0) is None and sandbox.running:
                watch.began(sandbox.begun)
            watch.drain()
        if now - heard >= silence:
            silence = math.inf
            on_silence(now - heard)
        if not expired and limits.timeout is not None and now - start >= limits.timeout:
            expired = "timeout"
            sandbox.kill(signal.SIGKILL)
        if not expired and limits.idle_timeout is not None and now - heard >= limits.idle_timeout:
            expired = "idle-timeout"
            sandbox.kill(signal.SIGKILL)
        if job.stopped():
            sandbox.kill(signal.SIGKILL)
    return expired


def _say_waiting(rooms: Rooms, sandbox: Sandbox, job: RunJob, seconds: float) -> None:
    """Say what a silent step waits for, as far as that can be seen; command lines may have secrets in them."""
    from imgbuild.solve.redaction import redacted_text
    from imgbuild.solve.waiting import waits_for

    if lines := waits_for(sandbox.pid):
        text = f"{job.step.name} has written nothing for {seconds:.0f} s: {'; '.join(lines)}"
        job.on_event(Notice(redacted_text(text, hidden(rooms, job.op))))
