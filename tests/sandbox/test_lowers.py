"""Lowers that are mounted once for several sandboxes: nobody sees a difference, and nothing of them is left in a sandbox."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgbuild.layer.index import TarIndex
from imgbuild.layer.runs import index_stream
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Bind, Filesystem
from imgbuild.sandbox import lowers as lowers_module
from imgbuild.sandbox.lowers import MountedLowers, mounts_of
from imgbuild.sandbox.zygote import Zygote
from imgbuild.snapshot import DirectoryLower, IndexedTarLower
from imgbuild.snapshot.overlay import lower_mount, overlay_filesystem
from sandbox.conftest import ROOT, finish, spec_of
from tests.layer.indexing import needs_erofs

pytestmark = ROOT


@pytest.fixture(scope="module")
def indexed(lower: Path, tmp_path_factory: pytest.TempPathFactory) -> IndexedTarLower:
    """The lower of all these tests as a tar and its index."""
    needs_erofs()
    made = tmp_path_factory.mktemp("indexed")
    with tarfile.open(made / "layer.tar", "w") as tar:
        tar.add(lower, ".")
    index = TarIndex()
    data = (made / "layer.tar").read_bytes()
    index_stream(io.BytesIO(data), index)
    (made / "index.erofs").write_bytes(index.image(len(data)))
    return IndexedTarLower(made / "layer.tar", made / "index.erofs")


@pytest.fixture
def roots(indexed: IndexedTarLower, tmp_path: Path) -> Iterator[Filesystem]:
    """One root after another, all of the same lowers."""

    def each() -> Iterator[Filesystem]:
        for number in range(100):
            upper, work = tmp_path / f"{number}" / "upper", tmp_path / f"{number}" / "work"
            upper.mkdir(parents=True)
            work.mkdir()
            top = tmp_path / f"{number}" / "top"
            (top / "etc").mkdir(parents=True)
            (top / "etc/number").write_text(f"{number}\n")
            yield overlay_filesystem((indexed, DirectoryLower(top)), upper, work, features=probe())

    return each()


def _kept_by(zygote: Zygote) -> int:
    """How many mounts a zygote has open."""
    place = f"/proc/{zygote._pid}/fd"
    return [os.readlink(f"{place}/{fd}") for fd in os.listdir(place)].count("/")


def _look(zygote: Zygote, root: Filesystem, **changes: Any) -> str:
    result = finish(zygote, spec_of(root, ("sh", "-c", "cat /etc/number /etc/passwd; ls /proc/self/fd; touch /new; ls /"), **changes))
    assert (result.status.code, result.status.setup_error) == (0, "")
    return result.out


# A sandbox without a network is not what a spare is made for, and is forked.
@pytest.mark.parametrize("network", ["host", "none"])
def test_one_mount_for_all(plain_zygote: Zygote, roots: Iterator[Filesystem], network: str) -> None:
    if not probe().spare:
        pytest.skip("needs the new mount API")
    alone = _look(plain_zygote, next(roots), network=network)
    assert _kept_by(plain_zygote) == 0
    plain_zygote.expect(3)
    for number in range(1, 4):
        assert _look(plain_zygote, next(roots), network=network) == alone.replace("0\n", f"{number}\n", 1)
        assert _kept_by(plain_zygote) == 1
    assert _look(plain_zygote, next(roots), network=network) == alone.replace("0\n", "4\n", 1)
    assert _kept_by(plain_zygote) == 1


def test_what_is_wrong_with_one_is_said_by_who_needs_it(plain_zygote: Zygote, roots: Iterator[Filesystem], tmp_path: Path) -> None:
    broken = IndexedTarLower(tmp_path / "no.tar", tmp_path / "no.erofs")
    options = next(roots).options
    root = Filesystem("overlay", (("lowerdir+", lower_mount(broken)), *options), source="overlay")
    plain_zygote.expect(2)
    status = finish(plain_zygote, spec_of(root, ("true",))).status
    assert status.code == 125 and status.setup_error.startswith("mounting the root: ")
    assert _kept_by(plain_zygote) == 0
    assert finish(plain_zygote, spec_of(next(roots), ("true",))).status.code == 0


def test_which_are_kept(roots: Iterator[Filesystem], indexed: IndexedTarLower, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Filesystem] = []

    def opened(what: Filesystem) -> int:
        if what.source == "bad":
            raise OSError(22, "bad")
        made.append(what)
        return os.open("/dev/null", os.O_RDONLY)

    monkeypatch.setattr(lowers_module, "open_mount", opened)
    mounts = {name: Filesystem("erofs", source=name) for name in ("a", "b", "c", "bad")}

    def root(*names: str) -> Filesystem:
        return Filesystem("overlay", (("index", "off"), *[("lowerdir+", mounts[name]) for name in names], ("lowerdir+", "/x")))

    keeping = MountedLowers()
    assert mounts_of(root("a", "c")) == [mounts["a"], mounts["c"]] and mounts_of(Bind("/")) == []
    assert keeping.of(Bind("/"), again=True) == () == keeping.of(root("a"), again=False)
    (a,) = keeping.of(root("a"), again=True)
    assert keeping.of(root("a", "b"), again=False) == (a,), "only the first ones: the others are made by who needs them"
    assert keeping.of(root("b", "a"), again=False) == ()
    assert keeping.of(root("a", "bad", "b"), again=True) == (a,)
    assert keeping.of(root("a", "b"), again=True)[0] == a
    assert made == [mounts["a"], mounts["b"]]
    monkeypatch.setattr(lowers_module, "_MOST", 2)
    first, second = keeping.of(root("c", "b", "a"), again=True)
    assert set(keeping._mounts) == {mounts["c"], mounts["b"]} and (first, second) == tuple(keeping._mounts[mounts[name]] for name in "cb")
    for fd in keeping._mounts.values():
        os.close(fd)
