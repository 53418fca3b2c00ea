"""Failed steps that are kept for a while: ``failed/<id>``, each as it was left, with a record of what it was.

A directory here holds RECORD (JSON) and what the step left: TREE, its upperdir; MOUNTS, what its mounts had; LOG, its output. It is made
elsewhere and renamed into its place. Nothing of it changes afterwards: who looks at it holds a shared flock on it, and who takes it away
an exclusive one. Directories without a record are files that a step was told to save. One that a newer version kept is left as it is,
with what it stands on.
"""

from __future__ import annotations

import fcntl
import os

from imgbuild.errors import CorruptError, NotFoundError, StoreError, UsageError
from imgbuild.hints import TYPE_CHECKING, Any, Iterable, Iterator
from imgbuild.light import json
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.locks import is_still, try_flock
from imgbuild.values import dataclass, field

if TYPE_CHECKING:
    from imgbuild.store.store import Store

RECORD, TREE, MOUNTS, LOG = "failure.json", "fs", "mounts", "log"
VERSION = 1
LAST = "last"
_ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class Keep:
    """How many failed steps are kept, for how many seconds, and how many bytes they may take together."""

    number: int = 5
    seconds: float = 72 * 3600.0
    bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class FailedStep:
    """One of them: `facts` is its record, which `solve` writes and reads; here is only what the store has to know."""

    id: str
    directory: Path
    created: float
    size: int
    name: str
    snapshots: frozenset[str]
    facts: dict[str, Any] = field(repr=False, compare=False)


def new_id() -> str:
    """An id that nothing has."""
    return os.urandom(_ID_BYTES).hex()


def failed_steps(root: Path) -> tuple[FailedStep, ...]:
    """All that are kept in the store at `root`, the newest first. One whose record can't be read is none."""
    found = []
    for directory in _directories(root):
        with suppress(CorruptError, StoreError, FileNotFoundError):
            found.append(read_failed(directory))
    return tuple(sorted(found, key=lambda step: (step.created, step.id), reverse=True))


def find_failed(root: Path, word: str) -> FailedStep:
    """The one that `word` means: ``last``, an id, or the beginning of one. NotFoundError where there is none, StoreError where a newer
    version kept it."""
    steps = failed_steps(root)
    if not any(step.id.startswith(word) for step in steps):
        for directory in (path for path in _directories(root) if word and path.name.startswith(word)):
            with suppress(CorruptError, FileNotFoundError):
                read_failed(directory)
    found = list(steps[:1]) if word == LAST else [step for step in steps if word and step.id.startswith(word)]
    if len(found) > 1:
        raise UsageError(f"{word} is the beginning of {len(found)} failed steps' ids", hint="write more of it")
    if not found:
        hint = "`imgbuild debug --list` lists them" if steps else "steps that fail are kept for a while, unless the settings say otherwise"
        raise NotFoundError("no failed step is kept" if not steps else f"there is no failed step {word!r}", hint=hint)
    return found[0]


def read_failed(directory: Path) -> FailedStep:
    """The failed step in `directory`; CorruptError where its record can't be one, StoreError where a newer version wrote it,
    FileNotFoundError where it has none."""
    try:
        facts = json.loads((directory / RECORD).read_bytes())
        _check_version(directory.name, facts["version"])
        return FailedStep(
            id=directory.name,
            directory=directory,
            created=float(facts["created"]),
            size=int(facts["size"]),
            name=str(facts["step"]),
            snapshots=_snapshots(facts),
            facts=facts,
        )
    except NotADirectoryError:
        raise FileNotFoundError(str(directory)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        hint = "`imgbuild fsck --repair` takes it away"
        raise CorruptError(f"the record of the failed step {directory.name} can't be read", hint=hint) from None


def of_newer_versions(root: Path) -> frozenset[str]:
    """The snapshots that failed steps which a newer version kept stand on, as far as their records still name them so."""
    found: set[str] = set()
    for directory in _directories(root):
        try:
            read_failed(directory)
        except StoreError:
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                found |= _snapshots(json.loads((directory / RECORD).read_bytes()))
        except (CorruptError, FileNotFoundError):
            continue
    return frozenset(found)


def _check_version(name: str, version: object) -> None:
    if version == VERSION:
        return
    if type(version) is int and version > VERSION:
        raise StoreError(
            f"the failed step {name} was kept by a newer imgbuild: its record has the form {version}, this one knows {VERSION}",
            hint="use that one",
        )
    raise ValueError(version)


def _snapshots(facts: dict[str, Any]) -> frozenset[str]:
    return frozenset(map(str, (*facts["lowers"], *(name for stage in facts["stages"].values() for name in stage))))


@contextmanager
def held(step: FailedStep) -> Iterator[None]:
    """Nobody takes the failed step away meanwhile. NotFoundError where somebody has."""
    gone = NotFoundError(f"the failed step {step.id} has just been taken away")
    try:
        descriptor = os.open(step.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise gone from None
    try:
        if not (try_flock(descriptor, fcntl.LOCK_SH) and is_still(step.directory, descriptor)):
            raise gone
        yield
    finally:
        os.close(descriptor)


def overdue(steps: Iterable[FailedStep], keep: Keep, now: float) -> tuple[FailedStep, ...]:
    """Those of `steps`, newest first, that are beyond what is kept."""
    going, total = [], 0
    for number, step in enumerate(steps):
        total += step.size
        if number >= keep.number or now - step.created > keep.seconds or total > keep.bytes:
            going.append(step)
            total -= step.size
    return tuple(going)


def take_away(store: Store, steps: Iterable[FailedStep]) -> None:
    """Discard failed steps, but for those that somebody looks at."""
    for step in steps:
        with suppress(FileNotFoundError):
            descriptor = os.open(step.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if try_flock(descriptor, fcntl.LOCK_EX) and is_still(step.directory, descriptor):
                    store.discard(step.directory)
            finally:
                os.close(descriptor)


def _directories(root: Path) -> list[Path]:
    try:
        return sorted((root / "failed").iterdir())
    except FileNotFoundError:
        return []
