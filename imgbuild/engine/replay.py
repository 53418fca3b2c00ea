"""Finds out, before anything else is loaded, that a build would do again what it did the last time, and says what that was.

After a build that found everything done, replay_making notes the question, which is the command line and where it was given, and all
that the answer came from: files and directories by what stat says of them, variables of the environment, the store's names and blobs.
If all of it is as it was, the answer is, too. If anything is not, or nothing was noted, the build is done. Nothing is decided here that
the build would decide in another way, and a note is given up sooner than it is wrong: it is an hour old at most, so that what the store
knows of its use stays true, and of this boot, as after another one the store doubts itself.

A note is one file below ``replays/`` in the store, in Python's own form for byte code.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from binascii import crc32

import imgbuild
from imgbuild.errors import Source, Span
from imgbuild.hints import TYPE_CHECKING, cast
from imgbuild.solve.events import Notice, StepFinished, StepsKnown, StepStarted, Warned
from imgbuild.store.journal import JOURNAL, append_same, new_id
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
    from typing import Any

    from imgbuild.engine.invocation import Invocation

SWITCH = "replay"
DIRECTORY = "replays"
NAMES = ("Buildfile", "Dockerfile", "Containerfile", "dockerfile")
"""What the file is called in a build context, if nobody says otherwise; the first that is there counts."""

_VERSION = 3
_OLDEST_NS = 3600 * 10**9
_MOST_BYTES = 64 << 20
_MOST_NAMES = 4 << 20
_MOST_TEXT = 1 << 20
_BOOT = "/proc/sys/kernel/random/boot_id"

_UNREPEATABLE = (
    "outputs", "secrets", "ssh", "contexts", "no_cache", "no_cache_filter", "metadata_file", "iidfile", "replay_logs",
)  # fmt: skip
"""Options whose work is more than to find a build done."""


@dataclass(frozen=True, slots=True)
class Question:
    """A build that may be answered without being done: the words that it is asked in, and the file of the note. `root` is the store,
    `file` the name that was given for the Buildfile."""

    words: str
    root: str
    path: str
    file: str | None


@dataclass(frozen=True, slots=True)
class Replay:
    """What a build said and made: `events` are those of solve.events, a step's outcome is "cached"."""

    events: tuple[object, ...]
    image_id: str
    digest: str
    names: tuple[Familiar, ...]
    cached: int
    performed: int
    seconds: float
    build: str
    """The id of the record of the build that was noted."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a build stands on whose context alone is another one than the noted build's: its graph in plain form (`engine.flat`) with the
    CRC of the Buildfile's text, what is said of that, and the variables that were asked for; and the places where nothing is
    and the files that are as they were, which is looked at again when the graph is taken."""

    graph: tuple[int, bytes]
    events: tuple[object, ...]
    variables: dict[str, str | None]
    absent: tuple[str, ...]
    same: tuple[tuple[str, tuple[int, ...]], ...]


class Watch:
    """Looks on while a build is done, so that a note can be made of it: at what is said, and what is asked of the environment. Begin it
    before anything is read: what changes meanwhile is younger."""

    def __init__(self, question: Question, invocation: Invocation, basis: Basis | None = None) -> None:
        self.question = question
        self.basis = basis
        self.started = time.time_ns()
        self.index = read_index(question.root)
        self.events: list[object] = []
        self.unlowered = 0
        """How many of them were said before there was a graph, or could be."""
        self.asked: dict[str, str | None] | None = {} if basis is None else basis.variables
        """Variables of the environment with their values; None when somebody looked at all of them."""
        self.places: dict[str, tuple[int, ...] | None] | None = None
        """What the build was read from, by what tells of a change; None where that is not known."""
        self.invocation = replace(invocation, environ=cast("Mapping[str, str]", _Watched(invocation.environ, self)))


class _Watched:
    """The environment as a mapping."""

    def __init__(self, environ: Mapping[str, str], watch: Watch) -> None:
        self._environ = environ
        self._watch = watch

    def get(self, name: str, default: Any = None) -> Any:
        if self._watch.asked is not None:
            self._watch.asked[name] = self._environ.get(name)
        return self._environ.get(name, default)

    def __getitem__(self, name: str) -> str:
        self.get(name)
        return self._environ[name]

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        self._watch.asked = None
        return iter(self._environ)

    def __len__(self) -> int:
        return len(list(self))

    def keys(self) -> KeysView[str]:
        self._watch.asked = None
        return self._environ.keys()

    def items(self) -> ItemsView[str, str]:
        self._watch.asked = None
        return self._environ.items()

    def values(self) -> ValuesView[str]:
        self._watch.asked = None
        return self._environ.values()


class Familiar(str):
    """A reference as users write it."""

    __slots__ = ()

    def familiar(self) -> str:
        return str(self)


def question(invocation: Invocation, options: Mapping[str, Any]) -> Question | None:
    """What would be asked of a note; None for a build that has to be done in any case."""
    if SWITCH in invocation.disabled() or any(options.get(name) for name in _UNREPEATABLE):
        return None
    if options["pull"] not in ("missing", "never") or options["file"] == "-" or not os.path.isdir(options["context"]):
        return None
    uid = os.geteuid()
    root = invocation.store_place(uid)
    machine = os.uname()
    try:
        here = (os.getcwd(), uid, os.getegid(), machine.release, machine.machine, sys.version, *_program())
    except OSError:  # a directory that is not there any more
        return None
    words = repr((_VERSION, root, here, invocation.config, sorted(options.items())))
    path = f"{root}/{DIRECTORY}/{crc32(words.encode('utf-8', 'surrogateescape')):08x}"
    return Question(words, root, path, options["file"])


def look_up(question: Question, environ: Mapping[str, str]) -> Replay | Basis | None:
    """What the build would say and make, if it is surely that; what it stands on, if that is as it was; None where neither is known."""
    started = time.time()
    note = _read(question.path)
    if note is None:
        return None
    try:
        words, boot, written, variables, absent, same, blobs, tree, events, graph, result = note
        if words != question.words or boot != boot_id() or not 0 <= time.time_ns() - written < _OLDEST_NS:
            return None
        if not (_variables(variables, environ) and _all_absent(absent) and _all_same(same)):
            return None
        if not _blobs(f"{question.root}/blobs/sha256", blobs):
            return None
        said = tuple(_events(events))
        if not _is_tree(*tree):
            lowering = _events(each for each in events if each[0] in ("notice", "warned"))
            told = tuple(event for event in lowering if isinstance(event, Notice | Warned))
            return None if graph is None else Basis(graph, told, dict(variables), absent, same)
        image_id, digest, names, build = result
        steps = sum(isinstance(event, StepStarted) for event in said)
        return Replay(said, image_id, digest, tuple(map(Familiar, names)), steps, 0, time.time() - started, build)
    except (OSError, ValueError, TypeError):
        return None


def is_still(basis: Basis) -> bool:
    """Whether all but the context is as the note has it. What changes between `look_up` and the start of the `Watch` is seen by neither."""
    try:
        return _all_absent(basis.absent) and _all_same(basis.same)
    except OSError:
        return False


def is_new(question: Question, context: str) -> bool:
    """Whether a build is asked for of a Buildfile with RUN, and there has been no build in this store since it was written: most likely, a
    RUN will be performed. What is said wrongly costs some time, and nothing else."""
    given = question.file
    places = (f"{context}/{name}" for name in NAMES) if given is None else (given, os.path.join(context, given))
    path = next(filter(os.path.isfile, places), None)  # of a pipe, nothing must be taken
    try:
        with open(path or "", "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_mtime < _last_build(question.root):
                return False
            return b"\nrun" in file.read(_MOST_TEXT).lower()
    except OSError:
        return False


def _last_build(root: str) -> float:
    """When a build last ended, as far as that is seen at a glance."""
    try:
        return os.stat(f"{root}/{JOURNAL}").st_mtime
    except OSError:
        return 0.0


def record(question: Question, replay: Replay) -> None:
    """Let the history know that the build was asked for again."""
    ended = time.time()
    append_same(question.root, new_id(), ended - replay.seconds, ended, replay.build)


def read_index(root: str) -> tuple[tuple[int, ...], bytes] | None:
    """The store's names, as they are written, behind what tells that none has changed; None where that can't be said."""
    try:
        with open(f"{root}/index.json", "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            data = file.read(_MOST_NAMES + 1)
    except OSError:
        return None
    return (signature(status), data) if len(data) == status.st_size <= _MOST_NAMES else None


def boot_id() -> str:
    """Which boot of this machine it is."""
    with open(_BOOT, "rb", buffering=0) as file:
        return file.read(64).decode().strip()


def signature(status: os.stat_result) -> tuple[int, ...]:
    """What tells that a file is unchanged; of a directory, that it is the same one, whatever is in it."""
    if status.st_mode & 0o170000 == 0o040000:
        return (status.st_dev, status.st_ino)
    return (status.st_dev, *contents_signature(status))


def contents_signature(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells that an entry of a directory is unchanged, or, of a directory, that it has the same entries. Its mode, owner and
    attributes can't change without its ctime."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def pack(note: tuple[Any, ...]) -> bytes:
    """The bytes of a note."""
    data = marshal.dumps(note)
    return crc32(data).to_bytes(4, "little") + data


def _program() -> tuple[object, ...]:
    """This program: another version of it may decide otherwise."""
    directory = imgbuild.__path__[0]
    return (imgbuild.__version__, directory, os.stat(directory).st_mtime_ns)


def _read(path: str) -> tuple[Any, ...] | None:
    try:
        with open(path, "rb", buffering=0, opener=_at_once) as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():  # byte code's form is read from nobody else
                return None
            data = file.read(_MOST_BYTES) or b""
    except OSError:
        return None
    body = memoryview(data)[4:]
    if len(data) < 5 or crc32(body) != int.from_bytes(data[:4], "little"):
        return None
    try:
        note = marshal.loads(body)
    except (EOFError, ValueError, TypeError):
        return None
    return note if isinstance(note, tuple) and len(note) == 11 else None


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # of a pipe that stands there, nothing is waited for


def _variables(noted: Iterable[tuple[str, str | None]], environ: Mapping[str, str]) -> bool:
    return all(environ.get(name) == value for name, value in noted)


def _all_absent(paths: Iterable[str]) -> bool:
    return not any(map(os.path.exists, paths))


def _all_same(noted: Iterable[tuple[str, tuple[int, ...]]]) -> bool:
    return all(signature(os.stat(path)) == status for path, status in noted)


def _blobs(directory: str, noted: Iterable[tuple[str, int]]) -> bool:
    return all(os.stat(f"{directory}/{name}").st_size == size for name, size in noted)


def _is_tree(
    root: str, directories: Iterable[tuple[str, tuple[int, ...], Sequence[str], Sequence[tuple[int, ...]]]]
) -> bool:
    """Whether the directories have the entries that they had, and those that count are unchanged."""
    lstat = os.lstat
    try:
        for path, status, names, entries in directories:
            top = f"{root}{path}"
            if contents_signature(lstat(top)) != status:
                return False
            for name, before in zip(names, entries, strict=True):
                now = lstat(f"{top}/{name}")
                if (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns) != before:
                    return False
    except OSError:
        return False
    return True


def _events(noted: Iterable[tuple[Any, ...]]) -> Iterable[object]:
    said = list(noted)
    steps = [fields for kind, *fields in said if kind == "step"]
    for kind, *fields in said:
        if kind in ("notice", "earlier"):
            yield Notice(*fields)
        elif kind == "warned":
            rule, message, *place = fields
            yield Warned(rule, message, _span(*place))
    yield StepsKnown(len(steps))
    for number, (name, *place) in enumerate(steps, 1):
        yield StepStarted(number, name, _span(*place))
        yield StepFinished(number, "cached", 0.0)


def _span(name: str, line: int, end_line: int, column: int, end_column: int) -> Span:
    return Span(Source(name, ()), line, end_line, column, end_column)
