"""The Buildfile of a build, parsed, with the files that it includes: those below the build context, or beside a Buildfile
that is outside of it. No symlink leads out of there."""

from __future__ import annotations

import os
import posixpath
import stat

from imgbuild.buildfile.frontend import check_frontend
from imgbuild.buildfile.includes import IncludeReader, Includes
from imgbuild.buildfile.instructions import Buildfile
from imgbuild.buildfile.lexer import lex
from imgbuild.buildfile.parser import parse
from imgbuild.engine.source import BuildSource
from imgbuild.errors import BuildfileError
from imgbuild.hints import Mapping
from imgbuild.light.pathlib import Path

_MOST_BYTES = 1 << 20


def read_buildfile(source: BuildSource, build_args: Mapping[str, str]) -> Buildfile:
    """Parse what a build starts from. A ``BUILDKIT_SYNTAX`` argument says what language it is in instead of its directive."""
    override = build_args.get("BUILDKIT_SYNTAX", "")
    if override:
        check_frontend(override, None)
    return parse(source.text, source.name, _includes(source), any_frontend=bool(override))


def included_files(source: BuildSource) -> tuple[str, ...]:
    """The paths of all files that a Buildfile includes, as far as it can be read; the last one may be missing."""
    top, place, name = _places(source)
    found: list[str] = []

    def read(path: str) -> tuple[str, bytes]:
        found.append(f"{top}/{path}")
        return path, _read(top, path, path)

    try:
        for _ in IncludeReader(Includes(read, place)).instructions(lex(source.text, name)):
            pass
    except BuildfileError:
        return tuple(found)  # the build says what is wrong
    return tuple(found)


def _includes(source: BuildSource) -> Includes:
    top, place, name = _places(source)

    def read(path: str) -> tuple[str, bytes]:
        beside = posixpath.relpath(path, posixpath.dirname(place) or ".")
        shown = posixpath.normpath(posixpath.join(posixpath.dirname(name), beside))
        return shown, _read(top, path, shown)

    return Includes(read, place)


def _places(source: BuildSource) -> tuple[Path, str, str]:
    """The directory that included files are below, the Buildfile's path in it, and the name that it is known by."""
    top, place, name = source.context, "", str(source.context / "stdin")  # which is no file that could be included
    if source.file is not None:
        directory = os.path.realpath(source.file.parent)
        context = os.path.realpath(source.context)
        below = os.path.commonpath((directory, context)) == context
        top = Path(context if below else directory)
        place = posixpath.normpath(posixpath.join(os.path.relpath(directory, top), source.file.name))
        name = source.name
    return top, place, name


def _read(top: Path, path: str, shown: str) -> bytes:
    from imgbuild.linux.paths import Root

    try:
        with Root.open_path(top) as root, root.opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BuildfileError(f"{shown} is not a file")
            with open(fd, "rb", closefd=False) as stream:
                text = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BuildfileError(f"can't read {shown}: {os.strerror(error.errno or 0)}") from None
    if len(text) > _MOST_BYTES:
        raise BuildfileError(f"{shown} is larger than {_MOST_BYTES >> 20} MiB: that is nothing to include")
    return text
