"""The options of ``imgbuild build`` that shape its RUN steps, in docker buildx's words: what they are given, allowed, and limited to."""

from __future__ import annotations

import os
import stat

from imgbuild.errors import BuildfileError, ImgbuildError, UsageError
from imgbuild.graph.ops import HOSTNAME, Limits, RunDefaults
from imgbuild.hints import TYPE_CHECKING, Callable, Iterator, Mapping, Protocol, TypeVar
from imgbuild.light.contextlib import contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from imgbuild.layer.leaks import Leaks
    from imgbuild.solve.agents import Agent, Agents
    from imgbuild.solve.secrets import Secret

_NETWORKS = ("default", "none", "host")
LEAK = "secret.leak"
_ALLOWED = ("network.host", "security.insecure", "device", LEAK)
_ALLOWED_ONES = ("device=", f"{LEAK}=")
_SECRET_KEYS = ("id", "src", "source", "env", "type", "keyed")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_LARGEST_KEY = 100 << 10
_T = TypeVar("_T")


class StepOptions(Protocol):
    """The part of a request that `run_defaults` and `run_limits` read."""

    @property
    def allow(self) -> tuple[str, ...]: ...
    @property
    def hosts(self) -> tuple[str, ...]: ...
    @property
    def network(self) -> str: ...
    @property
    def shm_size(self) -> str | None: ...
    @property
    def ulimits(self) -> tuple[str, ...]: ...
    @property
    def cgroup_parent(self) -> str: ...
    @property
    def memory(self) -> str | None: ...
    @property
    def memory_swap(self) -> str | None: ...
    @property
    def cpu_period(self) -> str | None: ...
    @property
    def cpu_quota(self) -> str | None: ...


def run_defaults(request: StepOptions, build_args: Mapping[str, str]) -> RunDefaults:
    """What all RUN steps of the build have in common; UsageError where it can't be meant."""
    if request.network not in _NETWORKS:
        raise UsageError(f"--network {request.network} is not known", hint=_nearest(request.network, _NETWORKS))
    if ".." in request.cgroup_parent.split("/"):
        raise UsageError(f"--cgroup-parent {request.cgroup_parent} leads upwards")
    hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    if request.hosts or request.ulimits:
        from imgbuild.runtime.options import parse_host, parse_ulimit

        hosts = tuple(_read("--add-host", word, parse_host) for word in request.hosts)
        ulimits = tuple(_read("--ulimit", word, parse_ulimit) for word in request.ulimits)
    for name, address in hosts:
        _check_address(name, address)
    hostname = build_args.get("BUILDKIT_SANDBOX_HOSTNAME", "")
    if hostname:
        from imgbuild.runtime.options import parse_hostname

        hostname = _read("--build-arg BUILDKIT_SANDBOX_HOSTNAME", hostname, parse_hostname)
    return RunDefaults(
        hostname=hostname or HOSTNAME,
        network=request.network,
        hosts=hosts,
        shm_size=_size("--shm-size", request.shm_size),
        ulimits=tuple({limit[0]: limit for limit in ulimits}.values()),
        cgroup_parent=request.cgroup_parent,
        allow=frozenset(allowed(word) for word in request.allow),
    )


def run_limits(request: StepOptions, settings: Limits) -> Limits:
    """The limits of steps that name none: those of the command line, else those of the settings."""
    memory, swap = _size("--memory", request.memory), request.memory_swap
    limits = settings if memory is None else replace(settings, memory=memory, memory_swap=None)
    if swap:
        if limits.memory is None:
            raise UsageError("--memory-swap needs --memory")
        together = -1 if swap == "-1" else _size("--memory-swap", swap)
        if together is not None and -1 < together < limits.memory:
            raise UsageError("--memory-swap is memory and swap together: it can't be less than --memory")
        limits = replace(limits, memory_swap=together)
    if request.cpu_quota is not None:
        quota, period = _microseconds("--cpu-quota", request.cpu_quota), _microseconds("--cpu-period", request.cpu_period or "100000")
        limits = replace(limits, cpus=quota / period)
    elif request.cpu_period is not None:
        raise UsageError("--cpu-period needs --cpu-quota")
    return limits


def read_secrets(texts: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, Secret]:
    """``id=ID,src=FILE`` or ``id=ID,env=NAME`` or ``id=ID`` (the variable, else the file, of that name), read now. With ``keyed=false``
    another value is no reason to perform a step again."""
    if not texts:
        return {}
    from imgbuild.solve.secrets import Secret

    found: dict[str, Secret] = {}
    for text in texts:
        asked = _asked(text, environ)
        data = _variable(text, asked.variable, environ) if asked.variable else _file(text, asked.path)
        found[asked.identity] = Secret(data, keyed=asked.keyed)
    return found


def looked_for(allow: tuple[str, ...], secrets: Mapping[str, Secret]) -> Leaks | None:
    """What looks for the secrets where they should not be, but for those that are allowed to be there."""
    if not secrets:
        return None
    from imgbuild.layer.leaks import Leaks

    allowed = [name for name in secrets if LEAK in allow or f"{LEAK}={name}" in allow]
    return Leaks({name: secret.data for name, secret in secrets.items()}, allowed)


def keyed_files(texts: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    """The files that secrets are read from, by id, as far as another value is a reason to perform a step again."""
    every = [_asked(text, environ) for text in texts]
    return {asked.identity: asked.path for asked in every if asked.keyed and not asked.variable}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What ``--secret`` says: the variable, or, where that is "", the file, that it is read from."""

    identity: str
    variable: str
    path: str
    keyed: bool


def _asked(text: str, environ: Mapping[str, str]) -> _Asked:
    given = _fields(text)
    identity, kind = given.get("id", ""), given.get("type", "")
    if not identity:
        raise UsageError(f"--secret {text!r} has no id", hint="write id=ID,src=FILE or id=ID,env=NAME")
    if kind not in ("", "file", "env"):
        raise UsageError(f"--secret {text!r}: '{kind}' is not a type", hint=_nearest(kind, ("file", "env")))
    variable, path = given.get("env", ""), given.get("source", "")
    if kind == "env" and not variable:
        variable, path = path, ""
    if not variable and not path:
        variable, path = (identity, "") if identity in environ and kind != "file" else ("", identity)
    return _Asked(identity, variable, path, _is_keyed(text, given.get("keyed", "true")))


def _fields(text: str) -> dict[str, str]:
    from imgbuild.buildfile.words import split_csv

    given = {}
    for part in _read("--secret", text, split_csv):
        key, equals, value = part.partition("=")
        key = key.lower()
        if not equals:
            raise UsageError(f"--secret {text!r}: '{part}' has no value", hint="write id=ID,src=FILE or id=ID,env=NAME")
        if key not in _SECRET_KEYS:
            raise UsageError(f"--secret {text!r}: there is no option '{key}'", hint=_nearest(key, _SECRET_KEYS))
        given["source" if key == "src" else key] = value
    return given


def _is_keyed(text: str, word: str) -> bool:
    if word.lower() not in _TRUTHS:
        raise UsageError(f"--secret {text!r}: keyed is true or false, not '{word}'")
    return _TRUTHS[word.lower()]


def _variable(text: str, name: str, environ: Mapping[str, str]) -> bytes:
    if name not in environ:
        raise UsageError(f"--secret {text!r}: the environment has no {name}")
    return environ[name].encode("utf-8", "surrogateescape")


def _file(text: str, path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"--secret {text!r}: can't read {path}: {error.strerror}") from None


def read_agents(texts: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, Agent]:
    """``ID``, ``ID=SOCKET`` or ``ID=KEY[,KEY]``; without a path it is the agent of $SSH_AUTH_SOCK. Keys are read now."""
    found: dict[str, Agent] = {}
    for text in texts:
        identity, _, rest = text.partition("=")
        identity = identity or "default"
        paths = [os.path.expanduser(path) for path in rest.split(",")] if rest else [environ.get("SSH_AUTH_SOCK", "")]
        if identity in found:
            raise UsageError(f"--ssh {text}: a second agent {identity}")
        if paths == [""]:
            hint = "start one (ssh-agent), or give a key: --ssh default=$HOME/.ssh/id_ed25519"
            raise UsageError(f"--ssh {text}: the environment names no agent (SSH_AUTH_SOCK)", hint=hint)
        found[identity] = _agent(text, paths)
    return found


@contextmanager
def opened_agents(agents: Mapping[str, Agent], environ: Mapping[str, str]) -> Iterator[Agents | None]:
    """The agents that were given, for as long as the build lasts; None where there are none."""
    if not agents:
        yield None
        return
    from imgbuild.solve.agents import Agents

    with Agents(agents, environ) as opened:
        yield opened


def _agent(text: str, paths: list[str]) -> Agent:
    from imgbuild.solve.agents import Agent

    keys = []
    for path in paths:
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                if len(paths) > 1:
                    raise UsageError(f"--ssh {text}: a socket stands alone", hint="an agent is one socket, or any number of keys")
                return Agent(socket=os.path.abspath(path))
            with open(path, "rb") as file:
                keys.append((path, file.read(_LARGEST_KEY)))
        except OSError as error:
            raise UsageError(f"--ssh {text}: can't read {path}: {error.strerror}") from None
    return Agent(keys=tuple(keys))


def allowed(word: str) -> str:
    """What --allow names; UsageError where nothing is called so."""
    if word not in _ALLOWED and not (word.startswith(_ALLOWED_ONES) and word not in _ALLOWED_ONES):
        raise UsageError(f"--allow {word} is not known", hint=_nearest(word, _ALLOWED))
    return word


def _check_address(name: str, address: str) -> None:
    import ipaddress

    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise UsageError(f"--add-host: '{address}' of {name} is not an address", hint="write 10.0.0.1, ::1 or host-gateway") from None


def _size(option: str, word: str | None) -> int | None:
    from imgbuild.buildfile.quantities import parse_size

    return _read(option, word, parse_size) if word else None


def _microseconds(option: str, word: str) -> int:
    from imgbuild.buildfile.quantities import parse_count

    count = _read(option, word, parse_count)
    if not 1000 <= count <= 1_000_000_000:
        raise UsageError(f"{option} {word} is not in reach", hint="it is in microseconds, and at least 1000")
    return count


def _read(option: str, word: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(word)
    except (BuildfileError, UsageError) as error:
        raise _named(option, error) from None


def _named(option: str, error: ImgbuildError) -> UsageError:
    return UsageError(f"{option}: {error.message}", hint=error.hint)


def _nearest(word: str, known: tuple[str, ...]) -> str:
    from imgbuild.buildfile.suggest import did_you_mean

    return did_you_mean(word, known) or f"it is one of {', '.join(known)}"
