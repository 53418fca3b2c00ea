"""What a user asks of one container, as values: `RunOptions` for a new one, `ExecOptions` for a process in a running one.

Text of the command line becomes these in `parse_*` functions here and in `volumes`; nothing here touches the system.
"""

from __future__ import annotations

from imgbuild.errors import UsageError
from imgbuild.hints import Iterable, Literal, Mapping
from imgbuild.light import signal
from imgbuild.patterns import ASCII, pattern
from imgbuild.sandbox.spec import Limits, Network
from imgbuild.values import dataclass, field

Pairs = tuple[tuple[str, str], ...]
Rlimit = tuple[str, int, int]
MountKind = Literal["bind", "volume", "tmpfs"]

_HOSTNAME = pattern(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", ASCII)
_REAL_TIME = pattern(r"RTM(IN|AX)([+-]\d+)?")
_RLIMITS = frozenset({
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class MountRequest:
    """A mount that was asked for. `source`: an absolute host path (bind), a volume's name ("" for an anonymous one), "" for
    tmpfs. `create_source`: a missing bind source becomes a directory. `options` are those of the tmpfs."""

    kind: MountKind
    target: str
    source: str = ""
    read_only: bool = False
    create_source: bool = False
    seed: bool = True
    options: tuple[tuple[str, str | None], ...] = ()
    nosuid: bool = False
    nodev: bool = False
    noexec: bool = False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """All that `run` was told. `env` holds ``NAME=value``, or ``NAME`` to unset what the image sets. None: not given."""

    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    name: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    terminal: bool = False
    interactive: bool = False
    detach: bool = False
    auto_remove: bool = False
    mounts: tuple[MountRequest, ...] = ()
    network: Network = "host"
    extra_hosts: Pairs = ()
    limits: Limits = field(default_factory=Limits)
    rlimits: tuple[Rlimit, ...] = ()
    sysctl: Pairs = ()
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: bool = True
    labels: Pairs = ()
    stop_signal: str = ""
    stop_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """All that `exec` was told; what is not given is the container's own."""

    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    terminal: bool = False
    interactive: bool = False
    detach: bool = False
    term: str = field(default="xterm")


def parse_env(words: Iterable[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """``-e`` words: ``NAME=value`` as it is, ``NAME`` from the caller's environment, or bare where it isn't set there."""
    return tuple(_env_word(word, environment) for word in words)


def _env_word(word: str, environment: Mapping[str, str]) -> str:
    name, equals, _ = word.partition("=")
    if not name or "\0" in word:
        raise UsageError(f"invalid environment variable {word!r}", hint="it is NAME=value or NAME")
    if equals or name not in environment:
        return word
    return f"{name}={environment[name]}"


def parse_env_file(text: str, name: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The lines of an ``--env-file``: as `parse_env`, with empty lines and ``#`` comments; nothing is quoted or expanded."""
    words: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        stripped = line.removesuffix("\r").lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        variable = stripped.partition("=")[0]
        if not variable or any(character.isspace() for character in variable):
            raise UsageError(f"{name}:{number}: invalid environment variable name {variable!r}")
        words.append(stripped if "=" in stripped else stripped.strip())
    return parse_env(words, environment)


def parse_labels(words: Iterable[str]) -> Pairs:
    """``--label`` words: ``key=value``, or ``key`` alone for an empty value; the last of a key wins."""
    labels: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if not key:
            raise UsageError(f"invalid label {word!r}", hint="it is key=value")
        labels[key] = value
    return tuple(sorted(labels.items()))


def parse_host(word: str) -> tuple[str, str]:
    """``--add-host`` word: ``name:address`` (or ``name=address``); ``host-gateway`` is this machine."""
    name, separator, address = word.partition("=") if "=" in word else word.partition(":")
    address = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
    if not name or not separator or not address or any(each.isspace() or not each.isprintable() for each in word):
        raise UsageError(f"invalid host {word!r}", hint="it is name:address")
    return name, "127.0.0.1" if address == "host-gateway" else address


def parse_signal(word: str) -> int:
    """A signal by number or name, with or without SIG; also RTMIN+n, RTMAX-n."""
    text = word.upper().removeprefix("SIG")
    if text.isascii() and text.isdecimal():
        number = int(text)
    elif match := _REAL_TIME.fullmatch(text):
        number = (signal.SIGRTMIN if match[1] == "IN" else signal.SIGRTMAX) + int(match[2] or 0)
    else:
        aliases = {"IOT": "ABRT", "CLD": "CHLD", "POLL": "IO"}
        number = int(getattr(signal, "SIG" + aliases.get(text, text), 0)) if text.isalnum() else 0
    if not 1 <= number <= signal.SIGRTMAX:
        raise UsageError(f"unknown signal {word!r}")
    return number


def parse_ulimit(word: str) -> Rlimit:
    """``--ulimit`` word: ``name=soft[:hard]``; -1 or ``unlimited`` for none."""
    name, equals, values = word.partition("=")
    soft, colon, hard = values.partition(":")
    if not equals or name not in _RLIMITS:
        raise UsageError(f"invalid ulimit {word!r}", hint=f"it is name=soft[:hard]; names: {', '.join(sorted(_RLIMITS))}")
    limit = name, _rlimit(soft, word), _rlimit(hard if colon else soft, word)
    if limit[2] != -1 and (limit[1] == -1 or limit[1] > limit[2]):
        raise UsageError(f"invalid ulimit {word!r}: the soft limit is above the hard one")
    return limit


def _rlimit(text: str, word: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"invalid ulimit {word!r}: {text!r} is not a number")
    return int(text)


def parse_hostname(word: str) -> str:
    """A host name that a kernel and a resolver take."""
    if not _HOSTNAME.fullmatch(word):
        raise UsageError(f"invalid host name {word!r}", hint="letters, digits, '-' and '.', at most 63")
    return word


def parse_network(word: str) -> Network:
    """``none`` or ``host``; ``default`` is the host's."""
    if word == "none":
        return "none"
    if word in ("host", "default", ""):
        return "host"
    raise UsageError(f"network {word!r} is not known", hint="networks are: none, host; bridges are not in this version")
