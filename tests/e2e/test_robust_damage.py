"""Damage in the store: what meets it says what it is, `fsck` names it, `fsck --repair` takes it out, and then the same is built again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_mock.client import Mock

from .harness import Bench, base_tar

TEXT = "FROM busybox\nRUN seq 1000 > /a\nCOPY file /b\nRUN cat /a /b > /c\nCMD cat /c\n"


@pytest.fixture
def built(bench: Bench) -> Bench:
    """A store with "x" of three steps on "busybox"."""
    bench.write({"file": "content"})
    bench.build(TEXT)
    return bench


def _path(bench: Bench, digest: str) -> Path:
    return bench.root / "blobs" / digest.replace(":", "/")


def _blob(bench: Bench, part: str) -> str:
    manifest = bench.manifest()
    if part == "manifest":
        return str(bench.inspect()["Digest"])
    return str({"config": manifest["config"], "base": manifest["layers"][0], "top": manifest["layers"][-1]}[part]["digest"])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("part", "how"),
    [
        *(("base", how) for how in (_flip, _truncate, Path.unlink)),
        *(("top", how) for how in (_flip, Path.unlink)),
        *(("config", how) for how in (_truncate, Path.unlink)),
        *(("manifest", how) for how in (_flip, Path.unlink)),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_blobs(built: Bench, tmp_path: Path, part: str, how: Callable[[Path], None]) -> None:
    image, digest = built.inspect(), _blob(built, part)
    how(_path(built, digest))
    with Mock(tmp_path / "registry") as mock:
        for command in (("save", "-o", tmp_path / "saved.tar", "x"), ("push", "x", f"{mock.authority}/x")):
            # What is damaged does not leave the machine.
            done = built.run(*command, code=17)
            assert len(done.errors) == 1
            assert digest[:19] in done.err
    assert not (tmp_path / "saved.tar").exists()
    if part in ("config", "manifest"):
        assert len(built.run("inspect", "x", code=17).errors) == 1
    _mend(built, digest)
    _assert_same_again(built, image)


def test_a_layer_that_is_to_be_unpacked(built: Bench) -> None:
    """A damaged layer is met when it is read, whichever command does."""
    image = built.inspect()
    shutil.rmtree(built.root / "snapshots")
    (built.root / "snapshots").mkdir()
    digest = _blob(built, "base")
    _flip(_path(built, digest))
    done = built.run("run", "--rm", "x", code=125)
    assert digest[:19] in done.err
    assert len(done.errors) == 1
    said = built.refused("FROM busybox\nRUN echo new\n", code=17)
    assert digest[:19] in said
    assert built.run("unpack", "x", built.place / "unpacked", code=17).errors
    _mend(built, digest)
    built.write({"Buildfile": TEXT})
    _assert_same_again(built, image)


def _snapshots(bench: Bench) -> list[Path]:
    return sorted((bench.root / "snapshots").iterdir())


def _changed(bench: Bench) -> str:
    (snapshot,) = [path for path in _snapshots(bench) if (path / "fs" / "a").exists()]
    (snapshot / "fs" / "a").write_text("tampered")
    return snapshot.name


def _added(bench: Bench) -> str:
    (snapshot,) = [path for path in _snapshots(bench) if (path / "fs" / "c").exists()]
    (snapshot / "fs" / "more").touch()
    return snapshot.name


def _base_changed(bench: Bench) -> str:
    (snapshot,) = [path for path in _snapshots(bench) if _has_passwd(path)]
    if (snapshot / "layer.tar").exists():
        _truncate(snapshot / "layer.tar")
    else:
        (snapshot / "fs" / "etc" / "passwd").unlink()
    return snapshot.name


def _has_passwd(snapshot: Path) -> bool:
    tar = snapshot / "layer.tar"
    return b"etc/passwd\0" in tar.read_bytes() if tar.exists() else (snapshot / "fs" / "etc" / "passwd").exists()


def _gone(bench: Bench) -> str:
    (snapshot,) = [path for path in _snapshots(bench) if (path / "fs" / "a").exists()]
    shutil.rmtree(snapshot)
    return snapshot.name


@pytest.mark.parametrize("damage", [_changed, _added, _base_changed, _gone], ids=lambda damage: damage.__name__[1:])
def test_snapshots(built: Bench, damage: Callable[[Bench], str]) -> None:
    image = built.inspect()
    _mend(built, damage(built))
    _assert_same_again(built, image)


def test_all_snapshots_are_gone(built: Bench) -> None:
    """They can all be had again from the layers: nothing needs to be mended first."""
    image = built.inspect()
    shutil.rmtree(built.root / "snapshots")
    assert built.run("run", "--rm", "x").out.endswith("1000\ncontent")
    built.build("FROM x\nRUN wc -c < /c > /d\n", "-t", "y")
    built.run("fsck", "--repair", code=None)
    built.write({"Buildfile": TEXT})
    _assert_same_again(built, image)


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 10_000)


def _foreign(path: Path) -> None:
    import sqlite3

    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")


def _holes(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


@pytest.mark.parametrize("damage", [_garbage, _foreign, _holes, _truncate, Path.unlink], ids=lambda damage: damage.__name__)
def test_the_index_database(built: Bench, damage: Callable[[Path], None]) -> None:
    image = built.inspect()
    for name in ("index.db-wal", "index.db-shm"):
        (built.root / name).unlink(missing_ok=True)
    damage(built.root / "index.db")
    done = built.build(None, code=None)
    assert done.code in (0, 21)
    if done.code:
        assert len(done.errors) == 1
        assert "index.db" in done.err
        assert "fsck --repair" in done.err
    assert built.run("images", code=None).code in (0, 21)
    built.run("fsck", "--repair", code=None)
    built.run("fsck")
    _assert_same_again(built, image)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schemaVersion": 2, "manifests": 7}',
        '{"schemaVersion": 2, "manifests": [7, {"digest": "x"}]}',
        "\0" * 5000,
        "[" * 9000,
    ],
    ids=["empty", "torn", "list", "number", "entries", "zeros", "deep"],
)
def test_the_index_of_names(built: Bench, text: str) -> None:
    image = built.inspect()
    (built.root / "index.json").write_text(text)
    commands = ("images", "run --pull never --rm x", "tag x y", "build --offline -t y .", "prune")
    for command in map(str.split, commands):
        done = built.run(*command, code=None)
        assert done.code in (0, 13, 17, 125), done.err
        assert done.err.count("imgbuild: error: ") == (1 if done.code else 0), done.err
    built.run("fsck", "--repair", code=None)
    built.run("fsck")
    (built.place / "base.tar").write_bytes(base_tar())
    built.run("import", built.place / "base.tar", "busybox")
    _assert_same_again(built, image)


def test_an_index_of_names_that_is_gone(built: Bench) -> None:
    image = built.inspect()
    (built.root / "index.json").unlink()
    built.run("inspect", "x", code=13)
    (built.place / "base.tar").write_bytes(base_tar())
    built.run("import", built.place / "base.tar", "busybox")
    _assert_same_again(built, image)


def _mend(bench: Bench, what: str) -> None:
    done = bench.run("fsck", code=17)
    assert what.removeprefix("sha256:") in done.out
    assert "hint" in done.err or "--repair" in done.err + done.out
    bench.run("fsck", "--repair", code=None)
    assert "damaged" not in bench.run("fsck").out


def _assert_same_again(bench: Bench, image: dict[str, object]) -> None:
    """Bases are had again as users do it, if they are gone; then the same is built, and all is whole."""
    if bench.run("inspect", "busybox", code=None).code:
        (bench.place / "base.tar").write_bytes(base_tar())
        bench.run("import", bench.place / "base.tar", "busybox")
    bench.build(None)
    again = bench.inspect()
    assert (again["Id"], again["Digest"]) == (image["Id"], image["Digest"])
    assert bench.run("run", "--rm", "x").out.endswith("1000\ncontent")
    bench.assert_whole()
