"""Images for others and of others: what imgbuild built, saved and pushed is right for skopeo, podman, buildah and docker-registry, and the
other way round."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import EPOCH, SOURCE, Bench, base_tar, copied
from .peers import Podman, differences, docker_registry, needs, podman, skopeo, tree

SCHEMAS = SOURCE.parent / "shared" / "oci-schemas" / "image"
LONG = "a-long-name-" * 18
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"  # vfs_cap_data: cap_net_bind_service=ep
MADE = ("dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "run", "sys")
"""What a container engine may touch in a root file system that it mounts."""

BUILDFILE = rf"""
FROM odd
RUN <<EOF
set -ex
mkdir -p /d/sub/{LONG[:200]}/{LONG[:150]} && echo data > /d/sub/{LONG[:200]}/{LONG[:150]}/file && ln -s {LONG} /d/long-link
echo one > /d/one && ln /d/one /d/two && ln /d/two /three && chown 1234:70000 /d/one && chmod 6755 /d/one && mkfifo -m 640 /d/fifo
rm /gone /etc/group && rm -r /opaque && mkdir -m 750 /opaque && echo new > /opaque/new && rm /file && mkdir /file && touch /file/below
rm -r /directory && echo file > /directory && rm /link && mkdir /link && touch /link/below && chmod 1711 /kept && touch /kept/added
touch "/sp ace" "/new
line" "/$(printf 'latin\351')" && dd if=/dev/zero of=/sparse bs=1 seek=5000000 count=1
EOF
RUN rm /pair/first && chmod 600 /pair/second && cat /capable > /copy
COPY --chown=ann --chmod=u=rwX,g=rX,o= context/ /context/
WORKDIR /work/place
USER ann:50
ENV A=b
LABEL description="a \"quoted\" thing"
EXPOSE 80/tcp
VOLUME /volume
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD ["true"]
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -u; id -g; pwd; echo $A; cat /d/two; stat -c %a /d/two"]
"""
SAID = "1000\n50\n/work/place\nb\none\n6755\n"


def odd_base(tar: tarfile.TarFile) -> None:
    """What busybox alone can't make, and what later layers take away."""

    def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **more: Any) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime, info.mode = kind, len(data), EPOCH - 1000, 0o755
        for key, value in more.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(data))

    add("capable", data=b"program", pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")})
    add("noted", data=b"x", pax_headers={"SCHILY.xattr.user.note": "some words"})
    add("gone", data=b"x")
    add("file", data=b"x")
    add("link", tarfile.SYMTYPE, linkname="kept")
    add("pair", tarfile.DIRTYPE)
    add("pair/first", data=b"pair")
    add("pair/second", tarfile.LNKTYPE, linkname="pair/first")
    for name in ("opaque", "directory", "kept", "volume"):
        add(name, tarfile.DIRTYPE)
        add(f"{name}/old", data=b"old", uid=77, gid=88, mode=0o4711)
    add("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add("disk", tarfile.BLKTYPE, devmajor=7, devminor=300, mode=0o600)


@pytest.fixture(scope="module")
def odd(template: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A store with the image "x", which has everything that an image can have."""
    bench = copied(template, tmp_path_factory.mktemp("odd") / "bench")
    (bench.place / "odd.tar").write_bytes(base_tar(odd_base))
    bench.run("import", bench.place / "odd.tar", "odd")
    bench.write({"context/tool": "#!/bin/sh\n", "context/sub/file": "text", "context/link": "-> sub/file"})
    os.setxattr(bench.context / "context/tool", "security.capability", CAPABILITY)
    os.setxattr(bench.context / "context/tool", "user.accident", b"of this machine")
    bench.build(BUILDFILE)
    return bench


@pytest.fixture(scope="module")
def unpacked(odd: Bench) -> dict[str, tuple[Any, ...]]:
    """The tree of "x" as imgbuild unpacks it."""
    odd.run("unpack", "x", odd.place / "unpacked")
    return tree(odd.place / "unpacked")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Podman]:
    with podman(tmp_path / "peer") as peer:
        yield peer


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry") / "docker") as authority:
        yield authority


# What others read


def test_the_tree_is_what_was_asked_for(unpacked: dict[str, tuple[Any, ...]]) -> None:
    """The other tests compare with this tree; so it has to be looked at itself."""
    modes = {path: entry[0] for path, entry in unpacked.items()}
    assert not {"gone", "etc/group", "opaque/old", "directory/old", "pair/first"} & set(unpacked)
    assert modes["opaque"] == "0o40750"
    assert modes["d/one"] == "0o106755"
    assert unpacked["d/one"][1:3] == (1234, 70000)
    assert unpacked["d/one"][7] == ("d/one", "d/two", "three")
    assert modes["kept"] == "0o41711"
    assert unpacked["kept/old"][:4] == ("0o104711", 77, 88, EPOCH - 1000)
    assert unpacked["pair/second"][7] == ("pair/second",)
    assert modes["d/fifo"] == "0o10640"
    assert (modes["null"], unpacked["null"][5]) == ("0o20666", os.makedev(1, 3))
    assert (modes["disk"], unpacked["disk"][5]) == ("0o60600", os.makedev(7, 300))
    assert unpacked["capable"][6] == {"security.capability": CAPABILITY}
    assert unpacked["noted"][6] == {"user.note": b"some words"}
    assert unpacked["context/tool"][6] == {"security.capability": CAPABILITY}
    assert unpacked["context/sub/file"][:4] == ("0o100640", 1000, 1001, EPOCH)
    assert {"sp ace", "new\nline", "latin\udce9", "file/below", "link/below", f"d/sub/{LONG[:200]}/{LONG[:150]}/file"} <= set(unpacked)
    assert unpacked["d/long-link"][4] == LONG.encode()


def test_skopeo_reads_the_store(odd: Bench, tmp_path: Path) -> None:
    index = json.loads((odd.root / "index.json").read_text())
    digest = odd.inspect()["Digest"]
    seen = json.loads(skopeo("inspect", f"oci:{odd.root}:x:latest"))
    assert seen["Digest"] == digest in {entry["digest"] for entry in index["manifests"]}
    assert (seen["Os"], seen["Env"][-1], seen["Labels"]) == ("linux", "A=b", {"description": 'a "quoted" thing'})
    config = json.loads(skopeo("inspect", "--config", f"oci:{odd.root}:x:latest"))
    wanted = odd.image()
    assert wanted["config"].pop("Healthcheck")["Test"] == ["CMD", "true"]  # which is docker's: the OCI's config has none, nor has skopeo's
    assert config == wanted
    skopeo("copy", f"oci:{odd.root}:x:latest", f"dir:{tmp_path}/dir")
    assert (tmp_path / "dir" / "manifest.json").read_bytes() == odd.blob(digest)
    odd.run("save", "--directory", "--compression", "gzip", "-o", tmp_path / "gzip", "x")  # skopeo makes no docker archive of zstd
    skopeo("copy", f"oci:{tmp_path}/gzip", f"docker-archive:{tmp_path}/archive.tar:copied:1")
    odd.run("load", tmp_path / "archive.tar")
    assert odd.image("copied:1")["rootfs"] == odd.image()["rootfs"]


def test_docker_registry_holds_what_was_pushed(odd: Bench, registry: str, tmp_path: Path) -> None:
    digest = odd.run("push", "-q", "x", f"{registry}/team/x:1").out.strip()
    assert digest == odd.inspect()["Digest"]
    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry}/team/x:1"))
    assert seen["Digest"] == digest
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/team/x:1", f"oci:{tmp_path}/layout:x")
    odd.run("load", f"{tmp_path}/layout:x", "back")
    assert odd.inspect("back")["Digest"] == digest
    plain = copied(odd, tmp_path / "other")
    plain.run("rmi", "x", "odd", "busybox")
    plain.run("prune", "--all")
    plain.run("pull", f"{registry}/team/x:1")
    assert plain.inspect(f"{registry}/team/x:1")["Digest"] == digest
    assert plain.run("run", "--rm", f"{registry}/team/x:1").out == SAID
    for format_, compression in (("docker", "gzip"), ("oci", "gzip"), ("oci", "none")):
        name = f"{registry}/team/{format_}:{compression}"
        odd.run("push", "--format", format_, "--compression", compression, "x", name)
        media_type = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))["mediaType"]
        assert ("docker" in media_type) == (format_ == "docker")
        skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/{format_}-{compression}")


@pytest.mark.parametrize(("kind", "name"), [("oci", "docker.io/library/x"), ("docker", "localhost/x")])
def test_podman_runs_what_was_saved(
    odd: Bench, unpacked: dict[str, tuple[Any, ...]], peer: Podman, tmp_path: Path, kind: str, name: str
) -> None:
    odd.run("save", "--format", kind, "-o", tmp_path / "x.tar", "x")
    assert "x:latest" in peer("load", "-i", tmp_path / "x.tar")
    (image,) = json.loads(peer("image", "inspect", name))
    assert image["Id"] == odd.inspect()["Id"].removeprefix("sha256:")
    with peer.mounted(name) as root:
        assert differences(tree(root), unpacked, ".", *MADE) == []
    assert peer.run(name) == SAID
    assert peer.run(name, "cat /context/tool; touch /d/new 2>&1 | grep -c denied") == "#!/bin/sh\n1\n"


def test_podman_and_buildah_pull_what_was_pushed(odd: Bench, registry: str, unpacked: dict[str, tuple[Any, ...]], peer: Podman) -> None:
    name = f"{registry}/team/pulled:1"
    odd.run("push", "x", name)
    peer("pull", "-q", "--tls-verify=false", name)
    with peer.mounted(name) as root:
        assert differences(tree(root), unpacked, ".", *MADE) == []
    container = peer.buildah("from", "--pull-never", name).strip()
    root = Path(peer.buildah("mount", container).strip())
    assert (root / "d/two").read_text() == "one\n"
    peer.buildah("rm", container)


def test_buildah_builds_on_the_store_itself(odd: Bench, peer: Podman, tmp_path: Path) -> None:
    needs("buildah")
    (tmp_path / "Containerfile").write_text(f"FROM oci:{odd.root}:x:latest\nUSER root\nRUN cat /d/two > /built\n")
    peer.buildah("bud", "-q", "--isolation", "chroot", "--network", "host", "-t", "built", tmp_path)
    assert peer.run("built", "cat /built") == "one\n"


# What others wrote


def test_what_buildah_pushed_is_pulled_and_run(odd: Bench, registry: str, peer: Podman, tmp_path: Path) -> None:
    needs("buildah")
    base = f"{registry}/team/base:1"
    odd.run("push", "--compression", "gzip", "x", base)
    (tmp_path / "Containerfile").write_text(
        f"FROM {base}\nUSER root\nRUN echo built > /built && rm /three /d/fifo && rm -r /kept && mkdir /kept && chmod 4711 /d/two && \\\n"
        "ln /built /d/built && rm -r /directory && mkdir /directory && touch /directory/a && rm /sparse /copy\n"
        'ENTRYPOINT []\nCMD ["cat", "/built"]\n'
    )
    peer.buildah("bud", "-q", "--tls-verify=false", "--isolation", "chroot", "--network", "host", "-t", "built", tmp_path)
    for format_ in ("oci", "v2s2"):
        name = f"{registry}/team/built:{format_}"
        peer.buildah("push", "-q", "--tls-verify=false", "--format", format_, "built", f"docker://{name}")
        odd.run("pull", name)
        assert odd.run("run", "--rm", name).out == "built\n"
        odd.run("unpack", name, tmp_path / format_)
        with peer.mounted("built") as root:
            assert differences(tree(root), tree(tmp_path / format_), ".", *MADE) == []
        odd.run("build", "--progress=plain", "-t", "on", "-f", "-", ".", stdin=f"FROM {name}\nRUN test -u /d/one\n".encode())


def test_what_podman_and_skopeo_saved_is_loaded(odd: Bench, peer: Podman, tmp_path: Path) -> None:
    odd.run("save", "--format", "docker", "-o", tmp_path / "x.tar", "x")
    peer("load", "-q", "-i", tmp_path / "x.tar")
    for format_ in ("docker-archive", "oci-archive", "docker-dir", "oci-dir"):
        place = tmp_path / format_
        peer("save", "-q", "--format", format_, "-o", place, "localhost/x")
        if format_ == "docker-dir":
            continue  # a layout of podman's own, which only it and skopeo read
        odd.run("load", place, f"from-{format_}")
        assert odd.image(f"from-{format_}:latest")["rootfs"] == odd.image()["rootfs"]
        assert odd.run("run", "--rm", f"from-{format_}").out == SAID
    skopeo("copy", f"oci:{odd.root}:x:latest", f"oci:{tmp_path}/zstd:name", "--dest-compress-format", "zstd", "--dest-compress")
    odd.run("load", f"{tmp_path}/zstd:name", "from-skopeo")
    assert odd.run("run", "--rm", "from-skopeo").out == SAID


# What is written, by its specification


def test_documents_fit_the_schemas(odd: Bench, tmp_path: Path) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip("needs the OCI schemas beside the checkout")
    odd.run("save", "--directory", "-o", tmp_path / "layout", "x", "busybox")
    for root in (odd.root, tmp_path / "layout"):
        _validate(json.loads((root / "oci-layout").read_text()), "image-layout-schema.json")
        index = json.loads((root / "index.json").read_text())
        _validate(index, "image-index-schema.json")
        for entry in index["manifests"]:
            _validate(entry, "content-descriptor.json")
            manifest = json.loads((root / "blobs" / entry["digest"].replace(":", "/")).read_text())
            _validate(manifest, "image-manifest-schema.json")
            _validate(json.loads((root / "blobs" / manifest["config"]["digest"].replace(":", "/")).read_text()), "config-schema.json")


def _validate(document: Any, name: str) -> None:
    import jsonschema  # type: ignore[import-untyped]
    import referencing.jsonschema

    # The schemas' ids are addresses that nobody serves, and that their references are not relative to: file names are.
    def retrieve(address: str) -> referencing.Resource[Any]:
        schema = _without_ids(json.loads((SCHEMAS / address.rpartition("/")[2]).read_text()))
        return referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT4)

    registry: referencing.Registry[Any] = referencing.Registry(retrieve=retrieve)  # type: ignore[call-arg]
    jsonschema.Draft4Validator({"$ref": f"schema:/{name}"}, registry=registry).validate(document)


def _without_ids(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_ids(value) for key, value in schema.items() if key != "id" or not isinstance(value, str)}
    return [_without_ids(item) for item in schema] if isinstance(schema, list) else schema
