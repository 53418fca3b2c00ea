"""What is to be built: the build context, its Buildfile, and its ignore file, found by the usual names."""

from __future__ import annotations

import sys

from imgbuild.context.ignore import Ignore
from imgbuild.engine.replay import NAMES
from imgbuild.errors import BuildfileError, ContextError
from imgbuild.light.pathlib import Path
from imgbuild.values import dataclass

MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class BuildSource:
    """The context's directory, the Buildfile's bytes and the name it is known by, and what the context leaves out. `file` is
    the Buildfile's path, None where it comes from a stream: then what it includes is beside it in the context. `fetched`: the context
    was brought in (elsewhere); `kept`: its directory stays the same after the build; `time` is its commit's, if it is one."""

    context: Path
    text: bytes
    name: str
    ignore: Ignore
    file: Path | None = None
    fetched: bool = False
    kept: bool = False
    time: int | None = None


def find_source(context: str, file: str | None, text: bytes | None = None) -> BuildSource:
    """Read what a build starts from. `file` as given by ``-f``: "-" is stdin; a relative one is meant from here, or from the context.
    `text` is the Buildfile where it is in no file of its own: `file` is then its name."""
    directory = context_directory(context)
    if text is not None:
        return BuildSource(directory, text, file or "Buildfile", Ignore.load(directory))
    if file == "-":
        return BuildSource(directory, sys.stdin.buffer.read(MOST_BYTES + 1), "stdin", Ignore.load(directory))
    path = _buildfile(directory, file)
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise BuildfileError(f"can't read {path}: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise BuildfileError(f"{path} is larger than {MOST_BYTES >> 20} MiB: that is no Buildfile")
    return BuildSource(directory, text, str(path), Ignore.load(directory, path), path)


def context_directory(context: str) -> Path:
    """A build context that must be a directory."""
    directory = Path(context)
    if not directory.is_dir():
        problem = "is not a directory" if directory.exists() else "does not exist"
        raise ContextError(f"the build context {context!r} {problem}", hint="give the directory that holds the files to copy")
    return directory


def _buildfile(directory: Path, file: str | None) -> Path:
    if file is not None:
        chosen = Path(file)
        for path in (chosen, directory / chosen):
            if path.exists():
                return path
        raise BuildfileError(f"{file} does not exist", hint="-f names the Buildfile, relative to here or to the context")
    for name in NAMES:
        if (directory / name).is_file():
            return directory / name
    raise BuildfileError(f"there is no Buildfile in {directory}", hint=f"its name is one of {', '.join(NAMES)}, or is given with -f")
