"""A root file system's tar becomes a base image: the same tree gives the same bytes, and harm is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import random
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.errors import LayerError, UsageError
from imgbuild.layer.compress import decompressing
from imgbuild.layer.tar import TarEntry as Entry
from imgbuild.layer.tar import TarWriter, read_tar
from imgbuild.oci.config import RunConfig
from imgbuild.store.store import Store
from imgbuild.transfer.images import Image
from imgbuild.transfer.importing import Imported, import_rootfs
from imgbuild.transfer.tree import Tree

from .support import AMD64, ref

SETTINGS = Imported(AMD64)


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(data), 1000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.LNKTYPE, linkname=target)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def imported(store: Store, data: bytes, options: Imported = SETTINGS) -> Image:
    return import_rootfs(store, io.BytesIO(data), ref(None, "base:1"), options)


def entries(store: Store, image: Image) -> list[tuple[Entry, bytes]]:
    with store.blobs.open(image.layers[0].blob.digest) as stream:
        return [(entry, content.read()) for entry, content in read_tar(decompressing(stream))]


def names(store: Store, image: Image) -> list[str]:
    return [entry.name.decode() for entry, _ in entries(store, image)]


ROOT = (
    directory("./", mode=0o755),
    directory("./usr"),
    directory("./usr/bin"),
    member("./usr/bin/tool", b"#!tool", mode=0o4755, uid=7, gid=8, mtime=2000),
    symlink("./bin", "usr/bin"),
    hardlink("./usr/bin/again", "./usr/bin/tool"),
    member("./etc/late", b"late"),
    member("./dev", kind=tarfile.DIRTYPE, mode=0o755),
    member("./dev/console", kind=tarfile.CHRTYPE, devmajor=5, devminor=1, mode=0o600),
    member("./run.fifo", kind=tarfile.FIFOTYPE),
)


def test_import(store: Store) -> None:
    image = imported(store, tar(*ROOT), Imported(AMD64, RunConfig(cmd=("sh",), env=("A=b",)), comment="by hand"))
    assert store.tags.get(ref(None, "base:1")) == image.descriptor
    assert (image.config.platform, image.config.config.cmd, image.config.created) == (AMD64, ("sh",), "1970-01-01T00:33:20Z")
    (history,) = image.config.history
    assert (history.created_by, history.comment, history.empty_layer) == ("imgbuild import", "by hand", False)
    found = {entry.name.rstrip(b"/"): (entry, data) for entry, data in entries(store, image)}
    assert list(found) == [
        b".", b"bin", b"dev", b"dev/console", b"etc", b"etc/late", b"run.fifo", b"usr", b"usr/bin", b"usr/bin/again", b"usr/bin/tool",
    ]  # fmt: skip
    # The first name is the file, whichever it was.
    assert found[b"usr/bin/again"][0].kind == "file" and found[b"usr/bin/again"][1] == b"#!tool"
    assert (found[b"usr/bin/tool"][0].kind, found[b"usr/bin/tool"][0].link) == ("hardlink", b"usr/bin/again")
    tool = found[b"usr/bin/again"][0]
    assert (tool.mode, tool.uid, tool.gid, tool.mtime) == (0o4755, 7, 8, 2000)
    assert (found[b"dev/console"][0].major, found[b"dev/console"][0].minor) == (5, 1)


def test_what_is_remembered_of_the_layer(store: Store) -> None:
    image = imported(store, tar(*ROOT))
    (row,) = store.index.layers_of(image.layers[0].diff_id)
    assert row.blob == image.layers[0].blob and row.uncompressed_size > 0


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_the_form_of_the_tar_has_no_part(new_store: Callable[[], Store], tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    plain = imported(new_store(), tar(*ROOT))
    head, rest = list(ROOT[:8]), list(ROOT[8:])
    random.Random(7).shuffle(rest)
    path = tmp_path / "rootfs"
    path.write_bytes(compress(tar(*head, *rest)))
    other = import_rootfs(new_store(), path, ref(None, "base:1"), SETTINGS)
    assert other.descriptor == plain.descriptor


def test_gnu_tar_and_a_pipe(new_store: Callable[[], Store], tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a" / ("long" * 40)).mkdir(parents=True)
    (root / "a" / ("long" * 40) / ("n" * 200)).write_bytes(b"x")
    os.mkfifo(root / "fifo")
    with (root / "big").open("wb") as file:
        file.truncate(9 << 20)
        file.seek(5 << 20)
        file.write(b"data")
    for path in (root, *sorted(root.rglob("*"))):
        os.utime(path, (1000, 1000), follow_symlinks=False)
    found = set()
    for options in (["--format=gnu"], ["--format=posix"], ["--format=gnu", "--sparse"], ["--format=posix", "--sparse", "--sort=name"]):
        with subprocess.Popen(["tar", *options, "-C", root, "-c", "."], stdout=subprocess.PIPE) as process:
            assert process.stdout
            store = new_store()
            image = import_rootfs(store, process.stdout, ref(None, "base:1"), SETTINGS)
            found.add(image.descriptor.digest)
        assert process.returncode == 0
    assert len(found) == 1
    big = next(data for entry, data in entries(store, image) if entry.name == b"big")
    assert len(big) == 9 << 20 and big[5 << 20 :].startswith(b"data")


def test_the_epoch_clamps(store: Store) -> None:
    image = imported(store, tar(member("old", mtime=100), member("new", mtime=10**9)), Imported(AMD64, epoch=500))
    assert {entry.name: entry.mtime for entry, _ in entries(store, image)} == {b"new": 500, b"old": 100}
    assert image.config.created == "1970-01-01T00:08:20Z"


def test_xattrs_that_are_the_images(store: Store) -> None:
    buffer = io.BytesIO()
    writer = TarWriter(buffer.write)
    kept = ((b"security.capability", b"\1\0\0\2" + bytes(16)), (b"user.a", b"b"))
    dropped = ((b"security.selinux", b"x"), (b"trusted.overlay.opaque", b"y"), (b"user.overlay.whiteout", b"y"))
    writer.add(Entry(b"f", "file", xattrs=kept + dropped))
    writer.finish()
    ((entry, _),) = entries(store, imported(store, buffer.getvalue()))
    assert entry.xattrs == kept


def test_entries_below_symlinks_and_spellings_of_names(store: Store) -> None:
    data = tar(
        directory("usr/bin"),
        directory("usr/lib"),
        symlink("bin", "usr/bin"),
        symlink("usr/sbin", "../bin"),
        symlink("abs", "/usr/lib"),
        symlink("out", "../../../usr"),
        member("bin/a"),
        member("/usr/sbin/b"),
        member(".//abs/./c"),
        member("out/d"),
    )
    found = names(store, imported(store, data))
    assert found == ["abs", "bin", "out", "usr/", "usr/bin/", "usr/bin/a", "usr/bin/b", "usr/d", "usr/lib/", "usr/lib/c", "usr/sbin"]


def test_the_last_of_two_counts(store: Store) -> None:
    data = tar(
        directory("d", mode=0o700),
        member("d/f", b"old"),
        directory("d", mode=0o755),
        member("d/f", b"new"),
        symlink("e", "d"),
        directory("e"),
    )
    found = {entry.name: (entry, content) for entry, content in entries(store, imported(store, data))}
    assert found[b"d/f"][1] == b"new" and found[b"d/"][0].mode == 0o755 and found[b"e/"][0].kind == "dir"


def test_a_hard_link_keeps_what_it_linked(store: Store) -> None:
    data = tar(member("a", b"old"), hardlink("b", "/a"), member("a", b"new"), hardlink("c", "b"))
    found = {entry.name: (entry, content) for entry, content in entries(store, imported(store, data))}
    assert (found[b"a"][1], found[b"b"][1], found[b"c"][0].link) == (b"new", b"old", b"b")


@pytest.mark.parametrize(
    "members",
    [
        [member("../etc/passwd")],
        [member("a/../../b")],
        [symlink("a", "b"), symlink("b", "a"), member("a/x")],
        [member("f"), member("f/x")],
        [hardlink("h", "missing")],
        [hardlink("h", "../../etc/passwd")],
        [directory("d"), hardlink("h", "d")],
        [hardlink("h", "")],
        [member("c", kind=tarfile.CHRTYPE, devmajor=0, devminor=0)],
        [member(".wh.gone")],
        [member("d/.wh..wh..opq")],
        [member("./", b"x")],
        [member("n" * 256)],
        [member("/".join(["d" * 200] * 30))],
        [directory("d"), member("d/x"), symlink("d", "/etc")],
        [],
    ],
)
def test_hostile_and_hopeless_tars_are_refused(store: Store, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with pytest.raises(LayerError):
        imported(store, tar(*members))
    assert store.tags.list() == ()
    assert not [path for path in (store.root / "tmp").iterdir() if path.name.startswith("import")]


def test_damaged_tars_and_missing_files(store: Store, tmp_path: Path) -> None:
    whole = tar(*ROOT, member("tail", b"x" * 5000))
    for data in (whole[: whole.index(b"x" * 5000) + 1000], b"nonsense" * 200, gzip.compress(whole)[:-100]):
        with pytest.raises(LayerError):
            imported(store, data)
    with pytest.raises(UsageError):
        import_rootfs(store, tmp_path / "missing", None, SETTINGS)
    with pytest.raises(UsageError, match="directory"):
        import_rootfs(store, tmp_path, None, SETTINGS)


def test_without_a_name(store: Store) -> None:
    image = import_rootfs(store, io.BytesIO(tar(*ROOT)), None, SETTINGS)
    assert store.tags.list() == ((None, image.descriptor),)


def test_a_hostile_tar_touches_no_file(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"safe")
    data = tar(symlink("link", str(tmp_path)), member("link/outside", b"changed", mode=0o7777))
    image = imported(store, data)
    assert outside.read_bytes() == b"safe" and not outside.stat().st_mode & stat.S_ISUID
    assert str(tmp_path / "outside").lstrip("/") in names(store, image)


NAMES = st.lists(st.sampled_from([b"a", b"b", b"c", b"..", b".", b"\xff"]), min_size=1, max_size=4).map(b"/".join)
KINDS = st.sampled_from(["file", "dir", "symlink", "hardlink", "char", "fifo"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAMES, KINDS, NAMES, st.binary(max_size=5)), max_size=12))
def test_what_comes_out_is_in_normal_form(members: list[tuple[bytes, str, bytes, bytes]]) -> None:
    raw = io.BytesIO()
    writer = TarWriter(raw.write)
    for name, kind, link, data in members:
        size = len(data) if kind == "file" else 0
        writer.add(Entry(name, kind, size=size, link=link if "link" in kind else b"", major=1 if kind == "char" else 0))  # type: ignore[arg-type]
        if size:
            writer.data(data)
    writer.finish()
    raw.seek(0)
    tree = Tree(io.BytesIO())
    try:
        for entry, content in read_tar(raw):
            tree.add(entry, content)
    except LayerError:
        return
    out = io.BytesIO()
    second = TarWriter(out.write)
    tree.write(second, None, lambda: None)
    second.finish()
    out.seek(0)
    seen: dict[bytes, str] = {}
    for entry, _ in read_tar(out):
        path = entry.name.rstrip(b"/")
        above = path.rpartition(b"/")[0]
        assert path not in seen and b".." not in path.split(b"/")
        assert not above or seen[above] == "dir"
        assert entry.kind != "hardlink" or seen[entry.link] == "file"
        seen[path] = entry.kind
    assert [path.split(b"/") for path in seen if path != b"."] == sorted(path.split(b"/") for path in seen if path != b".")


def test_the_config_is_json_that_others_read(store: Store) -> None:
    image = imported(store, tar(*ROOT))
    config = json.loads(store.blobs.read(image.manifest.config.digest))
    assert config["rootfs"] == {"type": "layers", "diff_ids": [image.layers[0].diff_id]}


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_root_file_system(store: Store, device: str) -> None:
    with pytest.raises(UsageError, match="is a device"):
        import_rootfs(store, Path(device), None, Imported(AMD64, RunConfig()))
    with open(device, "rb") as stream, pytest.raises(UsageError, match="is a device"):
        import_rootfs(store, stream, None, Imported(AMD64, RunConfig()))
