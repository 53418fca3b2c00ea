"""Where an archive is written to: a tar in a file or a stream, or a directory. Deterministic: no times, no owners.

A file appears when it is complete. A directory may hold a layout already; its files are replaced one by one, each at once.
"""

from __future__ import annotations

import os
import tempfile
from typing import BinaryIO, Protocol

from imgbuild.errors import UsageError
from imgbuild.hints import Callable, Iterable, Iterator
from imgbuild.layer.tar import TarEntry, TarWriter
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.failures import explained

_SMALL = 4 << 20


class Output(Protocol):
    """Takes files by their names, ``/`` between parts."""

    def has(self, name: str, size: int) -> bool:
        """Whether a file of that name and size is there already."""
        ...

    def write(self, name: str, size: int, content: Iterable[bytes]) -> None:
        """Write a file. A name is written once."""
        ...

    def link(self, name: str, target: str) -> None:
        """Let `name` stand for the file `target`, whose name is relative to the archive."""
        ...

    def existing(self, name: str) -> bytes | None:
        """A small file that was there before; None where there is none."""
        ...


@contextmanager
def open_output(location: Path | BinaryIO, *, directory: bool) -> Iterator[Output]:
    """An output at a path or in an open stream (which stays the caller's). A tar is complete when the context ends well."""
    if not isinstance(location, Path):
        tar = _TarOutput(location.write)
        yield tar
        tar.finish()
        location.flush()
    elif directory:
        with explained(location):
            location.mkdir(parents=True, exist_ok=True)
        yield _DirectoryOutput(location)
    else:
        with replacing(location) as file:
            tar = _TarOutput(file.write)
            yield tar
            tar.finish()


@contextmanager
def replacing(path: Path, hint: str = "choose a file name, or save into the directory as a layout") -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when all went well. Where `path` is no plain file (a pipe), that is written. `hint` is for
    who names a directory."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory", hint=hint)
    if path.exists() and not path.is_file():
        with explained(path), open(path, "wb") as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    with explained(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with explained(target):
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


class _TarOutput:
    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._tar = TarWriter(write)
        self._sizes: dict[str, int] = {}
        self._directories: set[str] = set()

    def has(self, name: str, size: int) -> bool:
        return self._sizes.get(name) == size

    def write(self, name: str, size: int, content: Iterable[bytes]) -> None:
        self._parents(name)
        self._tar.add(TarEntry(os.fsencode(name), "file", mode=0o644, size=size))
        for data in content:
            self._tar.data(data)
        self._sizes[name] = size

    def link(self, name: str, target: str) -> None:
        self._parents(name)
        up = "../" * name.count("/")
        self._tar.add(TarEntry(os.fsencode(name), "symlink", mode=0o777, link=os.fsencode(up + target)))

    def existing(self, name: str) -> bytes | None:
        return None

    def finish(self) -> None:
        self._tar.finish()

    def _parents(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            directory = "/".join(parts[:count])
            if directory not in self._directories:
                self._directories.add(directory)
                self._tar.add(TarEntry(os.fsencode(directory), "dir", mode=0o755))


class _DirectoryOutput:
    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, name: str, size: int) -> bool:
        try:
            return (self._root / name).stat().st_size == size
        except OSError:
            return False

    def write(self, name: str, size: int, content: Iterable[bytes]) -> None:
        path = self._root / name
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                for data in content:
                    file.write(data)

    def link(self, name: str, target: str) -> None:
        path = self._root / name
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                path.unlink()
            path.symlink_to("../" * name.count("/") + target)

    def existing(self, name: str) -> bytes | None:
        path = self._root / name
        with explained(path):
            try:
                with path.open("rb") as file:
                    return file.read(_SMALL)
            except FileNotFoundError:
                return None
