"""Against what others wrote: Debian's docker-registry, skopeo and buildah."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgbuild.errors import RegistryError
from imgbuild.oci.image import DOCKER_MANIFEST
from imgbuild.registry.client import RegistryClient
from imgbuild.registry.endpoints import RegistrySettings
from imgbuild.store.store import Store
from imgbuild.transfer.archives import Archivist
from imgbuild.transfer.convert import Conversion
from imgbuild.transfer.importing import Imported, import_rootfs
from imgbuild.transfer.pull import Puller, PullPolicy
from imgbuild.transfer.push import Pusher

from .support import AMD64, client_for, ref

CONFIG = """
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: '127.0.0.1:0'}}
"""


def needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs the program {missing[0]}")


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The authority of a docker-registry."""
    needs("docker-registry")
    config = tmp_path / "registry.yml"
    config.write_text(CONFIG.format(root=tmp_path / "registry"))
    with subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr
            found = next(match for line in process.stderr if (match := re.search(r"listening on (127\.0\.0\.1:\d+)", line)))
            yield found[1]
        finally:
            process.kill()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    """A store with an image `base:1` of some size."""
    store = new_store()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in {"etc/os-release": b"ID=test\n", "big": bytes(range(256)) * 20000}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    buffer.seek(0)
    import_rootfs(store, buffer, ref(None, "base:1"), Imported(AMD64))
    return store


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    with client_for() as opened:
        yield opened


def skopeo_copy(source: object, destination: object, *options: str) -> None:
    run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", *options, source, destination)


@pytest.mark.parametrize("conversion", [Conversion(), Conversion("gzip"), Conversion(format="docker")])
def test_docker_registry(
    store: Store, new_store: Callable[[], Store], registry: str, client: RegistryClient, conversion: Conversion
) -> None:
    pusher = Pusher(store, client)
    name = f"{registry}/team/app:v1"
    pushed = pusher.push(ref(None, "base:1"), ref(None, name), conversion=conversion)
    assert {blob.how for blob in pushed.blobs} == {"sent"}
    again = pusher.push(ref(None, "base:1"), ref(None, f"{registry}/team/other:v1"), conversion=conversion)
    assert {blob.how for blob in again.blobs} == {"mounted"}
    assert {blob.how for blob in pusher.push(ref(None, "base:1"), ref(None, name), conversion=conversion).blobs} == {"present"}
    other = new_store()
    assert Puller(other, client).pull(ref(None, name), AMD64).descriptor == pushed.descriptor
    assert list(client.repository(registry, "team/app").tags()) == ["v1"]
    with contextlib.closing(http.client.HTTPConnection(registry, timeout=30)) as connection:
        connection.request("DELETE", f"/v2/team/app/manifests/{pushed.descriptor.digest}")
        assert connection.getresponse().status == 202
    with pytest.raises(RegistryError):
        Puller(other, client).pull(ref(None, name), AMD64, PullPolicy.ALWAYS)


def test_docker_registry_in_chunks(store: Store, new_store: Callable[[], Store], registry: str) -> None:
    with client_for(RegistrySettings(chunk_bytes=1 << 20)) as client:
        name = f"{registry}/team/app:v1"
        Pusher(store, client).push(ref(None, "base:1"), ref(None, name))
        Puller(new_store(), client).pull(ref(None, name), AMD64)


def test_skopeo_reads_what_was_pushed_and_saved(store: Store, registry: str, client: RegistryClient, tmp_path: Path) -> None:
    needs("skopeo")
    name = f"{registry}/team/app:v1"
    pushed = Pusher(store, client).push(ref(None, "base:1"), ref(None, name), conversion=Conversion("gzip"))
    assert json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}"))["Digest"] == pushed.descriptor.digest
    skopeo_copy(f"docker://{name}", f"dir:{tmp_path / 'dir'}")
    archivist = Archivist(store)
    archivist.save([ref(None, "base:1")], tmp_path / "layout", directory=True, name="v1")
    archivist.save([ref(None, "base:1")], tmp_path / "oci.tar", name="v1")
    archivist.save([ref(None, "base:1")], tmp_path / "docker.tar", format="docker")
    for source in (f"oci:{tmp_path}/layout:v1", f"oci-archive:{tmp_path}/oci.tar:v1", f"docker-archive:{tmp_path}/docker.tar:base:1"):
        inspected = json.loads(run("skopeo", "inspect", source))
        assert (inspected["Architecture"], inspected["Os"], len(inspected["Layers"])) == ("amd64", "linux", 1)
    skopeo_copy(f"oci:{tmp_path}/layout:v1", f"docker://{registry}/team/skopeo:v1")
    # The store itself is a layout.
    assert json.loads(run("skopeo", "inspect", f"oci:{store.root}:base:1"))["Os"] == "linux"


def test_what_skopeo_wrote_is_read(
    store: Store, new_store: Callable[[], Store], registry: str, client: RegistryClient, tmp_path: Path
) -> None:
    needs("skopeo")
    archivist = Archivist(store)
    archivist.save([ref(None, "base:1")], tmp_path / "docker.tar", format="docker")
    source = f"docker-archive:{tmp_path}/docker.tar:base:1"
    diff_ids = {layer.diff_id for layer in Puller(store, None).pull(ref(None, "base:1"), AMD64).layers}
    skopeo_copy(source, f"oci:{tmp_path}/layout:base:2")
    skopeo_copy(source, f"oci-archive:{tmp_path}/oci.tar:base:2")
    skopeo_copy(source, f"docker-archive:{tmp_path}/again.tar:base:2")
    for path in ("layout", "oci.tar", "again.tar"):
        other = new_store()
        (loaded,) = Archivist(other).load(tmp_path / path, AMD64, selector="base:2")
        assert loaded.reference == ref(None, "base:2")
        image = Puller(other, None).pull(ref(None, "base:2"), AMD64)
        assert {layer.diff_id for layer in image.layers} == diff_ids
    for options in ((), ("--format", "v2s2"), ("--dest-compress-format", "zstd")):
        skopeo_copy(source, f"docker://{registry}/team/app:v1", *options)
        image = Puller(new_store(), client).pull(ref(None, f"{registry}/team/app:v1"), AMD64)
        assert {layer.diff_id for layer in image.layers} == diff_ids


def test_buildah_pulls_and_what_it_pushed_is_pulled(
    store: Store, new_store: Callable[[], Store], registry: str, client: RegistryClient, tmp_path: Path
) -> None:
    needs("buildah")
    buildah = ("buildah", "--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    Pusher(store, client).push(ref(None, "base:1"), ref(None, f"{registry}/team/base:v1"), conversion=Conversion("gzip"))
    container = run(*buildah, "from", "--tls-verify=false", f"{registry}/team/base:v1").strip()
    run(*buildah, "config", "--env", "A=b", container)
    (tmp_path / "new").write_text("new")
    run(*buildah, "copy", container, tmp_path / "new", "/new")
    for kind in ("oci", "docker"):
        run(*buildah, "commit", "--tls-verify=false", "--format", kind, container, f"docker://{registry}/team/built:{kind}")
        image = Puller(new_store(), client).pull(ref(None, f"{registry}/team/built:{kind}"), AMD64)
        assert "A=b" in image.config.config.env and len(image.layers) == 2
        assert (image.manifest.media_type == DOCKER_MANIFEST) == (kind == "docker")
    run(*buildah, "rm", "--all")


def test_podman_loads_what_was_saved(store: Store, tmp_path: Path) -> None:
    needs("podman")
    archivist = Archivist(store)
    archivist.save([ref(None, "base:1")], tmp_path / "docker.tar", format="docker")
    archivist.save([ref(None, "base:1")], tmp_path / "oci.tar")
    # Podman takes no runroot of more than 50 characters.
    with tempfile.TemporaryDirectory() as short:
        podman = ("podman", "--root", tmp_path / "root", "--runroot", short, "--tmpdir", tmp_path / "tmp", "--storage-driver", "vfs")
        for name in ("docker.tar", "oci.tar"):
            assert "base:1" in run(*podman, "load", "-i", tmp_path / name)
        (inspected,) = json.loads(run(*podman, "image", "inspect", "base:1"))
        assert inspected["Os"] == "linux"
        run(*podman, "rmi", "--all", "--force")
