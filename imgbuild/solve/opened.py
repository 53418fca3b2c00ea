"""Which files of the build context a RUN has opened, of those that COPY and ADD put into what it stands on, and of those that it mounts:
for advice, and in no key.

What it opens is watched (sandbox.watch), one directory at a time, and a watch costs some microseconds: so a step is watched where that is
at most about a hundredth of what it took before, or where they are few. Told is only what was surely not opened. What a step changed
or moved is in its upperdir, and counts as opened; so does what is no file, and what is behind a symlink.
"""

from __future__ import annotations

import stat

from imgbuild.errors import StoreError
from imgbuild.graph.ops import CopyOp, RunOp, Step
from imgbuild.hints import TYPE_CHECKING, Any, Iterable, Iterator, NamedTuple, Sequence
from imgbuild.light.contextlib import suppress
from imgbuild.sandbox.watch import Listener, Watch
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.readers import LowerReader, reader_of
from imgbuild.solve.memory import identity_of
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.context.digest import Kept
    from imgbuild.light.pathlib import Path
    from imgbuild.solve.rooms import Rooms
    from imgbuild.solve.state import Wanted

FREE = 8
"""Directories that any step may have watched."""
_A_SECOND = 800
"""How many more may be for each second that it took before: about a hundredth of it."""
_MOST_DIRECTORIES = 4000
_MOST_ROWS = 200
_MOST_LETTERS = 1 << 14
"""What is told of one step: the largest, as far as their paths take no more than that."""
_LEAST_SECONDS = 0.1
_LOOKED_UP = frozenset({"/etc/passwd", "/etc/group"})
"""Where a build finds users by their names itself, for USER and --chown: no command is needed for that."""
_WORDS = 5
_OWNER = "seconds"
"""The owner of how long steps took, among the index's memos."""


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a COPY, an ADD or a mount, in an image: `source` is its path in the build context ("" for all of it), `target` where
    what is in it, or the file itself, has come to be; `key` is the step's."""

    key: str
    source: str
    target: str
    kept: Kept
    single: bool

    @property
    def top(self) -> str:
        """The uppermost directory of the image that it is in."""
        return self.target.rpartition("/")[0] or "/" if self.single else self.target


class Row(NamedTuple):
    """What was not opened: a file, or a directory with all that is in it, by its path in a part's source; and whether the directory that
    a file is in, or any that is meant, was listed."""

    path: str
    files: int
    size: int
    listed: bool


def parts_of(copies: Iterable[Wanted]) -> tuple[Part, ...]:
    """The sources of steps whose place in an image is certain."""
    return tuple(part for wanted in copies if isinstance(wanted.step.op, CopyOp) for part in _parts(wanted, wanted.step.op))


def _parts(wanted: Wanted, op: CopyOp) -> Iterator[Part]:
    if op.parents or op.remotes:
        return
    directory, top = op.destination.endswith("/"), op.destination.rstrip("/")
    for kept in wanted.kept:
        if not kept.name:
            yield Part(wanted.key, kept.source, top or "/", kept, single=False)
        elif directory and not op.unpack:
            yield Part(wanted.key, kept.source, f"{top}/{kept.name}", kept, single=True)


def mounted(wanted: Wanted) -> tuple[Part, ...]:
    """The directories of the build context that a RUN mounts to read them. A file's mount is in no directory that could be watched."""
    op, found = wanted.step.op, []
    for kept in wanted.kept:
        if isinstance(op, RunOp) and kept.mount >= 0 and not kept.name:
            mount = op.mounts[kept.mount]
            if mount.kind == "bind" and mount.read_only and mount.stage is None and not mount.context:
                found.append(Part(wanted.key, kept.source, mount.target.rstrip("/"), kept, single=False))
    return tuple(found)


def directories_of(parts: Iterable[Part], most: int) -> tuple[str, ...] | None:
    """The directories that files of the parts are in, parents first; None where there are more than `most`."""
    found: dict[str, None] = {}
    for part in parts:
        if part.single:
            found[part.top] = None
        elif len(part.kept.texts) > 2 * most:
            return None
        else:
            for path, _ in _tree(part):
                found[path] = None
                if len(found) > most:
                    return None
    return tuple(found) if len(found) <= most else None


def _tree(part: Part) -> Iterator[tuple[str, str]]:
    """The directories of a part by their paths in the image, with the digests of their texts, parents first."""
    texts = part.kept.texts
    pending = [("" if part.target == "/" else part.target, texts[part.kept.roots[0]].split("\0", _WORDS)[_WORDS - 1])]
    while pending:
        path, digest = pending.pop()
        yield path or "/", digest
        text = texts[digest]
        if "\0directory" in text:
            words = text.split("\0")
            kinds = zip(words[0:-1:_WORDS], words[1:-1:_WORDS], words[4:-1:_WORDS], strict=True)
            pending += [(f"{path}/{name}", body) for name, kind, body in kinds if kind.startswith("directory")]


class _Ground:
    """What steps stand on that share it: its parts, and its directories where they are few. `untouched` is what is told of a step that
    opened and wrote nothing of it, once that is known: it is the same for all."""

    def __init__(self, copies: Sequence[Wanted]) -> None:
        self.copies = copies
        self.parts = parts_of(copies)
        self.directories = directories_of(self.parts, FREE)
        self.untouched: list[dict[str, Any]] | None = None


class _Names:
    """The names of the files in each directory that parts share, found when they are asked for."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._known: dict[str, set[str]] | None = None

    def __call__(self, directory: str) -> set[str]:
        if self._known is None:
            self._known = {}
            for part in self._parts:
                if part.single:
                    self._known.setdefault(part.top, set()).add(part.target.rpartition("/")[2])
                for path, digest in () if part.single else _tree(part):
                    words = part.kept.texts[digest].split("\0")
                    files = (name for name, kind in zip(words[0:-1:_WORDS], words[1:-1:_WORDS], strict=True) if kind.startswith("file"))
                    self._known.setdefault(path, set()).update(files)
        return self._known[directory]


class Opening:
    """What one RUN opens, from before its command to its record. `own` is what it mounts; `why` says what makes that unknown;
    listeners that have nothing to do are `idle`, and made where there are none."""

    def __init__(
        self,
        ground: _Ground,
        own: Sequence[Part],
        directories: Sequence[str],
        idle: list[Listener],
        *,
        rootless: bool = False,
        why: str = "",
    ) -> None:
        self._ground = ground
        self._own = own
        self._directories = directories
        self._idle = idle
        self._rootless = rootless
        self._why = why
        self._watch: Watch | None = None
        self._listener: Listener | None = None
        self._facts: dict[str, Any] | None = None

    def attempt(self) -> Watch | None:
        """What watches the next attempt at it, which is the one that counts."""
        self.release()
        if not self._why:
            try:
                with suppress(IndexError):  # steps that run at once share them
                    self._listener = self._idle.pop()
                self._listener = self._listener or Listener()
                self._watch = Watch(self._listener, self._directories, _Names((*self._ground.parts, *self._own)))
            except OSError as error:
                self._why = f"its directories could not be watched: {error.strerror}"
        return self._watch

    def release(self) -> None:
        """Nothing is watched any more: let others have the listener, if it is sound."""
        listener, self._listener = self._listener, None
        if listener is not None and self._watch is not None and self._watch.ended and not self._watch.problem:
            self._idle.append(listener)
        elif listener is not None:
            listener.close()

    def facts(self, upper: Path | None = None) -> dict[str, Any]:
        """What a record says of it. `upper` is what its command wrote; asked for again, it need not be there any more."""
        if self._facts is None:
            try:
                self._facts = self._told(upper)
            except OSError as error:
                self._facts = {"why": f"what it wrote can't be read: {error.strerror}"}
        return self._facts

    def _told(self, upper: Path | None) -> dict[str, Any]:
        watch = self._watch
        if watch is None or watch.problem or upper is None:
            return {"why": self._why or (watch.problem if watch is not None else "") or "what it wrote is not known"}
        reader = reader_of(DirectoryLower(upper), self._rootless)
        try:
            marks = _Marks(watch.opened(), watch.absent, reader)
            ground, own = self._ground, self._own
            alike = not (own or marks.opened or watch.absent) and all(marks.written(part.top) == frozenset() for part in ground.parts)
            if alike and ground.untouched is not None:
                return {"parts": ground.untouched}
            parts = told((part, unopened(part, marks)) for part in (*ground.parts, *own))
            if alike:
                ground.untouched = parts
            return {"parts": parts}
        finally:
            reader.close()


def told(found: Iterable[tuple[Part, tuple[int, int, list[Row]]]]) -> list[dict[str, Any]]:
    """The form of a record, bounded: for each part the number of its files, and of those that were opened, and what was not."""
    parts, every = [], list(found)
    largest = sorted((row for _, (_, _, rows) in every for row in rows), key=lambda row: (-row.size, -row.files, row.path))
    least: set[int] = set()
    room = _MOST_LETTERS
    for row in largest[:_MOST_ROWS]:
        if (room := room - len(row.path)) >= 0:
            least.add(id(row))
    for part, (files, opened, rows) in every:
        kept = sorted([row.path, row.files, row.size, row.listed] for row in rows if id(row) in least)
        told_ = {"key": part.key, "source": part.source, "target": part.target, "files": files, "opened": opened, "unopened": kept}
        parts.append(told_ if len(kept) == len(rows) else {**told_, "more": len(rows) - len(kept)})
    return parts


class _Marks:
    """What is known of the directories of a root when a step is over: what was opened in each, and what its upperdir has there."""

    def __init__(self, opened: dict[str, set[str]], absent: frozenset[str], upper: LowerReader) -> None:
        self.opened = opened
        self._absent = absent
        self._upper = upper
        self._written: dict[str, frozenset[str] | None] = {}

    def written(self, directory: str) -> frozenset[str] | None:
        """The names that the upperdir has in a directory, gone ones too; None where nothing of it may be what it was."""
        unknown = [directory]
        while unknown[-1] not in self._written and unknown[-1] != "/":  # a loop: it may lie deep
            unknown.append(unknown[-1].rpartition("/")[0] or "/")
        for each in reversed(unknown):
            if each not in self._written:
                self._written[each] = self._look(each)
        return self._written[directory]

    def _look(self, directory: str) -> frozenset[str] | None:
        if directory in self._absent:
            return None
        if directory != "/":
            parent, _, name = directory.rpartition("/")
            above = self._written[parent or "/"]
            if above is None or name not in above:
                return above if above is None else frozenset()
        path = directory[1:]
        status = self._upper.lstat(path)
        if status is None or not stat.S_ISDIR(status.mode) or (path and self._upper.opaque(path)):
            return None
        return frozenset(name for name, _ in self._upper.names(path))


class _Seen(NamedTuple):
    """A directory, when all below it has been looked at: whether nothing of it was opened, and what was not, of it and below."""

    whole: bool
    files: int
    opened: int
    size: int
    listed: bool
    rows: list[Row]


def unopened(part: Part, marks: _Marks) -> tuple[int, int, list[Row]]:
    """How many files a part has and how many of them were opened; and what was not: the highest directories of which nothing was."""
    if part.single:
        parent, _, name = part.target.rpartition("/")
        names, written = marks.opened.get(parent or "/", ()), marks.written(parent or "/")
        text = part.kept.texts[part.kept.roots[0]]
        used = name in names or written is None or name in written or part.target in _LOOKED_UP or not text.startswith("\0file")
        size = part.kept.sizes(part.kept.roots[0])[0]
        return 1, int(used), [] if used else [Row("", 1, size, "" in names)]
    seen: dict[str, _Seen] = {}
    tree = list(_tree(part))
    for path, digest in reversed(tree):
        seen[path] = _directory(part, path, digest, marks, seen)
    top = seen[part.target]
    return top.files, top.opened, [Row("", top.files, top.size, top.listed)] if top.whole and top.files else top.rows


def _directory(part: Part, path: str, digest: str, marks: _Marks, seen: dict[str, _Seen]) -> _Seen:
    """One directory, when those in it have been: what they were seen as is taken out of `seen`."""
    words = part.kept.texts[digest].split("\0")
    names, written = marks.opened.get(path, set()), marks.written(path)
    listed, prefix = "" in names, "" if path == "/" else path
    # A name that is not of the context was made in it: it has to be there.
    whole = names <= {""} and written is not None and not written
    files = opened = size = 0
    rows: list[Row] = []
    below: list[tuple[str, _Seen]] = []
    for name, kind, bytes_ in zip(words[0:-1:_WORDS], words[1:-1:_WORDS], part.kept.sizes(digest), strict=True):
        here = f"{prefix}/{name}"
        if kind.startswith("directory"):
            below.append((here, seen.pop(here)))
        elif not kind.startswith("file"):
            whole = False  # nobody is told who follows a symlink
        else:
            files += 1
            if written is None or name in names or name in written or here in _LOOKED_UP:
                opened, whole = opened + 1, False
            else:
                size += bytes_
                rows.append(Row(_inside(part, here), 1, bytes_, listed))
    for here, inner in below:
        files, opened, size = files + inner.files, opened + inner.opened, size + inner.size
        whole = whole and inner.whole
        if not inner.whole:
            rows += inner.rows
        elif inner.files:
            rows.append(Row(_inside(part, here), inner.files, inner.size, inner.listed))
    return _Seen(whole, files, opened, size, listed or any(inner.listed for _, inner in below), [] if whole else rows)


def _inside(part: Part, path: str) -> str:
    return path[1:] if part.target == "/" else path[len(part.target) + 1 :]


class Openings:
    """The openings of one build, whose Buildfile `subject` is, as `memory.expected` knows it."""

    def __init__(self, rooms: Rooms, subject: str) -> None:
        self._rooms = rooms
        self._subject = subject
        self._known: dict[int, _Ground] = {}
        """By the identity of what was copied, which many share."""
        self._idle: list[Listener] = []

    def close(self) -> None:
        """Nothing is watched any more."""
        while self._idle:
            self._idle.pop().close()

    def begin(self, wanted: Wanted, copies: Sequence[Wanted]) -> Opening | None:
        """What watches a RUN that stands on `copies`; None where nothing of the context is for certain in it."""
        step, ground, own = wanted.step, self._of(copies), mounted(wanted)
        op = step.op
        assert isinstance(op, RunOp)
        if not ground.parts and not own:
            return None
        if op.security == "insecure":  # it may mount an overlay of its own, below which nobody is told
            return Opening(ground, own, (), self._idle, why="it has all rights")
        directories = ground.directories if ground.directories is not None else directories_of(ground.parts, self._allowed(step))
        if own and directories is not None:  # they are copied for it, which takes longer than to watch them
            more = directories_of(own, _MOST_DIRECTORIES)
            directories = more and tuple(dict.fromkeys((*directories, *more)))
        if directories is None:
            why = "what it stands on has many directories for the time that it was last known to take"
            return Opening(ground, own, (), self._idle, why=why)
        return Opening(ground, own, directories, self._idle, rootless=self._rooms.features.rootless)

    def learn(self, step: Step, copies: Sequence[Wanted], seconds: float) -> None:
        """Remember how long a step took, where it matters: by twos, so that most runs of a step write nothing."""
        if self._of(copies).directories is not None:
            return
        tenths = 1 << (int(seconds * 10).bit_length() - 1) if seconds >= _LEAST_SECONDS else 0
        index, identity = self._rooms.store.index, identity_of(self._subject, step)
        with suppress(StoreError):
            known = index.content_digest(_OWNER, identity)
            if str(tenths) != (known or "0"):
                index.record_content_digest(_OWNER, identity, str(tenths))

    def _of(self, copies: Sequence[Wanted]) -> _Ground:
        if id(copies) not in self._known:
            self._known[id(copies)] = _Ground(copies)
        return self._known[id(copies)]

    def _allowed(self, step: Step) -> int:
        known = self._rooms.store.index.content_digest(_OWNER, identity_of(self._subject, step))
        return min(_MOST_DIRECTORIES, FREE + (int(known) * _A_SECOND // 10 if known is not None and known.isdigit() else 0))
