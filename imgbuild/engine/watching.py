"""Waits for changes of what a build reads; the one module that imports watchfiles, which only ``--watch`` needs.

Directories are watched, not files: what is saved by a rename, replaced, or not there yet is seen so, and of a directory that nothing is
read of nothing is heard. They are watched one by one, as many of a big tree are ignored, and the kernel gives only so many watches.
"""

from __future__ import annotations

import os

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from imgbuild.context.reach import Reach, signature
from imgbuild.engine.reads import ContextReads, Reads
from imgbuild.errors import ContextError, ImgbuildError
from imgbuild.hints import Iterator
from imgbuild.light import json
from imgbuild.oci.image import REF_NAME
from imgbuild.oci.reference import parse_reference
from imgbuild.values import dataclass

_QUIET_MS = 30
"""A change is over when nothing has happened for so long: an editor's rename, a checkout."""
_LONGEST_MS = 2000
"""So long at most is waited for that."""
_MOST_LINKS = 40
_MOVED, _MODIFIED = 1, 2
_NAMELESS = ""
_MOST_TRIES = 20


class WatchError(ImgbuildError):
    """The kernel does not let us watch."""

    reference = "watch"
    exit_code = 20


class Stopped(Exception):
    """A signal came while we waited, whose handler has raised: what, only the caller can know."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something may happen to a file, and whether there was something when we began to look."""

    file: str
    existed: bool


@dataclass(frozen=True, slots=True)
class _Context:
    """A context with all that says what is read of it."""

    name: str
    reach: Reach
    said: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a path, as it is shown: "changed", "added" or "removed"."""

    path: str
    what: str


class Watcher:
    """What was told to `begin` and `follow` is watched; a context manager. Paths are shown as they are seen from `here`; what happens
    below `left_out` does not count.

    `begin` is called while nothing has been read: what happened before does not count. `follow` is called when the files of the reads
    have been read, but nothing of their contexts. What happens later is returned by `changes`.
    """

    def __init__(self, here: str, *, left_out: tuple[str, ...] = ()) -> None:
        self._here = here
        self._left_out = tuple(os.path.realpath(path) for path in left_out)
        self._notify: RustNotify | None = None
        self._watched: frozenset[tuple[str, int, int]] = frozenset()
        self._places: dict[str, _Place] = {}
        self._contexts: tuple[_Context, ...] = ()
        self._surveyed: tuple[str, ...] = ()
        self._moved = True
        self._state: dict[str, tuple[int, ...]] | None = None
        """What all that counts was when it was last looked at, where that is of use."""
        self._pending: dict[str, int] = {}

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._notify is not None:
            self._notify.close()

    def begin(self, reads: Reads) -> None:
        """Watch from now on what is read first, and the contexts as before."""
        self._set_places(reads)
        self._watch()
        self._drain()
        self._pending = {}

    def follow(self, reads: Reads) -> None:
        """Watch the contexts, too."""
        self._set_places(reads)
        try:
            contexts = tuple(map(_context, reads.contexts or ()))
        except ContextError:
            contexts = ()  # which the build says
        if [each.said for each in contexts] != [each.said for each in self._contexts]:
            self._contexts, self._moved = contexts, True
        self._watch(survey=True)
        self._drain()
        if self._state is not None:
            self._state = self._look()
        self._pending = {path: kind for path, kind in self._pending.items() if path in self._places}

    def changes(self) -> tuple[Change, ...]:
        """Wait for a change of what is read: all that belongs to it, sorted. `Stopped` for a signal."""
        while True:
            if not self._pending:
                self._collect(_LONGEST_MS, _QUIET_MS, 0)
            pending, self._pending = self._pending, {}
            found = sorted({change for path, kind in pending.items() if (change := self._change(path, kind)) is not None})
            if found:
                return tuple(Change(path, what) for path, what in found)

    def _set_places(self, reads: Reads) -> None:
        self._places = {place: _Place(file, os.path.lexists(place)) for file in reads.files for place in _places_of(file)}

    def _watch(self, survey: bool = False) -> None:
        """Have all directories watched that there are now."""
        for _ in range(_MOST_TRIES):
            if survey and self._moved:
                self._moved = False
                self._surveyed = tuple(path for each in self._contexts for path in each.reach.survey() if not self._is_left_out(path))
            directories = {*self._surveyed, *(os.path.dirname(place) for place in self._places)}
            wanted = frozenset(found for path in directories if (found := _identity(path)) is not None)
            if wanted == self._watched or self._is_watched(wanted):
                return
            self._moved = True
        raise WatchError("the directories that are read come and go all the time, and so can't be watched")

    def _is_watched(self, wanted: frozenset[tuple[str, int, int]]) -> bool:
        """Watch these; False where one of them is gone since."""
        try:
            notify = _notified([path for path, _, _ in sorted(wanted)])
        except FileNotFoundError:
            return False
        self._drain()
        if self._notify is not None:
            self._notify.close()
        self._notify, self._watched = notify, wanted
        return True

    def _drain(self) -> None:
        self._collect(1, 1, 1)

    def _collect(self, longest: int, quiet: int, timeout: int) -> None:
        """Take what has been heard of."""
        if self._notify is None:
            return
        try:
            heard = self._notify.watch(longest, quiet, timeout, None)
        except WatchfilesRustInternalError:
            self._notify.close()
            self._notify, self._watched = None, frozenset()
            self._compare()
            return
        if heard == "signal":
            raise Stopped
        for kind, path in heard if isinstance(heard, set) else ():
            self._moved = self._moved or kind != _MODIFIED
            if kind != _MODIFIED or path not in self._pending:
                self._pending[path] = kind

    def _compare(self) -> None:
        """It has come upon a name that is no text, if only as that was read: it says nothing else for ever, and what it knew is lost. So
        we watch anew, and from now on look ourselves at what such an end has left untold."""
        self._watch()
        if self._state is None:
            self._pending[_NAMELESS], self._moved, self._state = _MODIFIED, True, {}
            return
        before, now = self._state, self._look()
        for path in before.keys() | now.keys():
            if before.get(path) != now.get(path):
                self._pending[path] = _MODIFIED if path in before and path in now else _MOVED
                self._moved = True
        self._state = now

    def _look(self) -> dict[str, tuple[int, ...]]:
        found = {path: state for path in self._places if (state := signature(path)) is not None}
        for each in self._contexts:
            found |= each.reach.state()
        return found

    def _change(self, path: str, kind: int) -> tuple[str, str] | None:
        """A path that something happened to, as it is shown, with what; None where that does not count."""
        if path == _NAMELESS:
            return "something whose name is no text", "changed"
        place = self._places.get(path)
        if place is not None:
            there = os.path.lexists(path)
            return (self._seen(place.file), _word(place.existed, there)) if there or place.existed else None
        if self._is_left_out(path):
            return None
        for context in self._contexts:
            reach = context.reach
            relative = path.removeprefix(f"{reach.root}/")
            if relative != path and reach.counts(relative):
                shown = f"{context.name}: {relative}" if context.name else self._seen(path)
                return shown, "changed" if kind == _MODIFIED else _word(reach.knows(relative), os.path.lexists(path))
        return None

    def _is_left_out(self, path: str) -> bool:
        return any(path == other or path.startswith(f"{other}/") for other in self._left_out)

    def _seen(self, path: str) -> str:
        return os.path.relpath(path, self._here) if path == self._here or path.startswith(f"{self._here}/") else path


class ImageWatcher:
    """Watches what a name of the store in `root` leads to; a context manager."""

    def __init__(self, root: str, name: str) -> None:
        self._index = f"{root}/index.json"
        self._names = (parse_reference(name).familiar(), str(parse_reference(name)))
        os.makedirs(root, exist_ok=True)
        self._notify = _notified([root])

    def __enter__(self) -> ImageWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._notify.close()

    def digest(self) -> str | None:
        """The image's digest now; None where the name leads nowhere."""
        try:
            with open(self._index, encoding="utf-8") as file:
                entries = json.loads(file.read())["manifests"]
        except (OSError, ValueError, KeyError):
            return None
        return next((str(entry["digest"]) for entry in entries if entry.get("annotations", {}).get(REF_NAME) in self._names), None)

    def wait(self, seconds: float) -> None:
        """Until something happens to the store's names, or so long. `Stopped` for a signal."""
        if self._notify.watch(_QUIET_MS, 10, int(seconds * 1000), None) == "signal":
            raise Stopped


def _notified(directories: list[str]) -> RustNotify:
    """Who hears of these from now on; FileNotFoundError where one is gone."""
    try:
        return RustNotify(directories, False, False, 0, False, False)
    except FileNotFoundError:
        raise
    except UnicodeEncodeError:
        raise WatchError("a directory that is read can't be watched: its name is no text", hint="rename it, or ignore it") from None
    except (OSError, WatchfilesRustInternalError) as error:
        raise _refused(len(directories), error) from None


def _word(existed: bool, there: bool) -> str:
    return "changed" if existed and there else "added" if there else "removed"


def _context(reads: ContextReads) -> _Context:
    reach = reads.reach()
    return _Context(reads.name, reach, (reads, tuple(map(str, reach.ignore.patterns))))


def _places_of(file: str) -> Iterator[str]:
    """Where something must happen for a file to be another one: its own place, those of the symlinks that lead to it, and, of what is not
    there, the first directory that is missing on the way."""
    for _ in range(_MOST_LINKS):
        directory, name = os.path.split(file)
        if not name:
            return
        real = os.path.realpath(directory)
        if not os.path.isdir(real):
            yield from _places_of(real)
            return
        yield f"{real.rstrip('/')}/{name}"
        try:
            file = os.path.join(real, os.readlink(f"{real}/{name}"))
        except OSError:
            return


def _identity(path: str) -> tuple[str, int, int] | None:
    """A directory as the one that it is: another one in its place is watched anew. None for one that nobody may look into."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (path, status.st_dev, status.st_ino) if os.access(path, os.R_OK) else None


def _refused(count: int, error: Exception) -> WatchError:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return WatchError(
        f"{'1 directory is' if count == 1 else f'{count} directories are'} to be watched, which the kernel does not allow: {text}",
        hint="name what is not needed in the ignore file, or raise the limits: sysctl fs.inotify.max_user_watches=524288 "
        "fs.inotify.max_user_instances=1024",
    )
