"""``RUN --mount``: from the flag's text to options, checked by key, and from expanded options to typed values."""

from __future__ import annotations

import posixpath

from imgbuild.buildfile.instructions import Flag
from imgbuild.buildfile.quantities import parse_size
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.buildfile.words import split_csv
from imgbuild.errors import BuildfileError, Span
from imgbuild.hints import Iterator
from imgbuild.light import re
from imgbuild.light.enum import StrEnum
from imgbuild.patterns import pattern
from imgbuild.values import dataclass

Options = tuple[tuple[str, str | None], ...]

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_EVERYWHERE = {"type", "source", "target", "readonly", "readwrite", "id"}
_OWNER = {"mode", "uid", "gid"}
_KEYS = {
    "bind": _EVERYWHERE | {"from"},
    "cache": _EVERYWHERE | _OWNER | {"from", "sharing"},
    "tmpfs": _EVERYWHERE | {"from", "size"},
    "secret": _EVERYWHERE | _OWNER | {"required", "env"},
    "ssh": _EVERYWHERE | _OWNER | {"from", "required"},
}
_ALL_KEYS = (*sorted(set().union(*_KEYS.values())), *_ALIASES)
_BARE = ("readonly", "readwrite", "required")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_OCTAL = pattern(r"[0-7]{1,11}")
_DECIMAL = pattern(r"[0-9]{1,10}")


class Sharing(StrEnum):
    """What happens when two steps use one cache at once: both write, each gets its own, or one waits."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class BindMount:
    """Files of a stage, image or context (`from_stage`; None is the build context) at `target`. Writes of a mount that is
    not `read_only` are discarded. `source` is "" for the root; a relative `target` is meant from the working directory."""

    target: str
    source: str = ""
    from_stage: str | None = None
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory kept between builds by `id`. `mode`, `uid` and `gid` are for its creation; None is 0755, 0 and 0.
    `from_stage` and `source` say what a new one begins with."""

    target: str
    id: str
    source: str = ""
    from_stage: str | None = None
    read_only: bool = False
    sharing: Sharing = Sharing.SHARED
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty file system in memory; `size` in bytes, None for the kernel's default."""

    target: str
    size: int | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A secret by `id`: a file at `target` (None: no file), the variable `env`, or both."""

    id: str
    target: str | None
    env: str | None = None
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SshMount:
    """The agent `id`, as a socket at `target`; None is /run/buildkit/ssh_agent.N, N counted within the step."""

    id: str = "default"
    target: str | None = None
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


def split_mount(flag: Flag) -> Options:
    """The options of one ``--mount``, unexpanded: keys lower-case and known for the mount's type."""
    at = flag.span
    try:
        fields = split_csv(flag.value or "")
    except BuildfileError as error:
        raise error.located(at) from None
    options = tuple(_option(field, at) for field in fields)
    written = dict(options).get("type", "bind") or ""
    if "$" in written:
        raise BuildfileError("the type of a mount can't be a variable", at=at)
    known = _keys(written, at)
    for key, value in options:
        _check_key(key, value, written.lower(), known, at)
    return options


def parse_mount(options: Options, at: Span) -> Mount:
    """The mount that expanded options say, with BuildKit's defaults."""
    type_ = (dict(options).get("type", "bind") or "").lower()
    known = _keys(type_, at)
    given: dict[str, str] = {}
    read_only: bool | None = None
    for key, value in options:
        _check_key(key, value, type_, known, at)
        name = _ALIASES.get(key, key)
        given[name] = "true" if value is None else value
        if name in ("readonly", "readwrite"):
            read_only = _truth(name, given[name], at) == (name == "readonly")
    if type_ == "secret":
        return _secret(given, at)
    if type_ == "ssh":
        if given.get("source"):
            raise BuildfileError("an ssh mount has no source", at=at, hint="name the agent by id=, and its socket by --ssh ID=SOCKET")
        return SshMount(given.get("id") or "default", given.get("target") or None, _required(given, at), **_owner(given, 0o600, at))
    target = given.get("target") or "."
    if type_ == "tmpfs":
        size = given.get("size")
        return TmpfsMount(target, None if size is None else parse_size(size, at), read_only or False)
    source, origin = given.get("source", ""), given.get("from") or None
    if type_ == "bind":
        return BindMount(target, source, origin, read_only is not False)
    return CacheMount(
        target,
        given.get("id") or posixpath.normpath(target),
        source,
        origin,
        read_only or False,
        _sharing(given.get("sharing", "shared"), at),
        _number(given, "mode", _OCTAL, 8, at),
        _number(given, "uid", _DECIMAL, 10, at),
        _number(given, "gid", _DECIMAL, 10, at),
    )


def expandable(options: Options) -> Iterator[str]:
    """The values in which variables stand, for cache keys and lint."""
    return (value for key, value in options if value is not None and key not in ("type", "from"))


def _option(field: str, at: Span) -> tuple[str, str | None]:
    key, equals, value = field.partition("=")
    key = key.lower()
    if not equals and _ALIASES.get(key, key) not in _BARE:
        hint = did_you_mean(key, _ALL_KEYS) if key not in _ALL_KEYS else f"write {key}=VALUE"
        raise BuildfileError(f"the mount option '{field}' has no value" if field else "an empty mount option", at=at, hint=hint)
    return key, value if equals else None


def _keys(type_: str, at: Span) -> set[str]:
    known = _KEYS.get(type_.lower())
    if known is None:
        hint = did_you_mean(type_, _KEYS) or f"it is one of {', '.join(_KEYS)}"
        raise BuildfileError(f"'{type_}' is not a type of mount", at=at, hint=hint)
    return known


def _check_key(key: str, value: str | None, type_: str, known: set[str], at: Span) -> None:
    name = _ALIASES.get(key, key)
    if name in known:
        if value is not None and "$" in value and name == "from":
            raise BuildfileError("'from' of a mount can't be a variable", at=at, hint="name a stage by FROM ... AS and use that")
        return
    if key in _ALL_KEYS:
        kinds = ", ".join(kind for kind, keys in _KEYS.items() if name in keys)
        raise BuildfileError(f"a {type_} mount has no option '{key}'", at=at, hint=f"it is for: {kinds}")
    raise BuildfileError(f"a mount has no option '{key}'", at=at, hint=did_you_mean(key, _ALL_KEYS))


def _secret(given: dict[str, str], at: Span) -> SecretMount:
    source, target, id_ = given.get("source", ""), given.get("target", ""), given.get("id", "")
    env = given.get("env") or None
    if source and id_:
        raise BuildfileError("a secret mount has both 'source' and 'id'", at=at, hint="they mean the same: leave one out")
    name = id_ or source or posixpath.basename(target.rstrip("/"))
    if not name:
        raise BuildfileError("a secret mount needs 'id' or 'target'", at=at)
    path = target or (None if env else f"/run/secrets/{posixpath.basename(name)}")
    return SecretMount(name, path, env, _required(given, at), **_owner(given, 0o400, at))


def _required(given: dict[str, str], at: Span) -> bool:
    return _truth("required", given.get("required", "false"), at)


def _owner(given: dict[str, str], mode: int, at: Span) -> dict[str, int]:
    number = _number(given, "mode", _OCTAL, 8, at)
    uid, gid = _number(given, "uid", _DECIMAL, 10, at), _number(given, "gid", _DECIMAL, 10, at)
    return {"mode": mode if number is None else number, "uid": uid or 0, "gid": gid or 0}


def _sharing(text: str, at: Span) -> Sharing:
    try:
        return Sharing(text.lower())
    except ValueError:
        hint = did_you_mean(text, Sharing) or f"it is one of {', '.join(Sharing)}"
        raise BuildfileError(f"'{text}' is not a way of sharing", at=at, hint=hint) from None


def _number(given: dict[str, str], key: str, form: re.Pattern[str], base: int, at: Span) -> int | None:
    text = given.get(key)
    if text is None:
        return None
    number = int(text, base) if form.fullmatch(text) else 1 << 32
    if number >= 1 << 32:
        raise BuildfileError(
            f"'{text}' is not a value for {key}", at=at, hint="it is octal, such as 0755" if base == 8 else "it is a number"
        )
    return number


def _truth(key: str, text: str, at: Span) -> bool:
    if text not in _TRUE and text not in _FALSE:
        raise BuildfileError(f"'{text}' is not a value for {key}", at=at, hint="it is true or false")
    return text in _TRUE
