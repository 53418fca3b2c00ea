"""ADD's archives: which files are one, what comes out, and what hostile ones get."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from imgbuild.errors import BuildfileError, ContextError
from imgbuild.store.removal import remove_tree

from .copying import EPOCH, OLD, World

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def archive(spec: str, kind: str = "plain") -> bytes:
    """A tar by words: ``d/`` a directory, ``f=text``, ``l->target`` a symlink, ``h&target`` a hard link, ``p|`` a fifo, ``c!`` a device;
    ``@mode`` and ``%uid:gid`` after the name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for word in spec.split():
            word, _, owner = word.partition("%")
            word, _, mode = word.partition("@")
            member = tarfile.TarInfo(word)
            member.mtime = EPOCH + 5 if word.startswith("new") else OLD
            member.mode = int(mode or "644", 8)
            member.uid, member.gid = (int(part) for part in (owner or "3:4").split(":"))
            data = b""
            if "->" in word:
                member.name, _, member.linkname = word.partition("->")
                member.type = tarfile.SYMTYPE
            elif "&" in word:
                member.name, _, member.linkname = word.partition("&")
                member.type = tarfile.LNKTYPE
            elif word.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, int(mode or "755", 8)
            elif word.endswith("|"):
                member.name, member.type = word[:-1], tarfile.FIFOTYPE
            elif word.endswith("!"):
                member.name, member.type = word[:-1], tarfile.CHRTYPE
            else:
                member.name, _, text = word.partition("=")
                data = (text or member.name).encode()
                member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return COMPRESSORS[kind](buffer.getvalue())


def added(tmp_path: Path, spec: str, destination: str = "/x/", image: str = "", owner: str | None = None) -> World:
    """An image after ADD of an archive."""
    world = World(tmp_path, image=image)
    (tmp_path / "context/a").write_bytes(archive(spec))
    world.copy("a", destination, unpack=True, owner=owner)
    return world


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_archives_are_known_by_their_content(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path)
    (tmp_path / "context/photo.jpg").write_bytes(archive("d/ d/f", kind))
    world.copy("photo.jpg", "/x", unpack=True)
    assert world.result() == "x/@0755%0:0 x/d/@0755%3:4 x/d/f=d/f@0644%3:4"
    world.copy("photo.jpg", "/y", unpack=False)
    assert (world.upper / "y").is_file()


NO_ARCHIVES = [b"", b"text", gzip.compress(b"no tar", mtime=0), bytes(1024), b"PK\x03\x04" + bytes(600), b"BZh9 not really", b"\x1f\x8b"]


@pytest.mark.parametrize("data", NO_ARCHIVES, ids=range(len(NO_ARCHIVES)))
def test_what_is_no_archive_is_copied(tmp_path: Path, data: bytes) -> None:
    world = World(tmp_path)
    (tmp_path / "context/a.tar.gz").write_bytes(data)
    world.copy("a.tar.gz", "/x/", unpack=True)
    assert (world.upper / "x/a.tar.gz").read_bytes() == data


def test_metadata_and_times(tmp_path: Path) -> None:
    world = added(tmp_path, "d/@1770%5:6 d/f@4711%7:8 new l->d")
    assert world.result("/x") == "x/@0755%0:0 x/d/@1770%5:6 x/d/f=d/f@4711%7:8 x/l->d%3:4 x/new=new@0644%3:4"
    assert [world.mtime(path) for path in ("/x", "/x/d", "/x/d/f", "/x/new", "/x/l")] == [EPOCH, OLD, OLD, EPOCH, OLD]


def test_chown_is_for_all_but_parents_that_the_archive_leaves_out(tmp_path: Path) -> None:
    world = added(tmp_path, "d/ d/f p/q/g", owner="9:9")
    assert world.result("/x") == "x/@0755%9:9 x/d/@0755%9:9 x/d/f=d/f@0644%9:9 x/p/@0755%0:0 x/p/q/@0755%0:0 x/p/q/g=p/q/g@0644%9:9"


@pytest.mark.parametrize(
    ("spec", "image", "expected"),
    [
        # merging with, and replacing, what is there
        ("d/ d/new=1", "x/d/old", "x/ x/d/ x/d/new=1 x/d/old"),
        ("d=file", "x/d/old", "x/ x/d=file"),
        ("d/ d/f=1", "x/d=file", "x/ x/d/ x/d/f=1"),
        ("d=1 d/ d/f=1", "x/d/old", "x/ x/d/ x/d/f=1"),
        ("d/a=1 d->e d/b=2", "", "x/ x/d->e x/e/ x/e/b=2"),
        ("f=1 f=2", "", "x/ x/f=2"),
        ("l->old", "x/l=1 x/old", "x/ x/l->old x/old"),
        ("l=1", "x/l->old x/old", "x/ x/l=1 x/old"),
        ("l/ l/f=1", "x/l->old x/old/", "x/ x/l/ x/l/f=1 x/old/"),
        ("l/f=1", "x/l->old x/old/", "x/ x/l->old x/old/ x/old/f=1"),
        # names
        ("./d/./f=1 .//g=2 /h=3", "", "x/ x/d/ x/d/f=1 x/g=2 x/h=3"),
        ("./ f=1", "", "x/ x/f=1"),
        ("a/../f=1", "", "x/ x/f=1"),
        (".wh.f=1", "x/f", "x/ x/.wh.f=1 x/f"),
        # what is left out
        ("p| c! f=1", "x/p=1", "x/ x/f=1 x/p=1"),
        # symlinks are resolved below the destination
        ("l->/etc l/f=1", "etc/", "etc/ x/ x/etc/ x/etc/f=1 x/l->/etc"),
        ("l->../../.. l/f=1", "", "x/ x/f=1 x/l->../../.."),
        ("a->b b->c a/f=1", "", "x/ x/a->b x/b->c x/c/ x/c/f=1"),
        # hard links
        ("f=1 h&f", "", "x/ x/f=1 x/h=1"),
        ("f=1 d/h&./f", "", "x/ x/d/ x/d/h=1 x/f=1"),
        ("h&old", "x/old=1", "x/ x/h=1 x/old=1"),
        ("f=1 f&f", "", "x/ x/f=1"),
        ("s->f h&s", "", "x/ x/h->f x/s->f"),
        ("h&s", "x/s->f", "x/ x/h->f x/s->f"),
    ],
)
def test_what_comes_out(tmp_path: Path, spec: str, image: str, expected: str) -> None:
    assert added(tmp_path, spec, image=image).names() == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("../f=1", "outside"),
        ("a/../../f=1", "outside"),
        ("h&../../etc/passwd", "outside"),
        ("h&none", "not there"),
        ("d/ h&d", "not there"),
        ("d/f=1 d&d/f", "would replace"),
        ("a->b b->a a/f=1", "symbolic links"),
    ],
)
def test_hostile_archives(tmp_path: Path, spec: str, message: str) -> None:
    with pytest.raises(ContextError, match=message):
        added(tmp_path, spec)


@pytest.mark.parametrize("spec", ["f=1 f/g=1", "f/g=1"])
def test_a_file_as_a_parent(tmp_path: Path, spec: str) -> None:
    with pytest.raises(BuildfileError, match="'/x/f'"):
        added(tmp_path, spec, image="x/f=1")


def test_a_hard_link_to_a_file_of_the_image_brings_that_into_the_layer(tmp_path: Path) -> None:
    world = added(tmp_path, "h&old", image="x/old=1")
    first, second = os.lstat(world.upper / "x/old"), os.lstat(world.upper / "x/h")
    assert (first.st_ino, first.st_nlink) == (second.st_ino, 2)


def test_a_directory_that_was_a_file_in_between_hides_the_images(tmp_path: Path) -> None:
    world = added(tmp_path, "d=1 d/ d/f=1", image="x/d/old")
    assert os.getxattr(world.upper / "x/d", "trusted.overlay.opaque") == b"y"


def test_a_truncated_archive(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "context/a").write_bytes(archive("d/ f=" + "x" * 5000)[:2000])
    with pytest.raises(ContextError, match="can't extract 'a'"):
        world.copy("a", "/x/", unpack=True)


def test_sparse_members(tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with open(source, "wb") as file:
        file.truncate(16 << 20)
        file.seek(8 << 20)
        file.write(b"middle")
    world = World(tmp_path / "w")
    os.system(f"tar --sparse -C {tmp_path} -cf {tmp_path}/w/context/a sparse")
    world.copy("a", "/x/", unpack=True)
    assert (world.upper / "x/sparse").read_bytes() == source.read_bytes()
    assert os.stat(world.upper / "x/sparse").st_blocks < 1000


def test_an_archive_and_a_file_in_one_add(tmp_path: Path) -> None:
    world = World(tmp_path, context="g")
    (tmp_path / "context/a").write_bytes(archive("l->/other l2->sub"))
    world.copy("a", "g", "/x/", unpack=True)
    assert world.names() == "x/ x/g=g x/l->/other x/l2->sub"
    assert stat.S_ISLNK(os.lstat(world.upper / "x/l").st_mode)


def test_deep_and_too_deep_names(tmp_path: Path) -> None:
    deep = "d/" * 1200
    try:
        world = added(tmp_path / "deep", f"{deep}f=1 d=2")
        assert world.names() == "x/ x/d=2"
        world = added(tmp_path / "kept", f"{deep}f=1")
        with open(tmp_path / "kept/upper1/x" / deep / "f") as file:
            assert file.read() == "1"
        with pytest.raises(ContextError, match="more than 4095 bytes"):
            added(tmp_path / "long", f"{'d/' * 2100}f=1")
    finally:
        for name in ("deep", "kept", "long"):
            remove_tree(tmp_path / name)
