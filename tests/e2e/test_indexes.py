"""Images for several platforms in the store: every command on images, and the ways out of the store and back."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_mock.client import Mock

from .harness import Bench, clean_environ

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OTHER = "arm64" if MACHINE != "arm64" else "riscv64"
BOTH = f"linux/{MACHINE},linux/{OTHER}"
TEXT = 'FROM busybox AS tools\nFROM scratch\nARG TARGETARCH\nCOPY <<EOF /arch\n$TARGETARCH\nEOF\nLABEL arch=$TARGETARCH\n'
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def fresh(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "fresh", clean_environ(tmp_path / "home"))
    bench.context.mkdir(parents=True)
    return bench


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    with Mock(tmp_path / "registry") as mock:
        yield mock


@pytest.fixture
def built(bench: Bench) -> Bench:
    """A store with an index "x" of two images."""
    bench.build(TEXT, "--platform", BOTH)
    return bench


def digest(bench: Bench, name: str = "x:latest") -> str:
    return entry(bench.root, name)["digest"]


def entry(layout: Path, name: str) -> dict[str, Any]:
    index = json.loads((layout / "index.json").read_text())
    (found,) = [each for each in index["manifests"] if each.get("annotations", {}).get("org.opencontainers.image.ref.name") == name]
    return found


def test_commands_on_an_index(built: Bench) -> None:
    index = digest(built)
    shown = built.inspect()
    assert (shown["Architecture"], shown["Config"]["Labels"], shown["Descriptor"]["digest"]) == (MACHINE, {"arch": MACHINE}, index)
    assert [each["Descriptor"]["platform"]["architecture"] for each in shown["Manifests"]] == [MACHINE, OTHER]
    assert all(each["Available"] for each in shown["Manifests"])
    (other,) = json.loads(built.run("inspect", "--platform", f"linux/{OTHER}", "x").out)
    assert other["Config"]["Labels"] == {"arch": OTHER}
    said = built.run("inspect", "--platform", "linux/s390x", "x", code=19).err
    assert f"linux/{MACHINE}, linux/{OTHER}" in said
    history = built.run("history", "--no-trunc", "--platform", f"linux/{OTHER}", "x").out
    assert f"LABEL arch={OTHER}" in history
    listed = {row["Repository"]: row for row in json.loads(built.run("images", "--format", "json").out)}
    assert (listed["x"]["Digest"], listed["x"]["Id"]) == (index, shown["Id"])
    # It is found by its own digest, by those of its images, and by their IDs.
    for identity in (index, shown["Digest"], shown["Id"], other["Id"]):
        assert json.loads(built.run("inspect", identity[7:23]).out)[0]["Descriptor"]["digest"] == index
    built.run("tag", "x", "y")
    assert digest(built, "y:latest") == index
    for arch in (MACHINE, OTHER):
        built.run("unpack", "--platform", f"linux/{arch}", "x", built.place / arch)
        assert (built.place / arch / "arch").read_text() == f"{arch}\n"
    assert built.run("rmi", "x").out == "Untagged: x:latest\n"
    built.run("prune", "--all")
    built.assert_whole()
    assert json.loads(built.run("inspect", "--platform", f"linux/{OTHER}", "y").out)[0]["Config"]["Labels"] == {"arch": OTHER}
    assert f"Deleted: {index}" in built.run("rmi", "y").out
    built.run("prune", "--all")
    assert not (built.root / "blobs" / index.replace(":", "/")).exists()
    assert not (built.root / "blobs" / other["Digest"].replace(":", "/")).exists()


def test_the_image_for_this_machine_runs(bench: Bench) -> None:
    text = "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCMD echo $ARCH\n"
    bench.build(text, "--platform", f"linux/{OTHER},linux/{MACHINE}")
    assert bench.run("run", "--rm", "x").out == f"{MACHINE}\n"
    assert bench.run("run", "--rm", "--platform", f"linux/{MACHINE}", digest(bench)[7:23]).out == f"{MACHINE}\n"
    bench.run("run", "--name", "kept", "x")
    said = bench.run("rmi", "x", code=14).err
    assert "kept" in said
    bench.run("rm", "kept")
    bench.run("rmi", "x")


def test_statements_about_images_go_along(built: Bench, fresh: Bench, mock: Mock) -> None:
    """Attestations stand in an index as images for an unknown platform, with layers that are none."""
    layout = built.place / "layout"
    built.run("save", "--directory", "-o", layout, "x")

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / name).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    config = {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}}
    statement = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(b'{"_type":"statement"}', "application/vnd.in-toto+json")],
    }  # fmt: skip
    listed = built.manifest()
    entry_of = put(json.dumps(statement).encode(), "application/vnd.oci.image.manifest.v1+json")
    listed["manifests"].append(entry_of | {"platform": {"os": "unknown", "architecture": "unknown"}})
    index = put(json.dumps(listed).encode(), INDEX)
    index["annotations"] = {"org.opencontainers.image.ref.name": "y:latest"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    fresh.run("load", layout)
    assert digest(fresh, "y:latest") == index["digest"]
    assert fresh.inspect("y")["Architecture"] == MACHINE
    fresh.assert_whole()
    name = f"{mock.authority}/me/y:1"
    fresh.run("push", "--compression", "gzip", "y", name)
    tags = mock.call("GET", "/v2/me/y/manifests/1").json
    assert [each["platform"]["os"] for each in tags["manifests"]] == ["linux", "linux", "unknown"]
    assert tags["manifests"][2]["digest"] == entry_of["digest"]


def test_only_another_platform_is_shown_without_being_asked_for(bench: Bench) -> None:
    bench.build(TEXT, "--platform", f"linux/{OTHER}", "--build-arg", "BUILDKIT_MULTI_PLATFORM=1")
    assert bench.inspect()["Architecture"] == OTHER
    assert OTHER in bench.run("history", "--no-trunc", "x").out
    assert "(" not in bench.run("images").out
    bench.run("inspect", "--platform", f"linux/{MACHINE}", "x", code=19)


def test_an_index_is_damaged_if_one_of_its_images_is(built: Bench) -> None:
    child = built.manifest()["manifests"][1]["digest"]
    path = built.root / "blobs" / child.replace(":", "/")
    path.chmod(0o644)
    path.write_bytes(b"{}")
    done = built.run("fsck", code=None)
    assert done.code != 0
    assert child in done.out


@pytest.mark.parametrize("directory", [False, True])
def test_saved_as_a_whole_and_loaded(built: Bench, fresh: Bench, directory: bool) -> None:
    path = built.place / "saved"
    built.run("save", *(["--directory"] if directory else []), "-o", path, "x")
    fresh.run("load", path)
    assert entry(fresh.root, "x:latest")["mediaType"] == INDEX
    assert digest(fresh) == digest(built)
    fresh.run("unpack", "--platform", f"linux/{OTHER}", "x", fresh.place / "out")
    assert (fresh.place / "out/arch").read_text() == f"{OTHER}\n"
    fresh.assert_whole()
    # One of them, on either way.
    fresh.run("load", "--platform", f"linux/{OTHER}", path, "one")
    assert fresh.manifest("one:latest")["config"]
    built.run("save", "--platform", f"linux/{OTHER}", "-o", built.place / "one.tar", "x")
    fresh.run("load", built.place / "one.tar", "two")
    assert fresh.manifest("two:latest") == fresh.manifest("one:latest")


def test_docker_archives_hold_one(built: Bench, fresh: Bench) -> None:
    for options, arch in (([], MACHINE), (["--platform", f"linux/{OTHER}"], OTHER)):
        built.run("save", "--format", "docker", *options, "-o", built.place / "x.tar", "x")
        fresh.run("load", built.place / "x.tar")
        assert fresh.inspect()["Architecture"] == arch


def test_an_index_of_which_one_image_is_here_is_that_image(built: Bench, fresh: Bench) -> None:
    path = built.place / "layout"
    built.run("save", "--directory", "-o", path, "x")
    child = built.manifest()["manifests"][1]["digest"]
    (path / "blobs" / child.replace(":", "/")).unlink()
    fresh.run("load", path)
    assert fresh.inspect()["Architecture"] == MACHINE


def test_pushed_as_a_whole_and_pulled_by_platform(built: Bench, fresh: Bench, mock: Mock) -> None:
    name = f"{mock.authority}/me/x:1"
    built.run("push", "x", name)
    for arch in (OTHER, MACHINE):
        fresh.run("pull", "--platform", f"linux/{arch}", name)
        assert fresh.inspect(name)["Architecture"] == arch
    fresh.run("build", "--platform", BOTH, "-t", "y", "--pull", "-f", "-", ".", stdin=f"FROM {name}\n".encode())
    assert [each["digest"] for each in fresh.manifest("y:latest")["manifests"]] != []
    # The base's name is the index now: both are at hand without the registry.
    fresh.run("build", "--platform", BOTH, "--offline", "-t", "y", "-f", "-", ".", stdin=f"FROM {name}\nLABEL a=b\n".encode())
    said = fresh.run("build", "--platform", "linux/s390x", "-f", "-", ".", stdin=f"FROM {name}\n".encode(), code=19).err
    assert f"linux/{MACHINE}, linux/{OTHER}" in said
    assert "stdin:1" in said


def test_pushed_in_another_form(built: Bench, fresh: Bench, mock: Mock) -> None:
    name = f"{mock.authority}/me/x:1"
    built.run("push", "--format", "docker", "x", name)
    fresh.run("pull", f"{name}")
    manifest = fresh.manifest(fresh.inspect(name)["RepoTags"][0])
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest["layers"][0]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"
    one = f"{mock.authority}/me/one:1"
    built.run("push", "--platform", f"linux/{OTHER}", "x", one)
    said = fresh.run("pull", one, code=19).err
    assert f"is for linux/{OTHER}" in said


def test_outputs_of_an_index(bench: Bench, fresh: Bench, mock: Mock) -> None:
    layout = bench.place / "layout"
    name = f"{mock.authority}/me/x:1"
    bench.build(TEXT, "--platform", BOTH, "-o", f"type=oci,dest={layout},tar=false", "-o", f"type=registry,name={name}")
    assert entry(layout, "x:latest")["mediaType"] == INDEX
    command = ["skopeo", "copy", "-q", "--all", f"oci:{layout}:x:latest", f"oci:{bench.place / 'copy'}:x"]
    copied = subprocess.run(command, capture_output=True, text=True, check=False)
    assert copied.returncode == 0, copied.stderr
    fresh.run("pull", "--platform", f"linux/{OTHER}", name)
    assert fresh.inspect(name)["Config"]["Labels"] == {"arch": OTHER}
    said = bench.refused(TEXT, "--platform", BOTH, "-o", "type=docker,dest=x.tar", code=2)
    assert "type=oci" in said
