"""From an image config and options to a `SandboxSpec`: the decisions, and nothing else. Pure: what must be looked up in the
image or made on the host (users, mount points, volumes) is looked up and made between these calls, by `containers`."""

from __future__ import annotations

from itertools import pairwise

from imgbuild.errors import ImageError, UsageError
from imgbuild.hints import Iterable, Mapping, Sequence
from imgbuild.light import signal
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.oci.config import RunConfig
from imgbuild.runtime.options import ExecOptions, MountRequest, Pairs, RunOptions, parse_signal
from imgbuild.sandbox.capabilities import select
from imgbuild.sandbox.spec import DEFAULT_PATH, Identity, Network, Process, SandboxSpec
from imgbuild.values import dataclass, replace

SANDBOX_TREES = ("/proc", "/sys", "/dev")
"""What the sandbox mounts itself: mount points below them are its own, not the root's."""

GENERATED_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
"""What every container is given in place of the image's."""

_STOP_SIGNAL = "SIGTERM"
_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


@dataclass(frozen=True, slots=True)
class PlacedMount:
    """A mount whose `target` is resolved and whose `source` is a path of the host ("" for a tmpfs)."""

    request: MountRequest
    target: str
    source: str = ""


def command_line(config: RunConfig, options: RunOptions) -> tuple[str, ...]:
    """What is executed. A given entrypoint also drops the image's command; a given command replaces only that."""
    if options.entrypoint is not None:
        words = (*options.entrypoint, *options.command)
    else:
        words = (*(config.entrypoint or ()), *(options.command or config.cmd or ()))
    if not words or not words[0]:
        raise UsageError("there is no command to run", hint="the image has no ENTRYPOINT or CMD: give a command after its name")
    return words


def merge_env(base: Iterable[str], *more: Iterable[str]) -> tuple[str, ...]:
    """``NAME=value`` words, later ones replacing earlier ones in their place; a bare ``NAME`` takes the variable away, as docker has
    it also in an image's config. A value without a name is nobody's."""
    values: dict[str, str] = {}
    for words in (base, *more):
        for word in words:
            name, equals, value = word.partition("=")
            if equals and name:
                values[name] = value
            else:
                values.pop(name, None)
    return tuple(f"{name}={value}" for name, value in values.items())


def container_process(config: RunConfig, options: RunOptions, identity: Identity, hostname: str) -> Process:
    """The first process of a container; user and group names have become `identity`."""
    given = (f"PATH={DEFAULT_PATH}",)
    own = (f"HOSTNAME={hostname}", *(("TERM=xterm",) if options.terminal else ()))
    env = merge_env(given, config.env, own, options.env)
    return Process(
        argv=command_line(config, options),
        env=_with_home(env, options.env, identity),
        cwd=working_directory(options.working_dir, config.working_dir or "/"),
        identity=identity,
        capabilities=select(options.cap_add, options.cap_drop),
        no_new_privileges=options.no_new_privileges,
        seccomp=options.seccomp,
        terminal=options.terminal,
        rlimits=options.rlimits,
    )


def exec_process(container: Process, options: ExecOptions, identity: Identity | None) -> Process:
    """A further process of a container: the container's, but for what was asked; `identity` where a user was."""
    if not options.command or not options.command[0]:
        raise UsageError("there is no command to run", hint="give it after the container's name")
    own = (f"TERM={options.term}",) if options.terminal else ()
    env = merge_env(container.env, own, options.env)
    if identity is not None and identity != container.identity:
        env = _with_home(merge_env(env, ("HOME",), options.env), options.env, identity)
    return replace(
        container,
        argv=options.command,
        env=env,
        cwd=working_directory(options.working_dir, container.cwd),
        identity=identity or container.identity,
        terminal=options.terminal,
    )


def working_directory(asked: str, own: str) -> str:
    """The absolute working directory; what was asked for must be absolute, as docker wants it."""
    if asked and not asked.startswith("/"):
        raise UsageError(f"the working directory {asked!r} is not an absolute path")
    return asked or ("/" + own.lstrip("/"))


def _with_home(env: tuple[str, ...], asked: Sequence[str], identity: Identity) -> tuple[str, ...]:
    if any(word.startswith("HOME=") for word in env) or "HOME" in asked:
        return env
    return (*env, f"HOME={identity.home or '/'}")


def plan_mounts(volumes: Iterable[str], requests: Sequence[MountRequest]) -> tuple[MountRequest, ...]:
    """All mounts of a container: the image's VOLUMEs as anonymous volumes, where no request is for the same place."""
    targets: set[str] = set()
    for request in requests:
        if request.target in targets:
            raise UsageError(f"two mounts are asked for at {request.target}")
        targets.add(request.target)
    own = sorted({"/" + volume.strip("/") for volume in volumes} - targets - {"/"})
    return (*(MountRequest("volume", target) for target in own), *requests)


def in_order(placed: Iterable[PlacedMount]) -> tuple[PlacedMount, ...]:
    """The order in which mounts don't hide each other: parents before what is inside them."""
    ordered = tuple(sorted(placed, key=lambda mount: (mount.target.count("/"), mount.target)))
    for first, second in pairwise(ordered):
        if first.target == second.target:
            raise UsageError(f"{first.request.target} and {second.request.target} are one place in the image: {first.target}")
    return ordered


def enclosing(placed: Sequence[PlacedMount], target: str) -> PlacedMount | None:
    """The innermost of the mounts that `target` is strictly inside of."""
    inside = [mount for mount in placed if target.startswith(mount.target.rstrip("/") + "/")]
    return max(inside, key=lambda mount: len(mount.target), default=None)


def below_sandbox_trees(target: str) -> bool:
    """Whether a target is in /proc, /sys or /dev, which the sandbox fills."""
    return any(target == tree or target.startswith(tree + "/") for tree in SANDBOX_TREES)


def sandbox_mounts(placed: Iterable[PlacedMount]) -> tuple[Mount, ...]:
    """The mounts as the sandbox takes them."""
    return tuple(_mount(mount) for mount in placed)


def _mount(mount: PlacedMount) -> Mount:
    request = mount.request
    if request.kind == "tmpfs":
        what: Bind | Filesystem = Filesystem("tmpfs", request.options, source="tmpfs")
    else:
        what = Bind(mount.source, recursive=request.kind == "bind")
    return Mount(
        what,
        mount.target,
        read_only=request.read_only,
        nosuid=request.nosuid,
        nodev=request.nodev,
        noexec=request.noexec,
    )


def container_spec(
    root: Filesystem | Bind, process: Process, mounts: tuple[Mount, ...], options: RunOptions, *, hostname: str, cgroup_name: str
) -> SandboxSpec:
    """The sandbox of a container."""
    return SandboxSpec(
        root=root,
        process=process,
        mounts=mounts,
        hostname=hostname,
        network=options.network,
        read_only_root=options.read_only,
        limits=options.limits,
        cgroup_name=cgroup_name,
        sysctl=options.sysctl,
    )


def stop_signal(config: RunConfig, options: RunOptions) -> tuple[str, str]:
    """The signal that asks the container to end, by name; and what the user should know of it, if anything."""
    word, notice = options.stop_signal or config.stop_signal or _STOP_SIGNAL, ""
    try:
        number = parse_signal(word)
    except UsageError:
        if options.stop_signal:
            raise
        notice = f"the image's stop signal {word!r} is not known here: {_STOP_SIGNAL} is used; --stop-signal sets another"
        number = parse_signal(_STOP_SIGNAL)
    return _signal_name(number), notice


def _signal_name(number: int) -> str:
    """Of several names, the one that `signal.Signals` has, which brings in enum."""
    named = (name for name in sorted(vars(signal)) if name.startswith("SIG") and name[3] != "_" and getattr(signal, name) == number)
    return next(named, str(number))


def check_config(config: RunConfig) -> None:
    """ImageError where the kernel could not be told what the image wants."""
    words = {
        "Env": config.env,
        "Entrypoint": config.entrypoint or (),
        "Cmd": config.cmd or (),
        "WorkingDir": (config.working_dir,),
        "Volumes": config.volumes,
    }
    for name, values in words.items():
        for value in values:
            if "\0" in value:
                raise ImageError(f"the image's config has a NUL character in {name}: {value!r}")


def hosts_file(host: str, network: Network, hostname: str, extra: Pairs) -> str:
    """/etc/hosts: on the host's network what the `host`'s own says, else this machine alone."""
    base = host if network == "host" and host.strip() else _LOCAL_HOSTS
    lines = [f"127.0.1.1\t{hostname}", *(f"{address}\t{name}" for name, address in extra)]
    return base.rstrip("\n") + "\n" + "\n".join(lines) + "\n"


def generated_files(host: Mapping[str, str], options: RunOptions, hostname: str) -> dict[str, str]:
    """The text of each generated file, by its path in the container; `host` has the host's own, by the same paths."""
    return {
        "/etc/hostname": f"{hostname}\n",
        "/etc/hosts": hosts_file(host.get("/etc/hosts", ""), options.network, hostname, options.extra_hosts),
        "/etc/resolv.conf": host.get("/etc/resolv.conf", "") if options.network == "host" else "",
    }
