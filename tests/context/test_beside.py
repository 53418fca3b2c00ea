"""Digests by several processes: the same as by one, whatever becomes of them. Each case is a program of its own, with one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imgbuild.context import beside
from imgbuild.context.held import Held
from imgbuild.context.stats import Files

from .test_local import NET_RAW

_PROGRAM = """
import hashlib, json, os, resource, sys
from pathlib import Path
from imgbuild.context import beside, spool
from imgbuild.context.digest import walk
from imgbuild.context.held import Held
from imgbuild.context.local import LocalContext
from imgbuild.context.stats import Files
from imgbuild.errors import ImgbuildError

root, ways, room, trouble = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
me, forks, fork = os.getpid(), [], os.fork
context = LocalContext(root)
groups = []
for path, node in walk(context, "/"):
    files = [(name, below) for name, below in context.entries(path) if below.mode >> 12 == 8] if node.mode >> 12 == 4 else []
    if files:
        groups.append(Files(path, files))

def counted():
    if trouble == "no-fork":
        raise BlockingIOError(11, "no more")
    forks.append(1)
    return fork()

def load(directory, files, data):
    if os.getpid() != me and trouble == "dies":
        os._exit(3)
    if os.getpid() != me and trouble == "raises":
        raise MemoryError
    if os.getpid() != me and trouble == "killed":
        os.kill(os.getpid(), 9)
    return context._disk.load_into(directory, files, data)

def no_memory(*given, **more):
    raise OSError(12, "no memory")

os.fork = counted
if trouble == "no-file":
    spool._opened = no_memory
if trouble == "no-memory":
    beside.mmap = no_memory
if trouble == "changes":
    (root / "z").write_bytes(b"another")
if trouble == "no-space":
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
held = Held(room, "/proc" if trouble == "no-disk" else sys.argv[5])
try:
    digests = [digest.hex() for digest in beside.digests_of_many(groups, load, held, ways)]
    error = ""
except ImgbuildError as caught:
    digests, error = [], caught.message
def alone_of(path):
    digest = hashlib.sha256((root / path[1:]).read_bytes()).digest()
    return hashlib.sha256(digest + os.getxattr(root / "cap", "security.capability")).hexdigest() if path == "/cap" else digest.hex()

paths = [f"{group.directory.rstrip('/')}/{name}" for group in groups for name, _ in group.files]
alone = [] if error else [alone_of(path) for path in paths]
kept = {path: found for path in paths if (found := held.take_one(path.rpartition("/")[0] or "/", path.rpartition("/")[2])) is not None}
wrong = [path for path, data in kept.items() if data != (root / path[1:]).read_bytes() or path == "/cap"]
empty = held._spool is None or held._spool.is_empty
try:
    os.waitpid(-1, os.WNOHANG)
    left = True
except ChildProcessError:
    left = False
print(json.dumps({"same": digests == alone, "count": len(digests), "kept": len(kept), "wrong": wrong, "room": empty,
                  "forks": len(forks), "left": left, "error": error}))
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for number in range(40):
        parent = tmp_path / f"d{number % 3}"
        parent.mkdir(exist_ok=True)
        (parent / f"f{number}").write_bytes(bytes([number]) * number * 10)
    for number in range(10):
        (tmp_path / f"t{number}").write_bytes(b"top" * number)
    (tmp_path / "z").write_bytes(b"last")
    (tmp_path / "cap").write_bytes(b"capable")
    os.setxattr(tmp_path / "cap", "security.capability", NET_RAW)
    return tmp_path


def run(files: Path, ways: int, *, room: int = 1 << 20, trouble: str = "") -> dict[str, Any]:
    command = [sys.executable, "-c", _PROGRAM, str(files), str(ways), str(room), trouble, str(files.parent)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert not found["left"] and not found["wrong"] and (found["room"] or found["error"])
    return found


@pytest.mark.parametrize("ways", [1, 2, 3, 4, 60])
def test_the_same_as_by_one_process(files: Path, ways: int) -> None:
    found = run(files, ways)
    assert found["same"] and found["count"] == 52 and not found["error"]
    assert found["forks"] == min(ways, 52) - 1
    # what has a capability is read again
    assert found["kept"] == 51


@pytest.mark.parametrize("room", [0, 1000, 12_000])
def test_what_is_held_is_what_there_is_room_for(files: Path, room: int) -> None:
    found = run(files, 2, room=room, trouble="no-disk")
    assert found["same"] and found["kept"] < 51


@pytest.mark.parametrize("trouble", ["dies", "raises", "killed", "no-fork", "no-memory", "no-file", "no-disk", "no-space"])
def test_what_a_process_did_not_do_is_done_here(files: Path, trouble: str) -> None:
    found = run(files, 3, trouble=trouble)
    assert found["same"] and found["count"] == 52 and not found["error"]
    assert found["kept"] < 51 if trouble == "no-space" else found["kept"] == (0 if trouble == "no-file" else 51)


def test_a_file_that_changes_is_said_as_ever(files: Path) -> None:
    assert run(files, 3, trouble="changes")["error"] == "'z' changed while it was read"


def test_nothing_is_forked_where_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside.threading, "active_count", lambda: 2)
    monkeypatch.setattr(os, "fork", None)
    assert list(beside.digests_of_many([Files("/", [])], lambda directory, files, data: iter(()), Held(), 4)) == []
