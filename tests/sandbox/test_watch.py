"""What processes of a sandbox open in directories of its root: by whatever way, and what is not claimed where it can't be known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgbuild.linux.inotify import IN_OPEN, events
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.sandbox.watch import Listener, Watch, begin
from imgbuild.sandbox.wire import Begun
from imgbuild.sandbox.zygote import Zygote

from .conftest import overlay, spec_of

BELOW = ("/mnt/dir", "/mnt/dir/docs")


@pytest.fixture
def source(lower: Path, tmp_path: Path) -> Filesystem:
    """The root, with files of ours in it."""
    own = tmp_path / "own"
    (own / "mnt/dir/docs").mkdir(parents=True)
    for name in ("one", "two", "script", "docs/page", "docs/other"):
        (own / "mnt/dir" / name).write_text("#!/bin/sh\ntrue\n")
        (own / "mnt/dir" / name).chmod(0o755)
    (own / "link").symlink_to("mnt/dir")
    shutil.copy(lower / "bin/busybox", own / "mnt/dir/docs/true")
    return overlay(Path(f"{own}:{lower}"), tmp_path)


@contextmanager
def watched(zygote: Zygote, root: Filesystem, script: str, *directories: str, code: int = 0, **more: object) -> Iterator[Watch]:
    listener = Listener()
    watch = Watch(listener, directories or BELOW)
    read, write = os.pipe()
    try:
        spec = spec_of(root, ("sh", "-c", script), watched=watch.directories, **more)
        sandbox = zygote.spawn(spec, read, write, write, listener)
        assert sandbox.wait().code == code
        watch.end(sandbox.begun)
        yield watch
    finally:
        os.close(read)
        os.close(write)
        listener.close()


@pytest.mark.parametrize(
    ("script", "opened"),
    [
        ("cat /mnt/dir/one > /dev/null", {"/mnt/dir": {"one"}}),
        ("/mnt/dir/script", {"/mnt/dir": {"script"}}),
        ("/mnt/dir/docs/true", {"/mnt/dir/docs": {"true"}}),
        ("(sleep 0.2; cat /mnt/dir/two) & wait", {"/mnt/dir": {"two"}}),
        ("cd /link && cat docs/page", {"/mnt/dir/docs": {"page"}}),
        ("chroot /mnt /dir/none; cat < /mnt/dir/docs/../one", {"/mnt/dir": {"one"}}),
        ("ls /mnt/dir/docs", {"/mnt/dir": {"docs"}, "/mnt/dir/docs": {""}}),
        ("test -f /mnt/dir/one && ls -l /mnt/dir/two && cd /mnt/dir/docs && readlink /link", {}),
        ("echo more >> /mnt/dir/docs/other; cat /bin/no-format", {"/mnt/dir/docs": {"other"}}),
    ],
)
def test_what_is_opened_is_told(plain_zygote: Zygote, source: Filesystem, script: str, opened: dict[str, set[str]]) -> None:
    with watched(plain_zygote, source, script) as watch:
        assert watch.opened() == opened
        assert (watch.problem, watch.absent) == ("", frozenset())


def test_a_spare_sandbox_watches_too(zygote: Zygote, source: Filesystem) -> None:
    zygote.expect(1)
    with watched(zygote, source, "cat /mnt/dir/one") as watch:
        assert watch.opened() == {"/mnt/dir": {"one"}}


def test_rights_are_not_needed_for_it(plain_zygote: Zygote, source: Filesystem) -> None:
    with watched(plain_zygote, source, "cat /mnt/dir/docs/page", privileged=True) as watch:
        assert watch.opened() == {"/mnt/dir/docs": {"page"}}


def test_directories_that_are_not_there_are_told_apart(plain_zygote: Zygote, source: Filesystem) -> None:
    names = ("/nowhere", "/link", "/link/docs", "/mnt/dir/one", "/mnt/dir/docs")
    with watched(plain_zygote, source, "cat /link/docs/page", *names) as watch:
        assert watch.absent == {"/nowhere", "/link", "/link/docs", "/mnt/dir/one"}
        assert watch.opened() == {"/mnt/dir/docs": {"page"}}


def test_what_is_mounted_over_a_directory_is_not_it(plain_zygote: Zygote, source: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "over").mkdir()
    mount = Mount(Bind(str(tmp_path / "over")), "/mnt/dir/docs")
    with watched(plain_zygote, source, "echo x > /mnt/dir/docs/page", mounts=(mount,)) as watch:
        assert watch.problem == ""
        assert "page" in watch.opened()["/mnt/dir/docs"]  # of both, who opened the name is not told


def test_one_directory_twice_is_a_problem(plain_zygote: Zygote, source: Filesystem) -> None:
    with watched(plain_zygote, source, "true", "/mnt/dir", "/mnt/dir") as watch:
        assert "twice" in watch.problem


def test_a_queue_that_was_full_is_a_problem(plain_zygote: Zygote, source: Filesystem) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    script = f"cd /mnt/dir; i=0; while [ $i -le {limit // 2} ]; do : < one; : < two; i=$((i+1)); done"
    with watched(plain_zygote, source, script) as watch:
        assert "faster than they could be noted" in watch.problem


def test_what_is_opened_again_and_again_is_not_told_for_ever(plain_zygote: Zygote, source: Filesystem) -> None:
    listener = Listener()
    names = {"/mnt/dir": {"one", "two"}, "/mnt/dir/docs": {"page", "other"}}
    watch = Watch(listener, ("/nowhere", *BELOW), lambda directory: names[directory])
    script = "again() { i=0; while [ $i -lt 1500 ]; do : < one; : < two; : < docs/page; i=$((i+1)); done; }; cd /mnt/dir; again"
    (first, last), (read, write) = os.pipe(), os.pipe()
    with open(first, "rb"), open(last, "wb") as go, open(read, "rb", buffering=0) as out:
        spec = spec_of(source, ("sh", "-c", f"{script}; echo; read x; again"), watched=watch.directories)
        sandbox = plain_zygote.spawn(spec, first, write, write, listener)
        os.close(write)
        assert sandbox.wait_running() is None
        out.read(1)
        watch.began(sandbox.begun)
        watch.drain()
        go.write(b"\n")
        go.close()
        assert sandbox.wait().code == 0
        told = [number for number, mask, _ in events(listener.fd) if mask & IN_OPEN]
        assert set(told) == {2}  # of the other, all was opened
        watch.end(sandbox.begun)
        assert watch.opened() == {"/mnt/dir": {"one", "two"}, "/mnt/dir/docs": {"page"}}
        listener.close()


def test_who_opens_more_and_more_holds_nobody_up(tmp_path: Path) -> None:
    names = [f"{number:0250}" for number in range(6000)]
    listener = Listener()
    watch = Watch(listener, (str(tmp_path),))
    for name in names:
        (tmp_path / name).touch()
    assert begin(listener.fd, watch.directories, watch.after) is None
    for name in names:
        (tmp_path / name).read_bytes()
    watch.began(None)
    watch.drain()
    assert 1000 < len(watch.opened()[str(tmp_path)]) < len(names)
    assert watch.busy
    watch.end(None)
    assert watch.opened() == {str(tmp_path): set(names)}
    listener.close()


def test_where_something_was_missed_nothing_is_taken_any_more(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    listener = Listener()
    watch = Watch(listener, (str(tmp_path),))
    begin(listener.fd, watch.directories, watch.after)
    watch.began(Begun(problem="no space"))
    (tmp_path / "one").read_bytes()
    watch.drain()
    assert [name for _, _, name in events(listener.fd)] == [b"one"]
    listener.close()


def test_names_are_bytes(plain_zygote: Zygote, source: Filesystem) -> None:
    with watched(plain_zygote, source, ": > \"$(printf '/mnt/dir/a\\nb\\377')\"") as watch:
        assert watch.opened() == {"/mnt/dir": {"a\nb\udcff"}}
