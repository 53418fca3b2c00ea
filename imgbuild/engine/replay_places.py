"""Where a build is read from, and what tells that it is another one now: looked at when it was read, and again when it is noted."""

from __future__ import annotations

import os

from imgbuild.engine.replay import NAMES, Watch, signature
from imgbuild.engine.source import BuildSource
from imgbuild.hints import Iterator
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path

_HEXADECIMAL = set("0123456789abcdef")


def look_at_places(watch: Watch, source: BuildSource) -> None:
    """Let `watch` know what the build is read from, when that was just read: at its end others may be there, with times that are old."""
    with suppress(OSError):
        statuses = statuses_of(watch, source)
        watch.places = None if statuses is None else signatures(statuses)


def statuses_of(watch: Watch, source: BuildSource) -> dict[str, os.stat_result | None] | None:
    """All places but the store that a build is read from, with None for what is not there; None where they are not all known."""
    commit = _commit_places(source.context)
    if source.file is None or commit is None:
        return None
    places = (*_places(source, watch.question.file), *filter(None, watch.invocation.config_places()), *commit, str(source.context))
    return {place: _status(place) for place in places}


def signatures(statuses: dict[str, os.stat_result | None]) -> dict[str, tuple[int, ...] | None]:
    """What of them tells of a change."""
    return {place: None if status is None else signature(status) for place, status in statuses.items()}


def _places(source: BuildSource, named: str | None) -> Iterator[str]:
    """The files that a build is read from, and those that it would be read from instead, if they were there."""
    file = source.file
    assert file is not None
    if named is not None:
        yield named
    else:
        for name in NAMES:
            if source.context / name == file:
                break
            yield str(source.context / name)
    yield str(file)
    for ignore in (file.with_name(f"{file.name}.dockerignore"), source.context / ".dockerignore"):
        yield str(ignore)
        if ignore.exists():
            break


def _commit_places(context: Path) -> tuple[str, ...] | None:
    """The files that tell which commit the context is at, or that it is in no work tree; None where they are not as usual."""
    found = []
    directory = context.resolve()
    for parent in (directory, *directory.parents):
        git = parent / ".git"
        found.append(str(git))
        if git.exists():
            head = git / "HEAD"
            inside = (git / "objects", git / "refs")  # without which git looks further up
            if not head.is_file() or not all(map(Path.is_dir, inside)):
                return None
            name = head.read_text(errors="replace").removeprefix("ref:").strip()
            # Else git looks further up, too, or the ref leads to another one.
            if not (name.startswith("refs/") or set(name) <= _HEXADECIMAL) or "\0" in name or _is_symbolic(git / name):
                return None
            return (*found, *map(str, (*inside, head, git / name, git / "packed-refs", git / "reftable" / "tables.list")))
    return tuple(found)


def _is_symbolic(ref: Path) -> bool:
    """Whether a ref leads to another one."""
    return ref.is_file() and ref.read_text(errors="replace").startswith("ref:")


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
