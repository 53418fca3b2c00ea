"""OCI layouts and docker archives: there and back, what others write, and what is meant to do harm."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgbuild.errors import CorruptError, ImageError, ImgbuildError, NotFoundError, UsageError
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import OCI_INDEX, OCI_LAYER_ZSTD, OCI_MANIFEST, Descriptor, canonical_json, descriptor_json
from imgbuild.oci.reference import parse_reference
from imgbuild.store.store import Store
from imgbuild.transfer.archives import Archivist, split_location
from imgbuild.transfer.convert import Conversion
from imgbuild.transfer.events import TransferNotice

from .support import AMD64, ARM64, Made, Seen, index_of, make, put_image, ref, tar_of

APP = "example.com/team/app:v1"


def blob_path(data: bytes) -> str:
    return f"blobs/sha256/{digest_of(data).partition(':')[2]}"


def layout_files(*made: Made, index: list[dict[str, Any]] | None = None) -> dict[str, bytes]:
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = []
    for item in made:
        for blob in (*item.layers, item.config, item.manifest):
            files[blob_path(blob)] = blob
        entries.append(descriptor_json(item.descriptor))
    files["index.json"] = canonical_json({"schemaVersion": 2, "manifests": entries if index is None else index})
    return files


def named(made: Made, **annotations: str) -> dict[str, Any]:
    keys = {"ref": "org.opencontainers.image.ref.name", "name": "io.containerd.image.name"}
    return descriptor_json(made.descriptor) | {"annotations": {keys[key]: value for key, value in annotations.items()}}


def docker_files(made: Made, *, tags: list[str] | None = None, tars: list[bytes] | None = None) -> dict[str, bytes]:
    contents = tars if tars is not None else [gzip.decompress(layer) for layer in made.layers]
    files = {f"{number}/layer.tar": tar for number, tar in enumerate(contents)}
    entry = {"Config": "config.json", "RepoTags": tags, "Layers": list(files)}
    return {**files, "config.json": made.config, "manifest.json": json.dumps([entry]).encode()}


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(tar_of(files))
    return path


def write_directory(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def assert_same(one: Store, two: Store, name: str) -> None:
    reference = parse_reference(name)
    assert one.tags.get(reference) == two.tags.get(reference) is not None


@pytest.mark.parametrize("directory", [True, False])
def test_oci_there_and_back(new_store: Callable[[], Store], tmp_path: Path, directory: bool) -> None:
    store, other = new_store(), new_store()
    put_image(store, make(), APP)
    put_image(store, make(b"other", platform=ARM64), "hello:latest")
    path = tmp_path / "out"
    Archivist(store).save([ref(None, APP), ref(None, "hello:latest")], path, directory=directory)
    loaded = Archivist(other).load(path, AMD64)
    assert {str(item.reference) for item in loaded} == {APP, "docker.io/library/hello:latest"}
    assert_same(store, other, APP)
    assert_same(store, other, "hello")


def test_saved_twice_is_the_same(store: Store, tmp_path: Path) -> None:
    put_image(store, make(), APP)
    for format in ("oci", "docker"):
        for name in ("a", "b"):
            Archivist(store).save([ref(None, APP)], tmp_path / name, format=format)  # type: ignore[arg-type]
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_layout_is_added_to(store: Store, tmp_path: Path) -> None:
    put_image(store, make(b"1"), "a:1")
    put_image(store, make(b"2"), "a:2")
    path = tmp_path / "layout"
    archivist = Archivist(store)
    archivist.save([ref(None, "a:1")], path, directory=True)
    archivist.save([ref(None, "a:2")], path, directory=True)
    archivist.save([ref(None, "a:2")], path, directory=True, name="a:1")
    index = json.loads((path / "index.json").read_text())
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]
    assert sorted(names) == ["a:1", "a:2"] and len({entry["digest"] for entry in index["manifests"]}) == 1


def test_a_stream_there_and_back(new_store: Callable[[], Store]) -> None:
    store, other = new_store(), new_store()
    put_image(store, make(), APP)
    for format in ("oci", "docker"):
        stream = io.BytesIO()
        Archivist(store).save([ref(None, APP)], stream, format=format)  # type: ignore[arg-type]
        stream.seek(0)
        assert [str(item.reference) for item in Archivist(other).load(stream, AMD64)] == [APP]


class _Endless(io.BytesIO):
    """Bytes that are followed by null bytes without end; more than a little of them is not to be asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.beyond = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None and size > 0
        data = super().read(size)
        if not data:
            self.beyond += size
            assert self.beyond < 8 << 20, "this is never to end"
        return data or bytes(size)


def test_of_an_endless_stream_the_tar_is_read(new_store: Callable[[], Store], tmp_path: Path) -> None:
    store, other = new_store(), new_store()
    put_image(store, make(), APP)
    stream = io.BytesIO()
    Archivist(store).save([ref(None, APP)], stream)
    assert [str(item.reference) for item in Archivist(other).load(_Endless(stream.getvalue()), AMD64)] == [APP]
    for data in (b"", b"no tar at all" * 1000):
        with pytest.raises(ImageError):
            Archivist(other).load(_Endless(data), AMD64)
    assert os.listdir(other.root / "tmp") == []


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/null"])
def test_a_device_is_no_archive(store: Store, device: str) -> None:
    with pytest.raises(UsageError, match="is a device"):
        Archivist(store).load(Path(device), AMD64)
    with open(device, "rb") as stream, pytest.raises(UsageError, match="is a device"):
        Archivist(store).load(stream, AMD64)


@pytest.mark.parametrize("directory", [True, False])
def test_docker_there_and_back(new_store: Callable[[], Store], tmp_path: Path, directory: bool, seen: Seen) -> None:
    store, other = new_store(), new_store()
    made = make(b"one", b"two", b"one")
    put_image(store, made, APP)
    Archivist(store).save([ref(None, APP)], tmp_path / "out", format="docker", directory=directory)
    (loaded,) = Archivist(other, seen).load(tmp_path / "out", AMD64)
    manifest = json.loads(other.blobs.read(loaded.descriptor.digest))
    assert [layer["mediaType"] for layer in manifest["layers"]] == [OCI_LAYER_ZSTD] * 3
    assert other.blobs.read(manifest["config"]["digest"]) == made.config
    assert seen.how() == ["converted", "converted", "present"]
    # Once more costs nothing, and gives the same.
    assert Archivist(other).load(tmp_path / "out", AMD64) == (loaded,)


def test_compressed_archives(store: Store, tmp_path: Path) -> None:
    plain = tar_of(layout_files(make(), index=[named(make(), ref="a:1")]))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain))
    assert [str(item.reference) for item in Archivist(store).load(tmp_path / "a.tar.gz", AMD64)] == ["docker.io/library/a:1"]
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(plain)[:-200])
    with pytest.raises(ImageError):
        Archivist(store).load(tmp_path / "cut.tar.gz", AMD64)
    assert not list((store.root / "tmp").glob("archive*"))


def test_a_selected_image(store: Store, tmp_path: Path) -> None:
    one, two = make(b"1"), make(b"2")
    path = write_tar(tmp_path / "a.tar", layout_files(one, two, index=[named(one, ref="one"), named(two, ref="v2", name=APP)]))
    archivist = Archivist(store)
    assert archivist.load(path, AMD64, selector="one", name=ref(None, "mine:1"))[0].descriptor == one.descriptor
    for selector in ("v2", APP, two.descriptor.digest):
        (loaded,) = archivist.load(path, AMD64, selector=selector)
        assert (loaded.descriptor, str(loaded.reference)) == (two.descriptor, APP)
    with pytest.raises(NotFoundError, match="three") as caught:
        archivist.load(path, AMD64, selector="three")
    assert "one, v2" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="2 images"):
        archivist.load(path, AMD64, name=ref(None, "mine:2"))


def test_nested_indexes_and_platforms(store: Store, tmp_path: Path) -> None:
    amd, arm = make(b"amd"), make(b"arm", platform=ARM64)
    inner = index_of((arm, ARM64), (amd, AMD64))
    entry = descriptor_json(Descriptor(OCI_INDEX, digest_of(inner), len(inner)))
    files = layout_files(amd, arm, index=[entry]) | {blob_path(inner): inner}
    (loaded,) = Archivist(store).load(write_tar(tmp_path / "a.tar", files), AMD64, name=ref(None, "a:1"))
    assert loaded.descriptor == amd.descriptor
    assert not store.blobs.has(arm.descriptor.digest)


def test_an_image_without_a_name_is_kept(store: Store, tmp_path: Path) -> None:
    made = make()
    (loaded,) = Archivist(store).load(write_tar(tmp_path / "a.tar", layout_files(made)), AMD64)
    assert loaded.reference is None and store.tags.list() == ((None, made.descriptor),)


def test_artifacts_are_passed_over(store: Store, tmp_path: Path, seen: Seen) -> None:
    made = make()
    document = made.document
    document["config"]["mediaType"] = "application/vnd.example"
    signature = canonical_json(document)
    entries = [named(made, ref="a:1"), descriptor_json(Descriptor(OCI_MANIFEST, digest_of(signature), len(signature)))]
    files = layout_files(made, index=entries) | {blob_path(signature): signature}
    (loaded,) = Archivist(store, seen).load(write_tar(tmp_path / "a.tar", files), AMD64)
    assert loaded.descriptor == made.descriptor
    assert any(isinstance(event, TransferNotice) for event in seen.events)


@pytest.mark.parametrize("broken", ["layer", "config", "manifest"])
@pytest.mark.parametrize("how", ["missing", "other", "longer", "shorter"])
def test_every_blob_is_verified(store: Store, tmp_path: Path, broken: str, how: str) -> None:
    made = make()
    files = layout_files(made, index=[named(made, ref="a:1")])
    name = blob_path({"layer": made.layers[0], "config": made.config, "manifest": made.manifest}[broken])
    data = files.pop(name)
    if how != "missing":
        files[name] = {"other": b"!" + data[1:], "longer": data + b" ", "shorter": data[:-1]}[how]
    with pytest.raises((CorruptError, ImageError)):
        Archivist(store).load(write_tar(tmp_path / "a.tar", files), AMD64)
    assert store.tags.list() == ()


@pytest.mark.parametrize("index", [b"", b"[]", b"{", b'{"schemaVersion":2,"manifests":[{}]}', b" " * (17 << 20)])
def test_a_broken_index(store: Store, tmp_path: Path, index: bytes) -> None:
    files = layout_files() | {"index.json": index}
    for path in (write_tar(tmp_path / "a.tar", files), write_directory(tmp_path / "d", files)):
        with pytest.raises(ImageError):
            Archivist(store).load(path, AMD64)


def test_a_huge_manifest_is_not_read(store: Store, tmp_path: Path) -> None:
    made = make()
    entry = named(made, ref="a:1") | {"size": 1 << 40}
    with pytest.raises((ImageError, CorruptError)):
        Archivist(store).load(write_tar(tmp_path / "a.tar", layout_files(made, index=[entry])), AMD64)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 1000, bytes(10240), tar_of({"hello": b"x"})])
def test_what_is_no_archive(store: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ImageError):
        Archivist(store).load(tmp_path / "a.tar", AMD64)
    with pytest.raises(UsageError):
        Archivist(store).load(tmp_path / "missing.tar", AMD64)
    with pytest.raises(NotFoundError):
        Archivist(store).save([ref(None, "missing:1")], tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_a_failed_save_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    made = make()
    put_image(store, made, APP)
    path = store.blobs.path(digest_of(made.layers[0]))
    path.chmod(0o644)
    path.write_bytes(b"!" * len(made.layers[0]))
    (tmp_path / "out.tar").write_bytes(b"old")
    for format in ("oci", "docker"):
        with pytest.raises(ImgbuildError):
            Archivist(store).save([ref(None, APP)], tmp_path / "out.tar", format=format)  # type: ignore[arg-type]
    assert (tmp_path / "out.tar").read_bytes() == b"old"
    assert [name for name in os.listdir(tmp_path) if name.startswith(".out")] == []


@pytest.mark.parametrize("tags", [None, [], ["a:1"], ["a:1", "b:2", "NOT A NAME"]])
def test_docker_tags(store: Store, tmp_path: Path, tags: list[str] | None) -> None:
    loaded = Archivist(store).load(write_tar(tmp_path / "a.tar", docker_files(make(), tags=tags)), AMD64)
    names = [item.reference.familiar() if item.reference else None for item in loaded]
    assert names == ([tag for tag in tags if tag.islower()] if tags else [None])


def test_old_dockers_links_between_layers(store: Store, tmp_path: Path) -> None:
    made = make(b"same", b"same", b"same")
    tar = gzip.decompress(made.layers[0])
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in {"x/layer.tar": tar, "config.json": made.config}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, kind, target in (("y/layer.tar", tarfile.SYMTYPE, "../x/layer.tar"), ("z/layer.tar", tarfile.LNKTYPE, "x/layer.tar")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        entry = {"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["x/layer.tar", "y/layer.tar", "./z/layer.tar"]}
        manifest = json.dumps([entry]).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        archive.addfile(member, io.BytesIO(manifest))
    (loaded,) = Archivist(store).load(path, AMD64)
    assert len(json.loads(store.blobs.read(loaded.descriptor.digest))["layers"]) == 3


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "missing", "x/layer.tar"])
def test_links_lead_nowhere_else(store: Store, tmp_path: Path, target: str) -> None:
    made = make(b"x")
    files = docker_files(made)
    files["manifest.json"] = json.dumps([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["x/layer.tar"]}]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("config.json", "manifest.json"):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))
        member = tarfile.TarInfo("x/layer.tar")
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    directory = write_directory(tmp_path / "d", {name: files[name] for name in ("config.json", "manifest.json")})
    (directory / "x").mkdir()
    (directory / "x" / "layer.tar").symlink_to(target)
    for path in (tmp_path / "a.tar", directory):
        with pytest.raises(ImageError):
            Archivist(store).load(path, AMD64)
    assert store.tags.list() == ()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "", "x\0y"])
def test_names_that_lead_out(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(tar_of({"a": b"b"}))
    made = make(b"x")
    for key in ("Config", "Layers"):
        entry: dict[str, Any] = {"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["0/layer.tar"]}
        entry[key] = name if key == "Config" else [name]
        files = docker_files(made) | {"manifest.json": json.dumps([entry]).encode()}
        directory = write_directory(tmp_path / f"d{key}", files)
        for path in (write_tar(tmp_path / "a.tar", files), directory):
            with pytest.raises(ImageError):
                Archivist(store).load(path, AMD64)


@pytest.mark.parametrize(
    "manifest", [b"", b"{}", b"[]", b"[1]", b'[{"Config": 1}]', b'[{"Config": "config.json", "Layers": [1]}]', b"[" * 100_000]
)
def test_a_broken_docker_manifest(store: Store, tmp_path: Path, manifest: bytes) -> None:
    files = docker_files(make()) | {"manifest.json": manifest}
    with pytest.raises(ImageError):
        Archivist(store).load(write_tar(tmp_path / "a.tar", files), AMD64)


def test_docker_layers_are_verified(store: Store, tmp_path: Path) -> None:
    made = make(b"one", b"two")
    swapped = [gzip.decompress(layer) for layer in reversed(made.layers)]
    with pytest.raises(CorruptError, match="damaged"):
        Archivist(store).load(write_tar(tmp_path / "a.tar", docker_files(made, tars=swapped)), AMD64)
    with pytest.raises(ImageError, match="diff_ids"):
        Archivist(store).load(write_tar(tmp_path / "a.tar", docker_files(made, tars=swapped[:1])), AMD64)
    assert store.tags.list() == ()


def test_docker_layers_may_be_compressed(store: Store, tmp_path: Path) -> None:
    made = make(b"one", b"two")
    files = docker_files(made, tags=["a:1"], tars=list(made.layers))
    assert Archivist(store).load(write_tar(tmp_path / "a.tar", files), AMD64)


def test_an_archive_with_sparse_and_long_members(store: Store, tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs the program tar")
    made = make(b"one")
    files = docker_files(made, tags=["a:1"]) | {"d" * 120 + "/" + "n" * 90: b"long", "big": b""}
    directory = write_directory(tmp_path / "d", files)
    os.truncate(directory / "big", 5 << 20)
    for format in ("gnu", "posix"):
        subprocess.run(["tar", f"--format={format}", "--sparse", "-C", directory, "-cf", tmp_path / "a.tar", "."], check=True)
        (loaded,) = Archivist(store).load(tmp_path / "a.tar", AMD64)
        assert loaded.reference == parse_reference("a:1")


def test_the_last_of_two_members_counts(store: Store, tmp_path: Path) -> None:
    made = make(b"one")
    files = docker_files(made, tags=["a:1"])
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in [("config.json", b"old"), *files.items()]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert Archivist(store).load(tmp_path / "a.tar", AMD64)


def test_converted_on_the_way_out(new_store: Callable[[], Store], tmp_path: Path) -> None:
    store, other = new_store(), new_store()
    put_image(store, make(), APP)
    Archivist(store).save([ref(None, APP)], tmp_path / "a.tar", conversion=Conversion(compression="zstd"))
    (loaded,) = Archivist(other).load(tmp_path / "a.tar", AMD64)
    manifest = json.loads(other.blobs.read(loaded.descriptor.digest))
    assert {layer["mediaType"] for layer in manifest["layers"]} == {OCI_LAYER_ZSTD}
    with pytest.raises(UsageError):
        Archivist(store).save([ref(None, APP)], tmp_path / "b.tar", format="docker", conversion=Conversion(compression="zstd"))


def test_where_a_path_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b.tar").touch()
    (tmp_path / "dir").mkdir()
    assert split_location("a:b.tar") == (Path("a:b.tar"), None)
    assert split_location("a:b.tar:name:v1") == (Path("a:b.tar"), "name:v1")
    assert split_location("dir:localhost:5000/x:v1") == (Path("dir"), "localhost:5000/x:v1")
    assert split_location("new:name:v1") == (Path("new"), "name:v1")
    assert split_location("new") == (Path("new"), None)
