"""Container records: what is known of each container, under ``containers/<id>/`` of the store, and who may change it.

``container.json`` is replaced atomically. ``alive`` is a file that the supervising process holds an exclusive lock on as long as it
lives: the kernel drops the lock when that process ends in whatever way, so a record that says "running" without the
lock is one whose supervisor was killed, and whoever reads it next writes what happened. Locking the ``containers`` directory itself
orders creation, naming and that tidying.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from imgbuild.errors import ConflictError, CorruptError, NotFoundError
from imgbuild.hints import Any, Callable, Iterator, Literal
from imgbuild.light import json
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.runtime.names import random_name
from imgbuild.sandbox.spec import Identity, Process
from imgbuild.store.failures import explain, explained
from imgbuild.store.locks import wait_flock
from imgbuild.store.temporary import make_reserve, without_reserve, write_all
from imgbuild.values import asdict, dataclass, field, replace
from imgbuild.values import fields as fields_of

State = Literal["created", "running", "exited"]

ID_LENGTH, SHORT_LENGTH = 64, 12
_FILES = ("container.json", "alive")
LOST = "the supervisor was killed"
DAMAGED = "its record is damaged"


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount as `inspect` shows it: kind, the host's path or the volume's name, the target, and whether it is read-only."""

    kind: str
    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """One container. Times are seconds since the epoch, 0.0 where it has not happened. `snapshots` are the ids of its lowers,
    lowest first: they are in use. `process` is what it was started with; `init` is its first process's pid and start time."""

    id: str
    name: str
    image: str = ""
    image_digest: str = ""
    state: State = "created"
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    exit_code: int = 0
    oom: bool = False
    error: str = ""
    log_error: str = ""
    supervisor: int = 0
    init: tuple[int, int] | None = None
    cgroup: str = ""
    snapshots: tuple[str, ...] = ()
    process: Process = field(default_factory=lambda: Process((), ()))
    mounts: tuple[MountPoint, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    hostname: str = ""
    network: str = "host"
    detached: bool = False
    auto_remove: bool = False
    stop_signal: str = "SIGTERM"
    stop_timeout: float = 10.0

    @property
    def short_id(self) -> str:
        return self.id[:SHORT_LENGTH]


class Held:
    """A container that this process supervises: its directory, its record, and the lock that says that somebody does."""

    def __init__(self, records: Records, record: ContainerRecord, lock: int) -> None:
        self._records = records
        self._lock = lock
        self.record = record
        self.directory = records.directory(record.id)

    def update(self, **changes: Any) -> ContainerRecord:
        """Change the record, on disk too."""
        self.record = replace(self.record, **changes)
        with suppress(FileNotFoundError):  # somebody forced its removal
            _write(self.directory, self.record)
        return self.record

    def close(self) -> None:
        """Give the container up: its state is final."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Records:
    """All containers of a store. `discard` takes a directory away (into the store's trash)."""

    def __init__(self, root: Path, discard: Callable[[Path], None], clock: Callable[[], float]) -> None:
        self._root = root
        self._discard = discard
        self._clock = clock

    def directory(self, container: str) -> Path:
        """Where the container with that full id is."""
        return self._root / container

    def create(self, make: Callable[[str, str], ContainerRecord], name: str = "") -> Held:
        """A new container: an unused id and name (`name`, or one made up) are given to `make`. ConflictError where it is taken."""
        with self._locked():
            taken = {record.name for record in self._read_all()}
            if name in taken:
                raise ConflictError(f"the container name {name!r} is taken", hint=f"remove it: imgbuild rm {name}; or use another name")
            identifier = os.urandom(ID_LENGTH // 2).hex()
            record = make(identifier, name or random_name(taken))
            directory = self.directory(identifier)
            with explained(directory):
                directory.mkdir(mode=0o700)
                lock = os.open(directory / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write(directory, record)
            make_reserve(self._root.parent)  # for its end: the last one may have used it up
        return Held(self, record, lock)

    def all(self) -> tuple[ContainerRecord, ...]:
        """Every container, newest first; what killed supervisors left is put right first. One whose record is damaged, as a power
        cut can do, has but an id, by which it can be removed."""
        with self._locked():
            self._tidy()
            return tuple(sorted(self._read_all(), key=lambda record: (-record.created, record.id)))

    def snapshots(self) -> frozenset[str]:
        """The snapshots that containers stand on. CorruptError where a record can't be read: what its container stands on is not
        known then, and nothing may be taken for unused."""
        with self._locked():
            self._tidy()
            found: set[str] = set()
            for directory in self._directories():
                record = _read(directory)
                if record is None and directory.exists():
                    raise _damaged(directory.name[:SHORT_LENGTH], "there is no container.json")
                found.update(record.snapshots if record is not None else ())
            return frozenset(found)

    def find(self, word: str) -> ContainerRecord:
        """The container of that name, id, or unambiguous start of an id."""
        records = self.all()
        for record in records:
            if word and word in (record.id, record.name):
                return record
        found = [record for record in records if word and record.id.startswith(word)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(f"{word!r} is the start of {len(found)} containers' ids", hint="give more of it")
        raise NotFoundError(f"there is no container {word!r}", hint="imgbuild ps -a lists all")

    def read(self, container: str) -> ContainerRecord | None:
        """The record as it is now; None where the container is gone."""
        return _read(self.directory(container))

    def supervised(self, container: str) -> bool:
        """Whether a living process supervises the container."""
        return not self._settled(self.directory(container), wait=False)

    def settle(self, container: str, seconds: float | None) -> ContainerRecord | None:
        """Wait until nobody supervises the container, at most so long (None: for ever); its record then, None where it is gone."""
        if seconds is None:
            self._settled(self.directory(container), wait=True)
        else:
            with suppress(FileNotFoundError, ConflictError), open(self.directory(container) / "alive", "rb") as lock:
                wait_flock(lock.fileno(), fcntl.LOCK_SH, what=f"container {container[:SHORT_LENGTH]}", timeout=seconds)
        with self._locked():
            self._tidy()
        return self.read(container)

    def remove(self, container: str) -> None:
        """Take a container away that nobody supervises."""
        with self._locked(), suppress(FileNotFoundError):
            directory = self.directory(container)
            for name in _FILES:  # so that one in which nothing else is left needs no trash
                with suppress(OSError):
                    os.unlink(f"{directory}/{name}")
            self._discard(directory)

    def _settled(self, directory: Path, *, wait: bool) -> bool:
        try:
            lock = os.open(directory / "alive", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _tidy(self) -> None:
        for directory in self._directories():
            try:
                record = _read(directory)
            except CorruptError:
                continue
            if (record is not None and record.state == "exited" and not record.auto_remove) or not self._settled(directory, wait=False):
                continue
            record = _read(directory)  # once more: its supervisor may have finished between the two looks
            if record is None or record.auto_remove:
                with suppress(FileNotFoundError):
                    self._discard(directory)
            elif record.state != "exited":
                _write(directory, _lost(record, self._clock()))

    def _read_all(self) -> Iterator[ContainerRecord]:
        for directory in self._directories():
            try:
                record = _read(directory)
            except CorruptError:
                record = ContainerRecord(directory.name, "", state="exited", error=DAMAGED)
            if record is not None:
                yield record

    def _directories(self) -> list[Path]:
        with os.scandir(self._root) as entries:
            return sorted(self._root / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with explained(self._root):
            self._root.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _lost(record: ContainerRecord, now: float) -> ContainerRecord:
    return replace(record, state="exited", exit_code=137, error=LOST, finished=now, init=None, supervisor=0)


def record_json(record: ContainerRecord) -> dict[str, Any]:
    """The record as JSON values, as it is stored."""
    fields = asdict(record)
    fields["process"]["capabilities"] = sorted(record.process.capabilities)
    fields["labels"] = dict(record.labels)
    return fields


def parse_record(text: bytes, what: str) -> ContainerRecord:
    """The record out of its JSON; CorruptError naming `what` where it is none. Fields of later versions are passed over."""
    try:
        fields = json.loads(text)
        process = fields["process"]
        identity = process["identity"]
        snapshots = fields.get("snapshots", [])
        if not isinstance(snapshots, list) or not all(isinstance(snapshot, str) for snapshot in snapshots):
            raise TypeError("snapshots is no list of words")
        known = {item.name: fields[item.name] for item in fields_of(ContainerRecord) if item.name in fields}
        return ContainerRecord(**{
            **known,
            "init": tuple(fields["init"]) if fields.get("init") else None,
            "snapshots": tuple(snapshots),
            "labels": tuple(sorted(fields.get("labels", {}).items())),
            "mounts": tuple(MountPoint(**mount) for mount in fields.get("mounts", ())),
            "process": Process(**{
                **process,
                "argv": tuple(process["argv"]),
                "env": tuple(process["env"]),
                "identity": Identity(**{**identity, "groups": tuple(identity["groups"])}),
                "capabilities": frozenset(process["capabilities"]),
                "rlimits": tuple((name, soft, hard) for name, soft, hard in process["rlimits"]),
                "terminal_size": tuple(process.get("terminal_size", (24, 80))),
            }),
        })  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(what, str(error)) from None


def _damaged(what: str, why: str) -> CorruptError:
    return CorruptError(f"the record of container {what} is damaged", detail=why, hint=f"remove the container: imgbuild rm -f {what}")


def _read(directory: Path) -> ContainerRecord | None:
    try:
        text = (directory / "container.json").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return parse_record(text, directory.name[:SHORT_LENGTH])


def _write(directory: Path, record: ContainerRecord) -> None:
    """StoreError where it can't be written. What was to be said last, that a container ended, fits even on a full disk."""
    text = json.dumps(record_json(record), sort_keys=True, indent=1).encode()
    try:
        _replace(directory / "container.json", text)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise explain(error, directory) from None
        with without_reserve(directory.parent.parent), explained(directory):
            _replace(directory / "container.json", text)


def _replace(path: Path, text: bytes) -> None:
    temporary = path.with_name("container.json.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
    try:
        write_all(descriptor, text)
    finally:
        os.close(descriptor)
    temporary.replace(path)
