"""WORKDIR's directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgbuild.errors import BuildfileError
from imgbuild.rootfs.workdir import make_workdir
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView

from .copying import EPOCH, OLD, World


def made(world: World, path: str, user: str = "") -> bool:
    upper = world.root / "workdir"
    upper.mkdir()
    with UnionView(world.lowers) as view:
        done = make_workdir(path, view, upper, epoch=EPOCH, user=user)
    if done:
        world.lowers += (DirectoryLower(upper),)
    else:
        assert os.listdir(upper) == []
    return done


@pytest.mark.parametrize(
    ("path", "user", "expected"),
    [
        ("/a", "", "a/@0755%0:0"),
        ("/a/b/c", "", "a/@0755%0:0 a/b/@0755%0:0 a/b/c/@0755%0:0"),
        ("/a", "app", "a/@0755%7:8"),
        ("/a", "12", "a/@0755%12:12"),
        ("/a", "nobody-knows", "a/@0755%0:0"),
        ("/old/a", "app", "old/a/@0755%7:8"),
        ("/link/a", "", "old/a/@0755%0:0"),
        ("/lost/b", "", "else/@0755%0:0 else/where/@0755%0:0 else/where/b/@0755%0:0"),
    ],
)
def test_made(tmp_path: Path, path: str, user: str, expected: str) -> None:
    world = World(tmp_path, image="etc/passwd=app:x:7:8:: old/@0700%1:1 link->old lost->/else/where")
    before = world.result().split()
    assert made(world, path, user)
    assert [word for word in world.result().split() if word not in before] == expected.split()
    assert world.mtime("/etc") == OLD


@pytest.mark.parametrize("path", ["/", "/old", "/link", "/old/", "/old/../link/."])
def test_there_already(tmp_path: Path, path: str) -> None:
    assert not made(World(tmp_path, image="old/ link->old"), path)


@pytest.mark.parametrize("path", ["/file", "/file/a", "/loop"])
def test_impossible(tmp_path: Path, path: str) -> None:
    with pytest.raises(BuildfileError):
        made(World(tmp_path, image="file loop->loop"), path)
