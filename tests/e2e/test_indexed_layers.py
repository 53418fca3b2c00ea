"""Layers that are mounted as tars, and the same unpacked: nobody can tell which it was, and each is there where the other can't be."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .aftermath import assert_nothing_left, changes, die
from .harness import Bench, base_tar, clean_environ

UNPACKED = {"IMGBUILD_DISABLE": "erofs"}

TEXT = """
FROM layers AS one
RUN find /opt /bin /home -type f -exec stat -c '%n %F %a %u:%g %s %Y %h' {} + | sort > /seen && stat -c '%n %F %a %u:%g %Y' /opt/* >> /seen
RUN rm /opt/gone && rm -r /opt/tree && mkdir /opt/tree && echo new > /opt/tree/new && echo more >> /opt/file && chmod 4711 /opt/linked
FROM layers AS two
RUN --mount=type=bind,from=one,target=/m,source=/opt cp -a /m /copied
FROM layers
COPY --from=one /seen /opt /one/
COPY --from=two /copied /two
COPY --from=layers /opt /plain
WORKDIR /opt/tree/below
USER ann
RUN id -un > /tmp/me
CMD ["sh", "-c", "find / -xdev | sort | md5sum; cat /one/seen /plain/file"]
"""


def _opt(tar: tarfile.TarFile) -> None:
    def add(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: object) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.mtime = kind, size, 0o755 if kind == tarfile.DIRTYPE else 0o640, 1_600_000_000
        for key, value in fields.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(bytes(size)))

    for name in ("opt", "opt/tree", "opt/tree/deep", "opt/empty"):
        add(name, tarfile.DIRTYPE)
    add("opt/file", size=5000, uid=1000, gid=50, mtime=1_600_000_000.25, pax_headers={"SCHILY.xattr.user.note": "kept"})
    add("opt/linked", tarfile.LNKTYPE, linkname="opt/file")
    add("opt/gone", size=1)
    add("opt/tree/deep/old", size=3)
    add("opt/link", tarfile.SYMTYPE, linkname="x" * 1000)
    add("opt/fifo", tarfile.FIFOTYPE)


@pytest.fixture
def layered(tmp_path: Path) -> Iterator[Bench]:
    """A store with nothing but the image "layers", of which nothing is unpacked or mounted yet. A container "c" goes with it."""
    bench = Bench(tmp_path / "bench", clean_environ(tmp_path / "home"))
    bench.context.mkdir(parents=True)
    (bench.place / "layers.tar").write_bytes(base_tar(_opt))
    bench.run("import", bench.place / "layers.tar", "layers")
    yield bench
    bench.run("rm", "-f", "c", code=None)


def _forms(bench: Bench) -> list[set[str]]:
    return [set(os.listdir(path)) for path in sorted((bench.root / "snapshots").iterdir())]


def _indexed(bench: Bench) -> list[Path]:
    found = [path for path in sorted((bench.root / "snapshots").iterdir()) if (path / "index.erofs").exists()]
    if not found and os.geteuid() == 0 and not (bench.root / "erofs").exists():
        pytest.skip("needs file-backed EROFS")
    return found


def test_both_forms_give_the_same(layered: Bench, tmp_path: Path) -> None:
    outcomes = []
    for number, environ in enumerate(({}, UNPACKED)):
        bench = Bench(tmp_path / str(number), layered.environ)
        bench.context.mkdir(parents=True)
        bench.run("import", layered.place / "layers.tar", "layers")
        bench.build(TEXT, environ=environ)
        said = bench.run("run", "--rm", "x", environ=environ).out
        bench.run("unpack", "x", bench.place / "unpacked", environ=environ)
        bench.run("save", "-o", bench.place / "saved.tar", "x", environ=environ)
        stat = ("stat", "-c", "%n %f %s %u %g %Y %h", "/opt/file", "/opt/linked", "/opt/link")
        shown = bench.run("run", "--rm", "layers", *stat, environ=environ).out
        outcomes.append((bench.inspect()["Digest"], said, shown))
        if number:
            assert all("index.erofs" not in form for form in _forms(bench))
        else:
            assert _indexed(bench)
        bench.assert_whole()
    assert outcomes[0] == outcomes[1]


def test_a_layer_that_cannot_be_mounted_is_unpacked_beside(layered: Bench) -> None:
    first = layered.run("run", "--rm", "layers", "cat", "/etc/passwd").out
    (snapshot,) = _indexed(layered)
    assert layered.run("run", "--rm", "layers", "cat", "/etc/passwd", environ=UNPACKED).out == first
    assert {"fs", "layer.tar", "index.erofs"} == set(os.listdir(snapshot))
    layered.assert_whole()
    assert layered.run("run", "--rm", "layers", "cat", "/etc/passwd").out == first
    layered.run("rmi", "layers")
    layered.run("prune", "--all")
    assert not snapshot.exists()
    layered.assert_whole()


def test_a_container_lives_on_its_tars(layered: Bench) -> None:
    """Nothing that is done to the store takes them from under it."""
    layered.run("run", "-d", "--name", "c", "layers", "sleep", "1000")
    (snapshot,) = _indexed(layered)
    layered.run("rmi", "-f", "layers")
    layered.run("prune", "--all")
    assert snapshot.exists()
    assert layered.run("exec", "-u", "ann", "c", "sh", "-c", "id -un; wc -c < /opt/file").out.split() == ["ann", "5000"]
    ids = layered.run("exec", "-u", "ann", "c", "id").out
    assert layered.run("exec", "-u", "ann", "c", "id", environ=UNPACKED).out == ids, "who can't mount the tars sees the users, too"
    layered.run("rm", "-f", "c")
    layered.run("prune", "--all")
    assert not snapshot.exists()
    layered.assert_whole()


def test_a_deep_stack_as_one_option(layered: Bench) -> None:
    """Kernels to which lowers can't be given one by one get them all in one word, which is longer than options are else."""
    environ = {"IMGBUILD_DISABLE": "lowerdirplus"}
    (layered.context / "f").write_text("x")
    copies = "\n".join(f"COPY f /opt/f{number}" for number in range(16))
    bind = "RUN --mount=type=bind,from=deep,target=/m ls /m/opt > /seen"
    layered.build(f"FROM layers AS deep\n{copies}\nRUN ls /opt > /seen\nFROM layers\n{bind}", environ=environ)
    assert layered.run("run", "--rm", "x", "grep", "-c", "^f[0-9]", "/seen", environ=environ).out == "16\n"


def _cut(snapshot: Path) -> None:
    os.truncate(snapshot / "layer.tar", 5120)


def _swapped(snapshot: Path) -> None:
    data = bytearray((snapshot / "index.erofs").read_bytes())
    data[len(data) // 2] ^= 1
    (snapshot / "index.erofs").write_bytes(data)


def _touched(snapshot: Path) -> None:
    os.utime(snapshot / "layer.tar", (5, 5))


def _lost(snapshot: Path) -> None:
    (snapshot / "layer.tar").unlink()


@pytest.mark.parametrize("damage", [_cut, _swapped, _touched, _lost], ids=lambda damage: damage.__name__[1:])
def test_damage_is_found_and_mended(layered: Bench, damage: Callable[[Path], None]) -> None:
    layered.run("run", "--rm", "layers", "true")
    (snapshot,) = _indexed(layered)
    damage(snapshot)
    assert f"snapshot {snapshot.name}" in layered.run("fsck", code=None).out.replace("  ", " ")
    layered.run("fsck", "--repair", code=None)
    assert not snapshot.exists()
    assert layered.run("run", "--rm", "layers", "sh", "-c", "wc -c < /opt/file").out == "5000\n"
    layered.assert_whole()


def test_tars_are_measured(layered: Bench) -> None:
    layered.run("run", "--rm", "layers", "true")
    (snapshot,) = _indexed(layered)
    taken = sum(path.stat().st_blocks * 512 for path in (snapshot, *snapshot.iterdir()))
    shares = json.loads(layered.run("du", "--format", "json").out)
    assert (shares["snapshots"]["count"], shares["snapshots"]["bytes"]) == (1, taken)


@pytest.fixture
def deep(layered: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A store with nothing but the image "x" of many layers."""
    layered.write({f"file{number}": f"{number}\n" for number in range(14)})
    lines = [f"COPY file{number} /opt/tree/deep/{number % 5}" for number in range(14)]
    layered.build("\n".join(["FROM layers", "RUN rm -r /opt/tree /opt/gone", *lines]))
    layered.run("save", "-o", layered.place / "x.tar", "x")
    bench = Bench(tmp_path / "deep", layered.environ)
    bench.context.mkdir(parents=True)
    bench.run("load", "-i", layered.place / "x.tar")
    yield bench
    bench.run("rm", "-f", "c", code=None)


def _merged(bench: Bench) -> list[Path]:
    _indexed(bench)
    return [path for path in sorted((bench.root / "snapshots").iterdir()) if path.name.startswith("merged-")]


def test_a_deep_stack_is_one_mount_and_nobody_can_tell(deep: Bench) -> None:
    look = (
        "sh",
        "-c",
        "find / -xdev | sort; cat /opt/tree/deep/*; stat -c '%n %h' /opt /opt/tree /opt/tree/deep/0; mount | grep -c lowerdir",
    )
    shown = deep.run("run", "--rm", "x", *look).out
    (merged,) = _merged(deep)
    assert shown.endswith("\n1\n") and "/opt/tree/deep/4\n" in shown and "/opt/gone\n" not in shown
    deep.run("rmi", "x")
    deep.run("prune", "--all")
    assert not merged.exists()
    deep.assert_whole()


def test_a_deep_stack_without_tars_is_the_same(deep: Bench) -> None:
    text = (
        "FROM x\nRUN find /opt -type f -exec stat -c '%n %s %h %Y %a' {} + | sort > /seen; rm /opt/tree/deep/1; mv /opt/tree/deep /moved\n"
    )
    deep.run("tag", "x", "base")
    digests = []
    for environ in ({}, UNPACKED):
        deep.build(text.replace("FROM x", "FROM base"), "--no-cache", environ=environ)
        listed = deep.run("run", "--rm", "base", "find", "/", "-xdev", environ=environ).out
        digests.append((deep.inspect()["Digest"], sorted(listed.splitlines())))
    assert _merged(deep)
    assert digests[0] == digests[1]
    deep.assert_whole()


def test_a_container_lives_on_a_deep_stack(deep: Bench) -> None:
    deep.run("run", "-d", "--name", "c", "x", "sleep", "1000")
    (merged,) = _merged(deep)
    deep.run("rmi", "-f", "x")
    deep.run("prune", "--all")
    assert [path.name for path in sorted((deep.root / "snapshots").iterdir())] == [merged.name]
    assert deep.run("exec", "-u", "ann", "c", "sh", "-c", "id -un; cat /opt/tree/deep/3").out == "ann\n13\n"
    deep.run("rm", "-f", "c")
    deep.run("prune", "--all")
    deep.assert_whole()


def test_killed_at_any_moment_of_its_making_it_is_made_the_next_time(deep: Bench) -> None:
    """Layer by layer, and all of them as one; with what the dead before left."""
    look = ("run", "--rm", "x", "sh", "-c", "cat /opt/tree/deep/*")
    last = changes(deep, *look)
    deep.run("rmi", "x")
    deep.run("prune", "--all")
    deep.run("load", "-i", deep.place.parent / "bench" / "x.tar")
    for moment in range(1, last, max(1, last // 12)):
        die(deep, moment, ("group", "alone")[moment % 2], *look)
        assert_nothing_left(deep)
    assert deep.run(*look).out == "10\n11\n12\n13\n9\n"
    assert len(_merged(deep)) == 1
    assert_nothing_left(deep)
