"""Why a step was not found in the cache: in which fields its record differs from another's. Pure: values in, causes out."""

from __future__ import annotations

from imgbuild.graph.key import SECRET_INPUT
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, Sequence
from imgbuild.insight.cause import Cause
from imgbuild.light.collections import Counter
from imgbuild.values import dataclass, fields

if TYPE_CHECKING:
    from imgbuild.insight.trees import Change

Differ = Callable[[str, str], "Iterable[Change]"]
"""In what two inputs with these digests differ."""

Json = Mapping[str, Any]


def recorded_causes(recorded: Iterable[Json]) -> list[Cause]:
    """Causes from their JSON; what of it is none, or is of a version that knew more of them, is left out."""
    kinds = {item.name: int if item.name.endswith("_size") else str for item in fields(Cause)}
    known = ({name: value for name, value in cause.items() if type(value) is kinds.get(name)} for cause in recorded)
    read: Iterator[dict[str, Any]] = (cause for cause in known if "kind" in cause)
    return [Cause(**cause) for cause in read]


@dataclass(frozen=True, slots=True)
class Words:
    """What of a step is not in its record. `text` is the instruction as it is written; `arguments` are the names of the ARGs that it
    sees; `base` is the image that it stands on, as name and digest, where it is its stage's first step; `sources` are what it reads:
    of a COPY, the one origin of its files, of a RUN, that of each mount ("" for the build context)."""

    text: str
    arguments: frozenset[str] = frozenset()
    base: tuple[str, str] | None = None
    sources: tuple[str, ...] = ()


def record_causes(old: Json, new: Json, was: Words, now: Words, differ: Differ) -> Iterator[Cause]:
    """In which fields two records differ; that of the parent is a "base", or a "parent" without a subject, and the last one."""
    if old["version"] != new["version"]:
        yield Cause("version", old=str(old["version"]), new=str(new["version"]))
        return
    if old["op"] != new["op"]:
        yield Cause("instruction", old=was.text, new=now.text)
        return
    parent = _parent(old, new, was, now)
    fields = [cause for cause in _fields(old, new, was, now) if not (cause.kind == "epoch" and parent is not None)]
    yield from fields
    if not any(cause.kind in ("instruction", "variable", "flag") for cause in fields):
        yield from _inputs(old, new, now, differ)
    if parent is not None:
        yield parent


def _parent(old: Json, new: Json, was: Words, now: Words) -> Cause | None:
    if old["parent"] == new["parent"]:
        return None
    if was.base is None or now.base is None:
        return Cause("parent")
    (old_name, old_digest), (name, digest) = was.base, now.base
    what = "name" if old_name != name else "digest"
    return Cause("base", subject=name, what=what, old=old_name if what == "name" else old_digest, new=name if what == "name" else digest)


_OPTIONS = {
    "network": "--network", "security": "--security", "devices": "--device", "hosts": "--add-host", "shm_size": "--shm-size",
    "ulimits": "--ulimit", "hostname": "hostname", "platform": "--platform",
}  # fmt: skip
_FLAGS = {
    "chown": "--chown", "chmod": "--chmod", "unpack": "--unpack", "link": "--link", "parents": "--parents", "exclude": "--exclude",
    "mounts": "--mount", "stage": "--from", "context": "--from", "remotes": "source", "sources": "source", "destination": "destination",
    "documents": "heredoc", "document": "heredoc", "path": "path",
}  # fmt: skip
_PLACES = {"cwd": "workdir", "user": "user", "epoch": "epoch"}


def _fields(old: Json, new: Json, was: Words, now: Words) -> Iterator[Cause]:
    before, after = old["fields"], new["fields"]
    written = was.text != now.text
    if written and any(before.get(name) != after.get(name) for name in ("argv", *_FLAGS)):
        yield Cause("instruction", old=was.text, new=now.text)
    elif before.get("argv") != after.get("argv"):
        yield _command(before["argv"], after["argv"])
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if one == other or name == "argv":
            continue
        if name == "env":
            yield from _environment(one, other, was, now)
        elif name in _OPTIONS:
            yield Cause("option", _OPTIONS[name], old=_said(one), new=_said(other))
        elif name in _PLACES:
            yield Cause(_PLACES[name], old=_said(one), new=_said(other))
        elif not written:  # the same words mean something else
            yield from _variables(name, one, other, now)


def _command(old: Sequence[str], new: Sequence[str]) -> Cause:
    """The same instruction runs another command: by another shell, or with what an included line or a heredoc says."""
    if old[-1:] == new[-1:]:
        return Cause("shell", old=_said(old[:-1]), new=_said(new[:-1]))
    return Cause("instruction", old=_said(old[-1]), new=_said(new[-1]))


def _environment(old: Iterable[str], new: Iterable[str], was: Words, now: Words) -> Iterator[Cause]:
    before, after = (dict(entry.partition("=")[::2] for entry in entries) for entries in (old, new))
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if one != other:
            kind = "arg" if name in (now.arguments if other is not None else was.arguments) else "env"
            yield Cause(kind, name, "added" if one is None else "removed" if other is None else "value", old=one, new=other)
    if before == after:
        yield Cause("env", what="order")


def _variables(name: str, old: object, new: object, now: Words) -> Iterator[Cause]:
    """A field whose words are the same but not its value: a variable in them is another one."""
    flag = _FLAGS.get(name, name)
    subject = ", ".join(dict.fromkeys(_names(now.text, flag if flag.startswith("--") else "")))
    yield Cause("variable" if subject else "flag", subject or flag, flag, old=_said(old), new=_said(new))


def _names(text: str, flag: str) -> Iterator[str]:
    """The variables that an instruction names in a flag, or in what is none."""
    words = (word for word in text.split(" ") if (word.startswith(flag) if flag else not word.startswith("--")))
    for part in " ".join(words).split("$")[1:]:
        word = part.removeprefix("{")
        length = next((at for at, letter in enumerate(word) if not (letter.isalnum() or letter == "_")), len(word))
        if length:
            yield word[:length]


def _inputs(old: Json, new: Json, now: Words, differ: Differ) -> Iterator[Cause]:
    """What is read; inputs are told apart by their names, as sources may have become more or fewer."""
    yield from _secrets(old["inputs"], new["inputs"])
    before, after = _by_name(old["inputs"]), _by_name(new["inputs"])
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        mount, path, _ = key
        where = _where(mount, now)
        if one is None or other is None:
            yield Cause("file", path or ".", "added" if one is None else "removed", where)
            continue
        for change in differ(one, other):
            yield _of_file(change, path, where)


def _secrets(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Cause]:
    """Which secrets are others, by their ids alone."""
    for name in sorted(each for each in old.keys() | new.keys() if each.startswith(SECRET_INPUT) and old.get(each) != new.get(each)):
        yield Cause("secret", name.removeprefix(SECRET_INPUT), "added" if name not in old else "removed" if name not in new else "value")


def _where(mount: int, now: Words) -> str:
    at = max(mount, 0)
    return now.sources[at] if at < len(now.sources) else ""


def _of_file(change: Change, path: str, where: str) -> Cause:
    old, new = change.old, change.new
    whole = f"{path}/{change.path}" if path and change.path else path or change.path
    pairs = {
        "mode": lambda entry: entry.kind.split(" ")[1],
        "owner": lambda entry: entry.owner,
        "time": lambda entry: entry.kind.split(" ")[2],
        "kind": lambda entry: entry.kind.partition(" ")[0],
        "target": lambda entry: entry.body,
    }
    named = next((pairs[word] for word in change.what if word in pairs), None) if old is not None and new is not None else None
    return Cause(
        "file",
        whole or ".",
        ", ".join(change.what),
        where,
        old=named(old) if named is not None and old is not None else None,
        new=named(new) if named is not None and new is not None else None,
        old_size=old.size if old is not None and old.kind.startswith("file") else None,
        new_size=new.size if new is not None and new.kind.startswith("file") else None,
    )


def _by_name(inputs: Mapping[str, str]) -> dict[tuple[int, str, int], str]:
    """Inputs by the number of their mount (-1 for none), their path, and which of that path they are."""
    found: dict[tuple[int, str, int], str] = {}
    seen: Counter[tuple[int, str]] = Counter()
    for name, digest in inputs.items():
        if name.startswith(SECRET_INPUT):
            continue
        mount, rest = -1, name
        if name.startswith("mount "):
            number, _, rest = name.removeprefix("mount ").partition(" ")
            mount = int(number)
        path = _path(rest)
        found[(mount, path, seen[(mount, path)])] = digest
        seen[(mount, path)] += 1
    return found


def _path(name: str) -> str:
    """The path of an input: its name is a number, the path and, of a file, the name that it gives to the result."""
    number, _, rest = name.partition(" ")
    if not number.isdigit():
        return name
    for at, letter in enumerate(rest):
        if letter == " " and rest[:at].rpartition("/")[2] == rest[at + 1 :]:
            return rest[:at]
    return rest


def _said(value: object) -> str | None:
    """A value of a record in words."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(item) or "" for item in value) or None
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_said(item)}" for name, item in value.items() if item not in (None, "", False))
    return str(value).lower() if isinstance(value, bool) else str(value)
