"""Lowering of RUN: its command, its heredocs, its mounts and its limits."""

from __future__ import annotations

import posixpath

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.expand import expand
from imgbuild.buildfile.mounts import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount, parse_mount
from imgbuild.buildfile.quantities import parse_count, parse_cpus, parse_duration, parse_io_weight, parse_size
from imgbuild.errors import BuildfileError, Span
from imgbuild.graph.devices import lower_devices
from imgbuild.graph.ops import Document, Limits, MountOp, Origin, RunOp, TestOp
from imgbuild.graph.options import LowerOptions, proxy_environment
from imgbuild.hints import TYPE_CHECKING, Callable, Protocol, TypeVar
from imgbuild.values import replace

if TYPE_CHECKING:
    from imgbuild.oci.config import RunConfig
    from imgbuild.oci.platform import Platform

DOCUMENTS = "/.imgbuild"
"""Where a heredoc with a shebang is put to be executed: at the top, where no other mount hides it."""

AGENTS = "/run/buildkit/ssh_agent"
"""Where agents are forwarded to, with their number within the step: the Dockerfile reference's place."""

INSECURE = "security.insecure"

_T = TypeVar("_T")
_Op = TypeVar("_Op", bound=RunOp)
_NANOSECONDS = 1e9


class StageState(Protocol):
    """What RUN needs to know of the stage that it stands in."""

    buildfile: ast.Buildfile
    options: LowerOptions
    config: RunConfig
    env: dict[str, str]
    arguments: dict[str, str]
    epoch: int
    platform: Platform

    @property
    def shell(self) -> tuple[str, ...]: ...

    def source(self, name: str) -> Origin: ...

    def add_step(self, op: RunOp, instruction: ast.Instruction, created_by: str) -> None: ...

    def add_test(self, op: TestOp, instruction: ast.Instruction) -> None: ...


def lower_run(stage: StageState, item: ast.Run) -> None:
    """Append the step of a RUN to its stage."""
    op = _op(stage, item, RunOp)
    arguments = [f"{name}={stage.env[name]}" for name in stage.arguments]
    words = ((f"|{len(arguments)}", *arguments) if arguments else ()) + op.argv
    stage.add_step(op, item, f"RUN {' '.join(words)}")


def lower_test(stage: StageState, item: ast.Test) -> None:
    """Append a TEST to its stage; it has no line of history."""
    stage.add_test(_op(stage, item, TestOp), item)


def _op(stage: StageState, item: ast.Run, kind: type[_Op]) -> _Op:
    argv, document = _command(stage, item)
    if any("\0" in word for word in argv):
        raise BuildfileError("a NUL byte in the command", hint="no program can be given one: write it to a file with COPY <<NAME")
    defaults = stage.options.run
    network = _value(item, "network") or "default"
    return kind(
        argv=argv,
        env=tuple(f"{name}={value}" for name, value in stage.env.items()),
        cwd=stage.config.working_dir or "/",
        user=stage.config.user,
        epoch=stage.epoch,
        network=defaults.network if network == "default" else network,
        mounts=_mounts(stage, item),
        document=document,
        security=_security(stage, item),
        devices=lower_devices(item, defaults.allow, stage.env, stage.buildfile.escape),
        hosts=tuple(name for name, _ in defaults.hosts),
        shm_size=defaults.shm_size,
        hostname=defaults.hostname,
        ulimits=defaults.ulimits,
        addresses=tuple(address for _, address in defaults.hosts),
        cgroup_parent=defaults.cgroup_parent,
        keep=_kept(stage, item),
        proxy=proxy_environment(stage.options.build_args),
        limits=_limits(item, stage.options.limits),
        platform=str(stage.platform),
    )


def _command(stage: StageState, item: ast.Run) -> tuple[tuple[str, ...], Document | None]:
    command = item.command
    if command.words is not None:
        if not command.words:
            raise BuildfileError(f"{type(item).__name__.upper()} without a command")
        return command.words, None
    line = command.line or ""
    if not command.heredocs:
        if not line.strip():
            raise BuildfileError(f"{type(item).__name__.upper()} without a command")
        return (*stage.shell, line), None
    if command.is_script:
        only = command.heredocs[0]
        if only.content.startswith("#!"):
            return (f"{DOCUMENTS}/{only.name}",), Document(only.name, only.content)
        return (*stage.shell, only.content), None
    # The shell reads heredocs among other words itself.
    return (*stage.shell, "\n".join((line, *(doc.raw for doc in command.heredocs)))), None


def _mounts(stage: StageState, item: ast.Run) -> tuple[MountOp, ...]:
    flags = [flag for flag in item.flags if flag.name == "mount"]
    mounts = []
    agents = 0
    for options, flag in zip(item.mounts, flags, strict=True):
        expanded = tuple(
            (key, None if value is None else expand(value, stage.env, stage.buildfile.escape, flag.span)) for key, value in options
        )
        mount = parse_mount(expanded, flag.span)
        if isinstance(mount, SshMount):
            mount = replace(mount, target=mount.target or f"{AGENTS}.{agents}")
            agents += 1
        mounts.append(_mount(stage, mount, flag.span))
    return tuple(mounts)


def _mount(stage: StageState, mount: BindMount | CacheMount | TmpfsMount | SecretMount | SshMount, span: Span) -> MountOp:
    def absolute(target: str) -> str:
        return _absolute(stage, target)

    match mount:
        case BindMount():
            source = stage.source(mount.from_stage) if mount.from_stage else Origin()
            op = MountOp(
                "bind", absolute(mount.target), mount.source or "/", source.stage, source.context, mount.read_only, span=span
            )
        case CacheMount():
            source = stage.source(mount.from_stage) if mount.from_stage else Origin()
            mode = 0o755 if mount.mode is None else mount.mode
            identity = _cache_id(stage, mount.id)
            op = MountOp(
                "cache", absolute(mount.target), mount.source or "/", source.stage, source.context, mount.read_only, id=identity,
                sharing=mount.sharing.value, mode=mode, uid=mount.uid or 0, gid=mount.gid or 0, span=span,
            )  # fmt: skip
        case TmpfsMount():
            op = MountOp("tmpfs", absolute(mount.target), read_only=mount.read_only, size=mount.size, span=span)
        case SecretMount():
            target = "" if mount.target is None else absolute(mount.target)
            op = MountOp(
                "secret", target, id=mount.id, mode=mount.mode, uid=mount.uid, gid=mount.gid, required=mount.required,
                env=mount.env or "", span=span,
            )  # fmt: skip
        case SshMount():
            op = MountOp(
                "ssh", absolute(mount.target or ""), id=mount.id, mode=mount.mode, uid=mount.uid, gid=mount.gid, required=mount.required,
                span=span,
            )  # fmt: skip
    if op.target == "/" and op.kind != "secret":
        raise BuildfileError("a mount needs a target other than '/'", at=span, hint="write target=PATH")
    if op.target in ("/proc", "/sys", "/dev") or op.target.startswith(("/proc/", "/sys/")):
        raise BuildfileError(f"nothing can be mounted at {op.target}: it is the sandbox's own", at=span)
    return op


def _absolute(stage: StageState, path: str) -> str:
    """A path as the step's working directory has it."""
    return posixpath.normpath(posixpath.join("/", stage.config.working_dir, path)).replace("//", "/", 1)


def _cache_id(stage: StageState, identity: str) -> str:
    """The name of a cache directory, in the name space that the build was asked to keep its own in."""
    space = stage.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
    return f"{space}/{identity}" if space else identity


def _limits(item: ast.Run, default: Limits) -> Limits:
    def parsed(name: str, parse: Callable[[str, Span | None], _T], otherwise: _T) -> _T:
        flag = item.flag(name)
        return otherwise if flag is None else parse(flag.value or "", flag.span)

    return Limits(
        memory=parsed("memory", parse_size, default.memory),
        memory_swap=parsed("memory-swap", _swap, default.memory_swap),
        cpus=parsed("cpus", _cpus, default.cpus),
        pids=parsed("pids", parse_count, default.pids),
        timeout=parsed("timeout", _seconds, default.timeout),
        idle_timeout=parsed("idle-timeout", _seconds, default.idle_timeout),
        retry=parsed("retry", parse_count, default.retry),
        io_weight=parsed("io-weight", parse_io_weight, default.io_weight),
        io_read_bps=parsed("io-read-bps", parse_size, default.io_read_bps),
        io_write_bps=parsed("io-write-bps", parse_size, default.io_write_bps),
        io_read_iops=parsed("io-read-iops", parse_count, default.io_read_iops),
        io_write_iops=parsed("io-write-iops", parse_count, default.io_write_iops),
    )


def _swap(text: str, at: Span | None) -> int:
    return -1 if text == "-1" else parse_size(text, at)


def _cpus(text: str, at: Span | None) -> float:
    return parse_cpus(text, at) / _NANOSECONDS


def _seconds(text: str, at: Span | None) -> float:
    return parse_duration(text, at) / _NANOSECONDS


def _security(stage: StageState, item: ast.Run) -> str:
    flag = item.flag("security")
    wanted = (flag.value if flag is not None else "") or "sandbox"
    if flag is not None and wanted == "insecure" and INSECURE not in stage.options.run.allow:
        message = "RUN --security=insecure is not allowed: the step would have all rights over this machine"
        raise BuildfileError(message, at=flag.span, hint=f"if you trust this Buildfile, build with --allow {INSECURE}")
    return wanted


def _kept(stage: StageState, item: ast.Run) -> tuple[str, ...]:
    """The paths of ``--on-failure=save=PATH``, as the step sees them."""
    kept = []
    for flag in item.flags:
        if flag.name == "on-failure":
            path = expand((flag.value or "").removeprefix("save="), stage.env, stage.buildfile.escape, flag.span)
            if not path or _absolute(stage, path) == "/":
                raise BuildfileError("what --on-failure saves must be a file or a directory other than '/'", at=flag.span)
            kept.append(_absolute(stage, path))
    return tuple(dict.fromkeys(kept))


def _value(item: ast.Run, name: str) -> str:
    flag = item.flag(name)
    return "" if flag is None else flag.value or ""
