"""Which entries of some directories of its root the processes of a sandbox open: told by inotify, begun before there is a command.

A watch is of an inode: it sees what is opened by whatever path, mount or root directory. It knows nothing of what is only looked at
(stat(2), readlink(2)), and nothing of a directory that is made later. Where anything could have been missed, `Watch.problem` says so.
"""

from __future__ import annotations

import errno
import os

from imgbuild.hints import Callable, Iterable, Mapping, Sequence
from imgbuild.linux import inotify
from imgbuild.sandbox.wire import Begun

_MOST = 200_000
"""Names that are remembered of one sandbox."""
_READS = 16
"""How often it is read in one look: a full queue of ordinary names is less. Who floods it is not to hold anybody up."""
_MANY = 1000
"""Events of one look, after which the next should be soon."""
_AGAIN = 100
"""Events of one directory that told nothing new, from which on it is worth a thought to have no more."""
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG)


class Listener:
    """What watches are told by, one after the other: to make one for each would have its end waited for, which takes milliseconds."""

    def __init__(self) -> None:
        self.fd = inotify.start()
        self.given = 0
        """How many watches it has had. Their numbers go on from there."""

    def close(self) -> None:
        os.close(self.fd)


class Watch:
    """The build's side. `directories` are absolute paths; `drain` is to be called now and then, and `end` when all processes are gone. Of a
    directory in which much is opened again and again, and all `names` have been, nothing is told any more."""

    def __init__(self, listener: Listener, directories: Sequence[str], names: Callable[[str], Iterable[str]] | None = None) -> None:
        self.directories = tuple(directories)
        self.listener = listener
        self.after = listener.given
        """The number before that of its first watch."""
        self.problem = ""
        self.ended = False
        self.busy = False
        """Whether much was told when it was drained last, so that it should be soon again."""
        self._told: set[tuple[int, bytes]] = set()
        self._names = names
        self._again: dict[int, int] = {}
        self._asked: dict[int, int] = {}
        self._places: dict[int, str] | None = None
        """The directories by the numbers of their watches, once these are known."""
        self.absent: frozenset[str] = frozenset()
        """The directories that were not there, or are behind a symlink: what is in them is not known."""

    def began(self, begun: Begun | None) -> None:
        """The command runs, or is over; `begun` is what the sandbox said of how it began."""
        missing = frozenset(begun.absent if begun is not None else ())
        self.problem = (begun.problem if begun is not None else "") or self.problem
        self.absent = frozenset(self.directories[number] for number in missing)
        there = (directory for number, directory in enumerate(self.directories) if number not in missing)
        self._places = dict(enumerate(there, start=self.after + 1))

    @property
    def has_begun(self) -> bool:
        """Whether that is known."""
        return self._places is not None

    def end(self, begun: Begun | None) -> None:
        """All processes are gone. The listener can have another watch, unless there was a problem."""
        self.began(begun)
        self.drain(reads=0)
        self.ended = True
        self.listener.given += len(self.directories) - len(self.absent)

    def drain(self, *, reads: int = _READS) -> None:
        """Take what was told, by so many reads (0: all). What was told before is not told twice; a queue that was full has lost something,
        and then nothing counts any more."""
        before = len(self._told)
        for number, mask, name in () if self.problem else inotify.events(self.listener.fd, reads):
            if mask & inotify.IN_Q_OVERFLOW:
                self.problem = "it opened files faster than they could be noted"
                break
            if mask & inotify.IN_OPEN and number > self.after:  # the others are of those before
                if (number, name) in self._told:
                    self._again[number] = self._again.get(number, 0) + 1
                else:
                    self._told.add((number, name))
        self.busy = len(self._told) - before > _MANY
        if self._names is not None and self._places is not None:
            self._forget(self._names, self._places)
        if len(self._told) > _MOST:
            self.problem = "it opened too many files"
            self._told.clear()

    def _forget(self, names: Callable[[str], Iterable[str]], places: Mapping[int, str]) -> None:
        for number, times in self._again.items():
            if times >= self._asked.get(number, _AGAIN):
                self._asked[number] = 2 * times
                if number in places and all((number, os.fsencode(name)) in self._told for name in names(places[number])):
                    inotify.forget(self.listener.fd, number)

    def opened(self) -> dict[str, set[str]]:
        """By directory, the names that were opened in it, "" for itself."""
        found: dict[str, set[str]] = {}
        for number, name in self._told:
            found.setdefault((self._places or {})[number], set()).add(os.fsdecode(name))
        return found


def begin(fd: int, directories: Sequence[str], after: int) -> Begun | None:
    """In the sandbox, whose root is "/" by now: watch the directories. None where all are watched, by the numbers that follow `after`."""
    absent: list[int] = []
    try:
        real = {"/": True}
        for number, directory in enumerate(directories):
            try:
                if not _is_real(os.path.dirname(directory), real):
                    absent.append(number)
                elif inotify.watch_opens(fd, os.fsencode(directory)) != after + number + 1 - len(absent):
                    return Begun(problem="one of its directories was to be seen twice")
                else:
                    real[directory] = True
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent.append(number)
    except OSError as error:
        return Begun(problem=f"its directories could not be watched: {error.strerror}")
    return Begun(tuple(absent)) if absent else None


def _is_real(directory: str, known: dict[str, bool]) -> bool:
    """Whether no part of a path is a symlink. Each is looked at once: parents come before what is in them."""
    unknown = []
    while directory not in known:  # a loop: it may lie deep
        unknown.append(directory)
        directory = os.path.dirname(directory)
    real = known[directory]
    for each in reversed(unknown):
        real = known[each] = real and not os.path.islink(each)
    return real
