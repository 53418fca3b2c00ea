"""Going through a tree of any depth: one step at a time, with one descriptor, whatever length the paths have.

The kernel takes no path of more than 4095 bytes, a process no more descriptors than its limit, and Python no recursion of a thousand
calls; what a program in a container makes may be deeper than all of them.
"""

from __future__ import annotations

import errno
import os

from imgbuild.hints import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABOVE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Descent:
    """A place in a tree. `fd` is the directory that it is at; it changes with each `down` and `up`. A context manager.

    For trees that nobody moves directories in meanwhile: where somebody does, `up` ends with an OSError instead of elsewhere.
    """

    def __init__(self, top: int) -> None:
        """Start at the open directory `top`, which stays the caller's."""
        self.fd = os.dup(top)
        self._above: list[tuple[int, int]] = []

    @classmethod
    def open_path(cls, path: str | bytes | os.PathLike[str]) -> Descent:
        """Start at a directory of the host."""
        top = os.open(path, _DIRECTORY)
        try:
            return cls(top)
        finally:
            os.close(top)

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def depth(self) -> int:
        """How many directories it is below the first."""
        return len(self._above)

    def down(self, name: str | bytes) -> None:
        """Into a directory, which is opened for reading; a symlink is none. Where that fails, it stays where it is."""
        here = os.fstat(self.fd)
        self._go(os.open(name, _DIRECTORY, dir_fd=self.fd))
        self._above.append((here.st_dev, here.st_ino))

    def up(self) -> None:
        """Back to the directory above."""
        try:
            above = os.open("..", _DIRECTORY, dir_fd=self.fd)
        except PermissionError:  # one that may be passed through but not read is good for the rest
            above = os.open("..", _ABOVE, dir_fd=self.fd)
        status = os.fstat(above)
        if (status.st_dev, status.st_ino) != self._above[-1]:
            os.close(above)
            raise OSError(errno.ESTALE, "a directory was moved meanwhile")
        self._above.pop()
        self._go(above)

    def _go(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd
