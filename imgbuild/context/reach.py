"""Which paths of a directory some source words of COPY, ADD and bind mounts reach: what a change of counts, and what is to be looked at
to learn of one.

What is reached is more than what is there: a name that a pattern would match, a directory on the way to one, a symlink on it.
Not here: how changes are learned of (engine.watching).
"""

from __future__ import annotations

import os
import stat

from imgbuild.context.glob import BadPattern, compile_component, is_pattern
from imgbuild.context.ignore import Ignore
from imgbuild.context.patterns import clean
from imgbuild.hints import Iterable, Iterator, Sequence
from imgbuild.light import re
from imgbuild.linux.symlinks import resolve_inside
from imgbuild.values import dataclass

Component = str | re.Pattern[str]


@dataclass(frozen=True, slots=True)
class SourceWord:
    """A source as it is written, in the context that it is read from. With `parents`, "/./" parts where it starts from what it means."""

    source: str
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Way:
    """Components that lead to what is read, and what of the directory there counts."""

    components: tuple[Component, ...]
    pattern: Ignore
    exclude: Ignore
    exact: bool = False
    """It is a symlink: nothing is below."""

    def meets(self, names: Sequence[str], directory: bool) -> bool:
        """Whether the path is on the way, its end, or below it."""
        if not all(_accepts(component, name) for component, name in zip(self.components, names, strict=False)):
            return False
        if len(names) < len(self.components):
            return directory
        below = "/".join(names[len(self.components) :])
        if not below:
            return directory or self.exact or not self.exclude.ignores(names[-1] if names else "")
        if self.exact or not _shows(self.exclude, below, directory):
            return False
        if not self.pattern or self.pattern.ignores(below):
            return True
        return directory and any(each.leads_on(below) for each in self.pattern.patterns)


class Reach:
    """What `words` reach in the directory `root`, without what its ignore file takes away. It knows what `survey` has seen."""

    def __init__(self, root: str, ignore: Ignore, words: Iterable[SourceWord]) -> None:
        self.root = root
        self.ignore = ignore
        self._words = tuple(words)
        self._ways: tuple[_Way, ...] = ()
        self._known: dict[str, frozenset[str]] = {}

    def survey(self) -> Iterator[str]:
        """Look at what is there: the directories, by their paths, in which a change may count."""
        self._known = {}
        self._ways = tuple(way for word in self._words for way in self._ways_of(word))
        pending = [""]
        while pending:
            relative = pending.pop()
            path = f"{self.root}/{relative}" if relative else self.root
            try:
                with os.scandir(path) as entries:
                    found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except OSError:
                continue  # it is gone, or nobody may look: the build will say so
            self._known[relative] = frozenset(name for name, _ in found)
            yield path
            below = [f"{relative}/{name}" if relative else name for name, directory in found if directory]
            pending += [child for child in below if self._reaches(child, True)]

    def state(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """All that is reached now in the directories of the last survey, by its path, with what tells of a change."""
        for directory in self._known:
            for name in self._names(f"/{directory}"):
                relative = f"{directory}/{name}" if directory else name
                path = f"{self.root}/{relative}"
                found = signature(path)
                if found is not None and self._reaches(relative, stat.S_ISDIR(found[0])):
                    yield path, found

    def counts(self, path: str) -> bool:
        """Whether what happened at a path below the root (relative, clean) may be a change to what is read. Of what is not there, it is
        one if it was there at the last survey."""
        real = f"{self.root}/{path}"
        if not os.path.lexists(real):
            return self.knows(path) and (path in self._known or self._reaches(path, False) or self._reaches(path, True))
        directory = os.path.isdir(real) and not os.path.islink(real)
        return self._reaches(path, directory) or (path in self._known and not directory)

    def knows(self, path: str) -> bool:
        """Whether the path was there at the last survey."""
        parent, _, name = path.rpartition("/")
        return name in self._known.get(parent, ())

    def _reaches(self, path: str, directory: bool) -> bool:
        if not _shows(self.ignore, path, directory):
            return False
        names = path.split("/")
        return any(way.meets(names, directory) for way in self._ways)

    def _ways_of(self, word: SourceWord) -> Iterator[_Way]:
        """As the word is written, and as it leads, through symlinks, to what is there now."""
        source, pattern = word.source, ""
        if word.parents:
            top, pivot, rest = word.source.partition("/./")
            source, pattern = (clean(f"/{top}"), clean(f"/{rest}")[1:]) if pivot else ("/", clean(f"/{word.source}")[1:])
        names = [name for name in clean(f"/{source}").split("/") if name]
        try:
            components = tuple(compile_component(name) if is_pattern(name) else name for name in names)
            shape = Ignore.of((pattern,)) if pattern else Ignore(), Ignore.of(word.exclude)
        except BadPattern:
            return  # which the build says
        yield _Way(components, *shape)
        links: set[str] = set()
        for path in self._named(components):
            real = self._real(path, links)
            if real is not None and real != path:
                yield _Way(_parts(real), *shape)
        for link in links:
            yield _Way(_parts(link), Ignore(), Ignore(), exact=True)

    def _named(self, components: Sequence[Component]) -> Iterator[str]:
        """The paths that exist, as they are named."""
        hits = [""]
        for component in components:
            if isinstance(component, str):
                hits = [f"{path}/{component}" for path in hits]
            else:
                hits = [f"{path}/{name}" for path in hits for name in self._names(path) if component.fullmatch(name)]
        yield from hits

    def _names(self, path: str) -> list[str]:
        real = self._real(path, set())
        try:
            return os.listdir(f"{self.root}{real}") if real is not None else []
        except OSError:
            return []

    def _real(self, path: str, links: set[str]) -> str | None:
        """Where a path leads; `links` are the symlinks on the way."""

        def readlink(real: str) -> str | None:
            try:
                target = os.readlink(f"{self.root}{real}")
            except OSError:
                return None
            links.add(real)
            return target

        try:
            return resolve_inside(path, readlink)
        except OSError:
            return None


def signature(path: str) -> tuple[int, ...] | None:
    """What tells that what is at a path is another one: of a directory, not what is in it. None where nothing is."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return status.st_mode, status.st_ino
    return status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _parts(path: str) -> tuple[str, ...]:
    return tuple(filter(None, path.split("/")))


def _accepts(component: Component, name: str) -> bool:
    return component == name if isinstance(component, str) else component.fullmatch(name) is not None


def _shows(ignore: Ignore, path: str, directory: bool) -> bool:
    """Whether a path is seen, or, of a directory, something below it may be."""
    if not ignore:
        return True
    names, state = path.split("/"), 0
    for depth in range(1, len(names) + 1):
        at = "/".join(names[:depth])
        ignored, state = ignore.step(at, state)
        if ignored and ((depth == len(names) and not directory) or not ignore.opens(at, state)):
            return False
    return True

