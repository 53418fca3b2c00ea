"""A copy straight into a layer says what a directory of it would: the same tar, the same blob, the same lower."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imgbuild.context.ignore import Ignore
from imgbuild.context.local import LocalContext
from imgbuild.context.tree import match
from imgbuild.errors import ContextError, ImgbuildError, LayerError, StoreError
from imgbuild.layer.compression import Compression
from imgbuild.rootfs.capture import capture
from imgbuild.rootfs.copy import CopyRequest, InlineSource, TreeSource, input_digests, perform_copy
from imgbuild.rootfs.copy_layer import copy_layer
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView
from imgbuild.store.locks import Interrupted
from imgbuild.store.store import Store
from imgbuild.values import replace

from .copying import EPOCH, OLD, packed, straight, tree

ZSTD = Compression()
CAPABILITY = bytes((1, 0, 0, 2)) + bytes(16)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened, opened.lease():
        yield opened


def go_on() -> None:
    """Nothing ends the copy."""


def request_of(context: LocalContext, *sources: str, destination: str = "/x/") -> CopyRequest:
    return CopyRequest(tuple(TreeSource(context, context.match(source)) for source in sources), destination, EPOCH)


NAMES = st.sampled_from(["a", "b", "a.b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
WHAT = st.sampled_from(["=1", "=2", "=", "/", "->a", "->/b/c", "=1@4755", "=1%3:4", "/@700", "/%5:6", "=1~", "&", "="])
TREES = st.dictionaries(PATHS, WHAT, max_size=8)
SOURCE_TREES = st.dictionaries(PATHS, WHAT, min_size=3, max_size=10)
SOURCES = st.one_of(st.just(["."]), st.lists(st.sampled_from([".", "*", "a*", "b", "c", "a/*", "<<d"]), min_size=1, max_size=3))
DESTINATIONS = st.one_of(st.just("/"), st.just("/a"), st.lists(NAMES, max_size=3).map(lambda names: "/" + "/".join(names)))


def words(entries: dict[str, str]) -> str:
    """In the words of `tree`: without what would be below what is no directory, and with links only to files."""
    below = [path for path, what in entries.items() if not what.startswith(("/", "/@", "/%"))]
    kept = {path: what for path, what in entries.items() if not any(path.startswith(f"{other}/") for other in below)}
    files = [path for path, what in kept.items() if what.startswith("=") and "@" not in what and "%" not in what]
    found = []
    for path, what in kept.items():
        if what == "&":
            found.append(f"{path}&{files[0]}" if files else f"{path}=1")
        elif what == "=":
            found.append(path)
        else:
            found.append(path + what)
    return " ".join(sorted(found, key=lambda word: "&" in word))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    image=TREES,
    top=TREES,
    source=SOURCE_TREES,
    shared=st.booleans(),
    sources=SOURCES,
    destination=DESTINATIONS,
    slash=st.booleans(),
    stage=st.booleans(),
    owner=st.sampled_from([None, None, "7:8"]),
    mode=st.sampled_from([None, None, "0640", "u=rwX,go=r"]),
    exclude=st.sampled_from([(), (), ("**/b",), ("*", "!a")]),
    parents_kept=st.sampled_from([False, False, True]),
    epoch=st.sampled_from([EPOCH, OLD, OLD, OLD - 1]),
    rooted=st.booleans(),
)
@example(  # two files that can't be copied: the first of them is told of
    image={}, top={"b/a": "=1", "a/a/a": "=1"}, source={"b": "=1", "a.b": "=1", "a/a": "=1"}, shared=False, sources=["."], destination="/",
    slash=False, stage=False, owner=None, mode=None, exclude=(), parents_kept=False, epoch=EPOCH, rooted=True,
)  # fmt: skip
def test_a_tar_without_a_directory_is_the_directory_s_tar(
    tmp_path: Path,
    image: dict[str, str],
    top: dict[str, str],
    source: dict[str, str],
    shared: bool,
    sources: list[str],
    destination: str,
    slash: bool,
    stage: bool,
    owner: str | None,
    mode: str | None,
    exclude: tuple[str, ...],
    parents_kept: bool,
    epoch: int,
    rooted: bool,
) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    image = image | source if shared else image  # so that something is there already
    lowers = tuple(DirectoryLower(tree(root / f"image{number}", words(spec))) for number, spec in enumerate((image, top)))
    files = tree(root / "source", words(source))
    with LocalContext(files) as context, UnionView((DirectoryLower(files),)) as other, UnionView(lowers if rooted else ()) as parents:
        made: list[TreeSource | InlineSource] = []
        for word in sources:
            if word.startswith("<<"):
                made.append(InlineSource(word[2:], b"text"))
                continue
            try:
                found = match(other, word, optional=True) if stage else context.match(word, optional=True)
            except ContextError:  # a circle of symlinks
                continue
            made.append(TreeSource(other if stage else context, found, pattern="**/b" if parents_kept else ""))
        path = destination + ("/" if slash and destination != "/" else "")
        request = CopyRequest(tuple(made), path, epoch, owner=owner, mode=mode, exclude=exclude)
        upper = root / "upper"
        upper.mkdir()
        with UnionView(lowers if rooted else ()) as below:
            node = below.lstat("/")
            assert node is not None
            os.chmod(upper, stat.S_IMODE(node.mode))
        try:
            perform_copy(request, parents, upper)
        except ImgbuildError as error:
            with pytest.raises(type(error)) as caught:
                straight(request, parents, rooted)
            assert str(caught.value) == str(error)
            return
        assert straight(request, parents, rooted) == packed(upper, parents, rooted, epoch)


@pytest.mark.parametrize("options", [{}, {"mode": "0640"}, {"owner": "3:4"}, {"exclude": ("01*", "d/e")}], ids=str)
@pytest.mark.parametrize("destination", ["/x", "/", "/there", "/x/" + "long/" * 30 + "/"])
@pytest.mark.parametrize("digested", [True, False])
def test_many_files_at_once_are_those_of_a_directory(tmp_path: Path, destination: str, options: dict[str, str], digested: bool) -> None:
    context = tree(tmp_path / "context", "005.d/a 005.d/b d/ d/e/f 007.l->d 011=x@4755 012=@0600")
    for number in range(40):
        (context / f"{number:03}").write_bytes(b"%d" % number * (number * 40))
    for name in ("n" * 99, "n" * 100, "n" * 101, "n" * 255, "0é", "021.bad\udcff"):
        (context / name).write_bytes(b"named")
    (context / "020.large").write_bytes(bytes(1 << 17))
    (context / "d" / "deep").mkdir()
    (context / "d" / "deep" / "long".ljust(200, "g")).write_bytes(b"deep")
    for name in ("013", "d/e/f"):
        os.setxattr(context / name, "security.capability", CAPABILITY)
    os.mkfifo(context / "022.fifo")
    below = tree(tmp_path / "below", "there/005=old there/other there/d/e/f=old")
    upper = tmp_path / "upper"
    upper.mkdir()
    with LocalContext(context) as local, UnionView((DirectoryLower(below),)) as parents:
        request = replace(request_of(local, ".", destination=destination), **options)
        if digested:
            input_digests(request)
        made = straight(request, parents)
        perform_copy(request, parents, upper)
        assert made is not None and made == packed(upper, parents)


def test_names_of_whiteouts_take_a_directory(tmp_path: Path) -> None:
    context = tree(tmp_path / "context", "a .wh.a d/.wh.b d/c")
    with LocalContext(context) as local, UnionView(()) as parents:
        with pytest.raises(LayerError, match="wh"):
            straight(request_of(local, "."), parents)


@pytest.mark.parametrize("compression", [ZSTD, Compression("gzip"), Compression("none")], ids=str)
def test_the_layer_and_the_lower_are_those_of_a_directory(store: Store, tmp_path: Path, compression: Compression) -> None:
    files = tree(tmp_path / "context", "d/a d/b=text@0755 d/l->a d/e/ f")
    (files / "d/big").write_bytes(os.urandom(3 << 20))
    with (files / "d/holes").open("wb") as sparse:
        sparse.seek(5 << 20)
        sparse.write(b"end")
        sparse.truncate(7 << 20)
    os.setxattr(files / "d/a", "security.capability", CAPABILITY)
    os.setxattr(files / "d/big", "security.capability", CAPABILITY)
    with LocalContext(files) as context, UnionView(()) as parents:
        request = request_of(context, "d", "f")
        made = copy_layer(store, request, parents, compression, check=go_on)
        assert made is not None
        lower, straight_layer = made
        upper = store.snapshot_path("other")
        upper.mkdir(parents=True)
        perform_copy(request, parents, upper)
        other = capture(store, DirectoryLower(upper), (), EPOCH, compression)
    assert straight_layer == other
    assert lower.tar.stat().st_size == other.uncompressed_size
    assert lower.tar.stat().st_blocks * 512 < 5 << 20, "holes stay holes"
    rows = store.index.snapshots_for(other.layer.diff_id)
    assert rows and store.index.snapshot(lower.directory.name) is not None
    assert os.listdir(store.root / "tmp") == []


def test_what_was_hashed_is_what_is_stored(store: Store, tmp_path: Path) -> None:
    files = tree(tmp_path / "context", "a=before")
    with LocalContext(files) as context, UnionView(()) as parents:
        request = request_of(context, "a")
        input_digests(request)
        (files / "a").write_text("behind")
        made = copy_layer(store, request, parents, Compression("none"), check=go_on)
        assert made is not None
        assert b"before" in made[0].tar.read_bytes()
        # What was hashed is handed out once: from now on the file itself is read, and it is another.
        with pytest.raises(ContextError, match="'a' changed while it was read"):
            copy_layer(store, request, parents, Compression("none"), check=go_on)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_a_file_that_changes_between_hash_and_copy_is_refused(store: Store, tmp_path: Path, size: int) -> None:
    files = tree(tmp_path / "context", "")
    (files / "f").write_bytes(bytes(size))
    with LocalContext(files) as context, UnionView(()) as parents:
        request = request_of(context, "f")
        input_digests(request)
        context.load("/f", context.lstat("/f"))  # type: ignore[arg-type]
        (files / "f").write_bytes(b"1" * size)
        with pytest.raises(ContextError, match="'f' changed while it was read"):
            copy_layer(store, request, parents, ZSTD, check=go_on)
    assert os.listdir(store.root / "tmp") == [] and list(store.blobs) == []


def test_a_copy_is_stopped_on_its_way(store: Store, tmp_path: Path) -> None:
    files = tree(tmp_path / "context", " ".join(f"d{number}/f" for number in range(50)))
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += 1
        if seen > 20:
            raise Interrupted("enough")

    with LocalContext(files) as context, UnionView(()) as parents, pytest.raises(Interrupted):
        copy_layer(store, request_of(context, "."), parents, ZSTD, check=stop)
    assert os.listdir(store.root / "tmp") == [] and list(store.blobs) == []


def test_a_full_disk_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tree(tmp_path / "context", "")
    for number in range(40):
        (files / f"f{number}").write_bytes(os.urandom(60_000))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with LocalContext(files, Ignore()) as context, UnionView(()) as parents:
        request = request_of(context, ".")
        monkeypatch.setattr("imgbuild.rootfs.indexed.os.write", full)
        with pytest.raises(StoreError, match="no space left"):
            copy_layer(store, request, parents, ZSTD, check=go_on)
        monkeypatch.undo()
    assert os.listdir(store.root / "tmp") == [] and list(store.blobs) == []


@pytest.mark.parametrize("name", ["system.posix_acl_access", "security.capability"])
def test_attributes_that_only_a_file_system_understands_take_a_directory(store: Store, tmp_path: Path, name: str) -> None:
    acl = bytes.fromhex("0200000001000600ffffffff02000400e703000004000400ffffffff10000600ffffffff20000400ffffffff")
    files = tree(tmp_path / "stage", "a")
    os.setxattr(files / "a", name, acl if name.startswith("system") else bytes((1, 0, 0, 3)) + bytes(16) + (1000).to_bytes(4, "little"))
    with UnionView((DirectoryLower(files),)) as stage, UnionView(()) as parents:
        request = CopyRequest((TreeSource(stage, match(stage, "a")),), "/a", EPOCH)
        assert copy_layer(store, request, parents, ZSTD, check=go_on) is None
    assert os.listdir(store.root / "tmp") == [] and list(store.blobs) == []
