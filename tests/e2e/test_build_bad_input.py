"""Files that are broken or hostile: one clear error with its place, and a store that is as good as before."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from .harness import Bench


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"FROM busybox\nFETCH x\n", ["Buildfile:2", "FETCH", "^"]),
        (b"FROM busybox\nCPOY a b\n", ["Buildfile:2", "COPY"]),
        (b"FROM busybox\nRUN --netwrok=none true\n", ["Buildfile:2", "--network"]),
        (b"FROM busybox\nRUN echo \\\n  a \\\n", None),
        (b"\x00\x01\x02\xff\xfe", ["Buildfile:1"]),
        (b"FROM busybox\nRUN echo \x00\n", ["Buildfile:2"]),
        (b"FROM busybox\n" + b"A" * 70_000 + b"\n", ["Buildfile:2"]),
        (b"\xff\xfeF\x00R\x00O\x00M\x00", ["UTF-16"]),
        (b"# escape=x\nFROM busybox\n", ["Buildfile:1", "escape"]),
        (b"FROM busybox\nONBUILD ONBUILD RUN x\n", ["Buildfile:2"]),
        (b"FROM busybox\nHEALTHCHECK --interval=soon CMD x\n", ["Buildfile:2", "soon"]),
    ],
)
def test_buildfiles_that_cannot_be_read(shared: Bench, text: bytes, words: list[str] | None) -> None:
    if words is None:
        shared.build(text)
        return
    said = shared.refused(text, code=10)
    for word in words:
        assert word in said
    assert "\x00" not in said
    assert max(len(line) for line in said.splitlines()) < 1000


def test_a_file_from_windows_is_as_good_as_any(bench: Bench) -> None:
    bench.build(b"\xef\xbb\xbf# comment\r\nFROM busybox\r\nRUN echo a \\\r\n  b > /f\r\nCOPY <<E /g\r\nx\r\nE\r\nENV A=1\r\n")
    files = bench.files()
    assert files["f"].data == b"a b\n"
    assert "A=1" in bench.config()["Env"]


def hostile(*entries: tuple[str, bytes, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(content, str):
                info.linkname = content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        hostile(("../../escaped", tarfile.REGTYPE, b"x")),
        hostile(("out", tarfile.SYMTYPE, "/"), ("out/../../../escaped", tarfile.REGTYPE, b"x")),
        hostile(("hard", tarfile.LNKTYPE, "../../../../etc/hostname")),
        hostile(("hard", tarfile.LNKTYPE, "/no/such/file")),
    ],
)
def test_archives_that_name_what_is_outside(bench: Bench, archive: bytes) -> None:
    bench.write({"evil.tar": archive})
    done = bench.build("FROM busybox\nADD evil.tar /into/\n", code=None)
    if done.code:
        assert done.code == 12
        assert len(done.errors) == 1
        assert "evil.tar" in done.err
    else:
        assert all(name.startswith(("into", "escaped")) or name in (".", "out") for name in bench.top())
    assert not any(Path(place, "escaped").exists() for place in ("/", bench.place, bench.root, bench.root / "tmp", bench.context))
    bench.assert_whole()


def test_symlinks_of_an_archive_stay_inside_the_image(bench: Bench) -> None:
    bench.write({"evil.tar": hostile(("out", tarfile.SYMTYPE, str(bench.place)), ("out/escaped", tarfile.REGTYPE, b"x"))})
    bench.build("FROM busybox\nADD evil.tar /into/\n", code=None)
    assert not (bench.place / "escaped").exists()
    bench.assert_whole()


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_truncated_archives_are_said(bench: Bench, cut: int) -> None:
    whole = hostile(("a", tarfile.REGTYPE, b"x" * 5000), ("b", tarfile.REGTYPE, b"y" * 5000))
    bench.write({"cut.tar": whole[: 512 + 2048 + cut] if cut else whole[:700]})
    said = bench.refused("FROM busybox\nADD cut.tar /into/\n", code=12)
    assert "cut.tar" in said
    assert "Buildfile:2" in said


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_base_is_found(bench: Bench, damage: str) -> None:
    bench.run("prune", "--all")
    for snapshot in (bench.root / "snapshots").iterdir():
        assert snapshot.is_dir()
    digest = bench.manifest("busybox:latest")["layers"][0]["digest"]
    blob = bench.root / "blobs" / digest.replace(":", "/")
    data = bytearray(blob.read_bytes())
    blob.unlink()
    if damage == "truncate":
        blob.write_bytes(data[:-100])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    done = bench.run("fsck", code=17)
    assert digest[:15] in done.out
    done = bench.run("save", "busybox", "-o", bench.place / "out.tar", code=17)
    assert len(done.errors) == 1
    assert not (bench.place / "out.tar").exists()


def test_a_context_whose_files_cannot_be_had(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nCOPY . /x\n"})
    os.mkfifo(bench.context / "pipe")
    done = bench.build(None, code=None)
    assert done.code in (0, 12)
    assert len(done.errors) == (1 if done.code else 0)
    os.unlink(bench.context / "pipe")
    (bench.context / os.fsdecode(b"latin\xe9")).write_text("x")
    (bench.context / "new\nline").write_text("y")
    bench.build(None)
    assert "x/new\nline" in bench.files()
    bench.assert_whole()


def test_a_store_that_cannot_be_is_said(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\n"})
    for root in ("/proc/nope", str(bench.context / "Buildfile")):
        done = bench.run("--root", root, "build", ".", code=21)
        assert len(done.errors) == 1
    (bench.root / "oci-layout").write_text('{"imageLayoutVersion": "99.0"}')
    done = bench.run("build", ".", code=None)
    assert done.code in (17, 19, 21)
    assert len(done.errors) == 1


def test_a_thousand_stages_on_each_other(bench: Bench) -> None:
    text = "FROM scratch AS s0\n" + "".join(f"FROM s{number} AS s{number + 1}\nLABEL l={number}\n" for number in range(1500))
    bench.build(text)
    assert bench.config()["Labels"] == {"l": "1499"}
