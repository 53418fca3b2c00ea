"""The start of a process: byte code comes from one file, the *bundle*, and patterns come compiled.

Python looks for each module in several directories, reads its file, and checks it: a third of a millisecond for each of a hundred and more.
The bundle holds the code of the modules, of ours and of the standard library, that commands have used so far; it lies where Python keeps
byte code, as the end of a file that Python itself could read (`bundled`). A module comes from it if it is what its source is: same place,
size and time, and undamaged, else from where it always did; the first command that misses something makes the bundle anew when it ends
(`bundling`). Nothing is ever wrong with a bundle, it only is of no use. IMGBUILD_DISABLE=bundle, and no bundle is read or made.
"""

from __future__ import annotations

import _frozen_importlib
import _frozen_importlib_external as external
import _imp
import _sre  # type: ignore[import-not-found]
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

FORM = b"imgbuild bundle 1\n"
"""The last bytes of a bundle. Before them: a pyc file, the modules' marshalled code, the index, and its length and hash."""
KEY = int.from_bytes(FORM[:4], "little")
"""Of the hashes, which are those that Python has for its own byte code: they find damage, as long as nobody means it."""


class Bundle:
    """The finder of modules that comes before all others. `path` is None where nothing can be kept."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.modules: dict[str, tuple[str, int, int, bool, int, int, bytes]] = {}
        """By name: the source, its mtime and size, whether it is a package; offset, length and hash of the code."""
        self.patterns: dict[tuple[str | bytes, int], bytes] = {}
        """What `_sre.compile` needs, marshalled, by text and flags."""
        self.unknown: list[str] = []
        """Modules that were asked for, and are not in it or no longer right."""
        self.uncompiled: list[tuple[str | bytes, int]] = []
        self._compiled: dict[tuple[str | bytes, int], Any] = {}
        self._file = -1
        self._process = os.getpid()

    def open(self) -> None:
        """Read the index of the file, if it is one for this interpreter and this package."""
        try:
            file = os.open(self.path or "", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            index = self._index(file)
        except (OSError, ValueError, EOFError, TypeError):
            index = None
        # The numbers of the standard streams stay free for them.
        if index is None or file < 3:
            os.close(file)
        else:
            self.modules, self.patterns = index
            self._file = file

    def _index(self, file: int) -> tuple[Any, Any] | None:
        size = os.stat(file).st_size
        tail = os.pread(file, len(FORM) + 16, max(size - len(FORM) - 16, 0))
        if not tail.endswith(FORM):
            return None
        length, check = int.from_bytes(tail[:8], "little"), tail[8:16]
        index = os.pread(file, min(length, size), max(size - len(FORM) - 16 - length, 0))
        if _imp.source_hash(KEY, index) != check:
            return None
        made_for, modules, patterns = marshal.loads(index)
        return (modules, patterns) if made_for == made_here() else None

    def read(self, name: str) -> bytes | None:
        """The marshalled code of a module, if it is still what the source is."""
        known = self.modules.get(name)
        if known is None:
            return None
        source, mtime_ns, size, _, offset, length, check = known
        try:
            status = os.stat(source)
            data = os.pread(self._file, length, offset)
        except OSError:
            return None
        return data if status.st_mtime_ns == mtime_ns and status.st_size == size and _imp.source_hash(KEY, data) == check else None

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """As a meta path finder's."""
        data = self.read(name)
        if data is None:
            self.unknown.append(name)
            return None
        source, is_package = self.modules[name][0], self.modules[name][3]
        spec = _frozen_importlib.ModuleSpec(name, _Loader(name, source, marshal.loads(data)), origin=source, is_package=is_package)
        spec.has_location = True
        spec.cached = self.path  # which would else be computed
        if is_package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def compiled(self, text: str | bytes, flags: int) -> Any:
        """As `patterns.compiled`."""
        made = self._compiled.get((text, flags))
        if made is not None:
            return made
        known = self.patterns.get((text, flags))
        if known is None:
            import re

            self.uncompiled.append((text, flags))
            made = re.compile(text, flags)
        else:
            made = _sre.compile(text, *marshal.loads(known))
        self._compiled[text, flags] = made
        return made

    def keep(self) -> None:
        """At the end of the process: what was missed is in the next one's bundle."""
        try:
            self._keep()
        except BaseException:  # a signal, too: all is done and said
            return

    def _keep(self) -> None:
        if (self.unknown or self.uncompiled) and self.path and not sys.dont_write_bytecode and os.getpid() == self._process:
            missed = [name for name in self.unknown if is_bundled(name)]
            if (missed or self.uncompiled) and _can_be_made(self.path):
                from imgbuild.cli.bundling import write

                write(self, missed)


class _Loader(external.SourceFileLoader):
    """Any other loader of source files, with the code in its hand."""

    def __init__(self, name: str, source: str, code: CodeType) -> None:
        super().__init__(name, source)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


def made_here() -> tuple[object, ...]:
    """What a bundle is made for: this interpreter, the places of its library and of this package."""
    return sys.version, sys.implementation.cache_tag, external.MAGIC_NUMBER, *_places()


def _places() -> tuple[str, str]:
    return f"{os.path.dirname(os.__file__)}/", f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/"


def is_bundled(name: str) -> bool:
    """Whether a module that was loaded is one of those that belong into a bundle: ours, or of the standard library, from source."""
    module = sys.modules.get(name)
    source = getattr(module, "__file__", None) or ""
    if not source.endswith(".py") or not isinstance(getattr(module, "__loader__", None), external.SourceFileLoader):
        return False
    library, package = _places()
    return source.startswith(package) or (source.startswith(library) and not source.startswith((f"{library}site-", f"{library}dist-")))


def _can_be_made(path: str) -> bool:
    """Whether a file may be, so that not each command of who may not write here makes a bundle in vain."""
    directory = os.path.dirname(path)
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    return os.access(directory, os.W_OK | os.X_OK)


def install() -> Bundle:
    """Modules are looked for in the bundle from now on."""
    here = os.path.abspath(__file__)
    try:
        path = external.cache_from_source(os.path.join(os.path.dirname(here), "bundled.py"))
    except NotImplementedError:
        path = None
    bundle = Bundle(path)
    bundle.open()
    sys.meta_path.insert(0, bundle)
    from imgbuild import patterns

    patterns.compiled = bundle.compiled  # type: ignore[assignment]
    return bundle


def main() -> None:
    """The command line, by way of the bundle."""
    at_end = None
    if "bundle" not in os.environ.get("IMGBUILD_DISABLE", "").split(","):
        at_end = install().keep
    from imgbuild.cli.main import main

    main(at_end=at_end)
